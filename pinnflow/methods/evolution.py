"""Evolution problems: features in space with exact conditions, implicit integration in time, grown in rounds.

Along one space axis the features are splines whose knots are re-placed after every round, by a monitor of the last
solution, and waves where the axis is periodic; along several axes they are products of polynomials and waves. Each
round enlarges the basis and tightens the time tolerance. Nothing is told where a layer is.

The system itself is in `semidiscrete.py`, the integrator in `radau.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pinnflow.errors import NotApplicable
from pinnflow.methods.base import Outcome, Task, meets, register_method, worth_it
from pinnflow.methods.form import semidiscrete_form
from pinnflow.methods.rows import DISTANCE_POINTS, Measure, distance, measure, row_terms, widest_equation
from pinnflow.methods.semidiscrete import DenseSystem
from pinnflow.methods.sheets import SparseSystem
from pinnflow.methods.spline_products import Sheet
from pinnflow.methods.system import Grid, System, end_points, tensor_grid
from pinnflow.methods.threads import one_thread
from pinnflow.trial.evolution import EvolutionTrial
from pinnflow.trial.features import Basis, Product, Spline, product_indices

DEGREE = 9
SHEET_DEGREE = 5
RESOLVED = 0.1  # a score below this says which family does better
GROWTH = {1: 1.5, 2: 2.0, 3: 2.0}  # of the number of features from round to round, by space dimension
SHAPE_TAIL = 1e-4
PERFECT = 1e-11
TIGHTEST = 1e-12  # tolerance in time
SHARE_POWER = 0.8
LARGEST_STATE = 1600  # weights in a dense system
LARGEST_SHEET = 20_000  # weights in a sparse one
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
        self.troubles: list[str] = []
        self.attempts = 0

    # -- bases ---------------------------------------------------------------------------------------------------

    def families(self) -> list[str]:
        if len(self.space) == 1:
            return ["waves", "splines"] if self.task.periodic[self.space[0]] else ["splines"]
        if len(self.space) == 2 and all(f.args == self.task.problem.fields[0].args for f in self.task.problem.fields):
            return ["products", "sheets"]
        return ["products"]

    def basis(self, family: str, size: int) -> tuple[Basis, Grid, int]:
        """(basis over all columns, quadrature grid, points per axis for conditions on faces)."""
        task = self.task
        if family == "splines":
            return self._splines(size)
        axes, nodes = [], []
        space_periodic = [task.periodic[i] for i in self.space]
        indices = product_indices(self.shape(), size, space_periodic) if self.space else np.zeros((1, 0), int)
        if self.space and len(self.space) == 1:
            indices = np.arange(size | 1)[:, None]
        counts = indices.max(axis=0) + 1 if self.space else []
        full = np.zeros((len(indices), task.dimension), dtype=np.int64)
        for i in range(task.dimension):
            if i == task.time_column:
                axes.append("chebyshev")
                nodes.append((np.zeros(1), np.ones(1)))
                continue
            column = self.space.index(i)
            full[:, i] = indices[:, column]
            count = int(counts[column])
            points = int(np.ceil(1.5 * count)) + 4
            if task.periodic[i]:
                axes.append("fourier")
                nodes.append((-1 + 2 * np.arange(points) / points, np.full(points, 2.0 / points)))
            else:
                axes.append("chebyshev")
                nodes.append(np.polynomial.legendre.leggauss(points))
        basis = Product(tuple(axes), torch.as_tensor(full))
        return basis, tensor_grid(task, nodes), max((int(c) for c in counts), default=1) + 2

    def shape(self) -> np.ndarray:
        """How many functions an axis needs relative to the others, from how the last solution's weights decay."""
        last = next((r.trial for r in reversed(self.rounds) if r.family == "products"), None)
        if last is None or len(self.space) < 2:
            return np.ones(len(self.space))
        needs = np.ones(len(self.space))
        indices = last.bases[0].indices.numpy()
        for f, basis in enumerate(last.bases):
            if basis.size != len(indices):
                continue
            energy = np.square(last.weights[f]).max(axis=(0, 1))  # [N], the largest over time
            for i, column in enumerate(self.space):
                marginal = np.bincount(indices[:, column], energy)
                tail = np.sqrt(np.cumsum(marginal[::-1])[::-1] / max(marginal.sum(), 1e-300))
                # The first index behind which less than 1e-4 is left; one and a half times the last where more is.
                small = np.flatnonzero(tail < SHAPE_TAIL)
                needs[i] = max(needs[i], small[0] if len(small) else 1.5 * len(marginal))
        return needs

    def _splines(self, size):
        axis = self.space[0]
        periodic = self.task.periodic[axis]
        pieces = max(size - (0 if periodic else DEGREE), DEGREE + 2 if periodic else 4)
        last = self.rounds[-1].trial if self.rounds else None
        knots = even_share(None if last is None else self._monitor(last, axis), pieces)
        spline = Spline(DEGREE, knots, periodic)
        axes = ["chebyshev"] * self.task.dimension
        axes[axis] = spline
        full = np.zeros((spline.count, self.task.dimension), dtype=np.int64)
        full[:, axis] = np.arange(spline.count)
        nodes = [(np.zeros(1), np.ones(1))] * self.task.dimension
        per_piece = (DEGREE + 1) // 2 if pieces > DEGREE else DEGREE + 1
        nodes[axis] = composite_gauss(knots, per_piece)
        return Product(tuple(axes), torch.as_tensor(full)), tensor_grid(self.task, nodes), 1

    def _monitor(self, trial: EvolutionTrial, axis: int) -> np.ndarray:
        """`[2001]` or `[201]`: how much the solution varies along an axis, the largest over time and the other axis."""
        task = self.task
        others = [i for i in self.space if i != axis]
        along = np.linspace(-1, 1, 201 if others else 2001)
        start, end = task.bounds[task.time_column]
        places = [np.zeros(1)] * task.dimension
        places[axis] = along
        for i in others:
            places[i] = np.linspace(-1, 1, 41)
        grid = torch.as_tensor(np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, task.dimension))
        points = grid * task.frame.half + task.frame.center
        orders = [tuple(k if i == axis else 0 for i in range(task.dimension)) for k in range(3)]
        half = float(task.frame.half[axis])
        monitor = np.zeros(len(along))
        for f in range(len(task.problem.fields)):
            value, first, second = trial.snapshots(points, f, orders, np.linspace(start, end, 11 if others else 41))
            size = np.ptp(value, axis=1, keepdims=True)
            size = np.maximum(size, 1e-9 * max(size.max(), 1e-300))
            local = np.abs(first) * half / size + np.sqrt(np.abs(second) * half**2 / size)
            shape = [len(local), *(len(p) for p in places)]
            local = np.moveaxis(local.reshape(shape), axis + 1, 0).reshape(len(along), -1)
            monitor = np.maximum(monitor, local.max(axis=1))
        return monitor

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

        with one_thread(size * self.states < SMALL_STATE or family == "sheets"):
            system = self.system(family, size)
            trial, path = system.solve(tolerance, task.clock.over, tell, most)
        if trial is None or path.reached < end - 1e-12 * (end - start):
            self.troubles.append(path.trouble)
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

    def system(self, family: str, size: int) -> System:
        """The equations on a basis of about `size` functions per field."""
        task = self.task
        if family == "sheets":
            return SparseSystem(task, self.form, self.sheet(size))
        basis, grid, per_axis = self.basis(family, size)
        bases = tuple(basis.restrict(task.is_missing(f)) for f in task.problem.fields)
        bases = tuple(basis if b.size == basis.size else b for b in bases)
        return DenseSystem(task, self.form, bases, grid, end_points(task, per_axis))

    def sheet(self, size: int) -> Sheet:
        """Splines along both axes, their numbers shared out by how much the last solution varies along each."""
        task = self.task
        last = next((r.trial for r in reversed(self.rounds) if r.score < 0.5), None)
        monitors = [None, None] if last is None else [self._monitor(last, axis) for axis in self.space]
        variation = [1.0 if m is None else float(np.mean(m)) for m in monitors]
        share = np.clip(np.sqrt(variation[0] / max(variation[1], 1e-300)), 0.2, 5.0)
        axes: list[Spline | None] = [None] * task.dimension
        for column, monitor, factor in zip(self.space, monitors, (share, 1 / share), strict=True):
            periodic = task.periodic[column]
            count = max(round(size**0.5 * factor), 2 * SHEET_DEGREE + 2)
            pieces = count if periodic else count - SHEET_DEGREE
            axes[column] = Spline(SHEET_DEGREE, even_share(monitor, pieces), periodic)
        return Sheet(tuple(axes))

    def best(self) -> Round:
        return min(self.rounds, key=lambda r: r.score)

    def estimate(self) -> float:
        """Distance of the best to the second-best solution, shared out by their scores.

        The residual falls a little faster than the error: over the library the error goes with its power 0.8.
        """
        ranked = sorted(self.rounds, key=lambda r: r.score)
        if len(ranked) < 2:
            return float("inf")
        best = ranked[0]
        other = next((r for r in ranked[1:] if r.resolution != best.resolution), None)
        if other is None:
            return float("inf")  # the same twice says nothing
        share = (best.score / max((best.score**2 + other.score**2) ** 0.5, 1e-300)) ** SHARE_POWER
        return max(distance(self.task, self.fresh, best.function, other.function)) * share

    def run(self) -> Outcome:
        task = self.task
        sizes = {
            "waves": 33,
            "splines": 24,
            "sheets": 200,
            "products": {0: 1, 1: 33, 2: 80, 3: 120}.get(len(self.space), 200),
        }
        families = self.families()
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
            if self.rounds:
                if len(self.rounds) >= 4 and self.best().score < RESOLVED:
                    families = [self.best().family]
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
                last = self.rounds[-1]
                seconds = self.dearer(last.family) * last.nominal
                if not worth_it(estimate, seconds, task.tolerance):
                    stop = f"the next round would take about {seconds:.0f} s; ask for a `tolerance` to go on"
            for f in families:
                largest = LARGEST_SHEET if f == "sheets" else LARGEST_STATE
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

    def next_tolerance(self, last: float) -> float:
        """Tighter every round, so that two solutions never share their error in time.

        Ten times along one axis; in the plane and above, where steps are dear, as the estimate asks.
        """
        estimate = self.estimate()
        if len(self.space) < 2 or not np.isfinite(estimate):
            return max(TIGHTEST, last / 10)
        return max(TIGHTEST, min(last / 10, 1e-3 * estimate))

    def outcome(self, stop: str) -> Outcome:
        """The best round as a result; nothing when no round reached the end."""
        if not self.rounds:
            return Outcome(None, float("inf"), float("inf"), stop, "evolution")
        best = self.best()
        estimates = [h["estimate"] for h in self.task.history if h["stage"] == "round"][-2:]
        converging = len(self.rounds) >= 3 and len(estimates) == 2 and estimates[1] < 0.6 * estimates[0] < 0.1
        return Outcome(
            best.trial,
            self.estimate(),
            best.score,
            stop,
            "evolution",
            [f"{best.size} {best.family} in space, {best.steps} steps in time, relative residual {best.score:.1e}"],
            converging=converging,
        )

    def dearer(self, family: str) -> float:
        """How many times longer a round of twice (along one axis, 1.5 times) the size takes."""
        return 3.0 if len(self.space) < 2 else 2.8 if family == "sheets" else 8.0

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


def even_share(monitor: np.ndarray | None, pieces: int) -> np.ndarray:
    """`[pieces + 1]` knots on [-1, 1] that share out a monitor, and a quarter of the axis, evenly."""
    if monitor is None or not monitor.any():
        return np.linspace(-1, 1, pieces + 1)
    density = 0.25 + 0.75 * monitor / monitor.mean()
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(np.linspace(0, 1, pieces + 1), share / share[-1], np.linspace(-1, 1, len(monitor)))


def composite_gauss(knots: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre places and weights on every piece between knots."""
    places, weights = np.polynomial.legendre.leggauss(points)
    low, high = knots[:-1, None], knots[1:, None]
    return ((low + high) / 2 + (high - low) / 2 * places).ravel(), ((high - low) / 2 * weights).ravel()
