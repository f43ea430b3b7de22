"""Functions of one scaled variable, of which products are made: splines, Chebyshev polynomials and waves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor


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

    def neighbours(self, x: Tensor) -> np.ndarray:
        """`[n, degree + 1]`: which splines are not zero at x."""
        piece = np.clip(np.searchsorted(self.knots, x.numpy(), side="right") - 1, 0, len(self.knots) - 2)
        return (piece[:, None] + np.arange(self.degree + 1)) % self.count

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
