"""Flows made of flows: one potential after another, and several at once."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from pinnflow.latent.traversal import Flow, unit


class Mixture(Flow):
    """Flows along weighted sums of the velocities of one flow: `v = sum_j w_kj v_j`.

    Args:
        flow: whose velocities are added.
        weights: `[K', K]`, a row for each new field.
        normalised: whether each velocity counts by its direction only before it is weighted.
        name: what tables call it.
    """

    def __init__(self, flow: Flow, weights, *, normalised: bool = True, name: str | None = None):
        weights = torch.atleast_2d(torch.as_tensor(weights, dtype=flow.dtype, device=flow.device))
        if weights.dim() != 2 or weights.shape[1] != flow.potentials:
            raise ValueError(
                f"`weights` has shape {tuple(weights.shape)}; each row needs a weight for each of the "
                f"{flow.potentials} potentials of `{flow.name}`"
            )
        if not bool(torch.isfinite(weights).all()):
            raise ValueError(f"`weights` are {weights.tolist()}; they must be finite numbers")
        super().__init__(
            flow.generator,
            flow.latent_dim,
            len(weights),
            name=name or f"sum of {flow.name}",
            device=flow.device,
            dtype=flow.dtype,
        )
        self.flow, self.weights, self.normalised = flow, weights, normalised

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """The weighted sum, `[n, d]`."""
        weights = self.weights[self.index(k, len(z))]
        t = torch.as_tensor(t, dtype=z.dtype, device=z.device).expand(len(z))
        total = torch.zeros_like(z)
        for j in range(self.flow.potentials):
            rows = weights[:, j] != 0
            if bool(rows.any()):
                v = self.flow.velocity(z[rows], t[rows], j)
                v = unit(v) if self.normalised else v
                total = total.index_add(0, rows.nonzero()[:, 0], weights[rows, j, None] * v)
        return total


class Chain(Flow):
    """One walk after another: the first potential for so many steps, then the next, and so on.

    The time starts anew with each part, as in a walk along that potential alone, whatever the integrator; after the
    last part its potential goes on. Steps `start + 1` to `start + steps` of the chain are walked.

    Args:
        flow: whose potentials are walked along.
        parts: `[(potential, steps), ...]`.
        name: what tables call it.
    """

    def __init__(self, flow: Flow, parts: Sequence[tuple[int, int]], *, name: str | None = None):
        parts = list(parts)
        if not parts or not all(_is_part(part) for part in parts):
            raise ValueError(
                f"`parts` is {parts!r}; it must be one or more pairs (potential, number of steps), such as "
                "[(0, 3), (2, 3)]"
            )
        for k, _ in parts:
            flow.index(k, 1)
        super().__init__(
            flow.generator,
            flow.latent_dim,
            1,
            name=name or " then ".join(f"{flow.name} {k}" for k, _ in parts),
            device=flow.device,
            dtype=flow.dtype,
        )
        self.flow, self.parts = flow, parts

    @property
    def steps(self) -> int:
        """Steps of the whole."""
        return sum(steps for _, steps in self.parts)

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """The velocity of the part that time t belongs to, `[n, d]`; step i of a part is taken at its own time i."""
        t = torch.as_tensor(t, dtype=z.dtype, device=z.device).expand(len(z))
        which, own = torch.zeros(len(z), dtype=torch.long, device=z.device), torch.zeros_like(t)
        begin = 0
        for i, (potential, steps) in enumerate(self.parts):
            here = t > begin if i else torch.ones_like(t, dtype=torch.bool)
            which, own = torch.where(here, potential, which), torch.where(here, t - begin, own)
            begin += steps
        return self.flow.velocity(z, own, which)

    def traverse(
        self, z, potential=0, steps=6, step_length=0.35, direction=1, *, integrator="euler", start=0
    ) -> Tensor:
        """As `Flow.traverse`: the walks along the parts, one from the end of the other."""
        z, *_ = self._read(z, potential, steps, step_length, direction, integrator)
        path = [z[None]]
        for k, count, begun in self._pieces(start, steps):
            walk = self.flow.traverse(
                path[-1][-1], k, count, step_length, direction, integrator=integrator, start=begun
            )
            path.append(walk[1:])
        return torch.cat(path)

    def inverse(self, z, potential=0, steps=6, step_length=0.35, direction=1, *, integrator="euler", start=0) -> Tensor:
        """As `Flow.inverse`: the parts walked back, the last one first."""
        z, *_ = self._read(z, potential, steps, step_length, direction, integrator)
        path = [z[None]]
        for k, count, begun in reversed(self._pieces(start, steps)):
            walk = self.flow.inverse(path[-1][-1], k, count, step_length, direction, integrator=integrator, start=begun)
            path.append(walk[1:])
        return torch.cat(path)

    def _pieces(self, start: int, steps: int) -> list[tuple[int, int, int]]:
        """`(potential, steps, steps of its part made before)` for the steps start + 1 to start + steps of the chain."""
        found, begin = [], 0
        for i, (k, count) in enumerate(self.parts):
            end = begin + count if i + 1 < len(self.parts) else max(begin + count, start + steps)
            first, last = max(begin, start), min(end, start + steps)
            if last > first:
                found.append((k, last - first, first - begin))
            begin += count
        return found


def _is_part(part: Any) -> bool:
    try:
        k, steps = part
    except (TypeError, ValueError):
        return False
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in (k, steps))
    return whole and steps >= 1
