"""$i h_t + h_{xx}/2 + |h|^2 h = 0$ on [-15, 15] periodic, $h(0, x) = 2 / cosh x$, t in [0, pi/2]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.references.periodic import History


def reference(
    n: int = 512, steps: int = 8000, amplitude: float = 2.0, half_width: float = 15.0, duration: float = np.pi / 2
) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(u, v), the real and the imaginary part of h, at scattered points.

    Split step: the linear and the nonlinear part are each solved exactly in turn, in the order-4 composition of three
    symmetric steps of length $w_1 h, w_0 h, w_1 h$ with $w_1 = 1/(2 - 2^{1/3})$, $w_0 = 1 - 2 w_1$.

    Source: Yoshida, Phys. Lett. A 150 (1990) 262.
    """
    x = -half_width + 2 * half_width * np.arange(n) / n
    k = np.fft.fftfreq(n, 1 / n) * np.pi / half_width
    h = duration / steps
    w1 = 1 / (2 - 2 ** (1 / 3))
    fractions = (w1, 1 - 2 * w1, w1)
    linear = [np.exp(-0.5j * k**2 * h * w) for w in fractions]

    def turn(values, w):  # h_t = i |h|^2 h keeps |h|
        return values * np.exp(1j * h * w * np.abs(values) ** 2)

    values = amplitude / np.cosh(x) + 0j
    keep, stored = 1000, [np.fft.fft(values)]
    for i in range(1, steps + 1):
        for w, phase in zip(fractions, linear, strict=True):
            values = turn(values, w / 2)
            values = turn(np.fft.ifft(phase * np.fft.fft(values)), w / 2)
        if i % (steps // keep) == 0:
            stored.append(np.fft.fft(values))
    coefficients = np.array(stored) / n
    coefficients[:, n // 2] = 0
    history = History(coefficients, k, duration / keep, -half_width)

    def evaluate(t, x):
        value = history(t, x)
        return value.real, value.imag

    return evaluate


def breather(t: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) of the two-soliton solution on the whole line, which starts as 2 / cosh x.

    Source: Satsuma & Yajima, Prog. Theor. Phys. Suppl. 55 (1974) 284.
    """
    h = 4 * np.exp(0.5j * t) * (np.cosh(3 * x) + 3 * np.exp(4j * t) * np.cosh(x))
    h = h / (np.cosh(4 * x) + 4 * np.cosh(2 * x) + 3 * np.cos(4 * t))
    return h.real, h.imag
