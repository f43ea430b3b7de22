"""Problems rewritten: other units, the linearised equation, a source that makes a given function the solution.

All of it is exact substitution by sympy; nothing here approximates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy
from sympy import Eq, Expr, Symbol
from sympy.core.function import AppliedUndef

from pinnflow.declare.analysis import Atom, Part, summands
from pinnflow.declare.operators import NormalDerivative
from pinnflow.declare.statements import Condition
from pinnflow.errors import DeclarationError

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem


@dataclass(frozen=True)
class Scale:
    """An affine change of one axis or field: `value = shift + size * scaled`."""

    shift: Expr = sympy.S.Zero
    size: Expr = sympy.S.One


def scale_part(part: Part, columns: tuple[Symbol, ...], scales: Mapping[Symbol | AppliedUndef, Scale]) -> Part:
    r"""A part in scaled axes and fields.

    With $x = x_0 + L\xi$ and $u = u_0 + U v$, an atom becomes
    $\partial_x^k u = U L^{-k} \partial_\xi^k v$ (plus $u_0$ when nothing is differentiated). The new part holds the
    same symbols, which now mean the scaled quantities; its values equal those of the old part.

    Args:
        part: a residual in problem units.
        columns: the columns in the order of `Atom.orders`.
        scales: for columns and fields; what is missing keeps its unit.
    """
    moved, atoms = {}, []
    for atom in part.atoms:
        of_field = scales.get(atom.field, Scale())
        factor = of_field.size
        for column, order in zip(columns, atom.orders, strict=True):
            factor /= scales.get(column, Scale()).size ** order
        here = tuple((column, _scaled(value, scales.get(column))) for column, value in atom.pins)
        new = Atom(atom.field, atom.orders, here)
        atoms.append(new)
        moved[atom.symbol] = factor * new.symbol + (of_field.shift if atom.order == 0 else 0)
    for column in columns:
        scale = scales.get(column)
        if scale is not None:
            moved[column] = scale.shift + scale.size * column
    expression = part.expression.xreplace(moved)
    pins = {column: _scaled(value, scales.get(column)) for column, value in part.pins.items()}
    by_name = tuple(sorted(atoms, key=lambda atom: atom.symbol.name))
    return Part(expression, summands(expression), by_name, part.free, pins)


def _scaled(value, scale):
    return value if scale is None else (value - scale.shift) / scale.size


def frechet(part: Part) -> dict[Atom, Expr]:
    r"""The Frechet derivative of a residual: $F'(u)v = \sum_a \partial F/\partial a \cdot a(v)$.

    Returns:
        `{atom: slope}`, slopes in columns, unknowns and atom symbols; atoms with slope zero are left out.
    """
    slopes = {atom: sympy.diff(part.expression, atom.symbol) for atom in part.atoms}
    return {atom: slope for atom, slope in slopes.items() if slope != 0}


def manufacture(problem: Problem, exact: Expr | Mapping[AppliedUndef, Expr]) -> Problem:
    """The problem with sources and data changed such that `exact` is its solution.

    Each statement `left - right = 0` becomes `left - right = source`, where the source is the residual of `exact`.
    A test of any method on any equation costs one line this way.

    Args:
        problem: the equations and the kinds of conditions.
        exact: an expression for one field, or `{field: expression}`.

    Raises:
        DeclarationError: `exact` does not name each field, or holds symbols that are no coordinates.
    """
    if not isinstance(exact, Mapping):
        exact = {problem.fields[0]: exact}
    exact = {_field_of(key, problem): sympy.sympify(value) for key, value in exact.items()}
    missing = [f for f in problem.fields if f not in exact]
    if missing:
        raise DeclarationError(
            f"`manufacture` needs a function for `{missing[0]}` too; the fields are {problem.fields}."
        )
    equations = [_with_source(e, block.parts[0], problem, exact) for e, block in zip(problem.equations, problem.blocks)]
    conditions = []
    for condition, block in zip(problem.conditions, problem.blocks[len(problem.equations) :]):
        conditions += _conditions_with_data(condition, block, problem, exact)
    return problem.with_(equations=equations, conditions=conditions, exact=exact)


def residual_of(part: Part, columns: tuple[Symbol, ...], functions: Mapping[AppliedUndef, Expr]) -> Expr:
    """The residual of a part for given functions of the columns, as an expression in its free columns."""
    replaced = {atom.symbol: value_of(atom, columns, functions) for atom in part.atoms}
    return part.expression.xreplace(replaced)


def value_of(atom: Atom, columns: tuple[Symbol, ...], functions: Mapping[AppliedUndef, Expr]) -> Expr:
    """The value of an atom for given functions of the columns."""
    expression = functions[atom.field]
    for column, order in zip(columns, atom.orders, strict=True):
        if order:
            expression = sympy.diff(expression, column, order)
    return expression.subs(dict(atom.pins), simultaneous=True) if atom.pins else expression


def _field_of(key, problem):
    for f in problem.fields:
        if key in (f, f.func):
            return f
    raise DeclarationError(f"`manufacture`: `{key}` is no field; the fields are {problem.fields}.")


def _with_source(statement, part, problem, exact):
    source = residual_of(part, problem.columns, exact)
    if not isinstance(statement, Eq):
        return Eq(statement, source, evaluate=False)
    return Eq(statement.lhs, statement.rhs + source, evaluate=False)


def _conditions_with_data(condition, block, problem, exact):
    if not isinstance(condition, Condition):
        return [_with_source(condition, block.parts[0], problem, exact)]
    if len(block.parts) == 1 and not condition.eq.has(NormalDerivative):
        return [
            Condition(
                _with_source(condition.eq, block.parts[0], problem, exact),
                condition.on,
                condition.name,
                condition.weight,
            )
        ]
    # One condition per face, because each face gets data of its own.
    faces = []
    for i, part in enumerate(block.parts, 1):
        pins = {c: v for c, v in part.pins.items() if c not in part.free}
        eq = _with_source(condition.eq, part, problem, exact)
        name = condition.name and f"{condition.name} {i}"
        faces.append(Condition(eq, pins, name, condition.weight))
    return faces
