"""$u_t + a u u_x + b u_{xx} + c u_{xxxx} = 0$ on [0, 2 pi] periodic, a = 100/16, b = 100/16^2, c = 100/16^4.

$u(0, x) = cos x (1 + sin x)$, t in [0, 1]. The solution is chaotic: a small error grows by orders of magnitude up to
t = 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.references.periodic import dealias, integrate, real_history


def reference(n: int = 512, steps: int = 40_000) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """u(t, x) at scattered points."""
    a, b, c = 100 / 16, 100 / 16**2, 100 / 16**4
    x = 2 * np.pi * np.arange(n) / n
    k = np.arange(n // 2 + 1)
    slope = -0.5j * a * k * dealias(n)

    def convection(v, t):  # -a (u^2 / 2)_x
        return slope * np.fft.rfft(np.fft.irfft(v, n) ** 2)

    start = np.fft.rfft(np.cos(x) * (1 + np.sin(x)))
    stored = integrate(b * k**2.0 - c * k**4.0, convection, start, 1.0, steps, keep=2000)
    history = real_history(stored, 2 * np.pi, 0.0, 1.0 / 2000)
    return lambda t, x: history(t, x).real
