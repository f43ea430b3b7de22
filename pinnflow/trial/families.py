r"""Modules that satisfy an equation identically, with trainable weights: `[n, D] -> [n, members]`.

Each class states its equation and its formula; `recognisers.py` says which one a problem's equation is. Here are the
waves; `mixtures.py` and `nonlinear_families.py` hold the others. Weights are stacked over the members, so the cost of
one member in many is a share of one matrix product. Columns are those of the problem; t is the time column and z the d
others.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

LOG_TWO = math.log(2.0)


def log_cosh(s: Tensor) -> Tensor:
    """A primitive of tanh: log(1 + e^(2s)) - s - log 2, exact to rounding (e^-50) beyond the threshold."""
    return torch.nn.functional.softplus(2 * s, 1.0, 50.0) - s - LOG_TWO


def own(quantity: Tensor, member: Tensor | None) -> Tensor:
    """A quantity `[members, ...]` as it is, or that of each row's member, `[n, 1, ...]`."""
    return quantity if member is None else quantity[member][:, None]


def by_member(z: Tensor, vectors: Tensor, member: Tensor) -> Tensor:
    """Row i of z `[n, d]` times the vectors `[members, features, d]` of its member: `[n, features]`.

    Rows of one member go through one product, so the vectors are neither copied for every row nor taken for nothing.
    """
    members, n = len(vectors), len(member)
    plain = type(z) is Tensor and not torch._C._are_functorch_transforms_active()
    counts = torch.bincount(member, minlength=members) if plain else member
    widest = int(counts.max()) if plain and n else n
    if not plain or members * widest > 4 * n + 64:  # too uneven, or z is no array of numbers
        return torch.matmul(vectors[member], z[:, :, None])[..., 0]
    order = member.argsort(stable=True)
    sorted_member = member[order]
    slot = sorted_member * widest + torch.arange(n, device=z.device) - (counts.cumsum(0) - counts)[sorted_member]
    place = torch.empty_like(slot).index_copy_(0, order, slot)
    grouped = z.new_zeros(members * widest, z.shape[1]).index_copy(0, place, z).unflatten(0, (members, widest))
    return torch.bmm(grouped, vectors.mT).flatten(0, 1)[place]


class Columns(nn.Module):
    """What all families share: where time and space are among the columns, and the box.

    Attributes:
        members: functions computed at once.
        features: terms of each.
    """

    def __init__(self, bounds, time: int, members: int, features: int):
        super().__init__()
        self.members, self.features, self.time = members, features, time
        self.space = [i for i in range(len(bounds)) if i != time]
        self.start, self.end = bounds[time]
        low, high = np.asarray([bounds[i] for i in self.space], dtype=float).T
        self.register_buffer("center", torch.as_tensor((low + high) / 2))
        self.half = float(np.mean(high - low) / 2)

    @property
    def dimension(self) -> int:
        return len(self.space)

    def split(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(t `[n, 1]`, z `[n, d]`)."""
        before, after = points[:, : self.time], points[:, self.time + 1 :]
        return points[:, self.time : self.time + 1], torch.cat([before, after], dim=1)

    def normal(self, generator, *shape) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def onto(self, z: Tensor, vectors: Tensor, member: Tensor | None = None) -> Tensor:
        """z . v, `[n, members, features]`, for vectors `[members, features, d]`; `[n, 1, features]` with a `member`."""
        if member is not None:
            return by_member(z, vectors, member)[:, None]
        return torch.nn.functional.linear(z, vectors.flatten(0, 1)).unflatten(1, (len(vectors), self.features))

    def forward(self, points: Tensor, member: Tensor | None = None) -> Tensor:
        """u, `[n, members]`; with one `member` for each row `[n]`, its value alone, `[n, 1]`, at the cost of one."""
        return self.value(points, *self.weights(member))

    def weights(self, member: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """The parameters by name, `[members, ...]`, and `member`; of few rows only the members that they use."""
        weights = dict(self.named_parameters(recurse=False))
        if member is None or len(member) >= self.members:
            return weights, member
        used, member = torch.unique(member, return_inverse=True)
        return {name: weight[used] for name, weight in weights.items()}, member

    def value(self, points: Tensor, weights: dict[str, Tensor], member: Tensor | None) -> Tensor:
        raise NotImplementedError


class RidgeWaves(Columns):
    r"""Ridge functions carried along their normals: first-order or second-order hyperbolic equations in any dimension.

    $u = \sum_j a_j / \kappa_j \sum_r \epsilon_r F(\kappa_j (n_j \cdot z - c_r(n_j) (t - t_0)) + b_j)$ with $F' = \tanh$
    and unit vectors $n_j$, where $u_{tt} + 2 g \cdot \nabla u_t + \nabla \cdot C \nabla u = 0$ makes
    $c_\pm = g \cdot n \pm \sqrt{(g \cdot n)^2 - n \cdot C n}$ and $u_t + g \cdot \nabla u = 0$ makes $c = g \cdot n$.
    With two speeds the signs are 1, -1, so that $u(z, t_0) = 0$, or 1, 1 (`even`), so that $u_t(z, t_0) = 0$ if g = 0.

    Args:
        bounds, time, members, features: as for `Columns`.
        drift: g, `[d]`.
        matrix: C, `[d, d]`, or None for the first-order equation.
        even: the sum instead of the difference of both waves.
        generator: of the first weights.
    """

    def __init__(self, bounds, time, members, features, drift, matrix, even, generator):
        super().__init__(bounds, time, members, features)
        d = self.dimension
        self.register_buffer("drift", torch.as_tensor(drift, dtype=torch.float64))
        self.register_buffer("matrix", None if matrix is None else torch.as_tensor(matrix, dtype=torch.float64))
        self.even = even
        self.still = not self.drift.any()
        self.isotropic = matrix is not None and multiple_of_unity(self.matrix)
        self.directions = nn.Parameter(self.normal(generator, members, features, d))
        self.log_slopes = nn.Parameter(math.log(3.0 / self.half) + 0.3 * self.normal(generator, members, features))
        self.offsets = nn.Parameter(1.5 * self.normal(generator, members, features))
        self.amplitudes = nn.Parameter(self.normal(generator, members, features) / features**0.5)

    def value(self, points: Tensor, weights: dict[str, Tensor], member: Tensor | None) -> Tensor:
        t, z = self.split(points)
        size = torch.linalg.vector_norm(weights["directions"], dim=-1)
        slope = weights["log_slopes"].exp()
        place = self.onto(z - self.center, weights["directions"], member) * own(slope / size, member)
        place = place + own(weights["offsets"], member)
        along = torch.zeros_like(slope) if self.still else weights["directions"] @ self.drift / size  # g . n
        elapsed = (t - self.start)[:, :, None]
        weight = own(weights["amplitudes"] / slope, member)
        middle = place if self.still else place - own(slope * along, member) * elapsed
        if self.matrix is None:
            return (weight * log_cosh(middle)).sum(dim=-1)
        if self.isotropic:
            curved = self.matrix[0, 0].expand_as(slope)
        else:
            n = weights["directions"] / size[..., None]
            curved = ((n @ self.matrix) * n).sum(dim=-1)  # n . C n
        apart = own(slope * torch.sqrt(along**2 - curved), member)
        there, back = log_cosh(middle + apart * elapsed), log_cosh(middle - apart * elapsed)
        return (weight * (there + back if self.even else there - back)).sum(dim=-1)


class PlaneWaves(Columns):
    r"""Plane, decaying and growing waves of any constant-coefficient equation, from its characteristic relation.

    $u = \sum_{j, r} a_{jr} \, t^{m_r} e^{\sigma_{jr} t - \nu_{jr}} \cos(k_j \cdot z + \omega_{jr} t + \varphi_{jr})$
    where $s = \sigma + i \omega$ are the roots of $P(s, i k) = 0$ along the column that is solved for, here called t,
    and $\nu$ makes the largest exponential on the box 1. A multiple root has powers $m_r$ of t.

    Args:
        bounds, time, members, features: as for `Columns`; `time` is the column that is solved for.
        factors: `[(monomials {orders: coefficient}, multiplicity)]`, the squarefree factors of P.
        generator: of the first weights.
    """

    def __init__(self, bounds, time, members, features, factors, generator):
        super().__init__(bounds, time, members, features)
        self.factors = [(_Polynomial(monomials, time), multiplicity) for monomials, multiplicity in factors]
        roots = sum(p.degree * multiplicity for p, multiplicity in self.factors)
        d = self.dimension
        size = 2.0 / self.half / d**0.5
        self.wave_numbers = nn.Parameter(size * self.normal(generator, members, features, d))
        self.phases = nn.Parameter(3.0 * self.normal(generator, members, features, roots))
        self.amplitudes = nn.Parameter(self.normal(generator, members, features, roots) / (features * roots) ** 0.5)

    def value(self, points: Tensor, weights: dict[str, Tensor], member: Tensor | None) -> Tensor:
        t, z = self.split(points)
        elapsed = (t - (self.start + self.end) / 2)[:, :, None]
        place = self.onto(z - self.center, weights["wave_numbers"], member)
        total, r = 0.0, 0
        for polynomial, multiplicity in self.factors:
            for root in polynomial.roots(weights["wave_numbers"]).unbind(-1):
                growth, frequency = own(root.real, member), own(root.imag, member)
                largest = growth.abs() * (self.end - self.start) / 2
                for power in range(multiplicity):
                    wave = torch.exp(growth * elapsed - largest) * torch.cos(
                        place + frequency * elapsed + own(weights["phases"][..., r], member)
                    )
                    term = (own(weights["amplitudes"][..., r], member) * wave).sum(dim=-1)
                    total = total + (
                        term if power == 0 else (elapsed[:, :, 0] / (self.end - self.start)) ** power * term
                    )
                    r += 1
        return total


def multiple_of_unity(matrix: Tensor) -> bool:
    """Whether a matrix `[d, d]` is c times the identity."""
    return bool(torch.equal(matrix, matrix[0, 0] * torch.eye(len(matrix), dtype=matrix.dtype)))


class _Polynomial:
    """P(s, i k) as a polynomial in s with coefficients from sparse monomials in i k."""

    def __init__(self, monomials, column):
        self.degree = max(orders[column] for orders in monomials)
        self.terms = []
        for orders, a in monomials.items():
            rest = [o for i, o in enumerate(orders) if i != column]
            factors = [i for i, o in enumerate(rest) for _ in range(o)]
            self.terms.append((orders[column], factors, complex(a) * 1j ** sum(rest)))

    def coefficients(self, k: Tensor) -> list[Tensor]:
        """Of s^0 ... s^degree, complex, `[members, features]` each; terms of one shape are gathered at once."""
        shapes: dict[tuple[int, int], list] = {}
        for power, factors, a in self.terms:
            shapes.setdefault((power, len(factors)), []).append((factors, a))
        found = [
            torch.zeros(
                k.shape[:-1], dtype=torch.complex128 if k.dtype == torch.float64 else torch.complex64, device=k.device
            )
            for _ in range(self.degree + 1)
        ]
        for (power, count), group in shapes.items():
            index = torch.tensor([factors for factors, _ in group], dtype=torch.long, device=k.device)
            a = torch.tensor([a for _, a in group], dtype=found[0].dtype, device=k.device)
            product = k[..., index].prod(dim=-1) if count else k.new_ones(*k.shape[:-1], len(group))
            found[power] = found[power] + product.to(a.dtype) @ a
        return found

    def roots(self, k: Tensor) -> Tensor:
        """`[members, features, degree]`, complex."""
        c = self.coefficients(k)
        if self.degree == 1:
            return (-c[0] / c[1])[..., None]
        if self.degree == 2:
            middle, apart = -c[1] / (2 * c[2]), torch.sqrt(c[1] ** 2 - 4 * c[0] * c[2]) / (2 * c[2])
            return torch.stack([middle + apart, middle - apart], dim=-1)
        monic = torch.stack([a / c[-1] for a in c[:-1]], dim=-1)
        below = torch.diag(monic.new_ones(self.degree - 1), -1).expand(*monic.shape[:-1], -1, -1)
        last = torch.zeros(self.degree, dtype=monic.dtype, device=monic.device)
        last[-1] = 1.0
        return torch.linalg.eigvals(below - monic[..., None] * last)
