"""What is reported about a fitted function: residuals on points that no method saw, and its error as a function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnflow.errors import NoErrorField
from pinnflow.methods.base import Clock, Outcome, Task, Term
from pinnflow.methods.error_field import error_field
from pinnflow.methods.rows import Function, as_function, atom_values, measure
from pinnflow.trial.expansion import FeatureTrial

FRESH_POINTS = 2000
OBSERVATION_SHARE = 0.03
NEGLIGIBLE = 1e-3  # of the rms of the terms of an equation


def fresh_residuals(task: Task, outcome: Outcome) -> tuple[dict[str, float], float, float]:
    """({statement: rms residual in problem units}, score, share), on fresh points of every equation and condition.

    The score is the root of the sum of squares of residual over the magnitude of its terms: above 1e-2 the function
    does not solve the problem, whatever else is said about it. Observations may be noisy: they count for 3 % of theirs.
    The share is that of the points at which an equation is violated by a third of its terms and more: where a solution
    is large in one corner, the score looks at that corner only.
    """
    rng = task.rng(100)
    terms = task.terms
    points = [
        task.draw(term, FRESH_POINTS if term.block.kind == "equation" else FRESH_POINTS // 8, rng) for term in terms
    ]
    unknowns = [torch.as_tensor(float(v), dtype=torch.float64) for v in outcome.unknowns.values()]
    result = measure(task, points, as_function(outcome.trial), terms, unknowns)
    checks: dict[str, float] = {}
    for term, value in zip(terms, result.residuals, strict=True):
        checks[term.block.name] = max(float(value), checks.get(term.block.name, 0.0))
    share = np.array([OBSERVATION_SHARE if term.block.kind == "observation" else 1.0 for term in terms])
    shares = [
        violated_share(task, term, place, as_function(outcome.trial), unknowns)
        for term, place in zip(terms, points, strict=True)
        if term.block.kind == "equation"
    ]
    return checks, replace(result, residuals=result.residuals * share).score(), max(shares, default=0.0)


def find_error(solution: Any) -> FeatureTrial:
    """What the true solution has more than a fitted one, as a function.

    Raises:
        NoErrorField: it cannot be found; the message says why and what there is instead.
    """
    task = Task(solution.problem, clock=Clock(None), seed=solution.seed)
    try:
        weights = getattr(solution.trial, "weights", None)
        size = weights.numel() if isinstance(weights, Tensor) else 0
        return error_field(task, as_function(solution.trial), size).trial
    except NoErrorField as reason:
        raise NoErrorField(
            f"The error of this solution cannot be given point by point: {reason}. `error_estimate` and `checks` hold."
        ) from None


def violated_share(task: Task, term: Term, points: Tensor, function: Function, unknowns: Sequence[Tensor]) -> float:
    """Of the points at which the terms are not negligible, the part where the residual is a third of them or more.

    Negligible are terms that the median residual would reach: a density is not judged where it has died out.
    """
    values = atom_values(task, term, points, function)
    size = term.residual.terms(points, values, unknowns).abs().sum(dim=1)
    residual = term.residual.value(points, values, unknowns).abs()
    typical = size.square().mean().sqrt()
    counted = size > torch.maximum(NEGLIGIBLE * typical, 2 * residual.median())
    wrong = residual > size / 3
    return float((wrong & counted).sum() / max(int(counted.sum()), 1))
