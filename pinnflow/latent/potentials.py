"""Functions of a code and the time, K at once in stacked weights, with another one of them for each row.

Every module here is called as `module(points, k)`: rows of inputs `[n, D]`, and for each row the number of its member,
`[n]`; the answer is `[n, outputs]`. The members of a batch are gathered, not looped over, so its cost does not depend
on K. `pinnflow.exact_family` makes modules that are called in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class StackedLinear(nn.Module):
    """K linear maps; row i of a batch goes through the one that `k[i]` says.

    Args:
        members: K.
        inputs, outputs: sizes.
        generator: of the first weights, uniform with the variance 1/inputs.
        scale: of the first weights.
    """

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator, scale: float = 1.0):
        super().__init__()
        bound = scale * math.sqrt(3.0 / inputs)
        draw = torch.rand(members, outputs, inputs, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(bound * (2 * draw - 1))
        self.bias = nn.Parameter(torch.zeros(members, outputs, dtype=torch.float64))

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        return by_member(x, self.weight, k) + self.bias[k]


def by_member(x: Tensor, matrices: Tensor, k: Tensor) -> Tensor:
    """Row i of x `[n, inputs]` through the matrix `[outputs, inputs]` that k[i] says: `[n, outputs]`.

    Rows of one member are gathered into one product; a matrix copied for every row would be the cost of a training.
    """
    members, n = len(matrices), len(x)
    # Jets and rows under torch.func have no storage to sort; few rows, or uneven ones, are not worth it.
    plain = type(x) is Tensor and not torch._C._are_functorch_transforms_active()
    counts = torch.bincount(k, minlength=members) if plain else k
    most = int(counts.max()) if plain and n else n
    if not plain or members * most > 4 * n + 64:
        return torch.matmul(matrices[k], x[:, :, None])[:, :, 0]
    order = k.argsort(stable=True)
    of = k[order]
    slot = of * most + torch.arange(n, device=x.device) - (counts.cumsum(0) - counts)[of]
    place = torch.empty_like(slot).index_copy_(0, order, slot)
    grouped = x.new_zeros(members * most, x.shape[1]).index_copy(0, place, x)
    return torch.bmm(grouped.unflatten(0, (members, most)), matrices.mT).flatten(0, 1)[place]


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "softplus": nn.functional.softplus,
    "relu": torch.relu,
}


class StackedNetwork(nn.Module):
    """K multilayer perceptrons of two hidden layers in stacked weights.

    Args:
        members, inputs, outputs: K and sizes.
        hidden: width.
        generator: of the first weights.
        activation: `tanh`, `sin`, `softplus` or `relu`.
        scale: of the first weights of the last layer.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        outputs: int,
        hidden: int,
        generator: torch.Generator,
        activation: str = "tanh",
        scale: float = 1.0,
    ):
        super().__init__()
        self.activation = activation
        self.first = StackedLinear(members, inputs, hidden, generator)
        self.second = StackedLinear(members, hidden, hidden, generator)
        self.last = StackedLinear(members, hidden, outputs, generator, scale)
        with torch.no_grad():
            self.first.bias.add_(torch.randn(members, hidden, generator=generator, dtype=torch.float64))

    def forward(self, points: Tensor, k: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation]
        return self.last(act(self.second(act(self.first(points, k)), k)), k)


class Density(nn.Module):
    """The exponential of a function's first output: positive everywhere; the other outputs stay.

    Args:
        logarithm: a module of this file.
    """

    def __init__(self, logarithm: nn.Module):
        super().__init__()
        self.logarithm = logarithm

    def forward(self, points: Tensor, k: Tensor) -> Tensor:
        values = self.logarithm(points, k)
        return torch.cat([torch.exp(values[:, :1]), values[:, 1:]], dim=1)

    def log_density(self, points: Tensor, k: Tensor) -> Tensor:
        """The first output before the exponential, `[n, 1]`."""
        return self.logarithm(points, k)[:, :1]


class LogDensity(nn.Module):
    """The logarithm of a density as a function of its own.

    Args:
        density: a module with `log_density(points, k)`.
    """

    def __init__(self, density: nn.Module):
        super().__init__()
        self.density: Any = density

    def forward(self, points: Tensor, k: Tensor) -> Tensor:
        return self.density.log_density(points, k)


class RadialPotentials(nn.Module):
    r"""$u_k(z) = \sum_j a_j \exp(-\gamma_j |z - s_j|^2)$, for comparison: hills that do not move.

    Args:
        members: K.
        latent_dim: d.
        features: hills of each.
        generator: of the first weights.

    Source: Tzelepis, Tzimiropoulos & Patras, WarpedGANSpace (ICCV 2021).
    """

    def __init__(self, members: int, latent_dim: int, features: int, generator: torch.Generator):
        super().__init__()
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
        self.centres = nn.Parameter(draw(members, features, latent_dim))
        self.log_rates = nn.Parameter(0.1 * draw(members, features) - math.log(2.0 * latent_dim))
        self.amplitudes = nn.Parameter(draw(members, features))

    def forward(self, points: Tensor, k: Tensor) -> Tensor:
        z = points[:, 1:]
        away = ((z[:, None] - self.centres[k]) ** 2).sum(dim=-1)
        hills = self.amplitudes[k] * torch.exp(-self.log_rates[k].exp() * away)
        return hills.sum(dim=1, keepdim=True)


_SLOPES = ("amplitudes", "momenta")
"""Weights of the functions here and of `pinnflow.exact_family` that slopes are proportional to."""


@torch.no_grad()
def scale_slopes(module: nn.Module, factor: float) -> bool:
    """Multiplies the slopes of K functions (for densities, of their logarithms) by a factor; whether that was possible.

    Exact where a weight enters linearly; for smooth minima of planes and for Gaussian mixtures of the right order.
    """
    if isinstance(module, StackedNetwork):
        module.last.weight.mul_(factor)
        module.last.bias.mul_(factor)
        return True
    if isinstance(module, Density):
        return scale_slopes(module.logarithm, factor)
    if getattr(module, "at_rest", False):  # what `Started` adds is zero
        return scale_slopes(module.module, factor)  # type: ignore[arg-type]
    weights = dict(module.named_parameters(recurse=False))
    for name in _SLOPES:
        if name in weights:
            weights[name].mul_(factor)
            return True
    if "log_widths" in weights:  # of Gaussians, whose logarithms have slopes like 1 / width^2
        weights["log_widths"].sub_(math.log(factor) / 2)
        return True
    return False


class ForRows(nn.Module):
    """A module of this kind with the numbers of its rows filled in: `[n, D] -> [n, outputs]`.

    Args:
        module: of this kind.
        k: `[n]`.
        columns: how many of the columns of the points the module sees, if not all.
        outputs: which outputs are wanted, if not all.
    """

    def __init__(self, module: nn.Module, k: Tensor, columns: int | None = None, outputs: list[int] | None = None):
        super().__init__()
        self.module, self.k, self.columns, self.outputs = module, k, columns, outputs

    def forward(self, points: Tensor) -> Tensor:
        values = self.module(points if self.columns is None else points[:, : self.columns], self.k)
        return values if self.outputs is None else values[:, self.outputs]
