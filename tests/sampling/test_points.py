"""Quasi-random points of boxes and faces."""

import numpy as np
import pytest
from sympy import Eq, oo

from pinnflow import Condition, Problem, coordinates, field
from pinnflow.sampling.points import draw_block, draw_part, unit_cube

t, x, y = coordinates("t x y")
u = field("u", t, x, y)
PROBLEM = Problem(
    [Eq(u.diff(t), u.diff(x, 2) + u.diff(y, 2))],
    {t: (0, 3), x: (-1, 1), y: (5, 9)},
    [Eq(u.subs(t, 0), 1), Condition(Eq(u, 0), on="boundary"), Eq(u.subs({t: 1, x: 0, y: 7}), 2)],
)


def generator():
    return np.random.default_rng(7)


def test_points_fill_the_open_box():
    points = draw_part(PROBLEM.blocks[0].parts[0], PROBLEM.bounds, PROBLEM.columns, 500, generator())
    assert points.shape == (500, 3)
    assert (points > [0, -1, 5]).all() and (points < [3, 1, 9]).all()
    assert np.allclose(points.mean(0), [1.5, 0, 7], atol=0.02)


def test_pinned_columns_are_set():
    points = draw_part(PROBLEM.blocks[1].parts[0], PROBLEM.bounds, PROBLEM.columns, 10, generator())
    assert (points[:, 0] == 0).all() and len(np.unique(points[:, 1])) == 10


def test_faces_share_the_points():
    block = PROBLEM.blocks[2]
    points, rows = draw_block(block, PROBLEM.bounds, PROBLEM.columns, 10, generator())
    assert points.shape == (10, 3) and sorted(map(len, rows)) == [2, 2, 3, 3]
    for part, index in zip(block.parts, rows, strict=True):
        for column, value in part.pins.items():
            assert (points[index, PROBLEM.columns.index(column)] == float(value)).all()


def test_a_point_condition_has_one_row():
    points, rows = draw_block(PROBLEM.blocks[3], PROBLEM.bounds, PROBLEM.columns, 100, generator())
    assert points.tolist() == [[1, 0, 7]] and len(rows[0]) == 1


def test_the_generator_alone_decides():
    part = PROBLEM.blocks[0].parts[0]
    first, rng = [draw_part(part, PROBLEM.bounds, PROBLEM.columns, 33, generator()) for _ in range(2)], generator()
    again = [draw_part(part, PROBLEM.bounds, PROBLEM.columns, 33, rng) for _ in range(2)]
    assert np.array_equal(*first) and np.array_equal(first[0], again[0]) and not np.array_equal(*again)


def test_points_are_more_even_than_random_ones():
    """The integral of a smooth function is exact to better than 1/n."""
    cube = unit_cube(1000, 3, generator())
    assert abs(np.prod(np.sin(np.pi * cube), axis=1).mean() - (2 / np.pi) ** 3) < 1e-3
    assert unit_cube(5, 0, generator()).shape == (5, 0)


@pytest.mark.parametrize("ends", [(0, oo), (-oo, 2), (-oo, oo)])
def test_unbounded_axes_have_finite_points(ends):
    low, high = map(float, ends)
    part = PROBLEM.blocks[0].parts[0]
    points = draw_part(part, {**PROBLEM.bounds, x: (low, high)}, PROBLEM.columns, 200, generator())[:, 1]
    assert np.isfinite(points).all() and (points > low).all() and (points < high).all()
