"""Values at scattered points of functions stored as coefficients of products of two bases, at equally spaced times."""

from __future__ import annotations

import numpy as np

from benchmarks.references.periodic import interpolation_rows


def tensor_values(
    coefficients: np.ndarray, step: float, t: np.ndarray, left: np.ndarray, right: np.ndarray, points: int = 8
) -> np.ndarray:
    """$\\sum_{ab} c_{ab}(t) left_a right_b$ at n points, with a polynomial through `points` stored times around each t.

    Args:
        coefficients: `[times, a, b]`.
        step: time between two rows.
        t: `[n]`.
        left: `[n, a]`, the first basis at each point; `right`: `[n, b]`.
    """
    rows, weights = interpolation_rows(t, step, len(coefficients), points)
    out = np.zeros(t.size, np.result_type(coefficients, left, right))
    for row in np.unique(rows):
        where, column = np.nonzero(rows == row)
        values = np.einsum("nb,nb->n", left[where] @ coefficients[row], right[where])
        np.add.at(out, where, weights[where, column] * values)
    return out


def waves(x: np.ndarray, low: float, length: float, n: int) -> np.ndarray:
    """$e^{i k (x - low)}$ `[points, n]` in the order of `np.fft.fftfreq`; the Nyquist wave is 0."""
    k = np.fft.fftfreq(n, 1 / n)
    out = np.exp(2j * np.pi / length * np.outer(x - low, k))
    out[:, n // 2] = 0
    return out
