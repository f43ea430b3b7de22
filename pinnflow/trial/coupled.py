"""Functions whose fields share their weights, and the fitted trial made of them.

A wave of a system moves all fields together: one weight, one basis per field. `ExactTrial` adds a fixed particular
solution, so that equations with a source hold too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pinnflow.trial import exponentials, particular, profiles  # noqa: F401 - their bases register for files
from pinnflow.trial.expansion import CHUNK, Frame
from pinnflow.trial.features import Basis, restore_basis
from pinnflow.trial.registry import register_trial


@dataclass(frozen=True)
class CoupledExpansion:
    """u_f(x) = sum_j c_j phi_{f,j}(xi(x)): the same weights in every field.

    Attributes:
        frame: from problem units to the scaled box.
        bases: one per field, all of one size.
    """

    frame: Frame
    bases: tuple[Basis, ...]

    @property
    def size(self) -> int:
        return self.bases[0].size

    def rows(self, groups, out: Tensor) -> Tensor:
        """As `Expansion.rows`: out `[n, size]` += a linear functional of the fields."""
        for points, items in groups:
            scaled = self.frame.scale(points)
            for f, basis in enumerate(self.bases):
                mine = [(c * self.frame.factor(o), o) for g, o, c in items if g == f]
                if mine:
                    basis.accumulate(out, scaled, mine)
        return out

    def derivatives(
        self, points: Tensor, wanted: Sequence[tuple[int, tuple[int, ...]]], weights: Tensor
    ) -> list[Tensor]:
        """[D^orders u_field at points]: each `[n]`; `weights` is `[size]`."""
        step = max(1, CHUNK // (2 * max(self.size, 1)))
        results: list[list[Tensor]] = [[] for _ in wanted]
        for start in range(0, len(points), step):
            scaled = self.frame.scale(points[start : start + step])
            for f, basis in enumerate(self.bases):
                mine = [i for i, (g, _) in enumerate(wanted) if g == f]
                if mine:
                    values = basis.combine(scaled, [wanted[i][1] for i in mine], weights)
                    for i, value in zip(mine, values, strict=True):
                        results[i].append(value * self.frame.factor(wanted[i][1]))
        return [torch.cat(r) if r else torch.zeros(0, dtype=weights.dtype) for r in results]


@register_trial
@dataclass(frozen=True)
class ExactTrial:
    """A combination of exact solutions, plus a particular solution of the equations with their sources.

    Attributes:
        expansion: of solutions of the homogeneous equations.
        weights: `[size]`.
        particular: a basis of one function per field, or None where there are no sources.
    """

    expansion: CoupledExpansion
    weights: Tensor
    particular: CoupledExpansion | None = None
    kind = "exact"

    def function(self, points: Tensor, wanted) -> list[Tensor]:
        """[D^orders u_field]: tensors `[n]`, as methods use it."""
        values = self.expansion.derivatives(points, wanted, self.weights)
        if self.particular is None:
            return values
        fixed = self.particular.derivatives(points, wanted, torch.ones(1, dtype=self.weights.dtype))
        return [a + b for a, b in zip(values, fixed, strict=True)]

    def derivatives(self, points: np.ndarray, wanted) -> list[np.ndarray]:
        """[D^orders u_field]: float64 arrays `[n]`; points `[n, D]` in problem units."""
        tensor = torch.as_tensor(np.ascontiguousarray(points, dtype=float))
        return [v.numpy() for v in self.function(tensor, wanted)]

    def state(self) -> dict:
        frame = self.expansion.frame
        fixed = None if self.particular is None else [basis.state() for basis in self.particular.bases]
        return {
            "kind": self.kind,
            "center": frame.center.numpy(),
            "half": frame.half.numpy(),
            "bases": [basis.state() for basis in self.expansion.bases],
            "weights": self.weights.numpy(),
            "particular": fixed,
        }

    @classmethod
    def from_state(cls, state: dict) -> ExactTrial:
        frame = Frame(torch.as_tensor(state["center"]), torch.as_tensor(state["half"]))

        def read(states):
            return CoupledExpansion(frame, tuple(restore_basis(s) for s in states))

        fixed = state["particular"]
        return cls(read(state["bases"]), torch.as_tensor(state["weights"]), None if fixed is None else read(fixed))
