"""Evolution problems: functions of space with exact conditions, integration in time, grown in rounds.

Each round enlarges the basis and tightens the time tolerance; `spaces.py` places its functions by what the last
rounds found. Several families run side by side until one resolves the solution.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from pinnflow.errors import NotApplicable
from pinnflow.methods.base import Outcome, Task, meets, register_method, worth_it
from pinnflow.methods.form import semidiscrete_form
from pinnflow.methods.rows import DISTANCE_POINTS, Measure, distance, error_share, measure, row_terms, widest_equation
from pinnflow.methods.spaces import Spaces
from pinnflow.methods.threads import one_thread
from pinnflow.trial.evolution import EvolutionTrial

RESOLVED = 0.1  # a score below this says which family does better
GROWTH = {1: 1.5, 2: 2.0, 3: 2.0}  # of the number of features from round to round, by space dimension
PERFECT = 1e-11
TIGHTEST = 1e-12  # tolerance in time
SHARE_POWER = 0.8
LARGEST = {"sheets": 20_000, "modes": 40_000}  # weights in sparse systems and in those that need no matrix
LARGEST_STATE = 1600  # weights in a dense system
DEARER = {"sheets": 2.8, "modes": 3.5}  # how many times longer a round of twice the size takes; 8 with full matrices
PATIENCE = (0.03, 2.0)  # what is behind may take this part of the time limit, or so many times what the best took
SMALL_STATE = 1000  # below, one thread is faster than two


@dataclass
class Round:
    """One integration: its size, tolerance, solution and how good it is."""

    family: str
    size: int
    tolerance: float
    trial: EvolutionTrial
    measure: Measure
    score: float
    seconds: float
    nominal: float
    steps: int
    kept: dict = field(default_factory=dict)

    @property
    def function(self):
        return self.trial.function

    @property
    def resolution(self) -> tuple[str, int, float]:
        """What the error depends on; two rounds that share it share their error."""
        return self.family, self.size, self.tolerance


@register_method("evolution")
def solve_evolution(task: Task) -> Outcome:
    """Rounds of growing resolution until the estimate stalls, the tolerance is met or time is up."""
    form = semidiscrete_form(task)
    if isinstance(form, str):
        raise NotApplicable(form)
    return Evolution(task, form).run()


class Evolution:
    """The rounds of one problem."""

    def __init__(self, task: Task, form):
        self.task, self.form = task, form
        self.space = [i for i in range(task.dimension) if i != task.time_column]
        self.states = sum(max(o, 1) for o in form.orders)
        rng = task.rng(5)
        self.checks = [task.draw(t, 1500 if t.block.kind == "equation" else 200, rng) for t in row_terms(task)]
        self.fresh = task.draw(widest_equation(task.terms), DISTANCE_POINTS, task.rng(4))
        self.rounds: list[Round] = []
        self.spaces = Spaces(task, form, self.rounds)
        self.troubles: list[str] = []
        self.failures: dict[str, int] = {}
        self.attempts = 0

    # -- rounds --------------------------------------------------------------------------------------------------

    def integrate(self, family: str, size: int, tolerance: float) -> Round | None:
        """One round; None when the integration did not reach the end."""
        task = self.task
        begin = task.clock.elapsed
        self.attempts += 1
        # A basis that is too small for the equation may oscillate or grow without end; it must not take all the time.
        most = int(300 * 1.5**self.attempts)
        start, end = task.bounds[task.time_column]

        def tell(t):
            task.report("integrate", unknowns=size * self.states, fraction=(t - start) / (end - start))

        best = self.best() if self.rounds else None
        patience = np.inf
        if best is not None and best.family != family:
            patience = max(PATIENCE[0] * task.clock.limit, PATIENCE[1] * best.seconds)

        def should_stop():
            return task.clock.over() or task.clock.elapsed - begin > patience

        with one_thread(size * self.states < SMALL_STATE or family in LARGEST):
            system = self.spaces.system(family, size)
            trial, path = system.solve(tolerance, should_stop, tell, most)
        if trial is None or path.reached < end - 1e-12 * (end - start):
            self.troubles.append(path.trouble)
            slow = task.clock.elapsed - begin > patience
            self.failures[family] = self.failures.get(family, 0) + (2 if slow else 1)
            return None
        result = measure(task, self.checks, trial.function)
        finished = Round(
            family,
            system.bases[0].size,
            tolerance,
            trial,
            result,
            result.score(),
            task.clock.elapsed - begin,
            system.nominal_seconds(path.statistics),
            len(path.times) - 1,
        )
        self.rounds.append(finished)
        task.keep(self.outcome("interrupted"))
        task.record(
            "round",
            unknowns=system.size,
            score=finished.score,
            steps=finished.steps,
            estimate=self.estimate(),
            message=f"{system.bases[0].size} {family} in space, {finished.steps} steps in time",
        )
        return finished

    def best(self) -> Round:
        return min(self.rounds, key=lambda r: r.score)

    def estimate(self) -> float:
        """The largest over the fields."""
        return max(self.estimates())

    def estimates(self) -> list[float]:
        """Of every field the distance of the best to the second-best solution, shared out by their scores.

        The residual falls a little faster than the error: over the library the error goes with its power 0.8.
        """
        ranked = sorted(self.rounds, key=lambda r: r.score)
        unknown = [float("inf")] * len(self.task.problem.fields)
        if len(ranked) < 2:
            return unknown
        best = ranked[0]
        others = [r for r in ranked[1:] if r.resolution != best.resolution]
        if not others:
            return unknown  # the same twice says nothing
        # Two bases with the same tolerance take the same steps, and share their error in time.
        other = next((r for r in others if best.tolerance <= TIGHTEST or r.tolerance != best.tolerance), others[0])
        unseen = best.score if other.tolerance == best.tolerance > TIGHTEST else 0.0
        share = error_share(best.score, other.score) ** SHARE_POWER
        return [max(unseen, gap * share) for gap in distance(self.task, self.fresh, self.seen(best), self.seen(other))]

    def seen(self, one: Round):
        """A round's function, its values at the fresh points kept."""

        def function(points, wanted):
            if points is not self.fresh:
                return one.function(points, wanted)
            missing = [w for w in wanted if w not in one.kept]
            if missing:
                one.kept.update(zip(missing, one.function(points, missing), strict=True))
            return [one.kept[w] for w in wanted]

        return function

    def run(self) -> Outcome:
        task = self.task
        sizes = {
            "waves": 33,
            "splines": 24,
            "sheets": 200,
            "modes": 400,
            "products": {0: 1, 1: 33, 2: 80, 3: 120}.get(len(self.space), 200),
        }
        families = self.spaces.families()
        tolerance, stalled, stop = 1e-4, 0, ""
        while not stop:
            before = self.best().score if self.rounds else np.inf
            for family in families:
                sizes[family] = self._fitting(family, sizes[family])
                if not sizes[family] or (len(self.space) < 2 and self._too_long(family)):
                    continue
                done = self.integrate(family, sizes[family], tolerance)
                sizes[family] = int(sizes[family] * GROWTH.get(len(self.space), 2.0)) if self.space else 1
                if done is None and task.clock.over():
                    break
            families = self.remaining(families)
            if self.rounds:
                if len(self.rounds) >= 4 and self.best().score < RESOLVED:
                    families = self.leading(families)
                now = self.best().score
                # A layer that is not found yet looks like a stall; only a resolved solution can stall.
                stalled = stalled + 1 if now > 0.5 * before and now < 1e-2 else 0
                estimate = self.estimate()
                if meets(estimate, task.tolerance):
                    stop = f"the error estimate met the tolerance {task.tolerance:.1e}"
                elif now <= PERFECT or estimate <= PERFECT:
                    stop = "the error estimate reached rounding error"
                elif stalled >= 3:
                    stop = "three larger bases did not halve the residual: the data are not smooth enough for more"
            elif len(self.troubles) >= 8 or sum("blow up" in trouble for trouble in self.troubles) >= 3:
                stop = f"the time integration failed: {self.troubles[-1]}"
            if not stop and all(self._next_is_too_long(f, sizes[f]) for f in families):
                stop = "the next round would not fit the time; raise `time_limit` for a smaller error"
            if not stop and self.rounds:
                seconds = min(self.next_seconds(f) for f in families)
                if not worth_it(estimate, seconds, task.tolerance):
                    stop = f"the next round would take about {seconds:.0f} s; ask for a `tolerance` to go on"
            for f in families:
                largest = LARGEST.get(f, LARGEST_STATE)
                done = max((r.size for r in self.rounds if r.family == f), default=0) * self.states
                if done * 1.3 > largest:
                    families = [g for g in families if g != f]
                sizes[f] = min(sizes[f], largest // self.states) if self.space else 1
            if not stop and not families:
                stop = "the largest system was reached"
            if not stop and not self.space and self.rounds and tolerance <= TIGHTEST:
                stop = "the tightest tolerance in time was reached; only a shorter time interval has a smaller error"
            tolerance = self.next_tolerance(tolerance)
        return self.outcome(stop)

    def leading(self, families: list[str]) -> list[str]:
        """The family of the best round; in the plane also those whose next round is cheaper than its next one."""
        lead = self.best().family
        cost = {r.family: self.next_seconds(r.family) for r in self.rounds}
        if len(self.space) < 2:
            return [lead]
        return [f for f in families if f == lead or (f in cost and cost[f] < cost[lead])]

    def next_seconds(self, family: str) -> float:
        """Nominal time of the next round of a family; 0 if it has had none yet."""
        mine = [r.nominal for r in self.rounds if r.family == family]
        return self.dearer(family) * mine[-1] if mine else 0.0

    def remaining(self, families: list[str]) -> list[str]:
        """Without those that failed twice, were too slow, or twice both slower and worse, where another did better.

        Sheets come in the place of modes that never reach the end.
        """
        done = {r.family for r in self.rounds}
        last = [next((r for r in reversed(self.rounds) if r.family == f), None) for f in families]
        for one, other in permutations([r for r in last if r is not None], 2):
            if one.score > other.score and self.next_seconds(one.family) > self.next_seconds(other.family):
                self.failures[one.family] = self.failures.get(one.family, 0) + 1
                if self.failures[one.family] >= 2:
                    families = [f for f in families if f != one.family]
        failed = {f for f in families if self.failures.get(f, 0) >= 2 and f not in done}
        if "modes" in failed:
            return ["sheets" if f == "modes" else f for f in families]
        return [f for f in families if f not in failed] if done else families

    def next_tolerance(self, last: float) -> float:
        """Tighter every round, so that two solutions never share their error in time.

        Ten times along one axis; in the plane and above, where steps are dear, as the estimate asks.
        """
        estimate = self.estimate()
        if len(self.space) < 2 or not np.isfinite(estimate):
            return max(TIGHTEST, last / 10)
        return max(TIGHTEST, min(last / 2, 1e-3 * estimate))

    def outcome(self, stop: str) -> Outcome:
        """The best round as a result; nothing when no round reached the end."""
        if not self.rounds:
            return Outcome(None, float("inf"), float("inf"), stop, "evolution")
        best = self.best()
        estimates = [h["estimate"] for h in self.task.history if h["stage"] == "round"][-2:]
        errors = self.estimates()
        converging = len(self.rounds) >= 3 and len(estimates) == 2 and estimates[1] < 0.6 * estimates[0] < 0.1
        return Outcome(
            best.trial,
            max(errors),
            best.score,
            stop,
            "evolution",
            [f"{best.size} {best.family} in space, {best.steps} steps in time, relative residual {best.score:.1e}"],
            converging=converging,
            by_field=errors,
        )

    def dearer(self, family: str) -> float:
        """How many times longer a round of twice (along one axis, 1.5 times) the size takes."""
        return 3.0 if len(self.space) < 2 else DEARER.get(family, 8.0)

    def _too_long(self, family):
        mine = [r for r in self.rounds if r.family == family]
        if not mine:
            return self.task.clock.over()
        return self.task.clock.elapsed + self.dearer(family) * mine[-1].seconds > self.task.clock.limit

    def _next_is_too_long(self, family, size):
        return self._too_long(family) if len(self.space) < 2 else not self._fitting(family, size)

    def _fitting(self, family: str, size: int) -> int:
        """The next size, less if only less fits the time; at least 1.25 times the last or it is not worth it."""
        mine = [r for r in self.rounds if r.family == family]
        if not mine or len(self.space) < 2:
            return size
        last = mine[-1]
        share = 0.8 * self.task.clock.left / max(last.seconds, 1e-3)
        power = np.log2(self.dearer(family))
        fits = int(last.size * max(share, 1e-3) ** (1 / power))
        return size if fits >= size else fits if fits >= 1.25 * last.size else 0
