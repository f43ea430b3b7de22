"""One equation in one field as a sum of coefficients times products of derivatives, and its coefficients as matrices.

`recognisers.py` compares what is read here with the equations whose exact solutions are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import sympy
from sympy import Expr

from pinnflow.errors import NoExactFamily

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem

Orders = tuple[int, ...]
ROUNDING = 1e-10


class NotThis(ValueError):
    """The equation is not of a family's form; the message completes `no ...: `."""


@dataclass(frozen=True)
class Equation:
    """One equation in one field: the sum of coefficient * product of derivatives is zero.

    Attributes:
        terms: `{derivatives: coefficient}`; the key holds the orders of each factor, sorted; () is the source.
        columns: the columns, in order.
        bounds: `[D]`, problem units.
        time: index of the time column; None without one.
        at_rest: an initial condition says that the first derivative in time is zero, and none that the value is.
    """

    terms: Mapping[tuple[Orders, ...], Expr]
    columns: tuple[Expr, ...]
    bounds: list[tuple[float, float]]
    time: int | None
    at_rest: bool

    def space(self) -> list[int]:
        """The columns other than time."""
        if self.time is None:
            raise NotThis("there is no time coordinate")
        return [i for i in range(len(self.columns)) if i != self.time]

    @cached_property
    def linear(self) -> dict[Orders, Expr]:
        """`{orders: coefficient}` of the terms with one factor."""
        return {key[0]: a for key, a in self.terms.items() if len(key) == 1}

    @property
    def source(self) -> Expr:
        return self.terms.get((), sympy.S.Zero)

    def constants(self) -> dict[Orders, float]:
        """`{orders: number}` of a homogeneous linear equation with constant coefficients."""
        if any(len(key) > 1 for key in self.terms):
            raise NotThis("the equation is nonlinear")
        if self.source != 0:
            raise NotThis(f"the equation has the source `{-self.source}`")
        return {orders: self.number(a) for orders, a in self.linear.items()}

    def number(self, coefficient: Expr) -> float:
        if coefficient.free_symbols:
            raise NotThis(f"the coefficient `{coefficient}` is not constant")
        return float(coefficient)

    def orders(self, *columns: int) -> Orders:
        """The orders of the derivative by these columns."""
        return tuple(columns.count(i) for i in range(len(self.columns)))

    def divided(self, leading: Orders) -> dict[tuple[Orders, ...], Expr]:
        """The terms divided by the coefficient of `leading`, which must be a number."""
        factor = self.linear.get(leading)
        if factor is None:
            raise NotThis("it lacks the leading derivative in time")
        self.number(factor)
        return {key: a / factor for key, a in self.terms.items()}


def read_equation(problem: Problem) -> Equation:
    """The one equation of a problem as a sum of terms.

    Raises:
        NoExactFamily: there are several equations or fields, other places, or terms that are no products.
    """
    name = problem.name or "the problem"
    parts = [part for block in problem.blocks if block.kind == "equation" for part in block.parts]
    if len(parts) != 1 or len(problem.fields) != 1:
        raise NoExactFamily(
            f"{name} has {len(parts)} equations in {len(problem.fields)} fields; families are known for one equation "
            "in one field."
        )
    (part,) = parts
    atoms = {a.symbol: a.orders for a in part.atoms}
    if problem.unknowns or any(a.pins for a in part.atoms):
        raise NoExactFamily(f"{name} has coefficients to be found or relates different places; no family is known.")
    terms: dict[tuple[Orders, ...], Expr] = {}
    for term in sympy.Add.make_args(sympy.expand(part.expression)):
        key: list[Orders] = []
        coefficient = sympy.S.One
        for factor in sympy.Mul.make_args(term):
            base, power = factor.as_base_exp()
            if base in atoms and power.is_Integer and power > 0:
                key += [atoms[base]] * int(power)
            elif factor.free_symbols & atoms.keys():
                raise NoExactFamily(f"{name} has the term `{term}`, no product of derivatives; no family is known.")
            else:
                coefficient *= factor
        place = tuple(sorted(key))
        terms[place] = terms.get(place, sympy.S.Zero) + coefficient
    time = None if problem.time is None else problem.columns.index(problem.time)
    bounds = [problem.bounds[c] for c in problem.columns]
    terms = {key: a for key, a in terms.items() if a != 0}
    return Equation(terms, tuple(problem.columns), bounds, time, _starts_at_rest(problem, time))


def _starts_at_rest(problem, time):
    zeros = set()
    for block in problem.blocks:
        if block.kind == "initial":
            for part in block.parts:
                if len(part.atoms) == 1 and part.expression in (part.atoms[0].symbol, -part.atoms[0].symbol):
                    zeros.add(sum(part.atoms[0].orders) if part.atoms[0].orders[time] else 0)
    return 1 in zeros and 0 not in zeros


def symmetric_matrix(equation: Equation, terms: Mapping[Orders, float], space: list[int]) -> np.ndarray:
    """The matrix M `[d, d]` of the second derivatives in space, sum of M_ij u_ij."""
    place = {column: i for i, column in enumerate(space)}
    matrix = np.zeros((len(space), len(space)))
    for orders, a in terms.items():
        if sum(orders) == 2:
            i, j = (column for column, order in enumerate(orders) for _ in range(order))
            if i in place and j in place:
                matrix[place[i], place[j]] += a / 2
                matrix[place[j], place[i]] += a / 2
    return matrix


def refuse_others(equation, terms, space, highest):
    """Refuses derivatives of higher order, or mixed with time."""
    for orders in terms:
        if orders != equation.orders(equation.time) and (orders[equation.time] or sum(orders) > highest):
            raise NotThis("there are other derivatives than the first in time and up to the second in space")


def affine(equation, coefficients, space):
    """(B, g) with coefficients_i = (B z + g)_i."""
    place = {equation.columns[i]: j for j, i in enumerate(space)}
    matrix, constant = np.zeros((len(space), len(space))), np.zeros(len(space))
    for i, a in enumerate(coefficients):
        rest = sympy.expand(a)
        for name in rest.free_symbols & place.keys():
            slope = rest.diff(name)
            matrix[i, place[name]] = equation.number(slope)
            rest = sympy.expand(rest - slope * name)
        constant[i] = equation.number(rest)
    return matrix, constant


def hamilton_jacobi(equation):
    """(Q, g, c, A) of u_t + grad u . Q grad u + g . grad u = div(A grad u) + c, all numbers."""
    space = equation.space()
    terms = equation.divided(equation.orders(equation.time))
    refuse_others(equation, [key[0] for key in terms if len(key) == 1], space, 2)
    if equation.orders() in [key[0] for key in terms if len(key) == 1]:
        raise NotThis("the field itself appears")
    square = np.zeros((len(space), len(space)))
    for key, a in terms.items():
        if len(key) > 2 or (len(key) == 2 and any(sum(o) != 1 or o[equation.time] for o in key)):
            raise NotThis("it is nonlinear in another way than by the square of the gradient")
        if len(key) == 2:
            i, j = (space.index(o.index(1)) for o in key)
            square[i, j] += equation.number(a) / 2
            square[j, i] += equation.number(a) / 2
    if not square.any():
        raise NotThis("there is no square of the gradient")
    linear = {key[0]: equation.number(a) for key, a in terms.items() if len(key) == 1}
    drift = np.array([linear.get(equation.orders(i), 0.0) for i in space])
    return (
        square,
        drift,
        -equation.number(terms.get((), sympy.S.Zero)),
        -symmetric_matrix(equation, linear, space),
    )
