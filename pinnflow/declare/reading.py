"""One statement at a time: an equation, condition or observation becomes a residual block, or one mistake."""

from __future__ import annotations

import sympy
from sympy import Dummy, Eq, Expr, Symbol
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean, BooleanAtom

from pinnflow.declare.analysis import Block, Normaliser, Part, UnsupportedTerm, kind_of, make_part
from pinnflow.declare.declared import Declared, Wrong, calls_in, real, stranger
from pinnflow.declare.measured import data_of
from pinnflow.declare.notation import written
from pinnflow.declare.operators import rank
from pinnflow.declare.places import places_of, with_normal
from pinnflow.declare.statements import Condition, Observations
from pinnflow.declare.symbols import VectorCoordinate, components_of


def equation_block(it: Declared, label: str, statement: object) -> Block:
    """The block of an equation."""
    residual = _residual(it, statement, "equation")
    normaliser = Normaliser(it.columns, it.fields, it.ends)
    part = make_part(residual, it.columns, it.fields, domain=it.ends, normaliser=normaliser)
    _check_outside(it, normaliser, statement)
    _check_symbols(it, part, statement)
    if not part.atoms:
        _refuse_without_field(it, statement)
    return Block(label, "equation", statement, (part,))


def _refuse_without_field(it, statement):
    raise Wrong(
        f"`{written(statement, it.fields)}` contains no unknown field.",
        'An unknown field is a function of coordinates: `u = field("u", ...)`.',
        "no field",
    )


def condition_block(it: Declared, label: str, statement: object) -> Block:
    """The block of a condition, one part per face; its kind follows from the pins."""
    given = statement if isinstance(statement, Condition) else Condition(statement)
    weight = _weight(given)
    residual = _residual(it, given.eq, "condition")
    places = places_of(it, given)
    parts = []
    normaliser = Normaliser(it.columns, it.fields, it.ends)
    for pins, normal in places:
        face = with_normal(residual, normal)
        parts.append(make_part(face, it.columns, it.fields, pins, it.ends, normaliser))
    for part in parts:
        _check_symbols(it, part, given.eq)
    if not any(part.atoms for part in parts):
        _refuse_without_unknown(it, given.eq)
    _check_outside(it, normaliser, given.eq)
    _checkdata_of(it, parts, given.eq)
    if normaliser.snapped:
        it.snapped[label] = tuple(normaliser.snapped.items())
    kind = kind_of(parts[0], it.time, it.ends)
    if kind == "equation":
        raise Wrong(
            f"`{written(given.eq, it.fields)}` pins no coordinate, so it would hold in the whole domain.",
            f"Pin one, `{_pin_example(it)}`, or give `Condition(..., on=...)`; an equation belongs in `equations`.",
            "no pin",
        )
    return Block(label, kind, statement, tuple(parts), weight)


def observation_block(it: Declared, label: str, statement: object) -> Block:
    """The block of an observation, with its points and values as data."""
    if not isinstance(statement, Observations):
        raise Wrong(
            f"`{statement!r}` is of type {type(statement).__name__}.",
            "Write `Observations(expression, {coordinate: array}, values)`.",
            "type",
        )
    _check_calls(it, statement.expression)
    normaliser = Normaliser(it.columns, it.fields, it.ends)
    part = make_part(statement.expression, it.columns, it.fields, domain=it.ends, normaliser=normaliser)
    _check_outside(it, normaliser, statement.expression)
    _check_symbols(it, part, statement.expression)
    if not part.atoms:
        _refuse_without_field(it, statement.expression)
    return Block(label, "observation", statement, (part,), data=data_of(it, part, statement))


def _weight(given):
    if given.weight is None:
        return 1.0
    weight = real(given.weight)
    if weight is None or weight <= 0:
        raise Wrong(f"the weight {given.weight!r} is no positive number.", "Leave `weight` out for 1.", "weight")
    return weight


def _residual(it, statement, what):
    """`left - right` of a statement, after everything that can be said before it is normalised."""
    if isinstance(statement, Condition):
        raise Wrong("a `Condition` stands where an equation is expected.", "Put it in `conditions`.", "type")
    if isinstance(statement, (bool, BooleanAtom)):
        raise Wrong(*_boolean(it, bool(statement), what))
    if isinstance(statement, (Relational, Boolean)) and not isinstance(statement, Eq):
        raise Wrong(f"`{written(statement)}` is no equation.", "Write `Eq(left, right)`.", "type")
    if isinstance(statement, (list, tuple, sympy.MatrixBase, sympy.Tuple)) or (
        isinstance(statement, Eq) and any(isinstance(s, sympy.MatrixBase) for s in statement.args)
    ):
        raise Wrong(f"`{written(statement)}` is a vector of statements.", f"Write one {what} per component.", "rank")
    if not isinstance(statement, (Eq, Expr)):
        raise Wrong(
            f"`{statement!r}` is of type {type(statement).__name__}, expected a sympy equation.",
            "Write `Eq(left, right)`.",
            "type",
        )
    if any(isinstance(node, sympy.NDimArray) for node in sympy.preorder_traversal(statement)):
        raise Wrong(
            "it contains an array of numbers; data on a grid are not solved by this release.",
            "Write the data as an expression in the coordinates, for example an interpolating polynomial.",
            "grid",
            True,
        )
    _check_rank(statement)
    if statement.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise Wrong(
            f"`{written(statement, it.fields)}` contains an infinite or undefined coefficient.",
            "Look for a division by zero in what was put in.",
            "not finite",
        )
    _check_calls(it, statement)
    if not calls_in(statement):
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
    message = "it is `True`, so it imposes nothing"
    if what == "equation":
        return f"{message}: both sides are the same.", "Write an equation between different expressions.", "boolean"
    f, axis, low = _example(it)
    return (
        f"{message}. `{f}.subs({axis}, {low}).diff({axis})` differentiates a function that no longer depends on "
        f"`{axis}`.",
        _missing_initial(it) or f"Differentiate first and pin then: `{f}.diff({axis}).subs({axis}, {low})`.",
        "boolean",
    )


def _refuse_without_unknown(it, statement):
    raise Wrong(
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


def _example(it):
    """A field, an axis of it and the low end, for examples in messages."""
    f = it.fields[0] if it.fields else sympy.Function("u")(Symbol("t"), Symbol("x"))
    axis = it.time if it.time in f.args else components_of(f.args[0])[0]
    return f.func.__name__, axis, it.ends[axis][0] if axis in it.ends else 0


def _pin_example(it, derivative=False):
    f, axis, low = _example(it)
    return f"{f}.diff({axis}).subs({axis}, {low})" if derivative else f"{f}.subs({axis}, {low})"


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
        raise Wrong(
            f"`{written(statement)}`: {what}, expected a scalar equation.",
            "Write one equation per component, or make scalars with `div`, `dot` or `norm_squared`.",
            "rank",
        )


def _check_calls(it, statement):
    """Fields with wrong arguments, namesakes, and symbols in arguments that are no coordinates."""
    declared = {f.func.__name__: f for f in it.fields}
    for call in calls_in(statement):
        name = call.func.__name__
        strangers = [a for a in call.args if isinstance(a, Symbol) and not isinstance(a, Dummy) and a not in it.domain]
        strangers = [s for s in strangers if not _is_bound(statement, s)]
        if strangers:
            raise Wrong(*stranger(it, strangers[0], f"`{call}`"))
        f = declared.get(name)
        if f is None:
            if all(a in it.domain or a.is_number for a in call.args):
                choices = ", ".join(f"`{g}`" for g in it.fields) or "none"
                raise Wrong(
                    f"`{call}` stands in no equation.",
                    f"Add its equation, or use a field that has one: {choices}.",
                    "field",
                )
            raise Wrong(
                f"`{call}` is a function of something else than the coordinates, so it is no field.",
                "Write a function known to sympy, or an unknown function of coordinates.",
                "function",
                True,
            )
        if f.func != call.func:
            raise Wrong(
                f"two different functions are called `{name}`: `{_made(f.func)}` and `{_made(call.func)}`.",
                f'Make the function once, `{name} = field("{name}", {", ".join(map(str, f.args))})`, and use it.',
                "namesake",
            )
        if call != f and all(a in it.domain for a in call.args):
            what = "has its arguments in another order than" if set(call.args) == set(f.args) else "is not"
            raise Wrong(f"`{call}` {what} the field `{f}`.", f"Write `{f}` everywhere.", "signature")
        if name in {c.name for c in it.domain}:
            raise Wrong(f"`{name}` is a coordinate and a field at once.", "Give one of them another name.", "name")


def _made(function):
    # sympy stores all that follows from an assumption; the strongest is what was written.
    strongest = next((a for a in ("positive", "negative", "integer", "real") if function._kwargs.get(a)), None)
    return f"Function({function.__name__!r}{f', {strongest}=True' if strongest else ''})"


def _is_bound(statement, symbol):
    return symbol not in statement.free_symbols


def _check_symbols(it, part: Part, statement):
    known = {*it.columns, *it.unknowns, *(a.symbol for a in part.atoms)}
    strangers = sorted((s for s in part.expression.free_symbols - known), key=lambda s: s.name)
    vectors = [s for s in strangers if isinstance(s, VectorCoordinate) and s in it.domain]
    if vectors:
        raise Wrong(
            f"`{written(statement, it.fields)}` uses the vector `{vectors[0]}` where a scalar is needed.",
            f"Write `{vectors[0]}[0]` for one component, or `norm_squared({vectors[0]})`.",
            "rank",
        )
    if strangers:
        raise Wrong(*stranger(it, strangers[0], f"`{written(statement, it.fields)}`"))
    if part.expression.has(sympy.nan, sympy.zoo, sympy.oo):
        raise Wrong(
            f"`{written(statement, it.fields)}` is infinite or undefined where it is pinned.",
            "Look for a division by zero at that place.",
            "not finite",
        )


def _check_outside(it, normaliser, term):
    if not normaliser.outside:
        return
    column, value = normaliser.outside[0]
    low, high = it.ends[column]
    raise Wrong(
        f"`{written(term, it.fields)}` is pinned at `{column} = {value}`, outside the domain ({low}, {high}).",
        f"Pin it inside, for example `.subs({column}, {low})`, or enlarge the domain.",
        "outside",
    )


def _checkdata_of(it, parts, term):
    """Data that still depend on a coordinate that all fields beside them pin."""
    for part in parts:
        for column in sorted(part.expression.free_symbols & set(it.columns), key=str):
            axis = getattr(column, "axis", column)
            owners = [a for a in part.atoms if axis in a.field.args]
            if owners and all(column in dict(a.pins) for a in owners):
                place = dict(owners[0].pins)[column]
                raise Wrong(
                    f"`{written(term, it.fields)}` is pinned at `{column} = {place}`, but its data still depend on "
                    f"`{column}`.",
                    f"Pin the data too: `.subs({column}, {place})`.",
                    "data",
                )
