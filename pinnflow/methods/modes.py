"""Evolution problems u_t = D u + N(t, x, u, grad u) in the plane, D with constant coefficients, on eigenfunctions of D.

Along each axis the functions are splines, or waves where the axis is periodic; their combinations that meet the
conditions at the ends and diagonalise the second derivative (Galerkin) are the modes. N is taken at one point per
function and interpolated, so that it costs four products of small matrices, and `exponential.py` integrates the modes.
No system of equations is solved, and nothing grows with the square of the number of modes.

Source: Lynch, Rice & Thomas, Direct solution of partial difference equations by tensor product methods, Numer. Math. 6
(1964), the modes; Canuto et al., Spectral Methods (2006), section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.linalg
import sympy
import torch

from pinnflow.compiler.residual import Residual
from pinnflow.declare.analysis import Part
from pinnflow.methods import exponential
from pinnflow.methods.base import Task
from pinnflow.methods.form import Form, space_orders
from pinnflow.methods.system import initial_data
from pinnflow.trial.axes import TABLES, Spline
from pinnflow.trial.evolution import EvolutionTrial
from pinnflow.trial.features import Combination, Product


@dataclass(frozen=True)
class Semilinear:
    """The parts of such a problem.

    Attributes:
        diffusion: per field `{space column: coefficient > 0}`.
        rests: per field N with the opposite sign, as a part.
        ends: `{(field, space column): [(place, {order: coefficient})]}` of the conditions at ends.
    """

    diffusion: list[dict[int, float]]
    rests: list[Part]
    ends: dict[tuple[int, int], list[tuple[float, dict[int, float]]]]


def semilinear(task: Task, form: Form) -> Semilinear | None:
    """The parts, or None where the problem does not have them."""
    space = [i for i in range(task.dimension) if i != task.time_column]
    fields = task.problem.fields
    if len(space) != 2 or any(o != 1 for o in form.orders) or any(f.args != fields[0].args for f in fields):
        return None
    diffusion, rests = [], []
    for f, (part, leads) in enumerate(zip(form.equations, form.leads, strict=True)):
        if len(leads) != 1 or leads[0][0] != f or any(leads[0][1]) or leads[0][2].free_symbols:
            return None
        lead, own, taken = float(leads[0][2]), dict.fromkeys(space, 0.0), []
        for atom in part.atoms:
            orders = space_orders(atom.orders, task.time_column)
            if sum(orders) < 2:
                continue
            slope = sympy.diff(part.expression, atom.symbol)
            if task.field_index(atom) != f or sorted(orders)[-2:] != [0, 2] or slope.free_symbols:
                return None
            own[orders.index(2)] -= float(slope) / lead
            taken.append(atom)
        if min(own.values()) <= 0:
            return None
        rest = part.expression.xreplace({a.symbol: sympy.S.Zero for a in taken}) / leads[0][2]
        atoms = tuple(a for a in part.atoms if a not in taken)
        rests.append(Part(rest, (rest,), atoms, part.free, {}))
        diffusion.append(own)
    ends = _ends(task, form, space)
    return None if ends is None else Semilinear(diffusion, rests, ends)


def _ends(task, form, space):
    """Homogeneous conditions with constant coefficients, one at each end; None where there are others."""
    ends: dict[tuple[int, int], list] = {}
    for part in form.boundaries:
        owners = {task.field_index(a) for a in part.atoms}
        columns = [i for i, c in enumerate(task.problem.columns) if c in part.pins]
        if len(owners) != 1 or len(columns) != 1 or part.expression.subs({a.symbol: 0 for a in part.atoms}) != 0:
            return None
        f, column = owners.pop(), columns[0]
        combination: dict[int, float] = {}
        for atom in part.atoms:
            slope = sympy.diff(part.expression, atom.symbol)
            order = atom.orders[column]
            if slope.free_symbols or sum(atom.orders) != order or order > 1 or len({a.pins for a in part.atoms}) > 1:
                return None
            combination[order] = float(slope)
        ends.setdefault((f, column), []).append((float(part.pins[task.problem.columns[column]]), combination))
    for f in range(len(task.problem.fields)):
        for i in space:
            places = {place for place, _ in ends.get((f, i), [])}
            if len(ends.get((f, i), [])) != len(places) or len(places) != (0 if task.periodic[i] else 2):
                return None
    return ends


@dataclass(frozen=True)
class Modes:
    """Modes along one axis, all in units of the problem.

    Attributes:
        values: `[2][n, m]`: the modes and their first derivatives at the points.
        back: `[m, n]`: from values at the points to the modes.
        rates: `[m]`: minus second derivative of each mode over the mode.
        features: `[n, m]`: the modes in terms of splines or waves.
    """

    values: tuple[np.ndarray, np.ndarray]
    back: np.ndarray
    rates: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, family: Spline | int, places: np.ndarray, ends: list, half: float, middle: float) -> Modes:
        """The modes that meet the conditions.

        Args:
            family: splines, or how many waves.
            places: scaled points, `[n]`.
            ends: [(place in problem units, {order: coefficient})].
            half: half length of the axis.
            middle: its centre.
        """

        def table(x, highest):
            x = torch.as_tensor(np.asarray(x, dtype=float))
            if isinstance(family, Spline):
                found = family.table(x, family.count, highest)
            else:
                found = TABLES["fourier"](x, family, highest)
            return [values.numpy() / half**k for k, values in enumerate(found)]

        at, slope = table(places, 1)
        if not isinstance(family, Spline):
            waves = np.pi / half * ((np.arange(family) + 1) // 2)
            return cls((at, slope), np.linalg.inv(at), waves**2, np.eye(family))
        x, w = np.polynomial.legendre.leggauss(family.degree + 1)
        centres, widths = (family.knots[1:] + family.knots[:-1])[:, None] / 2, np.diff(family.knots)[:, None] / 2
        weights = half * (widths * w).ravel()
        values, _, curvature = table((centres + widths * x).ravel(), 2)
        kept = np.eye(family.count)
        if ends:
            rows = [
                sum(c * table([(place - middle) / half], 1)[order][0] for order, c in combination.items())
                for place, combination in ends
            ]
            kept = scipy.linalg.null_space(np.stack([r / np.linalg.norm(r) for r in rows]))
        mass = values.T @ (weights[:, None] * values)
        stiff = -kept.T @ (values.T @ (weights[:, None] * curvature)) @ kept
        rates, vectors = scipy.linalg.eigh((stiff + stiff.T) / 2, kept.T @ mass @ kept)
        features = kept @ vectors
        return cls((at @ features, slope @ features), features.T @ mass @ np.linalg.inv(at), rates, features)


class ModalSystem:
    """The modes of a problem on given splines, integrated in time.

    Args:
        task: the problem.
        form: its evolution form.
        parts: its semilinear parts.
        axes: per column splines, the number of waves, or None for the time column.
        places: per column the scaled points at which N is taken.
    """

    def __init__(self, task: Task, form: Form, parts: Semilinear, axes: list, places: list[np.ndarray]):
        self.task, self.form, self.parts = task, form, parts
        self.space = [i for i, axis in enumerate(axes) if axis is not None]
        counts = [1 if a is None else a if isinstance(a, int) else a.count for a in axes]
        index = torch.cartesian_prod(*(torch.arange(n) for n in counts)).reshape(-1, len(counts))
        families = ("chebyshev" if a is None else "fourier" if isinstance(a, int) else a for a in axes)
        self.bases = (Product(tuple(families), index),) * len(task.problem.fields)
        center, half = task.frame.center, task.frame.half
        grid = torch.cartesian_prod(*(torch.as_tensor(p, dtype=torch.float64) for p in places))
        self.points = grid.reshape(-1, task.dimension) * half + center
        made: dict = {}
        self.modes = []
        for f in range(len(task.problem.fields)):
            mine = []
            for i in self.space:
                ends = parts.ends.get((f, i), [])
                key = (i, str(ends))
                if key not in made:
                    made[key] = Modes.of(axes[i], places[i], ends, float(half[i]), float(center[i]))
                mine.append(made[key])
            self.modes.append(mine)
        self.shapes = [tuple(len(m.rates) for m in mine) for mine in self.modes]
        edges = np.cumsum([0, *(a * b for a, b in self.shapes)])
        self.spans = [slice(a, b) for a, b in pairwise(edges)]
        self.size = int(edges[-1])
        problem = task.problem
        self.residuals = [Residual(part, problem.columns, (), problem.bounds) for part in parts.rests]
        self.rates = np.concatenate(
            [
                -np.add.outer(*(d[i] * m.rates for i, m in zip(self.space, mine, strict=True))).ravel()
                for d, mine in zip(parts.diffusion, self.modes, strict=True)
            ]
        )

    def source(self, t: float, state: np.ndarray) -> np.ndarray:
        """N at a time and a state, `[size]`."""
        self.points[:, self.task.time_column] = t
        weights = [state[s].reshape(shape) for s, shape in zip(self.spans, self.shapes, strict=True)]
        known: dict = {}
        result = np.empty(self.size)
        for f, residual in enumerate(self.residuals):
            atoms = []
            for atom in residual.part.atoms:
                g = self.task.field_index(atom)
                orders = tuple(atom.orders[i] for i in self.space)
                if (g, orders) not in known:
                    left, right = (m.values[o] for m, o in zip(self.modes[g], orders, strict=True))
                    known[g, orders] = torch.from_numpy((left @ weights[g] @ right.T).reshape(-1))
                atoms.append(known[g, orders])
            result[self.spans[f]] = -self._back(f, residual.value(self.points, atoms, []).numpy())
        return result

    def _back(self, f, values):
        first, second = self.modes[f]
        return (first.back @ values.reshape(first.back.shape[1], -1) @ second.back.T).ravel()

    def initial_state(self) -> np.ndarray:
        """The initial data, interpolated and projected on the modes."""
        state = np.zeros(self.size)
        for f, _, data in initial_data(self.task, self.form, self.points):
            state[self.spans[f]] = self._back(f, data)
        return state

    def solve(
        self, tolerance: float, should_stop: Callable[[], bool], on_step: Callable[[float], None], max_steps: int
    ):
        """(trial, flow): the integrated solution, as far as it went."""
        with np.errstate(all="ignore"):
            flow = exponential.integrate(
                self.rates,
                self.source,
                self.task.bounds[self.task.time_column],
                self.initial_state(),
                tolerance,
                should_stop=should_stop,
                on_step=on_step,
                max_steps=20 * max_steps,
            )
        if not len(flow.states):
            return None, flow
        bases = []
        for basis, span, shape, (first, second) in zip(self.bases, self.spans, self.shapes, self.modes, strict=True):
            shaped = first.features @ flow.directions[:, span].reshape(-1, *shape) @ second.features.T
            bases.append(Combination(basis, torch.as_tensor(shaped.reshape(len(shaped), -1))))
        weights = (flow.states,) * len(bases)
        frame, column = self.task.frame, self.task.time_column
        return EvolutionTrial(frame, column, tuple(bases), flow.times, exponential.NODES, weights), flow

    def nominal_seconds(self, counts: dict) -> float:
        """Time of an integration on two cores, from its counts of operations; within a factor of 2."""
        products = sum(len(r.part.atoms) + 1 for r in self.residuals)
        side = max(max(shape) for shape in self.shapes)
        each = 2e-4 + 4e-10 * products * side * len(self.points) + 5e-8 * self.size
        return counts["evaluations"] * each + counts["tables"] * 2e-7 * self.size
