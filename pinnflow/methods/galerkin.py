"""Second-order problems that fill a box of three axes or more: projection on placed splines, Newton's method, GMRES.

Rounds of more and more splines: the knots of each are placed by what the last solution looks like, and the distance of
the two best solutions, shared out by their residuals, is the estimate. See `bricks.py` for the system of one round.

Form solved: as many equations as fields, each with second derivatives of its field along every axis, linear or not, and
one condition with constant coefficients per field on every face (value, slope or both), or periodic axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pinnflow.errors import NotApplicable
from pinnflow.methods.base import Outcome, Task, meets, register_method, worth_it
from pinnflow.methods.bricks import Brick, pair_up, read_faces
from pinnflow.methods.least_squares import estimate_errors
from pinnflow.methods.placement import Sample, place, scattered
from pinnflow.methods.rows import (
    DISTANCE_POINTS,
    Function,
    Measure,
    as_function,
    measure,
    row_terms,
    widest_equation,
)
from pinnflow.methods.threads import one_thread
from pinnflow.trial.expansion import FeatureTrial

DEGREE = {3: 7, 4: 5}  # of splines, by the number of axes
FIRST = {3: 18, 4: 12}  # splines along an axis in the first round
GROWTH = 1.35  # of that number, from round to round
DEARER = 3.5  # a round than the last one
LARGEST = 700_000  # products per field
SMALL = 60_000  # products; below, one thread is faster than two
PERFECT = 1e-11
UNRESOLVED = 1e-2  # relative residual above which rounds do not stall
STEPS = 20  # of Newton's method
RELAXATIONS = 60  # steps in a pseudo-time
EXPLODED = 3.0  # factor by which a step in pseudo-time may enlarge the residual
SETTLED = 1e-3  # relative change of such a step after which Newton's method takes over
LINEAR_TOLERANCE = 1e-11
STEP_TOLERANCE = 1e-4  # of the linear system of a Newton step
USABLE = 0.5  # relative residual of a solution that knots are placed by


def obstacle(task: Task) -> str | None:
    """What in a problem stands in the way of this method; None where it applies."""
    problem = task.problem
    if task.dimension not in DEGREE:
        return f"it is for problems with three or four coordinates, and this one has {task.dimension}"
    if problem.unknowns or any(block.kind == "observation" for block in problem.blocks):
        return "coefficients are to be found"
    if not all(all(task.is_missing(f)) for f in problem.fields):
        return "a field does not depend on all coordinates"
    paired = pair_up(task, [term for term in row_terms(task) if term.block.kind == "equation"])
    if isinstance(paired, str):
        return paired
    faces = read_faces(task)
    return faces if isinstance(faces, str) else None


@dataclass
class Round:
    """A solution on one brick."""

    brick: Brick
    state: np.ndarray
    trial: FeatureTrial
    measure: Measure
    score: float
    seconds: float
    nominal: float

    @property
    def function(self) -> Function:
        return self.trial.function

    def sample(self, places, f, wanted) -> list[np.ndarray]:
        """Derivatives on a tensor grid of scaled places, axis by axis."""
        return self.brick.on_grid(self.brick.to_splines(self.state)[f], places, wanted)


@register_method("galerkin")
def solve_galerkin(task: Task) -> Outcome:
    """Rounds of growing resolution until the estimate stalls, meets the tolerance or time is up."""
    reason = obstacle(task)
    if reason is not None:
        raise NotApplicable(reason)
    return Galerkin(task).run()


class Galerkin:
    """The rounds of one problem."""

    def __init__(self, task: Task):
        self.task = task
        faces = read_faces(task)
        assert not isinstance(faces, str)
        self.faces = faces
        rng = task.rng(5)
        self.checks = [task.draw(t, 3000 if t.block.kind == "equation" else 300, rng) for t in row_terms(task)]
        self.fresh = task.draw(widest_equation(task.terms), DISTANCE_POINTS, task.rng(4))
        self.rounds: list[Round] = []
        self.errors: list[float] = []  # estimates of the best round, per field
        earlier = task.latest  # of another method: a start for Newton's method
        self.model: Sample | None = None
        if earlier is not None and earlier.trial is not None and earlier.score < USABLE:
            self.model = scattered(task, as_function(earlier.trial))

    def run(self) -> Outcome:
        task, count, stalled, stop = self.task, float(FIRST[self.task.dimension]), 0, ""
        while not stop:
            best = self.best()
            done = self.round(round(count**task.dimension))
            count *= GROWTH
            if done is None and self.rounds:
                stop = self.trouble
                break
            if done is None and count > 2.5 * FIRST[task.dimension]:
                return Outcome(None, float("inf"), float("inf"), self.trouble, "galerkin")
            if done is None:
                continue
            estimate = max(self.errors)
            improved = best is None or done.score <= 0.5 * best.score
            stalled = 0 if improved or done.score > UNRESOLVED else stalled + 1
            if meets(estimate, task.tolerance):
                stop = f"the error estimate met the tolerance {task.tolerance:.1e}"
            elif self.best().score <= PERFECT or estimate <= PERFECT:
                stop = "the error estimate reached rounding error"
            elif stalled >= 2:
                stop = "two larger systems did not halve the residual: the data are not smooth enough for more"
            elif count**task.dimension > LARGEST:
                stop = "the largest system was reached"
            elif DEARER * done.seconds > task.clock.left:
                stop = "the next round would not fit the time; raise `time_limit` for a smaller error"
            elif not worth_it(estimate, DEARER * done.nominal, task.tolerance):
                seconds = DEARER * done.nominal
                stop = f"the next round would take about {seconds:.0f} s; ask for a `tolerance` to go on"
        return self.outcome(stop)

    trouble = ""  # why a round failed

    def round(self, size: int) -> Round | None:
        """One solution; None when Newton's method or GMRES found none."""
        task, begin = self.task, self.task.clock.elapsed
        last = self.rounds[-1] if self.rounds else None
        sample = last.sample if last is not None and last.score < USABLE else None
        with one_thread(size < SMALL):
            brick = Brick(task, self.faces, place(task, sample, size, DEGREE[task.dimension]))
            state = self.solve(brick)
            if state is None:
                return None
            trial = brick.trial(state)
            result = measure(task, self.checks, trial.function)
        done = Round(brick, state, trial, result, result.score(), task.clock.elapsed - begin, brick.nominal_seconds())
        self.rounds.append(done)
        self.errors = self.estimates()
        task.keep(self.outcome("interrupted"))
        task.record(
            "round",
            unknowns=brick.size,
            score=done.score,
            estimate=max(self.errors),
            message=f"{brick.words()}, {brick.products} products with the Jacobian",
        )
        return done

    # -- Newton's method -----------------------------------------------------------------------------------------

    def solve(self, brick: Brick) -> np.ndarray | None:
        """The state that solves the equations of a brick, from the best start there is."""
        if self.task.linear:
            state = np.zeros(brick.size)
            right = -brick.residual(state)
            state, left = brick.solve(right, brick.diagonal(), LINEAR_TOLERANCE, self.task.clock.over)
            if left > 1e-3:
                self.trouble = f"GMRES stopped at a relative residual of {left:.0e}"
                return None
            return state
        starts: list[Callable[[], np.ndarray | None]] = []
        if self.rounds:
            starts.append(lambda: self.newton(brick, brick.nearest(self.rounds[-1].sample)))
        if self.model is not None:
            starts.append(lambda: self.newton(brick, brick.nearest(self.model)))
        starts.append(lambda: self.newton(brick, np.zeros(brick.size)))
        starts.append(lambda: self.by_relaxation(brick))
        starts.append(lambda: self.by_homotopy(brick))
        for start in starts:
            state = start()
            if state is not None:
                return state
            if self.task.clock.over():
                self.trouble = "the time limit was reached"
                return None
        self.trouble = "Newton's method did not converge from any start"
        return None

    def newton(
        self, brick: Brick, state: np.ndarray, offset: np.ndarray | float = 0.0, steps: int = STEPS
    ) -> np.ndarray | None:
        """Newton steps with backtracking for residual(u) = offset; None where they do not converge."""
        value = brick.residual(state) - offset
        for _ in range(steps):
            if self.task.clock.over() or not np.isfinite(value).all():
                return None
            diagonal = brick.diagonal()
            change, _ = brick.solve(-value, diagonal, STEP_TOLERANCE, self.task.clock.over)
            before, share = np.linalg.norm(value / diagonal), 1.0
            moved = np.linalg.norm(change)
            while True:
                after = brick.residual(state + share * change) - offset
                size = np.linalg.norm(after / diagonal)
                if size < (1 - 1e-4 * share) * before:
                    break
                if moved <= 1e-9 * np.linalg.norm(state):  # rounding
                    return state
                share /= 2
                if share < 1e-3:
                    return None
            state, value = state + share * change, after
            if share == 1.0 and moved <= LINEAR_TOLERANCE * np.linalg.norm(state):
                return state
        return state if size <= 1e-8 * np.linalg.norm(state) else None

    def by_relaxation(self, brick: Brick) -> np.ndarray | None:
        """Follow +-u_t = F(u) from zero by implicit steps that grow as the residual falls, then Newton's method.

        Source: Kelley & Keyes, Convergence analysis of pseudo-transient continuation, SIAM J. Numer. Anal. 35 (1998).
        """
        state = np.zeros(brick.size)
        value = brick.residual(state)
        last = float(np.linalg.norm(value))
        if not np.isfinite(last):
            return None
        rate = max(brick.reaction(), float(np.quantile(np.abs(brick.diagonal()), 0.01)))
        for _ in range(RELAXATIONS):
            diagonal = brick.diagonal()
            toward = np.sign(np.median(diagonal)) * rate
            change, _ = brick.solve(-value, diagonal, STEP_TOLERANCE, self.task.clock.over, toward)
            moved = state + change
            value = brick.residual(moved)
            size = float(np.linalg.norm(value))
            if self.task.clock.over():
                return None
            if not size <= EXPLODED * last:
                value, rate = brick.residual(state), 5 * rate
                continue
            rate = rate * min(max(size / last, 1 / 3), 2.0)
            state, last = moved, size
            if np.linalg.norm(change) <= SETTLED * np.linalg.norm(state):
                break
        return self.newton(brick, state)

    def by_homotopy(self, brick: Brick) -> np.ndarray | None:
        """Follow F(u) = (1 - s) F(0) from s = 0, where zero solves it, to s = 1."""
        state = np.zeros(brick.size)
        whole = brick.residual(state)
        if not np.isfinite(whole).all():
            return None
        share, step = 0.0, 0.25
        while share < 1.0:
            target = min(1.0, share + step)
            moved = self.newton(brick, state, (1 - target) * whole, 8)
            if moved is not None:
                state, share, step = moved, target, 1.5 * step
                continue
            step /= 2
            if step < 1e-3 or self.task.clock.over():
                return None
        return state

    # -- results -------------------------------------------------------------------------------------------------

    def best(self) -> Round | None:
        return min(self.rounds, key=lambda r: r.score, default=None)

    def estimates(self) -> list[float]:
        return estimate_errors(self.task, self.fresh, sorted(self.rounds, key=lambda r: r.score))

    def outcome(self, stop: str) -> Outcome:
        """The best round as a result."""
        best, errors = self.best(), self.errors
        assert best is not None
        return Outcome(
            best.trial,
            max(errors),
            best.score,
            stop,
            "galerkin",
            [f"{best.brick.words()}, relative residual {best.score:.1e}"],
            by_field=errors,
        )
