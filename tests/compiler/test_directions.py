"""Partial derivatives as combinations of derivatives along integer directions."""

import itertools
import math
from fractions import Fraction

import pytest

from pinnflow.compiler.directions import directions_for

SETS = [
    [(0, 2), (2, 0)],
    [(1, 1)],
    [(2, 0), (0, 2), (1, 1)],
    [(4, 0), (2, 2), (0, 4)],
    [(1, 1), (1, 0), (0, 1)],
    [(1, 0), (0, 3), (0, 1)],
    [(3, 1)],
    [(1, 3), (2, 2), (0, 1)],
    [(1, 5)],
    [(1, 1, 1)],
    [(2, 1, 1), (0, 0, 1)],
    [(1, 1, 1, 1)],
    [(2, 2, 2)],
    [(2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 1, 0), (1, 0, 1), (0, 1, 1)],
]


@pytest.mark.parametrize("wanted", SETS, ids=str)
def test_weights_are_exact_on_every_monomial(wanted):
    """sum of weight (v.grad)^k applied to x^b/b! is 1 for b = a and 0 for other b of that order."""
    found = directions_for(wanted)
    for a in wanted:
        k = sum(a)
        for b in itertools.product(range(k + 1), repeat=len(a)):
            if sum(b) != k:
                continue
            total = Fraction(0)
            for index, weight in found.weights[a]:
                v = found.vectors[index]
                power = math.prod(c**i for c, i in zip(v, b, strict=True))
                total += weight * Fraction(math.factorial(k) * power, math.prod(map(math.factorial, b)))
            assert total == (b == a)


@pytest.mark.parametrize("wanted", SETS, ids=str)
def test_orders_reach_as_far_as_needed_and_do_not_increase(wanted):
    found = directions_for(wanted)
    assert list(found.orders) == sorted(found.orders, reverse=True)
    for a, weights in found.weights.items():
        assert all(found.orders[index] >= sum(a) for index, _ in weights)


@pytest.mark.parametrize(
    ("wanted", "directions", "passes"),
    [
        ([(1, 0), (2, 0), (0, 1)], 2, 3),  # a line to order 2 gives order 1 for nothing
        ([(2, 0), (0, 2), (1, 1)], 3, 6),
        ([(1, 1), (1, 0), (0, 1)], 2, 4),  # the lines of the mixed derivative give both first ones
        ([(4, 0), (2, 2), (0, 4)], 4, 16),
        ([(2, 2, 2)], 13, 78),
        ([(0, 0)], 0, 0),
    ],
)
def test_sets_are_small(wanted, directions, passes):
    found = directions_for(wanted)
    assert (len(found.vectors), sum(found.orders)) == (directions, passes)
