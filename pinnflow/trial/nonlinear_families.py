"""Families that satisfy nonlinear equations identically: by the Cole-Hopf transformation, separation or similarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pinnflow.trial.families import Columns, multiple_of_unity, own


class SoftPlanes(Columns):
    r"""Viscous Hamilton-Jacobi equations by the Cole-Hopf transformation: a smooth minimum of travelling planes.

    $u_t + \kappa \nabla u \cdot A \nabla u + g \cdot \nabla u = \nabla \cdot A \nabla u + c$ is solved by
    $u = c t - \frac{1}{\kappa} \log \sum_j \exp(-\kappa (p_j \cdot z - h_j t + b_j))$ with momenta $p_j$ and
    $h_j = \kappa p_j \cdot A p_j + g \cdot p_j$, because each exponential solves the linear equation.

    Args:
        bounds, time, members, features: as for `Columns`.
        kappa: nonzero.
        diffusion: A, `[d, d]`, positive definite.
        drift: g, `[d]`.
        source: c.
        generator: of the first weights.
    """

    def __init__(self, bounds, time, members, features, kappa, diffusion, drift, source, generator):
        super().__init__(bounds, time, members, features)
        d = self.dimension
        self.kappa, self.source = float(kappa), float(source)
        self.register_buffer("diffusion", torch.as_tensor(diffusion, dtype=torch.float64))
        self.register_buffer("drift", torch.as_tensor(drift, dtype=torch.float64))
        # Planes that cross within the box, whatever the viscosity: heights of the order of momentum times length.
        self.isotropic = multiple_of_unity(self.diffusion)
        self.still = not self.drift.any()
        self.momenta = nn.Parameter(self.normal(generator, members, features, d) / d**0.5)
        self.offsets = nn.Parameter(0.3 * self.half * self.normal(generator, members, features))

    def value(self, points: Tensor, weights: dict[str, Tensor], member: Tensor | None) -> Tensor:
        t, z = self.split(points)
        p, elapsed = weights["momenta"], t - self.start
        spread = self.diffusion[0, 0] * p if self.isotropic else p @ self.diffusion
        height = self.kappa * (spread * p).sum(dim=-1)
        height = height if self.still else height + p @ self.drift
        planes = self.onto(z - self.center, p, member) + own(weights["offsets"], member)
        planes = planes - own(height, member) * elapsed[:, :, None]
        return self.source * elapsed - torch.logsumexp(-self.kappa * planes, dim=-1) / self.kappa


class MergingShocks(Columns):
    r"""Viscous Burgers' equation: the slope of `SoftPlanes` in one dimension, steps that move and merge.

    $u_t + a u u_x + g u_x = \nu u_{xx}$ is solved by the average of speeds $p_j$ with the weights
    $\exp(-\kappa (p_j x - h_j t + b_j))$, $\kappa = a / (2 \nu)$, $h_j = a p_j^2 / 2 + g p_j$.

    Args:
        bounds, time, members, features: as for `Columns`.
        steepening, viscosity, drift: a, nu and g.
        generator: of the first weights.
    """

    def __init__(self, bounds, time, members, features, steepening, viscosity, drift, generator):
        super().__init__(bounds, time, members, features)
        self.steepening, self.kappa, self.drift = steepening, steepening / (2 * viscosity), drift
        self.speeds = nn.Parameter(self.normal(generator, members, features))
        self.offsets = nn.Parameter(0.3 * self.half * self.normal(generator, members, features))

    def value(self, points: Tensor, weights: dict[str, Tensor], member: Tensor | None) -> Tensor:
        t, z = self.split(points)
        p = weights["speeds"]
        height = self.steepening * p**2 / 2 + self.drift * p
        planes = self.onto(z - self.center, p[..., None], member) + own(weights["offsets"], member)
        planes = planes - own(height, member) * (t - self.start)[:, :, None]
        return (torch.softmax(-self.kappa * planes, dim=-1) * own(p, member)).sum(dim=-1)


class Paraboloids(Columns):
    r"""Rarefactions of the inviscid Hamilton-Jacobi equation, one per member: `features` has no influence.

    $u_t + \nabla u \cdot Q \nabla u + g \cdot \nabla u = c$ with positive definite Q is solved by
    $u = c t + \frac{1}{4} \sum_i (q_i \cdot (y - \mu))^2 / (t - t_0 + \tau_i)$, $y = Q^{-1/2} (z - g t)$, for any
    orthonormal $q_i$ and positive $\tau_i$: the equation separates.

    Args:
        bounds, time, members, features: as for `Columns`.
        root: $Q^{-1/2}$, `[d, d]`.
        drift: g, `[d]`.
        source: c.
        generator: of the first weights.
    """

    def __init__(self, bounds, time, members, features, root, drift, source, generator):
        super().__init__(bounds, time, members, features)
        d = self.dimension
        self.source = float(source)
        self.register_buffer("root", torch.as_tensor(root, dtype=torch.float64))
        self.register_buffer("drift", torch.as_tensor(drift, dtype=torch.float64))
        self.centres = nn.Parameter(0.5 * self.half * self.normal(generator, members, d))
        self.log_delays = nn.Parameter(math.log(self.end - self.start) + 0.5 * self.normal(generator, members, d))
        self.offsets = nn.Parameter(torch.zeros(members, dtype=torch.float64))
        # q = exp(S - S^T); in many dimensions the exponential would take all the time, and the axes are kept.
        turns = 0.3 * self.normal(generator, members, d, d) if d <= 64 else None
        self.turns = None if turns is None else nn.Parameter(turns)

    def value(self, points: Tensor, weights: dict[str, Tensor], member: Tensor | None) -> Tensor:
        t, z = self.split(points)
        elapsed = t - self.start
        y = (z - self.center - self.drift * elapsed) @ self.root
        away = y[:, None] - own(weights["centres"] @ self.root, member)  # [n, members, d]
        if self.turns is not None:
            q = torch.linalg.matrix_exp(weights["turns"] - weights["turns"].mT)
            away = (away[..., None, :] @ own(q, member))[..., 0, :]
        delay = elapsed[:, :, None] + own(weights["log_delays"].exp(), member)
        return self.source * elapsed + own(weights["offsets"], member) + (away**2 / delay).sum(dim=-1) / 4


class Barenblatt(Columns):
    r"""The self-similar spot of the porous-medium equation, one per member: `features` has no influence.

    $u_t = a \Delta u^m$ is solved by $u = s^{-\alpha} \left(C - k |z - \mu|^2 s^{-2 \beta}\right)_+^{1/(m-1)}$ with
    $s = t - t_0 + \tau$, $\beta = 1 / (d (m - 1) + 2)$, $\alpha = d \beta$, $k = \beta (m - 1) / (2 a m)$. Outside the
    spot u is zero; on its edge derivatives jump, and the equation holds in the weak sense. Its radius at the start is
    the distance of $\mu$ from the middle of the box plus a trained length, so that a spot whose centre is moved away
    does not leave the box behind.

    Args:
        bounds, time, members, features: as for `Columns`.
        power, size: m and a.
        generator: of the first weights.

    Source: Vazquez, The Porous Medium Equation (2006), section 4.4.
    """

    def __init__(self, bounds, time, members, features, power, size, generator):
        super().__init__(bounds, time, members, features)
        d = self.dimension
        self.power = power
        self.beta = 1 / (d * (power - 1) + 2)
        self.steep = self.beta * (power - 1) / (2 * size * power)
        self.centres = nn.Parameter(0.5 * self.half * self.normal(generator, members, d))
        self.log_reaches = nn.Parameter(math.log(self.half * d**0.5) + 0.2 * self.normal(generator, members))
        self.log_delays = nn.Parameter(math.log(self.end - self.start) + 0.5 * self.normal(generator, members))

    def value(self, points: Tensor, weights: dict[str, Tensor], member: Tensor | None) -> Tensor:
        t, z = self.split(points)
        delay = own(weights["log_delays"].exp(), member)
        s = t - self.start + delay  # [n, members]
        away = ((z[:, None] - self.center - own(weights["centres"], member)) ** 2).sum(dim=-1)
        # C from the radius of the spot at the start.
        radius = torch.linalg.vector_norm(weights["centres"], dim=-1) + weights["log_reaches"].exp()
        height = self.steep * own(radius**2, member) * delay ** (-2 * self.beta)
        inside = torch.relu(height - self.steep * away * s ** (-2 * self.beta))
        profile = inside if self.power == 2 else _root(inside, self.power - 1)
        return s ** (-self.dimension * self.beta) * profile


def _root(inside, degree):
    """inside^(1/degree), with derivatives that are zero outside the spot instead of infinite."""
    safe = torch.where(inside > 0, inside, torch.ones_like(inside))
    return torch.where(inside > 0, safe ** (1 / degree), torch.zeros_like(inside))
