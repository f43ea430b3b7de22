"""Nonlinear problems that are stationary, or whose time cannot be integrated: Newton on features.

Every step is a least-squares solve with the rows of the symbolic Frechet derivative: F'(u) v = F'(u) u - F(u), with
backtracking on the weighted residual. A small system is solved first from several starts; afterwards every new set of
features begins at the current solution's values and needs one to three steps.

Form solved: any equations and conditions that are differentiable in the fields.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pinnflow.declare.analysis import is_linear
from pinnflow.methods import slabs
from pinnflow.methods.base import Outcome, Task, register_method
from pinnflow.methods.least_squares import (
    FIRST_SPLINES,
    SPLINES,
    Candidate,
    Fit,
    Search,
    draw_expansion,
    grow,
    row_points,
)
from pinnflow.methods.placement import splines_apply
from pinnflow.methods.rows import (
    Function,
    atom_values,
    linearise,
    observed,
    row_terms,
    solve_rows,
    weighted_residual,
    widest_equation,
    zero_function,
)
from pinnflow.methods.threads import one_thread
from pinnflow.trial.expansion import Expansion, FeatureTrial

FIRST_STEPS = 25
LATER_STEPS = 4
CONVERGED = 1e-12
SETTLED_SCORE = 0.05  # relative residual on a small basis of a solution, not of another minimum of the residual


@register_method("newton")
def solve_newton(task: Task) -> Outcome:
    """A first solution from several starts, then the same search and growth as for linear problems."""
    search = NewtonSearch(task)
    search.splines = splines_apply(task)
    with one_thread():
        search.first_solution()
    search.pilots()
    outcome = grow(task, search, until_hopeless=False)
    return slabs.improve(task, search, outcome) if slabs.apply(task) else outcome


class NewtonSearch(Search):
    """The search of the linear method with Newton steps from the best solution so far."""

    method = "newton"

    def __init__(self, task: Task):
        super().__init__(task)
        self.current: Function = zero_function
        self.current_score = float("inf")

    def first_solution(self) -> None:
        """Newton from zero, from a smooth extension of the data, and by a homotopy, on a few small bases."""
        task = self.task
        even = (1.0,) * task.dimension
        bases = [Candidate("chebyshev", even, self.pilot)]
        bases += [
            Candidate("sin", tuple(3.0 * s for s in even), self.pilot),
            Candidate("sin", tuple(6.0 * s for s in even), self.pilot),
        ]
        found = False  # Newton's method has come to rest where a small basis does as well as it can
        for start in (self.from_zero, self.from_data, self.by_homotopy):
            for candidate in bases:
                if self.out_of_time(0.0):
                    return
                begin = task.clock.elapsed
                expansion = draw_expansion(task, candidate)
                steps = start(expansion)
                fitted = self.measured(candidate, expansion, steps.weights, begin)
                fitted.score = fitted.measure.score(self.scales)
                self.remember(fitted)
                task.record(
                    "start",
                    unknowns=expansion.size,
                    score=fitted.score,
                    message=f"{start.__name__.replace('_', ' ')} on {candidate}",
                )
                self.tried[candidate] = fitted
                self.accept(fitted)
                if steps.settled and fitted.score < SETTLED_SCORE:
                    found = True
            if not found and self.splines and self.current_score > 1e-2:
                # A solution that a small basis does not resolve: splines may, from the best so far.
                found = self.try_one(Candidate(SPLINES, even, FIRST_SPLINES)).score < SETTLED_SCORE
            if found or self.current_score < 1e-2:
                break
        # Dense ones are solved again from the best, with the rest.
        self.tried = {c: f for c, f in self.tried.items() if c.family == SPLINES and f.score < SETTLED_SCORE}

    def pilots(self) -> None:
        """As for linear problems; one only beside splines that have found what small dense bases could not."""
        if not self.tried:
            super().pilots()
            return
        self.try_one(Candidate("chebyshev", (1.0,) * self.task.dimension, self.pilot))
        self.rescale()

    def accept(self, fitted: Fit) -> None:
        """Later bases start from the best function so far."""
        score = fitted.measure.score()
        if score < self.current_score:
            self.current, self.current_score = fitted.function, score

    def try_one(self, candidate: Candidate) -> Fit:
        known = candidate in self.tried
        fitted = super().try_one(candidate)
        if not known:
            self.accept(fitted)
        return fitted

    def fit(self, candidate: Candidate) -> Fit:
        """A few Newton steps on a candidate's features, begun at the current solution."""
        task, begin = self.task, self.task.clock.elapsed
        expansion, points = self.space(candidate)
        rows = linearise(task, expansion, points, self.current)
        weights, linear = rows.solve()
        # Near the solution one step is enough: what is left is what these features cannot represent.
        after = weighted_residual(task, points, rows.scales, FeatureTrial(expansion, weights).function)
        if after > 1.2 * linear + CONVERGED:
            weights = newton(task, expansion, points, weights, LATER_STEPS).weights
        return self.measured(candidate, expansion, weights, begin)

    # -- starts --------------------------------------------------------------------------------------------------

    def from_zero(self, expansion: Expansion) -> Steps:
        points = row_points(self.task, expansion, clustered=True)
        return newton(self.task, expansion, points, torch.zeros(expansion.size, dtype=torch.float64), FIRST_STEPS)

    def from_data(self, expansion: Expansion) -> Steps:
        points = row_points(self.task, expansion, clustered=True)
        return newton(self.task, expansion, points, smooth_extension(self.task, expansion, points), FIRST_STEPS)

    def by_homotopy(self, expansion: Expansion) -> Steps:
        """Follow F(u) = (1 - s) F(u_0) from s = 0, where the extension of the data solves it, to s = 1."""
        task = self.task
        points = row_points(task, expansion, clustered=True)
        weights = smooth_extension(task, expansion, points)
        offsets = residual_values(task, points, FeatureTrial(expansion, weights).function)
        share, step = 0.0, 0.25
        while share < 1.0 and step > 1e-3 and not task.clock.over():
            target = min(1.0, share + step)
            moved = newton(task, expansion, points, weights, 8, [(1 - target) * o for o in offsets])
            if moved.settled:
                weights, share, step = moved.weights, target, step * 1.5
            else:
                step /= 2
        return newton(task, expansion, points, weights, FIRST_STEPS)


@dataclass(frozen=True)
class Steps:
    """Where Newton's method ended: the weights, and whether the last full step no longer changed the residual."""

    weights: Tensor
    settled: bool


def newton(
    task: Task,
    expansion: Expansion,
    points: list[Tensor],
    weights: Tensor,
    steps: int,
    offsets: list[Tensor] | None = None,
) -> Steps:
    """Newton steps with backtracking from `weights`; ends at the last weights whose residual is finite.

    Args:
        offsets: per term `[n]`, subtracted from the residual (a homotopy); None for zero.
    """
    settled = False
    for _ in range(steps):
        function = FeatureTrial(expansion, weights).function
        rows = linearise(task, expansion, points, function)
        if offsets is not None:
            rows.shift([o / s for o, s in zip(offsets, rows.scales, strict=True)])
        if not rows.finite():
            break
        change = rows.solve()[0] - weights
        before = weighted_residual(task, points, rows.scales, function, offsets)
        share, accepted, after = 1.0, None, before
        for _ in range(10):
            candidate = weights + share * change
            after = weighted_residual(task, points, rows.scales, FeatureTrial(expansion, candidate).function, offsets)
            if after < before * (1 - 1e-4 * share):
                accepted = candidate
                break
            share /= 2
        if accepted is None:
            # No step lowers the residual: a minimum, up to rounding, if the full step hardly changes it.
            settled = after < before * (1 + 1e-6)
            break
        weights = accepted
        if after < CONVERGED or (share == 1.0 and after > 0.9 * before):
            settled = True
            break
        if task.clock.over():
            break
    return Steps(weights, settled)


def residual_values(task: Task, points: list[Tensor], function: Function) -> list[Tensor]:
    """F(u) per term, `[n]`."""
    return [
        observed(term, term.residual.value(place, atom_values(task, term, place, function), []))
        for term, place in zip(row_terms(task), points, strict=True)
    ]


def smooth_extension(task: Task, expansion: Expansion, points: list[Tensor]) -> Tensor:
    """Weights of a smooth function that meets the affine conditions: second derivatives along every axis are small."""
    rows = linearise(task, expansion, points, None).matrix
    kept, start = [], 0
    domain, widest = None, widest_equation(task.terms)
    for term, place in zip(row_terms(task), points, strict=True):
        if term.block.kind == "equation":
            domain = place if term is widest else domain
        elif is_linear(term.part):
            kept.append(rows[start : start + len(place)])
        start += len(place)
    one = torch.ones((), dtype=torch.float64)
    for f in range(len(task.problem.fields)):
        for axis in range(task.dimension):
            orders = tuple(2 if i == axis else 0 for i in range(task.dimension))
            block = torch.zeros(len(domain), expansion.size + 1, dtype=torch.float64)
            expansion.rows([(domain, [(f, orders, one)])], block[:, :-1])
            kept.append(1e-3 * block / max(float(torch.linalg.vector_norm(block)), 1e-300))
    return solve_rows(torch.cat(kept), cut=1e-10)[0]
