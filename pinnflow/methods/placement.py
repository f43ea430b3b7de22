"""Products of splines whose knots follow a function: dense where it varies, along each axis by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pinnflow.methods.base import Task
from pinnflow.methods.rows import Function, row_terms
from pinnflow.methods.spaces import spread
from pinnflow.methods.spline_products import composite_gauss
from pinnflow.trial.expansion import Expansion
from pinnflow.trial.features import Product, Spline

DEGREE = 7  # of splines for equations up to the second order; each higher order takes one more
ALONG = 401  # places at which a function is looked at along an axis
ACROSS = {1: 1, 2: 101, 3: 25, 4: 9}  # and along each other axis, by the number of axes
DERIVATIVES = (2, 4)
VANISHING = 1e-9  # part of the largest field, below which a field does not count
Sample = Callable[[list[np.ndarray], int, list[tuple[int, ...]]], list[np.ndarray]]  # scaled places, field, orders
PER_PIECE = 2  # Gauss points on a piece along each axis; more towards ends, where more splines overlap


def splines_apply(task: Task) -> bool:
    """Whether all fields depend on two coordinates, the ones the problem has."""
    return task.dimension == 2 and all(all(task.is_missing(f)) for f in task.problem.fields)


def placed_splines(task: Task, function: Function | None, size: int) -> Expansion:
    """About `size` products of splines per field, with knots where `function` varies; None for even knots."""
    order = max(max(atom.orders) for term in row_terms(task) for atom in term.part.atoms)
    return products(
        task, place(task, None if function is None else scattered(task, function), size, DEGREE + max(0, order - 2))
    )


def products(task: Task, axes: Sequence[Spline]) -> Expansion:
    """All products of the splines along every axis, for all fields; the last column runs fastest."""
    grid = np.stack(np.meshgrid(*(np.arange(a.count) for a in axes), indexing="ij"), -1).reshape(-1, len(axes))
    basis = Product(tuple(axes), torch.as_tensor(grid))
    return Expansion(task.frame, (basis,) * len(task.problem.fields))


def place(task: Task, sample: Sample | None, size: int, degree: int) -> list[Spline]:
    """Splines along every axis, about `size` products of them, shared out by how much a function varies along each.

    Args:
        sample: the function on tensor grids; None for even knots.
    """
    columns = range(task.dimension)
    monitors = [None if sample is None else monitor(task, sample, axis) for axis in columns]
    variation = [1.0 if m is None else float(np.mean(m)) for m in monitors]
    return spread(monitors, variation, size, degree, task.periodic)


def scattered(task: Task, function: Function) -> Sample:
    """Any function on tensor grids, point by point."""

    def sample(places, f, wanted):
        grid = torch.as_tensor(np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, len(places)))
        points = grid * task.frame.half + task.frame.center
        shape = [len(p) for p in places]
        return [v.numpy().reshape(shape) for v in function(points, [(f, orders) for orders in wanted])]

    return sample


def monitor(task: Task, sample: Sample, axis: int) -> np.ndarray:
    """`[ALONG]`: how much a function varies along an axis, the largest over the other axes and the fields.

    The sum of (|d^k u| L^k / R)^(1/k) for k in `DERIVATIVES`, with L half of the axis and R the range of the field: the
    fourth sees how far the flanks of a layer reach where a small error is wanted, the first would not.
    """
    columns = range(task.dimension)
    places = [np.linspace(-1, 1, ALONG if a == axis else ACROSS[task.dimension]) for a in columns]
    orders = [tuple(k if a == axis else 0 for a in columns) for k in (0, *DERIVATIVES)]
    half = float(task.frame.half[axis])
    found = [sample(places, f, orders) for f in range(len(task.problem.fields))]
    ranges = [np.ptp(values[0]) for values in found]
    others = tuple(a for a in columns if a != axis)
    result = np.zeros(ALONG)
    for values, size in zip(found, ranges, strict=True):
        size = max(size, VANISHING * max(ranges), 1e-300)
        local = sum((np.abs(d) * half**k / size) ** (1 / k) for k, d in zip(DERIVATIVES, values[1:], strict=True))
        result = np.maximum(result, local.max(axis=others))
    return result


def spline_points(task: Task, expansion: Expansion) -> list[Tensor]:
    """For every term the Gauss points of all pieces of the axes that are free in it."""
    axes = expansion.bases[0].axes
    nodes = []
    for axis, spline in enumerate(axes):
        scaled, _ = quadrature(spline)
        nodes.append(scaled * float(task.frame.half[axis]) + float(task.frame.center[axis]))
    result = []
    for term in row_terms(task):
        along = [
            np.array([float(term.part.pins[c])]) if c in term.part.pins else nodes[axis]
            for axis, c in enumerate(task.problem.columns)
        ]
        result.append(torch.as_tensor(np.stack(np.meshgrid(*along, indexing="ij"), -1).reshape(-1, 2)))
    return result


def quadrature(spline: Spline) -> tuple[np.ndarray, np.ndarray]:
    """Gauss places and weights on all pieces of an axis, scaled: two on a piece, more towards ends."""
    pieces = len(spline.knots) - 1
    counts = [
        PER_PIECE if spline.periodic else max(PER_PIECE, spline.degree - 2 * min(k, pieces - 1 - k))
        for k in range(pieces)
    ]
    found = [composite_gauss(spline.knots[k : k + 2], count) for k, count in enumerate(counts)]
    return np.concatenate([p for p, _ in found]), np.concatenate([w for _, w in found])
