"""Evolution problems in the plane and above on tensor products of splines, with sparse matrices.

The same M y' = F(t, y) as `semidiscrete.py` for bases that are too large for dense ones. Equations are projected on the
splines that vanish at the faces; the others' rows hold the boundary conditions, imposed at the places where those
splines peak (Greville points). M is singular in these rows: they are algebraic, which the integrator allows.

Source: Johnson, Higher order B-spline collocation at the Greville abscissae, Appl. Numer. Math. 52 (2005).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sparse
import torch

from pinnflow.compiler.lowering import lower
from pinnflow.compiler.residual import Residual
from pinnflow.declare.analysis import Part
from pinnflow.methods.base import Task
from pinnflow.methods.form import Form, space_orders
from pinnflow.methods.radau import factor
from pinnflow.methods.spline_products import Assembly, Sheet
from pinnflow.methods.system import System, initial_data, tensor_grid


class SparseSystem(System):
    """M y' = F(t, y) on one sheet for all fields.

    Args:
        task: the problem.
        form: its evolution form; every field depends on all space columns.
        sheet: the splines.
    """

    def __init__(self, task: Task, form: Form, sheet: Sheet):
        self.sheet, self.assembly = sheet, Assembly(sheet, task.frame.factor)
        super().__init__(task, form, (sheet.basis(),) * len(task.problem.fields), tensor_grid(task, sheet.nodes))
        self._residuals()
        self._constrain_faces()
        keep = np.ones(self.size)
        keep[self.fixed] = 0.0
        self.free = sparse.diags(keep)
        self.mass = (self.free @ self.mass).tocsc()

    def _residuals(self):
        problem = self.task.problem
        self.residuals = [
            Residual(part, self.columns, (), problem.bounds, f"equation of {f.func.__name__}")
            for part, f in zip(self.form.equations, problem.fields, strict=True)
        ]
        self.atom_places = [
            [
                (self.find[self.task.field_index(a), a.orders[self.time]], space_orders(a.orders, self.time))
                for a in residual.part.atoms
            ]
            for residual in self.residuals
        ]
        self.mass = self._mass()

    def _mass(self):
        rows = [[None] * len(self.states) for _ in self.states]
        identity = sparse.identity(self.bases[0].size)
        for i, state in enumerate(self.states):
            if state is not self._last(state.field):
                rows[i][i] = identity
                continue
            rows[i][i] = sparse.csr_matrix(identity.shape)
            for g, orders, coefficient in self.form.leads[state.field]:
                values = lower([coefficient], self.columns)(list(self.grid.points.unbind(1)))[0]
                block = self.assembly.matrix([(values.numpy(), orders)])
                j = self.states.index(self._last(g))
                rows[i][j] = block if rows[i][j] is None else rows[i][j] + block
        return sparse.bmat(rows, format="csr")

    # -- faces ---------------------------------------------------------------------------------------------------

    def _constrain_faces(self):
        """Which rows hold boundary conditions: `fixed` (rows), `rows` R `[fixed, N fields]`, and the data."""
        counts = np.array(self.sheet.counts)
        number = np.arange(counts.prod()).reshape(counts)
        used: dict[tuple, int] = {}
        taken: set[int] = set()
        fixed, rows, self.data = [], [], []
        for part in self.form.boundaries:
            f = self.task.field_index(part.atoms[0])
            pinned = [(i, float(part.pins[c])) for i, c in enumerate(self.columns) if c in part.pins and i != self.time]
            axis, place = pinned[0]
            low, high = self.task.bounds[axis]
            at_low = abs(place - low) < abs(place - high)
            slot = used.get((f, axis, at_low), 0)
            used[f, axis, at_low] = slot + 1
            numbers = np.take(number, slot if at_low else counts[axis] - 1 - slot, axis=axis).ravel()
            span = self._last(f).span
            mine = [k for k, n in enumerate(numbers) if span.start + n not in taken]
            taken |= {span.start + numbers[k] for k in mine}
            fixed.append(span.start + numbers[mine])
            points = self._face_points(axis, place)[mine]
            rows.append(self._face_rows(part, points, axis, mine))
            self.data.append((part, points))
        self.fixed = np.concatenate(fixed) if fixed else np.zeros(0, dtype=int)
        self.rows = sparse.vstack(rows).tocsr() if rows else None
        self._data_functions = [self._lower_data(part) for part, _ in self.data]

    def _face_places(self, axis, place):
        """Per column the scaled places of a face: the peaks along the free columns."""
        frame = self.task.frame
        result = []
        for i in range(len(self.columns)):
            if i == axis:
                result.append(np.array([(place - float(frame.center[i])) / float(frame.half[i])]))
            else:
                result.append(self.sheet.peaks(i))
        return result

    def _face_points(self, axis, place):
        places = self._face_places(axis, place)
        grid = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, len(places))
        return torch.as_tensor(grid) * self.task.frame.half + self.task.frame.center

    def _face_rows(self, part: Part, points, axis, mine):
        residual = Residual(part, self.columns, (), self.task.problem.bounds)
        nothing = [torch.zeros(len(points), dtype=torch.float64) for _ in part.atoms]
        slopes = residual.slopes(points, nothing, [])
        blocks = [sparse.csr_matrix((len(points), self.bases[0].size)) for _ in self.bases]
        for atom, slope in zip(part.atoms, slopes, strict=True):
            pins = dict(atom.pins)
            places = self._face_places(axis, float(pins[self.columns[axis]]))
            values = self.sheet.at(places, atom.orders).tocsr()[mine] * self.task.frame.factor(atom.orders)
            f = self.task.field_index(atom)
            blocks[f] = blocks[f] + sparse.diags(slope.expand(len(points)).numpy()) @ values
        return sparse.hstack(blocks)

    def _level(self, state):
        """`[N fields]`: of every field its highest state."""
        return np.concatenate([state[..., self._last(f).span] for f in range(len(self.bases))], axis=-1)

    def _data_at(self, t, order=None):
        """The data of the conditions, differentiated `order` times, or as often as the state they bind."""
        values = []
        for (part, places), (function, _) in zip(self.data, self._data_functions, strict=True):
            own = max(self.form.orders[self.task.field_index(part.atoms[0])], 1) - 1
            columns = list(places.unbind(1))
            columns[self.time] = torch.full_like(columns[0], t)
            values.append(function(columns)[own if order is None else order].expand(len(places)).numpy())
        return np.concatenate(values)

    # -- the system ----------------------------------------------------------------------------------------------

    def _evaluate(self, times, states):
        k, q = len(times), len(self.grid.weights)
        points = self.grid.points.repeat(k, 1)
        points[:, self.time] = torch.as_tensor(np.repeat(times, q))
        result = np.zeros((k, self.size))
        for state in self.states:
            above = self.find.get((state.field, state.order + 1))
            if above is not None:
                result[:, state.span] = states[:, above.span]
        for f, residual in enumerate(self.residuals):
            atoms = [
                torch.as_tensor(self.assembly.values(states[:, s.span], orders).reshape(-1))
                for s, orders in self.atom_places[f]
            ]
            values = residual.value(points, atoms, []).numpy().reshape(k, q)
            result[:, self._last(f).span] = -self.assembly.projections(values)
        if len(self.fixed):
            bound = (self.rows @ self._level(states).T).T
            for i, t in enumerate(times):
                result[i, self.fixed] = self._data_at(t) - bound[i]
        return result

    @cached_property
    def gram(self):
        """Of the L2 inner product of states."""
        return sparse.block_diag([self.assembly.matrix([(1.0, (0,) * len(self.columns))])] * len(self.states)).tocsr()

    def _linearise(self, t, state):
        points = self.grid.points.clone()
        points[:, self.time] = t
        blocks = [[None] * len(self.states) for _ in self.states]
        place = {id(s): i for i, s in enumerate(self.states)}
        identity = sparse.identity(self.bases[0].size)
        for s in self.states:
            blocks[place[id(s)]][place[id(s)]] = sparse.csr_matrix(identity.shape)
            above = self.find.get((s.field, s.order + 1))
            if above is not None:
                blocks[place[id(s)]][place[id(above)]] = identity
        for f, residual in enumerate(self.residuals):
            atoms = [
                torch.as_tensor(self.assembly.values(state[None, s.span], orders).reshape(-1))
                for s, orders in self.atom_places[f]
            ]
            sums: dict[int, list] = {}
            for (s, orders), slope in zip(self.atom_places[f], residual.slopes(points, atoms, []), strict=True):
                sums.setdefault(place[id(s)], []).append((slope.numpy(), orders))
            row = place[id(self._last(f))]
            for column, terms in sums.items():
                block = -self.assembly.matrix(terms)
                blocks[row][column] = block if blocks[row][column] is None else blocks[row][column] + block
        matrix = self.free @ sparse.bmat(blocks, format="csr")
        if len(self.fixed):
            columns = np.concatenate(
                [np.arange(s.start, s.stop) for s in (self._last(f).span for f in range(len(self.bases)))]
            )
            select = sparse.csr_matrix(
                (np.ones(len(columns)), (np.arange(len(columns)), columns)), (len(columns), self.size)
            )
            spread = sparse.csr_matrix(
                (np.ones(len(self.fixed)), (self.fixed, np.arange(len(self.fixed)))), (self.size, len(self.fixed))
            )
            matrix = matrix - spread @ self.rows @ select
        return matrix.tocsc()

    def initial_state(self):
        """The projection of the initial data with the conditions in their rows; algebraic fields start at zero."""
        n = self.bases[0].size
        state = np.zeros(self.size)
        plain = self.gram[:n, :n]
        for f, k, data in initial_data(self.task, self.form, self.grid.points):
            right = self.assembly.projections(data[None])[0]
            span = self._last(f).span
            local = [i for i, row in enumerate(self.fixed) if span.start <= row < span.stop]
            rows = self.fixed[local] - span.start
            if len(local):
                keep = np.ones(n)
                keep[rows] = 0.0
                own = self.rows[local][:, f * n : (f + 1) * n]
                spread = sparse.csr_matrix((np.ones(len(rows)), (rows, np.arange(len(rows)))), (n, len(rows)))
                matrix = sparse.diags(keep) @ plain + spread @ own
                right = right * keep
                right[rows] = self._data_at(self.start, k)[local]
            else:
                matrix = plain
            state[self.find[f, k].span] = factor(matrix).solve(right)
        return self._consistent(state)

    def _consistent(self, state):
        spans = [self._last(f).span for f, order in enumerate(self.form.orders) if order == 0]
        if not spans:
            return state
        index = np.concatenate([np.arange(s.start, s.stop) for s in spans])
        for _ in range(30):
            value = self.right_side(np.array([self.start]), state[None])[0][index]
            slope = self.jacobian(self.start, state)[index][:, index].tocsc()
            change = factor(slope).solve(-value)
            state[index] += change
            if np.linalg.norm(change) <= 1e-12 * max(np.linalg.norm(state[index]), 1e-300):
                break
        return state

    def nominal_seconds(self, counts):
        """The same for sparse matrices: their factors fill with about the power 1.4 of the size."""
        size, places = self.size, len(self.grid.weights)
        factorise = 5e-6 * size**1.4
        jacobian = 2e-6 * places
        iterate = 3e-6 * size + 4e-7 * places
        return counts["factorisations"] * factorise + counts["jacobians"] * jacobian + counts["iterations"] * iterate

    def to_features(self, f, weights):
        """The state's weights are the features' weights."""
        return weights
