"""Coordinates and fields: the symbols a problem is written in.

Everything here is plain sympy: a coordinate is a real `Symbol`, a field is `Function(name)(*coordinates)`.
"""

from __future__ import annotations

import sympy
from sympy.core.function import AppliedUndef


def coordinates(names: str, dimension: int | None = None):
    """Real symbols for the axes: one symbol for one name, else a tuple in the order of `names`.

    Args:
        names: names separated by blanks or commas, as in `sympy.symbols`.
        dimension: if given, one vector coordinate with that many components.
    """
    if dimension is not None:
        raise NotImplementedError
    return sympy.symbols(names, real=True)


def field(name: str, *axes: sympy.Symbol) -> AppliedUndef:
    """The unknown function `name(*axes)`: the same object as `sympy.Function(name)(*axes)`."""
    return sympy.Function(name)(*axes)
