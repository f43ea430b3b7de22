"""Time in slabs, one after the other, where one set of features for all of time is too few.

Each slab is a problem of its own: the equations and the conditions on the faces as declared, and, in place of the
initial data, the values that the slab before it ends with. Newton's method begins in each at what is known of all.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import sympy

from pinnflow.declare.statements import Observations
from pinnflow.methods.base import Outcome, Task, meets
from pinnflow.methods.cost import nominal_seconds
from pinnflow.methods.rows import (
    DISTANCE_POINTS,
    Function,
    as_function,
    distance,
    error_share,
    measure,
    row_terms,
    widest_equation,
)
from pinnflow.trial.slabs import SlabTrial

if TYPE_CHECKING:
    from pinnflow.methods.newton import NewtonSearch

MOST = 32  # slabs
GOOD = 1e-9  # estimate behind which nobody asks for slabs
STEPS = 3  # linear solves that a slab takes, for the time it is given
PASSES = 3  # Newton solves of one slab at most


def apply(task: Task) -> bool:
    """Whether time runs from initial data alone, each a value or a rate of one field."""
    if task.time_column is None or task.dimension < 2:
        return False
    kinds = {block.kind for block in task.problem.blocks}
    if "initial" not in kinds or kinds & {"final", "nonlocal", "observation"}:
        return False
    initial = [term for term in task.terms if term.block.kind == "initial"]
    return all(len(term.part.atoms) == 1 and _only_in_time(task, term.part.atoms[0].orders) for term in initial)


def _only_in_time(task, orders):
    return sum(orders) == orders[task.time_column]


def improve(task: Task, search: NewtonSearch, outcome: Outcome) -> Outcome:
    """The outcome, or a better one in 2, 4, 8, ... slabs as long as that gains and time is left."""
    if outcome.trial is None or not outcome.score < 0.5 or outcome.error_estimate <= GOOD:
        return outcome
    rng = task.rng(6)
    checks = [task.draw(t, 1500 if t.block.kind == "equation" else 200, rng) for t in row_terms(task)]
    fresh = task.draw(widest_equation(task.terms), DISTANCE_POINTS, task.rng(4))
    best, before = outcome, outcome
    count = 2
    while count <= MOST and task.clock.left > 0 and not meets(best.error_estimate, task.tolerance):
        candidate = shrunk(task, search, count)
        if candidate is None:
            break
        trial = march(task, search, count, candidate, as_function(best.trial))
        if trial is None:
            break
        score = measure(task, checks, as_function(trial)).score()
        gaps = distance(task, fresh, as_function(trial), as_function(before.trial))
        share = error_share(score, before.score)
        errors = [gap * share for gap in gaps]
        words = f"{count} slabs of time with {candidate} each, relative residual {score:.1e}"
        task.record("slabs", score=score, estimate=max(errors), message=words)
        now = replace(outcome, trial=trial, score=score, error_estimate=max(errors), by_field=errors, remarks=[words])
        if not score < 0.7 * before.score:
            break
        best = before = now
        task.keep(best)
        count *= 2
    return best


def shrunk(task: Task, search: NewtonSearch, count: int):
    """The best candidate for a slab, as large as the time left allows; None when that is too small."""
    dense = [f for f in search.ranked() if f.candidate.family != "splines"]
    if not dense:
        return None
    best = dense[0].candidate
    slopes = [s * (0.7 if i == task.time_column else 1.0) for i, s in enumerate(best.slopes)]
    fields = len(task.problem.fields)
    size, least = best.size, 0.7 * best.size
    while size >= least and count * STEPS * nominal_seconds(size * fields) > 0.7 * task.clock.left:
        size = int(0.8 * size)
    return replace(best, slopes=tuple(slopes), size=size) if size >= least else None


def march(task: Task, search: NewtonSearch, count: int, candidate, start: Function) -> SlabTrial | None:
    """All slabs in turn; None when time is up."""
    low, high = task.bounds[task.time_column]
    breaks = np.linspace(low, high, count + 1)
    parts: list = []
    for begin, end in itertools.pairwise(breaks):
        slab = slab_task(task, parts[-1] if parts else None, float(begin), float(end), candidate.size)
        inner = type(search)(slab)
        inner.current = start
        fitted = None
        for _ in range(PASSES):
            before = fitted
            fitted = inner.fit(candidate)
            inner.current = fitted.function
            if task.clock.over():
                return None
            if before is not None and fitted.measure.score() > 0.5 * before.measure.score():
                break
        parts.append(fitted.trial)
    return SlabTrial(task.time_column, breaks, tuple(parts))


def slab_task(task: Task, before, begin: float, end: float, size: int) -> Task:
    """The problem of one slab: from the values at the end of the slab before it, if there is one."""
    problem, time = task.problem, task.problem.time
    domain = {**problem.domain, time: (sympy.Float(begin, 17), sympy.Float(end, 17))}
    if before is None:
        slab = problem.with_(domain=domain, exact=None)
    else:
        initial = {block.statement for block in problem.blocks if block.kind == "initial"}
        kept = [c for c in problem.conditions if c not in initial]
        slab = problem.with_(
            domain=domain, conditions=kept, exact=None, observations=handed_over(task, before, begin, size)
        )
    return Task(slab, tolerance=task.tolerance, clock=task.clock, seed=task.seed, points=task.points)


def handed_over(task: Task, before, begin: float, size: int) -> list[Observations]:
    """What the initial data are about, as the slab before it ends."""
    found = []
    for number, term in enumerate(term for term in task.terms if term.block.kind == "initial"):
        (atom,) = term.part.atoms
        count = int(max(40, 3 * size ** (len(term.part.free) / task.dimension))) if term.part.free else 1
        points = task.draw(term, count, task.rng(7, number), clustered=True)
        points[:, task.time_column] = begin
        (values,) = before.derivatives(points.numpy(), [(task.field_index(atom), atom.orders)])
        order = atom.orders[task.time_column]
        expression = atom.field.diff(task.problem.time, order) if order else atom.field
        at = {c: points[:, i].numpy() for i, c in enumerate(task.problem.columns)}
        found.append(Observations(expression, at, values))
    return found
