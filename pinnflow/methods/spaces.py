"""Functions of space for each round of an evolution, from what the last rounds found.

One space axis: splines whose knots go where the last solution varies, or waves. Several axes: products of polynomials
and waves, shared out by how the weights decay. The plane: splines along both axes, as sparse matrices or as modes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pinnflow.methods.base import Task
from pinnflow.methods.form import Form
from pinnflow.methods.modes import ModalSystem, semilinear
from pinnflow.methods.semidiscrete import DenseSystem
from pinnflow.methods.sheets import SparseSystem
from pinnflow.methods.spline_products import Sheet, composite_gauss
from pinnflow.methods.system import Grid, System, end_points, has_constant_slopes, tensor_grid
from pinnflow.trial.evolution import EvolutionTrial
from pinnflow.trial.features import Basis, Product, Spline, product_indices

DEGREE = 9
SHEET_DEGREE = 5
MODE_DEGREE = 7
SHAPE_TAIL = 1e-4
FLOOR = 0.25  # part of the knots that is spread evenly
PLANE_FLOOR = 0.6  # part of the knots that is spread evenly in the plane, where layers seldom follow an axis


class Spaces:
    """The systems of one problem.

    Args:
        task: the problem.
        form: its evolution form.
        rounds: what was found so far (`family`, `trial`, `score`), read at every call.
    """

    def __init__(self, task: Task, form: Form, rounds: list):
        self.task, self.form, self.rounds = task, form, rounds
        self.space = [i for i in range(task.dimension) if i != task.time_column]
        self.semilinear = None if has_constant_slopes(task, form) else semilinear(task, form)

    def families(self) -> list[str]:
        """What may be tried, the first ones first."""
        if len(self.space) == 1:
            return ["waves", "splines"] if self.task.periodic[self.space[0]] else ["splines"]
        if len(self.space) == 2 and all(f.args == self.task.problem.fields[0].args for f in self.task.problem.fields):
            return ["products", "sheets"] if self.semilinear is None else ["modes", "products"]
        return ["products"]

    def system(self, family: str, size: int) -> System | ModalSystem:
        """The equations on a basis of about `size` functions per field."""
        task = self.task
        if family == "sheets":
            return SparseSystem(task, self.form, Sheet(tuple(self.axes(size, SHEET_DEGREE, PLANE_FLOOR))))
        if family == "modes":
            return self.modal_system(size)
        basis, grid, per_axis = self.basis(family, size)
        bases = tuple(basis.restrict(task.is_missing(f)) for f in task.problem.fields)
        bases = tuple(basis if b.size == basis.size else b for b in bases)
        return DenseSystem(task, self.form, bases, grid, end_points(task, per_axis))

    def modal_system(self, size: int) -> ModalSystem:
        """Modes of splines, and of waves along periodic axes."""
        task = self.task
        splines = self.axes(size, MODE_DEGREE, 1.0)
        sheet = Sheet(tuple(splines))
        axes: list[Spline | int | None] = [
            spline.count | 1 if spline is not None and task.periodic[i] else spline for i, spline in enumerate(splines)
        ]
        places = [
            -1 + 2 * np.arange(axis) / axis if isinstance(axis, int) else sheet.peaks(i) for i, axis in enumerate(axes)
        ]
        return ModalSystem(task, self.form, self.semilinear, axes, places)

    def axes(self, size: int, degree: int, floor: float) -> list[Spline | None]:
        """Splines along both axes, their numbers shared out by how much the last solution varies along each."""
        task = self.task
        last = next((r.trial for r in reversed(self.rounds) if r.score < 0.5), None)
        found = [(None, 1.0) if last is None else self._monitor(last, axis) for axis in self.space]
        monitors, variation = zip(*found, strict=True)
        periodic = [task.periodic[column] for column in self.space]
        axes: list[Spline | None] = [None] * task.dimension
        for column, spline in zip(self.space, spread(monitors, variation, size, degree, periodic, floor), strict=True):
            axes[column] = spline
        return axes

    def basis(self, family: str, size: int) -> tuple[Basis, Grid, int]:
        """(basis over all columns, quadrature grid, points per axis for conditions on faces)."""
        task = self.task
        if family == "splines":
            return self._splines(size)
        axes, nodes = [], []
        space_periodic = [task.periodic[i] for i in self.space]
        indices = product_indices(self.shape(), size, space_periodic) if self.space else np.zeros((1, 0), int)
        if self.space and len(self.space) == 1:
            indices = np.arange(size | 1)[:, None]
        counts = indices.max(axis=0) + 1 if self.space else []
        full = np.zeros((len(indices), task.dimension), dtype=np.int64)
        for i in range(task.dimension):
            if i == task.time_column:
                axes.append("chebyshev")
                nodes.append((np.zeros(1), np.ones(1)))
                continue
            column = self.space.index(i)
            full[:, i] = indices[:, column]
            count = int(counts[column])
            points = int(np.ceil(1.5 * count)) + 4
            if task.periodic[i]:
                axes.append("fourier")
                nodes.append((-1 + 2 * np.arange(points) / points, np.full(points, 2.0 / points)))
            else:
                axes.append("chebyshev")
                nodes.append(np.polynomial.legendre.leggauss(points))
        basis = Product(tuple(axes), torch.as_tensor(full))
        return basis, tensor_grid(task, nodes), max((int(c) for c in counts), default=1) + 2

    def shape(self) -> np.ndarray:
        """How many functions an axis needs relative to the others, from how the last solution's weights decay."""
        last = next((r.trial for r in reversed(self.rounds) if r.family == "products"), None)
        if last is None or len(self.space) < 2:
            return np.ones(len(self.space))
        needs = np.ones(len(self.space))
        indices = last.bases[0].indices.numpy()
        for f, basis in enumerate(last.bases):
            if basis.size != len(indices):
                continue
            energy = np.square(last.weights[f]).max(axis=(0, 1))  # [N], the largest over time
            for i, column in enumerate(self.space):
                marginal = np.bincount(indices[:, column], energy)
                tail = np.sqrt(np.cumsum(marginal[::-1])[::-1] / max(marginal.sum(), 1e-300))
                # The first index behind which less than 1e-4 is left; one and a half times the last where more is.
                small = np.flatnonzero(tail < SHAPE_TAIL)
                needs[i] = max(needs[i], small[0] if len(small) else 1.5 * len(marginal))
        return needs

    def _splines(self, size):
        axis = self.space[0]
        periodic = self.task.periodic[axis]
        pieces = max(size - (0 if periodic else DEGREE), DEGREE + 2 if periodic else 4)
        last = self.rounds[-1].trial if self.rounds else None
        knots = even_share(None if last is None else self._monitor(last, axis)[0], pieces)
        spline = Spline(DEGREE, knots, periodic)
        axes = ["chebyshev"] * self.task.dimension
        axes[axis] = spline
        full = np.zeros((spline.count, self.task.dimension), dtype=np.int64)
        full[:, axis] = np.arange(spline.count)
        nodes = [(np.zeros(1), np.ones(1))] * self.task.dimension
        per_piece = (DEGREE + 1) // 2 if pieces > DEGREE else DEGREE + 1
        nodes[axis] = composite_gauss(knots, per_piece)
        return Product(tuple(axes), torch.as_tensor(full)), tensor_grid(self.task, nodes), 1

    def _monitor(self, trial: EvolutionTrial, axis: int) -> tuple[np.ndarray, float]:
        """How much the solution varies along an axis: `[2001]` or `[201]`, the largest over all else; and the rms."""
        task = self.task
        others = [i for i in self.space if i != axis]
        along = np.linspace(-1, 1, 201 if others else 2001)
        start, end = task.bounds[task.time_column]
        places = [np.zeros(1)] * task.dimension
        places[axis] = along
        for i in others:
            places[i] = np.linspace(-1, 1, 41)
        orders = [tuple(k if i == axis else 0 for i in range(task.dimension)) for k in range(3)]
        half = float(task.frame.half[axis])
        monitor, square = np.zeros(len(along)), 0.0
        for f in range(len(task.problem.fields)):
            value, first, second = trial.lattice(places, f, orders, np.linspace(start, end, 11 if others else 41))
            size = np.ptp(value, axis=1, keepdims=True)
            size = np.maximum(size, 1e-9 * max(size.max(), 1e-300))
            local = np.abs(first) * half / size + np.sqrt(np.abs(second) * half**2 / size)
            shape = [len(local), *(len(p) for p in places)]
            local = np.moveaxis(local.reshape(shape), axis + 1, 0).reshape(len(along), -1)
            monitor = np.maximum(monitor, local.max(axis=1))
            square = max(square, float(np.square(local).mean()))
        return monitor, square**0.5


def spread(
    monitors: Sequence[np.ndarray | None],
    variation: Sequence[float],
    size: int,
    degree: int,
    periodic: Sequence[bool],
    floor: float = FLOOR,
) -> list[Spline]:
    """Splines along several axes, about `size` products of them, shared out by how much a function varies along each.

    Args:
        monitors: per axis where it varies, on even places; None for even knots.
        variation: per axis how much.
        size: of the products.
        degree: of the splines.
        periodic: per axis.
        floor: part of each axis that is shared out evenly.
    """
    logarithms = np.log(np.maximum(variation, 1e-300))
    axes = []
    for monitor, factor, closed in zip(
        monitors, np.clip(np.exp(logarithms - logarithms.mean()), 0.2, 5.0), periodic, strict=True
    ):
        count = max(round(size ** (1 / len(logarithms)) * factor), 2 * degree + 2)
        axes.append(Spline(degree, even_share(monitor, count if closed else count - degree, floor), closed))
    return axes


def even_share(monitor: np.ndarray | None, pieces: int, floor: float = FLOOR) -> np.ndarray:
    """`[pieces + 1]` knots on [-1, 1] that share out a monitor, and the part `floor` of the axis, evenly."""
    if monitor is None or not monitor.any():
        return np.linspace(-1, 1, pieces + 1)
    density = floor + (1 - floor) * monitor / monitor.mean()
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(np.linspace(0, 1, pieces + 1), share / share[-1], np.linspace(-1, 1, len(monitor)))
