"""What a person who knows the problem would do: a classical solver for most rows, on a ladder of resolutions.

    python -m benchmarks.classical --json classical.json    # to the errors in accuracy.json

Each takes a resolution and gives a function of the coordinates, in the order of the problem. None is used by pinnflow.
The time is that of the first resolution whose error is at most the one of pinnflow, or 1e-11 where that is smaller; the
search for it is not counted. Rows 2, 3, 4, 8, 13, 15, 17 to 20 and 22 are coarser runs of the solver that, fine, is the
reference.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import sympy
from numpy.polynomial import chebyshev
from scipy.fft import dst, dstn
from scipy.integrate import solve_ivp

from benchmarks.references import (
    allen_cahn,
    cavity,
    composite_plate,
    fokker_planck,
    gray_scott,
    heated_plate,
    korteweg_de_vries,
    kuramoto_sivashinsky,
    limit_cycle,
    reflection,
    schroedinger,
)
from benchmarks.references.periodic import dealias, integrate, real_history
from benchmarks.statements import ROWS

STORED = Path(__file__).parent


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


def hamilton_jacobi(n: int) -> Callable:
    """Fourier in x, ETDRK4 in time, 16 n steps."""
    x = -1 + 2 * np.arange(n) / n
    k = np.pi * np.arange(n // 2 + 1)
    mask = dealias(n)

    def transport(v, t):  # -u_x^2 / 2
        return -0.5 * mask * np.fft.rfft(np.fft.irfft(1j * k * mask * v, n) ** 2)

    stored = integrate(-0.02 * k**2, transport, np.fft.rfft(np.cos(np.pi * x)), 1.0, 16 * n, keep=4 * n)
    history = real_history(stored, 2.0, -1.0, 1 / (4 * n))
    return lambda t, x: history(t, x).real


def sines(profile: Callable, rate: Callable, length: float, n: int) -> Callable:
    """Sine series of the initial value at n points; each sine swings by itself, with frequency `rate(k)`."""
    x = length * np.arange(1, n + 1) / (n + 1)
    amplitudes = dst(profile(x), type=1) / (n + 1)
    k = np.pi / length * np.arange(1, n + 1)
    return lambda t, x: (np.sin(np.outer(x, k)) * np.cos(np.outer(t, rate(k)))) @ amplitudes


def plate(n: int) -> Callable:
    """Sine series in both axes; each product decays by itself."""
    axis = np.arange(1, n + 1) / (n + 1)
    start = np.outer(np.sin(20 * np.pi * axis), np.sin(np.pi * axis))
    amplitudes = dstn(start, type=1) / (n + 1) ** 2
    k = np.pi * np.arange(1, n + 1)
    rates = k[:, None] ** 2 / (500 * np.pi) ** 2 + k**2 / np.pi**2

    def evaluate(t, x, y):
        out = np.zeros(t.size)
        for i in range(n):
            part = np.sin(np.outer(y, k)) * np.exp(-np.outer(t, rates[i]))
            out += np.sin(k[i] * x) * (part @ amplitudes[i])
        return out

    return evaluate


def shift(profile: Callable, n: int) -> Callable:
    """Fourier series of the initial value at n points, moved at speed 80."""
    x = 2 * np.pi * np.arange(n) / n
    amplitudes = np.fft.rfft(profile(x))[: n // 2] / n
    amplitudes[1:] *= 2
    return lambda t, x: (np.exp(1j * np.outer(x - 80 * t, np.arange(n // 2))) @ amplitudes).real


def chebyshev_points(n: int) -> tuple[np.ndarray, np.ndarray]:
    """n + 1 points from 1 to -1, and the matrix of the first derivative there."""
    points = np.cos(np.pi * np.arange(n + 1) / n)
    weights = np.r_[2, np.ones(n - 1), 2] * (-1.0) ** np.arange(n + 1)
    first = np.outer(weights, 1 / weights) / (points[:, None] - points + np.eye(n + 1))
    return points, first - np.diag(first.sum(axis=1))


def series(points: np.ndarray) -> np.ndarray:
    """From values at Chebyshev points to coefficients."""
    return np.linalg.inv(chebyshev.chebvander(points, len(points) - 1))


def helmholtz(row: int, square: float, n: int) -> Callable:
    """Laplace u + square u = f, at n + 1 Chebyshev points an axis; the second derivative is diagonalised once."""
    (low, high), exact, source = square_data(row, square)
    points, first = chebyshev_points(n)
    second = (2 / (high - low)) ** 2 * (first @ first)
    values, modes = np.linalg.eig(second[1:-1, 1:-1])
    axis = low + (high - low) * (points + 1) / 2
    x, y = np.meshgrid(axis, axis, indexing="ij")
    u = exact(x, y) + 0 * x
    u[1:-1, 1:-1] = 0  # only the boundary is read
    f = (source(x, y) - second @ u - u @ second.T)[1:-1, 1:-1]
    back = np.linalg.inv(modes)
    u[1:-1, 1:-1] = (modes @ ((back @ f @ back.T) / (values[:, None] + values + square)) @ modes.T).real
    table = series(points)
    coefficients = table @ u @ table.T

    def scale(a):
        return 2 * (a - low) / (high - low) - 1

    return lambda x, y: chebyshev.chebval2d(scale(x), scale(y), coefficients)


@lru_cache
def square_data(row: int, square: float) -> tuple:
    """The ends of both axes, the boundary values and the right side of the row's equation."""
    problem = ROWS[row].declare()
    (expression,) = problem.exact.values()
    x, y = problem.coordinates
    right = expression.diff(x, 2) + expression.diff(y, 2) + square * expression
    numeric = [sympy.lambdify((x, y), e, "numpy") for e in (expression, right)]
    return problem.bounds[x], *numeric


def coefficient(n: int) -> Callable:
    """-div(a grad u) = f at n + 1 Chebyshev points an axis, one dense system."""
    a, source = coefficient_data()
    points, first = chebyshev_points(n)
    axis, first = (points + 1) / 2, 2 * first
    x, y = (m.ravel() for m in np.meshgrid(axis, axis, indexing="ij"))
    one = np.eye(n + 1)
    dx, dy = np.kron(first, one), np.kron(one, first)
    inside = ((x > 0) & (x < 1) & (y > 0) & (y < 1)).nonzero()[0]
    weight = a(x, y)[:, None]
    operator = -(dx[inside] @ (weight * dx[:, inside]) + dy[inside] @ (weight * dy[:, inside]))
    u = np.zeros((n + 1) ** 2)
    u[inside] = np.linalg.solve(operator, source(x, y)[inside])
    table = series(points)
    coefficients = table @ u.reshape(n + 1, n + 1) @ table.T
    return lambda x, y: chebyshev.chebval2d(2 * x - 1, 2 * y - 1, coefficients)


@lru_cache
def coefficient_data() -> tuple[Callable, Callable]:
    """The coefficient and the right side of row 12."""
    problem = ROWS[12].declare()
    x, y = problem.coordinates
    a = 10 ** (sympy.sin(2 * sympy.pi * x) * sympy.sin(2 * sympy.pi * y))
    return tuple(sympy.lambdify((x, y), e, "numpy") for e in (a, problem.equations[0].rhs))


def layer(n: int) -> Callable:
    """-0.01 u_xx + u_x = 1 at n + 1 Chebyshev points."""
    points, first = chebyshev_points(n)
    first = 2 * first
    operator = (-0.01 * first @ first + first)[1:-1, 1:-1]
    values = np.r_[0, np.linalg.solve(operator, np.ones(n - 1)), 0]
    coefficients = series(points) @ values
    return lambda x: chebyshev.chebval(2 * x - 1, coefficients)


def klein_gordon(n: int) -> Callable:
    """Chebyshev points in x, Dormand-Prince of order 8 in time at a tolerance of 1e-13."""
    source, u, v = klein_gordon_data()
    points, first = chebyshev_points(n)
    x = (points + 1) / 2
    second = 4 * (first @ first)

    def slope(t, w):
        values = np.r_[u(t, 1.0), w[: n - 1], u(t, 0.0)]
        return np.r_[w[n - 1 :], (second @ values - values**3 + source(t, x))[1:-1]]

    start = np.r_[u(0.0, x)[1:-1], v(0.0, x)[1:-1]]
    path = solve_ivp(slope, (0, 1), start, method="DOP853", rtol=1e-13, atol=1e-13, dense_output=True).sol

    def evaluate(t, x):
        inner = path(t)[: n - 1].T
        values = np.column_stack([u(t, 1.0), inner, u(t, 0.0) + 0 * t])
        return np.sum(chebyshev.chebvander(2 * x - 1, n) * (values @ series(points).T), axis=1)

    return evaluate


@lru_cache
def klein_gordon_data() -> tuple[Callable, Callable, Callable]:
    """Right side, values and velocities of row 7."""
    problem = ROWS[7].declare()
    (e,) = problem.exact.values()
    t, x = problem.coordinates
    right = e.diff(t, 2) - e.diff(x, 2) + e**3
    return tuple(sympy.lambdify((t, x), f, "numpy") for f in (right, e, e.diff(t)))


def pulse(n: int) -> Callable:
    """Row 28: nothing to solve, so that n evaluations are timed."""
    u = reflection.pulse()
    u(np.linspace(0, 1, n), np.linspace(0, 1, n))
    return u


def density(n: int) -> Callable:
    """Row 19, n modes."""
    return fokker_planck.reference(modes=n)


WAVE = partial(sines, lambda x: np.sin(np.pi * x) + np.sin(4 * np.pi * x) / 2, lambda k: 2 * k, 1.0)
BEAM = partial(sines, lambda x: np.sin(x) + np.sin(3 * x) / 4, lambda k: k**2, np.pi)
CHEBYSHEV = "Chebyshev collocation"

LADDERS: dict[int, tuple[str, Callable, tuple]] = {
    1: ("Fourier, ETDRK4", burgers, (256, 512, 1024, 1536, 2048, 2560, 3072, 4096)),
    2: (
        "Fourier, ETDRK4",
        allen_cahn.reference,
        ((256, 250), (512, 250), (512, 500), (1024, 1000), (1536, 1000), (1536, 2000)),
    ),
    3: (
        "Fourier, ETDRK4",
        korteweg_de_vries.reference,
        ((192, 2000), (256, 4000), (256, 8000), (384, 8000), (512, 16_000), (768, 20_000), (768, 40_000)),
    ),
    4: (
        "Fourier, ETDRK4",
        kuramoto_sivashinsky.reference,
        ((128, 4000), (192, 4000), (256, 8000), (320, 10_000), (384, 20_000)),
    ),
    5: ("Fourier series", partial(shift, np.sin), (4, 8)),
    6: ("sine series", WAVE, (4, 8, 16)),
    7: (f"{CHEBYSHEV}, Dormand-Prince", klein_gordon, (8, 10, 12, 16)),
    8: (
        "Fourier, split step",
        schroedinger.reference,
        ((256, 1000), (256, 2000), (512, 2000), (512, 4000), (512, 8000)),
    ),
    9: (CHEBYSHEV, partial(helmholtz, 9, 1.0), (16, 20, 24, 28, 32, 40)),
    10: (CHEBYSHEV, partial(helmholtz, 10, (21 * np.pi) ** 2), (48, 56, 64, 72, 80, 96)),
    11: (CHEBYSHEV, partial(helmholtz, 11, 0.0), (8, 12, 16, 20, 24, 32, 48)),
    12: (CHEBYSHEV, coefficient, (16, 24, 32, 36, 40, 44, 48)),
    13: (
        "B-splines, Krylov space",
        composite_plate.reference,
        ((32, 5, 7), (48, 5, 7), (64, 5, 10), (64, 7, 12), (96, 7, 14)),
    ),
    14: ("sine series", plate, (24, 32)),
    15: (
        "sine series, ETDRK4",
        heated_plate.reference,
        ((23, 95, 2500), (31, 127, 2500), (31, 127, 5000), (47, 191, 5000)),
    ),
    17: ("Legendre, Newton", partial(cavity.reference, 1 / 100), (12, 16, 20, 24, 28, 32)),
    18: ("Legendre, Newton", partial(cavity.reference, 1 / 400), (12, 16, 20, 24, 28, 32)),
    19: ("Legendre, modes in time", density, (32, 40, 48, 56, 64, 80, 96)),
    20: ("Fourier, ETDRK4", limit_cycle.reference, ((40, 400), (48, 400), (56, 800), (64, 1000), (80, 1000))),
    21: ("Fourier, ETDRK4", hamilton_jacobi, (64, 128, 192, 256, 384, 512, 768)),
    22: ("Fourier, ETDRK4", gray_scott.reference, (24, 32, 40, 48, 64)),
    24: ("sine series", BEAM, (4, 8)),
    25: (CHEBYSHEV, layer, (24, 32, 40, 48, 56, 64)),
    28: ("d'Alembert's formula", pulse, (5000,)),
    29: (
        "Fourier series",
        partial(shift, lambda x: np.exp(-20 * (1 - np.cos(x - 2)))),
        (32, 48, 64, 96),
    ),
    30: (CHEBYSHEV, partial(helmholtz, 30, 0.0), (32, 40, 48, 56, 64, 80)),
}


def time_to(row: int, target: float, error_of: Callable[[Callable], float], processor: bool = False) -> dict:
    """The first resolution whose error is at most `target` (the finest, if none), with the best of three times."""
    name, method, ladder = LADDERS[row]
    now = time.process_time if processor else time.perf_counter

    def once(resolution):
        begin = now()
        made = method(*resolution) if isinstance(resolution, tuple) else method(resolution)
        return made, now() - begin

    for n in ladder:
        values, seconds = once(n)
        error = error_of(values)
        if error <= target:
            break
    if seconds < 5:
        seconds = min(seconds, *(once(n)[1] for _ in range(2)))
    label = " x ".join(map(str, n)) if isinstance(n, tuple) else f"n = {n}"
    return {"toolkit": f"{name}, {label}", "error": error, "seconds": seconds, "seed": None, "reached": error <= target}


def main() -> None:
    from benchmarks.accuracy import FLOOR, surroundings, values_error  # which reads the stored results of this module

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(map(str, LADDERS)), help="numbers, separated by commas")
    parser.add_argument("--results", default=str(STORED / "accuracy.json"), help="file with the errors to be reached")
    parser.add_argument("--json", help="file for the results; those of other rows stay in it")
    arguments = parser.parse_args()
    measured = json.loads(Path(arguments.results).read_text())["results"]
    for row in map(int, arguments.rows.split(",")):
        errors = [facts["error"] for facts in measured if facts["row"] == row and "error" in facts]
        if not errors:
            print(f"row {row} has no stored error")
            continue
        target = max(FLOOR, *errors)
        problem = ROWS[row].declare()
        found = {"row": row, "target": target}
        found |= time_to(row, target, lambda u, row=row, p=problem: values_error(ROWS[row], p, u), processor=True)
        print(found, flush=True)
        if arguments.json:
            path = Path(arguments.json)
            before = json.loads(path.read_text())["results"] if path.exists() else []
            results = sorted([f for f in before if f["row"] != row] + [found], key=lambda f: f["row"])
            path.write_text(json.dumps({"surroundings": surroundings(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
