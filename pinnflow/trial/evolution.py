"""Features in space whose weights move in time: the fitted function of the evolution method.

u_f(t, x) = sum_j a_{f,j}(t) phi_j(x); a is a polynomial of degree s on every time step, so all derivatives in space
and up to s in time are exact derivatives of the same function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pinnflow.trial.expansion import CHUNK, Frame
from pinnflow.trial.features import Basis, Combination, Product, restore_basis
from pinnflow.trial.registry import register_trial


@register_trial
@dataclass(frozen=True)
class EvolutionTrial:
    """Fields as spatial features with time-dependent weights.

    Attributes:
        frame: of all columns, time included.
        time: index of the time column.
        bases: per field, over all columns (constant along time).
        times: `[steps + 1]`, problem units.
        nodes: `[s + 1]`, places in [0, 1] of the time polynomial's values on a step.
        weights: per field `[steps, s + 1, N]`.
    """

    frame: Frame
    time: int
    bases: tuple[Basis, ...]
    times: np.ndarray
    nodes: np.ndarray
    weights: tuple[np.ndarray, ...]
    kind = "evolution"

    def derivatives(self, points: np.ndarray, wanted) -> list[np.ndarray]:
        """[D^orders u_field]: float64 arrays `[n]`; points `[n, D]` in problem units."""
        tensor = torch.as_tensor(np.ascontiguousarray(points, dtype=float))
        return [v.numpy() for v in self.function(tensor, wanted)]

    def function(self, points: torch.Tensor, wanted) -> list[torch.Tensor]:
        """The same with tensors in and out, as methods use it."""
        results = [np.zeros(len(points)) for _ in wanted]
        order = np.argsort(points[:, self.time].numpy(), kind="stable")
        chunk = max(1, CHUNK // max(b.size for b in self.bases))
        for begin in range(0, len(order), chunk):
            rows = order[begin : begin + chunk]
            place = points[torch.as_tensor(rows)]
            moment = place[:, self.time].numpy()
            step = np.clip(np.searchsorted(self.times, moment, side="right") - 1, 0, len(self.times) - 2)
            length = np.diff(self.times)[step]
            share = (moment - self.times[step]) / length
            scaled = self.frame.scale(place)
            for f, basis in enumerate(self.bases):
                mine = [i for i, (g, _) in enumerate(wanted) if g == f]
                for k in sorted({wanted[i][1][self.time] for i in mine}):
                    group = [i for i in mine if wanted[i][1][self.time] == k]
                    lagrange = lagrange_table(self.nodes, share, k) / length[:, None] ** k  # [n, s + 1]
                    space = [_without(wanted[i][1], self.time) for i in group]
                    for i, value in zip(group, self._combine(basis, scaled, space, f, step, lagrange), strict=True):
                        results[i][rows] = value
        return [torch.as_tensor(r) for r in results]

    def lattice(self, places: list[np.ndarray], field: int, wanted, moments: np.ndarray) -> np.ndarray:
        """`[len(wanted), len(moments), n]`: space derivatives of one field on a lattice at several times.

        Args:
            places: per column scaled places; the lattice is their product, the last column running fastest.
            field: which one.
            wanted: orders of differentiation.
            moments: in problem units.
        """
        step = np.clip(np.searchsorted(self.times, moments, side="right") - 1, 0, len(self.times) - 2)
        share = (moments - self.times[step]) / np.diff(self.times)[step]
        weights = np.einsum("mk,mkn->mn", lagrange_table(self.nodes, share, 0), self.weights[field][step])
        basis = self.bases[field]
        plane, functions = self._plane(basis)
        if plane is None:
            grid = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, len(places))
            found = basis.combine(torch.as_tensor(grid), wanted, torch.as_tensor(weights.T.copy()))
            values = [v.numpy().T for v in found]
        else:
            weights = weights @ basis.matrix.numpy() if isinstance(basis, Combination) else weights
            weights = weights.reshape(-1, *(functions.grid[i] for i in plane))
            tables = []
            for i in plane:
                only = torch.zeros(len(places[i]), len(places), dtype=torch.float64)
                only[:, i] = torch.as_tensor(places[i])
                tables.append(functions.tables(only, wanted)[i])
            values = [
                (tables[0][o[plane[0]]].numpy() @ weights @ tables[1][o[plane[1]]].numpy().T).reshape(len(moments), -1)
                for o in wanted
            ]
        return np.stack([v * self.frame.factor(o) for v, o in zip(values, wanted, strict=True)])

    @staticmethod
    def _plane(basis):
        """(two columns, functions) if a basis is made of all products of functions along two columns, else None."""
        functions = basis.basis if isinstance(basis, Combination) else basis
        if isinstance(functions, Product) and sum(n > 1 for n in functions.grid or ()) == 2:
            return tuple(i for i, n in enumerate(functions.grid) if n > 1), functions
        return None, functions

    def _combine(self, basis, scaled, space, f, step, lagrange):
        """Each `[n]`: sum over features and time nodes. Rows are sorted in time, so a step is a run of rows."""
        starts = np.flatnonzero(np.diff(step, prepend=-1))
        ends = np.append(starts[1:], len(step))
        if self._plane(basis)[0] is not None:
            return self._combine_plane(basis, scaled, space, f, step, lagrange, zip(starts, ends, strict=True))
        features = []
        one = torch.ones((), dtype=torch.float64)
        for orders in space:
            out = torch.zeros(len(scaled), basis.size, dtype=torch.float64)
            basis.accumulate(out, scaled, [(one, orders)])
            features.append(out.numpy() * self.frame.factor(orders))
        results = [np.empty(len(scaled)) for _ in space]
        for a, b in zip(starts, ends, strict=True):
            local = lagrange[a:b] @ self.weights[f][step[a]]  # [m, N]
            for result, feature in zip(results, features, strict=True):
                result[a:b] = np.einsum("mn,mn->m", feature[a:b], local)
        return results

    def _combine_plane(self, basis, scaled, space, f, step, lagrange, runs):
        """The same for all products of functions along two columns, summed along one after the other."""
        mixed = isinstance(basis, Combination)
        (first, second), functions = self._plane(basis)
        rows, columns = functions.grid[first], functions.grid[second]
        results = [np.empty(len(scaled)) for _ in space]
        local = functions.local_rows(scaled, space, (first, second))
        if local is not None:
            if mixed:
                local = [rows_of @ basis.matrix.numpy().T for rows_of in local]
            for a, b in runs:
                weights = self.weights[f][step[a]].T
                for result, rows_of in zip(results, local, strict=True):
                    result[a:b] = ((rows_of[a:b] @ weights) * lagrange[a:b]).sum(axis=1)
            return [r * self.frame.factor(o) for r, o in zip(results, space, strict=True)]
        tables = functions.tables(scaled, space)
        for a, b in runs:
            local = self.weights[f][step[a]] @ basis.matrix.numpy() if mixed else self.weights[f][step[a]]
            weights = local.reshape(-1, rows, columns).transpose(1, 0, 2).reshape(rows, -1)
            for result, orders in zip(results, space, strict=True):
                left, right = tables[first][orders[first]][a:b].numpy(), tables[second][orders[second]][a:b].numpy()
                inner = (left @ weights).reshape(b - a, -1, columns)
                result[a:b] = ((lagrange[a:b, None] @ inner)[:, 0] * right).sum(axis=1)
        return [r * self.frame.factor(o) for r, o in zip(results, space, strict=True)]

    def state(self) -> dict:
        return {
            "kind": self.kind,
            "center": self.frame.center.numpy(),
            "half": self.frame.half.numpy(),
            "time": self.time,
            "times": self.times,
            "nodes": self.nodes,
            "bases": [basis.state() for basis in self.bases],
            "weights": list(self.weights),
        }

    @classmethod
    def from_state(cls, state: dict) -> EvolutionTrial:
        frame = Frame(torch.as_tensor(state["center"]), torch.as_tensor(state["half"]))
        return cls(
            frame,
            int(state["time"]),
            tuple(restore_basis(s) for s in state["bases"]),
            np.asarray(state["times"]),
            np.asarray(state["nodes"]),
            tuple(np.asarray(w) for w in state["weights"]),
        )


def lagrange_table(nodes: np.ndarray, x: np.ndarray, order: int) -> np.ndarray:
    """[len(x), len(nodes)]: the order-th derivative at x of the Lagrange polynomials of `nodes`."""
    columns = []
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        p = np.polynomial.Polynomial.fromroots(others) / np.prod(node - others)
        columns.append((p.deriv(order) if order else p)(x) if order < len(nodes) else np.zeros_like(x))
    return np.stack(columns, axis=1)


def _without(orders, time):
    return tuple(0 if i == time else o for i, o in enumerate(orders))
