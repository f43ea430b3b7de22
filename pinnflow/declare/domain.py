"""Where a problem is posed: intervals, and the regions and distributions that a later release will sample.

`read_domain` turns `{coordinate: (low, high)}` into sympy numbers and says what is wrong with everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol

from pinnflow.declare.normalise import rational
from pinnflow.declare.symbols import VectorCoordinate
from pinnflow.errors import Mistake

CUT = "Cut the domain at finite ends beyond which the solution is negligible, and pin it there."


@dataclass(frozen=True)
class Ball:
    """All points of a vector coordinate with norm up to `radius` (not solved yet)."""

    radius: object


@dataclass(frozen=True)
class Gaussian:
    """A vector coordinate distributed normally with `mean` and standard deviation `scale` (not solved yet)."""

    mean: object = 0
    scale: object = 1


@dataclass(frozen=True)
class Points:
    """A vector coordinate given by an array `[n, d]`, or a callable that draws one (not solved yet)."""

    source: object


def read_domain(domain: object) -> tuple[dict[Symbol, tuple[Expr, Expr]], list[Mistake]]:
    """The intervals of a `domain` argument and what is wrong with it.

    Returns:
        `{coordinate: (low, high)}` of all coordinates that can be used, and the mistakes of the others.
    """
    if not isinstance(domain, Mapping) or not domain:
        found = "it is empty" if isinstance(domain, Mapping) else f"it is of type {type(domain).__name__}"
        message = f"expected a dict `{{coordinate: (low, high)}}`, but {found}."
        return {}, [Mistake("domain", message, "Write for example `domain={t: (0, 1), x: (-1, 1)}`.", "domain")]
    intervals: dict[Symbol, tuple[Expr, Expr]] = {}
    mistakes: list[Mistake] = []
    for coordinate, given in domain.items():
        mistake = _wrong_coordinate(coordinate, intervals)
        ends = None
        if mistake is None:
            ends, mistake = _interval(coordinate, given)
        if mistake is None:
            mistake = _wrong_sign(coordinate, ends)
        if mistake is not None:
            mistakes.append(mistake)
        if isinstance(coordinate, Symbol) and coordinate not in intervals:
            # Kept even when it is wrong, so that the statements that use it are not reported on top.
            intervals[coordinate] = ends or (sympy.S.Zero, sympy.S.One)
    return intervals, mistakes


def _wrong_coordinate(coordinate, known):
    if not isinstance(coordinate, Symbol):
        what = f"`{coordinate!r}` is of type {type(coordinate).__name__}, but the keys are coordinates."
        example = coordinate if isinstance(coordinate, str) and coordinate.isidentifier() else "x"
        remedy = f'Write `{example} = coordinates("{example}")` and `domain={{{example}: ...}}`.'
        return Mistake("domain", what, remedy, "coordinate")
    name = coordinate.name
    if any(other.name == name for other in known):
        other = next(other for other in known if other.name == name)
        return Mistake(
            "domain",
            f"two coordinates are called `{name}`: `{sympy.srepr(other)}` and `{sympy.srepr(coordinate)}`.",
            f'Make the symbol once, `{name} = coordinates("{name}")`, and use it everywhere.',
            "namesake",
        )
    if coordinate.is_real is not True or coordinate.is_integer:
        what = "an integer" if coordinate.is_integer else "not known to be real"
        return Mistake(
            "domain",
            f"the symbol `{name}` is {what} (`{sympy.srepr(coordinate)}`); a coordinate is a real symbol.",
            f'Write `{name} = coordinates("{name}")` or `{name} = Symbol("{name}", real=True)` before it is used.',
            "not real",
        )
    return None


def _interval(coordinate, given):
    if isinstance(given, (Ball, Gaussian, Points)):
        return None, Mistake(
            "domain",
            f"`{coordinate}` is given by `{type(given).__name__}`; this release solves on boxes.",
            f"Write `{coordinate}: (low, high)`" + (" for all components." if _is_vector(coordinate) else "."),
            "region",
            unsupported=True,
        )
    if isinstance(given, sympy.Interval):
        given = (given.start, given.end)
    if isinstance(given, (str, bytes, sympy.Symbol)) or not hasattr(given, "__len__") or len(given) != 2:
        return None, Mistake(
            "domain",
            f"`{coordinate}: {given!r}` is no interval; expected a pair of numbers.",
            f"Write `{coordinate}: (low, high)`.",
            "interval",
        )
    try:
        low, high = (rational(sympy.sympify(end, strict=True)) for end in given)
    except sympy.SympifyError:
        low = high = sympy.nan
    if not all(isinstance(end, Expr) and end.is_number for end in (low, high)) or sympy.nan in (low, high):
        return None, Mistake(
            "domain",
            f"the ends of `{coordinate}: ({given[0]}, {given[1]})` are not numbers.",
            "Give two real numbers; a size that should vary is a coordinate of its own (a parameter axis).",
            "interval",
        )
    if low.is_infinite or high.is_infinite:
        return None, Mistake(
            "domain",
            f"`{coordinate}: ({low}, {high})` is unbounded; this release solves on boxes.",
            CUT,
            "unbounded",
            unsupported=True,
        )
    if low.is_extended_real is False or high.is_extended_real is False or not low < high:
        return None, Mistake(
            "domain",
            f"`{coordinate}: ({low}, {high})` is empty; the lower end has to be less than the upper end.",
            f"Write `{coordinate}: ({high}, {low})`." if high != low else "Leave out a coordinate that has one value.",
            "interval",
        )
    return (low, high), None


def _wrong_sign(coordinate, ends):
    low, high = ends
    if (coordinate.is_nonnegative and low < 0) or (coordinate.is_nonpositive and high > 0):
        return Mistake(
            "domain",
            f"the symbol `{coordinate}` is declared {'non-negative' if coordinate.is_nonnegative else 'non-positive'} "
            f"(`{sympy.srepr(coordinate)}`), but its interval is ({low}, {high}).",
            f'Write `{coordinate} = coordinates("{coordinate}")`.',
            "sign",
        )
    return None


def _is_vector(coordinate):
    return isinstance(coordinate, VectorCoordinate)
