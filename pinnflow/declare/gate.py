"""The gate: reads the arguments of `Problem`, statement by statement, and collects every mistake.

`read` is the table of contents. Each statement is looked at on its own and yields either a residual block or one
mistake, so that a user sees all wrong statements at once and each of them once. Nothing below the gate checks input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import sympy
from sympy import Dummy, Eq, Expr, Symbol
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean, BooleanAtom

from pinnflow.declare.analysis import (
    Block,
    Normaliser,
    Part,
    UnsupportedTerm,
    kind_of,
    make_part,
    periodic_axis,
)
from pinnflow.declare.domain import read_domain
from pinnflow.declare.notation import written
from pinnflow.declare.operators import NormalDerivative, rank
from pinnflow.declare.statements import Bounds, Condition, Observations
from pinnflow.declare.structure import boundary_columns
from pinnflow.declare.symbols import Component, VectorCoordinate, components_of
from pinnflow.errors import DeclarationError, Mistake, UnsupportedDeclaration


@dataclass
class Declared:
    """What the gate has read; `Problem` keeps these as attributes."""

    domain: dict[Symbol, tuple[Expr, Expr]]
    columns: tuple[Symbol, ...]
    ends: dict[Symbol, tuple[Expr, Expr]]
    time: Symbol | None
    equations: tuple
    conditions: tuple
    unknowns: dict[Symbol, object]
    observations: tuple[Observations, ...]
    fields: tuple[AppliedUndef, ...] = ()
    exact: dict[AppliedUndef, Expr] | None = None
    blocks: tuple[Block, ...] = ()
    snapped: dict[str, tuple] = field(default_factory=dict)


class _Wrong(Exception):
    """One mistake of the statement at hand; `read` adds the name of the statement."""

    def __init__(self, message, remedy, code, unsupported=False):
        super().__init__(message)
        self.arguments = (message, remedy, code, unsupported)


def read(equations, domain, conditions, where, unknowns, observations, time, exact, name) -> Declared:
    """The declaration in normal form.

    Raises:
        DeclarationError: listing the mistakes of all statements; `UnsupportedDeclaration` when each of them asks for
            something meaningful that this release does not solve.
    """
    intervals, mistakes = read_domain(domain)
    equations = _listed(equations, "equations", mistakes)
    conditions = _listed(conditions, "conditions", mistakes)
    observations = _listed(observations, "observations", mistakes)
    columns = tuple(column for axis in intervals for column in components_of(axis))
    it = Declared(
        domain=intervals,
        columns=columns,
        ends={column: ends for axis, ends in intervals.items() for column in components_of(axis)},
        time=_time(time, intervals, mistakes),
        equations=equations,
        conditions=conditions,
        unknowns=_unknowns(unknowns, intervals, mistakes),
        observations=observations,
    )
    if where is not None:
        mistakes.append(_where(where))
    if not equations:
        mistakes.append(Mistake("equations", "there is none.", "Write for example `equations=[Eq(...)]`.", "equation"))
    it.fields = _fields(it)
    it.blocks, wrong = _blocks(it)
    mistakes += wrong
    if not mistakes:
        mistakes += _unused_unknowns(it)
    it.exact = _exact(exact, it, mistakes)
    if mistakes:
        kind = UnsupportedDeclaration if all(m.unsupported for m in mistakes) else DeclarationError
        raise kind(mistakes, name)
    return it


def _listed(given, what, mistakes):
    if given is None:
        return ()
    if isinstance(given, (sympy.Basic, bool, Condition, Observations)):
        return (given,)
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        message = f"expected a list, found {type(given).__name__}."
        mistakes.append(Mistake(what, message, f"Write `{what}=[...]`.", "list"))
        return ()
    return tuple(given)


def _time(time, intervals, mistakes):
    if time is None:
        return next((c for c in intervals if c.name == "t" and not isinstance(c, VectorCoordinate)), None)
    if time not in intervals or isinstance(time, VectorCoordinate):
        choices = ", ".join(f"`{c}`" for c in intervals if not isinstance(c, VectorCoordinate))
        message = f"`time={time!r}` is no scalar coordinate of the domain."
        mistakes.append(Mistake("time", message, f"Choose one of {choices}.", "time"))
        return None
    return time


def _where(where):
    message = f"`where={where}` cuts a region out of the box; this release solves on boxes."
    return Mistake(
        "where",
        message,
        "Leave `where` out, or map the region to a box by a change of coordinates.",
        "region",
        unsupported=True,
    )


def _unknowns(unknowns, intervals, mistakes):
    if unknowns is None:
        return {}
    if not isinstance(unknowns, Mapping):
        message = f"expected a dict `{{Symbol: initial value or Bounds(low, high)}}`, found {type(unknowns).__name__}."
        mistakes.append(Mistake("unknowns", message, "Write for example `unknowns={c: 1.0}`.", "unknowns"))
        return {}
    read = {}
    for symbol, value in unknowns.items():
        if not isinstance(symbol, Symbol) or isinstance(symbol, (VectorCoordinate, Component)):
            message = f"`{symbol}` is no symbol for a number."
            remedy = "A coefficient that varies is another `Function` of the coordinates; it needs no entry here."
            mistakes.append(Mistake("unknowns", message, remedy, "unknowns"))
            continue
        if symbol.name in {c.name for c in intervals}:
            message = f"`{symbol}` is a coordinate and an unknown at once."
            mistakes.append(Mistake("unknowns", message, "Give one of them another name.", "name"))
        if not isinstance(value, Bounds):
            number = _real(value)
            if number is None:
                message = f"`{symbol}: {value!r}` is neither a finite number nor `Bounds(low, high)`."
                remedy = f"Write `unknowns={{{symbol}: 1.0}}` or `unknowns={{{symbol}: Bounds(0, 2)}}`."
                mistakes.append(Mistake("unknowns", message, remedy, "unknowns"))
                number = 1.0
            value = number
        read[symbol] = value
    return read


def _real(value):
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


# ---------------------------------------------------------------------------------------------------------- fields


def _fields(it) -> tuple[AppliedUndef, ...]:
    """The unknown fields as declared: equation by equation, by name within one."""
    found: dict[str, AppliedUndef] = {}
    for statement in it.equations:
        calls = _calls(statement)
        whole = [c for c in calls if c.args and len(set(c.args)) == len(c.args) and set(c.args) <= set(it.domain)]
        for call in sorted(whole, key=lambda c: c.func.__name__):
            found.setdefault(call.func.__name__, call)
    return tuple(found.values())


def _calls(statement) -> list[AppliedUndef]:
    """The undefined functions in a statement, in the order in which sympy prints them."""
    if isinstance(statement, Condition):
        statement = statement.eq
    if isinstance(statement, Observations):
        statement = statement.expression
    if not isinstance(statement, sympy.Basic):
        return []
    calls = statement.atoms(AppliedUndef)
    return [node for node in sympy.preorder_traversal(statement) if node in calls] if len(calls) > 1 else list(calls)


# ---------------------------------------------------------------------------------------------------------- blocks


def _blocks(it):
    """All residual blocks, and the mistakes of the statements that have none."""
    blocks, mistakes = {}, []
    for i, statement in enumerate(it.equations, 1):
        _try(it, f"equation {i}", statement, _equation, blocks, mistakes)
    named, later = _names(it, mistakes), []
    for label, statement in zip(named, it.conditions, strict=True):
        if isinstance(statement, Condition) and isinstance(statement.on, str):
            blocks[label] = None  # keeps its place; needs the periodic axes of the others
            later.append((label, statement))
        else:
            _try(it, label, statement, _condition, blocks, mistakes)
    it.blocks = tuple(b for b in blocks.values() if b is not None)
    for label, statement in later:
        del_placeholder = blocks[label] is None
        _try(it, label, statement, _condition, blocks, mistakes)
        if del_placeholder and blocks[label] is None:
            del blocks[label]
    for i, statement in enumerate(it.observations, 1):
        _try(it, f"observation {i}", statement, _observation, blocks, mistakes)
    order = {label: i for i, label in enumerate(_order(it, named))}
    mistakes.sort(key=lambda m: order.get(m.statement, -1))
    return tuple(blocks.values()), mistakes


def _order(it, named):
    yield from (f"equation {i}" for i in range(1, len(it.equations) + 1))
    yield from named
    yield from (f"observation {i}" for i in range(1, len(it.observations) + 1))


def _try(it, label, statement, make, blocks, mistakes):
    try:
        blocks[label] = make(it, label, statement)
        return
    except _Wrong as wrong:
        arguments = wrong.arguments
    except UnsupportedTerm as term:
        arguments = _explain(term, it)
    except DeclarationError as error:  # from an operator that is expanded here for the first time
        arguments = (error.mistakes[0].message, error.mistakes[0].remedy, "rank", False)
    mistakes.append(Mistake(label, *arguments))


def _explain(term, it):
    at = "" if f"`{term.term}`" in term.reason else f" (in `{written(term.term, it.fields, 120)}`)"
    return f"{term.reason}{at}.", term.remedy, term.code, term.unsupported


def _names(it, mistakes):
    automatic = {
        f"{kind} {i}"
        for kind, n in [("equation", it.equations), ("observation", it.observations)]
        for i in range(1, len(n) + 1)
    }
    named = []
    for i, statement in enumerate(it.conditions, 1):
        label = f"condition {i}"
        given = statement.name if isinstance(statement, Condition) else None
        if given is not None:
            others = automatic | {f"condition {j}" for j in range(1, len(it.conditions) + 1) if j != i} | set(named)
            if not isinstance(given, str) or not given or given in others:
                message = (
                    f"the name {given!r} is taken by another statement."
                    if given in others
                    else f"the name {given!r} is no text."
                )
                mistakes.append(Mistake(label, message, "Give it a name of its own, or leave `name` out.", "name"))
            else:
                label = given
        named.append(label)
    return named


def _equation(it, label, statement):
    residual = _residual(it, statement, "equation")
    part = make_part(
        residual, it.columns, it.fields, domain=it.ends, normaliser=Normaliser(it.columns, it.fields, it.ends)
    )
    _check_symbols(it, part, statement)
    if not part.atoms:
        _refuse_without_field(it, statement)
    return Block(label, "equation", statement, (part,))


def _refuse_without_field(it, statement):
    raise _Wrong(
        f"`{written(statement, it.fields)}` contains no unknown field.",
        'An unknown field is a function of coordinates: `u = field("u", ...)`.',
        "no field",
    )


def _condition(it, label, statement):
    given = statement if isinstance(statement, Condition) else Condition(statement)
    weight = _weight(given)
    residual = _residual(it, given.eq, "condition")
    places = _places(it, given)
    parts = []
    normaliser = Normaliser(it.columns, it.fields, it.ends)
    for pins, normal in places:
        face = _with_normal(residual, normal)
        parts.append(make_part(face, it.columns, it.fields, pins, it.ends, normaliser))
    for part in parts:
        _check_symbols(it, part, given.eq)
    if not any(part.atoms for part in parts):
        _refuse_without_unknown(it, given.eq)
    _check_places(it, normaliser, parts, given)
    if normaliser.snapped:
        it.snapped[label] = tuple(normaliser.snapped.items())
    kind = kind_of(parts[0], it.time, it.ends)
    if kind == "equation":
        raise _Wrong(
            f"`{written(given.eq, it.fields)}` pins no coordinate, so it would hold in the whole domain.",
            f"Pin one, `{_pin_example(it)}`, or give `Condition(..., on=...)`; an equation belongs in `equations`.",
            "no pin",
        )
    return Block(label, kind, statement, tuple(parts), weight)


def _observation(it, label, statement):
    if not isinstance(statement, Observations):
        raise _Wrong(
            f"`{statement!r}` is {type(statement).__name__}.",
            "Write `Observations(expression, {coordinate: array}, values)`.",
            "type",
        )
    _check_calls(it, statement.expression)
    part = make_part(
        statement.expression,
        it.columns,
        it.fields,
        domain=it.ends,
        normaliser=Normaliser(it.columns, it.fields, it.ends),
    )
    _check_symbols(it, part, statement.expression)
    if not part.atoms:
        _refuse_without_field(it, statement.expression)
    return Block(label, "observation", statement, (part,), data=_data(it, part, statement))


def _weight(given):
    if given.weight is None:
        return 1.0
    weight = _real(given.weight)
    if weight is None or weight <= 0:
        raise _Wrong(f"the weight {given.weight!r} is no positive number.", "Leave `weight` out for 1.", "weight")
    return weight


def _residual(it, statement, what):
    """`left - right` of a statement, after everything that can be said before it is normalised."""
    if isinstance(statement, Condition):
        raise _Wrong("a `Condition` stands where an equation is expected.", "Put it in `conditions`.", "type")
    if isinstance(statement, (bool, BooleanAtom)):
        raise _Wrong(*_boolean(it, bool(statement), what))
    if isinstance(statement, (Relational, Boolean)) and not isinstance(statement, Eq):
        raise _Wrong(f"`{written(statement)}` is no equation.", "Write `Eq(left, right)`.", "type")
    if isinstance(statement, (list, tuple, sympy.MatrixBase, sympy.Tuple)) or (
        isinstance(statement, Eq) and any(isinstance(s, sympy.MatrixBase) for s in statement.args)
    ):
        raise _Wrong(f"`{written(statement)}` is a vector of statements.", f"Write one {what} per component.", "rank")
    if not isinstance(statement, (Eq, Expr)):
        raise _Wrong(
            f"`{statement!r}` is {type(statement).__name__}, expected a sympy equation.",
            "Write `Eq(left, right)`.",
            "type",
        )
    _check_rank(statement)
    if statement.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise _Wrong(
            f"`{written(statement, it.fields)}` contains an infinite or undefined coefficient.",
            "Look for a division by zero in what was put in.",
            "not finite",
        )
    _check_calls(it, statement)
    if not _calls(statement):
        if what == "condition":
            _refuse_without_unknown(it, statement)
        _refuse_without_field(it, statement)
    if not isinstance(statement, Eq):
        return statement
    # `evaluate` may merge two Subs of the same place; the plain difference is what the user wrote.
    return statement.lhs - statement.rhs


def _boolean(it, value, what):
    if not value:
        return (
            "it is `False`: `==` compares two expressions at once, and `Eq` of two different numbers is false.",
            "Write `Eq(left, right)` instead of `left == right`.",
            "boolean",
        )
    missing = _missing_initial(it) if what == "condition" else None
    message = "it is `True`, so it imposes nothing."
    if what == "condition":
        message += " `u.subs(t, 0).diff(t)` differentiates a function that no longer depends on t, and gives 0."
    return message, missing or f"Differentiate first and pin then: `{_pin_example(it, derivative=True)}`.", "boolean"


def _refuse_without_unknown(it, statement):
    raise _Wrong(
        f"`{written(statement, it.fields)}` contains no unknown field: a function that is pinned first no longer "
        "depends on the pinned coordinate, and its derivative is 0.",
        _missing_initial(it) or f"Differentiate first and pin then: `Eq({_pin_example(it, derivative=True)}, ...)`.",
        "no unknown",
    )


def _missing_initial(it):
    """The initial condition a field still needs, as the text of a remedy; None when none is missing."""
    if it.time is None:
        return None
    start = it.ends[it.time][0]
    for f in it.fields:
        if it.time not in f.args:
            continue
        order = max((_order_in(e, f, it.time) for e in it.equations), default=0)
        for k in range(order):
            derivative = f if k == 0 else f.diff(it.time, k)
            if not any(_pins_at_start(c, derivative, it) for c in it.conditions):
                meaning = ("initial value", "initial velocity")[k] if k < 2 else f"initial derivative of order {k}"
                pinned = f"{written(derivative, it.fields)}.subs({it.time}, {start})"
                return f"Write `Eq({pinned}, ...)` for the {meaning} of `{f}`."
    return None


def _order_in(statement, f, axis):
    if not isinstance(statement, sympy.Basic):
        return 0
    orders = [
        sum(int(n) for v, n in d.variable_count if v == axis and n.is_Integer)
        for d in statement.atoms(sympy.Derivative)
        if d.expr == f
    ]
    return max(orders, default=0)


def _pins_at_start(statement, derivative, it):
    statement = statement.eq if isinstance(statement, Condition) else statement
    if not isinstance(statement, sympy.Basic):
        return False
    try:
        wanted = Normaliser(it.columns, it.fields, it.ends)(derivative, {it.time: it.ends[it.time][0]})
        return Normaliser(it.columns, it.fields, it.ends)(
            statement.lhs - statement.rhs if isinstance(statement, Eq) else statement
        ).has(wanted)
    except (UnsupportedTerm, TypeError, AttributeError):
        return False


def _pin_example(it, derivative=False):
    f = it.fields[0] if it.fields else sympy.Function("u")(Symbol("t"), Symbol("x"))
    axis = it.time if it.time in f.args else f.args[0]
    axis = components_of(axis)[0]
    low = it.ends[axis][0] if axis in it.ends else 0
    name = f.func.__name__
    return f"{name}.diff({axis}).subs({axis}, {low})" if derivative else f"{name}.subs({axis}, {low})"


def _check_rank(statement):
    sides = [rank(side) for side in (statement.args if isinstance(statement, Eq) else (statement,))]
    if len(set(sides)) > 1 and 0 not in [s for s, e in zip(sides, statement.args, strict=True) if e != 0]:
        sides = [max(sides)]
    if any(sides):
        names = {0: "a scalar", 1: "a vector", 2: "a matrix"}
        if len(set(sides)) > 1:
            what = f"its left side is {names[sides[0]]} and its right side {names[sides[1]]}"
        else:
            what = f"it is {names[max(sides)]} equation"
        raise _Wrong(
            f"`{written(statement)}`: {what}, expected a scalar equation.",
            "Write one equation per component, or make scalars with `div`, `dot` or `norm_squared`.",
            "rank",
        )


def _check_calls(it, statement):
    """Fields with wrong arguments, namesakes, and symbols in arguments that are no coordinates."""
    declared = {f.func.__name__: f for f in it.fields}
    for call in _calls(statement):
        name = call.func.__name__
        strangers = [a for a in call.args if isinstance(a, Symbol) and not isinstance(a, Dummy) and a not in it.domain]
        strangers = [s for s in strangers if not _is_bound(statement, s)]
        if strangers:
            raise _Wrong(*_stranger(it, strangers[0], f"`{call}`"))
        f = declared.get(name)
        if f is None:
            if all(a in it.domain for a in call.args):
                raise _Wrong(
                    f"`{call}` stands in no equation.",
                    "Add its equation, or use a field that has one: " + ", ".join(f"`{g}`" for g in it.fields) + ".",
                    "field",
                )
            raise _Wrong(
                f"`{call}` is a function of something else than the coordinates, so it is no field.",
                "Write a function known to sympy, or an unknown function of coordinates.",
                "function",
                True,
            )
        if f.func != call.func:
            raise _Wrong(
                f"two different functions are called `{name}`: `{sympy.srepr(f.func)}` and `{sympy.srepr(call.func)}`.",
                f'Make the function once, `{name} = field("{name}", {", ".join(map(str, f.args))})`, and use it.',
                "namesake",
            )
        if call != f and all(a in it.domain for a in call.args):
            order = "in another order" if set(call.args) == set(f.args) else "with other coordinates"
            raise _Wrong(f"`{call}` has its arguments {order} than `{f}`.", f"Write `{f}` everywhere.", "signature")
        if name in {c.name for c in it.domain}:
            raise _Wrong(f"`{name}` is a coordinate and a field at once.", "Give one of them another name.", "name")


def _is_bound(statement, symbol):
    return symbol not in statement.free_symbols


def _stranger(it, symbol, where):
    known = {s.name: s for s in (*it.columns, *it.domain, *it.unknowns)}
    other = known.get(symbol.name)
    if other is not None:
        return (
            f"{where} uses the symbol `{sympy.srepr(symbol)}`, but the declared one is `{sympy.srepr(other)}`; sympy "
            "takes symbols with the same name and other assumptions for different ones.",
            f'Make the symbol once, `{symbol.name} = coordinates("{symbol.name}")`, and use it everywhere.',
            "namesake",
        )
    return (
        f"{where} uses the symbol `{symbol}`, which is neither a coordinate nor an unknown.",
        f"Substitute a number, or declare it: `unknowns={{{symbol}: 1.0}}` to find it, `domain={{..., {symbol}: (low, "
        "high)}` for a parameter axis.",
        "undeclared",
    )


def _check_symbols(it, part: Part, statement):
    known = {*it.columns, *it.unknowns, *(a.symbol for a in part.atoms)}
    strangers = sorted((s for s in part.expression.free_symbols - known), key=lambda s: s.name)
    vectors = [s for s in strangers if isinstance(s, VectorCoordinate) and s in it.domain]
    if vectors:
        raise _Wrong(
            f"`{written(statement, it.fields)}` uses the vector `{vectors[0]}` where a scalar is needed.",
            f"Write `{vectors[0]}[0]` for one component, or `norm_squared({vectors[0]})`.",
            "rank",
        )
    if strangers:
        raise _Wrong(*_stranger(it, strangers[0], f"`{written(statement, it.fields)}`"))
    if part.expression.has(sympy.nan, sympy.zoo, sympy.oo):
        raise _Wrong(
            f"`{written(statement, it.fields)}` is infinite or undefined where it is pinned.",
            "Look for a division by zero at that place.",
            "not finite",
        )


def _check_places(it, normaliser, parts, given):
    if normaliser.outside:
        column, value = normaliser.outside[0]
        low, high = it.ends[column]
        raise _Wrong(
            f"`{written(given.eq, it.fields)}` is pinned at `{column} = {value}`, outside the domain ({low}, {high}).",
            f"Pin it inside, for example `{_at_end(it, column)}`, or enlarge the domain.",
            "outside",
        )
    for part in parts:
        for column in sorted(part.expression.free_symbols & set(it.columns), key=str):
            axis = getattr(column, "axis", column)
            owners = [a for a in part.atoms if axis in a.field.args]
            if owners and all(column in dict(a.pins) for a in owners):
                place = dict(owners[0].pins)[column]
                raise _Wrong(
                    f"`{written(given.eq, it.fields)}` is pinned at `{column} = {place}`, but its data still depend on "
                    f"`{column}`.",
                    f"Pin the data too: `.subs({column}, {place})`.",
                    "data",
                )


def _at_end(it, column):
    name = it.fields[0].func.__name__
    return f"{name}.subs({column}, {it.ends[column][0]})"


# ---------------------------------------------------------------------------------------------------------- places


def _places(it, given) -> list[tuple[dict, tuple | None]]:
    """`on` as pins with the outward normal `(column, sign)` where there is one; one entry per face."""
    on = given.on
    if on is None:
        if isinstance(given.eq, sympy.Basic) and given.eq.has(NormalDerivative):
            raise _Wrong(
                f"`{written(given.eq, it.fields)}` uses `normal_derivative`, but does not say on which part of the "
                "boundary it holds.",
                'Write `Condition(eq, on={x: 1})` for one face or `on="boundary"` for all.',
                "normal",
            )
        return [({}, None)]
    if isinstance(on, str):
        if on != "boundary":
            raise _Wrong(f"`on={on!r}` is unknown.", 'Write `on="boundary"`, a dict of pins or `Eq(x, 1)`.', "on")
        return _faces(it)
    if isinstance(on, Eq):
        on = _plane(it, on)
    if not isinstance(on, Mapping):
        message = f"`on={on}` describes a part of the boundary that is no face of the box."
        unsupported = isinstance(on, (Boolean, sympy.Basic))
        if not unsupported:
            message = f"`on={on!r}` is {type(on).__name__}."
        raise _Wrong(message, 'Write a dict of pins `{x: 1}`, `Eq(x, 1)` or `"boundary"`.', "on", unsupported)
    pins = {}
    for column, value in on.items():
        if column not in it.columns:
            choices = ", ".join(f"`{c}`" for c in it.columns[:8])
            raise _Wrong(
                f"`on` pins `{column}`, which is no coordinate of the domain.", f"Choose from {choices}.", "on"
            )
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
        raise _Wrong(
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
    raise _Wrong(
        f"`on={written(relation)}` is a curve or a surface that is no plane of the box; this release solves on boxes.",
        'Write `Eq(x, 1)`, a dict of pins or `"boundary"`.',
        "curve",
        True,
    )


def _with_normal(residual, normal):
    if not residual.has(NormalDerivative):
        return residual
    if normal is None:
        raise _Wrong(
            "`normal_derivative` has no direction there: the place is no single face of the box.",
            "Give one coordinate at one of its ends, `on={x: 1}`, or write the derivative out.",
            "normal",
        )
    column, sign = normal
    return residual.replace(
        lambda node: isinstance(node, NormalDerivative),
        lambda node: sign * sympy.Derivative(node.args[0], column),
    )


# ---------------------------------------------------------------------------------------------------- data, exact


def _data(it, part, statement):
    """Points `[n, D]`, values `[n]` and noise of an observation, with unused columns filled from the part's pins."""
    needed = [axis for axis in it.domain if any(c in part.free for c in components_of(axis))]
    missing = [axis for axis in needed if axis not in statement.at]
    unknown = [axis for axis in statement.at if axis not in it.domain]
    if missing or unknown:
        what = f"no values of `{missing[0]}` are given" if missing else f"`{unknown[0]}` is no coordinate"
        keys = ", ".join(f"{axis}: ..." for axis in needed)
        raise _Wrong(f"{what}.", f"Write `Observations({statement.expression}, {{{keys}}}, values)`.", "data")
    shapes = {}
    for axis, array in statement.at.items():
        if isinstance(axis, VectorCoordinate):
            if array.ndim == 0 or array.shape[-1] != axis.dimension:
                raise _Wrong(
                    f"the points of `{axis}` have shape {array.shape}, expected (..., {axis.dimension}).",
                    f"The last axis of the array holds the {axis.dimension} components.",
                    "data",
                )
            shapes[axis] = array.shape[:-1]
        else:
            shapes[axis] = array.shape
    try:
        shape = np.broadcast_shapes(*shapes.values())
        values = np.broadcast_to(statement.values, shape)
        noise = None if statement.noise is None else np.broadcast_to(statement.noise, shape).ravel()
    except ValueError:
        listed = ", ".join(f"`{axis}` {s}" for axis, s in shapes.items())
        raise _Wrong(
            f"the shapes do not fit together: {listed}, values {statement.values.shape}"
            + ("" if statement.noise is None else f", noise {statement.noise.shape}")
            + ".",
            "Give one value for each point.",
            "data",
        ) from None
    points = np.empty((max(int(np.prod(shape)), 1), len(it.columns)))
    for column in it.columns:
        axis = getattr(column, "axis", column)
        if axis in statement.at:
            array = statement.at[axis]
            array = array[..., column.index] if isinstance(column, Component) else array
            points[:, it.columns.index(column)] = np.broadcast_to(array, shape).ravel()
        else:
            points[:, it.columns.index(column)] = float(part.pins[column])
        _check_inside(it, column, points[:, it.columns.index(column)])
    return points, np.array(values, dtype=np.float64).ravel(), noise


def _check_inside(it, column, places):
    low, high = (float(end) for end in it.ends[column])
    margin = 1e-9 * (high - low)
    wrong = np.flatnonzero((places < low - margin) | (places > high + margin))
    if wrong.size:
        raise _Wrong(
            f"{wrong.size} of {places.size} points lie outside the domain, the first at `{column} = "
            f"{places[wrong[0]]:g}`; expected values in ({it.ends[column][0]}, {it.ends[column][1]}).",
            "Enlarge the domain, or leave these points out.",
            "outside",
        )


def _unused_unknowns(it):
    used = set().union(*(p.expression.free_symbols for b in it.blocks for p in b.parts))
    return [
        Mistake("unknowns", f"`{s}` stands in no statement.", "Use it, or leave it out of `unknowns`.", "unused")
        for s in it.unknowns
        if s not in used
    ]


def _exact(exact, it, mistakes):
    if exact is None or not it.fields:
        return None
    given = exact if isinstance(exact, Mapping) else None
    if given is None:
        if len(it.fields) != 1:
            names = ", ".join(f"{f.func.__name__}: ..." for f in it.fields)
            message = f"one expression is given, but there are {len(it.fields)} fields."
            mistakes.append(Mistake("exact", message, f"Write `exact={{{names}}}`.", "exact"))
            return None
        given = {it.fields[0]: exact}
    by_key = {key: f for f in it.fields for key in (f, f.func)}
    read = {}
    for key, value in given.items():
        try:
            expression = sympy.sympify(value, strict=True)
        except sympy.SympifyError:
            expression = None
        if key not in by_key:
            names = ", ".join(f"`{f}`" for f in it.fields)
            mistakes.append(Mistake("exact", f"`{key}` is no field.", f"The fields are {names}.", "exact"))
        elif not isinstance(expression, Expr) or isinstance(expression, bool):
            message = f"`{value!r}` is no expression."
            mistakes.append(Mistake("exact", message, "Write the solution in the coordinates.", "exact"))
        elif strangers := sorted(expression.free_symbols - set(it.columns), key=str):
            mistakes.append(Mistake("exact", *_stranger(it, strangers[0], f"`{written(expression)}`")))
        else:
            read[by_key[key]] = expression
    return {f: read[f] for f in it.fields if f in read}
