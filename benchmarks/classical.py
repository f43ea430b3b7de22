"""What a person who knows the problem would do: a spectral method for each of three rows, on a ladder of resolutions.

Each takes a resolution and gives a function of the coordinates, in the order of the problem. None is used by pinnflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import sympy
from scipy.fft import dst

from benchmarks.references.periodic import dealias, integrate, real_history
from benchmarks.statements import ROWS


def burgers(n: int) -> Callable:
    """Fourier in x, as u is odd about both ends; ETDRK4 in time, 2 n steps."""
    x = -1 + 2 * np.arange(n) / n
    k = np.pi * np.arange(n // 2 + 1)
    factor = -0.5j * k * dealias(n)

    def advection(v, t):
        return factor * np.fft.rfft(np.fft.irfft(v, n) ** 2)

    stored = integrate(-0.01 / np.pi * k**2, advection, np.fft.rfft(-np.sin(np.pi * x)), 1.0, 2 * n, keep=2 * n)
    history = real_history(stored, 2.0, -1.0, 1 / (2 * n))
    return lambda t, x: history(t, x).real


def wave(n: int) -> Callable:
    """Sine series of the initial value at n points; each sine swings by itself."""
    x = np.arange(1, n + 1) / (n + 1)
    amplitudes = dst(np.sin(np.pi * x) + np.sin(4 * np.pi * x) / 2, type=1) / (n + 1)
    k = np.pi * np.arange(1, n + 1)
    return lambda t, x: (np.sin(np.outer(x, k)) * np.cos(2 * np.outer(t, k))) @ amplitudes


def poisson(n: int) -> Callable:
    """Collocation at n + 1 Chebyshev points an axis, solved by diagonalising the second derivative once."""
    points = np.cos(np.pi * np.arange(n + 1) / n)
    weights = np.r_[2, np.ones(n - 1), 2] * (-1.0) ** np.arange(n + 1)
    difference = points[:, None] - points + np.eye(n + 1)
    first = np.outer(weights, 1 / weights) / difference
    first -= np.diag(first.sum(axis=1))
    second = 4 * (first @ first)[1:-1, 1:-1]  # the axes are of length 1, the points of length 2
    values, modes = np.linalg.eig(second)
    inner = (points[1:-1] + 1) / 2
    x, y = np.meshgrid(inner, inner, indexing="ij")
    f = poisson_source()(x, y)
    back = np.linalg.inv(modes)
    u = np.zeros((n + 1, n + 1))
    u[1:-1, 1:-1] = (modes @ ((back @ f @ back.T) / -(values[:, None] + values)) @ modes.T).real
    table = np.linalg.inv(np.polynomial.chebyshev.chebvander(points, n))
    series = table @ u @ table.T
    return lambda x, y: np.polynomial.chebyshev.chebval2d(2 * x - 1, 2 * y - 1, series)


@lru_cache
def poisson_source() -> Callable:
    """The right side of the row's equation."""
    problem = ROWS[11].declare()
    return sympy.lambdify(problem.coordinates, problem.equations[0].rhs, "numpy")


LADDERS = {
    1: ("Fourier, ETDRK4", burgers, (256, 512, 1024, 1536, 2048, 2560, 3072, 4096)),
    6: ("sine series", wave, (4, 8, 16)),
    11: ("Chebyshev collocation", poisson, (8, 12, 16, 20, 24, 32, 48)),
}


def time_to(row: int, target: float, error_of: Callable[[Callable], float], processor: bool = False) -> dict:
    """The first resolution whose error is at most `target` (the finest, if none), with the best of three times."""
    name, method, ladder = LADDERS[row]
    now = time.process_time if processor else time.perf_counter
    for n in ladder:
        error = error_of(method(n))
        if error <= target:
            break

    def once():
        begin = now()
        method(n)
        return now() - begin

    return {"toolkit": f"{name}, n = {n}", "error": error, "seconds": min(once() for _ in range(3)), "seed": None}
