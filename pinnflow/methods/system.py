"""A problem as a system M y' = F(t, y) for the weights of its features, whatever kind of matrices hold it.

`semidiscrete.py` has full matrices, `sheets.py` sparse ones. A system that is linear with constant matrices and large
is integrated in a small space (`reduced.py`), any other one by `radau.py` as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy
import torch

from pinnflow.compiler.lowering import lower
from pinnflow.declare.analysis import Part
from pinnflow.methods import radau, reduced
from pinnflow.methods.base import Task
from pinnflow.methods.form import Form
from pinnflow.trial.evolution import EvolutionTrial
from pinnflow.trial.features import Basis


@dataclass(frozen=True)
class State:
    """One block of the state vector: the weights of d^order/dt^order of a field."""

    field: int
    order: int
    span: slice


@dataclass
class Grid:
    """Quadrature in space: `points [q, D]` in problem units (time column arbitrary), `weights [q]`."""

    points: torch.Tensor
    weights: np.ndarray


class System(ABC):
    """What systems with full and with sparse matrices share.

    Args:
        task: the problem.
        form: its evolution form.
        bases: per field a basis over all columns, constant along time.
        grid: quadrature that resolves products of features.
    """

    mass: object = None  # M; None is the identity

    def __init__(self, task: Task, form: Form, bases: tuple[Basis, ...], grid: Grid):
        self.task, self.form, self.bases, self.grid = task, form, bases, grid
        self.columns = task.problem.columns
        self.time = task.time_column
        self.start = task.bounds[self.time][0]
        self._data_functions: list = []  # of these conditions: `_lower_data`
        self.data: list[tuple[Part, torch.Tensor]] = []  # conditions and the places where they hold
        self.states, start = [], 0
        for f, order in enumerate(self.form.orders):
            for k in range(max(order, 1)):
                span = slice(start, start + self.bases[f].size)
                self.states.append(State(f, k, span))
                start = span.stop
        self.size = start
        self.find = {(s.field, s.order): s for s in self.states}

    # -- what the kinds of matrices do in their own ways ---------------------------------------------------------

    @abstractmethod
    def _evaluate(self, times, states):
        """F by quadrature."""

    @abstractmethod
    def _linearise(self, t, state):
        """dF/dy from the symbolic derivative of the equations."""

    @abstractmethod
    def initial_state(self) -> np.ndarray:
        """The projection of the initial data, meeting the conditions; algebraic fields start at zero."""

    @property
    @abstractmethod
    def gram(self):
        """Of the L2 inner product of states."""

    @abstractmethod
    def nominal_seconds(self, counts: dict) -> float:
        """Time of an integration on two cores, from its counts of operations; within a factor of 2."""

    @abstractmethod
    def to_features(self, f: int, weights: np.ndarray) -> np.ndarray:
        """`[..., N]`: weights of the features from the state of a field."""

    # -- equations -----------------------------------------------------------------------------------------------

    def _last(self, f):
        """The state whose time derivative equation f gives."""
        return self.find[f, max(self.form.orders[f], 1) - 1]

    def right_side(self, times: np.ndarray, states: np.ndarray) -> np.ndarray:
        """F at k times and states: `[k, size]`."""
        if self.constant:
            return (self.slope @ states.T).T + self.drive(times)
        return self._evaluate(times, states)

    def jacobian(self, t: float, state: np.ndarray):
        """dF/dy, `[size, size]`."""
        return self.slope if self.constant else self._linearise(t, state)

    def _lower_data(self, part):
        """g of a part and its time derivatives up to the highest order as functions of the columns: R w = g."""
        g = -part.expression.subs({a.symbol: 0 for a in part.atoms})
        time = self.task.problem.time
        return lower([sympy.diff(g, time, k) for k in range(max(self.form.orders) + 1)], self.columns), bool(
            g.free_symbols & {time}
        )

    # -- linear systems ------------------------------------------------------------------------------------------

    @cached_property
    def constant(self) -> bool:
        """F is affine in the state with a Jacobian that does not change."""
        return has_constant_slopes(self.task, self.form)

    @cached_property
    def moving(self) -> bool:
        """Whether sources or the data of conditions depend on time."""
        time = self.task.problem.time
        sources = (part.expression.subs({a.symbol: 0 for a in part.atoms}) for part in self.form.equations)
        return any(time in source.free_symbols for source in sources) or any(m for _, m in self._data_functions)

    @cached_property
    def slope(self):
        """dF/dy where it is constant."""
        return self._linearise(self.start, np.zeros(self.size))

    def drive(self, times: np.ndarray) -> np.ndarray:
        """F at the zero state, where F is affine: `[k, size]`, one row if it does not change."""
        return self._evaluate(times, np.zeros((len(times), self.size))) if self.moving else self._still

    @cached_property
    def _still(self):
        return self._evaluate(np.array([self.start]), np.zeros((1, self.size)))

    # -- solve ---------------------------------------------------------------------------------------------------

    def solve(
        self, tolerance: float, should_stop: Callable[[], bool], on_step: Callable[[float], None], max_steps: int
    ):
        """(trial, path): the integrated solution, as far as it went."""
        end = self.task.bounds[self.time][1]
        with np.errstate(all="ignore"):
            path = self._solve_reduced(tolerance, should_stop, on_step) if self.size >= radau.CHEAP else None
            path = path or radau.integrate(
                self.right_side,
                self.jacobian,
                (self.start, end),
                self.initial_state(),
                tolerance,
                mass=self.mass,
                blocks=[s.span for s in self.states],
                constant_jacobian=self.constant,
                should_stop=should_stop,
                on_step=on_step,
                max_steps=max_steps,
            )
        if len(path.states) == 0:
            return None, path
        weights = tuple(self.to_features(f, path.states[:, :, self.find[f, 0].span]) for f in range(len(self.bases)))
        nodes = np.append(0.0, radau.tableau(path.states.shape[1] - 1).nodes)
        return EvolutionTrial(self.task.frame, self.time, self.bases, path.times, nodes, weights), path

    def _solve_reduced(self, tolerance, should_stop, on_step):
        """The path of a linear system with constant matrices in a small space; None where there is none."""
        if not self.constant or max(self.form.orders) > 1:
            return None
        return reduced.integrate(
            self.slope,
            np.eye(self.size) if self.mass is None else self.mass,
            self.gram,
            self.drive,
            self.moving,
            self.task.bounds[self.time],
            self.initial_state(),
            tolerance,
            should_stop,
            on_step,
        )


def has_constant_slopes(task: Task, form: Form) -> bool:
    """The equations are affine in the fields with coefficients that do not depend on time."""
    moving = {task.problem.time}
    for part in form.equations:
        symbols = {a.symbol for a in part.atoms}
        for atom in part.atoms:
            if sympy.diff(part.expression, atom.symbol).free_symbols & (symbols | moving):
                return False
    return True


def initial_data(task: Task, form: Form, points: torch.Tensor) -> Iterator[tuple[int, int, np.ndarray]]:
    """(field, order in time, given values `[q]` at points `[q, D]`) of every initial condition."""
    places = points.clone()
    places[:, task.time_column] = task.bounds[task.time_column][0]
    for part in form.initial:
        atom = part.atoms[0]
        slope = sympy.diff(part.expression, atom.symbol)
        given = -part.expression.subs(atom.symbol, 0) / slope
        data = lower([given], task.problem.columns)(list(places.unbind(1)))[0].expand(len(places)).numpy()
        yield task.field_index(atom), atom.orders[task.time_column], data


def end_points(task: Task, per_axis: int) -> Callable[[Part], torch.Tensor]:
    """Places on a face at which a boundary condition is imposed: Gauss points along its free space axes."""

    def places(part: Part) -> torch.Tensor:
        axes = []
        for i, column in enumerate(task.problem.columns):
            low, high = task.bounds[i]
            if column in part.pins:
                axes.append(np.array([float(part.pins[column])]))
            elif i == task.time_column:
                axes.append(np.array([low]))
            elif task.periodic[i]:
                axes.append(low + (high - low) * np.arange(per_axis) / per_axis)
            else:
                axes.append((low + high) / 2 + (high - low) / 2 * np.polynomial.legendre.leggauss(per_axis)[0])
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
        return torch.as_tensor(grid)

    return places


def tensor_grid(task: Task, nodes: list[tuple[np.ndarray, np.ndarray]]) -> Grid:
    """Tensor quadrature from per-column (places in [-1, 1], weights); the time column has one place."""
    points = np.stack(np.meshgrid(*(n for n, _ in nodes), indexing="ij"), -1).reshape(-1, len(nodes))
    weights = np.array([1.0])
    for _, w in nodes:
        weights = np.multiply.outer(weights, w)
    frame = task.frame
    return Grid(torch.as_tensor(points) * frame.half + frame.center, weights.reshape(-1))
