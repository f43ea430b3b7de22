r"""Products of splines in a box of three axes and more, in the basis that makes a Laplacian diagonal.

Along each axis and for each field, the splines that meet the homogeneous conditions at both ends are combined into
eigenfunctions e of $-e'' = \lambda e$ (fast diagonalisation). Their products span the space in which the equations are
projected; what is given on the faces is carried by a fixed function added to them. Values at all quadrature points, and
projections, cost one small matrix product per axis; a system with coefficients that vary is solved by GMRES with the
diagonal of a mean Laplacian as preconditioner, so no matrix of the system is ever formed.

Sources: Lynch, Rice & Thomas, Direct solution of partial difference equations by tensor product methods, Numer. Math. 6
(1964); Sangalli & Tani, Isogeometric preconditioners based on fast solvers for the Sylvester equation, SIAM J. Sci.
Comput. 38 (2016).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
import sympy
import torch
from scipy.sparse.linalg import LinearOperator, gmres

from pinnflow.compiler.lowering import lower
from pinnflow.methods.base import Task, Term
from pinnflow.methods.placement import Sample, products, quadrature
from pinnflow.methods.rows import row_terms
from pinnflow.methods.spline_products import composite_gauss
from pinnflow.trial.expansion import FeatureTrial
from pinnflow.trial.features import Spline

SEARCH = 60  # directions of GMRES before it starts again
RESTARTS = 4


@dataclass(frozen=True)
class Face:
    """value * u + slope * du/dx_axis = data on one face of the box, slopes in problem units.

    Attributes:
        field, axis: indices.
        high: whether it is the face at the high end of the axis.
        value, slope: the two coefficients, numbers.
        term: the condition.
    """

    field: int
    axis: int
    high: bool
    value: float
    slope: float
    term: Term


def read_faces(task: Task) -> list[Face] | str:
    """The conditions, if each field has one with constant coefficients on every face; else what stands in the way."""
    faces: dict[tuple[int, int, bool], Face] = {}
    for term in row_terms(task):
        if term.block.kind == "equation":
            continue
        face = _read_face(task, term)
        if face is None:
            return f"`{term.block.statement}` is no condition with constant coefficients on a whole face"
        if (face.field, face.axis, face.high) in faces:
            return f"there are two conditions on the face of `{term.block.statement}`"
        faces[face.field, face.axis, face.high] = face
    for f, axis, high in itertools.product(range(len(task.problem.fields)), range(task.dimension), (False, True)):
        if not task.periodic[axis] and (f, axis, high) not in faces:
            end = task.bounds[axis][int(high)]
            name, column = task.problem.fields[f].func.__name__, task.problem.columns[axis]
            return f"`{name}` has no condition where {column} = {end:g}"
    return list(faces.values())


def _read_face(task, term):
    part = term.part
    if len(part.pins) != 1 or term.block.kind != "boundary":
        return None
    ((column, place),) = part.pins.items()
    axis = task.problem.columns.index(column)
    low, high = task.bounds[axis]
    if float(place) not in (low, high) or len({a.field for a in part.atoms}) != 1:
        return None
    coefficients = [0.0, 0.0]
    for atom in part.atoms:
        slope = sympy.diff(part.expression, atom.symbol)
        across = [o for i, o in enumerate(atom.orders) if i != axis]
        own = dict(atom.pins).get(column, place)
        if slope.free_symbols or any(across) or atom.orders[axis] > 1 or own != place:
            return None
        coefficients[atom.orders[axis]] += float(slope)
    if not any(coefficients):
        return None
    return Face(task.field_index(part.atoms[0]), axis, float(place) == high, *coefficients, term)


@dataclass(frozen=True, eq=False)
class Line:
    """One axis of one field.

    Attributes:
        spline: along the axis.
        vectors: `[n, m]`: eigenfunctions as weights of the splines, orthonormal in L2 of the scaled axis.
        values: `[m]`: their eigenvalues of -d^2/d xi^2.
        ends: `[2, n]`: the conditions' rows at the low and the high end; None along a periodic axis.
        lifts: `[n, 2]`: a function with the value 1 under one end's condition and 0 under the other's.
    """

    spline: Spline
    vectors: np.ndarray
    values: np.ndarray
    ends: np.ndarray | None
    lifts: np.ndarray | None


def make_line(spline: Spline, conditions: Sequence[tuple[float, float]] | None) -> Line:
    """The eigenfunctions along an axis.

    Args:
        spline: along the axis.
        conditions: (value, slope on the scaled axis) at the low and at the high end; None along a periodic axis.
    """
    places, weights = composite_gauss(spline.knots, spline.degree + 1)
    zeroth, _, second = (t.numpy() for t in spline.table(torch.as_tensor(places), spline.count, 2))
    mass, stiffness = zeroth.T @ (weights[:, None] * zeroth), -zeroth.T @ (weights[:, None] * second)
    basis, ends, lifts = np.eye(spline.count), None, None
    if conditions is not None:
        at_ends = [t.numpy() for t in spline.table(torch.tensor([-1.0, 1.0], dtype=torch.float64), spline.count, 1)]
        ends = np.stack([v * at_ends[0][i] + s * at_ends[1][i] for i, (v, s) in enumerate(conditions)])
        basis, lifts = scipy.linalg.null_space(ends), np.linalg.pinv(ends)
    reduced = basis.T @ stiffness @ basis
    values, vectors = scipy.linalg.eigh((reduced + reduced.T) / 2, basis.T @ mass @ basis)
    return Line(spline, basis @ vectors, values, ends, lifts)


def along(table: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    """A matrix `[a, b]` applied along an axis of length b, by one product of matrices per slice before that axis."""
    before, after = values.shape[:axis], values.shape[axis + 1 :]
    if axis == values.ndim - 1:
        return (values.reshape(-1, values.shape[-1]) @ table.T).reshape(*before, len(table))
    stacked = values.reshape(*before, values.shape[axis], -1)
    return np.matmul(table, stacked).reshape(*before, len(table), *after)


class Brick:
    """The equations of a problem projected on one tensor product of splines per field.

    Unknowns are the weights of the products of eigenfunctions, all fields one after the other.

    Args:
        task: the problem; every field depends on all columns, and `read_faces` found its conditions.
        faces: its conditions.
        splines: per axis.
    """

    def __init__(self, task: Task, faces: list[Face], splines: Sequence[Spline]):
        self.task, self.faces, self.splines = task, faces, tuple(splines)
        frame, fields = task.frame, range(len(task.problem.fields))
        self.dimension = task.dimension
        self.half = frame.half.numpy()
        by_place = {(face.field, face.axis, face.high): face for face in faces}
        self.lines = []
        for f in fields:
            lines = []
            for axis, spline in enumerate(splines):
                ends = None
                if not task.periodic[axis]:
                    both = [by_place[f, axis, high] for high in (False, True)]
                    ends = [(face.value, face.slope / self.half[axis]) for face in both]
                lines.append(make_line(spline, ends))
            self.lines.append(lines)
        nodes = [quadrature(spline) for spline in splines]
        self.nodes, self.weights = [places for places, _ in nodes], [weights for _, weights in nodes]
        self.shapes = [tuple(len(line.values) for line in lines) for lines in self.lines]
        self.starts = np.cumsum([0, *(int(np.prod(shape)) for shape in self.shapes)])
        self.size = int(self.starts[-1])
        grid = np.stack(np.meshgrid(*self.nodes, indexing="ij"), -1).reshape(-1, self.dimension)
        self.points = torch.as_tensor(grid) * frame.half + frame.center
        self.terms = [term for term in row_terms(task) if term.block.kind == "equation"]
        self._tables: dict = {}
        self.products = 0  # with the Jacobian
        self.lifted = [self._lift(f) for f in fields]  # weights of the splines

    # -- functions -----------------------------------------------------------------------------------------------

    def table(self, f: int | None, axis: int, order: int) -> np.ndarray:
        """`[q, m]`: the eigenfunctions of a field at the quadrature places (the splines for None), problem units."""
        key = (f, axis, order)
        if key not in self._tables:
            spline = self.splines[axis]
            plain = spline.table(torch.as_tensor(self.nodes[axis]), spline.count, order)[order].numpy()
            plain = plain / self.half[axis] ** order
            self._tables[key] = plain if f is None else plain @ self.lines[f][axis].vectors
        return self._tables[key]

    def values(self, f: int | None, weights: np.ndarray, wanted: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """Derivatives at all quadrature points, each `[q_1 ... q_D]`; partial products are shared."""
        known = {(): weights}
        for orders in wanted:
            for axis in range(self.dimension):
                key = orders[: axis + 1]
                if key not in known:
                    known[key] = along(self.table(f, axis, orders[axis]), known[key[:-1]], axis)
        return [known[tuple(orders)] for orders in wanted]

    def project(self, f: int, values: np.ndarray) -> np.ndarray:
        """`[m_1 ... m_D]`: integrals with every product of eigenfunctions of a field, over the scaled box."""
        for axis in range(self.dimension):
            values = along(self._tests[f][axis], values, axis)
        return values

    @cached_property
    def _tests(self):
        """Per field and axis `[m, q]`: weights of the quadrature times eigenfunctions."""
        axes = range(self.dimension)
        return [
            [(self.table(f, axis, 0) * self.weights[axis][:, None]).T for axis in axes] for f in range(len(self.lines))
        ]

    def split(self, state: np.ndarray) -> list[np.ndarray]:
        """Per field the weights `[m_1 ... m_D]`."""
        pieces = [state[a:b] for a, b in itertools.pairwise(self.starts)]
        return [piece.reshape(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def to_splines(self, state: np.ndarray) -> list[np.ndarray]:
        """Per field the weights of the splines, with what the faces ask for."""
        result = []
        for lines, lifted, weights in zip(self.lines, self.lifted, self.split(state), strict=True):
            for axis, line in enumerate(lines):
                weights = along(line.vectors, weights, axis)
            result.append(lifted + weights)
        return result

    def trial(self, state: np.ndarray) -> FeatureTrial:
        """The fitted function."""
        weights = np.concatenate([w.ravel() for w in self.to_splines(state)])
        return FeatureTrial(products(self.task, self.splines), torch.as_tensor(weights))

    def nearest(self, sample: Sample) -> np.ndarray:
        """The state whose fields come nearest to those of a function on tensor grids."""
        zero = (0,) * self.dimension
        state = []
        for f in range(len(self.lines)):
            (lifted,) = self.values(None, self.lifted[f], [zero])
            rest = sample(self.nodes, f, [zero])[0] - lifted
            for axis in range(self.dimension):
                rest = along(np.linalg.pinv(self.table(f, axis, 0)), rest, axis)
            state.append(rest.ravel())
        return np.concatenate(state)

    def on_grid(
        self, weights: np.ndarray, places: list[np.ndarray], wanted: Sequence[tuple[int, ...]]
    ) -> list[np.ndarray]:
        """Derivatives of a function on splines at a tensor grid of scaled places, problem units."""
        highest = [max(orders[axis] for orders in wanted) for axis in range(self.dimension)]
        tables = [
            [t.numpy() for t in spline.table(torch.as_tensor(p), spline.count, order)]
            for spline, p, order in zip(self.splines, places, highest, strict=True)
        ]
        result = []
        for orders in wanted:
            values = weights
            for axis, order in enumerate(orders):
                values = along(tables[axis][order] / self.half[axis] ** order, values, axis)
            result.append(values)
        return result

    def words(self) -> str:
        """`24 x 24 x 18 splines`."""
        return " x ".join(str(spline.count) for spline in self.splines) + " splines"

    def nominal_seconds(self) -> float:
        """Time of what was done on two cores, from the operations; within a factor of 3."""
        places = float(np.prod([len(n) for n in self.nodes]))
        width = max(spline.count for spline in self.splines)
        each = sum(len(wanted) for wanted in self._wanted) + len(self.terms)
        return self.products * (2 * 1.5 * width + 10) * each * places / 1.5e10

    # -- faces ---------------------------------------------------------------------------------------------------

    def _lift(self, f):
        """Weights of the splines of a function that meets the conditions of a field."""
        total = np.zeros([s.count for s in self.splines])
        for face in sorted((face for face in self.faces if face.field == f), key=lambda face: face.axis):
            line = self.lines[f][face.axis]
            others = [axis for axis in range(self.dimension) if axis != face.axis]
            at_end = np.tensordot(line.ends[int(face.high)], total, axes=(0, face.axis))
            missing = self._face_data(face, others) - at_end
            total += np.moveaxis(np.multiply.outer(line.lifts[:, int(face.high)], missing), 0, face.axis)
        return total

    def _face_data(self, face, others):
        """Weights of the splines on a face for the data of its condition."""
        part = face.term.part
        given = -part.expression.subs({atom.symbol: 0 for atom in part.atoms})
        places = [face_places(self.splines[axis]) for axis in others]
        shape = [len(p) for p in places]
        grid = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, len(others))
        scaled = np.empty((len(grid), self.dimension))
        scaled[:, others], scaled[:, face.axis] = grid, 1.0 if face.high else -1.0
        points = torch.as_tensor(scaled) * self.task.frame.half + self.task.frame.center
        (data,) = lower([given], self.task.problem.columns)(list(points.unbind(1)))
        data = data.expand(len(points)).numpy().reshape(shape)
        for i, axis in enumerate(others):
            spline = self.splines[axis]
            plain = spline.table(torch.as_tensor(places[i]), spline.count, 0)[0].numpy()
            data = along(np.linalg.pinv(plain), data, i)
        return data

    # -- equations -----------------------------------------------------------------------------------------------

    def _atoms(self, term):
        return [(self.task.field_index(a), tuple(a.orders)) for a in term.part.atoms]

    @cached_property
    def _wanted(self):
        """Per field the derivatives that any equation contains."""
        found: list[dict] = [{} for _ in self.lines]
        for term in self.terms:
            for f, orders in self._atoms(term):
                found[f][orders] = None
        return [list(orders) for orders in found]

    def residual(self, state: np.ndarray) -> np.ndarray:
        """The projected equations, and what they are linearised about: `slopes` are kept for `derivative`."""
        at: dict = {}
        for f, weights in enumerate(self.to_splines(state)):
            for orders, values in zip(self._wanted[f], self.values(None, weights, self._wanted[f]), strict=True):
                at[f, orders] = torch.as_tensor(np.ascontiguousarray(values).reshape(-1))
        result, self.slopes = [], []
        shape = [len(n) for n in self.nodes]
        for i, term in enumerate(self.terms):
            atoms = [at[key] for key in self._atoms(term)]
            self.slopes.append([s.numpy() for s in term.residual.slopes(self.points, atoms, [])])
            values = term.residual.value(self.points, atoms, []).expand(len(self.points)).numpy()
            result.append(self.project(self.owners[i], values.reshape(shape)).ravel())
        return np.concatenate([result[self.equation_of[f]] for f in range(len(self.lines))])

    def derivative(self, change: np.ndarray) -> np.ndarray:
        """The derivative of `residual` where it was last taken, along a change of the state."""
        at: dict = {}
        for f, weights in enumerate(self.split(change)):
            for orders, values in zip(self._wanted[f], self.values(f, weights, self._wanted[f]), strict=True):
                at[f, orders] = values
        shape = [len(n) for n in self.nodes]
        self.products += 1
        result = []
        for i, term in enumerate(self.terms):
            total = np.zeros(shape)
            for key, slope in zip(self._atoms(term), self.slopes[i], strict=True):
                total += at[key] * (slope.reshape(shape) if slope.ndim else slope)
            result.append(self.project(self.owners[i], total).ravel())
        return np.concatenate([result[self.equation_of[f]] for f in range(len(self.lines))])

    @cached_property
    def owners(self) -> list[int]:
        """Per equation the field it is an equation for."""
        return [self.equation_of.index(i) for i in range(len(self.terms))]

    @cached_property
    def equation_of(self) -> list[int]:
        """Per field its equation: one with second derivatives of the field along every axis."""
        found = pair_up(self.task, self.terms)
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def diagonal(self) -> np.ndarray:
        """Of the equations with their mean coefficients, each for its own field alone; at the last residual."""
        result = []
        for f, lines in enumerate(self.lines):
            i = self.equation_of[f]
            total = np.zeros(self.shapes[f])
            for (g, orders), slope in zip(self._atoms(self.terms[i]), self.slopes[i], strict=True):
                if g != f or max(orders) != sum(orders) or sum(orders) not in (0, 2):
                    continue
                mean = self._mean(slope)
                if not any(orders):
                    total += mean
                    continue
                axis = orders.index(2)
                spread = [1] * self.dimension
                spread[axis] = -1
                total -= (mean * lines[axis].values / self.half[axis] ** 2).reshape(spread)
            # A sum near zero, as the Helmholtz equation has, must not blow a direction up.
            least = 1e-3 * np.median(np.abs(total))
            result.append(np.where(np.abs(total) < least, np.where(total < 0, -least, least), total).ravel())
        return np.concatenate(result)

    def reaction(self) -> float:
        """The largest coefficient of an undifferentiated field in its own equation, at the last residual."""
        found = [0.0]
        for f, i in enumerate(self.equation_of):
            for (g, orders), slope in zip(self._atoms(self.terms[i]), self.slopes[i], strict=True):
                if g == f and not any(orders):
                    found.append(float(np.abs(slope).max()))
        return max(found)

    def _mean(self, slope):
        if not slope.ndim:
            return float(slope)
        values = slope.reshape([len(n) for n in self.nodes])
        for weights in self.weights[::-1]:
            values = values @ (weights / weights.sum())
        return float(values)

    def solve(
        self,
        right: np.ndarray,
        diagonal: np.ndarray,
        tolerance: float,
        should_stop: Callable[[], bool],
        rate: np.ndarray | float = 0.0,
    ) -> tuple[np.ndarray, float]:
        """(x with derivative(x) + rate x = right, relative residual left), by GMRES; never worse than x = 0."""
        diagonal = diagonal + rate

        def product(x):
            return self.derivative(x) + rate * x

        size = np.linalg.norm(right)
        if not size:
            return np.zeros_like(right), 0.0
        best = np.zeros_like(right)
        left = 1.0
        rest = right
        for _ in range(RESTARTS):
            if should_stop():
                break
            operator = LinearOperator((self.size,) * 2, matvec=lambda y: product(y / diagonal), dtype=float)
            step, _ = gmres(operator, rest, rtol=tolerance / left, atol=0.0, restart=SEARCH, maxiter=1)
            candidate = best + step / diagonal
            remaining = right - product(candidate)
            now = float(np.linalg.norm(remaining) / size)
            if not now < left:
                break
            gained, best, left, rest = now / left, candidate, now, remaining
            if left <= 2 * tolerance or gained > 0.5:
                break
        return best, left


def pair_up(task: Task, terms: list[Term]) -> list[int] | str:
    """Per field the index of the equation that has its second derivatives along every axis; or what is missing."""
    fields = range(len(task.problem.fields))
    if len(terms) != len(fields):
        return f"{len(terms)} equations for {len(fields)} fields"
    fits = np.zeros((len(fields), len(terms)), dtype=int)
    for i, term in enumerate(terms):
        if len(term.part.free) != task.dimension:
            return f"`{term.block.statement}` does not hold in the whole box"
        if any(atom.pins or sum(atom.orders) > 2 for atom in term.part.atoms):
            return f"`{term.block.statement}` has derivatives above the second order, or values at other places"
        for f in fields:
            own = {a.orders for a in term.part.atoms if task.field_index(a) == f}
            pure = [tuple(2 * (a == axis) for a in range(task.dimension)) for axis in range(task.dimension)]
            fits[f, i] = all(orders in own for orders in pure)
    for order in itertools.permutations(range(len(terms))):
        if all(fits[f, i] for f, i in enumerate(order)):
            return list(order)
    missing = next((f for f in fields if not fits[f].any()), 0)
    name = task.problem.fields[missing].func.__name__
    return f"no equation has the second derivatives of `{name}` along every axis"


def face_places(spline: Spline) -> np.ndarray:
    """Where data on a face are read along one of its axes: the quadrature places and the ends."""
    places = quadrature(spline)[0]
    return places if spline.periodic else np.concatenate([[-1.0], places, [1.0]])
