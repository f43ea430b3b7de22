"""Observations as arrays: points, values and noise, checked against the domain."""

from __future__ import annotations

import numpy as np

from pinnflow.declare.analysis import Part
from pinnflow.declare.declared import Declared, Wrong
from pinnflow.declare.statements import Observations
from pinnflow.declare.symbols import Component, VectorCoordinate, components_of


def data_of(it: Declared, part: Part, statement: Observations) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Points `[n, D]`, values `[n]` and noise of an observation, with unused columns filled from the part's pins."""
    needed = [axis for axis in it.domain if any(c in part.free for c in components_of(axis))]
    missing = [axis for axis in needed if axis not in statement.at]
    unknown = [axis for axis in statement.at if axis not in it.domain]
    if missing or unknown:
        what = f"no values of `{missing[0]}` are given" if missing else f"`{unknown[0]}` is no coordinate"
        keys = ", ".join(f"{axis}: ..." for axis in needed)
        raise Wrong(f"{what}.", f"Write `Observations({statement.expression}, {{{keys}}}, values)`.", "data")
    shapes = {}
    for axis, array in statement.at.items():
        if isinstance(axis, VectorCoordinate):
            if array.ndim == 0 or array.shape[-1] != axis.dimension:
                raise Wrong(
                    f"the points of `{axis}` have shape {array.shape}, expected (..., {axis.dimension}).",
                    f"The last axis of the array holds the {axis.dimension} components.",
                    "data",
                )
            shapes[axis] = array.shape[:-1]
        else:
            shapes[axis] = array.shape
    try:
        shape = np.broadcast_shapes(*shapes.values())
        values = np.broadcast_to(statement.values, shape)
        noise = None if statement.noise is None else np.broadcast_to(statement.noise, shape).ravel()
    except ValueError:
        listed = ", ".join(f"`{axis}` {s}" for axis, s in shapes.items())
        raise Wrong(
            f"the shapes do not fit together: {listed}, values {statement.values.shape}"
            + ("" if statement.noise is None else f", noise {statement.noise.shape}")
            + ".",
            "Give one value for each point.",
            "data",
        ) from None
    points = np.empty((max(int(np.prod(shape)), 1), len(it.columns)))
    for column in it.columns:
        axis = getattr(column, "axis", column)
        if axis in statement.at:
            array = statement.at[axis]
            array = array[..., column.index] if isinstance(column, Component) else array
            points[:, it.columns.index(column)] = np.broadcast_to(array, shape).ravel()
        else:
            points[:, it.columns.index(column)] = float(part.pins[column])
        _check_inside(it, column, points[:, it.columns.index(column)])
    return points, np.array(values, dtype=np.float64).ravel(), noise


def _check_inside(it, column, places):
    low, high = (float(end) for end in it.ends[column])
    margin = 1e-9 * (high - low)
    wrong = np.flatnonzero((places < low - margin) | (places > high + margin))
    if wrong.size:
        raise Wrong(
            f"{wrong.size} of {places.size} points lie outside the domain, the first at `{column} = "
            f"{places[wrong[0]]:g}`; expected values in ({it.ends[column][0]}, {it.ends[column][1]}).",
            "Enlarge the domain, or leave these points out.",
            "outside",
        )
