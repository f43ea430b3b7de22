"""The whole road from a declaration to a solution: the file to read first.

check -> task -> choose -> method(s) -> residuals on fresh points -> Solution.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pinnflow.declare.check import raise_if_ill_posed
from pinnflow.errors import NotApplicable, NotSolved, UnusableDevice
from pinnflow.methods import (  # noqa: F401  (they register themselves)
    evolution,
    exact_features,
    inverse,
    least_squares,
    networks,
    newton,
)
from pinnflow.methods.base import Clock, Outcome, Task, find_method, meets
from pinnflow.methods.choose import Choice, choose
from pinnflow.methods.rows import as_function, distance, floating_fields, widest_equation
from pinnflow.solution.error import fresh_residuals
from pinnflow.solution.progress import make_progress
from pinnflow.solution.solution import SOLVED, Estimate, Solution
from pinnflow.solution.storage import load


def fit(
    problem,
    method: str = "auto",
    *,
    tolerance=None,
    time_limit=None,
    seed=0,
    device=None,
    dtype=None,
    network=None,
    points=None,
    progress=None,
    checkpoint=None,
    resume=False,
    callbacks=(),
) -> Solution:
    """Solve `problem`; see `Problem.fit` for the arguments."""
    raise_if_ill_posed(problem)
    with make_progress(progress) as report:
        task = Task(
            problem,
            tolerance=check_positive("tolerance", tolerance),
            clock=Clock(check_positive("time_limit", time_limit)),
            seed=check_whole("seed", seed, 0),
            device=pick_device(device),
            dtype=dtype or torch.float64,
            network=network,
            points=None if points is None else check_whole("points", points, 1),
            report=report,
            callbacks=tuple(callbacks),
        )
        if method == "auto":
            choice = choose(task)
        else:
            find_method(method)
            choice = Choice((method,), "asked for")
        report("decide", message=f"{choice.methods[0]}: {choice.reason}")
        earlier = load_checkpoint(problem, checkpoint) if resume else None
        if (
            earlier is not None
            and (earlier.success if tolerance is None else earlier.error_estimate <= tolerance)
            and earlier.settings["final"]
        ):
            return earlier
        if earlier is not None:
            task.start = earlier.trial
        if checkpoint is not None:
            task.on_keep = lambda outcome: finish(task, choice, outcome, final=False).save(checkpoint)
        outcome = run(task, choice)
        if outcome.trial is None:
            raise NotSolved(f"{problem.name or 'the problem'} could not be solved by {outcome.method}: {outcome.stop}")
        solution = finish(task, choice, outcome)
        if earlier is not None and earlier.error_estimate < solution.error_estimate:
            solution = earlier
        if checkpoint is not None:
            solution.save(checkpoint)
        return solution


def load_checkpoint(problem, checkpoint) -> Solution | None:
    """The solution an earlier fit left at `checkpoint`; None if there is no file yet."""
    if checkpoint is None:
        raise ValueError("`resume=True` needs the `checkpoint` path of the fit that is to be resumed")
    if not Path(checkpoint).exists():
        return None
    earlier = load(checkpoint)
    if earlier.problem != problem:
        raise ValueError(f"`checkpoint` {checkpoint} holds another problem; write another path, or `resume=False`")
    return earlier


def run(task: Task, choice: Choice) -> Outcome:
    """The methods of a choice in turn until one is good enough; the best by its error estimate."""
    best: Outcome | None = None
    refusals = []
    limit = task.clock.limit
    share = 0.6 if choice.good_enough < SOLVED else 0.85  # of the time, for a method that another one waits behind
    for i, name in enumerate(choice.methods):
        if best is not None and limit - task.clock.elapsed < max(1.0, 0.1 * limit):
            break  # too little time for another method to do better
        last = i == len(choice.methods) - 1
        task.alternative = not last
        task.clock.limit = task.clock.elapsed + (limit - task.clock.elapsed) * (1.0 if last else share)
        interrupted = False
        try:
            outcome = find_method(name)(task)
        except NotApplicable as reason:
            refusals.append(f"method `{name}` does not apply: {reason}")
            continue
        except KeyboardInterrupt:
            outcome = task.latest or Outcome(None, float("inf"), float("inf"), "", name)
            outcome.stop, interrupted = "interrupted; this is the best so far", True
        best = outcome if best is None else better(task, best, outcome)
        if interrupted or last or task.clock.elapsed >= limit or good_enough(task, choice, best, choice.methods[i + 1]):
            break
    task.clock.limit = limit
    if best is None:
        raise NotApplicable(
            ". ".join(refusals) + f'. Write method="auto", which would take {choose(task).methods[0]!r}.'
        )
    return best


ACCURATE = 1e-4  # a relative residual below this is small everywhere
WIDESPREAD = 0.25  # part of the domain in which an equation may be violated
BEYOND_NETWORKS = 1e-5  # an error that a network does not make smaller
BEYOND_DENSE = 1e-7  # and one on splines in a box that dense systems of features do not
ROUGH = 0.1  # relative residual that solutions which converge in rounds may have


def good_enough(task: Task, choice: Choice, outcome: Outcome, following: str) -> bool:
    """Whether the method that would follow is not tried."""
    if task.tolerance is not None and choice.good_enough < SOLVED:
        return outcome.score < SOLVED and meets(outcome.error_estimate, task.tolerance)
    enough = choice.good_enough
    if following == "network":
        enough = max(enough, BEYOND_NETWORKS)
    elif outcome.method == "galerkin":
        enough = max(enough, BEYOND_DENSE)
    return outcome.score < (ROUGH if outcome.converging else SOLVED) and outcome.error_estimate <= enough


def better(task: Task, one: Outcome, other: Outcome) -> Outcome:
    """The outcome with the smaller estimate, which the other one may correct: the two share nothing.

    The error of the better one is at least their distance less what the other one admits.
    """
    if one.trial is None or other.trial is None:
        found = other if one.trial is None else one
        found.stop = f"{found.stop}. {one.method}: {one.stop}" if one.trial is None and one.stop else found.stop
        return found
    best, rival = sorted((one, other), key=lambda outcome: outcome.error_estimate)
    domain = widest_equation(task.terms)
    if domain is None:
        return best
    points = task.draw(domain, 2000, task.rng(101))
    gaps = distance(task, points, as_function(best.trial), as_function(rival.trial))
    admitted = [gap - 10 * rival.error_estimate for gap in gaps]
    if all(map(math.isfinite, admitted)):
        best.error_estimate = max(best.error_estimate, *admitted)
        best.by_field = [max(pair) for pair in zip(best.by_field, admitted, strict=False)]
    return best


def finish(task: Task, choice: Choice, outcome: Outcome, final: bool = True) -> Solution:
    """The solution with its residuals on fresh points; a large residual overrules a small estimate."""
    checks, score, share = fresh_residuals(task, outcome)
    estimate, stop = outcome.error_estimate, outcome.stop
    # Residuals of rough solutions are larger than their errors; rounds that approach each other are evidence as well.
    violated = score >= (ROUGH if outcome.converging else SOLVED)
    everywhere = score > ACCURATE and share > WIDESPREAD
    solved = not violated and not everywhere and estimate < SOLVED
    if violated:
        estimate = max(estimate, min(score, 1.0))
        stop = f"NOT SOLVED: the equations are violated by {score:.0%} of their terms on fresh points. {stop}"
    elif everywhere:
        estimate = max(estimate, min(share, 1.0))
        stop = f"NOT SOLVED: an equation is violated by a third of its terms at {share:.0%} of fresh points. {stop}"
    stop += warned(task.problem)
    errors = dict(zip([f.func.__name__ for f in task.problem.fields], outcome.by_field, strict=False))
    floating = [task.problem.fields[f].func.__name__ for f in sorted(floating_fields(task))]
    settings: dict[str, Any] = {
        "floating_fields": floating,
        "solved": bool(solved),
        "score": score,
        "error_estimates": errors if errors and max(errors.values()) == estimate else {},
        "tolerance": task.tolerance,
        "time_limit": task.clock.limit,
        "seconds": round(task.clock.elapsed, 3),
        "choice": list(choice.methods),
        "final": final,
        "details": outcome.remarks,
    }
    reason = ". ".join([choice.reason[0].upper() + choice.reason[1:], *outcome.remarks])
    return Solution(
        task.problem,
        outcome.trial,
        method=outcome.method,
        reason=reason,
        error_estimate=estimate,
        checks=checks,
        stop=stop,
        history=task.history,
        unknowns=estimates(outcome),
        settings=settings,
        seed=task.seed,
    )


def warned(problem) -> str:
    """What `check()` warns of, so that a number is not read without it."""
    warnings = problem.check().warnings
    if not warnings:
        return ""
    more = f" and {len(warnings) - 1} more" if len(warnings) > 1 else ""
    return f". Mind what `check()` warns of{more}: {warnings[0].statement}: {warnings[0].message}"


def estimates(outcome: Outcome) -> dict:
    """The coefficients found, with their standard errors where the method gives them."""
    return {
        symbol: Estimate(float(v), getattr(v, "standard_error", math.nan)) for symbol, v in outcome.unknowns.items()
    }


def check_positive(name: str, value):
    """`value` if it is None or a positive number."""
    if value is not None and not value > 0:
        raise ValueError(f"`{name}` is {value!r}; it must be a positive number")
    return value


def check_whole(name: str, value, least: int) -> int:
    """`value` if it is a whole number of at least `least`."""
    if not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"`{name}` is {value!r}; it must be a whole number of at least {least}")
    return int(value)


def pick_device(device) -> torch.device:
    """The device asked for, else a GPU if there is one, else the CPU."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as reason:
        first = str(reason).splitlines()[0]
        raise UnusableDevice(
            f'`device` is {device!r}, which cannot be used here ({first}); write "cpu", or leave it '
            "out and a GPU is used if there is one"
        ) from None
    return chosen
