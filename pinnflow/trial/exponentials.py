"""Bases of exponentials that satisfy linear equations with constant coefficients, from their characteristic relation.

Wave numbers along all axes but one are placed on a lattice; the relation gives the exponent along the last one, real,
imaginary or complex: plane waves, evanescent waves, decaying and growing modes, each with its largest value on the box
scaled to 1. Taking several axes in turn as the last one makes the set dense.

Sources: Parolin, Huybrechs & Moiola, stable approximation of Helmholtz solutions by evanescent plane waves, 2202.05658;
Adcock & Huybrechs, Frames and numerical approximation, 1612.04464 (lattices denser than the box, with truncation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pinnflow.trial.characteristic import Relation, Waves
from pinnflow.trial.features import BASES, Basis, restore_basis


@dataclass(frozen=True)
class Exponentials:
    """Real and imaginary parts of e^(s_j . x - m_j) * sum over i of x_axis^i / i! * v_ij: N functions each.

    Attributes:
        axis: the column whose powers stand before the exponentials.
        exponents: `[D, N]`, complex.
        amplitudes: `[r, N]`, complex.
    """

    axis: int
    exponents: Tensor
    amplitudes: Tensor
    kind = "exponentials"

    @property
    def size(self) -> int:
        return 2 * self.exponents.shape[1]

    @cached_property
    def _largest(self):
        """[N] largest real part of the exponent on the box, so that no exponential exceeds 1."""
        return self.exponents.real.abs().sum(dim=0)

    def _waves(self, points):
        return torch.exp(points.to(self.exponents.dtype) @ self.exponents - self._largest)  # [n, N]

    def _polynomial(self, orders) -> list[Tensor]:
        """Factors of x_axis^i of D^orders, i < r: each `[N]`.

        d^k/dx^k (x^i/i! e^(sx)) = sum over l of C(k, l) s^(k-l) x^(i-l)/(i-l)! e^(sx).
        """
        outer = torch.ones_like(self.exponents[0])
        for column, order in enumerate(orders):
            if order and column != self.axis:
                outer = outer * self.exponents[column] ** order
        s, k, depth = self.exponents[self.axis], orders[self.axis], len(self.amplitudes)
        factors = []
        for power in range(depth):
            total = torch.zeros_like(outer)
            for i in range(power, min(depth, power + k + 1)):
                l = i - power
                total = total + math.comb(k, l) / math.factorial(power) * s ** (k - l) * self.amplitudes[i]
            factors.append(outer * total)
        return factors

    def accumulate(self, out, points, items):
        waves, x = self._waves(points), points[:, self.axis, None]
        half = self.exponents.shape[1]
        constant: list[Tensor] | None = None
        varying = []
        for coefficient, orders in items:
            factors = self._polynomial(orders)
            if coefficient.ndim:
                varying.append((coefficient[:, None], factors))
            else:
                factors = [coefficient * f for f in factors]
                constant = factors if constant is None else [a + b for a, b in zip(constant, factors, strict=True)]
        total = 0.0 if constant is None else _polynomial_at(x, constant)
        for coefficient, factors in varying:
            total = total + coefficient * _polynomial_at(x, factors)
        waves = waves * total
        out[:, :half] += waves.real
        out[:, half:] += waves.imag

    def combine(self, points, wanted, weights):
        waves, x = self._waves(points), points[:, self.axis, None]
        half = self.exponents.shape[1]
        # Re(w) a + Im(w) b = Re(w (a - i b))
        flat = torch.complex(weights[:half], -weights[half:])
        flat = flat[:, None] if flat.ndim == 1 else flat
        results = []
        for orders in wanted:
            total = 0.0
            for power, factor in enumerate(self._polynomial(orders)):
                total = total + x**power * (waves @ (factor[:, None] * flat)).real
            results.append(total[:, 0] if weights.ndim == 1 else total)
        return results

    def restrict(self, kept):
        if all(kept):
            return self
        raise ValueError("exact features depend on all columns")

    def state(self):
        return {
            "kind": self.kind,
            "axis": self.axis,
            "exponents": torch.view_as_real(self.exponents).numpy(),
            "amplitudes": torch.view_as_real(self.amplitudes).numpy(),
        }

    @classmethod
    def from_state(cls, state):
        def read(name):
            return torch.view_as_complex(torch.as_tensor(np.ascontiguousarray(state[name])))

        return cls(int(state["axis"]), read("exponents"), read("amplitudes"))


def _polynomial_at(x, factors):
    total = factors[0]
    power = x
    for factor in factors[1:]:
        total = total + power * factor
        power = power * x
    return total


@dataclass(frozen=True)
class Joined:
    """The functions of several bases as one basis."""

    parts: tuple[Basis, ...]
    kind = "joined"

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def accumulate(self, out, points, items):
        start = 0
        for part in self.parts:
            part.accumulate(out[:, start : start + part.size], points, items)
            start += part.size

    def combine(self, points, wanted, weights):
        pieces = torch.split(weights, [part.size for part in self.parts])
        values = [part.combine(points, wanted, w) for part, w in zip(self.parts, pieces, strict=True)]
        return [sum(v[1:], v[0]) for v in zip(*values, strict=True)]

    def restrict(self, kept):
        return Joined(tuple(part.restrict(kept) for part in self.parts))

    def state(self):
        return {"kind": self.kind, "parts": [part.state() for part in self.parts]}

    @classmethod
    def from_state(cls, state):
        return cls(tuple(restore_basis(s) for s in state["parts"]))


BASES["exponentials"] = Exponentials
BASES["joined"] = Joined


def draw_waves(
    relation: Relation, axes: Sequence[int], periods: Sequence[float], slopes: Sequence[float], size: int
) -> tuple[Basis, ...]:
    """Bases of about `size` functions that satisfy the equations, one basis per field, with common weights.

    Args:
        relation: the characteristic relation on the scaled box.
        axes: the columns that are solved for, in turn.
        periods: `[D]`, period of the lattice along each axis in lengths of the box: 1 is periodic, 2 holds the sines
            and cosines of homogeneous conditions, more is denser.
        slopes: `[D]`; their ratios are those of the largest wave numbers on the scaled box.
        size: number of functions, met approximately.
    """
    reach = _reach(relation, axes, periods, slopes, size)
    parts = [relation.waves(axis, _lattice(axis, periods, slopes, reach)) for axis in axes]
    parts = [p for p in parts if len(p.exponents)]
    return tuple(join([_basis(part, f) for part in parts]) for f in range(relation.operator.fields))


def join(parts: Sequence[Basis]) -> Basis:
    """One basis of all the functions."""
    return parts[0] if len(parts) == 1 else Joined(tuple(parts))


def _basis(waves: Waves, field: int) -> Exponentials:
    return Exponentials(
        waves.axis, torch.as_tensor(waves.exponents.T.copy()), torch.as_tensor(waves.amplitudes[:, :, field].T.copy())
    )


def _reach(relation, axes, periods, slopes, size):
    """The factor on `slopes` for which the lattices carry about `size` functions."""

    def count(reach):
        return sum(2 * relation.degree(a) * len(_lattice(a, periods, slopes, reach)) for a in axes)

    low, high = 0.0, 1.0
    if all(len(slopes) == 1 for _ in axes):
        return 1.0
    while count(high) < size:
        low, high = high, 2 * high
    for _ in range(20):
        middle = (low + high) / 2
        if count(middle) > size:
            high = middle
        else:
            low = middle
    return low


def _lattice(axis, periods, slopes, reach):
    """[B, D] imaginary exponents inside the ellipsoid sum (k_i / (reach slope_i))^2 <= 1, one of each pair +-k."""
    spacing = np.pi / np.asarray(periods, dtype=float)
    limits = [
        0 if i == axis else int(reach * s / h + 1e-9) for i, (s, h) in enumerate(zip(slopes, spacing, strict=True))
    ]
    grid = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in limits), indexing="ij"), -1).reshape(-1, len(limits))
    wave = grid * spacing
    inside = ((wave / (max(reach, 1e-300) * np.asarray(slopes))) ** 2).sum(axis=1) <= 1 + 1e-9
    # Real equations: the wave of -k is the conjugate of that of k.
    first = np.zeros(len(grid))
    for column in range(grid.shape[1]):
        first = np.where(first == 0, grid[:, column], first)
    return 1j * wave[inside & (first >= 0)]
