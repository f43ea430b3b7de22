"""Rows and scores: residuals of any function at points, their linearised rows in an expansion, and how good a fit is.

Shared by every method that works with features. A *function* here is anything with
`derivatives(points [n, D] tensor, [(field, orders)]) -> [tensor [n]]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from pinnflow.methods.base import Task, Term
from pinnflow.methods.strips import StripRows, splines_of
from pinnflow.trial.expansion import Expansion

VANISHING = 1e-8  # a field smaller than this part of the largest one is taken for zero
DISTANCE_POINTS = 8192  # an error may sit in a corner of the domain that few points meet
SVD_LARGEST = 700  # unknowns; above, the SVD would take most of the time

Function = Callable[[Tensor, Sequence[tuple[int, tuple[int, ...]]]], list[Tensor]]


def zero_function(points: Tensor, wanted) -> list[Tensor]:
    """The function that is zero in every field."""
    return [torch.zeros(len(points), dtype=points.dtype) for _ in wanted]


def as_function(trial) -> Function:
    """A trial as methods use functions: tensors in and out."""
    return lambda points, wanted: [torch.as_tensor(v) for v in trial.derivatives(points.numpy(), wanted)]


def atom_values(task: Task, term: Term, points: Tensor, function: Function) -> list[Tensor]:
    """The atoms of a term, each `[n]`, for `function`; atoms pinned elsewhere are taken there."""
    values: list[Tensor | None] = [None] * len(term.part.atoms)
    for placed, indices in atoms_by_place(term, points):
        wanted = [(task.field_index(term.part.atoms[i]), term.part.atoms[i].orders) for i in indices]
        for i, value in zip(indices, function(placed, wanted), strict=True):
            values[i] = value
    return values


def atoms_by_place(term: Term, points: Tensor) -> list[tuple[Tensor, list[int]]]:
    """[(points with the pinned columns set, indices of the atoms that are taken there)]."""
    groups: dict[tuple, list[int]] = {}
    for i, atom in enumerate(term.part.atoms):
        # A field is taken at the low end of the coordinates it lacks; its neighbours with more of them are not.
        groups.setdefault((atom.pins, frozenset(atom.field.args)), []).append(i)
    return [(term.residual.place(points, term.part.atoms[indices[0]]), indices) for indices in groups.values()]


class Rows:
    """The linearised system: each term's rows divided by their rms norm and by sqrt(points).

    Attributes:
        matrix: `[m, size + 1]`, the right-hand side in the last column.
        scales: per term, what its residuals were divided by.
    """

    def __init__(self, expansion: Expansion, total: int):
        self.expansion, self.filled = expansion, 0
        self.matrix = torch.zeros(total, expansion.size + 1, dtype=torch.float64)
        self.scales: list[float] = []
        self.counts: list[int] = []

    def append(self, groups, target: Tensor) -> float:
        """Rows of one term; returns what they were divided by.

        Args:
            groups: as `Expansion.rows` takes them.
            target: `[n]`, the right-hand sides.
        """
        n, size = len(target), self.expansion.size
        block = self.matrix[self.filled : self.filled + n]
        self.filled += n
        self.counts.append(n)
        self.expansion.rows(groups, block[:, :size])
        block[:, size] = target
        norm = float(torch.linalg.vector_norm(block[:, :size])) / n**0.5
        scale = (norm or 1.0) * n**0.5
        block /= scale
        return scale

    def shift(self, offsets: Sequence[Tensor]) -> None:
        """Add `[n]` per term, divided by its scale, to the right-hand sides."""
        self.matrix[:, -1] += torch.cat(list(offsets))

    def aim(self, targets: Sequence[Tensor]) -> None:
        """Put `[n]` per term, divided by its scale, in the place of the right-hand sides."""
        self.matrix[:, -1] = torch.cat([t.expand(n) for t, n in zip(targets, self.counts, strict=True)])

    def finite(self) -> bool:
        """Whether all entries are numbers."""
        return bool(torch.isfinite(self.matrix).all())

    def solve(self) -> tuple[Tensor, float]:
        """(weights, norm of what is left)."""
        return solve_rows(self.matrix)


def linearise(task: Task, expansion: Expansion, points: list[Tensor], function: Function | None) -> Rows | StripRows:
    """Rows of F'(u) v = F'(u) u - F(u) for the unknown weights of v; `function` is u, None for zero."""
    sparse = splines_of(expansion) is not None
    rows = StripRows(expansion) if sparse else Rows(expansion, sum(len(p) for p in points))
    for term, place in zip(row_terms(task), points, strict=True):
        values = atom_values(task, term, place, function or zero_function)
        slopes = term.residual.slopes(place, values, [])
        target = -observed(term, term.residual.value(place, values, [])).expand(len(place)).clone()
        groups = []
        for placed, indices in atoms_by_place(term, place):
            atoms = [term.part.atoms[i] for i in indices]
            groups.append(
                (placed, [(task.field_index(a), a.orders, slopes[i]) for i, a in zip(indices, atoms, strict=True)])
            )
        for value, slope in zip(values, slopes, strict=True):
            target += slope * value
        rows.scales.append(rows.append(groups, target))
    return rows


def weighted_residual(
    task: Task, points: list[Tensor], scales: list[float], function: Function, offsets: list[Tensor] | None = None
) -> float:
    """Root of the sum of squares of the scaled residuals of `function`; inf where it is not finite."""
    total = 0.0
    for i, (term, place, scale) in enumerate(zip(row_terms(task), points, scales, strict=True)):
        value = observed(term, term.residual.value(place, atom_values(task, term, place, function), []))
        if offsets is not None:
            value = value - offsets[i]
        total += float((value / scale).square().sum())
    return total**0.5 if np.isfinite(total) else float("inf")


def row_terms(task: Task) -> list[Term]:
    """The terms that need rows."""
    return [term for term in task.terms if not term.exact]


def widest_equation(terms: Sequence[Term]) -> Term | None:
    """The first equation with the most free axes: its points fill the domain, where another's lie on a face of it."""
    equations = [term for term in terms if term.block.kind == "equation"]
    return max(equations, key=lambda term: len(term.part.free), default=None)


def solve_rows(matrix: Tensor, cut: float = 1e-13) -> tuple[Tensor, float]:
    """(weights `[size]` that minimise |A w - b|, that minimum), truncated at `cut` times the largest singular value.

    QR of the column-scaled [A b] first; then the SVD of R up to 700 unknowns and pivoted QR above, where the SVD
    would take most of the time. Never the normal equations, which square the condition number.
    """
    size = matrix.shape[1] - 1
    norms = torch.linalg.vector_norm(matrix[:, :size], dim=0)
    norms = torch.where(norms > 0, norms, torch.ones_like(norms))
    matrix[:, :size] /= norms
    if matrix.shape[0] > size + 1:
        triangle = torch.geqrf(matrix)[0][: size + 1].triu().numpy()
    else:
        triangle = matrix.numpy()
    left, right = triangle[:, :size], triangle[:, size]
    if not np.isfinite(triangle).all():
        return torch.full((size,), float("nan"), dtype=torch.float64), float("inf")
    if size <= SVD_LARGEST:
        u, s, vt = scipy.linalg.svd(left, full_matrices=False, lapack_driver="gesdd", check_finite=False)
        keep = s > cut * s[0]
        weights = vt[keep].T @ ((u[:, keep].T @ right) / s[keep])
    else:
        q, r, pivots = scipy.linalg.qr(left, mode="economic", pivoting=True, check_finite=False)
        diagonal = np.abs(np.diag(r))
        rank = int((diagonal > cut * diagonal[0]).sum())
        weights = np.zeros(size)
        weights[pivots[:rank]] = scipy.linalg.solve_triangular(
            r[:rank, :rank], q[:, :rank].T @ right, check_finite=False
        )
    remainder = float(np.linalg.norm(left @ weights - right))
    return torch.as_tensor(weights) / norms, remainder


@dataclass(frozen=True)
class Measure:
    """Residuals of a function on fresh points, per term.

    Attributes:
        residuals: rms residual, problem units.
        scales: rms of the summed magnitudes of what the residual is made of.
    """

    residuals: np.ndarray
    scales: np.ndarray

    def score(self, scales: np.ndarray | None = None) -> float:
        """Root of the sum of squares of residual over scale: 0 is perfect, 1 is as bad as a wrong term."""
        scales = self.scales if scales is None else scales
        safe = np.where(scales > 0, scales, np.where(self.residuals > 0, self.residuals, 1.0))
        with np.errstate(all="ignore"):  # infinite terms make an infinite score
            value = float(np.sqrt(np.sum((self.residuals / safe) ** 2)))
        return value if np.isfinite(value) else float("inf")


def measure(
    task: Task,
    points: list[Tensor],
    function: Function,
    terms: list[Term] | None = None,
    unknowns: Sequence[Tensor] = (),
) -> Measure:
    """Rms residuals and their scales at the given points.

    A homogeneous condition has no magnitude of its own where it holds; its atoms are measured over the whole domain. An
    equation whose terms all vanish, such as u_xx = 0, is measured against a field of this size that varies.
    """
    terms = row_terms(task) if terms is None else terms
    equation = widest_equation(terms)
    domain = next((p for t, p in zip(terms, points, strict=True) if t is equation), None)
    zero = (0,) * task.dimension
    half = [(high - low) / 2 for low, high in task.bounds]
    typical: dict = {}

    def size_in_domain(wanted):
        fresh = [w for w in dict.fromkeys(wanted) if w not in typical]
        typical.update(zip(fresh, (_rms(v) for v in function(domain, fresh)), strict=True))
        return [typical[w] for w in wanted]

    residuals, scales = [], []
    for term, place in zip(terms, points, strict=True):
        values = atom_values(task, term, place, function)
        pieces = term.residual.terms(place, values, unknowns)
        residuals.append(_rms(observed(term, term.residual.value(place, values, unknowns))))
        scale = _rms(pieces.abs().sum(dim=1))
        if domain is not None:
            slopes = [_rms(s) for s in term.residual.slopes(place, values, unknowns)]
            wanted = [(task.field_index(a), a.orders) for a in term.part.atoms]
            if term.block.kind != "equation":
                scale = max(scale, sum(s * v for s, v in zip(slopes, size_in_domain(wanted), strict=True)))
            sizes = size_in_domain([(f, zero) for f in range(len(task.problem.fields))])
            fields = [max(sizes[f], VANISHING * max(sizes)) for f, _ in wanted]
            natural = max(
                (
                    s * v / math.prod(h**o for h, o in zip(half, orders, strict=True))
                    for s, v, (_, orders) in zip(slopes, fields, wanted, strict=True)
                ),
                default=0.0,
            )
            scale = max(scale, 0.1 * natural) if math.isfinite(natural) else scale
        scales.append(scale)
    return Measure(np.array(residuals), np.array(scales))


def observed(term: Term, values: Tensor) -> Tensor:
    """The residual of an observation is its expression less what was measured; of anything else its value."""
    data = getattr(term.block, "data", None)
    return values if data is None else values - torch.as_tensor(np.asarray(data[1], dtype=float))


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def distance(task: Task, points: Tensor, one: Function, other: Function) -> list[float]:
    """Relative L2 distance per field at `points`; a field fixed only up to a constant is compared up to it.

    A field that vanishes beside others has no size of its own: a small part of the largest stands in for it.
    """
    zero = (0,) * task.dimension
    wanted = [(f, zero) for f in range(len(task.problem.fields))]
    floating = floating_fields(task)
    sizes, gaps = [], []
    for f, (a, b) in enumerate(zip(one(points, wanted), other(points, wanted), strict=True)):
        if f in floating:
            a, b = a - a.mean(), b - b.mean()
        sizes.append(float(torch.linalg.vector_norm(a)))
        gaps.append(float(torch.linalg.vector_norm(a - b)))
    floor = VANISHING * max(sizes)
    return [
        gap / max(size, floor) if max(size, floor) > 0 else (0.0 if gap == 0 else float("inf"))
        for size, gap in zip(sizes, gaps, strict=True)
    ]


def error_share(best: float, other: float) -> float:
    """The part of the distance between two solutions that is the error of the one with the score `best`."""
    return best / max(math.hypot(best, other), 1e-300)


def floating_fields(task: Task) -> set[int]:
    """Fields that appear nowhere undifferentiated, so that a constant may be added to them."""
    fixed = {task.field_index(a) for term in task.terms if not term.exact for a in term.part.atoms if a.order == 0}
    return set(range(len(task.problem.fields))) - fixed
