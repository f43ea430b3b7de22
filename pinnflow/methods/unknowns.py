"""Unknown coefficients: where their search starts, in which scale, and how well observations determine them.

A search moves in a variable z of its own for each coefficient: log c where the bounds are positive and wide, else c in
units of its bounds or its start, so that a step of 1 is large for every one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import sympy
import torch

from pinnflow.declare.statements import Bounds, Condition
from pinnflow.methods.base import Clock, Task

RANK_CUT = 1e-7  # singular values of the sensitivities below this part of the largest count as zero
WIDE = 4.0  # ratio of positive bounds above which the search is in the logarithm


@dataclass(frozen=True)
class Found:
    """A coefficient that was found.

    Attributes:
        value: in problem units.
        standard_error: its standard deviation; inf where the observations do not determine it.
    """

    value: float
    standard_error: float

    def __float__(self) -> float:
        return self.value


class Coefficients:
    """The unknown coefficients of a problem and the scaled variables `z [k]` in which they are searched."""

    def __init__(self, task: Task):
        self.symbols = tuple(task.problem.unknowns)
        self.given = tuple(task.problem.unknowns.values())
        self.logarithmic = np.array([isinstance(g, Bounds) and g.low > 0 and g.high / g.low > WIDE for g in self.given])
        units, low, high, start = [], [], [], []
        for g, logarithmic in zip(self.given, self.logarithmic, strict=True):
            if isinstance(g, Bounds):
                ends = (math.log(g.low), math.log(g.high)) if logarithmic else (g.low, g.high)
                unit = 1.0 if logarithmic else (g.high - g.low) / 2
                low.append(ends[0] / unit)
                high.append(ends[1] / unit)
                start.append((ends[0] + ends[1]) / 2 / unit)
            else:
                unit = abs(float(g)) or 1.0
                low.append(-math.inf)
                high.append(math.inf)
                start.append(float(g) / unit)
            units.append(unit)
        self.cautious = ~np.isfinite(np.array(low))  # may cross zero only once they are small
        self.shown = len(self.symbols)  # how many are named in messages
        self.units, self.low, self.high, self.start = map(np.array, (units, low, high, start))

    def __len__(self) -> int:
        return len(self.symbols)

    def values(self, z: np.ndarray) -> np.ndarray:
        """The coefficients in problem units, `[k]`."""
        plain = z * self.units
        return np.where(self.logarithmic, np.exp(np.where(self.logarithmic, plain, 0.0)), plain)

    def slopes(self, z: np.ndarray) -> np.ndarray:
        """dc/dz, `[k]`."""
        return np.where(self.logarithmic, self.values(z), self.units)

    def clip(self, z: np.ndarray) -> np.ndarray:
        """The nearest point within the bounds."""
        return np.clip(z, self.low, self.high)

    def cautiously(self, z: np.ndarray, target: np.ndarray) -> np.ndarray:
        """`target` moved so that no unbounded coefficient loses more than four fifths of its size at once.

        Many a coefficient has only one sign that makes sense, and a step beyond zero would cost a failed solution.
        """
        keep = self.cautious & (np.abs(z) > 1e-3) & (target * np.sign(z) < 0.2 * np.abs(z))
        return np.where(keep, 0.2 * z, target)

    def step(self, z: np.ndarray) -> np.ndarray:
        """Per variable a step for difference quotients, turned inwards at an upper bound."""
        h = 1e-4 * np.maximum(np.where(np.isfinite(self.low), 1.0, np.abs(z)), 0.1)
        return np.where(z + h > self.high, -h, h)

    def other_starts(self, count: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Further starts: spread over the bounds, or over a decade either way of an unbounded start."""
        cube = rng.permuted(np.tile((np.arange(count) + 0.5) / count, (len(self), 1)), axis=1).T
        bounded = np.isfinite(self.low)
        inside = np.where(bounded, self.low, 0.0) + np.where(bounded, self.high - self.low, 0.0) * cube
        return list(np.where(bounded, inside, self.start * 10 ** (2 * cube - 1)))

    def text(self, z: np.ndarray) -> str:
        """`p = 1.02, q = 0.0031`."""
        values = zip(self.symbols[: self.shown], self.values(z)[: self.shown], strict=True)
        return ", ".join(f"{s} = {v:.6g}" for s, v in values)

    def variable(self, i: int, value: float) -> float:
        """z of the i-th coefficient for its value in problem units."""
        return (math.log(value) if self.logarithmic[i] else value) / self.units[i]


def fixed(task: Task, values, observations: bool = False) -> Task:
    """The task with numbers for the unknown coefficients: a forward problem.

    Args:
        values: `[k]`, problem units.
        observations: keep the observations as statements to be matched.
    """
    problem = task.problem
    numbers = {s: sympy.Float(float(v)) for s, v in zip(problem.unknowns, values, strict=True)}

    def put(statement):
        if isinstance(statement, Condition):
            return Condition(put(statement.eq), statement.on, statement.name, statement.weight)
        return statement.xreplace(numbers)

    kept = [type(o)(o.expression.xreplace(numbers), dict(o.at), o.values, o.noise) for o in problem.observations]
    forward = problem.with_(
        equations=[put(e) for e in problem.equations],
        conditions=[put(c) for c in problem.conditions],
        unknowns={},
        observations=kept if observations else (),
        exact=None,
    )
    clock = Clock(None)
    clock.start, clock.limit = task.clock.start, task.clock.limit
    return replace(
        task,
        problem=forward,
        clock=clock,
        report=_silent,
        callbacks=(),
        history=[],
        latest=None,
        on_keep=_silent,
        start=None,
        network=None,
        alternative=False,
    )


def _silent(*_, **__):
    pass


class Data:
    """All observations of a problem as one vector.

    Attributes:
        values: measured, `[n]`.
        noise: `[n]`, standard deviations, or None when any of them is unknown.
        spread: `[n]`, per value the standard deviation of its observation: what a misfit is compared with.
    """

    def __init__(self, task: Task):
        self.task = task
        self.terms = [t for t in task.terms if t.block.kind == "observation"]
        data = [t.block.data for t in self.terms]
        self.points = [torch.as_tensor(np.array(points, dtype=float)) for points, _, _ in data]
        self.values = np.concatenate([np.asarray(v, dtype=float).reshape(-1) for _, v, _ in data])
        self.noise = None
        if all(noise is not None for _, _, noise in data):
            self.noise = np.concatenate([np.broadcast_to(np.asarray(s, float).reshape(-1), len(v)) for _, v, s in data])
        spread = [np.full(np.size(v), float(np.std(v)) or float(np.max(np.abs(v))) or 1.0) for _, v, _ in data]
        self.spread = np.concatenate(spread)

    @property
    def scale(self) -> np.ndarray:
        """What residuals are divided by: the noise, or the spread where it is unknown."""
        return self.spread if self.noise is None else self.noise

    def predict(self, function, values) -> np.ndarray:
        """What `function` with these coefficients would have given, `[n]`."""
        from pinnflow.methods.rows import atom_values

        unknowns = [torch.tensor(float(v), dtype=torch.float64) for v in values]
        parts = [
            t.residual.value(p, atom_values(self.task, t, p, function), unknowns).numpy()
            for t, p in zip(self.terms, self.points, strict=True)
        ]
        return np.concatenate(parts)


@dataclass(frozen=True)
class Certainty:
    """How well the observations determine the coefficients.

    Attributes:
        covariance: of z, `[k, k]`; without the directions that are not determined.
        lost: per coefficient, whether it takes part in a direction that is not determined.
        noise: the estimated standard deviation of a residual, in units of `Data.scale`.
    """

    covariance: np.ndarray
    lost: np.ndarray
    noise: float


def certainty(jacobian: np.ndarray, residual: np.ndarray, noise_known: bool) -> Certainty:
    """Gauss-Newton covariance sigma^2 (J^T J)^-1 by the SVD of J.

    Args:
        jacobian: `[n, k]` of scaled residuals by z.
        residual: `[n]`, scaled; `sum / (n - k)` estimates the noise where it is not known.
        noise_known: residuals are in units of their standard deviation.
    """
    n, k = jacobian.shape
    noise = 1.0 if noise_known else float(np.sqrt(np.sum(residual**2) / max(n - k, 1)))
    _, s, vt = np.linalg.svd(jacobian, full_matrices=True)
    s = np.concatenate([s, np.zeros(k - len(s))])
    kept = s > RANK_CUT * max(s[0], 1e-300)
    covariance = noise**2 * (vt[kept].T / s[kept] ** 2) @ vt[kept]
    lost = (np.abs(vt[~kept]) > 1e-3).any(axis=0) if not kept.all() else np.zeros(k, dtype=bool)
    return Certainty(covariance, lost, noise)


def identifiability_remark(symbols, lost: np.ndarray) -> str:
    """The sentence on coefficients that the observations do not determine; empty when they do."""
    if not lost.any():
        return ""
    names = ", ".join(str(s) for s, bad in zip(symbols, lost, strict=True) if bad)
    several = int(lost.sum()) > 1
    return (
        f"the observations do not determine {names}: "
        + ("only a combination of them matters" if several else "it changes nothing that was observed")
        + "; add observations that tell them apart, or fix one" * several
        + "; add observations that depend on it" * (not several)
    )
