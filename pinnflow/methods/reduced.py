"""Large linear systems M y' = J y + s(t) with constant matrices, integrated in a small space that holds the solution.

The space is spanned by chains v, A(v), A(A(v)), ... of A = (c M - J)^-1 M from the initial state and from the sources,
with a few shifts c between the slowest and the fastest rates that matter (rational Krylov space). It takes one real
factorisation per shift, however many time steps follow. The reduced system H z' = (c H - 1) z + b(t), H the projection
of A, is small and goes to `radau.py`; the space grows until two solutions agree.

Sources: Ruhe, Rational Krylov, SIAM J. Sci. Comput. 19 (1998); Güttel, Rational Krylov approximation of matrix
functions, GAMM-Mitt. 36 (2013).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pinnflow.methods import radau

SHIFTS = (5.0, 50.0, 500.0)  # times the inverse of the time span
CYCLES = 4  # times through the shifts between two looks at the solution
LARGEST_SPACE = 240
MOST_SOURCES = 12  # directions in which a moving source may point
SAMPLES = (33, 65, 129)  # Chebyshev points in time at which a source is taken
LOOKS = 33  # times at which two solutions are compared


@dataclass(frozen=True)
class Sources:
    """s(t) = sum_i c_i(t) d_i with Chebyshev series c_i.

    Attributes:
        directions: d, `[r, n]`.
        series: coefficients of c on the time span, `[degree + 1, r]`.
    """

    directions: np.ndarray
    series: np.ndarray

    def at(self, share: np.ndarray) -> np.ndarray:
        """c at places in [-1, 1], `[k, r]`."""
        return np.polynomial.chebyshev.chebval(share, self.series).T.reshape(len(share), -1)


def separate(drive: Callable, moving: bool, span: tuple[float, float], tolerance: float) -> Sources | None:
    """The sources in a few directions; None when they are not smooth in time or point anywhere."""
    start, end = span
    if not moving:
        constant = drive(np.array([start]))[:1]
        return Sources(constant, np.ones((1, 1)))
    for count in SAMPLES:
        places = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        samples = drive(start + (end - start) * (places + 1) / 2)
        u, s, vt = np.linalg.svd(samples, full_matrices=False)
        rank = int((s > 1e-2 * tolerance * s[0]).sum())
        series = np.polynomial.chebyshev.chebfit(places, u[:, :rank] * s[:rank], count - 1)
        if np.abs(series[-3:]).max() <= tolerance * np.abs(series).max():
            return Sources(vt[:rank], series) if rank <= MOST_SOURCES else None
    return None


class Space:
    """The vectors and the projected operator, grown chain by chain.

    Args:
        jacobian, mass: J and M, sparse or full `[n, n]`.
        gram: of the inner product in which the vectors are orthonormal.
        seconds: length of the time span.
    """

    def __init__(self, jacobian, mass, gram, seconds: float):
        self.mass, self.gram = mass, gram
        self.shifts = [shift / seconds for shift in SHIFTS]
        self.factors = [radau.factor(shift * mass - jacobian) for shift in self.shifts]
        middle = len(self.shifts) // 2
        self.shift, self.solver = self.shifts[middle], self.factors[middle]
        self.vectors = np.zeros((0, mass.shape[0]))
        self.images = np.zeros((0, mass.shape[0]))  # A v of every vector

    def add(self, vector: np.ndarray) -> np.ndarray | None:
        """The part of a vector that is new, normalised and taken in; None when nothing is new."""
        before = np.sqrt(max(vector @ (self.gram @ vector), 0.0))
        if before == 0.0 or not np.isfinite(before):
            return None
        vector = vector / before
        for _ in range(2):
            vector = vector - (self.vectors @ (self.gram @ vector)) @ self.vectors
        size = np.sqrt(max(vector @ (self.gram @ vector), 0.0))
        if size < 1e-12:
            return None
        vector = vector / size
        self.vectors = np.concatenate([self.vectors, vector[None]])
        self.images = np.concatenate([self.images, self.solver.solve(self.mass @ vector)[None]])
        return vector

    def project(self, vector: np.ndarray) -> np.ndarray:
        """Coefficients of the nearest vector of the space."""
        return self.vectors @ (self.gram @ vector)


def integrate(
    jacobian,
    mass,
    gram,
    drive: Callable,
    moving: bool,
    span: tuple[float, float],
    start: np.ndarray,
    tolerance: float,
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[float], None] = lambda t: None,
) -> radau.Path | None:
    """The path of M y' = J y + s(t) over the whole span; None where a small space does not hold it.

    Args:
        jacobian, mass: sparse or full `[n, n]`; rows of M may be zero (conditions).
        gram: of the inner product that measures states, symmetric and positive.
        drive: `times [k] -> s [k, n]` (one row when it does not move).
        moving: whether s depends on time.
        span: start and end.
        start: `[n]`.
        tolerance: relative, of the result.
        should_stop: asked between two vectors.
        on_step: told the time reached.
    """
    sources = separate(drive, moving, span, tolerance)
    if sources is None:
        return None
    length = span[1] - span[0]
    space = Space(jacobian, mass, gram, length)
    forced = np.stack([space.solver.solve(d) for d in sources.directions])  # (c M - J)^-1 d
    chains = [space.add(v) for v in (start, *forced)]
    looks = np.linspace(*span, LOOKS)
    before = None
    while any(c is not None for c in chains) and len(space.vectors) < LARGEST_SPACE:
        for _ in range(CYCLES):
            for factors in space.factors:
                for i, last in enumerate(chains):
                    if last is not None:
                        chains[i] = space.add(factors.solve(mass @ last))
            if should_stop():
                return None
        path = _solve_reduced(space, sources, forced, span, start, tolerance)
        if path.trouble:
            return None
        now = at_times(path, looks) @ space.vectors
        if before is not None:
            change, size = np.abs(now - before).max(), np.abs(now).max()
            if change <= tolerance * size:
                on_step(span[1])
                # In units of what an integration of the whole system does.
                work = {"factorisations": 1, "jacobians": 1, "iterations": len(space.vectors) // 5}
                return radau.Path(path.times, path.states @ space.vectors, path.reached, "", work)
        before = now
    return None


def _solve_reduced(space, sources, forced, span, start, tolerance):
    h = space.vectors @ (space.gram @ space.images.T)
    slope = space.shift * h - np.eye(len(h))
    loads = np.stack([space.project(b) for b in forced])  # [r, m]

    def right_side(times, states):
        share = 2 * (times - span[0]) / (span[1] - span[0]) - 1
        return states @ slope.T + sources.at(share) @ loads

    return radau.integrate(
        right_side,
        lambda t, y: slope,
        span,
        space.project(start),
        tolerance,
        mass=h,
        constant_jacobian=True,
    )


def at_times(path: radau.Path, moments: np.ndarray) -> np.ndarray:
    """`[k, n]`: the states of a path at several times."""
    step = np.clip(np.searchsorted(path.times, moments, side="right") - 1, 0, len(path.states) - 1)
    share = (moments - path.times[step]) / np.diff(path.times)[step]
    nodes = np.append(0.0, radau.tableau(path.states.shape[1] - 1).nodes)
    return np.einsum("kj,kjn->kn", radau.lagrange_table(nodes, share, 0), path.states[step])
