"""An initial state that was not declared, as further unknown coefficients.

u(t0, x) = sum_j a_j psi_j(x) with polynomials, or waves along periodic axes; the a_j join the unknown coefficients of
the problem, which then has the form that `inverse.py` solves. More functions are taken while they lower the misfit by
more than fitting noise would.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy

from pinnflow.declare.structure import time_order
from pinnflow.methods.base import Task
from pinnflow.methods.unknowns import Coefficients, Data
from pinnflow.trial.features import product_indices

COUNTS = (8, 12, 17, 24)  # functions per missing state
EARLY = 0.1  # of the time span: observations about this old are the first guess of the initial state


@dataclass(frozen=True)
class Completed:
    """A task with an initial state in parameters.

    Attributes:
        task: the task with the added conditions and unknowns.
        coefficients: the declared ones first, then those of the states.
        declared: number of the declared ones.
    """

    task: Task
    coefficients: Coefficients
    declared: int


def missing_states(task: Task) -> list[tuple[int, int]]:
    """[(field, order in time)] of the initial data that no condition gives."""
    problem = task.problem
    given = {
        (task.field_index(atom), atom.orders[task.time_column])
        for term in task.terms
        if term.block.kind == "initial"
        for atom in term.part.atoms
    }
    return [
        (f, k)
        for f, field in enumerate(problem.fields)
        for k in range(time_order(problem, field) or 0)
        if (f, k) not in given
    ]


def complete(task: Task, missing: list[tuple[int, int]], count: int, before: dict | None = None) -> Completed:
    """The task with `count` functions for each missing state.

    Args:
        before: `{symbol: value}` to start from; the data are asked where it is missing.
    """
    problem, time = task.problem, task.problem.time
    start = problem.ends[time][0]
    functions = state_functions(task, count)
    conditions, symbols = list(problem.conditions), {}
    data = Data(task)
    size = float(np.sqrt(np.mean(data.values**2))) or 1.0
    for f, k in missing:
        field = problem.fields[f]
        own = [sympy.Symbol(f"{field.func.__name__}_initial_{k}_{j}", real=True) for j in range(len(functions))]
        offset, combine = boundary_space(task, f, len(functions))
        if combine is None:
            offset, combine = np.zeros(len(functions)), np.eye(len(functions))
        offset = 0 * offset if k else offset  # rates meet the homogeneous conditions
        own = own[: combine.shape[1]]
        shape = [
            float(o) + sympy.Add(*(float(c) * a for c, a in zip(row, own, strict=True) if c))
            for o, row in zip(offset, combine, strict=True)
        ]
        value = sympy.Add(*(s * psi for s, psi in zip(shape, functions, strict=True)))
        taken = sympy.Derivative(field, (time, k)) if k else field
        conditions.append(sympy.Eq(sympy.Subs(taken, time, start) if k else field.subs(time, start), value))
        guess = combine.T @ (first_guess(task, data, field, functions) - offset) if k == 0 else np.zeros(len(own))
        symbols.update({a: float((before or {}).get(a.name, g)) for a, g in zip(own, guess, strict=True)})
    whole = problem.with_(conditions=conditions, unknowns={**problem.unknowns, **symbols}, exact=None)
    wide = replace(task, problem=whole)
    coefficients = Coefficients(wide)
    declared = len(problem.unknowns)
    coefficients.units[declared:] = size
    coefficients.start[declared:] = np.array(list(symbols.values())) / size
    coefficients.shown = declared
    coefficients.cautious[declared:] = False
    for i, symbol in enumerate(problem.unknowns):
        if before and symbol.name in before:
            coefficients.start[i] = coefficients.variable(i, before[symbol.name])
    return Completed(wide, coefficients, declared)


def state_functions(task: Task, count: int) -> list[sympy.Expr]:
    """psi_j as expressions of the space columns."""
    problem = task.problem
    space = [i for i in range(task.dimension) if i != task.time_column]
    if not space:
        return [sympy.S.One]
    periodic = [task.periodic[i] for i in space]
    indices = product_indices(np.ones(len(space)), count, periodic) if len(space) > 1 else np.arange(count)[:, None]
    return [
        sympy.Mul(*(one_function(problem, i, int(j), p) for i, j, p in zip(space, row, periodic, strict=True)))
        for row in indices
    ]


def one_function(problem, column: int, index: int, periodic: bool) -> sympy.Expr:
    """The Chebyshev polynomial, or for a periodic axis the wave, with this index along one column."""
    name = problem.columns[column]
    low, high = problem.ends[name]
    xi = (2 * name - low - high) / (high - low)
    if index == 0:
        return sympy.S.One
    if periodic:
        turn = sympy.pi * ((index + 1) // 2) * xi
        return sympy.cos(turn) if index % 2 else sympy.sin(turn)
    return sympy.cos(index * sympy.acos(xi))  # stable, unlike the powers


def boundary_space(task: Task, f: int, count: int):
    """(offset `[count]`, basis `[count, m]`) of the states that meet the boundary conditions at the start.

    A state that does not would begin with a boundary layer in time. One space axis only; (None, None) elsewhere, and
    where a condition is not affine or holds unknown coefficients.
    """
    problem, time = task.problem, task.time_column
    space = [i for i in range(task.dimension) if i != time]
    if len(space) != 1 or task.periodic[space[0]]:
        return None, None
    column = space[0]
    name, (low, high) = problem.columns[column], problem.ends[problem.columns[column]]
    rows, right = [], []
    for term in task.terms:
        part = term.part
        if term.block.kind != "boundary" or {task.field_index(a) for a in part.atoms} != {f}:
            continue
        if any(a.orders[time] for a in part.atoms):
            continue
        zero = {a.symbol: 0 for a in part.atoms}
        value = sympy.sympify(part.expression.xreplace(zero)).subs(problem.time, problem.ends[problem.time][0])
        slopes = [sympy.diff(part.expression, a.symbol) for a in part.atoms]
        place = part.pins.get(name)
        if place is None or value.free_symbols or any(s.free_symbols for s in slopes):
            return None, None
        xi, half = sympy.Symbol("xi"), (high - low) / 2
        at = (2 * place - low - high) / (high - low)
        rows.append(
            [
                float(
                    sum(
                        s * sympy.chebyshevt(j, xi).diff(xi, a.orders[column]).subs(xi, at) / half ** a.orders[column]
                        for s, a in zip(slopes, part.atoms, strict=True)
                    )
                )
                for j in range(count)
            ]
        )
        right.append(-float(value))
    if not rows:
        return None, None
    matrix = np.array(rows)
    _, s, vt = np.linalg.svd(matrix)
    rank = int((s > 1e-10 * s[0]).sum())
    return np.linalg.lstsq(matrix, np.array(right), rcond=1e-10)[0], vt[rank:].T


def first_guess(task: Task, data: Data, field, functions) -> np.ndarray:
    """Least squares of the functions through observations of the field, early ones counting most."""
    time, columns = task.time_column, task.problem.columns
    low, high = task.bounds[time]
    rows, right, start = [], [], 0
    for term, points in zip(data.terms, data.points, strict=True):
        values = data.values[start : start + len(points)]
        start += len(points)
        atoms = term.part.atoms
        if len(atoms) != 1 or atoms[0].field != field or atoms[0].order or term.part.expression != atoms[0].symbol:
            continue
        places = points.numpy()
        weight = np.exp(-(places[:, time] - low) / (EARLY * (high - low)))
        table = [np.broadcast_to(sympy.lambdify(columns, psi, "numpy")(*places.T), len(places)) for psi in functions]
        rows.append(weight[:, None] * np.stack(table, axis=1))
        right.append(weight * values)
    if not rows:
        return np.zeros(len(functions))
    matrix, target = np.concatenate(rows), np.concatenate(right)
    ridge = 1e-2 * np.linalg.norm(matrix) / len(functions) ** 0.5 * np.diag(np.arange(len(functions)))
    return np.linalg.lstsq(np.concatenate([matrix, ridge]), np.append(target, np.zeros(len(functions))), rcond=1e-8)[0]
