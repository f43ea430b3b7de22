"""Where a condition holds: `on=` as pins, one set for each face, with the outward normal."""

from __future__ import annotations

from collections.abc import Mapping

import sympy
from sympy import Eq, Expr, Symbol
from sympy.logic.boolalg import Boolean

from pinnflow.declare.analysis import Normaliser, periodic_axis
from pinnflow.declare.declared import Declared, Wrong
from pinnflow.declare.notation import written
from pinnflow.declare.operators import NormalDerivative
from pinnflow.declare.statements import Condition
from pinnflow.declare.structure import boundary_columns


def places_of(it: Declared, given: Condition) -> list[tuple[dict, tuple[Symbol, int] | None]]:
    """`on` as pins with the outward normal `(column, sign)` where there is one; one entry per face."""
    on = given.on
    if on is None:
        if isinstance(given.eq, sympy.Basic) and given.eq.has(NormalDerivative):
            raise Wrong(
                f"`{written(given.eq, it.fields)}` uses `normal_derivative`, but does not say on which part of the "
                "boundary it holds.",
                'Write `Condition(eq, on={x: 1})` for one face or `on="boundary"` for all.',
                "normal",
            )
        return [({}, None)]
    if isinstance(on, str):
        if on != "boundary":
            raise Wrong(f"`on={on!r}` is unknown.", 'Write `on="boundary"`, a dict of pins or `Eq(x, 1)`.', "on")
        return _faces(it)
    if isinstance(on, Eq):
        on = _plane(it, on)
    if not isinstance(on, Mapping):
        message = f"`on={on}` describes a part of the boundary that is no face of the box."
        unsupported = isinstance(on, (Boolean, sympy.Basic))
        if not unsupported:
            message = f"`on={on!r}` is of type {type(on).__name__}."
        raise Wrong(message, 'Write a dict of pins `{x: 1}`, `Eq(x, 1)` or `"boundary"`.', "on", unsupported)
    pins = {}
    for column, value in on.items():
        if column not in it.columns:
            choices = ", ".join(f"`{c}`" for c in it.columns[:8])
            raise Wrong(f"`on` pins `{column}`, which is no coordinate of the domain.", f"Choose from {choices}.", "on")
        pins[column] = value
    return [(pins, _normal(it, pins))]


def _normal(it, pins):
    if len(pins) != 1:
        return None
    ((column, value),) = pins.items()
    number = Normaliser(it.columns, it.fields, it.ends)._number(column, value)
    low, high = it.ends[column]
    return (column, 1) if number == high else (column, -1) if number == low else None


def _faces(it):
    periodic = {periodic_axis(p, it.ends) for b in it.blocks for p in b.parts if b.kind == "periodic"}
    columns = [c for c in boundary_columns(it.blocks, it.columns, it.time) if c not in periodic]
    if not columns:
        raise Wrong(
            '`on="boundary"` finds no boundary: no equation differentiates by a spatial coordinate that is not '
            "periodic.",
            "Leave the condition out, or pin a coordinate.",
            "on",
        )
    return [({c: it.ends[c][side]}, (c, 2 * side - 1)) for c in columns for side in (0, 1)]


def _plane(it, relation):
    difference = relation.lhs - relation.rhs
    symbols = difference.free_symbols & set(it.columns)
    if len(symbols) == 1 and difference.free_symbols == symbols:
        (column,) = symbols
        slope = sympy.diff(difference, column)
        if slope.is_number and slope != 0:
            return {column: -difference.subs(column, 0) / slope}
    raise Wrong(
        f"`on={written(relation)}` is a curve or a surface that is no plane of the box; this release solves on boxes.",
        'Write `Eq(x, 1)`, a dict of pins or `"boundary"`.',
        "curve",
        True,
    )


def with_normal(residual: Expr, normal: tuple[Symbol, int] | None) -> Expr:
    """`residual` with the normal derivative written as plus or minus the derivative along one axis."""
    if not residual.has(NormalDerivative):
        return residual
    if normal is None:
        raise Wrong(
            "`normal_derivative` has no direction there: the place is no single face of the box.",
            "Give one coordinate at one of its ends, `on={x: 1}`, or write the derivative out.",
            "normal",
        )
    column, sign = normal
    return residual.replace(
        lambda node: isinstance(node, NormalDerivative),
        lambda node: sign * sympy.Derivative(node.args[0], column),
    )
