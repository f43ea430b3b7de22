"""Which lines Taylor mode carries for a set of derivatives, how far, and which sums it collapses. Needs no torch.

Every derivative is a weighted sum of derivatives along lines (`directions.py`). Where the highest derivative along a
line is needed in sums only, the sums are carried in its place: u_tt - c^2 (u_xx + u_yy) needs three first derivatives
and one sum instead of three first and three second ones; u_tt + u_xxxx one sum of both highest orders.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np

from pinnflow.compiler.directions import MultiIndex, directions_for

Vector = tuple[float, ...]
Weights = dict[tuple[Vector, int], float]
"""`{(direction, order k): weight}` of d^k/ds^k f(x + s v h)."""


@dataclass(frozen=True)
class Combination:
    """A linear combination of partial derivatives of one field with constant coefficients.

    Attributes:
        field: column of the module's output.
        terms: `((orders, coefficient), ...)`, sorted; every order at least 1.
    """

    field: int
    terms: tuple[tuple[MultiIndex, Fraction | float], ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # of d terms with d orders each
        return hash((self.field, self.terms))


@dataclass(frozen=True)
class Tops:
    """Weighted sums of the highest derivatives: all that is carried of them when nothing else is needed.

    The highest derivative enters the next one only by a linear map that all directions share, y^(k) = f'(z) z^(k) +
    (lower orders), so the sum over directions, and over orders, can be carried in place of its terms ("collapsed").

    Attributes:
        parts: `(k, start, weights)`: directions start, start + 1, ... contribute their k-th derivative, of which the
            orders 1 to k-1 are carried one by one; `weights[g]` holds their weights in the g-th sum.
        count: the number of sums, G.
    """

    parts: tuple[tuple[int, int, tuple[tuple[float, ...], ...]], ...]
    count: int


@dataclass(frozen=True)
class Frame:
    """Fewer coefficients than one for each line and order, where lines are linearly dependent.

    First derivatives are linear in the direction, so those along a basis of the lines give all. And z^(n-1) enters the
    sum of n-th derivatives in one term only, n f'' (sum over lines of w_v z_v' z_v^(n-1)): with z_v' = sum of R_vi z_i'
    along the basis, the sums over lines of w_v R_vi z_v^(n-1) suffice. So the plane biharmonic, which is the Laplacian
    of the Laplacian, takes 1 + 2 + 3 + 2 + 1 coefficients: values, gradient, Hessian, gradient of the Laplacian, and
    one sum. These numbers are the ranks of the catalecticants of the form, below which no set of coefficients closes.

    Attributes:
        basis: numbers of the lines whose first derivatives are carried.
        rows: R, for each line its coordinates in the basis.
        widths: the numbers of lines alive at each order.
        sums: what is carried of the highest order below the `Tops` in place of one coefficient for each line:
            `(sum g, number i in the basis, weights w_gv R_vi of the lines)` each; empty where nothing is saved.
    """

    basis: tuple[int, ...]
    rows: tuple[tuple[float, ...], ...]
    widths: tuple[int, ...]
    sums: tuple[tuple[int, int, tuple[float, ...]], ...] = ()

    @property
    def carried(self) -> tuple[int, ...]:
        """The numbers of coefficients of each order."""
        middle = self.widths[1:-1] if self.sums else self.widths[1:]
        return (len(self.basis), *middle, *([len(self.sums)] if self.sums else []))


@dataclass(frozen=True)
class Lines:
    """Lines x + s v h with scales h, and how derivatives follow from the derivatives along them.

    Attributes:
        vectors: the v, M of them, in units of the scales.
        orders: how far each is carried, not increasing.
        tops: sums of derivatives one order higher, or None.
        recipes: `{terms of a combination: (((k, direction, weight), ...), (sum, weight) or None)}`.
        scales: the h, powers of two.
        frame: how several lines share coefficients, or None. Recipes are in terms of the lines all the same.
    """

    vectors: tuple[Vector, ...]
    orders: tuple[int, ...]
    tops: Tops | None
    recipes: dict[tuple, tuple[tuple[tuple[int, int, float], ...], tuple[int, float] | None]]
    scales: tuple[float, ...]
    frame: Frame | None = None

    @property
    def passes(self) -> tuple[int, ...]:
        """The order of every coefficient that is carried beside the value; that of a sum is its highest."""
        highest = max((k for k, _, _ in self.tops.parts), default=0) if self.tops else 0
        carried = [k for order in self.orders for k in range(1, order + 1)]
        if self.frame is not None:
            carried = [k for k, number in enumerate(self.frame.carried, 1) for _ in range(number)]
        return (*carried, *[highest] * (self.tops.count if self.tops else 0))

    @cached_property
    def matrix(self) -> np.ndarray:
        """The directions v h, `[M, columns]`."""
        return np.array(self.vectors, dtype=float).reshape(len(self.vectors), len(self.scales)) * np.array(self.scales)

    def part(self, start: int, stop: int) -> tuple[tuple[int, ...], Tops | None]:
        """`(orders, tops)` of some of the lines; the sums over all are the sums of those over the parts."""
        parts = []
        for k, first, weights in self.tops.parts if self.tops else ():
            low, high = max(first, start), min(first + len(weights[0]), stop)
            if low < high:
                parts.append((k, low - start, tuple(row[low - first : high - first] for row in weights)))
        return self.orders[start:stop], Tops(tuple(parts), self.tops.count) if parts else None


def rounded_scales(scales: Iterable[float]) -> tuple[float, ...]:
    """The scales as powers of two, so that scaling is exact."""
    return tuple(2.0 ** round(math.log2(abs(h))) if 0 < abs(h) < math.inf else 1.0 for h in scales)


def lines_for(wanted: Iterable[tuple], scales: Sequence[float], collapse: bool = True) -> Lines:
    """A small set of lines for the combinations whose terms are `wanted` (those of order zero need none).

    Args:
        wanted: `Combination.terms` each; a single derivative is a combination of one term.
        scales: a typical length per column. Lines move by one such length in each column, which keeps the rounding
            errors of mixed derivatives small when units differ.
        collapse: whether sums may take the place of highest derivatives.
    """
    some = frozenset(terms for terms in wanted if any(sum(a) for a, _ in terms))
    return _lines_for(some, rounded_scales(scales), collapse)


@lru_cache(maxsize=256)
def _lines_for(wanted: frozenset, scales, collapse) -> Lines:
    wanted = sorted(wanted, key=str)
    directions = directions_for(a for terms in wanted for a, _ in terms)
    plain = {terms: _by_polarisation(terms, directions, scales) for terms in wanted}
    best = _arrange(plain, wanted, scales, collapse)
    for terms in wanted:
        if len(terms) < 2 and sum(1 for i in terms[0][0] if i) < 2:
            continue
        special = _special(terms, scales)
        if special is None or not collapse:
            continue
        other = _arrange({**plain, terms: special}, wanted, scales, collapse)
        if len(other.passes) < len(best.passes):
            plain, best = {**plain, terms: special}, other
    return best


def _by_polarisation(terms, directions, scales) -> Weights:
    weights: Weights = {}
    for a, c in terms:
        for index, weight in directions.weights[a] if sum(a) else ():
            key = directions.vectors[index], sum(a)
            weights[key] = weights.get(key, 0.0) + float(c) * float(weight) * _unscaled(a, scales)
    return {key: weight for key, weight in weights.items() if weight}


def _unscaled(a, scales) -> float:
    return math.prod(h**-order for order, h in zip(a, scales, strict=True) if order)


# -- which sums to carry -----------------------------------------------------------------------------------------------


def _arrange(weights: dict[tuple, Weights], wanted, scales, collapse) -> Lines:
    """The cheapest of: all sums collapsed, none, and all but one of them, again and again."""
    summed = [terms for terms in wanted if len(weights[terms]) > 1] if collapse else []
    best = _layout(weights, wanted, summed, scales)
    none = _layout(weights, wanted, [], scales)
    while summed:
        # Sums that are many are alike: only a few are tried one by one.
        tries = [
            none if len(summed) == 1 else _layout(weights, wanted, [s for s in summed if s is not one], scales)
            for one in summed[:8]
        ]
        costs = [len(one.passes) for one in tries]
        if min(costs) > len(best.passes):
            return best if len(best.passes) < len(none.passes) else none
        index = costs.index(min(costs))
        summed, best = [s for s in summed if s is not summed[index]], tries[index]
    return best


def _layout(weights, wanted, summed, scales) -> Lines:
    alone: dict[Vector, int] = {}
    for terms in wanted:
        if terms not in summed:
            for v, k in weights[terms]:
                alone[v] = max(alone.get(v, 0), k)
    top: dict[Vector, int] = {}
    for terms in summed:
        for v, k in weights[terms]:
            if k > alone.get(v, 0):
                top[v] = max(top.get(v, 0), k)
    carried = {v: max(alone.get(v, 0), top.get(v, 1) - 1) for v in {**alone, **top}}
    # Sorted so that those alive at an order come first, and those with a sum beyond it lie together.
    vectors = sorted(carried, key=lambda v: (-carried[v], v not in top, tuple(map(abs, v)), v))
    vectors.sort(key=lambda v: (-carried[v], v not in top))
    place = {v: i for i, v in enumerate(vectors)}
    rows: dict[tuple, int] = {}
    recipes = {}
    for terms in wanted:
        at_top = {v: w for (v, k), w in weights[terms].items() if terms in summed and top.get(v) == k}
        rest = tuple((k, place[v], w) for (v, k), w in weights[terms].items() if v not in at_top or top[v] != k)
        share = None
        if at_top:
            unit = next(iter(at_top.values()))
            row = tuple(sorted((place[v], w / unit) for v, w in at_top.items()))
            share = rows.setdefault(row, len(rows)), unit
        recipes[terms] = rest, share
    orders = tuple(carried[v] for v in vectors)
    tops = _tops(vectors, top, rows)
    return Lines(tuple(vectors), orders, tops, recipes, scales, _frame(vectors, orders, tops, recipes))


def _tops(vectors, top, rows) -> Tops | None:
    if not rows:
        return None
    parts = []
    for k in sorted(set(top.values()), reverse=True):
        here = [i for i, v in enumerate(vectors) if top.get(v) == k]
        matrix = tuple(tuple(float(dict(row).get(i, 0.0)) for i in here) for row in rows)
        parts.append((k, here[0], matrix))
    return Tops(tuple(parts), len(rows))


MANY = 64
"""Lines of which no basis is looked for: they are unit vectors as a rule."""


def _frame(vectors, orders, tops, recipes) -> Frame | None:
    if not 2 <= len(vectors) <= MANY or not orders[0]:
        return None
    widths = tuple(sum(1 for order in orders if order >= k) for k in range(1, max(orders) + 1))
    if widths[0] != len(vectors):
        return None
    basis, rows = _basis(np.array(vectors, dtype=float))
    if len(basis) == len(vectors):
        return None
    frame = Frame(basis, rows, widths)
    if tops is None:
        return frame
    n, start, weights = tops.parts[0]
    # The sum's lines must be all that are alive below it, and none of them needed by itself there.
    if n < 3 or n - 1 != len(widths) or start or widths[-1] != len(weights[0]):
        return frame
    if any(k == n - 1 for single, _ in recipes.values() for k, _, _ in single):
        return frame
    used = [i for i in range(len(basis)) if any(row[i] for row in rows[: widths[-1]])]
    sums = tuple(
        (g, i, tuple(w * rows[v][i] for v, w in enumerate(row))) for g, row in enumerate(weights) for i in used
    )
    return Frame(basis, rows, widths, sums) if len(sums) < widths[-1] else frame


def _basis(matrix: np.ndarray) -> tuple[tuple[int, ...], tuple[tuple[float, ...], ...]]:
    """Numbers of linearly independent rows, the most independent first, and the coordinates of all rows in them."""
    found: list[int] = []
    left = matrix.copy()
    for _ in range(min(matrix.shape)):
        sizes = np.linalg.norm(left, axis=1).round(9)
        best = int(sizes.argmax())
        if sizes[best] <= 1e-9 * np.abs(matrix).max():
            break
        found.append(best)
        unit = left[best] / np.linalg.norm(left[best])
        left -= np.outer(left @ unit, unit)
    found.sort()
    rows = np.linalg.lstsq(matrix[found].T, matrix.T, rcond=None)[0].T
    near = rows.round()
    rows = np.where(abs(rows - near) < 1e-13, near, rows)  # without rounding errors around 0 and 1
    return tuple(found), tuple(tuple(map(float, row)) for row in rows)


# -- fewer lines for a whole operator than for its derivatives ---------------------------------------------------------


def _special(terms, scales) -> Weights | None:
    """Weights of a combination in lines of its own, or None where polarisation is as good."""
    weights: Weights = {}
    for k in sorted({sum(a) for a, _ in terms if sum(a)}):
        form = {a: float(c) * _unscaled(a, scales) for a, c in terms if sum(a) == k}
        found = _powers_of(form, k)
        if found is None:
            return None
        weights.update({(v, k): w for v, w in found.items()})
    return weights


def _powers_of(form: dict[MultiIndex, float], k: int) -> dict[Vector, float] | None:
    """A form of degree k as a sum of k-th powers: {v: w} with form(xi) = sum of w (v.xi)^k."""
    size = len(next(iter(form)))
    axes = sorted({i for a in form for i, order in enumerate(a) if order})
    if all(sum(1 for i in a if i) == 1 for a in form):
        return {tuple(float(i == j) for j in range(size)): form[a] for a in form for i in axes if a[i]}
    if k == 2:
        return _squares(form, axes, size)
    if len(axes) == 2:
        return _on_the_circle(form, axes, size, k)
    if len(axes) == 3 and k == 4:
        return _on_the_icosahedron(form, axes, size)
    return None


def _squares(form, axes, size):
    """A quadratic form by completing the square: as many lines as its rank."""
    matrix = np.zeros((len(axes), len(axes)))
    for a, c in form.items():
        i, *rest = [n for n, axis in enumerate(axes) for _ in range(a[axis])]
        matrix[i, rest[0]] += c / 2
        matrix[rest[0], i] += c / 2
    values, vectors = np.linalg.eigh(matrix)
    kept = abs(values) > 1e-13 * abs(values).max()
    return {_spread(v, axes, size): float(w) for w, v in zip(values[kept], vectors.T[kept], strict=True)}


def _on_the_circle(form, axes, size, k):
    """Equally spaced angles, after the axes are scaled so that both pure powers have the same coefficient.

    (xi^2 + eta^2)^2 = 8/9 times the sum of three fourth powers, 60 degrees apart.
    """
    i, j = axes
    pure = [form.get(tuple(k * (n == axis) for n in range(size)), 0.0) for axis in axes]
    stretch = abs(pure[1] / pure[0]) ** (1 / k) if pure[0] and pure[1] else 1.0
    target = [form.get(tuple((k - m) * (n == i) + m * (n == j) for n in range(size)), 0.0) for m in range(k + 1)]
    for count in range(2, k + 1):
        for shift in (0.0, 0.5):
            angles = math.pi * (np.arange(count) + shift) / count
            lines = np.stack([np.cos(angles), stretch * np.sin(angles)])
            matrix = np.array([math.comb(k, m) * lines[0] ** (k - m) * lines[1] ** m for m in range(k + 1)])
            weights, *_ = np.linalg.lstsq(matrix, np.array(target), rcond=None)
            if np.abs(matrix @ weights - target).max() <= 1e-13 * np.abs(target).max():
                return {_spread(v, axes, size): float(w) for v, w in zip(lines.T, weights, strict=True) if abs(w) > 0}
    return None


def _on_the_icosahedron(form, axes, size):
    """|xi|^4 = 5/6 times the sum of the fourth powers along the six diagonals of the icosahedron, axes scaled."""
    pure = [form.get(tuple(4 * (n == axis) for n in range(size)), 0.0) for axis in axes]
    if min(pure) * max(pure) <= 0:
        return None
    stretch = [abs(c / pure[0]) ** 0.25 for c in pure]
    golden = (1 + math.sqrt(5)) / 2
    unit = 1 / math.sqrt(1 + golden**2)
    lines = []
    for n in range(3):
        for sign in (1, -1):
            v = [0.0, 0.0, 0.0]
            v[n], v[(n + 1) % 3] = unit, sign * golden * unit
            lines.append([c * s for c, s in zip(v, stretch, strict=True)])
    weight = 5 / 6 * pure[0]
    for a in {*form, *(_pair(axes, size, p, q) for p in range(3) for q in range(3))}:
        b = [a[axis] for axis in axes]
        factor = 24 / math.prod(map(math.factorial, b))
        found = sum(weight * factor * math.prod(c**o for c, o in zip(v, b, strict=True)) for v in lines)
        if abs(found - form.get(a, 0.0)) > 1e-13 * max(map(abs, form.values())):
            return None
    return {_spread(v, axes, size): weight for v in lines}


def _pair(axes, size, p, q):
    return tuple(2 * (n == axes[p]) + 2 * (n == axes[q]) for n in range(size))


def _spread(v, axes, size) -> Vector:
    return tuple(float(v[axes.index(n)]) if n in axes else 0.0 for n in range(size))
