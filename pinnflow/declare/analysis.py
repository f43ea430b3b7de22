"""Residual blocks: the intermediate form between a declaration and everything that computes.

A statement `Eq(left, right)` becomes a `Block`: the expression `left - right` in which every value of a field or of a
derivative is an `Atom`, together with the axes it is sampled on (free) and the axes it is pinned on. The kind of a
statement (initial, boundary, periodic, point ...) follows from its pins and is never typed by the user.

`normalise.py` makes the atoms, `gate.py` turns `UnsupportedTerm` into messages, and `structure.py` asks questions of
whole problems in this form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sympy
from sympy import Expr, Symbol
from sympy.core.function import AppliedUndef

from pinnflow.declare.normalise import Atom, Normaliser, UnsupportedTerm
from pinnflow.declare.symbols import components_of

__all__ = [
    "Atom",
    "Block",
    "Normaliser",
    "Part",
    "UnsupportedTerm",
    "is_affine",
    "is_linear",
    "kind_of",
    "make_part",
    "periodic_axis",
    "proportional",
    "summands",
]


@dataclass(frozen=True)
class Part:
    """One residual on one set of points: `expression == 0` wherever the pinned columns have their values.

    Attributes:
        expression: in columns, atom symbols and unknown coefficients; no field appears any more.
        terms: its summands, the magnitudes a residual is compared with.
        atoms: all atoms of the expression, sorted by name.
        free: the columns it is sampled on.
        pins: `{column: value}` of all other columns; an atom with pins of its own overrides them. A column on which
            nothing depends is pinned at the low end of the domain.
    """

    expression: Expr
    terms: tuple[Expr, ...]
    atoms: tuple[Atom, ...]
    free: tuple[Expr, ...]
    pins: dict[Expr, Expr] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.expression, self.free, tuple(self.pins.items())))


@dataclass(frozen=True)
class Block:
    """A statement of the problem as residuals: one part, or one per face for a condition on the whole boundary.

    Attributes:
        name: `equation 1`, `condition 2`, `observation 1`, or the name the user gave.
        kind: `equation`, `initial` (time pinned at its low end), `final` (time pinned later), `boundary` (one spatial
            axis pinned at an end), `periodic`, `point` (several spatial axes pinned, or one inside the domain),
            `nonlocal` (several places related) or `observation`.
        statement: what the user wrote, for messages.
        weight: weight in a training loss; 1 unless the user said otherwise.
        data: of an observation: `(points [n, columns], values [n], noise or None)` as float64 arrays; its part holds
            the observed expression, and the residual is expression minus value.
    """

    name: str
    kind: str
    statement: object
    parts: tuple[Part, ...]
    weight: float = 1.0
    data: tuple | None = field(default=None, compare=False)


def make_part(
    residual: Expr,
    columns: Sequence[Expr],
    fields: Sequence[AppliedUndef],
    pins: Mapping[Expr, Expr] | None = None,
    domain: Mapping[Expr, tuple[Expr, Expr]] | None = None,
    normaliser: Normaliser | None = None,
) -> Part:
    """The part for `residual == 0`, with `pins` substituted.

    Args:
        residual: expression in fields.
        columns: the scalar columns.
        fields: the declared fields.
        pins: `{column: number}` substituted everywhere, also in the data.
        domain: `{column: (low, high)}`: pins are snapped to the ends, and unused columns pinned at the low end.
        normaliser: one to use instead of a fresh one, so that its records can be read afterwards.

    Raises:
        UnsupportedTerm: a sub-expression has no meaning as a residual.
    """
    columns, domain = tuple(columns), domain or {}
    normaliser = normaliser or Normaliser(columns, fields, domain)
    expression = normaliser(residual, pins)
    used = expression.free_symbols
    atoms = tuple(sorted((normaliser.atoms[s] for s in used if s in normaliser.atoms), key=lambda a: a.symbol.name))
    # A column is free when a coefficient or some atom still varies along it; the others are pinned where the atoms are.
    varying = {c for c in columns if c in used}
    places: dict[Expr, Expr] = {}
    for atom in {(atom.field, atom.pins): atom for atom in atoms}.values():
        own = dict(atom.pins)
        for axis in atom.field.args:
            for column in components_of(axis):
                if column in own:
                    places.setdefault(column, own[column])
                else:
                    varying.add(column)
    free = tuple(c for c in columns if c in varying)
    given = {c: normaliser._number(c, v) for c, v in (pins or {}).items()}
    fixed = {}
    for column in columns:
        if column not in varying:
            low = domain[column][0] if column in domain else sympy.S.Zero
            fixed[column] = places.get(column, given.get(column, low))
    return Part(expression, summands(expression), atoms, free, fixed)


def summands(expression: Expr) -> tuple[Expr, ...]:
    """The terms of a residual: its summands after multiplying out the outermost products."""
    return tuple(sympy.Add.make_args(sympy.expand(expression, deep=False)))


def kind_of(part: Part, time: Symbol | None, domain: Mapping[Expr, tuple[Expr, Expr]] | None = None) -> str:
    """What a condition is, from the places of its atoms; see `Block.kind`."""
    axes = {column for atom in part.atoms for column, _ in atom.pins}
    for column in axes:
        where = {dict(a.pins).get(column) for a in part.atoms if getattr(column, "axis", column) in a.field.args}
        if len(where) > 1:
            return "periodic" if periodic_axis(part, domain) is not None else "nonlocal"
    if time in axes:
        later = domain and time in domain and part.pins[time] != domain[time][0]
        return "final" if later else "initial"
    if len(axes) == 1:
        (axis,) = axes
        inside = domain and axis in domain and part.pins[axis] not in domain[axis]
        return "point" if inside else "boundary"
    return "point" if axes else "equation"


def periodic_axis(part: Part, domain: Mapping[Expr, tuple[Expr, Expr]] | None = None) -> Expr | None:
    """The axis along which `part` says that a value or derivative is the same at both ends, else None."""
    if len(part.atoms) != 2:
        return None
    first, second = part.atoms
    if first.field != second.field or first.orders != second.orders:
        return None
    if not proportional(part.expression, first.symbol - second.symbol):
        return None
    a, b = dict(first.pins), dict(second.pins)
    different = [axis for axis in a if a[axis] != b.get(axis)]
    if set(a) != set(b) or len(a) != 1 or len(different) != 1:
        return None
    (axis,) = different
    if domain and axis in domain and {a[axis], b[axis]} != set(domain[axis]):
        return None
    return axis


def proportional(expression: Expr, other: Expr) -> bool:
    """Whether `expression` is a nonzero number times `other`, for expressions linear in the same symbols."""
    expression, other = sympy.expand(expression), sympy.expand(other)
    symbol = min(other.free_symbols, key=str)
    factor = expression.coeff(symbol) / other.coeff(symbol)
    return bool(factor.is_number and factor != 0 and sympy.expand(expression - factor * other) == 0)


def is_linear(part: Part, unknowns: Sequence[Symbol] = ()) -> bool:
    """Whether the expression is affine in its atoms (and, jointly with them, in the unknown coefficients)."""
    return is_affine(part.expression, [*(a.symbol for a in part.atoms), *unknowns])


def is_affine(expression: Expr, symbols: Sequence[Symbol]) -> bool:
    """Whether all second derivatives by `symbols` vanish."""
    wanted = set(symbols)
    for symbol in wanted & expression.free_symbols:
        slope = sympy.diff(expression, symbol)
        if slope.free_symbols & wanted and sympy.expand(slope).free_symbols & wanted:
            return False
    return True
