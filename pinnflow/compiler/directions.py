"""Which straight lines give a set of partial derivatives: polarisation with exact rational weights.

The k-th derivative along v is (v.grad)^k = sum over |a| = k of k!/a! v^a D^a. A mixed derivative is a combination of
such pure ones, u_xy = (u_vv - u_ww)/4 with v = (1, 1) and w = (1, -1), so Taylor mode along a few integer directions
gives every partial derivative. `directions_for` finds a small set for all derivatives of a point set together: a line
carried to order k gives all lower orders as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import sympy

MultiIndex = tuple[int, ...]


@dataclass(frozen=True)
class Directions:
    """Lines and how derivatives follow from the derivatives along them.

    Attributes:
        vectors: M integer vectors of length D.
        orders: how far each is needed, not increasing.
        weights: `{multi-index a: ((direction, weight), ...)}` with D^a f = sum of weight d^|a|/ds^|a| f(x + s v).
    """

    vectors: tuple[tuple[int, ...], ...]
    orders: tuple[int, ...]
    weights: dict[MultiIndex, tuple[tuple[int, Fraction], ...]]


def directions_for(multi_indices: Iterable[MultiIndex]) -> Directions:
    """A small set of directions for the derivatives `multi_indices`; order zero needs none."""
    return _directions_for(frozenset(a for a in multi_indices if sum(a)))


@lru_cache(maxsize=256)
def _directions_for(wanted: frozenset[MultiIndex]) -> Directions:
    # High orders first: their directions serve the low orders for nothing. Pure before mixed: one direction is enough.
    ordered = sorted(wanted, key=lambda a: (-sum(a), _size(a), a[::-1]))
    chosen: dict[tuple[int, ...], None] = {}
    solved: dict[MultiIndex, dict[tuple[int, ...], Fraction]] = {}
    for a in ordered:
        solved[a] = _solve(a, chosen)
        chosen.update(dict.fromkeys(solved[a]))
    reach: dict[tuple[int, ...], int] = {}
    for a in ordered:
        for v in solved[a]:
            reach.setdefault(v, sum(a))
    vectors = sorted(chosen, key=lambda v: -reach[v])
    place = {v: i for i, v in enumerate(vectors)}
    weights = {a: tuple(sorted((place[v], w) for v, w in solved[a].items())) for a in sorted(wanted)}
    return Directions(tuple(vectors), tuple(reach[v] for v in vectors), weights)


def _size(a) -> int:
    return sum(1 for i in a if i)


def _solve(a: MultiIndex, chosen: Collection[tuple[int, ...]]) -> dict[tuple[int, ...], Fraction]:
    """Weights of D^a in directions already chosen, or with as few new ones as a search over small integers finds."""
    axes = [i for i, order in enumerate(a) if order]
    if _unit(a) not in chosen:
        reached = sorted({i for v in chosen for i, c in enumerate(v) if c}) if len(chosen) <= 16 else []
        if set(axes) <= set(reached) and len(reached) <= 4:
            found = _exact(_restrict(a, reached), tuple(_restrict(v, reached) for v in chosen))
            if found is not None:
                return _extend(found, reached, len(a))
    known = [] if len(axes) == 1 else [v for v in chosen if all(i in axes for i, c in enumerate(v) if c)]
    return _extend(_polarise(_restrict(a, axes), tuple(_restrict(v, axes) for v in known)), axes, len(a))


def _unit(a):
    """The direction of a pure derivative."""
    return tuple(int(order > 0) for order in a) if _size(a) == 1 else None


def _restrict(vector, axes):
    return tuple(vector[i] for i in axes)


def _extend(weights, axes, dimension):
    full = {}
    for v, w in weights:
        vector = [0] * dimension
        for i, c in zip(axes, v, strict=True):
            vector[i] = c
        full[tuple(vector)] = w
    return full


@lru_cache(maxsize=1024)
def _polarise(a: MultiIndex, known: tuple[tuple[int, ...], ...]) -> tuple[tuple[tuple[int, ...], Fraction], ...]:
    """As `_solve`, in the axes that occur in `a` only."""
    k, size = sum(a), len(a)
    if size == 1:
        return (((1,), Fraction(1)),)
    monomials = _monomials(k, size)
    target = np.array([float(b == a) for b in monomials])
    fresh = [v for v in _candidates(size, 2 if size == 2 else 1) if v not in known]
    closed = _closed_form(a)
    for extra in range(len(closed) + (size == 2)):  # in two axes the search finds smaller integers than the closed form
        if math.comb(len(fresh), extra) > 2000:
            break
        for new in itertools.combinations(fresh, extra):
            vectors = (*known, *new)
            matrix = np.array([_powers(v, monomials) for v in vectors], dtype=float).reshape(-1, len(monomials)).T
            if not vectors or np.linalg.matrix_rank(np.c_[matrix, target]) > np.linalg.matrix_rank(matrix):
                continue
            found = _exact(a, vectors)
            if found is not None:
                return found
    return closed


def _monomials(degree, size):
    return [b for b in itertools.product(range(degree + 1), repeat=size) if sum(b) == degree]


def _closed_form(a: MultiIndex) -> tuple[tuple[tuple[int, ...], Fraction], ...]:
    """D^a = 1/(2^k k!) sum over b <= a of (-1)^|b| C(a, b) ((a - 2b).grad)^k: always right, often not the smallest set.

    Source: polarisation of a symmetric form with repeated arguments; Griewank, Utke & Walther, Evaluating higher
    derivative tensors by forward propagation of univariate Taylor series, Math. Comp. 69 (2000), use the same idea.
    """
    k = sum(a)
    weights: dict[tuple[int, ...], Fraction] = {}
    for b in itertools.product(*(range(i + 1) for i in a)):
        v = tuple(i - 2 * j for i, j in zip(a, b, strict=True))
        divisor = math.gcd(*v)
        if divisor == 0:
            continue
        divisor *= 1 if next(c for c in v if c) > 0 else -1
        primitive = tuple(c // divisor for c in v)
        weight = Fraction((-1) ** sum(b) * math.prod(map(math.comb, a, b)) * divisor**k, 2**k * math.factorial(k))
        weights[primitive] = weights.get(primitive, Fraction(0)) + weight
    return tuple((v, w) for v, w in weights.items() if w)


def _candidates(size: int, largest: int) -> list[tuple[int, ...]]:
    """Primitive integer vectors up to sign, small and plain ones first."""
    vectors = []
    for v in itertools.product(range(-largest, largest + 1), repeat=size):
        lead = next((c for c in v if c), 0)
        if lead > 0 and math.gcd(*v) == 1:
            vectors.append(v)
    return sorted(vectors, key=lambda v: (max(map(abs, v)), -_size(v), sum(c < 0 for c in v), v[::-1]))


def _powers(v, monomials) -> list[int]:
    """Coefficients of (v.grad)^k: k!/b! v^b for each multi-index b."""
    k = sum(monomials[0])
    return [
        math.factorial(k) // math.prod(map(math.factorial, b)) * math.prod(c**i for c, i in zip(v, b, strict=True))
        for b in monomials
    ]


def _exact(a, vectors):
    """The weights as fractions, or None when D^a is not in the span; directions that are not needed are left out."""
    monomials = _monomials(sum(a), len(a))
    matrix = sympy.Matrix([_powers(v, monomials) for v in vectors]).T
    target = sympy.Matrix([int(b == a) for b in monomials])
    symbols = sympy.symbols(f"w:{len(vectors)}")
    solutions = sympy.linsolve((matrix, target), *symbols)
    if not solutions:
        return None
    (values,) = solutions
    values = [value.subs(dict.fromkeys(symbols, 0)) for value in values]
    return tuple((v, Fraction(int(w.p), int(w.q))) for v, w in zip(vectors, values, strict=True) if w)
