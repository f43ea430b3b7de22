"""Which rows of the points are taken at once, so that all layers of their jets stay in a processor's cache.

A step over all rows writes every layer to memory on the way forward and reads it again on the way back. The loss is a
mean over rows, so it and its gradient are sums over groups of rows ("tiles"), each of which goes both ways before the
next one begins, and each of which is one thread's work: threads that share a layer would wait for each other at every
operation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pinnflow.compiler.evaluation import Evaluation

CACHE = 3 * 2**18
"""Bytes that a layer's jet may take: three quarters of the MiB that a core of today's processors has to itself."""

FEWEST = 128
"""Rows of a layer's jet, all coefficients together; fewer are not worth a call."""


@dataclass(frozen=True)
class Tile:
    """Some rows of the points of some blocks.

    Attributes:
        cuts: the blocks that share their points, with the rows of these points as a slice, or None for all of them.
        share: of the means over all rows that the means over these contribute.
    """

    cuts: tuple[tuple[tuple[str, ...], slice | None], ...]
    share: float


def tiles(
    sets: Sequence[tuple[Sequence[str], int, int]], entries: int, size: int, threads: int = 1
) -> tuple[Tile, ...]:
    """The tiles of several sets of points, the largest first.

    Sets that fit into the cache come together, in as many tiles as there are threads where they can be divided.

    Args:
        sets: of each set its blocks, the number of its rows, and the coefficients that are carried for each (0 where
            the rows must stay together).
        entries: of a row of a layer: the width of the network.
        size: bytes of an entry.
        threads: that work side by side.
    """
    divided, shared, whole = [], [], []
    for names, rows, coefficients in sets:
        wanted = CACHE / (max(1, coefficients) * entries * size)
        fewest = FEWEST / max(1, coefficients)
        count = pieces(rows, wanted, threads, fewest) if coefficients else 1
        if count > 1:
            divided += [Tile(((tuple(names), cut),), 1 / count) for cut in _cuts(rows, count)]
        elif coefficients and threads > 1 and rows % threads == 0 and rows >= threads * fewest:
            shared.append((tuple(names), _cuts(rows, threads)))
        else:
            whole.append((tuple(names), None))
    together = [
        Tile(tuple((names, cuts[i]) for names, cuts in shared), 1 / threads) for i in range(threads if shared else 0)
    ]
    return (*divided, *together, *([Tile(tuple(whole), 1.0)] if whole else []))


def pieces(rows: int, wanted: float, threads: int = 1, fewest: float = 1) -> int:
    """Into how many equal pieces of about `wanted` and at least `fewest` rows, as many for each thread, or else 1.

    "About" is within a factor of two, in which it comes first that all threads have work.
    """
    if rows < 2 * wanted:
        return 1
    wanted = min(wanted, rows / threads)
    near = [k for k in range(2, rows + 1) if rows % k == 0 and 0.5 <= rows / k / wanted <= 2 and rows // k >= fewest]
    even = [k for k in near if k % threads == 0]
    return min(even or near, key=lambda k: abs(math.log(rows / k / wanted)), default=1)


def _cuts(rows: int, count: int) -> list[slice]:
    step = rows // count
    return [slice(i * step, (i + 1) * step) for i in range(count)]


def divide(evaluation: Evaluation, module: nn.Module, points: Mapping[str, Tensor]) -> tuple[Tile, ...]:
    """The tiles of a loss of these blocks; none where the rows do not stand alone or the device has no such caches.

    Args:
        evaluation: of the problem.
        module: whose widest layer tells how much a row takes.
        points: `{block: [n, columns]}`; blocks with the same tensor share their points.
    """
    first = next(iter(points.values()))
    if evaluation.probes is not None or first.device.type != "cpu":
        return ()
    sets: dict[int, list[str]] = {}
    for name, tensor in points.items():
        sets.setdefault(id(tensor), []).append(name)
    passes = evaluation.plan(points).passes
    width = max((p.shape[0] for p in module.parameters() if p.ndim == 2), default=1)
    apart = {name for name, block in evaluation.blocks.items() if len(block.parts) > 1 or block.data}
    carried = [
        (names, len(points[names[0]]), 0 if apart & set(names) else _carried(passes, names)) for names in sets.values()
    ]
    return tiles(carried, width, first.element_size(), torch.get_num_threads())


def _carried(passes, names):
    """Coefficients that are carried for the points of these blocks, the value included."""
    return sum(1 + len(one.lines.passes) for one in passes if set(one.blocks) & set(names))
