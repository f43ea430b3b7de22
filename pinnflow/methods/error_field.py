"""The error of any fitted function as a function: the linearised error equation, solved on a space of its own.

u + e solves the problem, so F'(u) e = -F(u) up to the square of e. A space that resolves what is left of u's residual
gives e; whether it does is seen on fresh points: by how much e lowers the residual there.

Form solved: any equations and conditions that are differentiable in the fields, in up to three coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from pinnflow.errors import NoErrorField
from pinnflow.methods.base import Task
from pinnflow.methods.cost import nominal_seconds, nominal_strips
from pinnflow.methods.last_layer import summed
from pinnflow.methods.least_squares import Candidate, draw_expansion, row_points
from pinnflow.methods.placement import placed_splines, spline_points, splines_apply
from pinnflow.methods.rows import (
    Function,
    atom_values,
    distance,
    linearise,
    measure,
    observed,
    row_terms,
    widest_equation,
)
from pinnflow.methods.threads import one_thread
from pinnflow.trial.expansion import Expansion, FeatureTrial

LARGEST_DIMENSION = 3
PATIENCE = 25.0  # nominal seconds for one space
FIRST, GROWTH, LARGEST = 600, 1.7, 20_000  # unknowns of all fields
CLEAR = 0.1  # part of the residual that may stay when nothing better is looked for
VISIBLE = 0.8  # part above which e says nothing
AGREED = 0.3  # relative distance of two estimates of e from different spaces that confirm each other
CHECKED = 1000  # fresh points of each equation


@dataclass(frozen=True)
class ErrorField:
    """An estimate of u_true - u.

    Attributes:
        trial: e.
        left: what e leaves of the residual of u, from 0 (nothing) to 1.
    """

    trial: FeatureTrial
    left: float


def error_field(task: Task, function: Function, size: int = 0) -> ErrorField:
    """The e of the first space that removes nine tenths of the residual of u, or of the second of two that agree on e.

    The residual of u is roughest where u's own space ends, and e much smoother than it: e is known before all of the
    residual is explained.

    Args:
        task: the problem, without unknown coefficients.
        function: u.
        size: unknowns of u, where it has any; smaller spaces would not see what they left.

    Raises:
        NoErrorField: there is no such space, or the problem is not of this form.
    """
    if task.problem.unknowns:
        raise NoErrorField("the fields depend on coefficients that were found; see the intervals in `unknowns`")
    if task.dimension > LARGEST_DIMENSION:
        raise NoErrorField(f"a problem in {task.dimension} coordinates is too large for the error equation")
    rng = task.rng(200)
    checks = [task.draw(t, CHECKED if t.block.kind == "equation" else CHECKED // 8, rng) for t in row_terms(task)]
    before = measure(task, checks, function)
    domain = task.draw(widest_equation(task.terms), 2 * CHECKED, rng)
    last: FeatureTrial | None = None
    for expansion, points in spaces(task, function, size):
        with one_thread():
            trial = solve(task, expansion, points, function)
        if trial is None or task.clock.over():
            break
        left = measure(task, checks, summed(function, trial.function)).score(before.scales)
        left /= max(before.score(before.scales), 1e-300)
        if left < CLEAR:
            return ErrorField(trial, left)
        if left < VISIBLE:
            if last is not None and max(distance(task, domain, trial.function, last.function)) < AGREED:
                return ErrorField(trial, left)
            last = trial
    raise NoErrorField(
        "no function that was tried explains the residual of this solution: it is rounding, or finer than "
        f"{LARGEST:,} unknowns resolve"
    )


def spaces(task: Task, function: Function, size: int) -> Iterator[tuple[Expansion, list[Tensor]]]:
    """Larger and larger spaces with the points of their rows: polynomials and, in the plane, splines placed by u."""
    fields = len(task.problem.fields)
    size = max(FIRST, int(1.5 * size))
    while size < LARGEST:
        if nominal_seconds(size) < PATIENCE / 4:
            candidate = Candidate("chebyshev", (1.0,) * task.dimension, size // fields)
            expansion = draw_expansion(task, candidate)
            yield expansion, row_points(task, expansion, clustered=True)
        if splines_apply(task) and nominal_strips(size) < PATIENCE:
            expansion = placed_splines(task, function, size // fields)
            yield expansion, spline_points(task, expansion)
        size = int(GROWTH * size)


def solve(task: Task, expansion: Expansion, points: list[Tensor], function: Function) -> FeatureTrial | None:
    """e on one space; None where the residual of u is not finite."""
    rows = linearise(task, expansion, points, function)
    rows.aim(
        [
            -observed(t, t.residual.value(p, atom_values(task, t, p, function), [])) / s
            for t, p, s in zip(row_terms(task), points, rows.scales, strict=True)
        ]
    )
    return FeatureTrial(expansion, rows.solve()[0]) if rows.finite() else None
