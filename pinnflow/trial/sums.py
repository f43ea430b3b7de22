"""The sum of fitted functions: a network and what features add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pinnflow.trial.registry import Trial, register_trial, restore


@register_trial
@dataclass(frozen=True)
class SumTrial:
    """u = u_1 + u_2 + ... for every field.

    Attributes:
        parts: fitted functions of the same fields.
    """

    parts: tuple[Trial, ...]
    kind = "sum"

    def derivatives(self, points: np.ndarray, wanted: Sequence) -> list[np.ndarray]:
        """[D^orders u_field]: float64 arrays `[n]`; points `[n, D]` in problem units."""
        values = [part.derivatives(points, wanted) for part in self.parts]
        return [np.sum([v[i] for v in values], axis=0) for i in range(len(wanted))]

    def function(self, points: torch.Tensor, wanted) -> list[torch.Tensor]:
        """The same with tensors in and out, as methods use it."""
        return [torch.as_tensor(v) for v in self.derivatives(points.numpy(), wanted)]

    def state(self) -> dict:
        return {"kind": self.kind, "parts": [part.state() for part in self.parts]}

    @classmethod
    def from_state(cls, state: dict) -> SumTrial:
        return cls(tuple(restore(part) for part in state["parts"]))
