"""How rows are divided."""

import pytest

from pinnflow.compiler import tiles


@pytest.mark.parametrize(
    ("rows", "wanted", "expected"), [(2048, 600, 4), (2000, 600, 4), (1009, 300, 1), (900, 500, 1)]
)
def test_tiles_are_equal_and_of_about_the_wanted_size(rows, wanted, expected):
    assert tiles.pieces(rows, wanted) == expected
