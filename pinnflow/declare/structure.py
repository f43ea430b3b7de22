"""Questions about whole problems: which axes are what, orders, linearity, type, evolution form.

Everything here reads residual blocks, so it does not matter how the user wrote a statement. `check.py` and the choice
of a method ask these questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import sympy
from sympy import Expr, Symbol
from sympy.core.function import AppliedUndef

from pinnflow.declare.analysis import Atom, Block, is_affine, periodic_axis
from pinnflow.declare.probe import points_in, values
from pinnflow.declare.symbols import components_of

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem


def differentiated_columns(blocks: Iterable[Block], columns: Sequence[Symbol]) -> tuple[Symbol, ...]:
    """The columns by which some equation differentiates some field."""
    found = {
        columns[i]
        for block in blocks
        if block.kind == "equation"
        for part in block.parts
        for atom in part.atoms
        for i, order in enumerate(atom.orders)
        if order
    }
    return tuple(c for c in columns if c in found)


def boundary_columns(blocks: Iterable[Block], columns: Sequence[Symbol], time: Symbol | None) -> tuple[Symbol, ...]:
    """The spatial columns whose ends are boundary: differentiated by, and not time."""
    return tuple(c for c in differentiated_columns(blocks, columns) if c != time)


def parameter_axes(problem: Problem) -> tuple[Symbol, ...]:
    """The columns in which nothing is differentiated: one solution for each value, all solved at once."""
    derived = differentiated_columns(problem.blocks, problem.columns)
    return tuple(c for c in problem.columns if c not in derived)


def periodic_axes(problem: Problem) -> tuple[Symbol, ...]:
    """The columns that are periodic with all derivatives, for every field that depends on them.

    A value equation between both ends makes an axis periodic when no other condition stands on that axis; derivative
    equations between both ends are redundant beside it.
    """
    found = []
    for column in problem.columns:
        axis = getattr(column, "axis", column)
        concerned = [f for f in problem.fields if axis in f.args and orders_of(problem, f)[column]]
        tied = set()
        other = False
        for block in problem.blocks:
            if block.kind in ("equation", "observation"):
                continue
            for part in block.parts:
                if block.kind == "periodic" and periodic_axis(part, problem.ends) == column:
                    if part.atoms[0].order == 0:
                        tied.add(part.atoms[0].field)
                elif any(column in dict(atom.pins) for atom in part.atoms) and block.kind != "point":
                    other = True
        if concerned and not other and tied >= set(concerned):
            found.append(column)
    return tuple(found)


def equation_atoms(problem: Problem) -> list[Atom]:
    """All atoms of the equations."""
    return [a for b in problem.blocks if b.kind == "equation" for part in b.parts for a in part.atoms]


def orders_of(problem: Problem, field: AppliedUndef) -> dict[Symbol, int]:
    """The highest order by which the equations differentiate `field`, for each column it depends on."""
    own = [a for a in equation_atoms(problem) if a.field == field]
    return {
        column: max((a.orders[i] for a in own), default=0)
        for i, column in enumerate(problem.columns)
        if getattr(column, "axis", column) in field.args
    }


def time_order(problem: Problem, field: AppliedUndef) -> int:
    """The highest order of differentiation in time; 0 without a time coordinate."""
    return orders_of(problem, field).get(problem.time, 0)


def problem_is_linear(problem: Problem) -> bool:
    """Whether every equation and condition is affine in all fields jointly, and nothing else is to be found."""
    if problem.unknowns:
        return False
    return all(
        is_affine(part.expression, [a.symbol for a in part.atoms])
        for block in problem.blocks
        if block.kind != "observation"
        for part in block.parts
    )


def evolution_form(problem: Problem) -> dict[AppliedUndef, tuple[int, Expr]] | str:
    """The equations solved for the highest time derivatives.

    Returns:
        `{field: (order, right side)}`, the right side in columns, unknowns and atom symbols of lower order in time; or
        a sentence that says why there is no such form.
    """
    time = problem.time
    if time is None:
        return "there is no time coordinate"
    place = problem.columns.index(time)
    orders = {f: time_order(problem, f) for f in problem.fields}
    still = [f for f, order in orders.items() if order == 0]
    if still:
        return f"no equation differentiates `{still[0]}` in `{time}`"
    equations = [part for b in problem.blocks if b.kind == "equation" for part in b.parts]
    if len(equations) != len(problem.fields):
        return f"there are {len(equations)} equations for {len(problem.fields)} fields"
    leading = []
    for f, order in orders.items():
        alone = tuple(order if i == place else 0 for i in range(len(problem.columns)))
        leading.append(Atom(f, alone).symbol)
    for atom in equation_atoms(problem):
        if atom.pins:
            return f"`{atom.field}` is related to its values at another place"
        if atom.orders[place] == orders[atom.field] and atom.order > atom.orders[place]:
            return f"the highest time derivative of `{atom.field}` is also differentiated in space"
    expressions = [part.expression for part in equations]
    if not all(is_affine(e, leading) for e in expressions):
        return "an equation is not linear in the highest time derivatives"
    solved = _solve_affine(expressions, leading)
    if solved is None:
        return "the equations do not determine all highest time derivatives"
    return {f: (orders[f], right) for f, right in zip(orders, solved, strict=True)}


def _solve_affine(expressions, symbols):
    """The values of `symbols` that make affine `expressions` zero, or None when they are not determined."""
    zero = dict.fromkeys(symbols, 0)
    mass = sympy.Matrix([[sympy.diff(e, s) for s in symbols] for e in expressions])
    rest = [e.xreplace(zero) for e in expressions]
    if _is_monomial(mass):
        # Each equation holds one leading derivative: the usual case, and no elimination that swells expressions.
        found = [None] * len(symbols)
        for i in range(len(expressions)):
            (j,) = [j for j in range(len(symbols)) if mass[i, j] != 0]
            found[j] = sympy.Add(*(-term / mass[i, j] for term in sympy.Add.make_args(rest[i])))
        return found
    if mass.det() == 0:
        return None
    return list(mass.LUsolve(-sympy.Matrix(rest)))


def _is_monomial(matrix):
    rows = [[matrix[i, j] != 0 for j in range(matrix.cols)] for i in range(matrix.rows)]
    return all(sum(row) == 1 for row in rows) and all(sum(column) == 1 for column in zip(*rows, strict=True))


def equation_type(problem: Problem, block: Block) -> str | None:
    """Elliptic, parabolic, hyperbolic ... of a second-order equation in one field; None where that is not defined.

    The signature of the matrix of second-order coefficients is taken at sampled points of the domain, so an equation
    that changes its type is reported as e.g. `elliptic in 52 %, hyperbolic in 48 % of the domain`.
    """
    (part,) = block.parts
    fields = {a.field for a in part.atoms}
    if len(fields) != 1 or max((a.order for a in part.atoms), default=0) != 2 or any(a.pins for a in part.atoms):
        return None
    used = [i for i in range(len(problem.columns)) if any(a.orders[i] for a in part.atoms)]
    if len(used) < 2 or len(used) > 8:
        return None
    points = points_in(problem, 66)[2:]  # inside: an equation may degenerate at the boundary
    matrix = np.zeros((len(points), len(used), len(used)))
    for atom in part.atoms:
        if atom.order != 2:
            continue
        slope = sympy.diff(part.expression, atom.symbol)
        if slope.free_symbols & {a.symbol for a in part.atoms}:
            return None
        value = values(slope, problem, points)
        i, j = [k for k in used for _ in range(atom.orders[k])]
        i, j = used.index(i), used.index(j)
        matrix[:, i, j] += value / 2
        matrix[:, j, i] += value / 2
    if not np.all(np.isfinite(matrix)):
        return None
    first_order = [any(a.order == 1 and a.orders[i] for a in part.atoms) for i in used]
    names, counts = np.unique([_signature(m, first_order) for m in matrix], return_counts=True)
    if len(names) == 1:
        return str(names[0])
    parts = sorted(zip(counts, names, strict=True), reverse=True)
    return ", ".join(f"{name} in {100 * count / len(points):.0f} %" for count, name in parts) + " of the domain"


def _signature(matrix, first_order):
    eigenvalues = np.linalg.eigvalsh(matrix)
    small = 1e-12 * max(np.abs(eigenvalues).max(), 1e-300)
    plus, minus = int((eigenvalues > small).sum()), int((eigenvalues < -small).sum())
    zero = len(eigenvalues) - plus - minus
    if zero:
        both = plus and minus
        return "degenerate" if both or zero > 1 or not any(first_order) else "parabolic"
    if min(plus, minus) == 0:
        return "elliptic"
    return "hyperbolic" if min(plus, minus) == 1 else "ultrahyperbolic"


def fields_reached(problem: Problem) -> set[AppliedUndef]:
    """The fields that observations bear on, directly or through the equations that couple them."""
    reached = {a.field for b in problem.blocks if b.kind == "observation" for p in b.parts for a in p.atoms}
    groups = [{a.field for a in part.atoms} for b in problem.blocks if b.kind == "equation" for part in b.parts]
    growing = bool(reached)
    while growing:
        growing = False
        for group in groups:
            if group & reached and not group <= reached:
                reached |= group
                growing = True
    return reached


def columns_of(problem: Problem, field: AppliedUndef) -> tuple[Symbol, ...]:
    """The scalar columns a field depends on, in the order of the problem's columns."""
    own = {column for axis in field.args for column in components_of(axis)}
    return tuple(c for c in problem.columns if c in own)
