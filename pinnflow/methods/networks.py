"""Networks: for many coordinates, for what no system of features resolves, or for a network of the user's own.

Up to a few thousand weights are trained by Gauss-Newton, more by SOAP and L-BFGS; each training is a method of its own
as well. Afterwards the last layer is solved for, and the linearised error equation on features gives the error and a
correction. Where one system of features resolves the axes, the network is the start of Newton steps on features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from pinnflow.methods.base import Outcome, Task, register_method
from pinnflow.methods.first_order import adam, soap
from pinnflow.methods.gauss_newton import gauss_newton
from pinnflow.methods.last_layer import correct, error_of, polish_last_layer
from pinnflow.methods.least_squares import grow
from pinnflow.methods.newton import NewtonSearch
from pinnflow.methods.objective import Objective, field_scales
from pinnflow.methods.quasi_newton import broyden, lbfgs
from pinnflow.methods.rows import as_function, measure, row_terms, widest_equation
from pinnflow.methods.unknowns import fixed
from pinnflow.trial.networks import NetworkTrial, make_network
from pinnflow.trial.sums import SumTrial

SMALL = 5000  # weights that Gauss-Newton can take
WIDTH = {1: 24, 2: 30, 3: 30}
DEPTH = 2
ROWS_PER_WEIGHT = 1.6
FIRST_ORDER_POINTS = 2048
POLISHED = 2  # axes that one system of features resolves, whatever the solution
TRAINED = 0.65  # of the time; the rest is for the correction and the estimate
CORRECTIONS = 4
GAIN = 0.7  # a correction that lowers the residual by less is not added

Train = Callable[..., tuple[int, str]]


@register_method("network")
def solve_network(task: Task) -> Outcome:
    """Gauss-Newton for small networks in float64, else SOAP and then L-BFGS."""
    network = build_network(task)
    weights = sum(p.numel() for p in network.parameters() if p.requires_grad)
    double = all(p.dtype == torch.float64 for p in network.parameters())
    if weights <= SMALL and double:
        return train(task, network, [(gauss_newton, 1.0)], int(ROWS_PER_WEIGHT * weights), "network", "Gauss-Newton")
    return train(task, network, [(soap, 0.6), (lbfgs, 1.0)], FIRST_ORDER_POINTS, "network", "SOAP and L-BFGS")


def _register(name: str, training: Train, words: str) -> None:
    @register_method(name)
    def solve(task: Task) -> Outcome:
        network = build_network(task)
        weights = sum(p.numel() for p in network.parameters() if p.requires_grad)
        count = int(ROWS_PER_WEIGHT * weights) if training is gauss_newton else FIRST_ORDER_POINTS
        return train(task, network, [(training, 1.0)], count, name, words)

    solve.__doc__ = f"{words} on a network, then what linear algebra adds."


for _name, _training, _words in (
    ("adam", adam, "Adam"),
    ("broyden", broyden, "self-scaled Broyden"),
    ("gauss_newton", gauss_newton, "Gauss-Newton"),
    ("lbfgs", lbfgs, "L-BFGS"),
    ("soap", soap, "SOAP"),
):
    _register(_name, _training, _words)


def train(
    task: Task, network: nn.Module, stages: list[tuple[Train, float]], count: int, method: str, words: str
) -> Outcome:
    """Train in stages, polish the last layer, estimate the error, correct.

    Args:
        stages: `[(training, share of the training time at which it ends)]`.
        count: points of each equation.
        method: name of the outcome's method.
        words: how the training is called.
    """
    own = isinstance(task.network, nn.Module)
    objective = Objective(task, network, 0, count)
    objective.check_start()
    begin, limit = task.clock.elapsed, task.clock.limit
    steps, stop = 0, ""
    try:
        for training, share in stages:
            end = begin + TRAINED * share * (limit - begin)
            first = task.clock.elapsed
            extra = {"share": partial(_share, task, first, end)} if training in (adam, soap) else {}

            def record(step, score, words=words):
                task.record("train", step=step, score=score, unknowns=objective.size, message=words)

            done, stop = training(objective, lambda end=end: task.clock.elapsed >= end, record, **extra)
            steps += done
        polish_last_layer(objective)
    except KeyboardInterrupt:
        task.latest = Outcome(objective.trial, math.inf, math.inf, "interrupted", method, [], objective.estimates())
        raise
    plain = fixed(task, list(objective.estimates().values()), observations=True) if task.problem.unknowns else task
    terms = row_terms(plain)
    checks = [plain.draw(t, 2000 if t.block.kind == "equation" else 200, plain.rng(6)) for t in terms]
    score = measure(plain, checks, objective.function).score()
    remarks = [f"network with {objective.size} weights, {steps} steps of {words}, relative residual {score:.1e}"]
    outcome = Outcome(objective.trial, math.inf, score, stop, method, remarks, objective.estimates())
    task.keep(outcome)
    if task.dimension <= POLISHED and not task.problem.unknowns and not own and method == "network":
        polished = polish(task, outcome)
        if polished is not None:
            return polished
    return improve(plain, outcome, checks, keep=own or bool(task.problem.unknowns))


def improve(task: Task, outcome: Outcome, checks: list, keep: bool) -> Outcome:
    """The error by linearised corrections, which are added while they help.

    Args:
        task: with numbers for all coefficients.
        checks: fresh points of every term.
        keep: leave the function as it is.
    """
    fresh = task.draw(widest_equation(task.terms), 2000, task.rng(7))
    parts, seconds = [outcome.trial], 0.0
    for number in range(1 if keep else CORRECTIONS):
        function = as_function(parts[0]) if len(parts) == 1 else SumTrial(tuple(parts)).function
        if number and task.clock.left < 2.5 * seconds:  # 1.5 times as many features cost about twice as much
            break
        correction = correct(task, function, checks, number)
        if correction is None:
            break
        seconds = correction.seconds
        estimate = error_of(task, function, outcome.score, correction, fresh)
        outcome.error_estimate = min(estimate, outcome.error_estimate) if number == 0 else estimate
        if keep or correction.score > GAIN * outcome.score:
            break
        left = correction.score / outcome.score
        parts.append(correction.trial)
        outcome.trial, outcome.score = SumTrial(tuple(parts)), correction.score
        outcome.error_estimate *= max(left, 0.1)  # until the next correction tells
        size = correction.trial.weights.numel()
        outcome.remarks.append(f"corrected on {size} features to a relative residual of {correction.score:.1e}")
        task.record("correct", unknowns=size, score=correction.score, estimate=outcome.error_estimate)
        if task.tolerance is not None and outcome.error_estimate <= task.tolerance:
            outcome.stop = f"the error estimate met the tolerance {task.tolerance:.1e}"
            break
    if not math.isfinite(outcome.error_estimate):
        outcome.error_estimate = outcome.score
        outcome.remarks.append("the estimate is the relative residual: there was no time for the error equation")
    return outcome


def polish(task: Task, outcome: Outcome) -> Outcome | None:
    """Newton steps on features from the trained network; None where that does not give a better solution."""
    search = NewtonSearch(task)
    search.current, search.current_score = as_function(outcome.trial), outcome.score
    search.pilots()
    if not search.tried or search.ranked()[0].score > 10 * outcome.score:
        return None
    polished = grow(task, search)
    if polished.score >= outcome.score:
        return None
    polished.method = outcome.method
    polished.remarks = [*outcome.remarks, "polished by Newton steps on " + polished.remarks[0]]
    return polished


def build_network(task: Task) -> nn.Module:
    """The user's module, a registered network by name, or the default one for the problem's axes."""
    if isinstance(task.network, nn.Module):
        return task.network
    if isinstance(task.start, NetworkTrial):
        return task.start.module
    return make_network(
        task.network or "mlp",
        inputs=task.dimension,
        outputs=len(task.problem.fields),
        width=WIDTH.get(task.dimension, 30),
        depth=DEPTH,
        bounds=task.bounds,
        periodic=[i for i, p in enumerate(task.periodic) if p],
        harmonics=4,
        scale=field_scales(task),
        dtype=task.dtype,
        seed=1000 * task.seed,
    )


def _share(task, begin, end):
    return (task.clock.elapsed - begin) / max(end - begin, 1e-9)
