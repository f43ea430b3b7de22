"""y' = L y + N(t, y) with a diagonal L: exponential Runge-Kutta steps of order 4, the path kept in a few directions.

L is integrated exactly, so that fast decay costs no steps; N is taken at explicit stages, so that no system of
equations is solved. Right where N is not much faster than the solution.

Sources: Krogstad, Generalized integrating factor methods for stiff PDEs, J. Comput. Phys. 203 (2005), the stages;
Whalen, Brio & Moloney, Exponential time-differencing with embedded Runge-Kutta adaptive step control, J. Comput. Phys.
280 (2015), the error of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pinnflow.methods.radau import tableau

OVERSTATED = 10.0  # how much larger the embedded error, of order 3, is than that of a step
BATCH = 32  # steps whose states are compressed together
KEPT = 1.0  # of the allowed error of a step, what compression may leave out: it does not add up over steps
SLAVED = 10.0  # step over decay time above which a mode follows N
NODES = np.append(0.0, tableau(5).nodes)  # of the polynomial on two steps: degree 5


@dataclass
class Flow:
    """The computed path: on interval i the polynomial through `states[i]` at `NODES`, in terms of `directions`.

    Attributes:
        times: `[intervals + 1]`.
        states: `[intervals, 6, r]`.
        directions: `[r, n]`, orthonormal.
        reached: the last time; below the asked one when the integration stopped early.
        trouble: empty, or why it stopped, in words.
    """

    times: np.ndarray
    states: np.ndarray
    directions: np.ndarray
    reached: float
    trouble: str = ""
    statistics: dict = field(default_factory=dict)


def integrate(
    rates: np.ndarray,
    source: Callable[[float, np.ndarray], np.ndarray],
    span: tuple[float, float],
    start: np.ndarray,
    tolerance: float,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    max_steps: int = 100_000,
    on_step: Callable[[float], None] = lambda t: None,
) -> Flow:
    """The path from span[0] to span[1].

    Args:
        rates: the diagonal of L, `[n]`.
        source: N, `(time, state [n]) -> [n]`.
        span: start and end.
        start: `[n]`.
        tolerance: local error per step, relative to the largest norm of the state so far.
        should_stop: asked once per step.
        max_steps: bound on accepted and rejected steps.
        on_step: told the time after every accepted step.
    """
    t, end = span
    y, now = start, source(span[0], start)
    longest = (end - t) / 8
    size = max(np.linalg.norm(y), np.linalg.norm(now) * longest * 1e-3, 1e-300)
    h = min(longest, 0.02 * tolerance**0.25 * size / max(np.linalg.norm(now), 1e-300))
    record = Record(len(y))
    before = None  # (step, N) of the last step's begin
    counts = {"steps": 0, "rejected": 0, "evaluations": 1, "tables": 0}
    table, table_h, trouble = None, None, ""
    while end - t > 1e-12 * (end - span[0]):
        if counts["steps"] + counts["rejected"] >= max_steps:
            trouble = f"more than {max_steps} time steps"
        elif should_stop():
            trouble = "the time limit was reached"
        elif h < 1e-12 * (end - span[0]):
            trouble = f"the time step shrank to {h:.1e} at {t:.6g}; the solution may blow up"
        if trouble:
            break
        h = min(h, longest)
        if t + 1.01 * h >= end:
            h = end - t
        if table is None or table_h != h:
            table, table_h = Weights.of(h, rates), h
            counts["tables"] += 1
        new, middle, last = table.step(source, t, y, now)
        after = source(t + h, new)
        counts["evaluations"] += 4
        # N at the last stage against N at the result, and the cubic that the quadratic through the stages leaves out.
        error = np.linalg.norm(table.end * (last - after)) / (OVERSTATED * tolerance * size)
        if before is not None:
            bend = third_difference(before[0] / h, before[1], now, middle, after)
            error = max(error, np.linalg.norm(table.cubic * bend) / (tolerance * size))
        change = min(4.0, max(0.2, 0.85 * max(error, 1e-10) ** -0.25)) if np.isfinite(error) else 0.2
        if not error <= 1:
            counts["rejected"] += 1
            h *= change
            continue
        allowed = KEPT * tolerance * OVERSTATED * size
        curve = 4 * (now - 2 * middle + after)
        if before is None:
            record.add(t, y, slope(rates, h, y, now, -3 * now + 4 * middle - after, curve), allowed)
        before = (h, now)
        record.add(t + h, new, slope(rates, h, new, after, 3 * after - 4 * middle + now, curve), allowed)
        t, y, now = t + h, new, after
        size = max(size, np.linalg.norm(y))
        counts["steps"] += 1
        on_step(t)
        if change < 1.0 or change > 1.3:
            h *= change
    return record.flow(t, trouble, counts)


def third_difference(back: float, before, begin, middle, end) -> np.ndarray:
    """The cubic coefficient of N over a step of length 1 from its values at -back, 0, 1/2 and 1."""
    nodes = np.array([-back, 0.0, 0.5, 1.0])
    shares = [1 / np.prod(np.delete(node - nodes, i)) for i, node in enumerate(nodes)]
    return shares[0] * before + shares[1] * begin + shares[2] * middle + shares[3] * end


def slope(
    rates: np.ndarray, h: float, y: np.ndarray, source: np.ndarray, change: np.ndarray, curve: np.ndarray
) -> np.ndarray:
    """y' = L y + N; where a step is much longer than the decay -N' / L - N'' / L^2, which keeps the error of y small.

    Args:
        rates: the diagonal of L.
        h: the step.
        y: the state.
        source, change, curve: N and its first two derivatives in units of the step.
    """
    z = h * np.where(rates == 0, 1.0, rates)
    fast = 1 - 1 / (1 + (h * rates / SLAVED) ** 4)
    return (1 - fast) * (rates * y + source) - fast * (change + curve / z) / z


@dataclass(frozen=True)
class Weights:
    """Functions of h L that a step needs, each `[n]`, h included."""

    h: float
    half: np.ndarray  # exp(h L / 2)
    half_first: np.ndarray
    half_second: np.ndarray
    whole: np.ndarray  # exp(h L)
    whole_first: np.ndarray
    whole_second: np.ndarray
    begin: np.ndarray  # weights of the stages in the result
    middle: np.ndarray
    end: np.ndarray
    cubic: np.ndarray  # of t (t - 1/2) (t - 1)

    @classmethod
    def of(cls, h: float, rates: np.ndarray) -> Weights:
        """For one length of step."""
        e, f1, f2, f3, f4 = phi(h * rates)
        eh, g1, g2, _, _ = phi(h / 2 * rates)
        return cls(
            h, eh, h / 2 * g1, h * g2, e, h * f1, 2 * h * f2,
            h * (f1 - 3 * f2 + 4 * f3), h * (2 * f2 - 4 * f3), h * (4 * f3 - f2),
            h * (6 * f4 - 3 * f3 + f2 / 2),
        )  # fmt: skip

    def step(self, source, t, y, first):
        """(state after a step, N at the third stage, in the middle, and at the last one)."""
        h = self.h
        decayed = self.half * y + self.half_first * first
        second = source(t + h / 2, decayed)
        third = source(t + h / 2, decayed + self.half_second * (second - first))
        last = source(t + h, self.whole * y + self.whole_first * first + self.whole_second * (third - first))
        return self.whole * y + self.begin * first + self.middle * (second + third) + self.end * last, third, last


def phi(z: np.ndarray) -> list[np.ndarray]:
    """[exp z, phi_1, ... phi_4]: phi_k(z) = (phi_{k-1}(z) - 1 / (k - 1)!) / z, by its series near 0."""
    small = np.abs(z) < 1.0
    safe = np.where(small, 1.0, z)
    result = [np.exp(z)]
    near = z[small]
    for k in (1, 2, 3, 4):
        value = (result[-1] - 1 / math.factorial(k - 1)) / safe
        series = np.zeros_like(near)
        for j in range(17, -1, -1):
            series = series * near + 1 / math.factorial(j + k)
        value[small] = series
        result.append(value)
    return result


class Record:
    """Times, states and their derivatives, as coefficients of directions that grow with the path."""

    def __init__(self, n: int):
        self.directions = np.zeros((0, n))
        self.times: list[float] = []
        self.coefficients: list[np.ndarray] = []
        self.waiting: list[np.ndarray] = []
        self.scales: list[float] = []
        self.allowed = np.inf

    def add(self, t: float, state: np.ndarray, slope: np.ndarray, allowed: float = np.inf) -> None:
        """Take in a state and its derivative; `allowed` is the norm that may be lost."""
        h = t - self.times[-1] if self.times else 1.0
        self.times.append(t)
        self.waiting += [state, slope * h]
        self.scales.append(h)
        self.allowed = min(self.allowed, allowed)
        if len(self.waiting) >= 2 * BATCH:
            self._compress()

    def _compress(self):
        if not self.waiting:
            return
        batch = np.stack(self.waiting)
        rest = batch - (batch @ self.directions.T) @ self.directions
        values, vectors = np.linalg.eigh(rest @ rest.T)
        allowed = self.allowed if np.isfinite(self.allowed) else 0.0
        kept = values > max(allowed**2, 1e-26 * np.square(batch).sum())
        fresh = vectors[:, kept].T @ rest / np.sqrt(values[kept])[:, None]
        fresh = fresh - (fresh @ self.directions.T) @ self.directions
        if len(fresh):
            fresh = np.linalg.qr(fresh.T)[0].T
        self.directions = np.concatenate([self.directions, fresh])
        self.coefficients += list(batch @ self.directions.T)
        self.waiting = []

    def flow(self, reached: float, trouble: str, counts: dict) -> Flow:
        """Polynomials of degree 5 through values and derivatives at three times, on two steps each."""
        self._compress()
        r = len(self.directions)
        table = np.zeros((len(self.times), 2, r))
        for i, row in enumerate(self.coefficients):
            table[i // 2, i % 2, : len(row)] = row
        table[:, 1] /= np.array(self.scales)[:, None]
        times = np.array(self.times)
        steps = len(times) - 1
        if steps < 2:
            return Flow(times[:1], np.zeros((0, 6, r)), self.directions, reached, trouble, counts)
        first = np.arange(0, steps - 1, 2)
        ends = [*first, steps] if steps % 2 == 0 else [*first, steps - 1, steps]
        states = []
        for a, b in pairwise(ends):
            start = min(a, steps - 2)  # a last odd step shares the polynomial of the step before
            local = times[start : start + 3]
            unit = local[-1] - local[0]
            share = (local - local[0]) / unit
            powers = share[:, None] ** np.arange(6)
            slopes = np.arange(6) * share[:, None] ** np.maximum(np.arange(6) - 1, 0)
            known = np.concatenate([table[start : start + 3, 0], table[start : start + 3, 1] * unit])
            polynomial = np.linalg.solve(np.concatenate([powers, slopes]), known)
            wanted = (times[a] + NODES * (times[b] - times[a]) - local[0]) / unit
            states.append(wanted[:, None] ** np.arange(6) @ polynomial)
        return Flow(times[ends], np.array(states), self.directions, reached, trouble, counts)
