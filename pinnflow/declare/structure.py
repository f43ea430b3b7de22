"""Questions about whole problems: which axes are what, orders, linearity, type, evolution form.

Everything here reads residual blocks, so it does not matter how the user wrote a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sympy import Symbol

from pinnflow.declare.analysis import Block


def differentiated_columns(blocks: Iterable[Block], columns: Sequence[Symbol]) -> tuple[Symbol, ...]:
    """The columns by which some equation differentiates some field."""
    found = {
        columns[i]
        for block in blocks
        if block.kind == "equation"
        for part in block.parts
        for atom in part.atoms
        for i, order in enumerate(atom.orders)
        if order
    }
    return tuple(c for c in columns if c in found)


def boundary_columns(blocks: Iterable[Block], columns: Sequence[Symbol], time: Symbol | None) -> tuple[Symbol, ...]:
    """The spatial columns whose ends are boundary: differentiated by, and not time."""
    return tuple(c for c in differentiated_columns(blocks, columns) if c != time)


def parameter_axes(problem) -> tuple[Symbol, ...]:
    """The columns in which nothing is differentiated: one solution for each value, all solved at once."""
    derived = differentiated_columns(problem.blocks, problem.columns)
    return tuple(c for c in problem.columns if c not in derived)
