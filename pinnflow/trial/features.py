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
from scipy.interpolate import BSpline
from torch import Tensor

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
class Spline:
    """B-splines of one degree on given knots: smooth piecewise polynomials that can be fine where a layer is.

    Attributes:
        degree: of the polynomial pieces; the pieces join with `degree - 1` derivatives.
        knots: `[k]`, increasing from -1 to 1, ends included once.
        periodic: the functions continue smoothly across the ends; needs more pieces than `degree`.
    """

    degree: int
    knots: np.ndarray
    periodic: bool = False

    @property
    def count(self) -> int:
        return len(self.knots) - 1 if self.periodic else len(self.knots) + self.degree - 1

    def table(self, x: Tensor, count: int, highest: int) -> list[Tensor]:
        """[all splines and their derivatives 1..highest at x]: each `[n, count]`."""
        places = np.clip(x.numpy(), -1.0, 1.0)
        if self.periodic:
            pieces = len(self.knots) - 1
            before, after = self.knots[-1 - self.degree : -1] - 2.0, self.knots[1 : self.degree + 1] + 2.0
            padded = np.concatenate([before, self.knots, after])
            select = np.eye(pieces)[np.arange(pieces + self.degree) % pieces]  # the last wrap onto the first
        else:
            padded = np.concatenate([[-1.0] * self.degree, self.knots, [1.0] * self.degree])
            select = np.eye(self.count)
        splines = BSpline(padded, select[:, :count], self.degree)
        return [torch.as_tensor(splines(places, nu=m)) for m in range(highest + 1)]


def chebyshev_table(x: Tensor, count: int, highest: int) -> list[Tensor]:
    """[T_0 ... T_{count-1} and their derivatives 1..highest at x]: each `[n, count]`, by the three-term recurrence.

    Differentiating T_{k+1} = 2 x T_k - T_{k-1} m times gives T_{k+1}^(m) = 2 x T_k^(m) + 2 m T_k^(m-1) - T_{k-1}^(m).
    """
    tables = [torch.zeros(count, len(x), dtype=x.dtype) for _ in range(highest + 1)]
    for m, table in enumerate(tables):
        table[0] = 1.0 if m == 0 else 0.0
        if count > 1:
            table[1] = x if m == 0 else (1.0 if m == 1 else 0.0)
        for k in range(1, count - 1):
            table[k + 1] = 2 * x * table[k] - table[k - 1]
            if m:
                table[k + 1] += 2 * m * tables[m - 1][k]
    return [table.T for table in tables]


def fourier_table(x: Tensor, count: int, highest: int) -> list[Tensor]:
    """[1, cos pi x, sin pi x, cos 2 pi x, ... and derivatives 1..highest]: each `[n, count]`."""
    index = torch.arange(count)
    frequency = torch.pi * ((index + 1) // 2).to(x.dtype)
    # cos(a) is sin(a + pi/2): one formula for both, differentiated by shifting the phase by pi/2.
    phase = torch.where(index % 2 == 0, 0.0, torch.pi / 2).to(x.dtype)
    phase[0] = torch.pi / 2
    angle = x[:, None] * frequency
    return [torch.sin(angle + phase + m * torch.pi / 2) * frequency**m for m in range(highest + 1)]


TABLES = {"chebyshev": chebyshev_table, "fourier": fourier_table}
BASES: dict[str, type] = {"ridge": Ridge, "product": Product}


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
