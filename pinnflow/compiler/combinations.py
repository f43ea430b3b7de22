"""Finds the derivatives that a residual needs in one linear combination only. Needs no torch.

F(a, b, ...) depends on atoms a and b through c_a a + c_b b alone when dF/da : dF/db = c_a : c_b everywhere. So
`u_t + u u_x - nu (u_xx + u_yy)` needs u, u_x and u_t - nu u_xx - nu u_yy; `k(u) (u_xx + u_yy)` needs the Laplacian
whatever k is. `lines.py` makes of such a combination one sum in place of its terms.
"""

from __future__ import annotations

import hashlib
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
        if len(self.atoms) > 8:  # a name for each of d atoms would have d^2 characters
            digest = hashlib.sha256(repr([(a.orders.index(max(a.orders)), str(c)) for a, c in self._pairs]).encode())
            return Symbol(f"({len(self.atoms)} from {self.atoms[0].symbol}: {digest.hexdigest()[:16]})", real=True)
        text = " ".join(f"{c:+} {atom.symbol}" for c, atom in zip(map(float, self.coefficients), self.atoms))
        return Symbol(f"({text})", real=True)

    @property
    def _pairs(self):
        return zip(self.atoms, self.coefficients, strict=True)

    def combination(self, fields: Sequence[AppliedUndef]) -> Combination:
        """The same as derivatives of a column of the module's output."""
        terms = tuple(sorted((a.orders, _number(c)) for a, c in zip(self.atoms, self.coefficients, strict=True)))
        return Combination(fields.index(self.field), terms)


def request_of(atom: Atom | Gathered, fields: Sequence[AppliedUndef]):
    """What a pass of the plan is asked for: `(field, orders)` or a `Combination`."""
    if isinstance(atom, Gathered):
        return atom.combination(fields)
    return fields.index(atom.field), atom.orders


def gather_terms(part: Part, columns: Sequence[Expr]) -> Part:
    """`part` with the second derivatives by the components of one vector, where they are summands of one Laplacian,
    replaced by a `Gathered` sum; all other summands stay what they are."""
    atoms = {atom.symbol: (atom, getattr(columns[i], "axis", None)) for atom, i in _pure(part.atoms, 2)}
    atoms = {symbol: pair for symbol, pair in atoms.items() if pair[1] is not None}
    kinds: dict[object, list[tuple[Atom, Expr]]] = {}
    for number, term in enumerate(part.terms):
        kinds.setdefault(_kind(term, atoms) or number, [])
    for number, term in enumerate(part.terms):
        kind = _kind(term, atoms)
        if kind is None:
            kinds[number].append((None, term))
            continue
        symbol = next(s for s in term.free_symbols if s in atoms and _without(term, s) is not None)
        kinds[kind].append((atoms[symbol][0], _without(term, symbol).as_coeff_Mul()[0]))
    terms, found = [], []
    for kind, members in kinds.items():
        if len(members) == 1:
            atom, rest = members[0]
            terms.append(rest if atom is None else rest * kind[-1] * atom.symbol)
            continue
        unit = members[0][1]
        sum_ = Gathered(members[0][0].field, tuple(a for a, _ in members), tuple(c / unit for _, c in members))
        found.append(sum_)
        terms.append(unit * kind[-1] * sum_.symbol)
    if not found:
        return part
    used = set().union(*(term.free_symbols for term in terms))
    kept = (*(atom for atom in part.atoms if atom.symbol in used), *found)
    return replace(part, expression=sympy.Add(*terms), terms=tuple(terms), atoms=kept)


def _kind(term: Expr, atoms) -> tuple | None:
    """What summands of one Laplacian have in common: field, pins, vector, and what they are multiplied with."""
    for symbol in sorted((s for s in term.free_symbols if s in atoms), key=str):
        factor = _without(term, symbol)
        if factor is not None:
            atom, axis = atoms[symbol]
            return atom.field, atom.pins, axis, factor.as_coeff_Mul()[1]
    return None


def _without(term: Expr, symbol: Symbol) -> Expr | None:
    """The factor of a symbol in a product."""
    factor, rest = term.as_independent(symbol, as_Add=False)
    return factor if rest == symbol else None


def _pure(atoms, order: int) -> list[tuple[Atom, int]]:
    """`[(atom, column index)]` of the pure derivatives of this order."""
    found = []
    for atom in atoms:
        if isinstance(atom, Atom) and order in atom.orders and atom.orders.count(0) == len(atom.orders) - 1:
            found.append((atom, atom.orders.index(order)))
    return found


@dataclass(frozen=True)
class Group:
    """Second derivatives of a Laplacian, `sign * sum of size^2 u_ii`.

    Attributes:
        columns: the i.
        sizes: roots of the coefficients' magnitudes.
        sign: of all coefficients.
    """

    columns: tuple[int, ...]
    sizes: tuple[float, ...]
    sign: int


@dataclass(frozen=True, eq=False)
class Estimated:
    """A combination of derivatives of which Laplacians are estimated along random lines.

    Attributes:
        field: column of the module's output.
        exact: the other terms, as those of a `Combination`.
        groups: the Laplacians, more terms each than `lines`.
        lines: random lines for each group and estimate.
    """

    field: int
    exact: tuple[tuple[tuple[int, ...], Fraction | float], ...]
    groups: tuple[Group, ...]
    lines: int


def estimated(atom: Gathered, columns: Sequence[Expr], fields: Sequence[AppliedUndef], lines: int) -> Estimated | None:
    """`atom` with its sums of more than `lines` pure second derivatives estimated, or None where it has none.

    Derivatives by the components of one vector coordinate make one sum, those by scalar coordinates another: a time
    beside a Laplacian stays exact.
    """
    coefficients = {one.symbol: c for one, c in zip(atom.atoms, atom.coefficients, strict=True)}
    sums: dict[tuple, list[tuple[Atom, int]]] = {}
    for one, i in _pure(atom.atoms, 2):
        sums.setdefault((getattr(columns[i], "axis", None), coefficients[one.symbol] > 0), []).append((one, i))
    sums = {kind: members for kind, members in sums.items() if len(members) > lines}
    if not sums:
        return None
    gone = {one.symbol for members in sums.values() for one, _ in members}
    exact = tuple(
        sorted((one.orders, _number(coefficients[one.symbol])) for one in atom.atoms if one.symbol not in gone)
    )
    groups = tuple(
        Group(
            tuple(i for _, i in members),
            tuple(abs(float(coefficients[one.symbol])) ** 0.5 for one, _ in members),
            1 if positive else -1,
        )
        for (_, positive), members in sums.items()
    )
    return Estimated(fields.index(atom.field), exact, groups, lines)


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
    gone = {atom.symbol for one in found for atom in one.atoms}
    expression = part.expression.xreplace(values)
    atoms = (*(atom for atom in part.atoms if atom.symbol not in gone), *found)
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
