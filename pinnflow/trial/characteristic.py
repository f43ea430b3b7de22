r"""The characteristic relation of linear equations with constant coefficients.

Put $u_f = v_f e^{s \cdot x}$ into $\sum_{f, o} a_{e f o} \, \partial^o u_f = 0$: every derivative becomes a factor, and
a vector v with $P(s) v = 0$ exists where $\det P(s) = 0$. That equation of the exponents is the dispersion relation
(with $s = (-i \omega, i k)$); solving it for one exponent gives every plane, evanescent, growing and decaying wave of
the equation. `exponentials.py` makes features of them.

Source: Hoermander, The Analysis of Linear Partial Differential Operators II (1983), ch. 10 and 12; Ehrenpreis'
principle says that such waves, with polynomial factors at multiple roots, are dense among all solutions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy
from sympy import Expr

from pinnflow.declare.problem import Problem

Monomials = Mapping[tuple[int, ...], complex]

# Exponents that differ by less than this, relative to their size, are tried as one multiple root.
CLUSTER = 1e-4
# Largest residual of a wave relative to the sum of its terms.
HOLDS = 1e-11


class NotConstant(ValueError):
    """The equations are not linear with constant coefficients; the message says where."""


@dataclass(frozen=True)
class Operator:
    """Equations sum over fields and orders of a * D^orders u_field = source, with numbers a.

    Attributes:
        coefficients: per equation `{(field, orders): number}`.
        sources: per equation an expression in the columns.
        columns: the columns, in order.
        fields: number of fields.
    """

    coefficients: tuple[dict[tuple[int, tuple[int, ...]], Expr], ...]
    sources: tuple[Expr, ...]
    columns: tuple[Expr, ...]
    fields: int

    @property
    def homogeneous(self) -> bool:
        return all(source == 0 for source in self.sources)

    @cached_property
    def symbols(self) -> tuple[sympy.Symbol, ...]:
        """One exponent per column, as symbols."""
        return tuple(sympy.Symbol(f"s_{column}") for column in self.columns)

    @cached_property
    def determinant(self) -> Expr:
        """det P(s): the characteristic relation is `determinant == 0`."""
        rows = [[sympy.S.Zero] * self.fields for _ in self.coefficients]
        for row, equation in zip(rows, self.coefficients, strict=True):
            for (f, orders), a in equation.items():
                row[f] += a * sympy.Mul(*(s**o for s, o in zip(self.symbols, orders, strict=True) if o))
        return rows[0][0] if self.fields == 1 else sympy.expand(sympy.Matrix(rows).det(method="berkowitz"))

    def dispersion(self, column: Expr) -> list[Expr]:
        """The exponents of `column` as functions of real wave numbers `k_...` along the others.

        Example: u_tt = 4 u_xx gives [-2 I k_x, 2 I k_x] for the column t.
        """
        place = self.columns.index(column)
        waves = {
            s: sympy.I * sympy.Symbol(f"k_{c}", real=True)
            for s, c in zip(self.symbols, self.columns, strict=True)
            if c != column
        }
        return list(sympy.roots(self.determinant.xreplace(waves), self.symbols[place], multiple=True))


def read_operator(problem: Problem) -> Operator:
    """The equations of a problem as a constant-coefficient operator.

    Raises:
        NotConstant: an equation is nonlinear, relates different places, or has a coefficient that varies.
    """
    equations = [part for block in problem.blocks if block.kind == "equation" for part in block.parts]
    place = {f: i for i, f in enumerate(problem.fields)}
    if problem.unknowns:
        raise NotConstant(f"the coefficient {min(map(str, problem.unknowns))} is to be found")
    if len(equations) != len(place):
        raise NotConstant(f"there are {len(equations)} equations for {len(place)} fields")
    for f in problem.fields:
        if {getattr(c, "axis", c) for c in problem.columns} - set(f.args):
            raise NotConstant(f"`{f}` does not depend on all coordinates")
    coefficients, sources = [], []
    for part in equations:
        atoms = {a.symbol: a for a in part.atoms}
        if any(a.pins for a in part.atoms):
            raise NotConstant("an equation relates a field to its values at another place")
        found: dict = {}
        source = sympy.S.Zero
        for term in sympy.Add.make_args(sympy.expand(part.expression)):
            here = [s for s in term.free_symbols if s in atoms]
            if not here:
                source -= term
                continue
            factor = term / here[0]
            if len(here) > 1 or factor.has(here[0]):
                raise NotConstant(f"the equation is not linear in `{atoms[here[0]].field}`")
            if factor.free_symbols:
                raise NotConstant(f"the coefficient `{factor}` is not constant")
            atom = atoms[here[0]]
            key = place[atom.field], atom.orders
            found[key] = found.get(key, sympy.S.Zero) + factor
        coefficients.append({key: a for key, a in found.items() if a != 0})
        sources.append(source)
    return Operator(tuple(coefficients), tuple(sources), tuple(problem.columns), len(place))


@dataclass(frozen=True)
class Waves:
    """Exact solutions exp(s . xi) * sum over j < r of xi_axis^j / j! * v_j on the scaled box.

    Attributes:
        axis: the column whose exponent was solved for.
        exponents: `[N, D]`, complex.
        amplitudes: `[N, r, fields]`, complex: v_0 ... v_{r-1}, zero where a root is less than r-fold.
    """

    axis: int
    exponents: np.ndarray
    amplitudes: np.ndarray


class Relation:
    """P(s) on the scaled box [-1, 1]^D, its roots and its null vectors.

    Args:
        operator: the equations.
        half: `[D]`, half lengths of the axes, problem units.
    """

    def __init__(self, operator: Operator, half: Sequence[float]):
        self.operator, self.half = operator, np.asarray(half, dtype=float)
        self.entries: list[tuple[int, int, tuple[int, ...], complex]] = []
        for e, equation in enumerate(operator.coefficients):
            scaled = {key: float(a) * self._factor(key[1]) for key, a in equation.items()}
            largest = max(map(abs, scaled.values()), default=1.0)
            self.entries += [(e, f, orders, a / largest) for (f, orders), a in scaled.items()]
        polynomial = sympy.Poly(operator.determinant, *operator.symbols).as_dict()
        scaled = {orders: float(a) * self._factor(orders) for orders, a in polynomial.items()}
        largest = max(map(abs, scaled.values()), default=0.0)
        if largest == 0:
            raise NotConstant("the equations do not determine the fields")
        # What should have cancelled in the determinant leaves rounding errors.
        self.determinant = {o: a / largest for o, a in scaled.items() if abs(a) > 1e-14 * largest}

    def _factor(self, orders):
        return math.prod(h**-o for h, o in zip(self.half, orders, strict=True))

    def degree(self, axis: int) -> int:
        """Number of exponents along `axis` for given exponents along the others."""
        return max(orders[axis] for orders in self.determinant)

    def waves(self, axis: int, exponents: np.ndarray) -> Waves:
        """All waves with the given exponents along the other columns, `[B, D]` (column `axis` is ignored)."""
        solved, chains = [], []
        for s, polynomial in zip(exponents, self._polynomials(axis, exponents), strict=True):
            for group, middle in _clusters(polynomial):
                for root, chain in self._chains(axis, s, group, middle):
                    full = s.astype(complex)
                    full[axis] = root
                    solved.append(full)
                    chains.append(chain)
        depth = max((len(c) for c in chains), default=1)
        amplitudes = np.zeros((len(chains), depth, self.operator.fields), dtype=complex)
        for i, chain in enumerate(chains):
            amplitudes[i, : len(chain)] = chain
        shape = (len(solved), len(self.half))
        return Waves(axis, np.array(solved, dtype=complex).reshape(shape), amplitudes)

    def _polynomials(self, axis, exponents):
        """Per row of `exponents` the determinant as a polynomial along `axis`, ascending."""
        degree = self.degree(axis)
        coefficients = np.zeros((len(exponents), degree + 1), dtype=complex)  # ascending
        sizes = np.zeros(len(exponents))
        for orders, a in self.determinant.items():
            term = np.full(len(exponents), complex(a))
            for column, order in enumerate(orders):
                if order and column != axis:
                    term = term * exponents[:, column] ** order
            coefficients[:, orders[axis]] += term
            sizes = np.maximum(sizes, np.abs(term))
        return np.where(np.abs(coefficients) > 1e-14 * sizes[:, None], coefficients, 0.0)

    def _chains(self, axis, s, group, middle):
        """[(root, [v_0 ... v_{r-1}])] for a cluster of roots: one multiple root if it is one, else each on its own."""
        if len(group) > 1:
            found = self._null_chains(axis, s, middle, len(group))
            if found is not None:
                return found
        result = []
        for root in group:
            result += self._null_chains(axis, s, root, 1) or []
        return result

    def _null_chains(self, axis, s, root, multiplicity):
        r"""Null vectors of the block Toeplitz matrix of P and its derivatives; None when there are too few.

        $P(\partial) x^j/j! \, e^{sx} v = \sum_i x^{j-i}/(j-i)! \, P^{(i)}(s)/i! \, e^{sx} v$, so the factors of
        $x^l/l!$ vanish where $\sum_{j \ge l} P^{(j-l)}/(j-l)! \, v_j = 0$.
        """
        fields, r = self.operator.fields, multiplicity
        full = s.astype(complex)
        full[axis] = root
        taylor, size = self._taylor(full, axis, r)
        if fields == 1:
            # 1, xi, ... xi^(r-1) times the exponential, where P and its derivatives vanish.
            if any(abs(taylor[i, 0, 0]) > HOLDS * max(size[i, 0, 0], 1e-300) for i in range(r)):
                return None
            return [(root, _unit(j + 1)) for j in range(r)]
        matrix = np.zeros((r * fields, r * fields), dtype=complex)
        for i in range(r):
            for j in range(i, r):
                matrix[i * fields : (i + 1) * fields, j * fields : (j + 1) * fields] = taylor[j - i]
        scale = np.abs(matrix).max() or 1.0
        _, values, vectors = np.linalg.svd(matrix / scale)
        if values[-r] > 1e-9:
            return None
        return [(root, vectors[-1 - i].conj().reshape(r, fields)) for i in range(r)]

    def _taylor(self, s, axis, depth):
        """(P^(i)(s) / i! along `axis` for i < depth, sums of the magnitudes): each `[depth, equations, fields]`."""
        shape = (depth, len(self.operator.coefficients), self.operator.fields)
        value, size = np.zeros(shape, dtype=complex), np.zeros(shape)
        for e, f, orders, a in self.entries:
            rest = a * math.prod(complex(s[c]) ** o for c, o in enumerate(orders) if c != axis)
            for i in range(min(depth, orders[axis] + 1)):
                term = rest * math.comb(orders[axis], i) * complex(s[axis]) ** (orders[axis] - i)
                value[i, e, f] += term
                size[i, e, f] += abs(term)
        return value, size


def _unit(length):
    """The chain of xi^j / j! alone, `[length, 1]`."""
    chain = np.zeros((length, 1), dtype=complex)
    chain[-1] = 1.0
    return chain


def _all_roots(coefficients):
    """Roots of a polynomial with ascending coefficients, simple ones polished by Newton's method."""
    nonzero = np.flatnonzero(coefficients)
    if len(nonzero) == 0 or nonzero[-1] == 0:
        return np.zeros(0, dtype=complex)
    p = coefficients[: nonzero[-1] + 1][::-1]
    if len(p) == 2:
        return np.array([-p[1] / p[0]])
    if len(p) == 3:
        # The larger root first; the other from the product, so that neither cancels.
        square = np.sqrt(p[1] ** 2 - 4 * p[0] * p[2])
        square = square if (np.conj(p[1]) * square).real >= 0 else -square
        large = -(p[1] + square) / (2 * p[0])
        return np.array([large, p[2] / (p[0] * large) if large != 0 else 0.0])
    roots, slope = np.roots(p), np.polyder(p)
    for _ in range(2):
        steep = np.polyval(slope, roots)
        step = np.polyval(p, roots) / np.where(steep == 0, 1.0, steep)
        small = np.abs(step) < 1e-6 * (np.abs(roots) + 1e-300)
        roots = np.where(small, roots - step, roots)
    return roots


def _clusters(coefficients):
    """[(roots that may be one multiple root, where it would be)] of a polynomial with ascending coefficients."""
    roots = _all_roots(coefficients)
    left, found = list(roots), []
    scale = max((abs(r) for r in roots), default=0.0)
    while left:
        first = left.pop(0)
        near = [r for r in left if abs(r - first) <= CLUSTER * max(abs(first), 1e-8 * scale)]
        left = [r for r in left if all(r is not n for n in near)]
        group = np.array([first, *near])
        middle = group.mean()
        if near:
            # An r-fold root is a simple one of the (r - 1)-th derivative, and exact to rounding there.
            p = np.polyder(coefficients[::-1], len(near))
            for _ in range(3):
                slope = np.polyval(np.polyder(p), middle)
                middle = middle - np.polyval(p, middle) / slope if slope != 0 else middle
        found.append((group, middle))
    return found
