"""Linear problems of low dimension: one least-squares solve on features in space and time.

The family (sines, tanh ridges, polynomial products) and the slope along every axis are chosen by the residual on
points that no row uses, on small systems; then the winner grows until its estimate stalls.

Form solved: equations and conditions affine in all fields together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from pinnflow.errors import NotApplicable
from pinnflow.methods.base import Outcome, Task, meets, register_method, worth_it
from pinnflow.methods.cost import nominal_seconds, nominal_strips
from pinnflow.methods.placement import placed_splines, spline_points, splines_apply
from pinnflow.methods.rows import (
    DISTANCE_POINTS,
    Measure,
    distance,
    error_share,
    linearise,
    measure,
    row_terms,
    widest_equation,
)
from pinnflow.methods.threads import one_thread
from pinnflow.trial.expansion import Expansion, FeatureTrial
from pinnflow.trial.features import draw_basis

PILOT_SIZES = {1: 80, 2: 300, 3: 500}
FAMILIES = ("chebyshev", "sin", "tanh")
SLOPES = (1.5, 3.0, 6.0, 12.0, 24.0)
LARGEST = 3600  # unknowns in a dense system
LARGEST_SPLINES = 20_000  # and on splines in the plane, whose matrices are sparse
SPLINES = "splines"
FIRST_SPLINES = 400  # per field
UNRESOLVED = 1e-2  # relative residual above which splines do not stall
RESOLVED = 1e-7  # relative residual below which a dense family needs no splines beside it
PERFECT = 1e-11
SMALL = 2000  # unknowns; below, one thread is as fast as two, and far faster on a busy machine


@dataclass(frozen=True)
class Candidate:
    """A trial space: family, slope per axis, unknowns per field."""

    family: str
    slopes: tuple[float, ...]
    size: int

    def __str__(self) -> str:
        return f"{self.size} {self.family}" + " features" * (self.family != SPLINES)


@dataclass
class Fit:
    """A candidate with its fitted function and how well it does on fresh points."""

    candidate: Candidate
    trial: FeatureTrial
    measure: Measure
    seconds: float
    score: float = field(default=float("inf"))

    @property
    def function(self):
        return self.trial.function


def draw_expansion(task: Task, candidate: Candidate) -> Expansion:
    """The expansion of a candidate; fields that lack a coordinate get features that do not depend on it."""
    basis = draw_basis(
        candidate.family,
        candidate.slopes,
        candidate.size,
        task.periodic,
        task.rng(1, candidate.size, _code(candidate.family)),
    )
    full = (True,) * task.dimension
    restricted = {full: basis}
    bases = []
    for f in task.problem.fields:
        kept = tuple(task.is_missing(f))
        if kept not in restricted:
            restricted[kept] = basis.restrict(kept)
        bases.append(restricted[kept])
    return Expansion(task.frame, tuple(bases))


def _code(family):
    return FAMILIES.index(family)


def row_points(task: Task, expansion: Expansion, clustered: bool) -> list[Tensor]:
    """Points for every term: 2.5 equation rows per unknown, and enough on the conditions."""
    terms = row_terms(task)
    equations = sum(t.block.kind == "equation" for t in terms)
    largest = max(expansion.sizes)
    dimension = task.dimension
    per_equation = task.points or int(2.5 * expansion.size / max(equations, 1)) + 10
    rng = task.rng(2, expansion.size)
    points = []
    for term in terms:
        if term.block.kind == "equation":
            count = per_equation
        else:
            free = max(len(term.part.free), 0)
            count = int(max(40, 3 * largest ** (free / dimension))) if free else 1
        points.append(task.draw(term, count, rng, clustered))
    return points


def validation_points(task: Task, size: int) -> list[Tensor]:
    """Fresh points for every term, never used for rows."""
    rng = task.rng(3)
    return [
        task.draw(term, max(200, size // 2) if term.block.kind == "equation" else 60, rng) for term in row_terms(task)
    ]


class Search:
    """Pilots, slope refinement and growth over candidates; keeps what it has tried and the common scales."""

    method = "least squares"
    splines = False  # splines in the plane are tried as well

    def __init__(self, task: Task, largest: int | None = None):
        self.task = task
        fields = len(task.problem.fields)
        self.largest = (largest or LARGEST) // fields
        self.largest_splines = LARGEST_SPLINES // fields
        self.pilot = max(30, PILOT_SIZES.get(task.dimension, 500) // max(1, round(fields**0.5)))
        self.checks = validation_points(task, 4 * self.pilot)
        self.tried: dict[Candidate, Fit] = {}
        self.scales: np.ndarray | None = None

    def try_one(self, candidate: Candidate) -> Fit:
        if candidate not in self.tried:
            with one_thread(candidate.size * len(self.task.problem.fields) < SMALL):
                fitted = self.fit(candidate)
            self.tried[candidate] = fitted
            fitted.score = fitted.measure.score(self.scales)
            self.remember(fitted)
        return self.tried[candidate]

    def remember(self, fitted: Fit) -> None:
        """What an interrupt returns before the first estimate."""
        latest = self.task.latest
        if latest is None or (latest.error_estimate == float("inf") and fitted.score < latest.score):
            self.task.latest = Outcome(fitted.trial, float("inf"), fitted.score, "interrupted", self.method)

    def fit(self, candidate: Candidate) -> Fit:
        """Solve once on a candidate's features."""
        begin = self.task.clock.elapsed
        expansion, points = self.space(candidate)
        rows = linearise(self.task, expansion, points, None)
        return self.measured(candidate, expansion, rows.solve()[0], begin)

    def space(self, candidate: Candidate) -> tuple[Expansion, list[Tensor]]:
        """The trial space of a candidate and the points of its rows."""
        if candidate.family == SPLINES:
            model = next((f.function for f in self.ranked() if f.score < 0.5), None) if self.tried else None
            expansion = placed_splines(self.task, model, candidate.size)
            return expansion, spline_points(self.task, expansion)
        expansion = draw_expansion(self.task, candidate)
        return expansion, row_points(self.task, expansion, clustered=candidate.family == "chebyshev")

    def measured(self, candidate: Candidate, expansion: Expansion, weights: Tensor, begin: float) -> Fit:
        """The fit with its residuals on the validation points."""
        trial = FeatureTrial(expansion, weights)
        result = measure(self.task, self.checks, trial.function)
        return Fit(candidate, trial, result, self.task.clock.elapsed - begin)

    def rescale(self) -> None:
        """Take the scales once from the best pilots, so that scores compare."""
        best = sorted(self.tried.values(), key=lambda f: f.measure.score())[:3]
        self.scales = np.median([f.measure.scales for f in best], axis=0)
        for fitted in self.tried.values():
            fitted.score = fitted.measure.score(self.scales)

    def ranked(self) -> list[Fit]:
        return sorted(self.tried.values(), key=lambda f: f.score)

    def outcome(self, stop: str, fresh: Tensor) -> Outcome:
        """The best fit as a result."""
        best = self.ranked()[0]
        errors = estimate_errors(self.task, fresh, self.ranked())
        return Outcome(
            best.trial,
            max(errors),
            best.score,
            stop,
            self.method,
            [f"{replace(best.candidate, size=best.trial.weights.numel())}, relative residual {best.score:.1e}"],
            by_field=errors,
        )

    def larger(self, stalled: int) -> list[Candidate]:
        """Candidates of the next round: the best enlarged by 1.8, with others beside it that may overtake it."""
        ranked = self.ranked()
        best = ranked[0]
        leaders = [best]
        if stalled:  # what holds one family back, rounding in high derivatives above all, may not hold another
            leaders += [f for f in ranked if f.candidate.family != best.candidate.family][:1]
        found = []
        if best.candidate.family == SPLINES:  # polynomials begin slowly, and end first where a solution is smooth
            others = [f for f in ranked if f.candidate.family != SPLINES]
            leaders += [f for f in others[:1] if f not in leaders and reach(self, f, self.largest) < best.score]
        for leader in leaders:
            family = leader.candidate.family
            # After a stall the next round is larger than anything tried, not larger than the best.
            tried = max(f.candidate.size for f in self.family(family))
            size = int(1.8 * (tried if stalled else leader.candidate.size))
            for factor in (1.0,) if family in ("chebyshev", SPLINES) else (1.0, 1.4):
                found.append(Candidate(family, tuple(s * factor for s in leader.candidate.slopes), size))
        if self.splines and best.score > RESOLVED and not any(c.family == SPLINES for c in found):
            mine = self.family(SPLINES)
            tried = max((f.candidate.size for f in mine), default=0)
            if not mine or mine[0].score < 100 * best.score:
                found.append(Candidate(SPLINES, (1.0,) * self.task.dimension, max(int(1.8 * tried), FIRST_SPLINES)))
        return found

    def family(self, name: str) -> list[Fit]:
        """What was tried of a family, best first."""
        return [f for f in self.ranked() if f.candidate.family == name]

    def fair(self, candidates: list[Candidate]) -> list[Candidate]:
        """Splines before dense systems, and those only where they cost about as much: equal time decides."""
        sparse = [c for c in candidates if c.family == SPLINES]
        allowed = 2 * max((self.nominal(c) for c in sparse), default=float("inf"))
        return sparse + [c for c in candidates if c.family != SPLINES and self.nominal(c) <= allowed]

    def too_large(self, candidate: Candidate) -> bool:
        return candidate.size > (self.largest_splines if candidate.family == SPLINES else self.largest)

    def expected(self, candidate: Candidate) -> float:
        """Seconds that a candidate may take, from the longest of its family."""
        mine = self.family(candidate.family)
        growth = 3.5 if candidate.family == SPLINES else 5.0
        return growth * max((f.seconds for f in mine if 3 * f.candidate.size > candidate.size), default=0.0)

    def nominal(self, candidate: Candidate) -> float:
        """The same from the number of operations."""
        fields = len(self.task.problem.fields)
        return (nominal_strips if candidate.family == SPLINES else nominal_seconds)(candidate.size * fields)

    def out_of_time(self, seconds: float) -> bool:
        return self.task.clock.elapsed + seconds > self.task.clock.limit

    def pilots(self) -> None:
        """All families at a few slopes, then every axis slope of each family's best halved or doubled."""
        task = self.task
        even = (1.0,) * task.dimension
        self.try_one(Candidate("chebyshev", even, self.pilot))
        for slope in SLOPES:
            for family in ("sin", "tanh") if not any(task.periodic) else ("sin",):
                if not self.out_of_time(0.1):
                    self.try_one(Candidate(family, (slope,) * task.dimension, self.pilot))
        self.rescale()
        if task.dimension == 1:
            return
        for family in FAMILIES:
            mine = [f for f in self.ranked() if f.candidate.family == family]
            if mine and mine[0].score < 1e3 * self.ranked()[0].score:
                self.refine(mine[0])

    def refine(self, start: Fit) -> Fit:
        """Halve or double one axis slope at a time while the score falls below 0.7 of the best."""
        best, improved = start, True
        while improved and best.score > PERFECT:
            improved = False
            for axis in range(self.task.dimension):
                for factor in (2.0, 0.5):
                    slopes = tuple(s * factor if i == axis else s for i, s in enumerate(best.candidate.slopes))
                    if max(slopes) > 200 or min(slopes) < 0.05 or self.out_of_time(3 * best.seconds):
                        continue
                    trial = self.try_one(replace(best.candidate, slopes=slopes))
                    if trial.score < 0.7 * best.score:
                        best, improved = trial, True
                        break
        return best

    def second_look(self) -> None:
        """The best of every family once more, larger: early winners are not always the ones that converge."""
        best = self.ranked()[0]
        for family in FAMILIES:
            mine = [f for f in self.ranked() if f.candidate.family == family]
            if mine and mine[0].score < 1e4 * max(best.score, PERFECT) and not self.out_of_time(4 * mine[0].seconds):
                self.try_one(replace(mine[0].candidate, size=int(self.pilot * 1.5)))


@register_method("least squares")
def solve_least_squares(task: Task) -> Outcome:
    """Pilots, then growth of the best family until the estimate stalls, the tolerance is met or time is up."""
    if not task.linear:
        raise NotApplicable("the problem is not linear")
    search = Search(task)
    search.splines = splines_apply(task)
    search.pilots()
    return grow(task, search)


def grow(task: Task, search: Search, until_hopeless: bool = True) -> Outcome:
    """Enlarge the best candidate by 1.8 with slopes times 1 and 1.4, the better kept, until nothing is gained.

    Args:
        until_hopeless: leave the time to another method, where there is one, when a small residual is out of reach.
    """
    fresh = task.draw(widest_equation(task.terms), DISTANCE_POINTS, task.rng(4))
    best = search.ranked()[0]
    task.record("pilot", unknowns=best.trial.weights.numel(), score=best.score, message=str(best.candidate))
    search.second_look()
    stalled, stop = 0, ""
    while True:
        ranked = search.ranked()
        best = ranked[0]
        kept = search.outcome("interrupted", fresh)
        estimate = kept.error_estimate
        task.keep(kept)
        task.record(
            "growth",
            unknowns=best.trial.weights.numel(),
            score=best.score,
            estimate=estimate,
            message=str(best.candidate),
        )
        if meets(estimate, task.tolerance):
            stop = f"the error estimate met the tolerance {task.tolerance:.1e}"
            break
        if best.score <= PERFECT or estimate <= PERFECT / 10:
            stop = "the error reached rounding"
            break
        if stalled >= 2:
            stop = (
                "two larger systems did not halve the residual: more features will not help, a smoother or smaller "
                "problem would"
            )
            break
        wanted = [c for c in search.larger(stalled) if not search.too_large(c)]
        if not wanted:
            stop = "the largest system of equations was reached; split the domain or raise `tolerance`"
            break
        in_time = [c for c in wanted if not search.out_of_time(search.expected(c))]
        if not in_time:
            stop = "the next round would not fit the time; raise `time_limit` for a smaller error"
            break
        if until_hopeless and task.alternative and hopeless(search, best):
            stop = "growth of the basis would not reach a small residual in time"
            break
        worth = [c for c in in_time if worth_it(estimate, search.nominal(c), task.tolerance)]
        if not worth:
            seconds = min(search.nominal(c) for c in in_time)
            stop = f"the next round would take about {seconds:.0f} s; ask for a `tolerance` to go on"
            break
        progress = False
        for candidate in search.fair(worth):
            if not search.out_of_time(0.3 * search.expected(candidate)) and search.ranked()[0].score > PERFECT:
                before = min((f.score for f in search.family(candidate.family)), default=float("inf"))
                progress |= search.try_one(candidate).score <= 0.5 * before
        # A layer that is not found yet looks like a stall; splines will find it.
        unresolved = search.splines and search.ranked()[0].score > UNRESOLVED
        stalled = 0 if progress or unresolved else stalled + 1
    return search.outcome(stop, fresh)


def hopeless(search: Search, best: Fit) -> bool:
    """Whether a residual of 1e-8 is out of reach at 1,500 unknowns."""
    return best.score > 1e-8 and reach(search, best, min(1500, search.largest)) > 1e-8


def reach(search: Search, best: Fit, size: int) -> float:
    """The score of a family at `size`: its decay so far, extrapolated as exp(-c N^(1/D)); 0 if it was tried once."""
    smaller = [f for f in search.family(best.candidate.family) if f.candidate.size < best.candidate.size]
    if not smaller:
        return 0.0
    power = 1 / search.task.dimension
    rate = np.log(smaller[0].score / best.score) / (best.candidate.size**power - smaller[0].candidate.size ** power)
    return float(best.score * np.exp(-rate * (size**power - best.candidate.size**power)))


def estimate_errors(task: Task, points: Tensor, ranked: list[Fit]) -> list[float]:
    """Of every field the distance to the second-best solution, shared out by the scores."""
    if len(ranked) < 2:
        return [float("inf")] * len(task.problem.fields)
    best, other = ranked[0], ranked[1]
    share = error_share(best.score, other.score)
    return [gap * share for gap in distance(task, points, best.function, other.function)]
