"""Where given data have a kink or a jump: the places an `Abs`, `Heaviside`, `Piecewise`, `Min` ... switches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy
from scipy.optimize import brentq
from sympy import Expr

from pinnflow.methods.base import Task, Term

SEARCHED = 2001  # places looked at along a condition for a change of sign


def data_kinks(task: Task) -> list[np.ndarray]:
    """Points `[D]`, problem units, at which the data of a condition with one free column switch."""
    found = []
    for term in task.terms:
        if term.block.kind in ("equation", "observation") or len(term.part.free) != 1:
            continue
        (name,) = term.part.free
        column = task.problem.columns.index(name)
        for switch in switches(term.part.expression, name):
            for place in _sign_changes(switch, name, *task.bounds[column]):
                found.append(_point(task, term, column, place))
    return found


def switches(expression: Expr, name: Expr) -> Iterator[Expr]:
    """Expressions in `name` alone at whose zeros `expression` switches."""
    for node in sympy.preorder_traversal(expression):
        if isinstance(node, (sympy.Abs, sympy.sign, sympy.Heaviside)):
            candidates = [node.args[0]]
        elif isinstance(node, (sympy.Min, sympy.Max)):
            candidates = [a - b for i, a in enumerate(node.args) for b in node.args[i + 1 :]]
        elif isinstance(node, sympy.Piecewise):
            relations = [r for _, condition in node.args for r in condition.atoms(sympy.core.relational.Relational)]
            candidates = [r.lhs - r.rhs for r in relations]
        else:
            continue
        yield from (c for c in candidates if c.free_symbols == {name})


def _sign_changes(expression, name, low, high):
    function = sympy.lambdify(name, expression, "numpy")
    places = np.linspace(low, high, SEARCHED)
    with np.errstate(all="ignore"):
        values = np.broadcast_to(function(places), places.shape).astype(float)
    found = list(places[values == 0])
    for i in np.flatnonzero(values[:-1] * values[1:] < 0):
        found.append(brentq(lambda s: float(function(s)), places[i], places[i + 1], xtol=1e-15 * (high - low)))
    # A function that vanishes on a whole stretch has no single place to switch at.
    return found if len(found) < SEARCHED // 20 else []


def _point(task: Task, term: Term, column: int, place: float) -> np.ndarray:
    point = np.array([float(term.part.pins[c]) if c in term.part.pins else 0.0 for c in task.problem.columns])
    point[column] = place
    return point
