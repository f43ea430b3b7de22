"""Checks of conditions: missing, surplus, contradictory, and not meeting where they meet."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import sympy
from sympy import Expr
from sympy.core.function import AppliedUndef

from pinnflow.declare.analysis import Atom, Block, Part, is_affine, periodic_axis
from pinnflow.declare.findings import Finding, check
from pinnflow.declare.notation import written
from pinnflow.declare.probe import points_in, values
from pinnflow.declare.structure import (
    boundary_columns,
    columns_of,
    equation_atoms,
    fields_reached,
    orders_of,
    periodic_axes,
    time_order,
)
from pinnflow.declare.symbols import components_of

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem

# Data that differ by less than this, relative to their size, agree.
AGREE = 1e-6
INITIAL_NAMES = ("initial value", "initial velocity", "initial acceleration")


@check
def missing_initial_data(problem: Problem) -> Iterator[Finding]:
    """Order in time against the number of conditions in time, for each field."""
    if problem.time is None:
        return
    observed = fields_reached(problem)
    start = problem.ends[problem.time][0]
    for field in problem.fields:
        order = time_order(problem, field)
        if order == 0 or field in observed or _periodic_in_time(problem, field):
            continue
        given = _initial_conditions(problem, field, order)
        covered = {a.orders[problem.columns.index(problem.time)] for atoms in given for a in atoms if a.field == field}
        lacking = order - len(given)
        if lacking <= 0:
            continue
        missing = [k for k in range(order) if k not in covered][:lacking] or [order - 1]
        name = field.func.__name__
        texts = [written(field if k == 0 else field.diff(problem.time, k), problem.fields) for k in missing]
        writes = " and ".join(f"`Eq({text}.subs({problem.time}, {start}), ...)`" for text in texts)
        meanings = " and ".join(_initial_name(k) for k in missing)
        yield Finding(
            "error",
            "missing initial data",
            name,
            f"the equations are of order {order} in `{problem.time}`, so `{field}` needs {_conditions(order)} in "
            f"`{problem.time}`, but there {'is' if len(given) == 1 else 'are'} {len(given) or 'none'}; the {meanings} "
            f"{'is' if len(missing) == 1 else 'are'} missing.",
            f"Add {writes}.",
        )


@check
def contradicting_and_duplicate_conditions(problem: Problem) -> Iterator[Finding]:
    """Two conditions for the same value at the same place: other data contradict, the same data repeat."""
    groups: dict[tuple, list[_Value]] = defaultdict(list)
    for value in _prescribed(problem):
        for earlier in groups[value.atom.field, value.atom.orders, value.atom.pins]:
            yield from _compare(problem, earlier, value)
        groups[value.atom.field, value.atom.orders, value.atom.pins].append(value)


@check
def surplus_initial_data(problem: Problem) -> Iterator[Finding]:
    """More conditions in time than the order in time."""
    for field in problem.fields if problem.time is not None else ():
        order = time_order(problem, field)
        given = [atoms for atoms in _initial_conditions(problem, field, None) if all(a.field == field for a in atoms)]
        if order and len(given) > order:
            yield Finding(
                "warning",
                "surplus initial data",
                field.func.__name__,
                f"the equations are of order {order} in `{problem.time}`, so `{field}` takes {_conditions(order)} in "
                f"`{problem.time}`, but {len(given)} are given.",
                "Leave out what follows from the others; a surplus condition is met in the least-squares sense only.",
            )


@check
def boundary_data(problem: Problem) -> Iterator[Finding]:
    """Order in each spatial axis against the number and place of the conditions on it."""
    periodic = periodic_axes(problem)
    observed = fields_reached(problem)
    for column in boundary_columns(problem.blocks, problem.columns, problem.time):
        if column in periodic:
            yield from _redundant_beside_periodic(problem, column)
            continue
        for field in problem.fields:
            if field not in observed:
                yield from _boundary_of(problem, field, column)


@check
def corner_mismatch(problem: Problem) -> Iterator[Finding]:
    """Initial data put into the boundary conditions: what remains at the start is a mismatch at the corner."""
    if problem.time is None:
        return
    initial = _initial_data(problem)
    place = problem.columns.index(problem.time)
    for block in problem.blocks:
        if block.kind not in ("boundary", "periodic", "point", "nonlocal"):
            continue
        for part in block.parts:
            expression, level = part.expression, "warning"
            if block.kind == "periodic" and part.atoms[0].order:
                level = "note"  # the data are continuous; only a derivative jumps
            yield from _mismatch(problem, block, part, expression, initial, level, "")
            if all(time_order(problem, a.field) > 1 for a in part.atoms) and len(part.atoms) == 1:
                rate = _time_derivative(expression, part, problem, place)
                if rate is not None:
                    yield from _mismatch(problem, block, part, rate, initial, level, "the rates of ")


@check
def snapped_pins(problem: Problem) -> Iterator[Finding]:
    """Pins that were taken for an end of the domain although they differ a little from it."""
    for label, moved in problem.snapped.items():
        for (column, value), end in moved:
            here = repr(float(value)) if value.is_Float else value
            message = f"`{column} = {here}` is taken as the end `{column} = {end}`."
            yield Finding("note", "snapped", label, message)


# ------------------------------------------------------------------------------------------------------- initial data


def _initial_conditions(problem, field, below) -> set[tuple[Atom, ...]]:
    """The distinct conditions in time alone that hold `field`, each as its atoms of order less than `below`."""
    place = problem.columns.index(problem.time)
    found = set()
    for block in problem.blocks:
        if block.kind not in ("initial", "final", "nonlocal", "periodic"):
            continue
        for part in block.parts:
            own = [a for a in part.atoms if a.field == field]
            in_time = own and all({c for c, _ in a.pins} == {problem.time} for a in own)
            if in_time and (below is None or min(a.orders[place] for a in own) < below):
                found.add(part.atoms)
    return found


def _periodic_in_time(problem, field):
    return any(
        block.kind == "periodic"
        and any(periodic_axis(p, problem.ends) == problem.time and p.atoms[0].field == field for p in block.parts)
        for block in problem.blocks
    )


def _initial_name(k):
    return INITIAL_NAMES[k] if k < len(INITIAL_NAMES) else f"initial time derivative of order {k}"


def _conditions(n):
    return "one condition" if n == 1 else f"{n} conditions"


# ------------------------------------------------------------------------------------------------ prescribed values


class _Value(NamedTuple):
    """A condition that prescribes one atom: `atom = data` on the free columns of `part`."""

    block: Block
    part: Part
    atom: Atom
    data: Expr


def _prescribed(problem) -> Iterator[_Value]:
    for block in problem.blocks:
        if block.kind in ("equation", "observation"):
            continue
        for part in block.parts:
            value = _solved(problem, block, part)
            if value is not None:
                yield value


def _solved(problem, block, part):
    if len(part.atoms) != 1 or part.expression.free_symbols & set(problem.unknowns):
        return None
    (atom,) = part.atoms
    if not is_affine(part.expression, [atom.symbol]):
        return None
    slope = sympy.diff(part.expression, atom.symbol)
    return _Value(block, part, atom, -part.expression.xreplace({atom.symbol: sympy.S.Zero}) / slope)


def _compare(problem, first, second):
    points = points_in(problem, 24, second.part.pins)
    a, b = values(first.data, problem, points), values(second.data, problem, points)
    usable = np.isfinite(a) & np.isfinite(b)
    if not usable.any():
        return
    gap = np.where(usable, np.abs(a - b), 0.0)
    worst = int(gap.argmax())
    names = f"{first.block.name} and {second.block.name}"
    if first.block.name == second.block.name:
        return
    what = _term(first.atom, problem)
    if gap[worst] > AGREE * max(np.abs(a[usable]).max(), np.abs(b[usable]).max(), 1e-300):
        yield Finding(
            "error",
            "contradicting conditions",
            names,
            f"they prescribe different values of `{what}`: {a[worst]:.6g} and {b[worst]:.6g}"
            f"{_at(problem, second.part, points[worst])}.",
            "Keep the one that is meant.",
        )
    else:
        yield Finding(
            "warning",
            "duplicate condition",
            second.block.name,
            f"it repeats {first.block.name}: both prescribe `{what}` with the same values.",
            "Leave one of them out.",
        )


def _term(atom, problem):
    expression = atom.field
    for column, order in zip(problem.columns, atom.orders, strict=True):
        if order:
            expression = sympy.Derivative(expression, (column, order))
    text = written(expression, problem.fields)
    for column, value in atom.pins:
        text += f".subs({column}, {value})"
    return text


def _at(problem, part, point):
    here = [f"{c} = {point[problem.columns.index(c)]:.4g}" for c in part.free if c in problem.columns][:4]
    return f" at {', '.join(here)}" if here else ""


# -------------------------------------------------------------------------------------------------------- boundary


def _boundary_of(problem, field, column):
    order = orders_of(problem, field).get(column, 0)
    if order == 0:
        return
    low, high = problem.ends[column]
    at = _conditions_on(problem, field, column)
    total = sum(at.values())
    alone = len([f for f in problem.fields if orders_of(problem, f).get(column, 0)]) == 1
    name = f"`{field}` along `{column}`"
    if order == 1:
        if total == 0 and alone:
            yield Finding(
                "warning",
                "missing boundary data",
                field.func.__name__,
                f"the equations are of order 1 in `{column}`, so {name} needs one condition, but there is none.",
                f"Add one at the end where `{field.func.__name__}` enters, for example "
                f"`Eq({field.func.__name__}.subs({column}, {low}), ...)`.",
            )
        elif total > 1 and alone and _is_linear_in(problem, field):
            yield _surplus(field, column, order, total)
        return
    if order == total and (at[low] == total or at[high] == total) and alone:
        if len(boundary_columns(problem.blocks, problem.columns, None)) == 1:
            return  # an initial-value problem in a coordinate that is not called time
        if problem.time is None:
            end = low if at[low] == total else high
            yield Finding(
                "warning",
                "time axis",
                str(column),
                f"all {total} conditions on `{column}` stand at `{column} = {end}`, as for a time.",
                f"If `{column}` is the time, say so: `Problem(..., time={column})`.",
            )
            return
    lacking = [end for end in (low, high) if at[end] < order // 2 and not _is_degenerate(problem, field, column, end)]
    short = total < order and order % 2 == 1 and alone and not lacking
    if lacking or short:
        places = " and ".join(f"`{column} = {end}`" for end in lacking) or f"an end of `{column}`"
        each = "one condition" if order // 2 == 1 else f"{order // 2} conditions"
        example = written(field, problem.fields)
        needs = f"{each} at each end" if order % 2 == 0 else f"{order} conditions"
        yield Finding(
            "warning",
            "missing boundary data",
            field.func.__name__,
            f"the equations are of order {order} in `{column}`, so {name} needs {needs}, but there are too few at "
            f"{places}.",
            f"Add for example `Eq({example}.subs({column}, {(lacking or [low])[0]}), ...)`, or make the axis periodic: "
            f"`Eq({example}.subs({column}, {low}), {example}.subs({column}, {high}))`.",
        )
    elif total > order and alone:
        yield _surplus(field, column, order, total)


def _conditions_on(problem, field, column) -> Counter:
    """How many distinct conditions with `field` stand at each place of `column`; periodic ones count at both ends."""
    at: Counter = Counter()
    seen = set()
    for block in problem.blocks:
        if block.kind in ("equation", "observation", "initial", "final"):
            continue
        for part in block.parts:
            own = [dict(a.pins) for a in part.atoms if a.field == field and column in dict(a.pins)]
            full = [pins for pins in own if set(pins) == {column}]
            key = (part.expression, tuple(part.pins.items()))
            if not full or key in seen:
                continue
            seen.add(key)
            places = {pins[column] for pins in full}
            # A relation between both ends is one condition; half of it is owed to each.
            for place in places:
                at[place] += sympy.Rational(1, len(places))
    return at


def _surplus(field, column, order, total):
    return Finding(
        "warning",
        "surplus boundary data",
        field.func.__name__,
        f"the equations are of order {order} in `{column}`, so `{field}` takes {_conditions(order)} on this axis, but "
        f"{total} are given.",
        "Leave out what follows from the others; a surplus condition is met in the least-squares sense only.",
    )


def _is_linear_in(problem, field):
    return all(
        is_affine(p.expression, [a.symbol for a in p.atoms if a.field == field])
        for b in problem.blocks
        if b.kind == "equation"
        for p in b.parts
    )


def _is_degenerate(problem, field, column, end):
    """Whether the highest derivatives along `column` drop out of every equation at `end`: no data are needed there."""
    i = problem.columns.index(column)
    order = orders_of(problem, field)[column]
    points = points_in(problem, 12, {column: end})
    for block in problem.blocks:
        for part in block.parts if block.kind == "equation" else ():
            for atom in part.atoms:
                if atom.field != field or atom.orders[i] != order:
                    continue
                slope = sympy.diff(part.expression, atom.symbol)
                if slope.free_symbols & {a.symbol for a in part.atoms}:
                    return False
                if np.nanmax(np.abs(np.append(values(slope, problem, points), 0.0))) > 1e-12:
                    return False
    return True


def _redundant_beside_periodic(problem, column):
    for block in problem.blocks:
        if block.kind == "periodic" and periodic_axis(block.parts[0], problem.ends) == column:
            atom = block.parts[0].atoms[0]
            if atom.order:
                yield Finding(
                    "note",
                    "redundant",
                    block.name,
                    f"`{column}` is periodic with all derivatives already, by the condition for the values.",
                )


# ---------------------------------------------------------------------------------------------------------- corners


def _initial_data(problem) -> dict[tuple[AppliedUndef, int], tuple[Expr, str]]:
    """`{(field, order in time): (data, condition)}` of the conditions at the low end of time."""
    place = problem.columns.index(problem.time)
    found: dict[tuple[AppliedUndef, int], tuple[Expr, str]] = {}
    for value in _prescribed(problem):
        pins = dict(value.atom.pins)
        if value.block.kind == "initial" and set(pins) == {problem.time}:
            order = value.atom.orders[place]
            if sum(value.atom.orders) == order:
                found.setdefault((value.atom.field, order), (value.data, value.block.name))
    return found


def _mismatch(problem, block, part, expression, initial, level, what):
    place = problem.columns.index(problem.time)
    start = problem.ends[problem.time][0]
    known, partners, size = {}, set(), []
    atoms = {a.symbol: a for a in _atoms_of(expression, part, problem)}
    for symbol, atom in atoms.items():
        if problem.time in dict(atom.pins) or problem.time not in columns_of(problem, atom.field):
            return
        key = (atom.field, atom.orders[place])
        if key not in initial:
            return
        data, partner = initial[key]
        partners.add(partner)
        for column, order in zip(problem.columns, atom.orders, strict=True):
            if order and column != problem.time:
                data = sympy.diff(data, column, order)
        for column, value in atom.pins:
            data = data.subs(column, value)
        known[symbol] = data
        size.append(data)
    if not known:
        return
    left = expression.xreplace(known).subs(problem.time, start)
    if left == 0:
        return
    points = points_in(problem, 24, {**part.pins, problem.time: start})
    gap = np.abs(values(left, problem, points))
    gap[~np.isfinite(gap)] = 0.0
    worst = int(gap.argmax())
    scale = max((_largest(d, problem) for d, _ in initial.values()), default=0.0)
    if gap[worst] <= AGREE * max(scale, 1e-300):
        return
    corner = {problem.time: start, **part.pins}
    where = ", ".join(f"{c} = {corner[c]}" for c in corner if c not in part.free or c == problem.time)
    yield Finding(
        level,
        "corner mismatch",
        f"{' and '.join(sorted(partners))} and {block.name}",
        f"{what}the initial data miss {block.name} by {gap[worst]:.3g} at {where}.",
        "The solution has a jump or a kink there, which limits accuracy near it. Make the data meet if they should.",
    )


def _atoms_of(expression, part, problem):
    place = problem.columns.index(problem.time)
    used = expression.free_symbols
    for atom in part.atoms:
        orders = list(atom.orders)
        orders[place] += 1
        for candidate in (atom, Atom(atom.field, tuple(orders), atom.pins)):
            if candidate.symbol in used:
                yield candidate


def _time_derivative(expression, part, problem, place):
    """d/dt of a boundary condition; None when its atom is one that time does not move."""
    rate = sympy.diff(expression, problem.time)
    for atom in part.atoms:
        if problem.time in dict(atom.pins) or problem.time not in {
            c for x in atom.field.args for c in components_of(x)
        }:
            return None
        orders = list(atom.orders)
        orders[place] += 1
        rate += sympy.diff(expression, atom.symbol) * Atom(atom.field, tuple(orders), atom.pins).symbol
    return rate


def _largest(expression, problem):
    found = np.abs(values(expression, problem, points_in(problem, 1024)))  # enough to see a narrow peak
    return float(np.nanmax(np.append(found, 0.0)))


@check
def fixed_up_to_a_constant(problem: Problem) -> Iterator[Finding]:
    """A field of which only derivatives, or differences between places, appear anywhere."""
    for field in problem.fields:
        shift = sympy.Dummy("shift")
        moved = False
        for block in problem.blocks:
            for part in block.parts:
                values_of = [a.symbol for a in part.atoms if a.field == field and a.order == 0]
                if not values_of:
                    continue
                shifted = part.expression.xreplace({s: s + shift for s in values_of})
                if sympy.expand(sympy.diff(shifted, shift)) != 0:
                    moved = True
        if not moved and any(a.field == field for a in equation_atoms(problem)):
            yield Finding(
                "note",
                "up to a constant",
                field.func.__name__,
                f"only derivatives of `{field}` appear, so it is fixed up to a constant.",
                "Add its value at one point if the constant matters.",
            )
