"""Checks of equations and coefficients: enough of them, of a sensible type, and defined everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import sympy
from sympy import Expr, Pow, log

from pinnflow.declare.findings import Finding, check
from pinnflow.declare.notation import written
from pinnflow.declare.probe import line_in, points_in, values
from pinnflow.declare.rewrite import value_of
from pinnflow.declare.structure import (
    equation_type,
    evolution_form,
    fields_reached,
    parameter_axes,
)

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem


@check
def number_of_equations(problem: Problem) -> Iterator[Finding]:
    """Fewer equations than fields leave a field free, unless observations determine it."""
    fields, equations = problem.fields, problem.equations
    if len(equations) < len(fields):
        observed = any(b.kind == "observation" for b in problem.blocks)
        names = ", ".join(f"`{f}`" for f in fields)
        yield Finding(
            "note" if observed else "warning",
            "too few equations",
            "equations",
            f"there {'is one equation' if len(equations) == 1 else f'are {len(equations)} equations'} for "
            f"{len(fields)} fields ({names})" + ("; the observations have to determine the rest." if observed else "."),
            "" if observed else "Add an equation for each field, or observations of it.",
        )


@check
def undetermined_unknowns(problem: Problem) -> Iterator[Finding]:
    """Unknown coefficients that no observation bears on."""
    observed = fields_reached(problem)
    for symbol in problem.unknowns:
        used_with = {a.field for b in problem.blocks for p in b.parts if p.expression.has(symbol) for a in p.atoms}
        direct = any(b.kind == "observation" and p.expression.has(symbol) for b in problem.blocks for p in b.parts)
        if not direct and not used_with & observed:
            yield Finding(
                "warning",
                "undetermined unknown",
                str(symbol),
                f"no observation bears on `{symbol}`, so any value of it may fit.",
                f"Add `observations=[Observations(...)]` of a field in the same statement as `{symbol}`.",
            )


@check
def zero_solution(problem: Problem) -> Iterator[Finding]:
    """Whether the zero function satisfies everything that was declared."""
    if any(b.kind == "observation" for b in problem.blocks):
        return
    points = points_in(problem, 16)
    for block in problem.blocks:
        for part in block.parts:
            at_zero = part.expression.xreplace({a.symbol: sympy.S.Zero for a in part.atoms})
            if at_zero == 0:
                continue
            found = values(at_zero, problem, points)
            if not np.all(np.abs(found) < 1e-14):
                return
    names = " and ".join(f"`{f.func.__name__} = 0`" for f in problem.fields)
    yield Finding(
        "warning",
        "zero solution",
        "problem",
        f"{names} satisfies every equation and condition.",
        "Eigenvalue problems are not solved by this release: fix the size by a condition, and observe the field."
        if problem.unknowns
        else "If another solution is meant, add what sets it apart: a source, data that do not vanish, or a scale.",
    )


@check
def type_of_equations(problem: Problem) -> Iterator[Finding]:
    """Equations that change their type in the domain, or whose second-order part is degenerate."""
    for block in problem.blocks:
        if block.kind != "equation":
            continue
        kind = equation_type(problem, block)
        if kind and "%" in kind:
            yield Finding(
                "warning", "mixed type", block.name, f"it is {kind}.", "Data are needed where each type needs them."
            )


@check
def evolution_is_well_posed(problem: Problem) -> Iterator[Finding]:
    """The sign of the highest even space derivative in evolution equations, and a vanishing leading coefficient."""
    if problem.time is None or any(b.kind == "final" for b in problem.blocks):
        return
    form = evolution_form(problem)
    if isinstance(form, str):
        return
    points = points_in(problem, 32)
    symbols = {a.symbol: a for b in problem.blocks if b.kind == "equation" for p in b.parts for a in p.atoms}
    for field, (_, right) in form.items():
        own = [a for s, a in symbols.items() if a.field == field and s in right.free_symbols]
        for atom in own:
            order = max(atom.orders)
            if order != atom.order or order % 2 or order == 0 or order < max(a.order for a in own):
                continue
            slope = sympy.diff(right, atom.symbol)
            if slope.free_symbols & set(symbols):
                continue
            sign = (-1) ** (order // 2 + 1)
            found = sign * values(slope, problem, points)
            if np.nanmin(np.append(found, 0.0)) < -1e-12:
                worst = points[int(np.nanargmin(found))]
                column = problem.columns[atom.orders.index(order)]
                yield Finding(
                    "warning",
                    "backward",
                    field.func.__name__,
                    f"the coefficient of `{_derivative(atom, problem)}` has the wrong sign"
                    f"{_somewhere(found, worst, problem)}: short waves along `{column}` grow without bound forward in "
                    f"`{problem.time}`.",
                    "Check the sign, or give the data at the final time.",
                )


@check
def undefined_coefficients(problem: Problem) -> Iterator[Finding]:
    """Divisions by zero, and logarithms or roots of negative numbers, in coefficients of the coordinates."""
    columns = set(problem.columns)
    seen = set()
    for block in problem.blocks:
        for part in block.parts:
            pins = {} if block.kind == "equation" else part.pins
            for base, what in _delicate(part.expression):
                if not base.free_symbols or not base.free_symbols <= columns or (base, what, block.name) in seen:
                    continue
                seen.add((base, what, block.name))
                place = _trouble(base, what, problem, pins)
                if place is None:
                    continue
                here = ", ".join(f"{c} = {place[problem.columns.index(c)]:.4g}" for c in _sorted(base, problem))
                text = written(base)
                message = (
                    f"the denominator `{text}` vanishes at {here}."
                    if what == "zero"
                    else f"`{text}` is negative at {here}, where its {what} is not real."
                )
                yield Finding(
                    "warning",
                    "division by zero" if what == "zero" else "not real",
                    block.name,
                    message,
                    "Multiply the equation by it, or leave that place out of the domain.",
                )


@check
def exact_solution(problem: Problem) -> Iterator[Finding]:
    """Whether `exact` satisfies every statement, by sampling."""
    if problem.exact is None or set(problem.exact) != set(problem.fields) or problem.unknowns:
        return
    for block in problem.blocks:
        for part in block.parts if block.kind != "observation" else ():
            gap, scale, point = exact_residual(problem, part)
            if gap > 1e-6 * max(scale, 1e-300):
                free = [f"{c} = {point[problem.columns.index(c)]:.4g}" for c in part.free]
                where = f" at {', '.join(free)}" if free else ""
                yield Finding(
                    "warning",
                    "exact solution",
                    block.name,
                    f"`exact` misses it by {gap:.3g}{where} (its largest term is {scale:.3g}).",
                    "One of the two has a mistake.",
                )
                break


@check
def idle_coordinates(problem: Problem) -> Iterator[Finding]:
    """Parameter axes, and coordinates on which nothing depends."""
    used = {s for b in problem.blocks for p in b.parts for s in p.expression.free_symbols}
    for column in parameter_axes(problem):
        axis = getattr(column, "axis", column)
        if not any(axis in f.args for f in problem.fields) and column not in used:
            message = f"nothing depends on `{axis}`."
            yield Finding("warning", "idle coordinate", str(axis), message, "Leave it out of the domain.")
        elif column is axis and any(axis in f.args for f in problem.fields):
            message = f"nothing is differentiated by `{axis}`: it is a parameter, and one solution is found per value."
            yield Finding("note", "parameter axis", str(axis), message)


def exact_residual(problem: Problem, part) -> tuple[float, float, np.ndarray]:
    """The largest residual of `problem.exact` in a part, the largest term, and the point of the former."""
    replaced = {a.symbol: value_of(a, problem.columns, problem.exact or {}) for a in part.atoms}
    points = points_in(problem, 24, part.pins)[2:]  # a closed form may be singular at a corner
    terms = [values(term.xreplace(replaced), problem, points) for term in part.terms]
    gap = np.abs(np.sum(terms, axis=0))
    usable = np.isfinite(gap)
    if not usable.any():
        return 0.0, 0.0, points[0]
    gap[~usable] = 0.0
    scale = max(float(np.nanmax(np.abs(t[usable]))) for t in terms)
    return float(gap.max()), scale, points[int(gap.argmax())]


def _delicate(expression) -> Iterator[tuple[Expr, str]]:
    """Sub-expressions that must not vanish or become negative, with what depends on it."""
    for node in sympy.preorder_traversal(expression):
        if isinstance(node, Pow):
            base, exponent = node.args
            if exponent.is_number and exponent.is_negative:
                yield base, "zero"
            if exponent.is_number and exponent.is_integer is False:
                yield base, "root"
        elif isinstance(node, log):
            yield node.args[0], "logarithm"


def _trouble(base, what, problem, pins):
    """A point where `base` vanishes or is negative, or None."""
    candidates = [points_in(problem, 64, pins)]
    candidates += [line_in(problem, c, pins=pins) for c in _sorted(base, problem) if c not in pins]
    for points in candidates:
        found = values(base, problem, points)
        largest = np.nanmax(np.abs(np.append(found, 0.0)))
        if what != "zero":
            bad = found < -1e-9 * max(largest, 1e-300)
        else:
            bad = np.abs(found) <= 1e-12 * largest
        if bad.any():
            return points[int(np.flatnonzero(bad)[0])]
    if what == "zero":
        return _sign_change(base, problem, pins)
    return None


def _sign_change(base, problem, pins):
    """A zero between two points of opposite sign, by bisection along their connection."""
    points = points_in(problem, 64, pins)
    found = values(base, problem, points)
    if not (np.nanmin(np.append(found, 1.0)) < 0 < np.nanmax(np.append(found, -1.0))):
        return None
    a, b = points[int(np.nanargmin(found))], points[int(np.nanargmax(found))]
    for _ in range(50):
        middle = (a + b) / 2
        if values(base, problem, middle[None])[0] < 0:
            a = middle
        else:
            b = middle
    at_a, at_b = abs(values(base, problem, np.array([a, b])))
    # A pole changes sign too, but grows where the ends meet.
    return middle if max(at_a, at_b) < np.nanmax(np.abs(found)) else None


def _sorted(base, problem):
    return [c for c in problem.columns if c in base.free_symbols]


def _derivative(atom, problem):
    expression = atom.field
    for column, order in zip(problem.columns, atom.orders, strict=True):
        if order:
            expression = sympy.Derivative(expression, (column, order))
    return written(expression, problem.fields)


def _somewhere(found, worst, problem):
    if np.all(found < 0):
        return ""
    return " at " + ", ".join(f"{c} = {v:.4g}" for c, v in zip(problem.columns, worst, strict=True))


@check
def jumps_in_coefficients(problem: Problem) -> Iterator[Finding]:
    """A coefficient of the highest derivatives that jumps: sympy has dropped what the jump contributes."""
    jumping = (sympy.Piecewise, sympy.Heaviside, sympy.sign, sympy.floor, sympy.ceiling)
    for block in problem.blocks:
        if block.kind != "equation":
            continue
        for part in block.parts:
            highest = max((a.order for a in part.atoms), default=0)
            for atom in part.atoms:
                slope = sympy.diff(part.expression, atom.symbol) if atom.order == highest else sympy.S.Zero
                if highest < 2 or not slope.has(*jumping) or not _jumps(slope, problem):
                    continue
                yield Finding(
                    "warning",
                    "jump",
                    block.name,
                    f"the coefficient of `{_derivative(atom, problem)}` jumps in the domain. The equation is "
                    "taken as it stands between the jumps, so nothing says that the flux is continuous across them.",
                    "Smooth the coefficient over a short distance, or solve each side with a condition that ties both.",
                )
                break


def _jumps(expression, problem):
    """Whether the values change by a step that does not shrink with the distance of the points."""
    steps = []
    for count in (257, 2049):
        largest = 0.0
        for column in problem.columns:
            found = values(expression, problem, line_in(problem, column, count))
            largest = max(largest, float(np.nanmax(np.abs(np.diff(found)), initial=0.0)))
        steps.append(largest)
    return steps[0] > 0 and steps[1] > 0.5 * steps[0]
