"""Systems $w_t = L w + R(x, w)$ on an interval by the method of lines at Chebyshev points.

The linear part, with its boundary conditions $\\alpha w + \\beta w_x = 0$ for the deviation from a constant rest
state, is diagonalised and solved exactly; the reaction R is integrated by ETDRK4 in the eigenvectors. Used for the
problem files in `examples/problems/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.references.periodic import integrate, interpolation_rows

Values = Callable[[np.ndarray, np.ndarray], np.ndarray]


def brusselator(points: int = 64, steps: int = 4000) -> Values:
    """(u, v) of `examples/problems/reaction_diffusion.py`, `[2, n]`."""

    def reaction(x, w):
        u, v = w
        return np.array([1 + u**2 * v - 4 * u, 3 * u - u**2 * v])

    def start(x):
        return np.array([1 + np.sin(2 * np.pi * x), 3 + 0 * x])

    fixed = ((1, 0), (1, 0))
    return solve(lambda x, D: D @ D / 50, [fixed, fixed], start, (0, 1), 5, reaction, (1, 3), points, steps)


def drift_diffusion(points: int = 96) -> Values:
    """(c,) of `examples/problems/drift_diffusion.py`, `[1, n]`."""

    def operator(x, D):
        return D @ (((1 + x) / 10)[:, None] * D - np.diag(np.cos(np.pi * x)))

    walls = ((1, -0.1), (-1, -0.2))  # b c - a c_x = 0
    return solve(operator, [walls], lambda x: np.sin(np.pi * x)[None] ** 2, (0, 1), 1, points=points)


def solve(
    operator: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ends: Sequence[Sequence[tuple[float, float]]],
    start: Callable[[np.ndarray], np.ndarray],
    interval: tuple[float, float],
    duration: float,
    reaction: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    rest: Sequence[float] = (0,),
    points: int = 64,
    steps: int = 4000,
) -> Values:
    """The fields `[fields, n]` at scattered points (t, x).

    Args:
        operator: L as a matrix from the points and the differentiation matrix.
        ends: for each field $(\\alpha, \\beta)$ at the lower and at the upper end.
        start: the fields `[fields, points]` at t = 0.
        interval: the ends of the x axis.
        duration: end of the time axis, which begins at 0.
        reaction: R of the points and the fields `[fields, points]`; None for a linear problem, which is exact in time.
        rest: for each field the constant that fulfils L w = 0 and both ends, from which deviations are counted.
        points: Chebyshev points.
        steps: time steps, used with `reaction` only.
    """
    low, high = interval
    x = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * np.arange(points) / (points - 1))
    weights = np.where(np.isin(np.arange(points), (0, points - 1)), 0.5, 1.0) * (-1.0) ** np.arange(points)
    D = _differentiation(x, weights)
    rest = np.array(rest, float)[:, None]

    rates, shapes, inverses = [], [], []  # of each field: [modes], [points, modes], [modes, points - 2]
    for conditions in ends:
        rows = np.array([a * np.eye(points)[i] + b * D[i] for (a, b), i in zip(conditions, (0, -1))])
        complete = np.zeros((points, points - 2))  # all values from the inner ones
        complete[1:-1] = np.eye(points - 2)
        complete[[0, -1]] = np.linalg.solve(rows[:, [0, -1]], -rows[:, 1:-1])
        rate, vectors = np.linalg.eig((operator(x, D) @ complete)[1:-1])
        rates.append(rate)
        shapes.append(complete @ vectors)
        inverses.append(np.linalg.inv(vectors))
    rates, shapes, inverses = np.array(rates), np.array(shapes), np.array(inverses)

    def to_modes(w):
        return np.einsum("fmp,fp->fm", inverses, w[:, 1:-1])

    def to_points(modes):
        return np.einsum("fpm,fm->fp", shapes, modes).real + rest

    first = to_modes(start(x) - rest) + 0j
    keep = min(steps, 2000)
    stored = None
    if reaction is not None:
        stored = integrate(rates, lambda m, t: to_modes(reaction(x, to_points(m))), first, duration, steps, keep)

    def evaluate(t, place):
        t, place = (np.ravel(a).astype(float) for a in np.broadcast_arrays(t, place))
        if stored is None:
            modes = first * np.exp(t[:, None, None] * rates)
        else:
            row, weight = interpolation_rows(t, duration / keep, keep + 1, 10)
            modes = np.einsum("nj,njfm->nfm", weight, stored[row])
        values = np.einsum("fpm,nfm->nfp", shapes, modes).real + rest
        distance = place[:, None] - x
        hit = distance == 0
        pull = np.where(hit.any(axis=1, keepdims=True), hit, weights / np.where(hit, 1.0, distance))
        return np.einsum("nfp,np->fn", values, pull) / pull.sum(axis=1)

    return evaluate


def _differentiation(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    difference = x[:, None] - x + np.eye(len(x))
    D = weights / weights[:, None] / difference
    D -= np.diag(D.sum(axis=1))  # rows of a differentiation matrix sum to 0
    return D
