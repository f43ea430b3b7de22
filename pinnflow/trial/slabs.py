"""Functions put together along time: each holds in a slab of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pinnflow.trial.registry import Trial, register_trial, restore


@register_trial
@dataclass(frozen=True)
class SlabTrial:
    """One fitted function for each slab of time; at the time between two slabs the earlier one holds.

    Attributes:
        column: of time.
        breaks: `[k + 1]`, the ends of the slabs.
        parts: k trials.
    """

    column: int
    breaks: np.ndarray
    parts: tuple[Trial, ...]
    kind = "slabs"

    def derivatives(self, points: np.ndarray, wanted: Sequence[tuple[int, tuple[int, ...]]]) -> list[np.ndarray]:
        """[D^orders u_field]: float64 arrays `[n]`; points `[n, D]` in problem units."""
        points = np.asarray(points, dtype=float)
        slab = np.clip(np.searchsorted(self.breaks, points[:, self.column], side="left") - 1, 0, len(self.parts) - 1)
        result = [np.zeros(len(points)) for _ in wanted]
        for i in np.unique(slab):
            mine = slab == i
            for out, values in zip(result, self.parts[i].derivatives(points[mine], wanted), strict=True):
                out[mine] = values
        return result

    def state(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "column": self.column,
            "breaks": self.breaks,
            "parts": [part.state() for part in self.parts],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> SlabTrial:
        parts = tuple(restore(part) for part in state["parts"])
        return cls(int(state["column"]), np.asarray(state["breaks"], dtype=float), parts)
