"""Sequences of images along several known transformations at once, each at its own speed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pinnflow.errors import DeclarationError, WrongShape
from pinnflow.latent.generators.moving import Draw, MovingImages


class MixedImages(MovingImages):
    """Sequences x_0, ..., x_T whose factors at step t are start + t sum_k s_k rate_k.

    Args:
        weights: s, `[n, K]`: 0 for a transformation that does not act, else its speed, 1 being that of `MovingImages`.
        name, names, start, rates, draw: as for `MovingImages`; `labels` are the fastest ones.

    Raises:
        WrongShape: they do not belong together.
    """

    def __init__(self, name: str, names: Sequence[str], start: Tensor, rates: Tensor, weights: Tensor, draw: Draw):
        if weights.shape != (len(start), len(names)):
            raise WrongShape(
                f"{name}: weights {list(weights.shape)} of {len(start)} sequences and {len(names)} transformations; "
                f"expected [{len(start)}, {len(names)}]"
            )
        super().__init__(name, names, start, rates, weights.abs().argmax(dim=1), draw)
        self.weights = weights.to(self.start.dtype)

    @property
    def acting(self) -> Tensor:
        """Which transformations act, `[n, K]`."""
        return self.weights != 0

    def factors(self, rows: Tensor, steps: int) -> Tensor:
        """Factors along the sequences `rows` `[m]`: `[steps + 1, m, F]`."""
        t = torch.arange(steps + 1, dtype=self.start.dtype)[:, None, None]
        return self.start[rows] + t * (self.weights[rows] @ self.rates)


def mixed_images(
    sequences: MovingImages,
    *,
    probability: float = 0.3,
    active: int | None = None,
    spread: float = 0.2,
    seed: int = 0,
) -> MixedImages:
    """The same starts, moved along several transformations at once.

    Args:
        sequences: along one each; their labels are not looked at.
        probability: that a transformation acts; at least one does.
        active: how many act, instead: always so many.
        spread: of the speeds, normal around 1, between 0.4 and 1.6.
        seed: of sets and speeds.

    Raises:
        DeclarationError: there are no such sets.
    """
    n, K = len(sequences), len(sequences.names)
    if not 0 < probability <= 1:
        raise DeclarationError(f"{sequences.name}: `probability` is {probability}; expected one above 0, at most 1.")
    if active is not None and not 1 <= active <= K:
        raise DeclarationError(f"{sequences.name}: `active` is {active}; expected 1 to {K}.")
    if not spread >= 0:
        raise DeclarationError(f"{sequences.name}: `spread` is {spread}; expected 0 or more.")
    draw = torch.Generator().manual_seed(seed)
    first = torch.rand(n, K, generator=draw).argsort(dim=1).argsort(dim=1)  # a random order of the transformations
    drawn = torch.rand(n, K, generator=draw) < probability
    acts = torch.where(drawn.any(dim=1, keepdim=True), drawn, first == 0) if active is None else first < active
    speed = (1 + spread * torch.randn(n, K, generator=draw)).clamp(0.4, 1.6)
    return MixedImages(
        f"mixed {sequences.name}", sequences.names, sequences.start, sequences.rates, acts * speed, sequences.draw
    )
