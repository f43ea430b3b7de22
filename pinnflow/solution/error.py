"""What is reported about a fitted function: residuals of every statement on points that no method saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pinnflow.methods.base import Outcome, Task
from pinnflow.methods.rows import as_function, measure

FRESH_POINTS = 2000
OBSERVATION_SHARE = 0.03


def fresh_residuals(task: Task, outcome: Outcome) -> tuple[dict[str, float], float]:
    """({statement: rms residual in problem units}, score), on fresh points of every equation and condition.

    The score is the root of the sum of squares of residual over the magnitude of its terms: above 1e-2 the function
    does not solve the problem, whatever else is said about it. Observations may be noisy: they count for 3 % of theirs.
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
    return checks, replace(result, residuals=result.residuals * share).score()
