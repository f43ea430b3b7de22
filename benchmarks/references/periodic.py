"""Periodic problems in Fourier modes: exponential integrator of order 4, and values between the stored points.

`integrate` solves $u_t = L u + N(u)$ with a diagonal L; `History` evaluates a stored solution anywhere. Used by
all references on periodic axes; `planar` does the same for two space dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class History:
    """A periodic function of x, by its Fourier coefficients at equally spaced times from 0.

    Attributes:
        coefficients: complex `[times, modes]`, of `np.fft.fft` divided by the number of points (the Nyquist mode
            absent).
        wavenumbers: `[modes]`, in radians per length.
        step: time between two rows.
        low: where the axis begins, the phase origin.
    """

    coefficients: np.ndarray
    wavenumbers: np.ndarray
    step: float
    low: float

    def __call__(self, t: np.ndarray, x: np.ndarray, points: int = 10) -> np.ndarray:
        """Complex values `[n]` at scattered times and places `[n]`: Fourier sum in x, polynomial of `points` in t."""
        t, x = np.broadcast_arrays(np.asarray(t, float), np.asarray(x, float))
        out = np.zeros(t.size, complex)
        for part in np.array_split(np.arange(t.size), max(1, t.size * self.wavenumbers.size // 2_000_000 + 1)):
            rows, weights = interpolation_rows(t.ravel()[part], self.step, len(self.coefficients), points)
            waves = np.exp(1j * np.outer(x.ravel()[part] - self.low, self.wavenumbers))
            for row, weight in zip(rows.T, weights.T, strict=True):
                out[part] += weight * np.einsum("nk,nk->n", waves, self.coefficients[row])
        return out.reshape(t.shape)


def interpolation_rows(t: np.ndarray, step: float, rows: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and weights `[n, points]` of the polynomial through the stored times around each t (Lagrange)."""
    points = min(points, rows)
    position = t / step
    first = np.clip(np.floor(position).astype(int) - points // 2 + 1, 0, rows - points)
    offset = (position - first)[:, None]
    index = np.arange(points)
    weights = np.ones((t.size, points))
    for j in range(points):
        for m in index[index != j]:
            weights[:, j] *= (offset[:, 0] - m) / (j - m)
    return first[:, None] + index, weights


def integrate(
    linear: np.ndarray,
    nonlinear: Callable[[np.ndarray, float], np.ndarray],
    start: np.ndarray,
    duration: float,
    steps: int,
    keep: int,
) -> np.ndarray:
    """Coefficients `[keep + 1, ...]` at equally spaced times from 0 of $v' = L v + N(v, t)$, by ETDRK4.

    The coefficients of the scheme are means over a circle of 32 points around each $h L$, which avoids the cancellation
    of the closed formulas.

    Source: Kassam & Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214.
    """
    if steps % keep:
        raise ValueError(f"`steps` is {steps}, not a multiple of `keep`, {keep}")
    h = duration / steps
    z = h * linear[..., None] + np.exp(2j * np.pi * (np.arange(32) + 0.5) / 32)
    E, E2 = np.exp(h * linear), np.exp(h * linear / 2)
    Q = h * np.mean((np.exp(z / 2) - 1) / z, axis=-1)
    f1 = h * np.mean((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3, axis=-1)
    f2 = h * np.mean((2 + z + np.exp(z) * (z - 2)) / z**3, axis=-1)
    f3 = h * np.mean((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3, axis=-1)
    if np.isrealobj(linear):
        Q, f1, f2, f3 = Q.real, f1.real, f2.real, f3.real

    v, stored = start, [start]
    for i in range(1, steps + 1):
        t = (i - 1) * h
        Nv = nonlinear(v, t)
        a = E2 * v + Q * Nv
        Na = nonlinear(a, t + h / 2)
        b = E2 * v + Q * Na
        Nb = nonlinear(b, t + h / 2)
        c = E2 * a + Q * (2 * Nb - Nv)
        v = E * v + Nv * f1 + 2 * (Na + Nb) * f2 + nonlinear(c, t + h) * f3
        if i % (steps // keep) == 0:
            stored.append(v)
    return np.array(stored)


def real_history(coefficients: np.ndarray, length: float, low: float, step: float) -> History:
    """The history of a real function from the `np.fft.rfft` coefficients `[times, n/2 + 1]` of n points."""
    n = 2 * (coefficients.shape[1] - 1)
    half = coefficients[:, :-1] / n
    half[:, 1:] *= 2  # the real part of the sum is taken by the caller
    return History(half, 2 * np.pi / length * np.arange(n // 2), step, low)


def dealias(n: int) -> np.ndarray:
    """1 for the `rfft` modes below two thirds of the highest of n points, else 0."""
    return (np.arange(n // 2 + 1) < n // 3).astype(float)
