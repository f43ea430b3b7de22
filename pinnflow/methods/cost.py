"""Seconds of a linear solve from the operations it takes, so that the same seed ends with the same digits anywhere."""

from pinnflow.methods.placement import DEGREE
from pinnflow.methods.rows import SVD_LARGEST


def nominal_seconds(size: int) -> float:
    """Time of one solve with `size` unknowns on two cores, from the operations it takes; within a factor of 2."""
    rows = 2.7 * size
    orthogonal = 2 * rows * size**2 / 4e10
    truncated = 20 * size**3 / 1e10 if size <= SVD_LARGEST else 4 / 3 * size**3 / 8e9
    return orthogonal + truncated + 2e-8 * rows * size


def nominal_strips(size: int) -> float:
    """The same for splines in the plane: strips of the width of DEGREE + 1 splines, reduced one after the other."""
    strip = size**0.5
    return 2 * strip * (2 * DEGREE * strip) * ((DEGREE + 1) * strip) ** 2 / 1.5e10
