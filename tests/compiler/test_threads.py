"""Pieces of a step side by side."""

import threading

import pytest
import torch

from pinnflow.compiler.threads import side_by_side


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_each_piece_has_one_thread(three_threads):
    together = threading.Barrier(3, timeout=20)

    def piece(i):
        together.wait()  # only pieces that run at once get past it
        torch.ones(300_000).tanh()  # the first operation of a thread asks how many it may use
        return i, torch.get_num_threads()

    for _ in range(2):
        found = side_by_side([lambda i=i: piece(i) for i in range(6)])
        assert found == [(i, 1) for i in range(6)]
    assert torch.get_num_threads() == 3


def test_one_at_a_time_they_run_where_they_are_called(three_threads):
    me = threading.get_ident()
    assert side_by_side([threading.get_ident] * 3, 1) == [me] * 3
    assert side_by_side([threading.get_ident]) == [me]


def test_what_a_piece_raises_is_raised(three_threads):
    with pytest.raises(ZeroDivisionError):
        side_by_side([lambda: 1, lambda: 1 // 0])
