"""Least squares on products of splines in the plane: each row touches few unknowns, and the matrix is never dense.

Unknowns are ordered strip by strip along one axis. The rows that begin in a strip are reduced together with what the
last strips left over by a dense orthogonal factorisation of a few strips' width; the first strip's part of the
triangle is kept and the rest carried on. With n splines of degree p along each axis that costs about n (p n)^3
operations instead of n^6, and squares no condition number.

Source: Bjorck, Numerical Methods for Least Squares Problems (1996), ch. 6.2 (banded problems, sequential QR).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pinnflow.trial.expansion import Expansion
from pinnflow.trial.features import Product, Spline

FLOOR = 1e-13  # weight of the rows that keep undetermined unknowns small, against the norm of their column


def splines_of(expansion: Expansion) -> tuple[Spline, Spline] | None:
    """The splines along both axes if all fields are their products; None for any other expansion."""
    basis = expansion.bases[0]
    if any(other is not basis for other in expansion.bases) or not isinstance(basis, Product) or len(basis.axes) != 2:
        return None
    first, second = basis.axes
    if not isinstance(first, Spline) or not isinstance(second, Spline):
        return None
    return first, second


@dataclass
class Piece:
    """What one field at one place contributes to the rows of a term.

    Attributes:
        field: its index.
        columns: per axis `[n, p + 1]`, numbers of the splines that do not vanish there.
        values: `[n, p + 1, p + 1]`.
    """

    field: int
    columns: tuple[np.ndarray, np.ndarray]
    values: np.ndarray


class StripRows:
    """The linearised rows of a problem on products of splines; filled term by term, then solved once.

    Args:
        expansion: `splines_of` it is not None.
    """

    def __init__(self, expansion: Expansion):
        self.expansion = expansion
        splines = splines_of(expansion)
        assert splines is not None
        self.axes = splines
        self.terms: list[list[Piece]] = []
        self.targets: list[np.ndarray] = []
        self.scales: list[float] = []

    def append(self, groups, target: Tensor) -> float:
        """Rows of one term, divided by their rms norm and by sqrt(n); returns the divisor.

        Args:
            groups: as `Expansion.rows` takes them.
            target: `[n]`.
        """
        pieces = [piece for points, items in groups for piece in self._pieces(points, items)]
        n = len(target)
        norm = float(np.sqrt(sum(np.square(piece.values).sum() for piece in pieces))) / n**0.5
        scale = (norm or 1.0) * n**0.5
        for piece in pieces:
            piece.values /= scale
        self.terms.append(pieces)
        self.targets.append(target.numpy() / scale)
        return scale

    def _pieces(self, points, items):
        scaled = self.expansion.frame.scale(points).numpy()
        highest = [max(orders[axis] for _, orders, _ in items) for axis in (0, 1)]
        tables, columns = zip(
            *(local_table(spline, scaled[:, axis], highest[axis]) for axis, spline in enumerate(self.axes)), strict=True
        )
        for f in sorted({field for field, _, _ in items}):
            values = 0.0
            for field, orders, coefficient in items:
                if field == f:
                    factor = (coefficient * self.expansion.frame.factor(orders)).numpy().reshape(-1, 1, 1)
                    values = values + factor * tables[0][orders[0]][:, :, None] * tables[1][orders[1]][:, None, :]
            yield Piece(f, columns, values)

    def shift(self, offsets: Sequence[Tensor]) -> None:
        """Adds `[n]` per term, already divided by its scale, to the right-hand sides."""
        self.targets = [target + offset.numpy() for target, offset in zip(self.targets, offsets, strict=True)]

    def aim(self, targets: Sequence[Tensor]) -> None:
        """Puts `[n]` per term, divided by its scale, in the place of the right-hand sides."""
        self.targets = [np.broadcast_to(new.numpy(), old.shape) for new, old in zip(targets, self.targets, strict=True)]

    def finite(self) -> bool:
        """Whether all entries are numbers."""
        return all(np.isfinite(t).all() for t in self.targets) and all(
            np.isfinite(piece.values).all() for term in self.terms for piece in term
        )

    def solve(self) -> tuple[Tensor, float]:
        """(weights `[size]` that minimise |A w - b|, that minimum)."""
        orders = [Order(axis, folded) for axis in (0, 1) for folded in (False, True)]
        order = min(orders, key=lambda o: o.cost(self))
        strips = Strips(self, order)
        return strips.solve()


@dataclass(frozen=True)
class Order:
    """How strips follow each other: along which axis, and whether from both ends by turns.

    Taking both ends by turns keeps rows narrow that join the ends, as those of a periodic axis do.
    """

    axis: int
    folded: bool

    def positions(self, count: int) -> np.ndarray:
        """`[count]`: the place of each strip."""
        if not self.folded:
            return np.arange(count)
        forth = np.arange(count)
        return np.where(forth < (count + 1) // 2, 2 * forth, 2 * (count - 1 - forth) + 1)

    def spans(self, rows: StripRows) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per term the first and the last strip of each row."""
        place = self.positions(rows.axes[self.axis].count)
        found = []
        for pieces in rows.terms:
            touched = np.concatenate([place[piece.columns[self.axis]] for piece in pieces], axis=1)
            found.append((touched.min(axis=1), touched.max(axis=1)))
        return found

    def cost(self, rows: StripRows) -> float:
        """Operations, up to a factor: the width of the active strips cubed, summed."""
        n = rows.axes[self.axis].count
        reach = np.arange(n)
        for first, last in self.spans(rows):
            np.maximum.at(reach, first, last)
        width = np.maximum.accumulate(reach) - np.arange(n) + 1.0
        return float(np.sum(width**3)) * rows.axes[1 - self.axis].count ** 3


class Strips:
    """The factorisation of one system."""

    def __init__(self, rows: StripRows, order: Order):
        self.rows, self.axis = rows, order.axis
        self.place = order.positions(rows.axes[order.axis].count)
        self.spans = order.spans(rows)
        self.count, self.inner = rows.axes[order.axis].count, rows.axes[1 - order.axis].count
        self.block = self.inner * len(rows.expansion.bases)  # unknowns in a strip
        # Rows sorted by the strip they begin in, per term.
        self.sorted = [np.argsort(first, kind="stable") for first, _ in self.spans]
        self.begins = [
            np.searchsorted(first[by], np.arange(self.count + 1))
            for (first, _), by in zip(self.spans, self.sorted, strict=True)
        ]

    def solve(self) -> tuple[Tensor, float]:
        """The weights in the order of the expansion, and the norm of what is left."""
        b = self.block
        carried = torch.zeros(0, 1, dtype=torch.float64)
        triangle = []
        norms = self._column_norms()
        for k in range(self.count):
            matrix = self._stack(k, carried, norms)
            r = torch.geqrf(matrix)[0][: min(matrix.shape)].triu_() if len(matrix) > 1 else matrix
            triangle.append(r[:b])
            carried = r[b:, b:]
        remainder = float(torch.linalg.vector_norm(carried))
        x = torch.zeros(self.count * b, dtype=torch.float64)
        for k in range(self.count - 1, -1, -1):
            r = triangle[k]
            later = x[(k + 1) * b : k * b + r.shape[1] - 1]
            right = r[:, -1] - r[:, b:-1] @ later
            x[k * b : (k + 1) * b] = torch.linalg.solve_triangular(r[:, :b], right[:, None], upper=True)[:, 0]
        # [strip, field, inner] -> [field, first axis, second axis]
        fields = len(self.rows.expansion.bases)
        weights = x.reshape(self.count, fields, self.inner)[torch.as_tensor(self.place)].movedim(1, 0)
        if self.axis == 1:
            weights = weights.transpose(1, 2)
        return weights.reshape(-1).clone(), remainder

    def _stack(self, k, carried, norms):
        """`[rows, width + 1]`: rows that begin in strip k, those carried, and the small ones; right side last."""
        b = self.block
        chosen = [by[at[k] : at[k + 1]] for by, at in zip(self.sorted, self.begins, strict=True)]
        width = max(carried.shape[1] - 1, b)
        for (_, last), rows in zip(self.spans, chosen, strict=True):
            if len(rows):
                width = max(width, (int(last[rows].max()) - k + 1) * b)
        new = sum(len(rows) for rows in chosen)
        matrix = np.zeros((len(carried) + new + b, width + 1))
        matrix[: len(carried), : carried.shape[1] - 1] = carried[:, :-1]
        matrix[: len(carried), -1] = carried[:, -1]
        start = len(carried)
        for pieces, target, rows in zip(self.rows.terms, self.rows.targets, chosen, strict=True):
            if not len(rows):
                continue
            here = np.arange(start, start + len(rows))[:, None, None]
            for piece in pieces:
                strip, inner = piece.columns[self.axis][rows], piece.columns[1 - self.axis][rows]
                columns = (self.place[strip] - k)[:, :, None] * b + piece.field * self.inner + inner[:, None, :]
                values = piece.values[rows] if self.axis == 0 else piece.values[rows].transpose(0, 2, 1)
                matrix[here, columns] += values
            matrix[start : start + len(rows), -1] = target[rows]
            start += len(rows)
        matrix[np.arange(start, start + b), np.arange(b)] = FLOOR * norms[k * b : (k + 1) * b]
        return torch.as_tensor(matrix)

    def _column_norms(self):
        squares = np.zeros(self.count * self.block)
        for pieces in self.rows.terms:
            for piece in pieces:
                strip, inner = self.place[piece.columns[self.axis]], piece.columns[1 - self.axis]
                columns = strip[:, :, None] * self.block + piece.field * self.inner + inner[:, None, :]
                values = piece.values if self.axis == 0 else piece.values.transpose(0, 2, 1)
                squares += np.bincount(columns.ravel(), np.square(values).ravel(), len(squares))
        return np.sqrt(np.where(squares > 0, squares, squares.max()))


def local_table(spline: Spline, x: np.ndarray, highest: int) -> tuple[list[np.ndarray], np.ndarray]:
    """([the splines that do not vanish at x and their derivatives 1..highest, each `[n, p + 1]`], their numbers)."""
    places, back = np.unique(np.clip(x, -1.0, 1.0), return_inverse=True)
    cell = np.clip(np.searchsorted(spline.knots, places, side="right") - 1, 0, len(spline.knots) - 2)
    columns = cell[:, None] + np.arange(spline.degree + 1)
    if spline.periodic:
        columns %= spline.count
    tables = spline.table(torch.as_tensor(places), spline.count, highest)
    return [np.take_along_axis(t.numpy(), columns, axis=1)[back] for t in tables], columns[back]
