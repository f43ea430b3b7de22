"""$u_t + u u_x + 0.022^2 u_{xxx} = 0$ on [-1, 1] periodic, $u(0, x) = cos(pi x)$, t in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.references.periodic import dealias, integrate, real_history


def reference(
    n: int = 512, steps: int = 20_000, dispersion: float = 0.022
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """u(t, x) at scattered points."""
    x = -1 + 2 * np.arange(n) / n
    k = np.pi * np.arange(n // 2 + 1)
    slope = -0.5j * k * dealias(n)

    def convection(v, t):  # -(u^2 / 2)_x
        return slope * np.fft.rfft(np.fft.irfft(v, n) ** 2)

    start = np.fft.rfft(np.cos(np.pi * x))
    stored = integrate(1j * dispersion**2 * k**3, convection, start, 1.0, steps, keep=2000)
    history = real_history(stored, 2.0, -1.0, 1.0 / 2000)
    return lambda t, x: history(t, x).real
