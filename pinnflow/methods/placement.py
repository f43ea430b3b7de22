"""Products of splines in the plane whose knots follow a function: dense where it varies, along each axis by itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pinnflow.methods.base import Task
from pinnflow.methods.evolution import even_share
from pinnflow.methods.rows import Function, row_terms
from pinnflow.trial.expansion import Expansion
from pinnflow.trial.features import Product, Spline

DEGREE = 7  # of splines for equations up to the second order; each higher order takes one more
ALONG, ACROSS = 401, 101  # places at which a function is looked at
DERIVATIVES = (2, 4)
VANISHING = 1e-9  # part of the largest field, below which a field does not count
PER_PIECE = 2  # Gauss points on a piece along each axis; more towards ends, where more splines overlap


def splines_apply(task: Task) -> bool:
    """Whether all fields depend on two coordinates, the ones the problem has."""
    return task.dimension == 2 and all(all(task.is_missing(f)) for f in task.problem.fields)


def placed_splines(task: Task, function: Function | None, size: int) -> Expansion:
    """About `size` products of splines per field, with knots where `function` varies; None for even knots."""
    order = max(max(atom.orders) for term in row_terms(task) for atom in term.part.atoms)
    degree = DEGREE + max(0, order - 2)
    monitors = [None, None] if function is None else [monitor(task, function, axis) for axis in (0, 1)]
    variation = [1.0 if m is None else float(np.mean(m)) for m in monitors]
    share = np.clip(np.sqrt(variation[0] / max(variation[1], 1e-300)), 0.2, 5.0)
    axes = []
    for axis, (found, factor) in enumerate(zip(monitors, (share, 1 / share), strict=True)):
        periodic = task.periodic[axis]
        count = max(round(size**0.5 * factor), 2 * degree + 2)
        axes.append(Spline(degree, even_share(found, count if periodic else count - degree), periodic))
    grid = np.stack(np.meshgrid(*(np.arange(a.count) for a in axes), indexing="ij"), -1).reshape(-1, 2)
    basis = Product(tuple(axes), torch.as_tensor(grid))
    return Expansion(task.frame, (basis,) * len(task.problem.fields))


def monitor(task: Task, function: Function, axis: int) -> np.ndarray:
    """`[ALONG]`: how much a function varies along an axis of the plane, the largest over the other axis and the fields.

    The sum of (|d^k u| L^k / R)^(1/k) for k in `DERIVATIVES`, with L half of the axis and R the range of the field: the
    fourth sees how far the flanks of a layer reach where a small error is wanted, the first would not.
    """
    places = [np.linspace(-1, 1, ALONG if a == axis else ACROSS) for a in (0, 1)]
    grid = torch.as_tensor(np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, 2))
    points = grid * task.frame.half + task.frame.center
    orders = [tuple(k if a == axis else 0 for a in (0, 1)) for k in (0, *DERIVATIVES)]
    half = float(task.frame.half[axis])
    fields = range(len(task.problem.fields))
    found = [[v.numpy() for v in function(points, [(f, o) for o in orders])] for f in fields]
    ranges = [np.ptp(values[0]) for values in found]
    result = np.zeros(ALONG)
    for values, size in zip(found, ranges, strict=True):
        size = max(size, VANISHING * max(ranges), 1e-300)
        local = sum((np.abs(d) * half**k / size) ** (1 / k) for k, d in zip(DERIVATIVES, values[1:], strict=True))
        result = np.maximum(result, local.reshape(ALONG if axis == 0 else ACROSS, -1).max(axis=1 - axis))
    return result


def spline_points(task: Task, expansion: Expansion) -> list[Tensor]:
    """For every term the Gauss points of all pieces of the axes that are free in it."""
    axes = expansion.bases[0].axes
    nodes = []
    for axis, spline in enumerate(axes):
        scaled = composite_gauss(spline)
        nodes.append(scaled * float(task.frame.half[axis]) + float(task.frame.center[axis]))
    result = []
    for term in row_terms(task):
        along = [
            np.array([float(term.part.pins[c])]) if c in term.part.pins else nodes[axis]
            for axis, c in enumerate(task.problem.columns)
        ]
        result.append(torch.as_tensor(np.stack(np.meshgrid(*along, indexing="ij"), -1).reshape(-1, 2)))
    return result


def composite_gauss(spline: Spline) -> np.ndarray:
    """Gauss points of all pieces of an axis, scaled."""
    pieces = len(spline.knots) - 1
    found = []
    for k, (low, high) in enumerate(zip(spline.knots[:-1], spline.knots[1:], strict=True)):
        count = PER_PIECE if spline.periodic else max(PER_PIECE, spline.degree - 2 * min(k, pieces - 1 - k))
        found.append((low + high) / 2 + (high - low) / 2 * np.polynomial.legendre.leggauss(count)[0])
    return np.concatenate(found)
