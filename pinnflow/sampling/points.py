"""Quasi-random points of boxes and their faces, from a generator the caller owns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import qmc
from sympy import Expr

from pinnflow.compiler.places import low_end
from pinnflow.declare.analysis import Block, Part

Bounds = Mapping[Expr, tuple[float, float]]


def draw_part(part: Part, bounds: Bounds, columns: Sequence[Expr], n: int, rng: np.random.Generator) -> np.ndarray:
    """Points of one part, `[n, D]` in problem units: pinned columns set, free ones of low discrepancy in the open box.

    A part without free columns has one point, so the result has one row. Along an unbounded axis the points follow
    s/(1 - s) from the finite end, or s/(1 - s^2) with s in (-1, 1), in problem units.

    Args:
        part: says which columns are pinned where.
        bounds: `{column: (low, high)}`.
        columns: the columns, in order.
        n: number of points.
        rng: the generator; the same state gives the same points.
    """
    free = [column for column in columns if column not in part.pins]
    if not free:
        n = 1
    points = np.empty((n, len(columns)))
    cube = unit_cube(n, len(free), rng)
    place = {column: i for i, column in enumerate(free)}
    for i, column in enumerate(columns):
        if column in part.pins:
            pin = part.pins[column]
            points[:, i] = low_end(bounds[column]) if pin is None else float(pin)
        else:
            points[:, i] = _stretch(cube[:, place[column]], *bounds[column])
    return points


def draw_block(
    block: Block, bounds: Bounds, columns: Sequence[Expr], n: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Points of a block and the row numbers of each of its parts: a condition on many faces shares `n` among them.

    Returns:
        points: `[m, D]`, m about n; at least one row for each part, and one row for a point condition.
        rows: for each part its row numbers.
    """
    shares = [n // len(block.parts) + (i < n % len(block.parts)) for i in range(len(block.parts))]
    pieces = [
        draw_part(part, bounds, columns, max(1, share), rng) for part, share in zip(block.parts, shares, strict=True)
    ]
    ends = np.cumsum([0, *map(len, pieces)])
    return np.concatenate(pieces), [np.arange(a, b) for a, b in itertools.pairwise(ends)]


def unit_cube(n: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """n points of low discrepancy in the open unit cube, `[n, dimension]` (scrambled Sobol; Owen, 1995)."""
    if dimension == 0:
        return np.empty((n, 0))
    # An own child seed: scipy's keyword for a generator differs between releases, an integer works in all.
    sobol = qmc.Sobol(dimension, scramble=True, seed=int(rng.integers(2**31)))
    cube = sobol.random_base2(max(0, math.ceil(math.log2(max(n, 1)))))[:n]
    return np.clip(cube, 2.0**-31, 1 - 2.0**-31)


def _stretch(s: np.ndarray, low: float, high: float) -> np.ndarray:
    """The unit interval to (low, high)."""
    if math.isinf(low) and math.isinf(high):
        s = 2 * s - 1
        return s / (1 - s * s)
    if math.isinf(high):
        return low + s / (1 - s)
    if math.isinf(low):
        return high - s / (1 - s)
    return low + (high - low) * s
