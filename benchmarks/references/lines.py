"""Systems $w_t = F(x, w, w_x, w_{xx})$ on an interval by the method of lines: Chebyshev points and DOP853 in time.

The boundary values follow from two linear conditions $\\alpha w + \\beta w_x = \\gamma$ for each field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.integrate import solve_ivp

Fields = np.ndarray  # [fields, points]


def solve(
    right_side: Callable[[np.ndarray, Fields, Fields, Fields], Fields],
    start: Callable[[np.ndarray], Fields],
    ends: Sequence[Sequence[tuple[float, float, float]]],
    interval: tuple[float, float],
    duration: float,
    points: int = 32,
    tolerance: float = 1e-11,
) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]]:
    """The fields at scattered points (t, x).

    Args:
        right_side: F of x `[n]`, the fields and their first and second derivatives `[fields, n]`.
        start: the fields at t = 0.
        ends: for each field $(\\alpha, \\beta, \\gamma)$ at the lower and at the upper end.
        interval: the ends of the x axis.
        duration: end of the time axis, which begins at 0.
        points: Chebyshev points.
        tolerance: relative and absolute, of the time integration.
    """
    low, high = interval
    angle = np.pi * np.arange(points) / (points - 1)
    x = (low + high) / 2 - (high - low) / 2 * np.cos(angle)
    weights = np.where(np.isin(np.arange(points), (0, points - 1)), 0.5, 1.0) * (-1.0) ** np.arange(points)
    D = _differentiation(x, weights)
    D2 = D @ D

    def complete(inner):
        w = np.zeros((len(ends), points))
        w[:, 1:-1] = inner.reshape(len(ends), -1)
        for field, conditions in zip(w, ends):
            rows = np.array([a * np.eye(points)[i] + b * D[i] for (a, b, _), i in zip(conditions, (0, -1))])
            field[[0, -1]] = np.linalg.solve(rows[:, [0, -1]], [c for *_, c in conditions] - rows @ field)
        return w

    def rate(t, inner):
        w = complete(inner)
        return right_side(x, w, w @ D.T, w @ D2.T)[:, 1:-1].ravel()

    run = solve_ivp(
        rate,
        (0, duration),
        start(x)[:, 1:-1].ravel(),
        "DOP853",
        dense_output=True,
        rtol=tolerance,
        atol=tolerance,
        first_step=1e-6 * duration,  # the automatic first step ignores stiffness and overflows
    )
    if not run.success:
        raise ArithmeticError(run.message)

    def evaluate(t, place):
        t, place = (np.ravel(a).astype(float) for a in np.broadcast_arrays(t, place))
        inner = run.sol(t).T
        values = np.array([complete(row) for row in inner])  # [n, fields, points]
        distance = place[:, None] - x
        exact = distance == 0
        pull = weights / np.where(exact, 1.0, distance)
        pull = np.where(exact.any(axis=1, keepdims=True), exact.astype(float), pull)
        return tuple(np.einsum("nfp,np->fn", values, pull) / pull.sum(axis=1))

    return evaluate


def brusselator(**options):
    """(u, v) of `examples/problems/reaction_diffusion.py`."""

    def right_side(x, w, _, bent):
        u, v = w
        return np.array([1 + u**2 * v - 4 * u, 3 * u - u**2 * v]) + bent / 50

    def start(x):
        return np.array([1 + np.sin(2 * np.pi * x), 3 + 0 * x])

    ends = [[(1, 0, 1), (1, 0, 1)], [(1, 0, 3), (1, 0, 3)]]
    return solve(right_side, start, ends, (0, 1), 5, **options)


def drift_diffusion(**options):
    """(c,) of `examples/problems/drift_diffusion.py`."""

    def right_side(x, w, slope, bent):
        a, b = (1 + x) / 10, np.cos(np.pi * x)
        return a * bent + slope / 10 - b * slope + np.pi * np.sin(np.pi * x) * w

    ends = [[(1, -0.1, 0), (-1, -0.2, 0)]]  # b c - a c_x
    return solve(right_side, lambda x: np.sin(np.pi * x)[None] ** 2, ends, (0, 1), 1, **options)


def _differentiation(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    difference = x[:, None] - x + np.eye(len(x))
    D = weights / weights[:, None] / difference
    D -= np.diag(D.sum(axis=1))  # rows of a differentiation matrix sum to 0
    return D
