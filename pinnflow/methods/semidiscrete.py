"""Evolution problems in the form of `form.py` as M y' = F(t, y): features in space, weights in time.

Procedure: the spatial basis is made orthonormal on a quadrature grid; the boundary conditions split it into a null
space Z, where the equations are projected (Galerkin), and its complement, whose weights follow the data g(t); the
resulting system M y' = F(t, y) goes to `radau.py` with the symbolic Jacobian.

Sources: Zhang et al., Frozen-PINN, 2405.20836 (space features, time integration); Canuto et al., Spectral Methods
(2006) for the projections.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cached_property

import numpy as np
import scipy.linalg
import torch

from pinnflow.compiler.lowering import lower
from pinnflow.compiler.residual import Residual
from pinnflow.methods.base import Task
from pinnflow.methods.form import Form, space_orders
from pinnflow.methods.system import Grid, System, initial_data
from pinnflow.trial.features import Basis

CONSTRAINT_CUT = 1e-11


class DenseSystem(System):
    """M y' = F(t, y) for a problem on one spatial basis and quadrature grid.

    Args:
        task: the problem.
        form: its evolution form.
        bases: per field a basis over all columns, constant along time.
        grid: quadrature that resolves products of features.
        ends: `(part) -> tensor [k, D]` points at which boundary conditions are imposed.
    """

    def __init__(self, task: Task, form: Form, bases: tuple[Basis, ...], grid: Grid, ends: Callable):
        super().__init__(task, form, bases, grid)
        self.root = np.sqrt(grid.weights)
        self._orthonormalise()
        self._constrain(ends)
        self._residuals()

    # -- basis ---------------------------------------------------------------------------------------------------

    def _design(self, f, points, orders):
        """D^orders of field f's orthonormal functions at points: `[n, N]`."""
        out = torch.zeros(len(points), self.bases[f].size, dtype=torch.float64)
        self.bases[f].accumulate(out, self.task.frame.scale(points), [(torch.ones((), dtype=torch.float64), orders)])
        return (out.numpy() * self.task.frame.factor(orders)) @ self.back[f]

    def _orthonormalise(self):
        cache: dict[int, np.ndarray] = {}
        self.back = [np.eye(b.size) for b in self.bases]
        zero = (0,) * len(self.columns)
        for f, basis in enumerate(self.bases):
            if id(basis) not in cache:
                values = self._design(f, self.grid.points, zero) * self.root[:, None]
                r = np.linalg.qr(values, mode="r")
                cache[id(basis)] = scipy.linalg.solve_triangular(r, np.eye(len(r)))
            self.back[f] = cache[id(basis)]
        self._designs: dict = {}

    def design(self, f, orders):
        """The same at the quadrature points, kept."""
        key = (id(self.bases[f]), orders)
        if key not in self._designs:
            self._designs[key] = self._design(f, self.grid.points, orders)
        return self._designs[key]

    # -- conditions ----------------------------------------------------------------------------------------------

    def _constrain(self, ends):
        """Per group of coupled fields: R w = g(t); Z spans the null space, `lift` maps g to its complement."""
        offsets = np.cumsum([0, *(b.size for b in self.bases)])
        self.pieces = [slice(*pair) for pair in itertools.pairwise(offsets)]  # of each field among all functions
        rows, data = [], []
        for part in self.form.boundaries:
            places = ends(part)
            row = np.zeros((len(places), offsets[-1]))
            residual = Residual(part, self.columns, (), self.task.problem.bounds)
            nothing = [torch.zeros(len(places), dtype=torch.float64) for _ in part.atoms]
            slopes = residual.slopes(places, nothing, [])
            for atom, slope in zip(part.atoms, slopes, strict=True):
                f = self.task.field_index(atom)
                values = self._design(f, residual.place(places, atom), atom.orders)
                row[:, offsets[f] : offsets[f + 1]] += slope.expand(len(places)).numpy()[:, None] * values
            rows.append(row)
            data.append((part, places))
        self.data = data
        if not rows:
            self.null, self.lift, self.row_scale = None, None, None
            return
        matrix = np.concatenate(rows)
        self.row_scale = np.linalg.norm(matrix, axis=1)
        self.row_scale[self.row_scale == 0] = 1.0
        u, s, vt = np.linalg.svd(matrix / self.row_scale[:, None], full_matrices=True)
        rank = int((s > CONSTRAINT_CUT * s[0]).sum())
        self.lift = vt[:rank].T / s[:rank] @ u[:, :rank].T  # [total, rows]
        self.projector = vt[rank:].T @ vt[rank:]  # onto the null space, [total, total]
        self.null = vt[rank:].T
        self._data_functions = [self._lower_data(part) for part, _ in data]

    def boundary_data(self, t: float, order: int) -> np.ndarray:
        """d^order g / dt^order, scaled as the rows, `[rows]`."""
        values = []
        for (_, places), (function, moving) in zip(self.data, self._data_functions, strict=True):
            if order and not moving:
                values.append(np.zeros(len(places)))
                continue
            columns = list(places.unbind(1))
            columns[self.time] = torch.full_like(columns[0], t)
            values.append(function(columns)[order].expand(len(places)).numpy())
        return np.concatenate(values) / self.row_scale

    @property
    def moving_data(self) -> bool:
        return self.null is not None and any(moving for _, moving in self._data_functions)

    # -- equations -----------------------------------------------------------------------------------------------

    def _residuals(self):
        problem = self.task.problem
        self.residuals = [
            Residual(part, self.columns, (), problem.bounds, f"equation of {f.func.__name__}")
            for part, f in zip(self.form.equations, problem.fields, strict=True)
        ]
        self.mass = self._mass()
        self.atom_designs = []
        for residual in self.residuals:
            entries = []
            for atom in residual.part.atoms:
                f = self.task.field_index(atom)
                entries.append(
                    (self.find[f, atom.orders[self.time]], self.design(f, space_orders(atom.orders, self.time)))
                )
            self.atom_designs.append(entries)
        self.tests = [
            self.design(f, (0,) * len(self.columns)) * self.grid.weights[:, None] for f in range(len(problem.fields))
        ]

    def _mass(self):
        """M, `[size, size]`, or None when it is the identity."""
        mass = np.eye(self.size)
        plain = True
        weights = self.grid.weights
        for f, leads in enumerate(self.form.leads):
            row = self._last(f)
            if len(leads) == 1 and leads[0][0] == f and not any(leads[0][1]) and leads[0][2] == 1:
                continue
            plain = False
            block = np.zeros((self.bases[f].size, self.size))
            test = self.design(f, (0,) * len(self.columns)) * weights[:, None]
            for g, orders, coefficient in leads:
                values = lower([coefficient], self.columns)(list(self.grid.points.unbind(1)))[0]
                block[:, self._last(g).span] += test.T @ (
                    values.expand(len(weights)).numpy()[:, None] * self.design(g, orders)
                )
            mass[row.span] = self._project(block, f)
            if leads:
                mass[row.span] += self._complement(f, [g for g, _, _ in leads])
            elif self.null is not None:
                pass  # an algebraic field: its constraint rows are algebraic too
        return None if plain else mass

    def _project(self, block, f):
        """Rows of equation f kept in the null space of the boundary rows of field f."""
        if self.null is None:
            return block
        p = self.projector[self.pieces[f], self.pieces[f]]
        return p @ block

    def _complement(self, f, leads):
        row = np.zeros((self.bases[f].size, self.size))
        if self.null is not None:
            p = self.projector[self.pieces[f], self.pieces[f]]
            row[:, self._last(f).span] += np.eye(len(p)) - p
        return row

    def _evaluate(self, times, states):
        k = len(times)
        q = len(self.grid.weights)
        points = self.grid.points.repeat(k, 1)
        points[:, self.time] = torch.as_tensor(np.repeat(times, q))
        raw = []
        for f, residual in enumerate(self.residuals):
            atoms = [torch.as_tensor((states[:, s.span] @ d.T).reshape(-1)) for s, d in self.atom_designs[f]]
            values = residual.value(points, atoms, []).numpy().reshape(k, q)
            raw.append(-values @ self.tests[f])  # [k, N_f]
        result = self._bind(np.concatenate(raw, axis=1), states)
        if self.moving_data or any(order == 0 for order in self.form.orders):
            for i, t in enumerate(times):
                self._add_data(result[i], t)
        return result

    def right_side(self, times: np.ndarray, states: np.ndarray) -> np.ndarray:
        """F at k times and states: `[k, size]`.

        A constant Jacobian is used before its rows are projected: the product is small where the solution is smooth
        and its projection exact to rounding, whereas the rounding of large projected entries would let the state drift
        off the conditions.
        """
        if not self.constant:
            return self._evaluate(times, states)
        return self._bind(states @ self._raw_slope.T, states) + self.drive(times)

    @cached_property
    def _raw_slope(self):
        return self._slopes(self.start, np.zeros(self.size))

    def _bind(self, raw, states):
        """F without the data from the projections on all functions, `[k, sum of N_f]`: rows kept in the null space."""
        result = np.zeros((len(states), self.size))
        for state in self.states:
            above = self.find.get((state.field, state.order + 1))
            if above is not None:
                result[:, state.span] = states[:, above.span]
        if self.null is not None:
            raw = raw @ self.projector
        for f, piece in enumerate(self.pieces):
            span = self._last(f).span
            result[:, span] = raw[:, piece]
            if self.null is not None and self.form.orders[f] == 0:
                own = states[:, span]
                result[:, span] -= own - own @ self.projector[piece, piece]
        return result

    def _add_data(self, row, t):
        """What drives the complement of the null space: the derivative of the data; the data itself when algebraic."""
        if self.null is None:
            return
        lifted = {order: self.lift @ self.boundary_data(t, order) for order in set(self.form.orders)}
        for f, order in enumerate(self.form.orders):
            row[self._last(f).span] += lifted[order][self.pieces[f]]

    def _slopes(self, t, state):
        """Derivative of the projections on all functions by the state: `[sum of N_f, size]`."""
        points = self.grid.points.clone()
        points[:, self.time] = t
        raw = np.zeros((self.pieces[-1].stop, self.size))
        for f, residual in enumerate(self.residuals):
            atoms = [torch.as_tensor(d @ state[s.span]) for s, d in self.atom_designs[f]]
            slopes = residual.slopes(points, atoms, [])
            by_state: dict[tuple, np.ndarray] = {}
            for (s, d), slope in zip(self.atom_designs[f], slopes, strict=True):
                value = slope.numpy()
                term = d * (value[:, None] if value.ndim else value)
                key = (s.field, s.order)
                by_state[key] = by_state[key] + term if key in by_state else term
            for key, term in by_state.items():
                raw[self.pieces[f], self.find[key].span] -= self.tests[f].T @ term
        return raw

    def _linearise(self, t, state):
        raw = self._raw_slope if self.constant else self._slopes(t, state)
        return self._bind(raw.T, np.eye(self.size)).T

    def initial_state(self) -> np.ndarray:
        """The projection of the initial data, meeting the boundary data; algebraic fields start at zero."""
        state = np.zeros(self.size)
        values = {(f, k): self.tests[f].T @ data for f, k, data in initial_data(self.task, self.form, self.grid.points)}
        for k in range(max(max(self.form.orders), 1)):
            if self.null is None:
                for s in self.states:
                    if s.order == k and (s.field, k) in values:
                        state[s.span] = values[s.field, k]
                continue
            together = np.zeros(self.pieces[-1].stop)
            for f in range(len(self.bases)):
                if (f, k) in values:
                    together[self.pieces[f]] = values[f, k]
            together = self.projector @ together + self.lift @ self.boundary_data(self.start, k)
            for s in self.states:
                if s.order == k and (s.field, k) in values:
                    state[s.span] = together[self.pieces[s.field]]
        return self._consistent(state)

    def _consistent(self, state):
        """Newton for the algebraic fields at the initial time."""
        spans = [self._last(f).span for f, order in enumerate(self.form.orders) if order == 0]
        if not spans:
            return state
        index = np.concatenate([np.arange(s.start, s.stop) for s in spans])
        for _ in range(30):
            value = self.right_side(np.array([self.start]), state[None])[0][index]
            slope = self.jacobian(self.start, state)[np.ix_(index, index)]
            change = np.linalg.lstsq(slope, -value, rcond=1e-14)[0]
            state[index] += change
            if np.linalg.norm(change) <= 1e-13 * max(np.linalg.norm(state[index]), 1e-300):
                break
        return state

    def nominal_seconds(self, counts: dict) -> float:
        """Time of an integration on two cores, from its counts of operations; within a factor of 2."""
        size, places = self.size, len(self.grid.weights)
        factorise = 6 * size**3 / 8e9  # one real and two complex LU decompositions
        jacobian = 2 * places * size**2 / 8e9 + 1e-3
        iterate = 1e-3 + 10 * size**2 / 2e9 + 20 * places * size / 2e9
        return counts["factorisations"] * factorise + counts["jacobians"] * jacobian + counts["iterations"] * iterate

    def to_features(self, f: int, weights: np.ndarray) -> np.ndarray:
        """`[..., N]`: from the orthonormal functions back to the features."""
        return weights @ self.back[f].T

    @cached_property
    def gram(self) -> np.ndarray:
        """Of the L2 inner product of states."""
        return np.eye(self.size)
