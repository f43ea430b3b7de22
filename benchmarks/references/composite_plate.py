"""$u_t = div(a grad u) + sin(pi x) sin(pi y)$, $a = 0.1 (1 + 0.9 sin(6 pi x) sin(5 pi y))$, zero at start and boundary.

On [0, 1]^2, t in [0, 1]. Galerkin method with products of B-splines, on the lower half since u is even about y = 1/2;
in time, projection on a rational Krylov space, in which $u = K^{-1} (1 - e^{-t K}) f$ is evaluated for all times at
once. The coefficient almost vanishes in places, which is why so many splines are needed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array, kron
from scipy.sparse.linalg import splu

SHIFTS = (3.0, 300.0)  # between the slowest rate, about 1, and where the load has no more content


def reference(
    intervals: int = 128, degree: int = 7, repeats: int = 14
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """u(t, x, y) at scattered points; the Krylov space has `repeats` vectors for each of `SHIFTS`."""
    wide = _Splines(intervals, degree, 1.0, drop=(1, 1))
    high = _Splines(intervals // 2, degree, 0.5, drop=(1, 0))
    sine6, sine5 = np.sin(6 * np.pi * wide.nodes), np.sin(5 * np.pi * high.nodes)

    # a = 0.1 + 0.09 s(x) c(y) is a sum of products, so the matrices are sums of Kronecker products of banded ones.
    mass = kron(wide.gram(0), high.gram(0), format="csc")
    stiffness = 0.1 * (kron(wide.gram(1), high.gram(0)) + kron(wide.gram(0), high.gram(1)))
    stiffness = stiffness + 0.09 * (
        kron(wide.gram(1, sine6), high.gram(0, sine5)) + kron(wide.gram(0, sine6), high.gram(1, sine5))
    )
    load = np.kron(*(axis.values.T @ (axis.weights * np.sin(np.pi * axis.nodes)) for axis in (wide, high)))

    solvers = [splu((stiffness + shift * mass).tocsc()) for shift in SHIFTS]
    space: list[np.ndarray] = []
    for i in range(repeats * len(SHIFTS)):
        v = solvers[i % len(SHIFTS)].solve(mass @ space[-1] if space else load)
        for _ in range(2):  # twice is enough for an orthonormal basis
            for other in space:
                v = v - other * (other @ (mass @ v))
        space.append(v / np.sqrt(v @ (mass @ v)))
    V = np.array(space).T
    rates, vectors = eigh(V.T @ (stiffness @ V))
    modes, amplitudes = V @ vectors, (V @ vectors).T @ load

    def evaluate(t, x, y):
        t, x, y = (np.ravel(a) for a in np.broadcast_arrays(t, x, y))
        left, right = wide(x), high(np.minimum(y, 1 - y)).toarray()
        growth = amplitudes * -np.expm1(-np.outer(t, rates)) / rates
        out = np.zeros(t.size)
        for mode, factor in zip(modes.T, growth.T, strict=True):
            out += factor * ((left @ mode.reshape(left.shape[1], -1)) * right).sum(axis=1)
        return out

    return evaluate


class _Splines:
    """B-splines on [0, length], without the one that does not vanish at each end to be dropped."""

    def __init__(self, intervals: int, degree: int, length: float, drop: tuple[int, int]):
        self.degree = degree
        self.knots = length * np.concatenate([np.zeros(degree), np.linspace(0, 1, intervals + 1), np.ones(degree)])
        self.inside = slice(drop[0], intervals + degree - drop[1])
        z, w = np.polynomial.legendre.leggauss(degree + 3)
        self.nodes = ((np.arange(intervals)[:, None] + (z + 1) / 2) * length / intervals).ravel()
        self.weights = np.tile(w * length / (2 * intervals), intervals)
        self.values = self(self.nodes)
        spline = BSpline(self.knots, np.eye(intervals + degree), degree)
        self.slopes = csr_array(spline.derivative()(self.nodes))[:, self.inside]

    def __call__(self, x: np.ndarray) -> csr_array:
        """Values `[n, splines]`."""
        return csr_array(BSpline.design_matrix(x, self.knots, self.degree))[:, self.inside]

    def gram(self, order: int, factor: np.ndarray | float = 1.0) -> csr_array:
        """Integrals of products of two values (order 0) or slopes (1), weighted by `factor` at the nodes."""
        one = self.slopes if order else self.values
        return one.T @ diags_array(self.weights * factor) @ one
