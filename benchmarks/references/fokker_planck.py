r"""$p_t = -(b p)_x + D p_{xx}$ on an interval with p = 0 at both ends, for a drift $b = -V'$ and constant D.

With $p = e^{-V / 2 D} q$ the operator becomes symmetric: $q_t = D q_{xx} - W q$, $W = b^2 / 4 D + b' / 2$. `reference`
uses a Galerkin method with Legendre polynomials for q and is exact in time; `chang_cooper` is a finite volume scheme
for p itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import Polynomial, legendre
from scipy.linalg import eigh, eigh_tridiagonal

Function = Callable[[np.ndarray], np.ndarray]


DOUBLE_WELL = Polynomial([0, 0, -1 / 2, 0, 1 / 4])  # V of the drift x - x^3


def normal(mean: float = 0.5, deviation: float = 0.3) -> Function:
    """The normal density."""
    return lambda y: np.exp(-((y - mean) ** 2) / (2 * deviation**2)) / np.sqrt(2 * np.pi * deviation**2)


def reference(
    potential: Polynomial = DOUBLE_WELL,
    diffusion: float = 0.3,
    start: Function | None = None,
    interval: tuple[float, float] = (-2.5, 2.5),
    modes: int = 160,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    r"""p(t, x) at scattered points, t >= 0.

    Basis $P_k - P_{k+2}$, which vanishes at both ends; Gauss quadrature with three points per mode; generalised
    symmetric eigenvalue problem, each mode decays as $e^{-\lambda t}$.
    """
    start = start or normal()
    low, high = interval
    nodes, weights = legendre.leggauss(3 * modes)
    place, half = (low + high) / 2, (high - low) / 2
    y = place + half * nodes
    basis, slope = dirichlet_basis(nodes, modes)
    slope = slope / half
    weights = weights * half

    b, db = -potential.deriv()(y), -potential.deriv(2)(y)
    W = b**2 / (4 * diffusion) + db / 2

    mass = basis.T @ (weights[:, None] * basis)
    stiffness = diffusion * slope.T @ (weights[:, None] * slope) + basis.T @ ((weights * W)[:, None] * basis)
    # Inverse and shifted: the small rates matter, and would drown in the rounding errors of the largest, ~ modes^4.
    inverse, vectors = eigh(mass, stiffness + mass)
    rates, vectors = 1 / inverse - 1, vectors / np.sqrt(inverse)
    q0 = start(y) * np.exp(potential(y) / (2 * diffusion))
    amplitudes = vectors.T @ (basis.T @ (weights * q0))

    def evaluate(t, x):
        t, x = np.broadcast_arrays(np.asarray(t, float), np.asarray(x, float))
        values = dirichlet_basis((x.ravel() - place) / half, modes)[0] @ vectors
        q = np.sum(values * amplitudes * np.exp(-np.outer(t.ravel(), rates)), axis=-1)
        return q.reshape(t.shape) * np.exp(-potential(x) / (2 * diffusion))

    return evaluate


def chang_cooper(
    times: np.ndarray,
    cells: int,
    potential: Polynomial = DOUBLE_WELL,
    diffusion: float = 0.3,
    start: Function | None = None,
    interval: tuple[float, float] = (-2.5, 2.5),
) -> tuple[np.ndarray, np.ndarray]:
    r"""Points `[cells - 1]` inside the interval and p `[times, cells - 1]` there, of second order in the width.

    The flux between two points keeps $e^{-V / D}$ stationary exactly:
    $J = -D (e^{V_r / D} p_r - e^{V_l / D} p_l) / (h \bar{e}), \bar{e} = e^{V_m / D}$ with $V_m$ half way. In time the
    system, similar to a symmetric tridiagonal one, is solved exactly by its eigenvectors.

    Source: Chang & Cooper, J. Comput. Phys. 6 (1970) 1, in the form of Scharfetter & Gummel.
    """
    start = start or normal()
    low, high = interval
    h = (high - low) / cells
    y = low + h * np.arange(cells + 1)
    V, middle = potential(y) / diffusion, potential(y[:-1] + h / 2) / diffusion
    rate = diffusion / h**2
    # p_i' = rate sum over both neighbours of (e^(V_j - V_m) p_j - e^(V_i - V_m) p_i); q = e^(V/2) p makes it symmetric.
    diagonal = -rate * (np.exp(V[1:-1] - middle[1:]) + np.exp(V[1:-1] - middle[:-1]))
    beside = rate * np.exp((V[1:-2] + V[2:-1]) / 2 - middle[1:-1])
    rates, vectors = eigh_tridiagonal(diagonal, beside)
    scale = np.exp(V[1:-1] / 2)
    amplitudes = vectors.T @ (scale * start(y[1:-1]))
    q = (np.exp(np.outer(times, rates)) * amplitudes) @ vectors.T
    return y[1:-1], q / scale


def dirichlet_basis(z: np.ndarray, modes: int) -> tuple[np.ndarray, np.ndarray]:
    """$P_k(z) - P_{k+2}(z)$ and derivatives $-(2k + 3) P_{k+1}(z)$, both `[n, modes]`, scaled to unit energy."""
    P = legendre.legvander(z, modes + 1)
    k = np.arange(modes)
    scale = 1 / np.sqrt(4 * k + 6)
    return (P[:, :modes] - P[:, 2:]) * scale, -P[:, 1:-1] * (2 * k + 3) * scale
