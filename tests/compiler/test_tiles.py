"""How rows are divided."""

import pytest

from pinnflow.compiler import tiles


@pytest.mark.parametrize(
    ("rows", "wanted", "expected"), [(2048, 600, 4), (2000, 600, 4), (1009, 300, 1), (900, 500, 1)]
)
def test_tiles_are_equal_and_of_about_the_wanted_size(rows, wanted, expected):
    assert tiles.pieces(rows, wanted) == expected


@pytest.mark.parametrize(("threads", "expected"), [(1, 4), (2, 4), (3, 4), (8, 8), (16, 16), (64, 32)])
def test_all_threads_have_work_and_none_has_too_few_rows(threads, expected):
    assert tiles.pieces(2048, 600, threads, 64) == expected


def test_every_row_of_every_block_is_in_one_tile_by_its_share():
    sets = [(["a", "b"], 4096, 6), (["c"], 256, 1), (["d"], 256, 3), (["e"], 100, 0), (["f"], 101, 2)]
    for threads in (1, 2, 4):
        seen = {name: [0.0] * rows for names, rows, _ in sets for name in names}
        for tile in tiles.tiles(sets, 64, 4, threads):
            for names, cut in tile.cuts:
                rows = range(len(seen[names[0]]))[cut or slice(None)]
                for name in names:
                    for i in rows:
                        seen[name][i] += tile.share / len(rows)
        for found in seen.values():
            assert found == pytest.approx([1 / len(found)] * len(found))
