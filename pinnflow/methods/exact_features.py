"""Linear equations with constant coefficients: features that satisfy them, so that only the conditions are fitted.

The characteristic relation gives the features: waves on a lattice of wave numbers, or travelling profiles. Sources are
taken off by a particular solution. What is left has one dimension less than the problem: a least-squares system of the
conditions alone, which high wave numbers and long times do not make harder.

Form solved: constant-coefficient linear equations with sources made of polynomials, exponentials, sines and cosines;
affine conditions. Everything else is refused in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pinnflow.errors import NotApplicable
from pinnflow.methods.base import Outcome, Task, Term, meets, register_method, worth_it
from pinnflow.methods.kinks import data_kinks
from pinnflow.methods.least_squares import LARGEST, PERFECT, SMALL, Candidate, Fit, Search, nominal_seconds
from pinnflow.methods.rows import (
    Function,
    atom_values,
    atoms_by_place,
    distance,
    error_share,
    measure,
    observed,
    row_terms,
    solve_rows,
    zero_function,
)
from pinnflow.methods.threads import one_thread
from pinnflow.trial.characteristic import NotConstant, Relation, read_operator
from pinnflow.trial.coupled import CoupledExpansion, ExactTrial
from pinnflow.trial.exponentials import draw_waves, join
from pinnflow.trial.particular import NoParticular, particular_solution
from pinnflow.trial.profiles import Families, NoProfiles, find_families

PILOTS = {1: 2, 2: 64, 3: 300, 4: 900}
MOST_COLUMNS = 4
MOST_FIELDS = 6
GROWTH = 1.6
AT_ONCE = 2  # families that grow side by side; the second is what the first is compared with
UNRESOLVED = 0.05  # a residual above this says nothing about how it will fall
STRETCH = 8.0  # ratio of wave numbers that the pilots try along each axis
# Profiles join at breaks where no condition says otherwise; so weakly that data with a jump keep it.
JOIN = 1e-5
# An error estimate is at least this share of the residual of the conditions: at a corner that is large where the error
# of the solution is not.
SMALLEST = 0.05

PROFILES = "travelling-profile"
# Family: (the axes solved for, period of the lattice in lengths of the box).
LATTICES = {"wave-in-space": ("time", 2.0), "wave": ("all", 2.0), "dense-wave": ("all", 4.0)}


@dataclass(frozen=True)
class ExactSpace:
    """What the equations of a task allow.

    Attributes:
        relation: the characteristic relation on the scaled box.
        particular: a solution of the equations with their sources; None where there are none.
        profiles: travelling profiles, None where there are none.
    """

    relation: Relation
    particular: CoupledExpansion | None
    profiles: Families | None


def exact_space(task: Task) -> ExactSpace:
    """The exact solutions of a task's equations.

    Raises:
        NotApplicable: the equations are not of the form solved; the message says why.
    """
    if not task.linear:
        raise NotApplicable("the problem is not linear")
    if task.dimension > MOST_COLUMNS:
        raise NotApplicable(f"a lattice in {task.dimension} coordinates has too many wave numbers")
    if len(task.problem.fields) > MOST_FIELDS:
        raise NotApplicable(f"{len(task.problem.fields)} fields are too many for the determinant of the equations")
    if not np.isfinite(np.array(task.bounds)).all():
        raise NotApplicable("an axis is unbounded")
    try:
        operator = read_operator(task.problem)
        relation = Relation(operator, task.frame.half.tolist())
        particular = None
        if not operator.homogeneous:
            ends = [task.problem.ends[c] for c in task.problem.columns]
            particular = CoupledExpansion(task.frame, particular_solution(operator, ends))
    except (NotConstant, NoParticular) as reason:
        raise NotApplicable(str(reason)) from None
    profiles = None
    if not any(task.periodic):
        with suppress(NoProfiles):
            kinks = [task.frame.scale(torch.as_tensor(point)).numpy() for point in data_kinks(task)]
            profiles = find_families(relation, task.time_column, kinks)
    if particular is not None and any(task.periodic):
        _refuse_aperiodic(task, particular)
    space = ExactSpace(relation, particular, profiles)
    if not solved_axes(task, space, "all"):
        raise NotApplicable("the equations differentiate along periodic axes only")
    return space


def applies(task: Task) -> str | None:
    """Why exact features cannot solve a task, or None when they can."""
    try:
        exact_space(task)
    except NotApplicable as reason:
        return str(reason)
    return None


def _refuse_aperiodic(task, particular):
    """A particular solution must be periodic where the fields are, because no row says so."""
    terms = [term for term in task.terms if term.exact]
    trial = ExactTrial(particular, torch.zeros(1, dtype=torch.float64), particular)
    points = [task.draw(term, 20, task.rng(5, 1)) for term in terms]
    if measure(task, points, trial.function, terms).score() > 1e-10:
        raise NotApplicable("the particular solution is not periodic")


def solved_axes(task: Task, space: ExactSpace, which: str) -> list[int]:
    """The columns whose exponent the relation is solved for."""
    if which == "time":
        return [] if task.time_column is None or not space.relation.degree(task.time_column) else [task.time_column]
    return [i for i in range(task.dimension) if space.relation.degree(i) and not task.periodic[i]]


class ExactSearch(Search):
    """Families, lattices and their ratios, scored on fresh points of the conditions."""

    method = "exact features"

    def __init__(self, task: Task):
        self.space = exact_space(task)
        super().__init__(task)
        self.largest = LARGEST
        self.pilot = PILOTS[task.dimension]
        rng = task.rng(3)
        self.conditions = [t for t in row_terms(task) if t.block.kind != "equation"]
        self.checks = [
            task.draw(t, 200 if t.block.kind == "equation" else 200 * max(1, len(t.part.free)), rng)
            for t in row_terms(task)
        ]

    def families(self) -> Iterator[str]:
        """The families that exist for the task and differ from each other."""
        if self.space.profiles is not None:
            yield PROFILES
        seen = set()
        for name, (which, period) in LATTICES.items():
            axes = tuple(solved_axes(self.task, self.space, which))
            key = axes, None if self.lattice_is_point(axes) else period
            if axes and key not in seen:
                seen.add(key)
                yield name

    def lattice_is_point(self, axes) -> bool:
        return self.task.dimension == 1

    def periods(self, family: str) -> list[float]:
        return [1.0 if periodic else LATTICES[family][1] for periodic in self.task.periodic]

    def expansion(self, candidate: Candidate) -> CoupledExpansion:
        """The functions of a candidate."""
        task = self.task
        if candidate.family == PROFILES:
            bases = tuple(join(parts) for parts in self.space.profiles.draw(candidate.size))
        else:
            axes = solved_axes(task, self.space, LATTICES[candidate.family][0])
            bases = draw_waves(
                self.space.relation, axes, self.periods(candidate.family), candidate.slopes, candidate.size
            )
        return CoupledExpansion(task.frame, bases)

    def fit(self, candidate: Candidate) -> Fit:
        """Solve the conditions once on a candidate's features."""
        task, begin = self.task, self.task.clock.elapsed
        expansion = self.expansion(candidate)
        each = int(
            max(
                60, 1.5 * expansion.size if task.dimension == 2 else 6.0 * expansion.size / max(len(self.conditions), 1)
            )
        )
        rng = task.rng(2, expansion.size)
        if candidate.family == PROFILES:
            points = [self.between_breaks(t, task.draw(t, each if t.part.free else 1, rng)) for t in self.conditions]
        else:
            points = [task.draw(t, each if t.part.free else 1, rng, clustered=True) for t in self.conditions]
        base = (
            None
            if self.space.particular is None
            else ExactTrial(self.space.particular, torch.zeros(1, dtype=torch.float64), self.space.particular).function
        )
        matrix = condition_rows(task, self.conditions, expansion, points, base)
        if candidate.family == PROFILES:
            matrix = torch.cat([matrix, self.joints(expansion)])
        weights = solve_rows(matrix)[0]
        trial = ExactTrial(expansion, weights, self.space.particular)
        result = measure(task, self.checks, trial.function)
        return Fit(candidate, trial, result, task.clock.elapsed - begin)

    def between_breaks(self, term: Term, points: Tensor) -> Tensor:
        """Points of a condition moved towards the breaks that cross it, where the polynomials are steepest."""
        task = self.task
        for column, name in enumerate(task.problem.columns):
            if name not in term.part.free:
                continue
            scaled = task.frame.scale(points)
            families = self.space.profiles
            crossings = [-1.0, 1.0]
            for n, breaks in zip(families.directions, families.breaks, strict=True):
                if abs(n[column]) > 1e-9:
                    other = float(scaled[0, 1 - column])
                    crossings += [c for c in (breaks - n[1 - column] * other) / n[column] if abs(c) < 1]
            ends = np.unique(np.round(crossings, 9))
            place = scaled[:, column].numpy()
            piece = np.clip(np.searchsorted(ends, place, side="right") - 1, 0, len(ends) - 2)
            low, high = ends[piece], ends[piece + 1]
            moved = low + (high - low) * (1 - np.cos(np.pi * (place - low) / (high - low))) / 2
            points[:, column] = task.frame.center[column] + task.frame.half[column] * torch.as_tensor(moved)
        return points

    def joints(self, expansion: CoupledExpansion) -> Tensor:
        """Rows that join the profiles at their breaks."""
        parts = getattr(expansion.bases[0], "parts", expansion.bases[:1])
        jumps = torch.block_diag(*(part.jumps() for part in parts))
        norm = float(torch.linalg.vector_norm(jumps)) or 1.0
        return torch.cat([JOIN * jumps / norm, torch.zeros(len(jumps), 1, dtype=torch.float64)], dim=1)

    def pilots(self) -> None:
        """All families; with two or more wave numbers also with one axis stretched, and the best refined."""
        even = (1.0,) * self.task.dimension
        for family in self.families():
            shapes = [even]
            if self.task.dimension > 2 and family != PROFILES:
                shapes += [
                    tuple(STRETCH if i == axis else 1.0 for i in range(self.task.dimension))
                    for axis in range(self.task.dimension)
                ]
            for slopes in shapes:
                if not self.tried or not self.out_of_time(0.2):
                    self.try_one(Candidate(family, slopes, self.pilot))
        self.rescale()
        best = self.ranked()[0]
        if self.task.dimension > 1 and best.candidate.family != PROFILES:
            self.refine(best)

    def best_of(self, family: str) -> Fit:
        return next(f for f in self.ranked() if f.candidate.family == family)

    def growing(self) -> list[Candidate]:
        """The largest candidates of the families worth enlarging, the best first: those that have not stalled twice."""
        found = []
        for fitted in self.ranked():
            family = fitted.candidate.family
            mine = sorted(
                (f for f in self.tried.values() if f.candidate.family == family), key=lambda f: f.candidate.size
            )
            if any(c.family == family for c in found) or self.stalled(mine) >= 2:
                continue
            found.append(replace(self.best_of(family).candidate, size=mine[-1].candidate.size))
        return found[:AT_ONCE]

    def stalled(self, fits: list[Fit]) -> int:
        """How many of the last enlargements did not halve the residual; an unresolved one is no stall."""
        sizes = sorted({f.candidate.size for f in fits})
        scores = np.minimum.accumulate([min(f.score for f in fits if f.candidate.size == n) for n in sizes])
        count = 0
        for before, after in zip(scores[-2::-1], scores[:0:-1], strict=True):
            if after <= 0.5 * before or after > UNRESOLVED:
                break
            count += 1
        return count

    def try_one(self, candidate: Candidate) -> Fit:
        if candidate not in self.tried:
            with one_thread(candidate.size < SMALL):
                fitted = self.fit(candidate)
            self.tried[candidate] = fitted
            fitted.score = fitted.measure.score(self.scales)
        return self.tried[candidate]


def condition_rows(
    task: Task, terms: list[Term], expansion: CoupledExpansion, points: list[Tensor], base: Function | None
) -> Tensor:
    """`[m, size + 1]`: rows of the conditions for a function added to `base`, each term's divided by their norm."""
    matrix = torch.zeros(sum(map(len, points)), expansion.size + 1, dtype=torch.float64)
    start = 0
    for term, place in zip(terms, points, strict=True):
        zeros = atom_values(task, term, place, zero_function)
        slopes = term.residual.slopes(place, zeros, [])
        values = zeros if base is None else atom_values(task, term, place, base)
        block = matrix[start : start + len(place)]
        groups = []
        for placed, indices in atoms_by_place(term, place):
            groups.append(
                (
                    placed,
                    [(task.field_index(term.part.atoms[i]), term.part.atoms[i].orders, slopes[i]) for i in indices],
                )
            )
        expansion.rows(groups, block[:, :-1])
        block[:, -1] = -observed(term, term.residual.value(place, values, []))
        block /= float(torch.linalg.vector_norm(block[:, :-1])) or 1.0
        start += len(place)
    return matrix


@register_method("exact features")
def solve_exact_features(task: Task) -> Outcome:
    """Pilots of every family, then growth of the best until the estimate stalls, meets the tolerance or time is up."""
    search = ExactSearch(task)
    search.pilots()
    fresh = task.draw(row_terms(task)[0], 2000, task.rng(4))
    while True:
        best = search.ranked()[0]
        errors = estimate_errors(task, fresh, search.ranked())
        estimate = max(errors)
        task.keep(outcome(search, "interrupted", errors))
        task.record(
            "growth",
            unknowns=best.trial.weights.numel(),
            score=best.score,
            estimate=estimate,
            message=str(best.candidate),
        )
        growing = search.growing()
        stop = reason_to_stop(task, search, best, estimate, growing)
        if stop is not None:
            return outcome(search, stop, errors)
        for candidate in growing:
            if not search.out_of_time(3.0 * search.best_of(candidate.family).seconds):
                search.try_one(replace(candidate, size=int(GROWTH * candidate.size)))


def reason_to_stop(task: Task, search: ExactSearch, best: Fit, estimate: float, growing: list[Candidate]) -> str | None:
    """Why growth ends here, or None."""
    compared = sum(f.score < 1e3 * max(best.score, PERFECT) for f in search.tried.values()) > 1
    if task.dimension == 1:
        return "these are all solutions of the equations"
    if meets(estimate, task.tolerance):
        return f"the error estimate met the tolerance {task.tolerance:.1e}"
    if best.score <= PERFECT and compared:
        return "the residual reached rounding error"
    if not growing:
        return "two larger systems did not halve the residual of the conditions: more exact solutions will not help"
    size = int(GROWTH * max(c.size for c in growing))
    if size > search.largest:
        return f"the largest dense system ({LARGEST} unknowns) was reached"
    if search.out_of_time(4.0 * sum(search.best_of(c.family).seconds for c in growing)):
        return "the next round would not fit the time; raise `time_limit` for a smaller error"
    seconds = 2 * nominal_seconds(size)
    if not worth_it(estimate, seconds, task.tolerance):
        return f"the next round would take about {seconds:.0f} s; ask for a `tolerance` to go on"
    return None


def outcome(search: ExactSearch, stop: str, errors: list[float]) -> Outcome:
    """The best fit as a result."""
    best = search.ranked()[0]
    remark = (
        f"{best.trial.weights.numel()} {best.candidate.family} features that satisfy the equations, "
        f"relative residual of the conditions {best.score:.1e}"
    )
    return Outcome(best.trial, max(errors), best.score, stop, search.method, [remark], by_field=errors)


def estimate_errors(task: Task, points: Tensor, ranked: list[Fit]) -> list[float]:
    """Of every field the distance to the second-best solution, shared out by the scores; no less than the residual."""
    if len(ranked) < 2:
        return [ranked[0].score] * len(task.problem.fields)
    best, other = ranked[0], ranked[1]
    share = error_share(best.score, other.score)
    least = SMALLEST * best.score
    return [max(gap * share, least) for gap in distance(task, points, best.trial.function, other.trial.function)]
