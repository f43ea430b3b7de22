r"""Burgers and viscous Hamilton-Jacobi by the Cole-Hopf transformation and Gauss-Hermite quadrature.

If $w_t + w_x^2 / 2 = \nu w_{xx}$, then $\exp(-w / 2 \nu)$ satisfies the heat equation, so
$w = -2 \nu \log E[\exp(-w_0(x - \sqrt{4 \nu t} z) / 2 \nu)]$ with the weight $e^{-z^2} / \sqrt \pi$; and $u = w_x$
satisfies the Burgers equation.

Source: Cole, Quart. Appl. Math. 9 (1951) 225.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Values = Callable[[np.ndarray, np.ndarray], np.ndarray]


def burgers(viscosity: float = 0.01 / np.pi, points: int = 200, advection: float = 1.0) -> Values:
    """u(t, x) for $u(0, x) = -sin(pi x)$ on [-1, 1]; odd about both ends, so that u = 0 there.

    Args:
        advection: p in $u_t + p u u_x = \\nu u_{xx}$; the transformation is that of $p u$.
    """

    def evaluate(t, x):
        places, weights, _ = _weigh(t, x, lambda y: advection * np.cos(np.pi * y) / np.pi, viscosity, points)
        return np.sum(weights * -np.sin(np.pi * places), axis=-1) / np.sum(weights, axis=-1)

    return evaluate


def burgers_sensitivities(t: np.ndarray, x: np.ndarray, advection: float, viscosity: float) -> np.ndarray:
    """`[n, 2]`: du/dp and du/d nu by central differences of order 4; relative error about 1e-9."""
    columns = []
    for moved in ((advection, 0.0), (0.0, viscosity)):
        values = [
            burgers(viscosity + k * 1e-3 * moved[1], advection=advection + k * 1e-3 * moved[0])(t, x)
            for k in (-2, -1, 1, 2)
        ]
        columns.append(np.tensordot([1 / 12, -2 / 3, 2 / 3, -1 / 12], values, 1) / (1e-3 * max(moved)))
    return np.stack(columns, axis=1)


def hamilton_jacobi(viscosity: float = 0.02, points: int = 200) -> Values:
    """u(t, x) for $u(0, x) = cos(pi x)$ on [-1, 1] periodic."""

    def evaluate(t, x):
        _, weights, low = _weigh(t, x, lambda y: np.cos(np.pi * y), viscosity, points)
        return low - 2 * viscosity * np.log(np.sum(weights, axis=-1) / np.sqrt(np.pi))

    return evaluate


def _weigh(t, x, action, viscosity, points):
    """Places `[n, points]` where the initial action is read, their weights, and the least action `[n]` taken out."""
    z, weights = np.polynomial.hermite.hermgauss(points)
    t, x = np.broadcast_arrays(np.asarray(t, float), np.asarray(x, float))
    places = x[..., None] - np.sqrt(4 * viscosity * t)[..., None] * z
    w = action(places)
    low = w.min(axis=-1, keepdims=True)  # exp(-w / 2 nu) alone would underflow
    return places, weights * np.exp(-(w - low) / (2 * viscosity)), low[..., 0]
