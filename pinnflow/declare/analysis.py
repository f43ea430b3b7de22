"""Residual blocks: the intermediate form between a declaration and everything that computes.

A statement `Eq(left, right)` becomes a `Block`: the expression `left - right` in which every value of a field or of a
derivative is an `Atom`, together with the axes it is sampled on (free) and the axes it is pinned on. The kind of a
statement (initial, boundary, periodic, point ...) follows from its pins and is never typed by the user.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import sympy
from sympy import Derivative, Expr, Subs, Symbol
from sympy.core.function import AppliedUndef


@dataclass(frozen=True)
class Atom:
    """The value of one derivative of one field, at the row's point or with some axes pinned elsewhere.

    Attributes:
        field: the field as declared, `u(t, x)`.
        orders: order of differentiation per column of the points, e.g. `(0, 2)` for `u_xx` with columns `t, x`.
        pins: `((column, value), ...)`, sorted by column; empty for the row's own point.
        symbol: the real symbol that stands for this value in `Part.expression`; its name is unique and stable.
    """

    field: AppliedUndef
    orders: tuple[int, ...]
    pins: tuple[tuple[Expr, Expr], ...] = ()

    @cached_property
    def symbol(self) -> Symbol:
        orders = ",".join(map(str, self.orders))
        pins = "".join(f"@{column}={value}" for column, value in self.pins)
        return Symbol(f"{self.field.func.__name__}[{orders}]{pins}", real=True)

    @property
    def order(self) -> int:
        return sum(self.orders)


@dataclass(frozen=True)
class Part:
    """One residual on one set of points: `expression == 0` wherever the pinned columns have their values.

    Attributes:
        expression: in columns, atom symbols and unknown coefficients; no field appears any more.
        terms: its summands, the magnitudes a residual is compared with.
        atoms: all atoms of the expression, sorted by name.
        free: the columns it is sampled on.
        pins: `{column: value}` of the points; an atom with pins of its own overrides them.
    """

    expression: Expr
    terms: tuple[Expr, ...]
    atoms: tuple[Atom, ...]
    free: tuple[Expr, ...]
    pins: dict[Expr, Expr] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """A statement of the problem as residuals: one part, or one per face for a condition on the whole boundary.

    Attributes:
        name: `equation 1`, `condition 2`, `observation 1`, or the name the user gave.
        kind: `equation`, `initial`, `boundary`, `periodic`, `point`, `nonlocal` or `observation`.
        statement: what the user wrote, for messages.
        weight: weight in a training loss; 1 unless the user said otherwise.
    """

    name: str
    kind: str
    statement: object
    parts: tuple[Part, ...]
    weight: float = 1.0


class Normaliser:
    """Rewrites expressions in fields into expressions in atoms.

    sympy writes the same pinned derivative in several ways: `u(0, x)`, `Subs(Derivative(u(t, x), t), t, 0)`, the mixed
    `Subs(Derivative(u(x, 0), (x, 2)), x, 1)`. All become one `Atom`.
    """

    def __init__(self, columns: tuple[Expr, ...], fields: tuple[AppliedUndef, ...]):
        self.columns = columns
        self.fields = {f.func: f for f in fields}
        self.atoms: dict[Symbol, Atom] = {}

    def __call__(self, expression: Expr, pins: dict[Expr, Expr] | None = None) -> Expr:
        """`expression` with an atom symbol for every field value; `pins` are substituted everywhere."""
        return self._walk(sympy.sympify(expression).doit(deep=True), dict(pins or {}))

    def _walk(self, node, pins):
        if isinstance(node, AppliedUndef) and node.func in self.fields:
            return self._atom(node, (), pins)
        if isinstance(node, Derivative):
            inner, variables = node.expr, node.variables
            while isinstance(inner, Derivative):
                inner, variables = inner.expr, inner.variables + variables
            if isinstance(inner, AppliedUndef) and inner.func in self.fields:
                return self._atom(inner, variables, pins)
            done = node.doit()
            if done != node:
                return self._walk(done, pins)
            raise UnsupportedTerm(node, "only derivatives of declared fields can be taken")
        if isinstance(node, Subs):
            inner_pins = dict(pins)
            for variable, point in zip(node.variables, node.point, strict=True):
                inner_pins[variable] = point.subs(pins) if pins else point
            return self._walk(node.expr, inner_pins)
        if node in pins:
            return pins[node]
        if not node.args:
            return node
        return node.func(*(self._walk(argument, pins) for argument in node.args))

    def _atom(self, call, variables, pins):
        declared = self.fields[call.func]
        orders = [0] * len(self.columns)
        here = {}
        for axis, argument in zip(declared.args, call.args, strict=True):
            # Inside a `Subs` the argument may be the bound variable instead of the axis itself.
            names = {argument, axis} if argument == axis or argument in pins else {argument}
            target = pins.get(argument, argument)
            count = sum(1 for v in variables if v in names)
            for column in self._columns_of(axis):
                direct = sum(1 for v in variables if v == column)
                orders[self.columns.index(column)] += max(count, direct)
            if target != axis:
                if not sympy.sympify(target).is_number:
                    raise UnsupportedTerm(call, f"the argument `{argument}` is neither `{axis}` nor a number")
                here[axis] = target
        atom = Atom(declared, tuple(orders), tuple(sorted(here.items(), key=lambda item: str(item[0]))))
        self.atoms[atom.symbol] = atom
        return atom.symbol

    def _columns_of(self, axis):
        components = getattr(axis, "components", None)
        return components if components is not None else (axis,)


class UnsupportedTerm(ValueError):
    """A sub-expression that no residual can be made of; `problem.py` turns it into a `DeclarationError`."""

    def __init__(self, term, reason):
        super().__init__(reason)
        self.term, self.reason = term, reason


def make_part(residual: Expr, columns, fields, pins=None, parameters=frozenset()) -> Part:
    """The part for `residual == 0`, with `pins` substituted; the common pins of its atoms become the part's pins."""
    normaliser = Normaliser(tuple(columns), tuple(fields))
    expression = normaliser(residual, pins)
    atoms = tuple(normaliser.atoms[s] for s in sorted(normaliser.atoms, key=str) if expression.has(s))
    fixed = dict(pins or {})
    for atom in atoms:
        for column, value in atom.pins:
            fixed.setdefault(column, value)
    # An axis is free when some atom or coefficient still varies along it.
    used = expression.free_symbols
    varying = {c for c in columns if c in used}
    for atom in atoms:
        varying |= {c for c in columns if _axis_of(c) in atom.field.args} - {c for c, _ in atom.pins}
    free = tuple(c for c in columns if c in varying and c not in fixed) if fixed else tuple(columns)
    for column in columns:
        # A column that nothing depends on is pinned somewhere; any place serves.
        if column not in free and column not in fixed and fixed:
            fixed[column] = None
    terms = tuple(sympy.Add.make_args(sympy.expand(expression, deep=False)))
    return Part(expression, terms, atoms, free, fixed)


def _axis_of(column):
    return getattr(column, "axis", column)


def kind_of(part: Part, time) -> str:
    """What a condition is, from its pins: several ends of one axis make it periodic or nonlocal."""
    places = {atom.pins for atom in part.atoms}
    if len(places) > 1:
        return "periodic" if periodic_axis(part) is not None else "nonlocal"
    pinned = set(part.pins)
    if not part.free:
        return "point" if len(pinned) > 1 else ("initial" if time in pinned else "boundary")
    if time in pinned:
        return "initial"
    return "boundary"


def periodic_axis(part: Part):
    """The axis along which `part` says that a value or derivative is the same at both places, else None."""
    if len(part.atoms) != 2:
        return None
    first, second = part.atoms
    if first.field != second.field or first.orders != second.orders:
        return None
    if sympy.expand(part.expression - (first.symbol - second.symbol)) != 0 and \
            sympy.expand(part.expression + (first.symbol - second.symbol)) != 0:
        return None
    a, b = dict(first.pins), dict(second.pins)
    if set(a) != set(b):
        return None
    different = [axis for axis in a if a[axis] != b[axis]]
    return different[0] if len(different) == 1 and len(a) == 1 else None


def is_linear(part: Part, unknowns=()) -> bool:
    """Whether the expression is affine in its atoms (and, jointly with them, in the unknown coefficients)."""
    symbols = [a.symbol for a in part.atoms] + list(unknowns)
    for s in symbols:
        slope = sympy.diff(part.expression, s)
        if any(slope.has(other) for other in symbols) and sympy.expand(slope).free_symbols & set(symbols):
            return False
    return True
