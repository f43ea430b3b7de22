"""Flows along fixed directions: random ones, the axes, and the base of every method that finds K of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pinnflow.errors import NotSolved
from pinnflow.latent.baselines.registry import register_baseline
from pinnflow.latent.traversal import Flow, stated_dimension


class LinearFlow(Flow):
    """v_k(z, t) = n_k, the gradient of u_k(z, t) = n_k . z; a subclass finds the unit vectors n_k in `fit`.

    Attributes:
        directions: the rows n_k, `[K, d]`; None before `fit`.
        seed: of everything that is drawn.

    Args:
        generator: maps codes `[n, d]` to images; None where only codes are of interest.
        latent_dim: d; by default what the generator states as `latent_dim`.
        potentials: K.
        seed: of everything that is drawn.
        name: what tables call it.
        device: of the codes.
        dtype: of the codes.
    """

    orthonormal = True  # whether the directions are, so that there are no more than d of them

    def __init__(
        self,
        generator: Callable[[Tensor], Tensor] | None = None,
        latent_dim: int | None = None,
        potentials: int = 5,
        *,
        seed: int = 0,
        name: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__(
            generator, stated_dimension(generator, latent_dim), potentials, name=name, device=device, dtype=dtype
        )
        if self.orthonormal and self.potentials > self.latent_dim:
            raise ValueError(
                f"`potentials` is {potentials}, but `{self.name}` finds orthogonal directions, of which a latent space "
                f"of {self.latent_dim} dimensions has no more than {self.latent_dim}"
            )
        self.seed = seed
        self.directions: Tensor | None = None

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """n_k in every row, `[n, d]`."""
        return self._found()[self.index(k, len(z))]

    def potential(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """n_k . z, `[n]`: a plane, the same at all times."""
        return (self.velocity(z, t, k) * z).sum(dim=1)

    def _found(self) -> Tensor:
        if self.directions is None:
            raise NotSolved(f"`{self.name}` has no directions yet; call `.fit()` first")
        return self.directions

    def _keep(self, directions):
        """Stores rows `[K, d]` as unit vectors; the largest entry of each is positive, as no method knows a sign."""
        rows = directions.detach().to(device=self.device, dtype=self.dtype)
        rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        self.directions = rows * torch.sign(rows.gather(1, rows.abs().argmax(dim=1, keepdim=True)))
        return self


@register_baseline("random")
class RandomDirections(LinearFlow):
    """Random unit vectors, orthogonal where K <= d: the control that every table needs."""

    orthonormal = False

    def __init__(self, generator=None, latent_dim=None, potentials=5, **settings):
        super().__init__(generator, latent_dim, potentials, **settings)
        self.fit()

    def fit(self, **settings) -> RandomDirections:
        """Draws the directions by the seed; already done when the flow was made."""
        noise = torch.Generator().manual_seed(self.seed)
        rows = torch.randn(self.potentials, self.latent_dim, generator=noise, dtype=torch.float64)
        if self.potentials <= self.latent_dim:
            rows = torch.linalg.qr(rows.T).Q.T
        self._keep(rows)
        return self


@register_baseline("axis")
class AxisDirections(LinearFlow):
    """The first K axes of the latent space: what one sees who turns one knob of the code at a time."""

    def __init__(self, generator=None, latent_dim=None, potentials=5, **settings):
        super().__init__(generator, latent_dim, potentials, **settings)
        self._keep(torch.eye(self.potentials, self.latent_dim, dtype=torch.float64))


def needed(generator: Callable[[Tensor], Tensor] | None, name: str) -> Callable[[Tensor], Tensor]:
    """The generator, or an error that says who cannot do without."""
    if generator is None:
        raise ValueError(f"`{name}` looks at a generator's images; give it the `generator`")
    return generator
