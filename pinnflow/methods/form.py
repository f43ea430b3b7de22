"""Whether a problem can be integrated in time, and its parts if it can.

Form needed, for fields u with highest time derivative of order m >= 1 (or 0 for algebraic fields):

    A(x) d^m u / dt^m + N(t, x, u, D u, ...) = 0,   R u = g(t) at the ends,   initial values of all lower derivatives.

`semidiscrete.py` turns the form into a system of ordinary differential equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from pinnflow.declare.analysis import Part
from pinnflow.methods.base import Task


@dataclass
class Form:
    """A problem in the form this method solves.

    Attributes:
        orders: highest time derivative per field.
        equations: per field the residual without its leading term, as a part whose atoms are states.
        leads: per field `[(field of the leading atom, space orders, coefficient)]`; empty for an algebraic field.
        boundaries: parts that are affine in the fields with coefficients constant in time.
        initial: parts at the initial time.
    """

    orders: list[int]
    equations: list[Part]
    leads: list[list[tuple[int, tuple[int, ...], sympy.Expr]]]
    boundaries: list[Part]
    initial: list[Part]


def semidiscrete_form(task: Task) -> Form | str:
    """The form above, or a sentence that says why the problem does not have it."""
    problem, time = task.problem, task.problem.time
    if time is None:
        return "there is no time coordinate"
    if problem.unknowns:
        return "coefficients are to be found"
    if any(block.kind == "observation" for block in problem.blocks):
        return "observations have to be matched"
    column = task.time_column
    if any(time not in f.args for f in problem.fields):
        return "a field does not depend on time"
    equations = [block.parts[0] for block in problem.blocks if block.kind == "equation"]
    if len(equations) != len(problem.fields):
        return f"there are {len(equations)} equations for {len(problem.fields)} fields"
    orders = [0] * len(problem.fields)
    for part in equations:
        if any(atom.pins for atom in part.atoms):
            return "an equation takes a field at a fixed place"
        for atom in part.atoms:
            f = task.field_index(atom)
            orders[f] = max(orders[f], atom.orders[column])
    if not any(orders):
        return "no time derivative appears"
    owners = _match_equations(task, equations, orders)
    if isinstance(owners, str):
        return owners
    rests, leads = [], []
    for part in owners:
        lead_atoms = [
            a for a in part.atoms if orders[task.field_index(a)] and a.orders[column] == orders[task.field_index(a)]
        ]
        split = _split_lead(part, lead_atoms, time)
        if isinstance(split, str):
            return split
        rest, coefficients = split
        leads.append([(task.field_index(a), space_orders(a.orders, column), c) for a, c in coefficients])
        atoms = tuple(a for a in part.atoms if a not in lead_atoms)
        rests.append(Part(rest, tuple(sympy.Add.make_args(rest)), atoms, part.free, {}))
    boundaries, initial = [], []
    start = problem.bounds[time][0]
    for term in task.terms:
        if term.block.kind == "equation" or term.exact:
            continue
        part = term.part
        pinned_in_time = {float(value) for c, value in part.pins.items() if c == time}
        if pinned_in_time:
            if len({a.pins for a in part.atoms}) > 1 or abs(min(pinned_in_time) - start) > 1e-12 * (1 + abs(start)):
                return f"{term.block.name} is not at the initial time"
            if term.block.kind == "point" and set(part.pins) != {time} and len(task.problem.columns) > 1:
                return f"{term.block.name} fixes a single point"
            initial.append(part)
            continue
        for atom in part.atoms:
            if atom.orders[column]:
                return f"{term.block.name} holds a time derivative"
            slope = sympy.diff(part.expression, atom.symbol)
            if slope.free_symbols & ({time} | {a.symbol for a in part.atoms}):
                return f"{term.block.name} is nonlinear or its coefficients change in time"
        if len({orders[task.field_index(a)] for a in part.atoms}) > 1:
            return f"{term.block.name} couples fields of different order in time"
        boundaries.append(part)
    known = {}
    for part in initial:
        given = _initial_value(task, part, column)
        if isinstance(given, str):
            return given
        known[given] = True
    for f, order in enumerate(orders):
        for k in range(order):
            if (f, k) not in known:
                return f"the initial data of {problem.fields[f].func.__name__} are not given one by one"
    return Form(orders, rests, leads, boundaries, initial)


def _match_equations(task, equations, orders):
    """Equations in the order of the fields they determine: by their leading terms, then by what is left."""
    column = task.time_column
    fields = range(len(orders))
    owner: dict[int, Part] = {}
    rest = list(equations)
    allowed = {
        f: [
            i
            for i, part in enumerate(rest)
            if any(task.field_index(a) == f and a.orders[column] == orders[f] for a in part.atoms)
        ]
        for f in fields
    }
    taken: dict[int, int] = {}

    def assign(f, seen):
        for i in allowed[f]:
            if i not in seen:
                seen.add(i)
                if i not in taken or assign(taken[i], seen):
                    taken[i] = f
                    return True
        return False

    for f in sorted(fields, key=lambda f: -orders[f]):
        if not assign(f, set()):
            return f"no equation determines {task.problem.fields[f].func.__name__}"
    for i, f in taken.items():
        owner[f] = rest[i]
    return [owner[f] for f in fields]


def _split_lead(part, lead_atoms, time):
    """(the rest, [(leading atom, coefficient)]) with coefficients free of time and fields, or a reason."""
    symbols = {a.symbol for a in part.atoms}
    rest = part.expression
    coefficients = []
    for atom in lead_atoms:
        slope = sympy.expand(sympy.diff(rest, atom.symbol))
        coefficients.append((atom, slope))
    zero = {a.symbol: 0 for a in lead_atoms}
    if any(c.free_symbols & symbols & {a.symbol for a in lead_atoms} for _, c in coefficients):
        return "the highest time derivative enters nonlinearly"
    rest = rest.subs(zero)
    moving = any(c.free_symbols & (symbols | {time}) for _, c in coefficients)
    if moving:
        if len(coefficients) > 1:
            return "several time derivatives with varying coefficients share an equation"
        atom, c = coefficients[0]
        return rest / c, [(atom, sympy.S.One)]
    return rest, coefficients


def _initial_value(task, part, column):
    """(field, order) that an initial condition gives as a function of space, or a reason."""
    if len(part.atoms) != 1:
        return "an initial condition involves several derivatives at once"
    atom = part.atoms[0]
    slope = sympy.diff(part.expression, atom.symbol)
    if any(space_orders(atom.orders, column)) or slope.free_symbols & {atom.symbol}:
        return "an initial condition is not a value or a time derivative of a field"
    return task.field_index(atom), atom.orders[column]


def space_orders(orders: tuple[int, ...], time: int) -> tuple[int, ...]:
    """Orders of differentiation without those in time."""
    return tuple(0 if i == time else o for i, o in enumerate(orders))
