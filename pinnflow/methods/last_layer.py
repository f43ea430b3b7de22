"""What linear algebra adds to a trained network: the best last layer, and corrections by features.

The residual is affine in the last layer where the problem is linear, so one least-squares solve gives its best weights;
elsewhere a few Gauss-Newton steps. A correction e solves the linearised equations F'(u) e = -F(u) on features that have
nothing to do with the network; it is both an estimate of the network's error and a better solution u + e.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pinnflow.methods.base import Task
from pinnflow.methods.least_squares import Candidate, draw_expansion, nominal_seconds, row_points
from pinnflow.methods.objective import Objective
from pinnflow.methods.rows import Function, atom_values, linearise, measure, observed, row_terms, solve_rows
from pinnflow.methods.threads import one_thread
from pinnflow.trial.expansion import FeatureTrial

STEPS = 4
SLOPES = (1.5, 3.0, 6.0)
SIZES = {1: 60, 2: 300, 3: 700}
LARGEST = 2000


def polish_last_layer(objective: Objective) -> bool:
    """Set the last linear layer, and the coefficients behind it, to their least-squares values; False if not better."""
    span = last_layer(objective)
    if span is None:
        return False
    theta = objective.theta.clone()
    residual = objective.residuals(theta).detach()
    first = loss = float(residual @ residual)
    for _ in range(STEPS):
        jacobian = objective.jacobian(theta, span).detach()
        rows = torch.cat([jacobian, -residual[:, None]], dim=1).double().cpu()
        if not torch.isfinite(rows).all():
            break
        step = solve_rows(rows)[0].to(theta)
        share, done = 1.0, False
        while share > 1e-3:
            moved = theta.clone()
            moved[span] += share * step
            after = objective.residuals(moved).detach()
            value = float(after @ after)
            if value < loss * (1 - 1e-6):
                done = True
                break
            share /= 2
        if not done:
            break
        stalled = value > 0.99 * loss
        theta, residual, loss = moved, after, value
        if stalled or objective.task.linear:
            break
    objective.load(theta)
    return loss < first


def last_layer(objective: Objective) -> slice | None:
    """Where theta holds the last linear layer; None when the module does not end in one."""
    outputs = len(objective.task.problem.fields)
    layers = [(n, m) for n, m in objective.network.named_modules() if isinstance(m, nn.Linear)]
    layers = [(n, m) for n, m in layers if m.out_features == outputs]
    if not layers:
        return None
    prefix, start, span = layers[-1][0] + ".", 0, None
    for name, parameter in objective.network.named_parameters():
        if not parameter.requires_grad:
            continue
        stop = start + parameter.numel()
        if name.startswith(prefix):
            span = (start if span is None else span[0], stop)
        start = stop
    return None if span is None else slice(*span)


@dataclass(frozen=True)
class Correction:
    """A solution of the linearised error equation.

    Attributes:
        trial: e.
        score: relative residual of u + e on the fresh points.
        seconds: what one family of this size took.
    """

    trial: FeatureTrial
    score: float
    seconds: float


def correction_size(task: Task, number: int) -> int:
    """Unknowns per field of the number-th correction."""
    size = SIZES.get(task.dimension, 1000) // max(1, round(len(task.problem.fields) ** 0.5))
    return min(int(size * 1.5**number), LARGEST)


def correct(task: Task, function: Function, checks: list, number: int = 0) -> Correction | None:
    """The best e of a few families of features; None when there is no time or nothing is finite.

    Args:
        task: the problem with numbers for all coefficients.
        function: u.
        checks: fresh points of every term that needs rows.
        number: of this correction; later ones have more features, others than before.
    """
    size, best = correction_size(task, number), None
    seconds = 0.0
    for slope in SLOPES:
        begin = task.clock.elapsed
        if best is not None and task.clock.left < 1.5 * seconds:
            break
        if best is None and task.clock.left < 2 * nominal_seconds(size * len(task.problem.fields)):
            return None
        candidate = Candidate("sin", (slope * 1.2**number,) * task.dimension, size)
        expansion = draw_expansion(task, candidate)
        points = row_points(task, expansion, clustered=False)
        with one_thread(size < 1000):
            rows = linearise(task, expansion, points, function)
            right = [
                -observed(t, t.residual.value(p, atom_values(task, t, p, function), [])) / s
                for t, p, s in zip(row_terms(task), points, rows.scales, strict=True)
            ]
            rows.aim(right)
            if not rows.finite():
                return best
            trial = FeatureTrial(expansion, rows.solve()[0])
        score = measure(task, checks, summed(function, trial.function)).score()
        seconds = task.clock.elapsed - begin
        if best is None or score < best.score:
            best = Correction(trial, score, seconds)
        elif score > 3 * best.score:
            break
    return best


def summed(one: Function, other: Function) -> Function:
    """u + e."""
    return lambda points, wanted: [a + b for a, b in zip(one(points, wanted), other(points, wanted), strict=True)]


def error_of(task: Task, function: Function, score: float, correction: Correction, fresh: torch.Tensor) -> float:
    """Relative error of u from a correction: |e| / |u|, larger by what the correction leaves in the residual.

    With rho the part of the residual that stays, |e| / sqrt(1 - rho^2); a correction that does not lower the residual
    says nothing, and the relative residual is returned if it is larger.
    """
    zero = (0,) * task.dimension
    wanted = [(f, zero) for f in range(len(task.problem.fields))]
    errors, values = correction.trial.function(fresh, wanted), function(fresh, wanted)
    sizes = [
        float(torch.linalg.vector_norm(e) / torch.linalg.vector_norm(v)) for e, v in zip(errors, values, strict=True)
    ]
    left = correction.score / max(score, 1e-300)
    size = max(s if np.isfinite(s) else math.inf for s in sizes)
    if left >= 0.95:
        return max(size, score)
    return size / math.sqrt(1 - left**2)
