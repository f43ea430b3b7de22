"""Independent pieces of a step side by side, each by one thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

_POOLS: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOLS.clear)


def side_by_side(pieces: Sequence[Callable[[], T]], threads: int | None = None) -> list[T]:
    """The results of all pieces; operations of torch within a piece use one thread each.

    It pays where the pieces leave the interpreter alone, as compiled graphs do.

    Args:
        pieces: the longest first.
        threads: how many work at once; None takes as many as torch may use.
    """
    threads = min(threads or torch.get_num_threads(), len(pieces))
    if threads < 2:
        return [piece() for piece in pieces]
    return list(_pool(threads).map(lambda piece: piece(), pieces))


def _pool(threads):
    if threads not in _POOLS:
        before, everybody = torch.get_num_threads(), threading.Barrier(threads)

        def prepare():
            torch.set_num_threads(1)
            torch.get_num_threads()  # a thread begins with the number of the moment when it is first looked at
            everybody.wait()

        _POOLS[threads] = pool = ThreadPoolExecutor(threads, thread_name_prefix="pinnflow")
        for waiting in [pool.submit(prepare) for _ in range(threads)]:
            waiting.result()
        torch.set_num_threads(before)  # the number is each thread's own, but also what later threads begin with
    return _POOLS[threads]
