"""Numbers instead of proofs: values of expressions in the coordinates at points of the domain.

Symbolic zero tests are slow and undecidable; whether a coefficient vanishes, two data agree or an exact solution
satisfies a statement is decided at points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import sympy
from sympy import Expr, Symbol

from pinnflow.declare.statements import Bounds

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem


def points_in(problem: Problem, count: int, pins: Mapping[Symbol, Expr] | None = None) -> np.ndarray:
    """`count` points `[count, columns]` in the domain, the same every time; `pins` fix columns.

    The first two points are the lowest and the highest corner, because trouble sits at ends; the others follow an
    additive recurrence with irrational steps, which fills the box evenly.
    """
    low = np.array([problem.bounds[c][0] for c in problem.columns])
    high = np.array([problem.bounds[c][1] for c in problem.columns])
    dimension = len(low)
    # Roberts' generalised golden ratio: the root of g^(d+1) = g + 1.
    golden = 2.0
    for _ in range(40):
        golden = (1 + golden) ** (1 / (dimension + 1))
    steps = golden ** -(1.0 + np.arange(dimension))
    unit = np.mod(0.5 + np.outer(np.arange(1, count + 1), steps), 1.0)
    unit[:2] = np.array([[0.0], [1.0]])[: len(unit)]
    points = low + (high - low) * unit
    for column, value in (pins or {}).items():
        points[:, problem.columns.index(column)] = float(value)
    return points


def line_in(problem: Problem, column: Symbol, count: int = 33, pins: Mapping[Symbol, Expr] | None = None) -> np.ndarray:
    """Points with `column` evenly from end to end, both included, and the others spread over the domain."""
    points = points_in(problem, count, pins)
    if column not in (pins or {}):
        points[:, problem.columns.index(column)] = np.linspace(*problem.bounds[column], count)
    return points


def values(expression: Expr, problem: Problem, points: np.ndarray) -> np.ndarray:
    """Values `[n]` of an expression in columns and unknowns; NaN where it is undefined or not real.

    Unknowns take their initial values. Functions that numpy lacks are evaluated by sympy.
    """
    expression = sympy.sympify(expression)
    unknowns = {s: v.initial if isinstance(v, Bounds) else v for s, v in problem.unknowns.items()}
    expression = expression.xreplace({s: sympy.Float(v) for s, v in unknowns.items()})
    used = [c for c in problem.columns if c in expression.free_symbols]
    infinite = (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)
    if expression.free_symbols - set(used) or expression.has(*infinite):
        return np.full(len(points), np.nan)
    arguments = [points[:, problem.columns.index(c)].astype(complex) for c in used]
    with np.errstate(all="ignore"):
        try:
            # Complex arguments: the square root of a negative number is found, not warned about.
            found = sympy.lambdify([sympy.Dummy() for _ in used], expression, "numpy") if not used else None
            found = found() if found else sympy.lambdify(used, expression, "numpy")(*arguments)
            found = np.broadcast_to(np.asarray(found, dtype=complex), (len(points),))
        except (NameError, TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError):
            found = np.array([_evaluate(expression, used, [a[i].real for a in arguments]) for i in range(len(points))])
    real = found.real.copy()
    real[np.abs(found.imag) > 1e-9 * (1 + np.abs(found.real))] = np.nan
    return real


def _evaluate(expression, columns, place):
    try:
        return complex(expression.evalf(subs=dict(zip(columns, place, strict=True))))
    except (TypeError, ValueError, ZeroDivisionError):
        return complex(np.nan)
