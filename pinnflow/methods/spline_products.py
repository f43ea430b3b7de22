"""Products of splines in the plane: values, projections and matrices one axis at a time.

With n splines of degree p along each axis, a function at the q^2 quadrature points costs q n (q + n) operations instead
of q^2 n^2, and a matrix with a variable coefficient q n p (q + n p) instead of q^2 p^4 (sum factorisation).

Source: Orszag, Spectral methods for problems in complex geometries, J. Comput. Phys. 37 (1980).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import scipy.sparse as sparse
import torch

from pinnflow.trial.features import Product, Spline


@dataclass(frozen=True, eq=False)
class Sheet:
    """Splines along both space columns; None marks the time column.

    Attributes:
        axes: per column.
    """

    axes: tuple[Spline | None, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(1 if a is None else a.count for a in self.axes)

    @cached_property
    def space(self) -> tuple[int, int]:
        """The two columns with splines."""
        first, second = (i for i, axis in enumerate(self.axes) if axis is not None)
        return first, second

    def basis(self) -> Product:
        """All products, the last column running fastest."""
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in self.counts), indexing="ij"), -1)
        axes = tuple("chebyshev" if a is None else a for a in self.axes)
        return Product(axes, torch.as_tensor(grid.reshape(-1, len(self.axes))))

    def peaks(self, column: int) -> np.ndarray:
        """`[count]`: where each spline along a column peaks, scaled."""
        spline = self.axes[column]
        if spline is None:
            return np.zeros(1)
        if spline.periodic:
            return spline.knots[:-1]
        padded = np.concatenate([[-1.0] * spline.degree, spline.knots, [1.0] * spline.degree])
        return np.array([padded[i + 1 : i + 1 + spline.degree].mean() for i in range(spline.count)])

    def table(self, column: int, places: np.ndarray, order: int) -> sparse.csr_matrix:
        """`[len(places), count]`: the order-th derivative of the splines along a column."""
        spline = self.axes[column]
        if spline is None:
            return sparse.csr_matrix(np.ones((len(places), 1)) if order == 0 else np.zeros((len(places), 1)))
        return sparse.csr_matrix(spline.table(torch.as_tensor(places), spline.count, order)[order].numpy())

    def at(self, places: list[np.ndarray], orders: tuple[int, ...]) -> sparse.csr_matrix:
        """`[points, N]`: derivatives of all products on a tensor grid."""
        return reduce(sparse.kron, [self.table(i, p, o) for i, (p, o) in enumerate(zip(places, orders, strict=True))])

    @cached_property
    def nodes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per column Gauss-Legendre places and weights on the pieces; one place along time."""
        result = []
        for axis in self.axes:
            if axis is None:
                result.append((np.zeros(1), np.ones(1)))
                continue
            result.append(composite_gauss(axis.knots, (axis.degree + 3) // 2))
        return result


class Assembly:
    """Sum factorisation on one sheet.

    Args:
        sheet: the splines.
        factor: `orders -> float`, from derivatives on the scaled box to problem units.
    """

    def __init__(self, sheet: Sheet, factor):
        self.sheet, self.factor = sheet, factor
        self.tables: dict[tuple[int, int], np.ndarray] = {}
        self.pairs: dict[tuple[int, int], sparse.csr_matrix] = {}
        self.places = tuple(len(sheet.nodes[i][0]) for i in sheet.space)
        self.counts = tuple(sheet.counts[i] for i in sheet.space)

    def _table(self, column, order):
        """`[q, n]` at the quadrature places of a column."""
        key = (column, order)
        if key not in self.tables:
            self.tables[key] = self.sheet.table(column, self.sheet.nodes[column][0], order).toarray()
        return self.tables[key]

    def values(self, weights: np.ndarray, orders: tuple[int, ...]) -> np.ndarray:
        """`[k, q^2]`: a derivative of k functions, weights `[k, N]`, at the quadrature points."""
        first, second = (self._table(i, orders[i]) for i in self.sheet.space)
        out = first @ weights.reshape(-1, *self.counts) @ second.T
        return out.reshape(len(weights), -1) * self.factor(orders)

    def projections(self, values: np.ndarray) -> np.ndarray:
        """`[k, N]`: integrals of k functions, `[k, q^2]` at the quadrature points, with every product."""
        first, second = (self._table(i, 0) * self.sheet.nodes[i][1][:, None] for i in self.sheet.space)
        return (first.T @ values.reshape(-1, *self.places) @ second).reshape(len(values), -1)

    def _pair_table(self, column, order):
        """`[q, pairs]`: weight times spline times order-th derivative of a neighbour, for all pairs that overlap."""
        key = (column, order)
        if key not in self.pairs:
            left, right = self._neighbours(column)
            test = self._table(column, 0) * self.sheet.nodes[column][1][:, None]
            self.pairs[key] = sparse.csr_matrix(test[:, left] * self._table(column, order)[:, right])
        return self.pairs[key]

    def _neighbours(self, column):
        touch = self._table(column, 0) != 0
        return np.nonzero(touch.T.astype(np.int64) @ touch.astype(np.int64))

    @cached_property
    def _pattern(self):
        """(order of the entries, column indices, row pointers) of a matrix in compressed rows."""
        (i, k), (j, m) = (self._neighbours(column) for column in self.sheet.space)
        width = self.counts[1]
        rows = (i[:, None] * width + j).ravel()
        columns = (k[:, None] * width + m).ravel()
        order = np.lexsort((columns, rows))
        pointers = np.searchsorted(rows[order], np.arange(self.counts[0] * width + 1))
        return order, columns[order], pointers

    def matrix(self, terms: list[tuple[np.ndarray | float, tuple[int, ...]]]) -> sparse.csr_matrix:
        """`[N, N]`: integrals of a product times sum of coefficient D^orders of another.

        Args:
            terms: [(coefficient `[q^2]` at the quadrature points or a number, orders)].
        """
        total: np.ndarray | float = 0.0
        first, second = self.sheet.space
        for coefficient, orders in terms:
            left, right = self._pair_table(first, orders[first]), self._pair_table(second, orders[second])
            coefficient = np.asarray(coefficient) * self.factor(orders)
            if coefficient.ndim:
                total = total + (right.T @ (left.T @ coefficient.reshape(self.places)).T).T
            else:
                total = total + coefficient * np.outer(left.sum(axis=0), right.sum(axis=0))
        order, columns, pointers = self._pattern
        size = self.counts[0] * self.counts[1]
        return sparse.csr_matrix((np.ravel(total)[order], columns, pointers), (size, size))


def composite_gauss(knots: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre places and weights on every piece between knots."""
    places, weights = np.polynomial.legendre.leggauss(points)
    low, high = knots[:-1, None], knots[1:, None]
    return ((low + high) / 2 + (high - low) / 2 * places).ravel(), ((high - low) / 2 * weights).ravel()
