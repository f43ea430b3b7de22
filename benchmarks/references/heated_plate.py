"""$u_t = 0.001 Laplace u + 5 sin(u^2) (1 + 2 sin(pi t / 4)) sin(4 pi x) sin(2 pi y)$ on [0, 1]^2, t in [0, 100].

u(0) = sin(4 pi x) sin(3 pi y), u = 0 at the boundary. The solution is odd about the boundary, so sine series converge
fast; and it stays odd about x = 1/4, 1/2 and 3/4, so only the sines of multiples of 4 pi x appear and a quarter of the
plate is enough.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.fft import dstn, idstn

from benchmarks.references.periodic import integrate
from benchmarks.references.planar import tensor_values


def reference(
    nx: int = 47, ny: int = 191, steps: int = 10_000
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """u(t, x, y) at scattered points; `nx` sines on a quarter of the width, `ny` over the whole height."""
    x = np.arange(1, nx + 1) / (nx + 1) / 4
    y = np.arange(1, ny + 1) / (ny + 1)
    m, n = 4 * np.arange(1, nx + 1), np.arange(1, ny + 1)
    linear = -0.001 * np.pi**2 * (m[:, None] ** 2 + n[None] ** 2)
    shape = 5 * np.sin(4 * np.pi * x)[:, None] * np.sin(2 * np.pi * y)[None]
    mask = (np.arange(1, nx + 1) <= 2 * nx // 3)[:, None] * (n <= 2 * ny // 3)[None]

    def source(v, t):
        u = idstn(v, type=1)
        return mask * dstn(np.sin(u**2) * shape * (1 + 2 * np.sin(np.pi * t / 4)), type=1)

    start = dstn(np.sin(4 * np.pi * x)[:, None] * np.sin(3 * np.pi * y)[None], type=1)
    keep = 2500
    stored = integrate(linear, source, start, 100.0, steps, keep) / ((nx + 1) * (ny + 1))

    def evaluate(t, x, y):
        t, x, y = (np.ravel(a) for a in np.broadcast_arrays(t, x, y))
        left, right = np.sin(np.pi * np.outer(x, m)), np.sin(np.pi * np.outer(y, n))
        return tensor_values(stored, 100 / keep, t, left, right)

    return evaluate
