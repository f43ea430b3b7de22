"""Problems whose coefficients are to be found: the observations, and what the best possible accuracy is.

Without noise the error is the largest relative error of the coefficients. With noise it is, for the worst coefficient,
the root mean square over several draws of its error divided by the Cramer-Rao bound of the draw: no unbiased estimate
is below 1 in the mean. The bound comes from the sensitivities of the reference, never from pinnflow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.references import cole_hopf
from pinnflow.methods.base import Clock

Values = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Observed:
    """Where observations of a field are taken, and what is true.

    Attributes:
        truth: the coefficients by name.
        field: values at arrays of the coordinates.
        sensitivities: `[n, coefficients]`, derivatives of the values by the coefficients, in the order of `truth`.
        box: `(low, high)` per coordinate; points are uniform in it.
        count: number of points.
        noise: standard deviation of the normal noise as a part of that of the field.
    """

    truth: dict[str, float]
    field: Values
    sensitivities: Values
    box: tuple[tuple[float, float], ...]
    count: int
    noise: float

    @classmethod
    def burgers(cls, noise: float) -> Observed:
        """500 values of row 1, whose coefficients are p = 1 before u u_x and q = 0.01/pi."""
        truth = {"p": 1.0, "q": 0.01 / np.pi}
        return cls(
            truth,
            cole_hopf.burgers(truth["q"], advection=truth["p"]),
            lambda t, x: cole_hopf.burgers_sensitivities(t, x, *truth.values()),
            ((0, 1), (-1, 1)),
            500,
            noise,
        )

    def draw(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(points `[n, D]`, observed values `[n]`, Cramer-Rao bound of each coefficient) of one draw."""
        rng = np.random.default_rng((27, number))
        points = rng.uniform(*np.transpose(self.box), (self.count, len(self.box)))
        exact = self.field(*points.T)
        noise = self.noise * float(np.std(exact))
        bounds = cramer_rao(self.sensitivities(*points.T), noise) if noise else np.zeros(len(self.truth))
        return points, exact + noise * rng.normal(size=self.count), bounds


def cramer_rao(sensitivities: np.ndarray, noise: float) -> np.ndarray:
    """`[k]`: least standard deviations of unbiased estimates, from `[n, k]` sensitivities and independent normal noise.

    sigma sqrt(diag((J^T J)^-1)), by the singular values of J.
    """
    _, s, vt = np.linalg.svd(sensitivities, full_matrices=False)
    return noise * np.sqrt(np.sum((vt.T / s) ** 2, axis=1))


def find(declare: Callable, observed: Observed, seed: int, number: int) -> dict:
    """One fit to one draw, as JSON: what was found, how far off it is, and the bound."""
    points, values, bounds = observed.draw(number)
    problem = declare(points, values)
    started, busy = time.perf_counter(), time.process_time()
    solution = problem.fit(seed=seed)
    seconds, processor = time.perf_counter() - started, time.process_time() - busy
    found = {symbol.name: estimate for symbol, estimate in solution.unknowns.items()}
    return {
        "draw": number,
        "seconds": seconds,
        "processor": processor,
        "method": solution.method,
        "reason": solution.reason,
        "stop": str(solution.stop),
        "coefficients": {
            name: {
                "error": float(found[name]) - true,
                "standard_error": found[name].standard_error,
                "bound": float(bound),
                "true": true,
            }
            for (name, true), bound in zip(observed.truth.items(), bounds, strict=True)
        },
    }


def solve_observed(declare: Callable, observed: Observed, seed: int, draws: int) -> dict:
    """Error, estimate and time of a row, as JSON; exact observations are drawn once, noisy ones `draws` times.

    The time is that of the slowest draw.
    """
    runs = [find(declare, observed, seed, number) for number in range(draws if observed.noise else 1)]

    def worst(key):
        measures = []
        for name in observed.truth:
            facts = [run["coefficients"][name] for run in runs]
            unit = [f["bound"] if observed.noise else abs(f["true"]) for f in facts]
            measures.append(np.sqrt(np.mean([(f[key] / one) ** 2 for f, one in zip(facts, unit, strict=True)])))
        return float(max(measures))

    return {
        "error": worst("error"),
        "estimate": worst("standard_error"),
        "seconds": max(run["seconds"] for run in runs),
        "processor": max(run["processor"] for run in runs),
        "clock": "processor" if Clock.now is time.process_time else "wall",
        "load": os.getloadavg()[0],
        "method": runs[0]["method"],
        "reason": runs[0]["reason"],
        "stop": runs[0]["stop"],
        "draws": runs,
    }
