"""A solution in the formats of other programs. So far: `xarray`, and from there NetCDF, Zarr and Pandas."""

from __future__ import annotations

import math
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy

from pinnflow.errors import MissingExtra, MissingName, NotYet, UnknownName
from pinnflow.solution import evaluation

if TYPE_CHECKING:
    import xarray

# Points per axis of the default grid: about a hundred for one or two axes, and never more than some million in all.
GRID = 101
GRID_TOTAL = 2_000_000


def to_xarray(solution: Any, **coordinates: Any) -> xarray.Dataset:
    """The fields on a rectangular grid as an `xarray.Dataset`.

    Args:
        solution: the solution.
        **coordinates: one-dimensional arrays or numbers by name, `t=[0, 1], x=np.linspace(0, 1, 50)`; an even grid
            along the coordinates that are not given.

    Returns:
        A dataset with one variable per field, over the field's own coordinates; `long_name` and `latex` say what each
        variable is, the attributes of the dataset how it was made.

    Raises:
        MissingExtra: xarray is not installed.
        UnknownName: no coordinate of that name.
        NotYet: a vector coordinate has no grid.
    """
    try:
        import xarray
    except ImportError:
        raise MissingExtra("xarray", "xarray", "`solution.to_xarray`") from None
    problem = solution.problem
    axes = {axis.name: axis for axis in problem.coordinates}
    for name in coordinates:
        if name not in axes:
            raise UnknownName("coordinate", name, axes)
    vectors = [name for name, axis in axes.items() if getattr(axis, "components", None) is not None]
    if vectors:
        raise NotYet(f"`{vectors[0]}` is a vector coordinate, which has no grid; evaluate at points of your own with "
                     f"`solution(...)`.")  # fmt: skip
    count = max(2, min(GRID, int(GRID_TOTAL ** (1 / len(axes)))))
    grid = {name: _line(problem, axis, coordinates.get(name), count) for name, axis in axes.items()}
    variables = {}
    for declared in problem.fields:
        dimensions = [axis.name for axis in declared.args]
        arrays = np.meshgrid(*(grid[name] for name in dimensions), indexing="ij", sparse=True)
        values = evaluation.field_values(problem, solution.trial, declared, dict(zip(dimensions, arrays, strict=True)))
        attributes = {"long_name": str(declared), "latex": sympy.latex(declared)}
        variables[declared.func.__name__] = (dimensions, np.asarray(values), attributes)
    labels = {name: (name, grid[name], {"long_name": name, "latex": sympy.latex(axis)}) for name, axis in axes.items()}
    attributes = {
        "title": solution.name,
        "source": f"pinnflow {solution.versions.get('pinnflow', '')}".strip(),
        "method": solution.method,
        "error_estimate": solution.error_estimate,
        "equations": "; ".join(sympy.latex(equation) for equation in problem.equations),
    }
    attributes |= {f"unknown_{symbol}": float(estimate) for symbol, estimate in solution.unknowns.items()}
    return xarray.Dataset(variables, coords=labels, attrs=attributes)


def to_vtk(solution: Any, path: str | PathLike[str], **coordinates: Any) -> None:
    """Refused in words until it comes."""
    raise NotYet(
        f"VTK files are not written yet, so `{path}` was not made. Write a grid as NetCDF instead, which ParaView "
        "opens: `solution.to_xarray(...).to_netcdf('solution.nc')`."
    )


def export(solution: Any, path: str | PathLike[str], **options: Any) -> None:
    """Refused in words until it comes."""
    raise NotYet(
        f"Models for other programs are not written yet, so `{path}` was not made. `solution.save('solution.h5')` "
        "writes a file that `pinnflow.load` and any HDF5 program read; `solution.to_xarray()` gives values on a grid."
    )


def _line(problem, axis, given, count):
    if given is not None:
        array = np.asarray(given, dtype=np.float64)
        if array.ndim > 1:
            raise ValueError(f"`{axis}` has shape {array.shape}; a grid takes one-dimensional arrays or numbers.")
        return np.atleast_1d(array)
    low, high = problem.bounds[axis]
    if not (math.isfinite(low) and math.isfinite(high)):
        raise MissingName(
            f"`{axis}` runs from {low:g} to {high:g}, so there is no default grid along it: write "
            f"`solution.to_xarray({axis}=numpy.linspace(...))`.",
            [a.name for a in problem.coordinates],
        )
    return np.linspace(low, high, count)
