"""Feature bases on the scaled box [-1, 1]^D: random ridge functions, and products of polynomials and waves.

A basis is a fixed, finite set of functions phi_1 ... phi_N with all their partial derivatives in closed form. It knows
nothing of a problem; `expansion.py` attaches it to fields and to problem units.

Sources: Dong & Li, local extreme learning machines, 2012.02895 (ridge features with least squares); Trefethen,
multivariate polynomial approximation in the hypercube, 1608.02216 (Euclidean degree).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from pinnflow.trial.axes import TABLES, Spline

Orders = tuple[int, ...]


class Basis(Protocol):
    """What every basis offers. Points are scaled, `[n, D]`; `orders` holds one order of differentiation per column."""

    kind: str
    size: int

    def accumulate(self, out: Tensor, points: Tensor, items: Sequence[tuple[Tensor, Orders]]) -> None:
        """out[n, N] += sum over items of coefficient * D^orders phi(points); a coefficient is `[n]` or 0-d."""

    def combine(self, points: Tensor, wanted: Sequence[Orders], weights: Tensor) -> list[Tensor]:
        """[D^orders phi(points) @ weights for orders in wanted]: each `[n]`, or `[n, k]` for weights `[N, k]`."""

    def restrict(self, kept: Sequence[bool]) -> Basis:
        """The basis for a field that depends on the kept columns only."""

    def state(self) -> dict: ...


@dataclass(frozen=True)
class Ridge:
    """phi_j(x) = f(w_j . x + b_j) with f = sin or tanh.

    Attributes:
        function: `"sin"` or `"tanh"`.
        weights: `[D, N]`.
        offsets: `[N]`.
    """

    function: str
    weights: Tensor
    offsets: Tensor
    kind = "ridge"

    @property
    def size(self) -> int:
        return self.weights.shape[1]

    def accumulate(self, out, points, items):
        argument = torch.addmm(self.offsets, points, self.weights)
        by_order: dict[int, list] = {}
        for coefficient, orders in items:
            by_order.setdefault(sum(orders), []).append((coefficient, orders))
        derivatives = ridge_derivatives(self.function, argument, sorted(by_order))
        for order, group in by_order.items():
            value = derivatives[order]  # f^(k)(w.x + b), [n, N]
            constant = [(c, o) for c, o in group if c.ndim == 0]
            if constant:
                factor = sum(c * self._powers(o) for c, o in constant)
                out.addcmul_(value, factor.expand_as(value))
            for c, o in group:
                if c.ndim:
                    out.addcmul_(value * c[:, None], self._powers(o).expand_as(value))

    def combine(self, points, wanted, weights):
        argument = torch.addmm(self.offsets, points, self.weights)
        derivatives = ridge_derivatives(self.function, argument, sorted({sum(o) for o in wanted}))
        shape = (-1,) + (1,) * (weights.ndim - 1)
        return [derivatives[sum(o)] @ (self._powers(o).reshape(shape) * weights) for o in wanted]

    def _powers(self, orders):
        result = torch.ones_like(self.offsets)
        for column, order in enumerate(orders):
            if order:
                result = result * self.weights[column] ** order
        return result

    def restrict(self, kept):
        mask = torch.as_tensor([[bool(k)] for k in kept])
        return Ridge(self.function, torch.where(mask, self.weights, 0.0), self.offsets)

    def state(self):
        return {
            "kind": self.kind,
            "function": self.function,
            "weights": self.weights.numpy(),
            "offsets": self.offsets.numpy(),
        }

    @classmethod
    def from_state(cls, state):
        return cls(state["function"], torch.as_tensor(state["weights"]), torch.as_tensor(state["offsets"]))


def ridge_derivatives(function: str, argument: Tensor, orders: Sequence[int]) -> dict[int, Tensor]:
    """{k: f^(k)(argument)} for f = sin or tanh."""
    if function == "sin":
        sine = torch.sin(argument) if any(k % 2 == 0 for k in orders) else None
        cosine = torch.cos(argument) if any(k % 2 == 1 for k in orders) else None
        return {
            k: (sine, cosine, -sine if sine is not None else None, -cosine if cosine is not None else None)[k % 4]
            for k in orders
        }
    t = torch.tanh(argument)
    return {k: _horner(_tanh_polynomial(k), t) for k in orders}


def _tanh_polynomial(order):
    """Coefficients (ascending, in t = tanh) of the order-th derivative: p_{k+1} = p_k'(t) (1 - t^2)."""
    p = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(order):
        p = p.deriv() * np.polynomial.Polynomial([1.0, 0.0, -1.0])
    return p.coef


def _horner(coefficients, t):
    result = torch.full_like(t, float(coefficients[-1]))
    for c in coefficients[-2::-1]:
        result.mul_(t)
        if c:
            result.add_(float(c))
    return result


@dataclass(frozen=True)
class Product:
    """phi_j(x) = product over axes of a one-dimensional function: Chebyshev polynomials, waves or splines.

    Attributes:
        axes: per column `"chebyshev"` (T_k), `"fourier"` (1, cos pi x, sin pi x, cos 2 pi x, ...), or `Spline`.
        indices: `[N, D]`, the index of the one-dimensional function per axis.
    """

    axes: tuple[str | Spline, ...]
    indices: Tensor
    kind = "product"

    @property
    def size(self) -> int:
        return self.indices.shape[0]

    def accumulate(self, out, points, items):
        tables = self.tables(points, [orders for _, orders in items])
        for coefficient, orders in items:
            term = self._gather(tables, orders)
            out.addcmul_(
                term, coefficient.expand_as(term) if coefficient.ndim == 0 else coefficient[:, None].expand_as(term)
            )

    def combine(self, points, wanted, weights):
        tables = self.tables(points, wanted)
        if self.grid is not None:
            return [self._contract(tables, orders, weights) for orders in wanted]
        return [self._gather(tables, orders) @ weights for orders in wanted]

    def _contract(self, tables, orders, weights):
        """One axis after the other: n N operations in the first and less in the rest, without a matrix [n, N]."""
        result = tables[0][orders[0]] @ weights.reshape(self._counts[0], -1)
        for table, order, count in zip(tables[1:], orders[1:], self._counts[1:], strict=True):
            result = torch.einsum("nj,njk->nk", table[order], result.reshape(len(result), count, -1))
        return result if weights.ndim > 1 else result[:, 0]

    def local_rows(self, points: Tensor, orders: Sequence[Orders], plane: tuple[int, int]) -> list | None:
        """Per order the sparse matrix `[n, N]` of derivatives, where splines along two columns make the grid."""
        first, second = (self.axes[i] for i in plane)
        if not (isinstance(first, Spline) and isinstance(second, Spline)):
            return None
        tables = self.tables(points, orders)
        left, right = first.neighbours(points[:, plane[0]]), second.neighbours(points[:, plane[1]])
        columns = (left[:, :, None] * second.count + right[:, None, :]).ravel()
        starts = np.arange(len(points) + 1) * (left.shape[1] * right.shape[1])
        result = []
        for o in orders:
            one = np.take_along_axis(tables[plane[0]][o[plane[0]]].numpy(), left, axis=1)
            other = np.take_along_axis(tables[plane[1]][o[plane[1]]].numpy(), right, axis=1)
            values = (one[:, :, None] * other[:, None, :]).ravel()
            result.append(csr_matrix((values, columns, starts), (len(points), self.size)))
        return result

    @cached_property
    def _counts(self):
        return (self.indices.max(dim=0).values + 1).tolist()

    @cached_property
    def grid(self) -> tuple[int, ...] | None:
        """Functions per column if all their products are there, the last column running fastest; else None."""
        if self.size != math.prod(self._counts):
            return None
        whole = torch.cartesian_prod(*(torch.arange(n) for n in self._counts)).reshape(-1, len(self._counts))
        return tuple(self._counts) if torch.equal(whole, self.indices) else None

    def tables(self, points: Tensor, wanted: Sequence[Orders]) -> list[list[Tensor]]:
        """Per column [the one-dimensional functions and their derivatives, up to the highest wanted: `[n, count]`]."""
        counts = self._counts
        tables = []
        for column, family in enumerate(self.axes):
            highest = max(orders[column] for orders in wanted)
            table = family.table if isinstance(family, Spline) else TABLES[family]
            tables.append(table(points[:, column], counts[column], highest))
        return tables

    def _gather(self, tables, orders):
        result = None
        for column, order in enumerate(orders):
            table = tables[column][order]
            if table.shape[1] == 1 and order == 0:
                continue  # a constant along this axis
            factor = table[:, self.indices[:, column]]
            result = factor if result is None else result.mul_(factor)
        return torch.ones(tables[0][0].shape[0], self.size, dtype=torch.float64) if result is None else result

    def restrict(self, kept):
        mask = torch.as_tensor([not bool(k) for k in kept])
        rows = (self.indices[:, mask] == 0).all(dim=1)
        # Index 0 is the constant of polynomials and waves; splines have none, so a polynomial takes their place.
        axes = tuple(
            "chebyshev" if isinstance(a, Spline) and not k else a for a, k in zip(self.axes, kept, strict=True)
        )
        return Product(axes, self.indices[rows])

    def state(self):
        axes = [
            {"degree": a.degree, "knots": a.knots, "periodic": a.periodic} if isinstance(a, Spline) else a
            for a in self.axes
        ]
        return {"kind": self.kind, "axes": axes, "indices": self.indices.numpy()}

    @classmethod
    def from_state(cls, state):
        axes = tuple(
            a if isinstance(a, str) else Spline(int(a["degree"]), np.asarray(a["knots"]), bool(a["periodic"]))
            for a in state["axes"]
        )
        return cls(axes, torch.as_tensor(state["indices"]))


@dataclass(frozen=True, eq=False)
class Combination:
    """phi_j = sum_i C_ji psi_i: a few combinations of many functions.

    Attributes:
        basis: the functions psi, M of them.
        matrix: C, `[N, M]`.
    """

    basis: Product
    matrix: Tensor
    kind = "combination"

    @property
    def size(self) -> int:
        return self.matrix.shape[0]

    def accumulate(self, out, points, items):
        for coefficient, orders in items:
            (values,) = self.basis.combine(points, [orders], self.matrix.T)
            out += (coefficient[:, None] if coefficient.ndim else coefficient) * values

    def combine(self, points, wanted, weights):
        return self.basis.combine(points, wanted, self.matrix.T @ weights)

    def restrict(self, kept):
        if not all(kept):
            raise ValueError("a combination keeps all columns of its functions")
        return self

    def state(self):
        return {"kind": self.kind, "basis": self.basis.state(), "matrix": self.matrix.numpy()}

    @classmethod
    def from_state(cls, state):
        return cls(Product.from_state(state["basis"]), torch.as_tensor(state["matrix"]))


BASES: dict[str, type] = {"ridge": Ridge, "product": Product, "combination": Combination}


def restore_basis(state: dict) -> Basis:
    """The basis that wrote `state`."""
    return BASES[state["kind"]].from_state(state)


def draw_basis(
    family: str, slopes: Sequence[float], size: int, periodic: Sequence[bool], rng: np.random.Generator
) -> Basis:
    """A basis of about `size` functions whose typical slope along column i is `slopes[i]`, on the scaled box.

    Args:
        family: `"sin"`, `"tanh"` or `"chebyshev"`.
        slopes: `[D]`; for `"chebyshev"` only their ratios matter (degree per axis).
        size: number of functions, met exactly by ridges and approximately by products.
        periodic: `[D]`; along a periodic column every function has period 2.
        rng: source of randomness, owned by the caller.
    """
    slopes = np.asarray(slopes, dtype=float)
    if family == "chebyshev":
        return Product(
            tuple("fourier" if p else "chebyshev" for p in periodic),
            torch.as_tensor(product_indices(slopes, size, periodic)),
        )
    dimension = len(slopes)
    if family == "sin" or any(periodic):
        weights = rng.normal(size=(dimension, size)) * slopes[:, None]
        for column, is_periodic in enumerate(periodic):
            if is_periodic:
                weights[column] = np.pi * np.round(weights[column] / np.pi)
        return Ridge("sin", torch.as_tensor(weights), torch.as_tensor(rng.uniform(0, 2 * np.pi, size)))
    direction = rng.normal(size=(dimension, size))
    direction /= np.linalg.norm(direction, axis=0)
    weights = direction * 10 ** rng.uniform(-0.8, 0.3, size) * slopes[:, None]
    centres = rng.uniform(-1.15, 1.15, size=(dimension, size))
    return Ridge("tanh", torch.as_tensor(weights), torch.as_tensor(-(weights * centres).sum(axis=0)))


def product_indices(slopes: np.ndarray, size: int, periodic: Sequence[bool]) -> np.ndarray:
    """[N, D] indices inside the ellipsoid sum (k_i / p_i)^2 <= 1 with p proportional to `slopes`, N close to `size`."""
    shape = slopes / np.exp(np.mean(np.log(slopes)))
    # A wave of frequency m carries two functions, so its index counts half.
    cost = np.where(np.asarray(periodic), 2.0 / np.pi, 1.0)

    def within(radius):
        limits = [int(np.floor(radius * s / c)) for s, c in zip(shape, cost, strict=True)]
        grid = np.stack(np.meshgrid(*(np.arange(limit + 1) for limit in limits), indexing="ij"), -1).reshape(
            -1, dimension
        )
        degree = np.where(np.asarray(periodic), (grid + 1) // 2 * 2, grid) * cost
        return grid[((degree / (radius * shape)) ** 2).sum(axis=1) <= 1 + 1e-12]

    dimension = len(slopes)
    low, high = 0.5, size + 1.0 if dimension == 1 else 4.0 * size ** (1 / dimension) + 4
    for _ in range(24):
        middle = (low + high) / 2
        if len(within(middle)) > size:
            high = middle
        else:
            low = middle
        if high - low < 0.01:
            break
    return within(low) if len(within(low)) else np.zeros((1, dimension), dtype=np.int64)
