"""$p_t = -div(b p) + 0.1 Laplace p$, $b = (x - y - x r^2, x + y - y r^2)$, on [-5/2, 5/2]^2, t in [0, 1].

p(0) is normal with mean (1, 0) and standard deviation 0.25. The stationary density falls to e^-66 of its largest value
at the boundary, so p = 0 there and a periodic continuation are the same to rounding, and Fourier modes converge fast.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.references.periodic import integrate
from benchmarks.references.planar import tensor_values, waves


def reference(n: int = 80, steps: int = 2000) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """p(t, x, y) at scattered points."""
    low, length = -2.5, 5.0
    axis = low + length * np.arange(n) / n
    x, y = np.meshgrid(axis, axis, indexing="ij")
    r2 = x**2 + y**2
    bx, by = x - y - x * r2, x + y - y * r2
    k = 2 * np.pi / length * np.fft.fftfreq(n, 1 / n)
    k[n // 2] = 0
    kx, ky = k[:, None], k[None, : n // 2 + 1]

    def transport(v, t):  # -div(b p)
        p = np.fft.irfft2(v, (n, n))
        return -1j * (kx * np.fft.rfft2(bx * p) + ky * np.fft.rfft2(by * p))

    start = np.exp(-((x - 1) ** 2 + y**2) / (2 * 0.25**2)) / (2 * np.pi * 0.25**2)
    stored = integrate(-0.1 * (kx**2 + ky**2), transport, np.fft.rfft2(start), 1.0, steps, keep=200)
    full = np.array([np.fft.fft2(np.fft.irfft2(v, (n, n))) for v in stored]) / n**2

    def evaluate(t, x, y):
        t, x, y = (np.ravel(a) for a in np.broadcast_arrays(t, x, y))
        return tensor_values(full, 1 / 200, t, waves(x, low, length, n), waves(y, low, length, n)).real

    return evaluate
