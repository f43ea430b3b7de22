"""Forward solves at a fixed resolution, for searches that need the solution as a smooth function of coefficients.

`Forward.at(values)` solves the problem with these coefficients on the present trial space, without any choice that
could jump with them; `Forward.refine(values)` makes the trial space larger, placed by the last solution.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pinnflow.methods.base import Clock, Task
from pinnflow.methods.evolution import LARGEST_STATE, Evolution
from pinnflow.methods.form import semidiscrete_form
from pinnflow.methods.least_squares import Candidate, Search
from pinnflow.methods.newton import NewtonSearch
from pinnflow.methods.spaces import Spaces
from pinnflow.methods.unknowns import fixed

GROWTH = 1.5  # of the spatial basis from one resolution to the next
RESOLVED = 3e-3  # relative residual of a trial space that is worth searching on
LATEST_TOLERANCE = 1e-8  # of the time integration, so that difference quotients are clean
PATIENCE = 4.0  # times the last solve, after which one is given up


class Solved:
    """A forward solution: `trial`, its `function`, relative residual `score`, and the seconds it took."""

    def __init__(self, trial, score: float, seconds: float):
        self.trial, self.score, self.seconds = trial, score, seconds

    @property
    def function(self):
        return self.trial.function


class _OneBasis(Spaces):
    """The systems on a given basis."""

    def __init__(self, task, form, rounds, basis):
        super().__init__(task, form, rounds)
        self.given = basis

    def basis(self, family, size):
        return self.given


class ForwardEvolution:
    """Integration in time on one spatial basis.

    Args:
        task: the inverse problem.
        values: `[k]`, coefficients at which the first basis is placed.
    """

    name = "evolution"

    def __init__(self, task: Task, values: np.ndarray):
        self.task = task
        forward = fixed(task, values)
        self.form_error = semidiscrete_form(forward)
        if isinstance(self.form_error, str):
            raise ValueError(self.form_error)
        self.search = Evolution(forward, self.form_error)
        self.family, self.size, self.level, self.basis = "", 0, 0, None
        self.seconds = 0.0

    def prepare(self) -> Solved | None:
        """Rounds at the start until the solution is resolved, as the forward method does them."""
        search = self.search
        sizes = {"waves": 33, "splines": 24}
        default = {0: 1, 1: 33, 2: 80}.get(len(search.space), 120)
        tolerance = 1e-4
        # A basis that stays as the coefficients move: of splines in the plane and of modes none is kept.
        size = {f: sizes.get(f, default) for f in search.spaces.families() if f not in ("sheets", "modes")}
        for _ in range(8):
            for family in size:
                search.integrate(family, size[family], tolerance)
            if search.rounds and search.best().score < RESOLVED:
                break
            if search.task.clock.over() or max(size.values()) * search.states > LARGEST_STATE:
                break
            size = {f: int(s * GROWTH) for f, s in size.items()}
            tolerance = max(LATEST_TOLERANCE, tolerance / 10)
        if not search.rounds:
            return None
        best = search.best()
        self.family, self.size = best.family, best.size
        self._place(best)
        return Solved(best.trial, best.score, best.seconds)

    def _place(self, last):
        self.search.rounds[:] = [last]
        self.basis = self.search.spaces.basis(self.family, self.size)

    def at(self, values: np.ndarray) -> Solved | None:
        """The solution for these coefficients; None where the integration does not reach the end."""
        forward = fixed(self.task, values)
        if self.seconds:
            patience = Clock(PATIENCE * self.seconds + 0.5)
            forward.clock = patience if patience.limit < self.task.clock.left else forward.clock
        form = semidiscrete_form(forward)
        if isinstance(form, str):
            return None
        one = Evolution(forward, form)
        one.spaces = _OneBasis(forward, form, one.rounds, self.basis)
        one.attempts = 4  # patience bounds the time, not the number of steps
        done = one.integrate(self.family, self.size, LATEST_TOLERANCE / 10 ** min(self.level, 3))
        if done is None:
            return None
        self.seconds, self.last = max(done.seconds, 0.5 * self.seconds), done
        return Solved(done.trial, done.score, done.seconds)

    def refine(self, solved: Solved) -> bool:
        """A larger basis, placed by `solved`; False when the largest is reached."""
        if not self.search.space:  # an ordinary differential equation: only the time integration can be refined
            self.level += 1
            return self.level <= 3
        size = int(self.size * GROWTH)
        if size * self.search.states > LARGEST_STATE:
            return False
        self.size, self.level = size, self.level + 1
        self._place(replace(self.last, trial=solved.trial))
        self.seconds *= 3
        return True

    def describe(self) -> str:
        return f"{self.size} {self.family} in space and integration in time"


class ForwardFeatures:
    """Least squares, or Newton's method from the last solution, on one set of features in all axes."""

    name = "features"

    def __init__(self, task: Task, values: np.ndarray):
        self.task = task
        forward = fixed(task, values)
        self.linear = forward.linear
        self.search = Search(forward) if self.linear else NewtonSearch(forward)
        self.largest = self.search.largest
        self.candidate: Candidate | None = None
        self.function, self.seconds = None, 0.0

    def prepare(self) -> Solved | None:
        """The family and the slopes by pilots at the start."""
        search = self.search
        if not self.linear:
            search.first_solution()
        search.pilots()
        best = search.ranked()[0]
        self.candidate, self.function, self.seconds = best.candidate, best.function, best.seconds
        return Solved(best.trial, best.score, best.seconds)

    def at(self, values: np.ndarray) -> Solved | None:
        """The solution for these coefficients; None when it is not finite."""
        forward = fixed(self.task, values)
        if self.linear:
            search = Search(forward)
        else:
            search = NewtonSearch(forward)
            search.current = self.function
        fitted = search.fit(self.candidate)
        score = fitted.measure.score()
        if not np.isfinite(score):
            return None
        self.seconds = fitted.seconds
        if score < 0.1:
            self.function = fitted.function
        return Solved(fitted.trial, score, fitted.seconds)

    def refine(self, solved: Solved) -> bool:
        """1.8 times as many features."""
        size = int(1.8 * self.candidate.size)
        if size > self.largest:
            return False
        self.candidate = replace(self.candidate, size=size)
        self.seconds *= 5
        return True

    def describe(self) -> str:
        return str(self.candidate)


def determined(task: Task, values: np.ndarray) -> bool:
    """Whether equations and conditions alone have one solution once the coefficients are known."""
    problem = fixed(task, values).problem
    missing = {"missing initial data", "missing boundary data", "too few equations"}
    return not any(f.code in missing or f.level == "error" for f in problem.check().findings)


def make_forward(task: Task, values: np.ndarray, method: str):
    """The forward solver that suits `method`, the choice for the problem with known coefficients."""
    return ForwardEvolution(task, values) if method == "evolution" else ForwardFeatures(task, values)
