"""What is printed after a solve: plain text that says what was done and how far it can be trusted.

Also the true error of a solution whose problem states its exact solution (`true_error`), and the words for an error
that `solution.py` and `plotting.py` share.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy

from pinnflow.declare.notation import written
from pinnflow.errors import NotYet
from pinnflow.solution.evaluation import exact_values

# Errors below this are rounding; they are all reported as this one.
ROUNDING_ERROR = 1e-11
WIDTH = 100  # of the report, in characters


@dataclass(frozen=True)
class TrueError:
    """Relative L2 distance to the exact solution; `float()` is that of all fields together.

    Attributes:
        total: sqrt(sum of squared differences over points and fields / sum of squared exact values).
        fields: the same for each field alone, by name.
        points: number of points compared.
    """

    total: float
    fields: dict[str, float] = field(default_factory=dict)
    points: int = 0

    def __float__(self) -> float:
        return self.total


def true_error(solution: Any, points: int = 5000, seed: int = 20_240_229) -> TrueError | None:
    """Relative L2 error against `problem.exact` on uniform random points; None where no exact solution is stated.

    The fit never draws from this generator, so the points are fresh whatever the seed of the fit was.

    Args:
        solution: the solution; compared with its `problem.exact`.
        points: how many.
        seed: of the points.

    Raises:
        NotYet: an axis without end: there are no uniform points on it.
    """
    problem = solution.problem
    if problem.exact is None:
        return None
    unknowns = {symbol: float(estimate) for symbol, estimate in solution.unknowns.items()}
    rows = uniform_points(problem, points, seed)
    orders = (0,) * rows.shape[1]
    # Constants fixed by nothing (a pressure) are no error: both sides are compared without their mean.
    floating = set(solution.settings.get("floating_fields", ()))
    squares, norms = {}, {}
    for index, declared in enumerate(problem.fields):
        truth = exact_values(problem, declared, unknowns, list(rows.T))
        if truth is None:
            continue
        (value,) = solution.derivatives(rows, [(index, orders)])
        name = declared.func.__name__
        if name in floating:
            value, truth = value - value.mean(), truth - truth.mean()
        squares[name], norms[name] = float(np.sum((value - truth) ** 2)), float(np.sum(truth**2))
    if not squares:
        return None
    fields = {name: _relative(squares[name], norms[name]) for name in squares}
    return TrueError(_relative(sum(squares.values()), sum(norms.values())), fields, points)


def uniform_points(problem: Any, count: int, seed: int) -> np.ndarray:
    """`count` uniform random points `[count, D]` of the domain, columns in the order of `problem.columns`."""
    bounds = [problem.bounds.get(column, (-math.inf, math.inf)) for column in problem.columns]
    for column, (low, high) in zip(problem.columns, bounds, strict=True):
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NotYet(
                f"`{column}` runs from {low} to {high}: there are no uniform points on an endless axis. "
                f"Compare on points of your own with `solution.evaluate`."
            )
    low, high = np.array(bounds, dtype=np.float64).T
    return low + (high - low) * np.random.default_rng(seed).random((count, len(bounds)))


def report(solution: Any, elapsed: float | None = None) -> str:
    """The text printed after a solve, ending without a newline.

    Args:
        solution: the solution.
        elapsed: seconds the solve took; taken from the history where not given.
    """
    fields = ", ".join(str(f) for f in solution.problem.fields)
    if elapsed is None:
        times = [step["elapsed"] for step in solution.history if isinstance(step.get("elapsed"), (int, float))]
        elapsed = max(times, default=None)
    lines = [f"{solution.name}: {fields}" + ("" if solution.success else "   NOT SOLVED")]
    lines += _entry("method", f"{solution.method}: {solution.reason}" if solution.reason else solution.method)
    if elapsed is not None:
        lines += _entry("time", f"{elapsed:.1f} s")
    for i, (symbol, estimate) in enumerate(solution.unknowns.items()):
        lines += _entry("unknowns" if i == 0 else "", f"{symbol} = {estimate}")
    lines += _entry("error", error_in_words(solution.error_estimate))
    if shares := errors_by_field(solution):
        lines += _entry("", shares)
    truth = true_error(solution) if _comparable(solution.problem) else None
    if truth is not None:
        lines += _entry("true error", f"{digits(truth.total)} (relative L2 on {truth.points:,} fresh points)")
        if len(truth.fields) > 1:
            lines += _entry("", ", ".join(f"{name} {digits(value)}" for name, value in truth.fields.items()))
    if solution.checks:
        lines += _entry("checks", "root mean square residual on fresh points, in problem units")
        width = max(map(len, solution.checks))
        statements = {
            block.name: _one_line(block.statement, solution.problem.fields) for block in solution.problem.blocks
        }
        for name, value in solution.checks.items():
            lines.append(f"    {name:<{width}}  {digits(value):>8}  {statements.get(name, '')}".rstrip())
    lines += _entry("stop", solution.stop)
    return "\n".join(lines)


def error_in_words(error: float) -> str:
    """A relative error as a phrase: `about 3e-08, 7 digits are right`."""
    if math.isnan(error) or math.isinf(error):
        return "no estimate"
    if error < ROUNDING_ERROR:
        return f"below {ROUNDING_ERROR:.0e} (rounding)"
    if error >= 0.5:
        return f"about {error:.1g}: no digit is right"
    right = math.floor(-math.log10(2 * error))
    return f"about {digits(error)} ({right} digit{'s' if right != 1 else ''})" if right else f"about {digits(error)}"


def errors_by_field(solution: Any) -> str:
    """`u 3e-08, p 2e-06`, where a solution has several fields with estimates of their own; else nothing."""
    errors = solution.settings.get("error_estimates", {})
    if len(errors) < 2 or max(errors.values()) < ROUNDING_ERROR:
        return ""
    return ", ".join(f"{name} {digits(value)}" for name, value in errors.items())


def digits(value: float) -> str:
    """A size with two digits, as in a table of errors: `3.1e-08`."""
    return f"{value:.1e}" if math.isfinite(value) else "none"


def _relative(square, norm):
    return math.sqrt(square / norm) if norm > 0 else math.sqrt(square)


def _comparable(problem):
    return all(math.isfinite(b) for column in problem.columns for b in problem.bounds.get(column, (math.inf,)))


def _entry(label, text):
    head = f"  {label:<11} "
    first, *rest = textwrap.wrap(text, WIDTH - len(head)) or [""]
    return [head + first, *(" " * len(head) + line for line in rest)]


def _one_line(statement, fields):
    statement = getattr(statement, "eq", statement)
    if isinstance(statement, sympy.Eq):
        return f"{written(statement.lhs, fields, 60)} = {written(statement.rhs, fields, 60)}"
    return written(statement, fields, 80)
