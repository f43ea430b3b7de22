"""Unknown coefficients by Gauss-Newton on forward solves.

Form solved: minimise over the coefficients c the sum of ((observed(u_c, c) - value) / noise)^2, where u_c solves the
equations and conditions for c. The equations are a constraint, not a penalty, so noisy data cannot bend them.

Procedure: the forward problem is solved by its own method at a moderate resolution; sensitivities by difference
quotients, then Broyden updates; Levenberg-Marquardt within the bounds; the resolution grows until the coefficients no
longer move. Where the statements do not determine the field for given coefficients (an initial state that is not
declared), `joint.py` fits both together.

Source: Nocedal & Wright, Numerical Optimization (2006), ch. 10.
"""

from __future__ import annotations

import math

import numpy as np

from pinnflow.errors import NotApplicable
from pinnflow.methods.base import Outcome, Task, register_method
from pinnflow.methods.choose import choose
from pinnflow.methods.form import semidiscrete_form
from pinnflow.methods.forward import RESOLVED, Solved, determined, make_forward
from pinnflow.methods.initial_state import COUNTS, complete, missing_states
from pinnflow.methods.joint import solve_joint
from pinnflow.methods.rows import distance, error_share, row_terms
from pinnflow.methods.unknowns import Certainty, Coefficients, Data, Found, certainty, fixed, identifiability_remark

STEPS = 40  # Levenberg-Marquardt steps on one resolution
RESTARTS = 6
SETTLED = 1e-9  # relative change of the coefficients from one resolution to the next
FITS = 0.05  # misfit over spread of the data above which another start is tried


@register_method("inverse")
def solve_inverse(task: Task) -> Outcome:
    """Coefficients and fields from observations."""
    if not task.problem.unknowns:
        raise NotApplicable("there are no unknown coefficients")
    if not any(block.kind == "observation" for block in task.problem.blocks):
        raise NotApplicable("there are no observations")
    coefficients = Coefficients(task)
    values = coefficients.values(coefficients.start)
    if not determined(task, values):
        return solve_undetermined(task)
    return Inversion(task, coefficients, forward_method(task, values)).run()


def forward_method(task: Task, values: np.ndarray) -> str:
    """The method for the problem with known coefficients."""
    methods = choose(fixed(task, values)).methods
    # Exact features depend on the coefficients themselves, so a basis that stays is better here.
    usable = [name for name in methods if name in ("evolution", "least squares", "newton")]
    if not usable:
        raise NotApplicable(f"the forward problem goes to `{methods[0]}`, which is too slow to be repeated")
    return usable[0]


def solve_undetermined(task: Task) -> Outcome:
    """Fields and coefficients together; with an initial state in few parameters where that does not do.

    The first is for smooth solutions, the second also for layers, which features in space and time do not resolve.
    """
    missing = missing_states(task) if task.problem.time is not None else []
    if not missing:
        return solve_joint(task)
    made = complete(task, missing, COUNTS[0])
    values = made.coefficients.values(made.coefficients.start)
    forward = fixed(made.task, values)
    if not determined(made.task, values) or isinstance(semidiscrete_form(forward), str):
        return solve_joint(task)
    outcome = solve_joint(task, alternative=True)
    if outcome is not None:
        return outcome
    best = None
    for count in COUNTS:
        before = None if best is None else best.named()
        made = complete(task, missing, count, before)
        search = Inversion(made.task, made.coefficients, "evolution", restarts=0, declared=made.declared)
        search.truncated = True
        if not search.first():
            break
        if best is not None:
            first = slice(0, made.declared)
            search.doubt = np.abs(search.level_states[-1].z[first] - best.level_states[-1].z[first])
            if search.noise() > 0.8 * best.noise():
                best.truncated = False
                break  # more functions only follow the noise
        best = search
        task.record("initial state", score=search.noise(), message=f"{count} functions for the initial state")
        if search.explained() or task.clock.left < 4 * search.spent:
            break
    if best is None:
        return solve_joint(task)
    return best.improve()


class State:
    """One evaluated point of the search: `z`, the forward solution there, scaled residual `[n]`, half its square."""

    def __init__(self, z: np.ndarray, solved: Solved, residual: np.ndarray):
        self.z, self.solved, self.residual = z, solved, residual
        self.cost = 0.5 * float(residual @ residual)


class Inversion:
    """The search for the coefficients of one problem."""

    def __init__(
        self, task: Task, coefficients: Coefficients, method: str, restarts: int = RESTARTS, declared: int | None = None
    ):
        self.task, self.coefficients, self.method, self.restarts = task, coefficients, method, restarts
        self.declared = len(coefficients) if declared is None else declared  # the rest describe an initial state
        self.data = Data(task)
        equation = next(t for t in row_terms(task) if t.block.kind == "equation")
        self.fresh = task.draw(equation, 2000, task.rng(4))
        self.zero = [(f, (0,) * task.dimension) for f in range(len(task.problem.fields))]
        self.jacobian: np.ndarray | None = None  # [n, k], d residual / dz
        self.field_slopes: np.ndarray | None = None  # [k, fields, m], d u / dz on the fresh points
        self.solves = 0
        self.truncated = False  # the observations would be matched better with more functions for the initial state
        self.doubt = np.zeros(self.declared)  # how far the coefficients moved with the last more of them, in z
        self.level_states: list[State] = []  # the result of every resolution

    # -- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, z: np.ndarray) -> State | None:
        """The forward solution at z and how it fits; None where there is none."""
        values = self.coefficients.values(z)
        solved = self.forward.at(values)
        self.solves += 1
        return None if solved is None else self.state(z, solved)

    def state(self, z, solved) -> State | None:
        predicted = self.data.predict(solved.function, self.coefficients.values(z))
        residual = (predicted - self.data.values) / self.data.scale
        return State(z, solved, residual) if np.isfinite(residual).all() else None

    def differentiate(self, state: State) -> bool:
        """Sensitivities at a state by difference quotients; False when a forward solve fails."""
        columns, fields = [], []
        base = np.stack([v.numpy() for v in state.solved.function(self.fresh, self.zero)])
        for i, h in enumerate(self.coefficients.step(state.z)):
            z = state.z.copy()
            z[i] += h
            if self.out_of_time():
                return False
            moved = self.evaluate(z)
            if moved is None:
                return False
            columns.append((moved.residual - state.residual) / h)
            values = np.stack([v.numpy() for v in moved.solved.function(self.fresh, self.zero)])
            fields.append((values - base) / h)
        self.jacobian, self.field_slopes = np.stack(columns, axis=1), np.stack(fields)
        return True

    def out_of_time(self) -> bool:
        return self.task.clock.left < 1.2 * self.forward.seconds

    # -- Levenberg-Marquardt on one resolution ---------------------------------------------------------------------

    def descend(self, state: State) -> State:
        """Steps from `state` until they no longer lower the misfit by much, or leave what this resolution resolves."""
        damping, fresh = 1e-3, False
        if self.jacobian is None:
            if not self.differentiate(state):
                return state
            fresh = True
        for _ in range(STEPS):
            if self.out_of_time():
                break
            step = self.step(state, damping)
            predicted = state.cost - 0.5 * float(np.sum((state.residual + self.jacobian @ step) ** 2))
            tiny = np.linalg.norm(step) < 1e-12 * (1 + np.linalg.norm(state.z))
            if tiny or predicted <= 1e-14 * state.cost:
                break
            moved = self.evaluate(state.z + step)
            gain = -1.0 if moved is None else (state.cost - moved.cost) / predicted
            if moved is not None and moved.cost < state.cost:
                # Broyden: the Jacobian learns what the step has shown.
                y = moved.residual - state.residual
                self.jacobian = self.jacobian + np.outer(y - self.jacobian @ step, step) / (step @ step)
                done = state.cost - moved.cost < 1e-4 * state.cost and self.small(step)
                state = moved
                self.record(state)
                if done or state.solved.score > RESOLVED:
                    break
                if gain > 0.5:
                    damping, fresh = max(damping / 30, 1e-12), False
                    continue
                if gain > 0.05:
                    fresh = False
                    continue
            elif moved is not None and self.small(step) and fresh:
                break  # nothing left but the noise of the forward solves
            if not fresh:
                if not self.differentiate(state):
                    break
                fresh = True
            else:
                damping = max(damping * (100 if moved is None else 10), 1e-6)
                if damping > 1e8:
                    break
        return state

    def small(self, step) -> bool:
        """A step that does not matter: below what the noise in the data leaves open, or close to rounding."""
        spread = (
            np.sqrt(np.diag(self.certainty(self.level_residual(step)).covariance)) if self.jacobian is not None else 0
        )
        return bool(np.all(np.abs(step) < np.maximum(1e-3 * spread, 1e-10)))

    def level_residual(self, _):
        return self._residual

    def step(self, state: State, damping: float) -> np.ndarray:
        """min |J s + r|^2 + damping sum_i |J_i|^2 s_i^2 within the bounds: variables pushed out of them stay put."""
        self._residual = state.residual
        free = np.ones(len(self.coefficients), dtype=bool)
        norms = np.linalg.norm(self.jacobian, axis=0)
        norms = np.maximum(norms, 1e-7 * max(norms.max(), 1e-300))
        for _ in range(len(free) + 1):
            step = np.zeros(len(free))
            if not free.any():
                break
            rows = np.concatenate([self.jacobian[:, free], np.diag(np.sqrt(damping) * norms[free])])
            right = np.concatenate([-state.residual, np.zeros(free.sum())])
            step[free] = np.linalg.lstsq(rows, right, rcond=1e-12)[0]
            size = np.abs(step[free]).max()
            if size > 2.0:  # a step of 1 is already large
                step *= 2.0 / size
            target = self.coefficients.cautiously(state.z, self.coefficients.clip(state.z + step))
            stuck = free & (target == state.z) & (step != 0)
            if not stuck.any():
                return target - state.z
            free &= ~stuck
        return step

    def certainty(self, residual: np.ndarray) -> Certainty:
        return certainty(self.jacobian, residual, self.data.noise is not None)

    # -- the whole search ------------------------------------------------------------------------------------------

    def misfit(self, state: State) -> float:
        """Root mean square of residual over the spread of the data; over the noise where it is known."""
        return math.sqrt(2 * state.cost / len(state.residual))

    def fits(self, state: State) -> bool:
        return self.misfit(state) < (3.0 if self.data.noise is not None else FITS)

    def begin(self, z: np.ndarray) -> State | None:
        """The forward solver prepared at z, and the state there."""
        self.forward = make_forward(self.task, self.coefficients.values(z), self.method)
        solved = self.forward.prepare()
        self.jacobian = None
        return None if solved is None else self.evaluate(z)

    def start(self) -> State | None:
        """The best minimum from the given start; from others when it does not fit the data."""
        begin = self.task.clock.elapsed
        starts = [self.coefficients.start, *self.coefficients.other_starts(self.restarts, self.task.rng(11))]
        best = None
        for z in starts:
            if best is not None and self.task.clock.elapsed - begin > 0.5 * (self.task.clock.limit - begin):
                break
            state = self.begin(self.coefficients.clip(z))
            if state is None:
                continue
            state = self.descend_resolved(state)
            if best is None or state.cost < best[0].cost:
                best = (state, self.forward, self.jacobian, self.field_slopes)
            if self.fits(state):
                break
            self.task.record("restart", score=self.misfit(state), message="the data are not matched from this start")
        if best is None:
            return None
        state, self.forward, self.jacobian, self.field_slopes = best
        return state

    def descend_resolved(self, state: State) -> State:
        """Descend; where the coefficients have moved to a solution that is not resolved, refine and go on."""
        state = self.descend(state)
        while state.solved.score > RESOLVED and not self.out_of_time():
            again = state
            while again is not None and again.solved.score > RESOLVED and self.forward.refine(again.solved):
                again = self.evaluate(state.z)
            if again is None or again is state:
                break
            self.jacobian = None  # of a solution that was not resolved
            state = self.descend(again)
        return state

    def run(self) -> Outcome:
        """Minimise, then refine the resolution until the coefficients no longer move."""
        if not self.first():
            return Outcome(None, math.inf, math.inf, "the forward problem could not be solved at any start", "inverse")
        return self.improve()

    def first(self) -> bool:
        """The minimum on the first resolution; False when there is none."""
        begin = self.task.clock.elapsed
        state = self.start()
        self.spent = self.task.clock.elapsed - begin
        self.level_states = [] if state is None else [state]
        return state is not None

    def noise(self) -> float:
        """The standard deviation of the residuals, in units of the data's spread or noise."""
        residual = self.level_states[-1].residual
        return float(np.sqrt(np.sum(residual**2) / max(len(residual) - len(self.coefficients), 1)))

    def explained(self) -> bool:
        """Nothing is left to explain: the misfit is that of the noise, or of the forward solution."""
        if self.data.noise is not None:
            return self.noise() < 1.05
        return self.noise() < 0.1 * self.level_states[-1].solved.score

    def named(self) -> dict[str, float]:
        """{name: value} of all coefficients at the last state."""
        values = self.coefficients.values(self.level_states[-1].z)
        return {s.name: float(v) for s, v in zip(self.coefficients.symbols, values, strict=True)}

    def improve(self) -> Outcome:
        """Larger forward systems until the coefficients no longer move."""
        task, state = self.task, self.level_states[-1]
        stop = ""
        while not stop:
            task.keep(self.outcome("interrupted"))
            moved = self.movement()
            if len(self.level_states) > 1:
                known = self.certainty(state.residual)
                bar = np.maximum(0.02 * np.sqrt(np.diag(known.covariance)), SETTLED)
                goal = task.tolerance if task.tolerance is not None else 0.0
                if np.all((moved <= np.maximum(bar, 0.1 * goal))[: self.declared]):
                    stop = "a finer forward solution no longer moved the coefficients"
                    break
            if task.clock.left < 3 * 3 * max(state.solved.seconds, 1e-3):
                stop = "the next resolution would not fit the time; raise `time_limit` for smaller errors"
                break
            if not self.forward.refine(state.solved):
                stop = "the largest forward system was reached"
                break
            finer = self.evaluate(state.z)
            if finer is None:
                stop = "the forward problem failed on a finer resolution; the last one is kept"
                break
            state = self.descend(finer)
            self.level_states.append(state)
        return self.outcome(stop)

    def movement(self) -> np.ndarray:
        """How far the coefficients moved with the last refinement, `[k]`, in z."""
        if len(self.level_states) < 2:
            return np.full(len(self.coefficients), np.inf)
        return np.abs(self.level_states[-1].z - self.level_states[-2].z)

    def share(self) -> float:
        """The part of the distance between the last two resolutions that is the finer one's error."""
        if len(self.level_states) < 2:
            return 1.0
        before, now = (state.solved.score for state in self.level_states[-2:])
        return error_share(now, before)

    def record(self, state: State) -> None:
        self.task.record("coefficients", score=self.misfit(state), message=self.coefficients.text(state.z))

    def outcome(self, stop: str) -> Outcome:
        """The last resolution as a result, with intervals."""
        state, symbols = self.level_states[-1], self.coefficients.symbols
        if self.jacobian is None:
            known = Certainty(np.full((len(symbols),) * 2, np.inf), np.zeros(len(symbols), dtype=bool), math.inf)
        else:
            known = self.certainty(state.residual)
        # The forward error moves the coefficients as well: what the last refinement did, shared out by the residuals.
        moved = self.movement() * self.share()
        numerical = np.where(np.isfinite(moved), moved, 0.0)
        numerical[: self.declared] = np.maximum(numerical[: self.declared], self.doubt)
        if self.jacobian is not None:  # and a search that had to stop early is a step away from the minimum
            numerical = np.hypot(numerical, np.abs(self.step(state, 0.0)))
        errors = np.sqrt(np.diag(known.covariance) + numerical**2) * np.abs(self.coefficients.slopes(state.z))
        errors = np.where(known.lost, np.inf, errors)
        values = self.coefficients.values(state.z)
        symbols = symbols[: self.declared]
        found = {s: Found(float(v), float(e)) for s, v, e in zip(symbols, values, errors, strict=False)}
        remarks = [f"Gauss-Newton on the coefficients with {self.forward.describe()}, {self.solves} forward solutions"]
        if self.declared < len(self.coefficients):
            more = len(self.coefficients) - self.declared
            remarks.append(f"the initial state was not declared and is found as well, in {more} functions")
        remark = identifiability_remark(symbols, known.lost[: self.declared])
        if self.data.noise is not None:
            if self.misfit(state) > 2.0:
                remarks.append(
                    f"the observations are matched to {self.misfit(state):.1f} times their noise only: the "
                    "statements or the noise do not describe them"
                )
        elif not self.fits(state):
            remarks.append(f"the observations are matched to {self.misfit(state):.0%} of their spread only")
        else:
            remarks.append(f"the observations are matched to {self.misfit(state):.1e} of their spread")
        at_bound = (state.z <= self.coefficients.low) | (state.z >= self.coefficients.high)
        for symbol, bad in zip(symbols, at_bound, strict=False):
            if bad:
                remarks.append(f"{symbol} ended at its bound; widen it if that is not meant")
        stop = f"{remark}. {stop}" if remark else stop
        if not self.fits(state):
            stop = "the observations are not matched: try other starts or wider `Bounds`. " + stop
        return Outcome(
            state.solved.trial, self.field_error(state, known), state.solved.score, stop, "inverse", remarks, found
        )

    def field_error(self, state: State, known: Certainty) -> float:
        """Relative error of the fields: of the forward solution, and from the uncertainty of the coefficients."""
        forward = math.inf
        if len(self.level_states) > 1:
            before = self.level_states[-2]
            gap = max(distance(self.task, self.fresh, state.solved.function, before.solved.function))
            forward = gap * self.share()
        else:
            forward = state.solved.score
        if self.truncated and self.data.noise is None:
            forward = math.hypot(forward, self.misfit(state))
        if self.field_slopes is None or not np.isfinite(known.covariance).all():
            return forward
        values = np.stack([v.numpy() for v in state.solved.function(self.fresh, self.zero)])
        sizes = np.sqrt(np.mean(values**2, axis=1))
        spread = np.einsum("ifm,ij,jfm->f", self.field_slopes, known.covariance, self.field_slopes) / values.shape[1]
        statistical = float(np.max(np.sqrt(np.maximum(spread, 0.0)) / np.maximum(sizes, 1e-300)))
        return math.hypot(forward, statistical)
