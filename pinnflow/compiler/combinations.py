"""Finds the derivatives that a residual needs in one linear combination only. Needs no torch.

F(a, b, ...) depends on atoms a and b through c_a a + c_b b alone when dF/da : dF/db = c_a : c_b everywhere. So
`u_t + u u_x - nu (u_xx + u_yy)` needs u, u_x and u_t - nu u_xx - nu u_yy; `k(u) (u_xx + u_yy)` needs the Laplacian
whatever k is. `lines.py` makes of such a combination one sum in place of its terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import sympy
from sympy import Expr, Symbol
from sympy.core.function import AppliedUndef

from pinnflow.compiler.lines import Combination
from pinnflow.declare.analysis import Atom, Part


@dataclass(frozen=True)
class Gathered:
    """A combination of atoms in the place of an atom: what `Part.atoms` holds after `gather`.

    Attributes:
        field: the field as declared.
        atoms: the atoms, at least two, all with the same pins.
        coefficients: real numbers, the first is 1.
    """

    field: AppliedUndef
    atoms: tuple[Atom, ...]
    coefficients: tuple[Expr, ...]

    @property
    def pins(self) -> tuple[tuple[Expr, Expr], ...]:
        return self.atoms[0].pins

    @cached_property
    def symbol(self) -> Symbol:
        text = " ".join(f"{c:+} {atom.symbol}" for c, atom in zip(map(float, self.coefficients), self.atoms))
        return Symbol(f"({text})", real=True)

    def combination(self, fields: Sequence[AppliedUndef]) -> Combination:
        """The same as derivatives of a column of the module's output."""
        terms = tuple(sorted((a.orders, _number(c)) for a, c in zip(self.atoms, self.coefficients, strict=True)))
        return Combination(fields.index(self.field), terms)


def request_of(atom: Atom | Gathered, fields: Sequence[AppliedUndef]):
    """What a pass of the plan is asked for: `(field, orders)` or a `Combination`."""
    if isinstance(atom, Gathered):
        return atom.combination(fields)
    return fields.index(atom.field), atom.orders


def gather(part: Part) -> Part:
    """`part` with every set of derivatives that enter by one linear combination replaced by a `Gathered` one."""
    groups = _groups(part)
    found = [Gathered(atoms[0].field, tuple(atoms), tuple(c)) for _, atoms, c in groups if len(atoms) > 1]
    if not found:
        return part
    # F depends on the combination only, so it may be read off where all atoms but the first are zero.
    values = {}
    for one in found:
        values |= {atom.symbol: sympy.S.Zero for atom in one.atoms[1:]}
        values[one.atoms[0].symbol] = one.symbol
    gone = {atom for one in found for atom in one.atoms}
    expression = part.expression.xreplace(values)
    atoms = (*(atom for atom in part.atoms if atom not in gone), *found)
    return replace(part, expression=expression, terms=(expression,), atoms=atoms)


def _groups(part: Part) -> list[tuple[Expr, list[Atom], list[Expr]]]:
    """`[(slope of the first, atoms, ratios of their slopes to the first one's)]` of all derivatives."""
    derivatives = [atom for atom in part.atoms if atom.order]
    slopes = slopes_of(part.expression, {atom.symbol for atom in derivatives})
    groups: list[tuple[Expr, list[Atom], list[Expr]]] = []
    alike: dict[tuple, list[tuple[Expr, list[Atom], list[Expr]]]] = {}
    for atom in derivatives:
        slope = slopes.get(atom.symbol, sympy.S.Zero)
        kind = (atom.field, atom.pins)
        exact = (*kind, slope.as_coeff_Mul()[1])  # equal up to a factor at sight
        for group in [*alike.get(exact, []), *alike.get(kind, [])]:
            ratio = _ratio(slope, group[0])
            if ratio is not None:
                group[1].append(atom)
                group[2].append(ratio)
                break
        else:
            group = (slope, [atom], [sympy.S.One])
            groups.append(group)
            alike.setdefault(exact, []).append(group)
            if len(alike.setdefault(kind, [])) < _PROOFS:  # many slopes that all differ are not proved different
                alike[kind].append(group)
    return groups


_PROOFS = 16


def slopes_of(expression: Expr, symbols: set[Symbol]) -> dict[Symbol, Expr]:
    """`{symbol: d expression / d symbol}` of the symbols that occur, in one walk for all of them.

    Differentiating a sum of d terms d times would look at d^2 terms.
    """
    if expression in symbols:
        return {expression: sympy.S.One}
    present = expression.free_symbols & symbols if expression.args else set()
    if not present:
        return {}
    if len(present) > 4:
        if isinstance(expression, sympy.Add):
            parts: dict[Symbol, list[Expr]] = {}
            for term in expression.args:
                for symbol, value in slopes_of(term, symbols).items():
                    parts.setdefault(symbol, []).append(value)
            return {symbol: sympy.Add(*values) for symbol, values in parts.items()}
        if isinstance(expression, sympy.Mul):
            found: dict[Symbol, list[Expr]] = {}
            for i, factor in enumerate(expression.args):
                others = sympy.Mul(*expression.args[:i], *expression.args[i + 1 :])
                for symbol, value in slopes_of(factor, symbols).items():
                    found.setdefault(symbol, []).append(others * value)
            return {symbol: sympy.Add(*values) for symbol, values in found.items()}
        if isinstance(expression, sympy.Pow) and not expression.exp.free_symbols & symbols:
            outer = expression.exp * expression.base ** (expression.exp - 1)
            return {symbol: outer * value for symbol, value in slopes_of(expression.base, symbols).items()}
    return {symbol: sympy.diff(expression, symbol) for symbol in present}


def _ratio(slope: Expr, first: Expr) -> Expr | None:
    """slope / first if it is a number, else None."""
    if slope == first:
        return sympy.S.One
    if slope.is_number != first.is_number:
        return None
    if not slope.is_number and slope.count_ops() + first.count_ops() > 60:  # too long to be worth a proof
        return None
    ratio = slope / first
    if not ratio.is_number:
        try:
            ratio = sympy.cancel(ratio)
        except (sympy.PolynomialError, NotImplementedError):
            return None
    return ratio if ratio.is_number and ratio.is_extended_real and ratio.is_finite and ratio != 0 else None


def _number(value: Expr) -> Fraction | float:
    return Fraction(int(value.p), int(value.q)) if value.is_Rational else float(value)
