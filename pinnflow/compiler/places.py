"""Where an atom is taken: its pinned columns, and those its field does not depend on. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sympy import Expr

from pinnflow.declare.analysis import Atom, Part

Bounds = Mapping[Expr, tuple[float, float]]


def atom_pins(atom: Atom, columns: Sequence[Expr], bounds: Bounds) -> dict[Expr, float]:
    """`{column: value}` of all columns an atom does not leave free: its own pins, and the low end where its field does
    not depend on the column."""
    pins = {column: float(value) for column, value in atom.pins}
    if len(atom.field.args) == len({getattr(column, "axis", column) for column in columns}):
        return pins  # it depends on all of them
    for column in columns:
        if getattr(column, "axis", column) not in atom.field.args and column not in pins and column in bounds:
            pins[column] = low_end(bounds[column])
    return pins


def part_pins(part: Part, columns: Sequence[Expr], bounds: Bounds) -> dict[Expr, float]:
    """`{column: value}` of the points of a part."""
    return {
        column: low_end(bounds[column]) if part.pins[column] is None else float(part.pins[column])
        for column in columns
        if column in part.pins
    }


def extra_pins(atom: Atom, part: Part, columns: Sequence[Expr], bounds: Bounds) -> tuple[tuple[int, float], ...]:
    """`((column index, value), ...)` where an atom is not taken at the part's own points: the second end of a periodic
    condition; empty for most atoms."""
    here = atom_pins(atom, columns, bounds)
    if not here:
        return ()
    own = part_pins(part, columns, bounds)
    return tuple((i, here[c]) for i, c in enumerate(columns) if c in here and own.get(c) != here[c])


def low_end(bounds: tuple[float, float]) -> float:
    """The low end of an interval; where that is infinite the high end, and 0 on the whole line."""
    return next((float(end) for end in bounds if abs(end) != float("inf")), 0.0)
