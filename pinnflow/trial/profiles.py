r"""Travelling profiles: d'Alembert's solution of homogeneous hyperbolic equations in two coordinates.

Where every term has the same order m, the relation factors into lines, and every $f(n \cdot x)$ with $P(n) = 0$ is a
solution: $f(x - ct)$ and $g(x + ct)$ for the wave equation. Each profile is a polynomial on every piece between
*breaks*: the lines through the corners of the box and their reflections, where data that do not meet leave a jump or a
kink. Between them a solution is as smooth as its data.

Source: Courant & Hilbert, Methods of Mathematical Physics II (1962), ch. V; d'Alembert's formula with reflections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pinnflow.trial.axes import chebyshev_table
from pinnflow.trial.characteristic import Relation
from pinnflow.trial.features import BASES

MOST_BREAKS = 80
SAME = 1e-9  # breaks closer than this, on the scaled box, are one


class NoProfiles(ValueError):
    """The equations have no travelling profiles; the message says why."""


@dataclass(frozen=True)
class Profiles:
    """v f(n . x): Chebyshev polynomials T_0 ... T_degree of n . x on every piece between breaks.

    Attributes:
        direction: `[D]`, n.
        breaks: `[pieces + 1]`, increasing.
        degree: of the polynomials.
        amplitude: v, the share of this field in the profile.
    """

    direction: Tensor
    breaks: Tensor
    degree: int
    amplitude: float
    kind = "profiles"

    @property
    def size(self) -> int:
        return (len(self.breaks) - 1) * (self.degree + 1)

    def _table(self, points, orders):
        """(columns `[n, degree + 1]`, {k: k-th derivatives there} for the orders)."""
        place = points @ self.direction
        piece = torch.clamp(
            torch.searchsorted(self.breaks, place.contiguous(), right=True) - 1, 0, len(self.breaks) - 2
        )
        low, high = self.breaks[piece], self.breaks[piece + 1]
        local = torch.clamp(2 * (place - low) / (high - low) - 1, -1.0, 1.0)
        tables = chebyshev_table(local, self.degree + 1, max(orders))
        stretch = 2 / (high - low)[:, None]
        columns = piece[:, None] * (self.degree + 1) + torch.arange(self.degree + 1)
        return columns, {k: tables[k] * stretch**k for k in orders}

    def _factor(self, orders):
        return self.amplitude * torch.prod(self.direction ** torch.as_tensor(orders))

    def accumulate(self, out, points, items):
        columns, tables = self._table(points, {sum(o) for _, o in items})
        for coefficient, orders in items:
            factor = coefficient * self._factor(orders)
            value = tables[sum(orders)] * (factor[:, None] if factor.ndim else factor)
            out.scatter_add_(1, columns, value)

    def combine(self, points, wanted, weights):
        columns, tables = self._table(points, {sum(o) for o in wanted})
        gathered = weights[columns]  # [n, degree + 1] or [n, degree + 1, k]
        shape = (-1, self.degree + 1) + (1,) * (weights.ndim - 1)
        return [self._factor(o) * (tables[sum(o)].reshape(shape) * gathered).sum(dim=1) for o in wanted]

    def restrict(self, kept):
        if all(kept):
            return self
        raise ValueError("exact features depend on all columns")

    def jumps(self) -> Tensor:
        """[pieces - 1, size]: the jump of the profile at every inner break, for weights of the functions."""
        count, terms = len(self.breaks) - 2, self.degree + 1
        rows = torch.zeros(max(count, 0), self.size, dtype=torch.float64)
        alternating = (-1.0) ** torch.arange(terms, dtype=torch.float64)
        for i in range(count):
            rows[i, i * terms : (i + 1) * terms] = -1.0
            rows[i, (i + 1) * terms : (i + 2) * terms] = alternating
        return rows

    def state(self):
        return {
            "kind": self.kind,
            "direction": self.direction.numpy(),
            "breaks": self.breaks.numpy(),
            "degree": self.degree,
            "amplitude": self.amplitude,
        }

    @classmethod
    def from_state(cls, state):
        return cls(
            torch.as_tensor(state["direction"]),
            torch.as_tensor(state["breaks"]),
            int(state["degree"]),
            float(state["amplitude"]),
        )


BASES["profiles"] = Profiles


@dataclass(frozen=True)
class Families:
    """The directions of an equation's profiles with the breaks along each.

    Attributes:
        directions: `[m, 2]`, on the scaled box.
        amplitudes: `[m, fields]`.
        breaks: per direction, increasing.
    """

    directions: np.ndarray
    amplitudes: np.ndarray
    breaks: tuple[np.ndarray, ...]

    def draw(self, size: int) -> list[list[Profiles]]:
        """Per field, per family: profiles with about `size` functions in all."""
        pieces = sum(len(b) - 1 for b in self.breaks)
        degree = max(3, round(size / pieces) - 1)
        return [
            [
                Profiles(torch.as_tensor(n), torch.as_tensor(b), degree, float(v[f]))
                for n, b, v in zip(self.directions, self.breaks, self.amplitudes, strict=True)
            ]
            for f in range(self.amplitudes.shape[1])
        ]


def find_families(relation: Relation, time: int | None, kinks: Sequence[np.ndarray] = ()) -> Families:
    """The profiles of an equation in two columns.

    Args:
        relation: the characteristic relation on the scaled box.
        time: the time column, from whose low end corners send their breaks forward; without one all corners do.
        kinks: points `[2]` of the scaled box's boundary where data break, and send breaks as corners do.

    Raises:
        NoProfiles: another number of columns, terms of different order, directions that are complex or coincide.
    """
    operator = relation.operator
    if len(relation.half) != 2:
        raise NoProfiles(f"profiles need two coordinates, and there are {len(relation.half)}")
    if any(len({sum(o) for (_, o) in equation}) != 1 for equation in operator.coefficients):
        raise NoProfiles("the terms have different orders")
    degree = {sum(o) for o in relation.determinant}
    if len(degree) != 1:
        raise NoProfiles("the terms have different orders")
    (m,) = degree
    # Along (s, 1); the roots that are missing lie at infinity, in the direction (1, 0).
    waves = relation.waves(0, np.array([[0.0, 1.0]], dtype=complex))
    if waves.amplitudes.shape[1] > 1:
        raise NoProfiles("two directions coincide")
    directions, amplitudes = list(waves.exponents), list(waves.amplitudes[:, 0])
    if relation.degree(0) == m - 1:
        other = relation.waves(1, np.array([[1.0, 0.0]], dtype=complex))
        flat = np.argmin(np.abs(other.exponents[:, 1]))
        directions.append(other.exponents[flat])
        amplitudes.append(other.amplitudes[flat, 0])
    if len(directions) != m:
        raise NoProfiles("the directions could not be told apart")
    n = np.array(directions)
    if np.abs(n.imag).max() > 1e-12 * np.abs(n).max():
        raise NoProfiles("a direction is complex: the equation is not hyperbolic")
    n = n.real / np.abs(n.real).sum(axis=1, keepdims=True)  # n . x reaches from -1 to 1 on the box
    v = np.array(amplitudes)
    v = v * np.exp(-1j * np.angle(v[np.arange(m), np.abs(v).argmax(axis=1)]))[:, None]  # real up to a factor
    if np.abs(v.imag).max() > 1e-9:
        raise NoProfiles("an amplitude is complex")
    return Families(n, v.real, trace_breaks(n, time, kinks))


def trace_breaks(directions: np.ndarray, time: int | None, kinks: Sequence[np.ndarray] = ()) -> tuple[np.ndarray, ...]:
    """Per direction the values of n . x at which a profile may break, the ends -1 and 1 included."""
    breaks: list[list[float]] = [[-1.0, 1.0] for _ in directions]
    corners = [np.array([a, b]) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    waiting = [*(c for c in corners if time is None or c[time] == -1.0), *kinks]
    while waiting and sum(map(len, breaks)) < MOST_BREAKS:
        corner = waiting.pop(0)
        for n, known in zip(directions, breaks, strict=True):
            value = float(n @ corner)
            if min(abs(value - k) for k in known) < SAME:
                continue
            known.append(value)
            # Forward in time, and not from the last moment on.
            waiting += [end for end in _ends(n, value) if time is None or corner[time] + SAME < end[time] < 1 - SAME]
    return tuple(np.sort(known) for known in breaks)


def _ends(n, value):
    """Where the line n . x = value meets the boundary of the box."""
    found = []
    for column in (0, 1):
        if abs(n[1 - column]) > SAME:
            for side in (-1.0, 1.0):
                other = (value - n[column] * side) / n[1 - column]
                if abs(other) <= 1 + SAME:
                    end = np.empty(2)
                    end[column], end[1 - column] = side, other
                    found.append(end)
    return found
