"""Radau IIA of order 2s - 1 for M y' = f(t, y): stiff, L-stable, with a continuous output of degree s.

Written here because the common library's Radau has three stages, a cubic output that limits the accuracy between
steps, and no mass matrix. Five stages: order 9 at the steps, order 6 everywhere in between.

Source: Hairer & Wanner, Solving Ordinary Differential Equations II, sections IV.5 and IV.8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import scipy.linalg
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.special import roots_jacobi

from pinnflow.trial.evolution import lagrange_table

LOST = 1e-7  # relative defect of a solve that says a factorisation is not to be trusted
TRUSTED = 1e-6  # relative error of a solve that is certainly met
CHEAP = 300  # unknowns; above, a factorisation is dearer than the steps it saves


@dataclass(frozen=True)
class Tableau:
    """Coefficients of the s-stage method.

    Attributes:
        nodes: c, `[s]`, the last is 1.
        inverse: A^-1, `[s, s]`.
        values: eigenvalues of A^-1: the real one first, then one of every complex pair.
        to_modes, from_modes: `T^-1` rows and `T` columns for these eigenvalues.
        error: e with err = (M/(h g) - J)^-1 (f(t0, y0) + M sum_i e_i z_i / h), `[s]`.
    """

    nodes: np.ndarray
    inverse: np.ndarray
    values: np.ndarray
    to_modes: np.ndarray
    from_modes: np.ndarray
    error: np.ndarray


@lru_cache(maxsize=4)
def tableau(stages: int) -> Tableau:
    """The tableau of the Radau IIA method with an odd number of stages."""
    inner = roots_jacobi(stages - 1, 1, 0)[0] if stages > 1 else np.zeros(0)
    nodes = np.append((inner + 1) / 2, 1.0)
    powers = np.vander(nodes, stages, increasing=True)
    integrals = nodes[:, None] ** np.arange(1, stages + 1) / np.arange(1, stages + 1)
    a = integrals @ np.linalg.inv(powers)
    inverse = np.linalg.inv(a)
    values, vectors = np.linalg.eig(inverse)
    keep = [int(np.argmin(np.abs(values.imag)))] + [i for i in range(stages) if values[i].imag > 1e-9]
    back = np.linalg.inv(vectors)
    real = values[keep[0]].real
    # Embedded formula of order s that also uses f(t0, y0) with weight g = 1 / real eigenvalue.
    g = 1 / real
    right = 1 / np.arange(1, stages + 1)
    right[0] -= g
    embedded = np.linalg.solve(powers.T, right)
    error = (embedded - a[-1]) @ inverse / g
    # The eigenvector of the real eigenvalue is real up to a phase.
    return Tableau(nodes, inverse, values[keep], back[keep], vectors[:, keep], error)


@dataclass
class Path:
    """The computed solution: on step i it is the polynomial of degree s through `states[i]` at the nodes (0, c).

    Attributes:
        times: `[steps + 1]`.
        states: `[steps, s + 1, n]`.
        reached: the last time; below the asked one when the integration stopped early.
        trouble: empty, or why it stopped, in words.
    """

    times: np.ndarray
    states: np.ndarray
    reached: float
    trouble: str = ""
    statistics: dict = field(default_factory=dict)


def integrate(
    f: Callable,
    jacobian: Callable,
    span: tuple[float, float],
    start: np.ndarray,
    tolerance: float,
    *,
    mass: np.ndarray | None = None,
    blocks: list[slice] | None = None,
    stages: int = 5,
    constant_jacobian: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    max_steps: int = 20_000,
    on_step: Callable[[float], None] = lambda t: None,
) -> Path:
    """Integrate M y' = f(t, y) from span[0] to span[1].

    Args:
        f: `(times [k], states [k, n]) -> [k, n]`.
        jacobian: `(time, state [n]) -> [n, n]`.
        span: start and end.
        start: `[n]`.
        tolerance: local error per step, relative to the largest norm each block of the state has reached.
        mass: `[n, n]` or None for the identity; may be singular of index 1.
        blocks: slices of the state that are measured separately.
        stages: odd.
        constant_jacobian: f is affine in the state with constant coefficients, so one Jacobian serves.
        should_stop: asked once per step.
        max_steps: bound on accepted and rejected steps.
        on_step: told the time after every accepted step.
    """
    rule = tableau(stages)
    t, end = span
    y = np.asarray(start, dtype=float)
    n = len(y)
    identity = mass is None
    m = np.eye(n) if identity else mass
    blocks = blocks or [slice(0, n)]
    sizes = np.array([np.linalg.norm(y[b]) for b in blocks])
    floor = max(sizes.max(), _size_to_come(f, span, y)) * 1e-3
    apply_mass = (lambda v: v) if identity else (lambda v: (m @ v.T).T)
    newton_limit = max(10 * np.finfo(float).eps / tolerance, min(0.03, tolerance**0.5))

    def norm(v):
        """Largest over blocks of |v_block| / (tolerance * size of the block); 1 is the allowed error."""
        scale = tolerance * np.maximum(sizes, floor)
        return max(np.linalg.norm(v[..., b]) / s for b, s in zip(blocks, scale, strict=True))

    now = f(np.array([t]), y[None])[0]
    # The first and the longest step shrink with the tolerance as those between do. Else two runs on a smooth solution
    # could take the same steps, share their error, and look exact when compared.
    fineness = tolerance ** (1 / (stages + 1))
    longest = min(1.0, 2 * fineness) * (end - t)
    speed = max(norm(now) * tolerance, 1e-300)
    h = min(longest, 0.05 * fineness * max(1.0, norm(y) * tolerance) / speed)
    h = max(h, 1e-12 * (end - t))
    jac, jac_fresh = jacobian(t, y), True
    factors, factored_h = None, None
    times, states = [t], []
    previous = None  # (h, nodes, values) of the last step, to extrapolate from
    rejected, first = 0, True
    growth = 100.0 if constant_jacobian else 6.0  # of a step; without Newton's method none is too long to converge
    counts = {"steps": 0, "rejected": 0, "factorisations": 0, "jacobians": 1, "iterations": 0}
    nodes0 = np.append(0.0, rule.nodes)

    while end - t > 1e-14 * (end - span[0]):
        if counts["steps"] + counts["rejected"] >= max_steps:
            return _path(times, states, t, f"more than {max_steps} time steps", counts)
        if should_stop():
            return _path(times, states, t, "the time limit was reached", counts)
        h = min(h, longest, end - t)
        if t + h * 1.01 >= end:
            h = end - t
        if h < 1e-13 * (end - span[0]):
            return _path(
                times, states, t, f"the time step shrank to {h:.1e} at {t:.6g}; the solution may blow up", counts
            )
        if factors is None or factored_h != h:
            with np.errstate(all="ignore"):
                shifts = [rule.values[0].real, *rule.values[1:]]
                factors = [factor(shift / h * m - jac) for shift in shifts]
            factored_h = h
            counts["factorisations"] += 1
        # Start from the continuation of the last step's polynomial.
        if previous is None:
            z = np.zeros((stages, n))
        else:
            old_h, old = previous
            z = lagrange_table(nodes0, 1 + rule.nodes * h / old_h, 0) @ old - y
        converged, slow = False, None
        stage_times = t + rule.nodes * h
        last = None
        for iteration in range(12):
            values = f(stage_times, y + z)
            if not np.all(np.isfinite(values)):
                break
            residual = values - rule.inverse @ apply_mass(z) / h  # [s, n]
            change = np.zeros((stages, n))
            modes = rule.to_modes @ residual
            for i, factors_of_mode in enumerate(factors):
                solved = factors_of_mode.solve(modes[i])
                part = np.outer(rule.from_modes[:, i], solved).real
                change += part if i == 0 else 2 * part
            z = z + change
            counts["iterations"] += 1
            size = norm(change) / stages**0.5
            if last is not None:
                rate = size / last
                if rate >= 0.99 or size * rate ** (11 - iteration) / (1 - min(rate, 0.99)) > newton_limit * 10:
                    if size > newton_limit:
                        break
                slow = rate
                if rate / (1 - min(rate, 0.99)) * size < newton_limit:
                    converged = True
                    break
            elif size < newton_limit * 1e-2 or (constant_jacobian and size * TRUSTED < newton_limit):
                converged, slow = True, 0.0
                break
            last = size
        if not converged:
            counts["rejected"] += 1
            previous = previous if counts["rejected"] % 2 else None
            if not jac_fresh:
                jac, jac_fresh = jacobian(t, y), True
                counts["jacobians"] += 1
            else:
                h *= 0.4
            factors = None
            continue
        raw = now + apply_mass(rule.error @ z) / h
        err = factors[0].solve(raw).real
        size = norm(err)
        if size >= 1 and (first or rejected):
            err = factors[0].solve(f(np.array([t]), (y + err)[None])[0] + apply_mass(rule.error @ z) / h).real
            size = norm(err)
        safety = 0.9 * 25 / (24 + iteration + 1)
        change_of_h = min(growth, max(0.2, safety * max(size, 1e-12) ** (-1 / (stages + 1))))
        if size >= 1:
            counts["rejected"] += 1
            rejected += 1
            h *= min(change_of_h, 0.8) if not first else min(change_of_h, 0.1)
            factors = None
            continue
        values = np.concatenate([y[None], y + z])
        states.append(values)
        t = t + h
        times.append(t)
        on_step(t)
        counts["steps"] += 1
        previous = (h, values)
        y = values[-1]
        sizes = np.maximum(sizes, [np.linalg.norm(y[b]) for b in blocks])
        now = f(np.array([t]), y[None])[0]
        first, rejected = False, 0
        if not constant_jacobian and (slow is None or slow > 1e-3):
            jac, jac_fresh = jacobian(t, y), True
            counts["jacobians"] += 1
            factors = None
        else:
            jac_fresh = constant_jacobian
        if change_of_h < 1.0 or change_of_h > (1.3 if n < CHEAP else 1.8):  # keeping h keeps the factorisation
            h *= change_of_h
    return _path(times, states, t, "", counts)


def _size_to_come(f, span, start):
    """For a start at zero: what the driving terms amount to within a hundredth of the time."""
    if start.any():
        return 0.0
    moments = np.linspace(*span, 9)
    driven = np.linalg.norm(f(moments, np.tile(start, (len(moments), 1))), axis=1).max()
    return driven * (span[1] - span[0]) / 100 or 1.0


class SparseFactors:
    """LU decomposition of a sparse matrix whose pattern is nearly symmetric.

    Rows are scaled to a largest entry of 1 and pivots stay on the diagonal where it is not tiny, so that the fill stays
    small. Where that loses digits, rows are exchanged freely: ten times dearer for products of splines.
    """

    def __init__(self, matrix):
        matrix = matrix.tocsr()
        self.real = matrix.dtype.kind != "c"
        self.scale = 1 / np.maximum(abs(matrix).max(axis=1).toarray().ravel(), 1e-300)
        scaled = (sparse.diags(self.scale) @ matrix).tocsc()
        try:
            self.lu = splu(scaled, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01, options={"SymmetricMode": True})
            right = scaled @ np.ones(len(self.scale), dtype=scaled.dtype)
            lost = not np.abs(scaled @ self.lu.solve(right) - right).max() < LOST * np.abs(right).max()
        except RuntimeError:  # exactly singular with these pivots
            lost = True
        if lost:
            self.lu = splu(scaled)

    def solve(self, right):
        """`A^-1 right`; a complex right side of a real matrix is solved in two parts."""
        right = self.scale * right
        if np.iscomplexobj(right) and self.real:
            return self.lu.solve(right.real.copy()) + 1j * self.lu.solve(right.imag.copy())
        return self.lu.solve(right)


class DenseFactors:
    """LU decomposition of a full matrix, which is overwritten."""

    def __init__(self, matrix):
        self.lu = scipy.linalg.lu_factor(matrix, overwrite_a=True, check_finite=False)

    def solve(self, right):
        """`A^-1 right`; a complex right side of a real matrix is solved in two parts."""
        if np.iscomplexobj(right) and not np.iscomplexobj(self.lu[0]):
            both = scipy.linalg.lu_solve(self.lu, np.column_stack([right.real, right.imag]), check_finite=False)
            return both[:, 0] + 1j * both[:, 1]
        return scipy.linalg.lu_solve(self.lu, right, check_finite=False)


def factor(matrix) -> SparseFactors | DenseFactors:
    """The decomposition that fits the kind of matrix."""
    return SparseFactors(matrix) if sparse.issparse(matrix) else DenseFactors(matrix)


def _path(times, states, t, trouble, counts):
    shape = np.array(states) if states else np.zeros((0, 0, 0))
    return Path(np.array(times), shape, t, trouble, counts)
