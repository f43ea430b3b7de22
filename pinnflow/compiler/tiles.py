"""Which rows of the points are taken at once, so that all layers of their jets stay in the processor's cache.

A step over all rows writes every layer to memory on the way forward and reads it again on the way back. The loss is a
mean over rows, so it and its gradient are sums over groups of rows ("tiles"), each of which goes both ways before the
next one begins. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pinnflow.compiler.plan import Pass

CACHE = 3 * 2**18
"""Bytes that a layer's jet may take: three quarters of the MiB that a core of today's processors has to itself."""


@dataclass(frozen=True)
class Tile:
    """Rows `rows` of the points of some blocks, which share their points.

    Attributes:
        names: the blocks.
        rows: a slice, or None for all of them.
        share: of the mean over all rows that the mean over these contributes.
    """

    names: tuple[str, ...]
    rows: slice | None
    share: float


def tiles(sets: Sequence[tuple[Sequence[str], int, int]], entries: int, size: int) -> tuple[Tile, ...]:
    """The tiles of several sets of points; sets that are not divided come together as one.

    Args:
        sets: of each set its blocks, the number of its rows, and the coefficients that are carried for each (0 where
            the rows must stay together).
        entries: of a row of a layer: the width of the network.
        size: bytes of an entry.
    """
    divided, whole = [], []
    for names, rows, coefficients in sets:
        count = pieces(rows, CACHE / (max(1, coefficients) * entries * size)) if coefficients else 1
        if count == 1:
            whole += names
        else:
            step = rows // count
            divided += [Tile(tuple(names), slice(i * step, (i + 1) * step), 1 / count) for i in range(count)]
    return (*divided, *([Tile(tuple(whole), None, 1.0)] if whole else []))


def pieces(rows: int, wanted: float) -> int:
    """Into how many equal pieces of about `wanted` rows; 1 where there are none within a factor of two."""
    if rows < 2 * wanted:
        return 1
    found = [k for k in range(1, rows + 1) if rows % k == 0 and 0.5 <= rows / k / wanted <= 2]
    return min(found, key=lambda k: abs(math.log(rows / k / wanted)), default=1)


def carried(passes: Sequence[Pass], names: Sequence[str]) -> int:
    """Coefficients that are carried for the points of these blocks, the value included."""
    return sum(1 + len(one.lines.passes) for one in passes if set(one.blocks) & set(names))
