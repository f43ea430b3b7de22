"""The gate: reads the arguments of `Problem`, statement by statement, and collects every mistake.

`read` is the table of contents. Each statement is looked at on its own and yields either a residual block or one
mistake, so that a user sees all wrong statements at once and each of them once. Nothing below the gate checks input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import sympy
from sympy import Expr, Symbol
from sympy.core.function import AppliedUndef

from pinnflow.declare.analysis import UnsupportedTerm
from pinnflow.declare.declared import Declared, Wrong, calls_in, real, stranger
from pinnflow.declare.domain import read_domain
from pinnflow.declare.notation import written
from pinnflow.declare.reading import condition_block, equation_block, observation_block
from pinnflow.declare.statements import Bounds, Condition, Observations
from pinnflow.declare.symbols import Component, VectorCoordinate, components_of
from pinnflow.errors import DeclarationError, Mistake, UnsupportedDeclaration


def read(equations, domain, conditions, where, unknowns, observations, time, exact, name) -> Declared:
    """The declaration in normal form.

    Raises:
        DeclarationError: listing the mistakes of all statements; `UnsupportedDeclaration` when each of them asks for
            something meaningful that this release does not solve.
    """
    intervals, mistakes = read_domain(domain)
    if any(mistake.code in ("domain", "coordinate") for mistake in mistakes):
        raise DeclarationError(mistakes, name)  # without axes every statement would look wrong
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
    if not equations and not any(mistake.statement == "equations" for mistake in mistakes):
        mistakes.append(Mistake("equations", "there is none.", "Write for example `equations=[Eq(...)]`.", "equation"))
    it.fields = _fields(it)
    for symbol in it.unknowns:
        if symbol.name in {f.func.__name__ for f in it.fields}:
            message = f"`{symbol}` is an unknown and a field at once."
            mistakes.append(Mistake("unknowns", message, "Give one of them another name.", "name"))
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
            number = real(value)
            if number is None:
                message = f"`{symbol}: {value!r}` is neither a finite number nor `Bounds(low, high)`."
                remedy = f"Write `unknowns={{{symbol}: 1.0}}` or `unknowns={{{symbol}: Bounds(0, 2)}}`."
                mistakes.append(Mistake("unknowns", message, remedy, "unknowns"))
                number = 1.0
            value = number
        read[symbol] = value
    return read


def _fields(it) -> tuple[AppliedUndef, ...]:
    """The unknown fields as declared: equation by equation, by name within one."""
    found: dict[str, AppliedUndef] = {}
    for statement in it.equations:
        calls = calls_in(statement)
        whole = [c for c in calls if c.args and len(set(c.args)) == len(c.args) and set(c.args) <= set(it.domain)]
        for call in sorted(whole, key=lambda c: c.func.__name__):
            found.setdefault(call.func.__name__, call)
    return tuple(found.values())


def _blocks(it):
    """All residual blocks, and the mistakes of the statements that have none."""
    blocks, mistakes = {}, []
    for i, statement in enumerate(it.equations, 1):
        _try(it, f"equation {i}", statement, equation_block, blocks, mistakes)
    named, later = _names(it, mistakes), []
    for label, statement in zip(named, it.conditions, strict=True):
        if isinstance(statement, Condition) and isinstance(statement.on, str):
            blocks[label] = None  # keeps its place; needs the periodic axes of the others
            later.append((label, statement))
        else:
            _try(it, label, statement, condition_block, blocks, mistakes)
    it.blocks = tuple(b for b in blocks.values() if b is not None)
    for label, statement in later:
        _try(it, label, statement, condition_block, blocks, mistakes)
    for i, statement in enumerate(it.observations, 1):
        _try(it, f"observation {i}", statement, observation_block, blocks, mistakes)
    order = {label: i for i, label in enumerate(_order(it, named))}
    mistakes.sort(key=lambda m: order.get(m.statement, -1))
    return tuple(b for b in blocks.values() if b is not None), list(_merged(mistakes))


def _merged(mistakes):
    """A symbol that is wrong everywhere is one mistake, not one per statement."""
    groups = {}
    for mistake in mistakes:
        once = mistake.code in ("undeclared", "namesake", "field")
        groups.setdefault((mistake.code, mistake.remedy) if once else id(mistake), []).append(mistake)
    for first, *others in groups.values():
        more = f" (and {len(others)} more)" if others else ""
        yield replace(first, statement=first.statement + more)


def _order(it, named):
    yield from (f"equation {i}" for i in range(1, len(it.equations) + 1))
    yield from named
    yield from (f"observation {i}" for i in range(1, len(it.observations) + 1))


def _try(it, label, statement, make, blocks, mistakes):
    try:
        blocks[label] = make(it, label, statement)
        return
    except Wrong as wrong:
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
            mistakes.append(Mistake("exact", *stranger(it, strangers[0], f"`{written(expression)}`")))
        else:
            read[by_key[key]] = expression
    return {f: read[f] for f in it.fields if f in read}
