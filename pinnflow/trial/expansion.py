"""Linear trial spaces: every field a combination of features, in problem units.

`Expansion` attaches a basis on the scaled box to the fields of a problem and to its axes; `FeatureTrial` is an
expansion with coefficients: a fitted function that can be evaluated, saved and restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pinnflow.trial.features import Basis, restore_basis
from pinnflow.trial.registry import register_trial

CHUNK = 4_000_000  # numbers per temporary design matrix, about 32 MB


@dataclass(frozen=True)
class Frame:
    """The affine map from the box of a problem to [-1, 1]^D.

    Attributes:
        center: `[D]`, problem units.
        half: `[D]`, half the length of each axis, problem units.
    """

    center: Tensor
    half: Tensor

    @classmethod
    def of(cls, bounds: Sequence[tuple[float, float]]) -> Frame:
        low, high = torch.as_tensor(np.asarray(bounds, dtype=float)).T
        return cls((low + high) / 2, (high - low) / 2)

    def scale(self, points: Tensor) -> Tensor:
        return (points - self.center) / self.half

    def factor(self, orders: Sequence[int]) -> float:
        """d xi^orders / d x^orders: what a scaled derivative is multiplied with."""
        return float(torch.prod(self.half ** -torch.as_tensor(orders, dtype=self.half.dtype)))


@dataclass(frozen=True)
class Expansion:
    """u_f(x) = sum_j c_{f,j} phi_{f,j}(xi(x)) for every field f.

    Attributes:
        frame: from problem units to the scaled box.
        bases: one per field; fields may share one.
    """

    frame: Frame
    bases: tuple[Basis, ...]

    @property
    def sizes(self) -> list[int]:
        return [basis.size for basis in self.bases]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def rows(self, groups, out: Tensor) -> Tensor:
        """J [n, size]: rows of a linear functional of the fields.

        Args:
            groups: `[(points [n, D] in problem units, [(field, orders, coefficient [n] or 0-d)])]`.
            out: `[n, size]`, filled with zeros by the caller.
        """
        starts = np.cumsum([0, *self.sizes])
        for points, items in groups:
            scaled = self.frame.scale(points)
            for f, basis in enumerate(self.bases):
                mine = [(c * self.frame.factor(o), o) for g, o, c in items if g == f]
                if mine:
                    basis.accumulate(out[:, starts[f] : starts[f + 1]], scaled, mine)
        return out

    def derivatives(
        self, points: Tensor, wanted: Sequence[tuple[int, tuple[int, ...]]], weights: Tensor
    ) -> list[Tensor]:
        """[D^orders u_field at points]: each `[n]`; `weights` is `[size]`."""
        parts = torch.split(weights, self.sizes)
        step = max(1, CHUNK // max(self.sizes))
        results: list[list[Tensor]] = [[] for _ in wanted]
        for start in range(0, len(points), step):
            scaled = self.frame.scale(points[start : start + step])
            for f, basis in enumerate(self.bases):
                mine = [i for i, (g, _) in enumerate(wanted) if g == f]
                if not mine:
                    continue
                values = basis.combine(scaled, [wanted[i][1] for i in mine], parts[f])
                for i, value in zip(mine, values, strict=True):
                    results[i].append(value * self.frame.factor(wanted[i][1]))
        return [torch.cat(r) if r else torch.zeros(0, dtype=weights.dtype) for r in results]


@register_trial
@dataclass(frozen=True)
class FeatureTrial:
    """An expansion with its coefficients: a fitted function.

    Attributes:
        expansion: the trial space.
        weights: `[size]`.
    """

    expansion: Expansion
    weights: Tensor
    kind = "features"

    def function(self, points: Tensor, wanted) -> list[Tensor]:
        """[D^orders u_field]: tensors `[n]`, as methods use it."""
        return self.expansion.derivatives(points, wanted, self.weights)

    def derivatives(self, points: np.ndarray, wanted) -> list[np.ndarray]:
        """[D^orders u_field]: float64 arrays `[n]`; points `[n, D]` in problem units."""
        tensor = torch.as_tensor(np.ascontiguousarray(points, dtype=float))
        return [v.numpy() for v in self.function(tensor, wanted)]

    def state(self) -> dict:
        distinct: list[Basis] = []
        for basis in self.expansion.bases:
            if not any(basis is other for other in distinct):
                distinct.append(basis)
        which = [next(i for i, other in enumerate(distinct) if basis is other) for basis in self.expansion.bases]
        frame = self.expansion.frame
        return {
            "kind": self.kind,
            "center": frame.center.numpy(),
            "half": frame.half.numpy(),
            "fields": which,
            "bases": [basis.state() for basis in distinct],
            "weights": self.weights.numpy(),
        }

    @classmethod
    def from_state(cls, state: dict) -> FeatureTrial:
        bases = [restore_basis(s) for s in state["bases"]]
        frame = Frame(torch.as_tensor(state["center"]), torch.as_tensor(state["half"]))
        return cls(Expansion(frame, tuple(bases[int(i)] for i in state["fields"])), torch.as_tensor(state["weights"]))
