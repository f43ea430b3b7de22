"""Flows that every table needs beside the one in question, because their scores are known beforehand.

Random directions say what doing nothing clever gives; the exact traversals what is possible; the attractor that a high
VP alone means nothing: it pulls everything to K points, is recognised at once, and is no traversal.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pinnflow.latent.baselines.linear import RandomDirections, needed
from pinnflow.latent.traversal import Flow, stated_dimension, unit

__all__ = ["Attractor", "Oracle", "RandomDirections", "RandomWalk"]


class RandomWalk(Flow):
    """A new random unit vector for every code and every step: what dynamics with noise do without their drift.

    Args:
        generator: maps codes to images; None where only codes are of interest.
        latent_dim: d; by default what the generator states.
        potentials: K; all are alike.
        seed: of the vectors, which depend on the number of the step and the row as well.
    """

    def __init__(
        self,
        generator=None,
        latent_dim: int | None = None,
        potentials: int = 1,
        *,
        seed: int = 0,
        name: str = "random walk",
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__(
            generator, stated_dimension(generator, latent_dim), potentials, name=name, device=device, dtype=dtype
        )
        self.seed = seed

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """A unit vector for each row, `[n, d]`; the same for the same time and seed."""
        step = round(float(torch.as_tensor(t).max()))
        noise = np.random.default_rng((self.seed, step)).standard_normal((len(z), self.latent_dim))
        return unit(torch.from_numpy(noise).to(device=self.device, dtype=self.dtype))


class Attractor(Flow):
    """v_k(z) = rate (a_k - z) with K random standard normal points a_k: the collapse that VP cannot see.

    With raw steps (`step_length=None`) the spread of the codes shrinks by `1 - rate` a step.

    Attributes:
        points: a_k, `[K, d]`.

    Args:
        generator: maps codes to images; None where only codes are of interest.
        latent_dim: d; by default what the generator states.
        potentials: K.
        rate: share of the way to a_k that a raw step goes, between 0 and 1.
        seed: of the points.
    """

    def __init__(
        self,
        generator=None,
        latent_dim: int | None = None,
        potentials: int = 5,
        *,
        rate: float = 0.5,
        seed: int = 0,
        name: str = "attractor",
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__(
            generator, stated_dimension(generator, latent_dim), potentials, name=name, device=device, dtype=dtype
        )
        if not 0 < rate <= 1:
            raise ValueError(f"`rate` is {rate}; an attractor goes a share of the way, above 0 and at most 1")
        self.rate = rate
        noise = torch.Generator().manual_seed(seed)
        points = torch.randn(potentials, self.latent_dim, generator=noise, dtype=torch.float64)
        self.points = points.to(device=self.device, dtype=self.dtype)

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """rate (a_k - z), `[n, d]`."""
        return self.rate * (self.points[self.index(k, len(z))] - z)

    def potential(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """-rate |z - a_k|^2 / 2, `[n]`, whose gradient the velocity is."""
        return -self.rate / 2 * (z - self.points[self.index(k, len(z))]).square().sum(dim=1)


class Oracle(Flow):
    """The exact traversals of a generator that knows them: factor k alone changes along walk k.

    Args:
        generator: has `oracle(z, k, steps, step_length, direction)`, the exact path `[steps + 1, n, d]`.
        potentials: how many of its factors; all that it states in `factor_names`, by default.

    Raises:
        ValueError: the generator has no `oracle`.
    """

    def __init__(
        self,
        generator,
        potentials: int | None = None,
        *,
        name: str = "oracle",
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        if not hasattr(needed(generator, name), "oracle"):
            raise ValueError(
                f"the exact traversals of {type(generator).__name__} are not known: it has no "
                "`oracle(z, k, steps, step_length, direction)`"
            )
        self.exact = generator.oracle
        count = potentials if potentials is not None else len(generator.factor_names)
        super().__init__(generator, stated_dimension(generator, None), count, name=name, device=device, dtype=dtype)

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """d/ds of the exact path at its start, by a central difference (to about 1e-8 in float64), `[n, d]`."""
        h, k = torch.finfo(z.dtype).eps ** (1 / 3), self.index(k, len(z))
        ahead, behind = (self.exact(z, k, 1, h, sign)[-1] for sign in (1, -1))
        return (ahead - behind) / (2 * h)

    def traverse(
        self, z, potential=0, steps=6, step_length=0.35, direction=1, *, integrator="euler", start=0
    ) -> Tensor:
        """The exact path `[steps + 1, n, d]`; steps of `step_length` in the factor's own coordinate (None: 1)."""
        z, k, sign = self._read(z, potential, steps, step_length, direction, integrator)
        with torch.no_grad():
            return self._finite(self.exact(z, k, steps, step_length or 1.0, sign.reshape(-1).expand(len(z))))

    def inverse(self, z, potential=0, steps=6, step_length=0.35, direction=1, *, integrator="euler", start=0) -> Tensor:
        """The exact path back, `[steps + 1, n, d]`."""
        return self.traverse(z, potential, steps, step_length, -torch.as_tensor(direction), integrator=integrator)
