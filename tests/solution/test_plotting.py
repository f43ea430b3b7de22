"""Pictures: each shape of problem gets the one that shows it, without a display and without pyplot."""

import subprocess
import sys
import threading

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sympy import Symbol

from pinnflow.errors import NothingToDraw, OutsideDomain, UnknownName
from pinnflow.solution import panels, plotting


def panels_of(figure):
    """The axes of a figure that are no colour bars."""
    return [ax for ax in figure.get_axes() if ax.get_xlabel()]


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("decay", None, 1), ("wave", None, 2), ("poisson", None, 1), ("acoustics", None, 4), ("plate", None, 4),
        ("cube", None, 3), ("wave", "surface", 1), ("poisson", "surface", 1), ("plate", "surface", 4),
        ("cube", "surface", 1), ("wave", "map", 1), ("wave", "curves", 1), ("wave", "frames", 4),
    ],
)  # fmt: skip
def test_every_shape_of_problem_has_its_picture(solution_of, tmp_path, name, kind, count):
    path = tmp_path / "picture.png"
    figure = solution_of(name).plot(path, kind=kind, points=21)
    assert isinstance(figure, Figure)
    assert len(panels_of(figure)) == count
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.std() > 10  # something was drawn
    assert pixels[:, 0].min() > 250  # and nothing is cut off at the left


def test_the_title_says_the_error_in_words(solution_of):
    assert plotting.title(solution_of("wave")) == r"wave: estimated relative error $3.0 \cdot 10^{-8}$"
    assert plotting.title(solution_of("wave", error_estimate=1e-14)) == (
        "wave: estimated relative error below $10^{-11}$"
    )
    assert plotting.title(solution_of("wave", error_estimate=0.2)) == "wave: estimated relative error 0.2 (not solved)"
    assert plotting.title(solution_of("wave", error_estimate=np.nan)) == "wave: no error estimate (not solved)"
    assert plotting.title(solution_of("poisson")).startswith("Estimated relative error")


def test_axes_are_labelled_in_mathematics(solution_of):
    left, right = panels_of(solution_of("wave").plot(points=11))
    assert (left.get_xlabel(), left.get_ylabel()) == ("$t$", "$x$")
    assert (right.get_xlabel(), right.get_ylabel()) == ("$x$", "$u(t, x)$")
    assert [text.get_text() for text in right.get_legend().get_texts()][:2] == ["$t = 0$", "$t = 0.25$"]


def test_the_exact_solution_is_dashed_over_the_curve(solution_of):
    (ax,) = panels_of(solution_of("decay").plot(points=11))
    assert [line.get_linestyle() == "-" for line in ax.lines if len(line.get_xdata())] == [True, False]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), ax.lines[1].get_ydata())


@pytest.mark.parametrize(
    ("values", "palette", "limits"),
    [
        ([-1, 3], "RdBu_r", (-3, 3)),
        ([1, 3], "viridis", (1, 3)),
        ([-0.01, 3], "viridis", (-0.01, 3)),
        ([2, 2], "viridis", (1, 3)),
    ],
)
def test_colours_diverge_around_zero_where_the_sign_changes(values, palette, limits):
    name, norm = panels.colours([np.array(values, dtype=float)])
    assert name == palette
    assert (norm.vmin, norm.vmax) == limits


def test_slices_are_chosen_by_at(solution_of):
    cube = solution_of("cube")
    z = Symbol("z", real=True)
    for at in ({z: 0.25}, {"z": 0.25}):
        (ax,) = panels_of(cube.plot(at=at, points=11))
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x$", "$y$")
    (ax,) = panels_of(cube.plot(at={"x": 0.5, "z": (0.2, 0.4)}, points=11))
    assert (ax.get_ylabel(), ax.get_ylim()) == ("$z$", (0.2, 0.4))
    (ax,) = panels_of(solution_of("plate").plot(at={"t": 1}, points=11))
    assert ax.get_xlabel() == "$x$"


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("wave", {"kind": "pie"}, UnknownName, "There is no kind of picture `pie`. Choose one of: curves, frames"),
        ("decay", {"kind": "surface"}, NothingToDraw, '`kind="surface"` does not fit `u(t)` over the axes t; choose'),
        ("wave", {"at": {"y": 1}}, UnknownName, "There is no coordinate `y`"),
        ("wave", {"at": {"x": 2}}, OutsideDomain, "expected a value, or a pair (low, high), between 0 and 1"),
        ("wave", {"at": {"x": 0, "t": 0}}, NothingToDraw, "only one number is left"),
        ("wave", {"times": [3]}, NothingToDraw, "expected times between 0 and 1"),
        ("acoustics", {"field": "w"}, UnknownName, "There is no field `w`"),
        ("wave", {"path": "no/wave.png"}, FileNotFoundError, "The folder `no`"),
    ],
)
def test_pictures_that_cannot_be_are_refused_in_words(solution_of, in_tmp_path, name, options, error, words):
    with pytest.raises(error) as caught:
        solution_of(name).plot(**options, points=5)
    assert words in str(caught.value)


def test_one_panel_goes_on_axes_of_ones_own(solution_of):
    figure = Figure()
    first, second = figure.subplots(1, 2)
    assert solution_of("decay").plot(ax=first, points=11) is first
    solution_of("wave").plot(ax=second, points=11)
    assert second.images
    with pytest.raises(NothingToDraw, match='choose one of field="u", field="v"'):
        solution_of("acoustics").plot(ax=first)
    solution_of("acoustics")["v"].plot(ax=first, points=11)
    with pytest.raises(NothingToDraw, match="one set of axes shows two of them"):
        solution_of("plate").plot(ax=first)


def test_drawing_leaves_matplotlib_as_it_was(solution_of):
    before = matplotlib.rcParams.copy()
    solution_of("wave").plot(points=11)
    assert matplotlib.rcParams == before


def test_a_thread_without_a_display_can_draw(solution_of, tmp_path):
    solution = solution_of("wave")
    worker = threading.Thread(target=lambda: solution.plot(tmp_path / "wave.png", points=11))
    worker.start()
    worker.join()
    assert (tmp_path / "wave.png").stat().st_size > 5000


def test_importing_a_solution_does_not_load_matplotlib():
    code = "import pinnflow.solution.storage, sys; assert not {'matplotlib', 'torch', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [("wave", {}), ("plate", {}), ("plate", {"kind": "surface"}), ("acoustics", {"field": "v"})],
)
def test_an_animation_has_the_frames_asked_for(solution_of, tmp_path, name, options):
    path = solution_of(name).animate(tmp_path / "a.gif", frames=4, points=15, dpi=50, **options)
    with Image.open(path) as picture:
        assert picture.n_frames == 4
        assert picture.info["loop"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


@pytest.mark.parametrize(
    ("name", "path", "options", "error", "words"),
    [
        ("poisson", "a.gif", {}, NothingToDraw, "has no time axis to animate (its axes: x, y)"),
        ("decay", "a.gif", {}, NothingToDraw, "depends on time alone"),
        ("wave", "a.mp4", {}, NothingToDraw, "write `a.gif`"),
        ("wave", "a.gif", {"kind": "pie"}, UnknownName, "There is no kind of animation `pie`"),
        ("wave", "a.gif", {"kind": "surface"}, NothingToDraw, 'choose "curves"'),
        ("wave", "no/a.gif", {}, FileNotFoundError, "The folder `no`"),
    ],
)
def test_animations_that_cannot_be_are_refused_in_words(solution_of, in_tmp_path, name, path, options, error, words):
    with pytest.raises(error) as caught:
        solution_of(name).animate(path, **options)
    assert words in str(caught.value)
