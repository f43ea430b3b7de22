"""One thread for small matrices, where waking the others costs more than they give; many times so on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread(when: bool = True) -> Iterator[None]:
    """Inside, BLAS and torch use one thread if `when`; the settings are restored afterwards."""
    if not when:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
