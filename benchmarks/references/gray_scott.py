"""$u_t = 0.2 Laplace u + 40 (1 - u) - 1000 u v^2$, $v_t = 0.1 Laplace v - 100 v + 1000 u v^2$ on [-1, 1]^2 periodic.

u(0) = 1 - exp(-10 ((x + 0.05)^2 + (y + 0.02)^2)), v(0) = 1 - exp(-10 ((x - 0.05)^2 + (y - 0.02)^2)), t in [0, 1/2].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.references.periodic import integrate
from benchmarks.references.planar import tensor_values, waves

# The reaction consumes u within 1e-3 and v within 1e-1: (duration, steps, stored rows) of each phase.
PHASES = ((0.005, 200, 200), (0.045, 450, 225), (0.45, 900, 180))


def reference(
    n: int = 64, refinement: int = 1
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(u, v)(t, x, y) at scattered points."""
    axis = -1 + 2 * np.arange(n) / n
    x, y = np.meshgrid(axis, axis, indexing="ij")
    k = np.pi * np.fft.fftfreq(n, 1 / n)
    k2 = k[:, None] ** 2 + k[None, : n // 2 + 1] ** 2
    linear = np.array([-0.2 * k2 - 40, -0.1 * k2 - 100])
    keep_mode = np.abs(np.fft.fftfreq(n, 1 / n)) < n // 3
    mask = keep_mode[:, None] * keep_mode[None, : n // 2 + 1]
    supply = np.fft.rfft2(np.full((n, n), 40.0))

    def reaction(w, t):
        u, v = np.fft.irfft2(w, (n, n))
        rate = mask * np.fft.rfft2(1000 * u * v**2)
        return np.array([supply - rate, rate])

    u0 = 1 - np.exp(-10 * ((x + 0.05) ** 2 + (y + 0.02) ** 2))
    v0 = 1 - np.exp(-10 * ((x - 0.05) ** 2 + (y - 0.02) ** 2))
    state = np.fft.rfft2(np.array([u0, v0]))
    begin, phases = 0.0, []
    for duration, steps, keep in PHASES:
        stored = integrate(linear, reaction, state, duration, steps * refinement, keep)
        state = stored[-1]
        full = np.fft.fft2(np.fft.irfft2(stored, (n, n))) / n**2
        phases.append((begin, duration / keep, full))
        begin += duration

    def evaluate(t, x, y):
        t, x, y = (np.ravel(a) for a in np.broadcast_arrays(t, x, y))
        left, right = waves(x, -1, 2, n), waves(y, -1, 2, n)
        out = np.empty((2, t.size))
        for (begin, step, full), last in zip(phases, [p[0] for p in phases[1:]] + [np.inf], strict=True):
            here = (t >= begin) & (t < last)
            for i in range(2):
                out[i, here] = tensor_values(full[:, i], step, t[here] - begin, left[here], right[here]).real
        return out[0], out[1]

    return evaluate
