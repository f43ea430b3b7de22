"""Pictures show the numbers of the flow: tested on what is drawn, not on pixels."""

import os
import stat
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from pinnflow.errors import DeclarationError, NonFinite, NothingToDraw, NotYet, UnknownName, WrongShape
from pinnflow.latent import animation
from pinnflow.latent.animation import animate_landscape, animate_traversals, film_strips, to_and_fro
from pinnflow.latent.baselines import baseline
from pinnflow.latent.canvas import palette
from pinnflow.latent.landscape import (
    draw_landscape,
    interpolate,
    landscape,
    movement_plane,
    plot_landscape,
    whole_steps,
)
from pinnflow.latent.sheet import comparison, draw_comparison, plot_comparison
from pinnflow.latent.strips import colours_of, differences, draw_strips, enlarge, join, plot_traversals, strips
from tests.latent.simple_flows import Bowls, Patches

SMALL = {"resolution": 7, "samples": 4}


class Straight(Bowls):
    """Moves by a fixed vector: half of its squared length along the second axis, half along the third."""

    def velocity(self, z, t, k=0):
        return torch.tensor([0.0, 1.0, -1.0], dtype=z.dtype).expand_as(z)


def panels_of(figure):
    return [ax for ax in figure.axes if ax.get_title()]


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


# Landscapes


def test_a_landscape_holds_the_potential_and_the_velocity_on_the_plane():
    flow, center = Bowls(), np.array([0.3, -0.2, 0.5])
    drawn = landscape(flow, 1, [0.5, 2.0], directions=[[0, 1.0, 0], [1.0, 1.0, 0]], center=center, span=2, **SMALL)
    np.testing.assert_allclose(drawn.directions, [[0, 1, 0], [1, 0, 0]], atol=1e-15)
    for m, t in enumerate((0.5, 2.0)):
        for i, second in enumerate(drawn.axis):
            for j, first in enumerate(drawn.axis):
                z = center + [second, first, 0]
                assert drawn.values[m, i, j] == pytest.approx(2 * (z[0] * t - (z @ z) / 4))
    second, first = drawn.arrow_axis[3], drawn.arrow_axis[7]
    velocity = flow.velocity(torch.as_tensor(center + [second, first, 0])[None], 2.0, 1)[0]
    np.testing.assert_allclose(drawn.arrows[1, 3, 7], velocity[[1, 0]])


def test_the_walks_of_a_landscape_start_in_the_plane_and_are_those_of_the_flow():
    flow = Bowls()
    drawn = landscape(flow, 1, directions=(0, 2), center=[0, 1.0, 0], steps=5, step_length=0.2, **SMALL)
    starts = torch.as_tensor(drawn.paths[0])
    np.testing.assert_allclose(starts[:, 1], 1.0)
    np.testing.assert_allclose(drawn.paths, flow.traverse(starts, 1, steps=5, step_length=0.2))
    np.testing.assert_allclose(drawn.projected, drawn.paths[..., [0, 2]])


def test_share_is_the_part_of_the_movement_that_the_plane_shows():
    half = landscape(Straight(), 0, directions=(0, 1), **SMALL)
    whole = landscape(Straight(), 0, directions=(2, 1), **SMALL)
    assert (half.share, whole.share) == (pytest.approx(0.5), pytest.approx(1.0))


def test_the_default_plane_holds_the_movement():
    basis = movement_plane(Straight(), 0, 6, 0.35, 0)
    torch.testing.assert_close(basis[0], torch.tensor([0.0, 0.5**0.5, -(0.5**0.5)], dtype=torch.float64))
    torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64))
    assert landscape(Straight(), 0, **SMALL).share == pytest.approx(1.0)


def test_trails_go_on_within_a_step():
    drawn = landscape(Bowls(), 0, steps=3, **SMALL)
    walks = drawn.projected
    np.testing.assert_allclose(drawn.trails(0.0), walks[:1])
    np.testing.assert_allclose(drawn.trails(2.0), walks[:3])
    np.testing.assert_allclose(drawn.trails(1.25)[-1], 0.75 * walks[1] + 0.25 * walks[2])
    np.testing.assert_allclose(drawn.trails(9.0), walks)


def test_panels_show_the_walks_up_to_their_time_on_one_scale(tmp_path):
    drawn = landscape(Bowls(), 1, [1.0, 3.0], steps=4, **SMALL)
    figure = draw_landscape(drawn, tmp_path / "landscape.png")
    panels = panels_of(figure)
    assert [ax.get_title() for ax in panels] == ["$t = 1$", "$t = 3$"]
    for ax, time in zip(panels, (1.0, 3.0), strict=True):
        trails = drawn.trails(time)
        for s in range(4):
            np.testing.assert_allclose(ax.lines[s].get_xydata(), trails[:, s])
        np.testing.assert_allclose(ax.lines[-1].get_xydata(), trails[-1])
        assert (ax.get_xlim(), ax.get_ylim()) == ((-3, 3), (-3, 3))
    (bar,) = [ax for ax in figure.axes if ax not in panels]
    largest = np.abs(drawn.values).max()
    assert bar.get_ylim() == (-largest, largest)
    assert bar.get_ylabel() == "$u_{1}(z, t)$"
    width, height = figure.get_size_inches() * 200
    assert size_of(tmp_path / "landscape.png") == (int(width), int(height))


def test_numbered_walks_are_shown_with_their_images():
    flow = Bowls(Patches(3, 6))
    drawn = landscape(flow, 1, [1.0, 1.5], directions=(0, 1), images=3, **SMALL)
    assert list(drawn.pictured) == [0, 2, 3]
    halfway = (drawn.paths[1] + drawn.paths[2]) / 2
    np.testing.assert_allclose(drawn.codes_at(1.5), halfway)
    np.testing.assert_allclose(drawn.images[1], flow.render(torch.as_tensor(halfway[[0, 2, 3]])), atol=1e-6)
    figure = draw_landscape(drawn)
    shown = [ax for ax in figure.axes if [t.get_text() for t in ax.texts] == ["1", "2", "3"]]
    panels, tiles = shown[::2], shown[1::2]
    for i, (panel, strip) in enumerate(zip(panels, tiles, strict=True)):
        heads = drawn.trails(drawn.times[i])[-1][[0, 2, 3]]
        np.testing.assert_allclose([text.get_position() for text in panel.texts], heads)
        expected = join(enlarge(colours_of(drawn.images[i])[None]))[0]
        np.testing.assert_array_equal(np.asarray(strip.images[0].get_array()), expected)
    for settings in ({"images": 0}, {"images": 2, "kind": "surface"}):
        assert isinstance(plot_landscape(flow, times=[1.0], **settings, **SMALL), Figure)


def test_a_flow_names_its_values_and_log_densities_do_not_diverge():
    flow = Bowls()
    flow.potential_symbol = r"\log\rho"
    drawn = landscape(flow, 1, [1.0], **SMALL)
    assert drawn.palette == ("viridis", drawn.values.min(), drawn.values.max())
    assert draw_landscape(drawn).axes[-1].get_ylabel() == r"$\log\rho_{1}(z, t)$"
    assert landscape(Bowls(), 1, [1.0], **SMALL).palette[0] == "RdBu_r"


def test_a_still_takes_the_nearest_times_of_a_film():
    drawn = landscape(Bowls(), 0, np.linspace(0, 6, 13).tolist(), **SMALL)
    assert [ax.get_title() for ax in panels_of(draw_landscape(drawn, times=[2, 4.1]))] == ["$t = 2$", "$t = 4$"]


def test_surfaces_carry_the_walks_at_the_height_of_the_potential():
    drawn = landscape(Bowls(), 0, [2.0], span=4, **SMALL)
    (ax,) = panels_of(draw_landscape(drawn, kind="surface"))
    x, y, height = (np.asarray(a) for a in ax.lines[-1].get_data_3d())
    np.testing.assert_allclose(np.stack([x, y], axis=1), drawn.trails(2.0)[-1])
    lift = 0.01 * np.ptp(drawn.values)
    np.testing.assert_allclose(height, interpolate(drawn.axis, drawn.values[0], drawn.trails(2.0)[-1]) + lift)


def test_interpolation_is_exact_for_bilinear_functions():
    axis = np.linspace(-2, 2, 5)
    values = 1 + 2 * axis[None, :] - axis[:, None] + 0.5 * axis[None, :] * axis[:, None]
    points = np.array([[0.3, -1.7], [2.0, 2.0], [-2.0, 0.1]])
    expected = 1 + 2 * points[:, 0] - points[:, 1] + 0.5 * points[:, 0] * points[:, 1]
    np.testing.assert_allclose(interpolate(axis, values, points), expected, atol=1e-8)


def test_every_linear_flow_has_a_landscape():
    flow = baseline("random", None, latent_dim=4, potentials=3, device="cpu")
    drawn = landscape(flow, 2, [1.0], **SMALL)
    assert drawn.share == pytest.approx(1.0)
    np.testing.assert_allclose(drawn.values[0], np.broadcast_to(drawn.axis, (7, 7)), atol=1e-12)


@pytest.mark.parametrize(("steps", "times"), [(6, [2, 4, 6]), (4, [1, 2, 3, 4]), (1, [1]), (20, [5, 10, 15, 20])])
def test_default_times_are_whole_and_end_with_the_walk(steps, times):
    assert whole_steps(steps) == times


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1.0, 3.0], ("RdBu_r", -3, 3)),
        ([1.0, 3.0], ("viridis", 1, 3)),
        ([-0.01, 3.0], ("viridis", -0.01, 3)),
        ([2.0, 2.0], ("viridis", 1, 3)),
        ([0.0, 0.0], ("viridis", -0.5, 0.5)),
    ],
)
def test_colours_diverge_where_the_sign_changes(values, expected):
    assert palette(np.array(values)) == expected


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"directions": [[1.0, 0, 0], [2.0, 0, 0]]}, ValueError, "`directions` are parallel"),
        ({"directions": [[1.0, 0], [0, 1.0]]}, WrongShape, r"`directions` has shape \(2, 2\).*\(2, 3\)"),
        ({"directions": (0, 3)}, WrongShape, "two of 0 to 2"),
        ({"center": [0.0, 0.0]}, WrongShape, r"`center` has shape \(2,\).*\(3,\)"),
        ({"span": 0}, ValueError, "`span` is 0"),
        ({"resolution": 1}, ValueError, "`resolution` is 1"),
        ({"times": []}, ValueError, r"`times` is \[\]"),
        ({"kind": "hills"}, UnknownName, "`hills`.*map, surface"),
        ({"potential": 2}, ValueError, "no potential 2"),
        ({"path": "nowhere/picture.png"}, FileNotFoundError, "`nowhere`"),
        ({"path": "picture.xyz"}, ValueError, r"`picture.xyz`.*\.pdf.*\.png"),
    ],
)  # fmt: skip
def test_a_landscape_that_cannot_be_drawn_says_why(settings, error, message):
    with pytest.raises(error, match=message):
        plot_landscape(Bowls(), **{**SMALL, **settings})


def test_a_flow_without_potential_or_plane_says_so():
    with pytest.raises(NothingToDraw, match="`LocalJacobian` has velocities but no potential"):
        plot_landscape(baseline("local-jacobian", Patches(), potentials=2, device="cpu").fit())
    with pytest.raises(NothingToDraw, match="a plane needs two"):
        plot_landscape(Bowls(latent_dim=1))


def test_a_potential_that_is_not_finite_is_no_landscape():
    class Pole(Bowls):
        def potential(self, z, t, k=0):
            return torch.where(z[:, 0] > 2, torch.inf, 0.0)

    with pytest.raises(NonFinite, match="use a smaller `span` than 3"):
        plot_landscape(Pole(), directions=(0, 1), **SMALL)


# Strips


def test_strips_hold_the_images_of_the_walks_both_ways():
    flow, z = Bowls(Patches()), torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = strips(flow, z, steps=3, step_length=0.4)
    assert drawn.images.shape == (2, 2, 7, 1, 4, 4)
    np.testing.assert_allclose(drawn.positions, [-3, -2, -1, 0, 1, 2, 3])
    for k in range(2):
        np.testing.assert_allclose(drawn.codes[:, k, 3:], flow.traverse(z, k, 3, 0.4).transpose(0, 1))
        np.testing.assert_allclose(drawn.codes[:, k, 3::-1], flow.traverse(z, k, 3, 0.4, -1).transpose(0, 1))
    np.testing.assert_allclose(drawn.images, flow.render(torch.as_tensor(drawn.codes)), atol=1e-6)


def test_codes_between_the_steps_leave_the_steps_alone():
    flow, z = Bowls(Patches()), [0.1, 0.2, 0.3]
    coarse, fine = strips(flow, z, steps=2), strips(flow, z, steps=2, between=3)
    assert fine.images.shape[2] == 13
    np.testing.assert_allclose(fine.positions, np.linspace(-2, 2, 13))
    np.testing.assert_allclose(fine.codes[:, :, fine.whole()], coarse.codes)
    np.testing.assert_allclose(fine.codes[0, 0, 7], (2 * coarse.codes[0, 0, 2] + coarse.codes[0, 0, 3]) / 3)
    assert fine.start == 6


@pytest.mark.parametrize(("channels", "side"), [(1, 4), (3, 4), (1, 64), (3, 256)])
def test_tiles_of_the_picture_are_the_images(channels, side, tmp_path):
    flow = Bowls(Patches(channels, side))
    drawn = strips(flow, steps=1)
    figure = draw_strips(drawn, tmp_path / "strips.png")
    (ax,) = figure.axes
    shown = np.asarray(ax.images[0].get_array())
    expected, x, y, _ = join(colours_of(drawn.images[0]))
    np.testing.assert_array_equal(shown, expected)
    tile = shown[y[1] : y[1] + side, x[2] : x[2] + side]
    image = np.moveaxis(drawn.images[0, 1, 2], 0, -1)
    np.testing.assert_array_equal(tile, np.broadcast_to(np.round(255 * image), tile.shape))
    width, height = figure.get_size_inches() * 200
    assert size_of(tmp_path / "strips.png") == (int(width), int(height))


def test_rows_and_columns_are_named():
    figure = plot_traversals(Bowls(Patches()), steps=2, starts=2, labels=["left", "right"], title="Two bowls")
    assert figure.get_suptitle() == "Two bowls"
    first, second = figure.axes
    assert [t.get_text() for t in first.get_yticklabels()] == ["left", "right"]
    assert [t.get_text() for t in first.get_xticklabels()] == ["−2", "−1", "start", "+1", "+2"]
    assert not any(t.get_text() for t in second.get_xticklabels())
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("start 1", "start 2")


def test_chosen_potentials_are_the_rows():
    flow = Bowls(Patches(), potentials=4)
    drawn = strips(flow, [0.1, 0.2, 0.3], potentials=[3, 1], steps=1)
    assert drawn.labels == ("$u_{3}$", "$u_{1}$")
    np.testing.assert_array_equal(drawn.images[0, 1], strips(flow, [0.1, 0.2, 0.3], steps=1).images[0, 1])


def test_differences_are_those_to_the_start():
    drawn = strips(Bowls(Patches(3)), steps=2)
    change = differences(drawn)
    assert np.abs(change[:, 2]).max() == 0
    expected = drawn.images[0, 1, 4].astype(float).mean(axis=0) - drawn.images[0, 1, 2].astype(float).mean(axis=0)
    np.testing.assert_allclose(change[1, 4], expected)
    figure = draw_strips(drawn, difference=True)
    ax, bar = figure.axes
    assert len(ax.get_yticks()) == 2
    largest = np.abs(change).max()
    np.testing.assert_allclose(bar.get_ylim(), (-largest, largest))
    middle = np.asarray(ax.images[0].get_array())[5:9, 12:16]  # below the first start: no change, the middle colour
    assert np.ptp(middle) <= 1
    assert middle.min() > 240


def test_colours_are_cut_to_what_can_be_shown():
    np.testing.assert_array_equal(colours_of(np.array([[[-1.0, 0.5, 2.0]]]))[0], [[0] * 3, [128] * 3, [255] * 3])
    with pytest.raises(WrongShape, match="2 channels; pictures need 1"):
        colours_of(np.zeros((2, 4, 4)))


def test_images_in_minus_one_to_one_are_drawn_as_those_in_zero_to_one():
    """What a network that ends with tanh makes would lose its darker half."""
    raw = Patches(3)

    def tanh(z):
        return 2 * raw(z) - 1

    expected, found = (strips(Bowls(generator), steps=2) for generator in (raw, tanh))
    np.testing.assert_allclose(found.images, expected.images, atol=1e-6)
    expected, found = (landscape(Bowls(generator), images=2) for generator in (raw, tanh))
    np.testing.assert_allclose(found.images, expected.images, atol=1e-6)
    with pytest.raises(DeclarationError, match=r"pixels from .* to .*`Adapted\(.*image_range=\(0, 255\)\)`"):
        strips(Bowls(lambda z: 255 * raw(z)))


def test_small_images_are_enlarged_smoothly_without_leaving_their_range():
    tiles = np.zeros((2, 3, 8, 8, 3), dtype=np.uint8)
    tiles[..., 4:, :] = 255
    large = enlarge(tiles)
    assert large.shape == (2, 3, 96, 96, 3)
    assert (large[..., 0, :] == 0).all() and (large[..., -1, :] == 255).all()
    assert enlarge(np.zeros((1, 1, 64, 64, 3), dtype=np.uint8)).shape == (1, 1, 64, 64, 3)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"z": [0.0, 0.0]}, WrongShape, r"`z` has shape \(1, 2\); expected starts \[s, 3\]"),
        ({"labels": ["a"]}, WrongShape, "`labels` has 1 entries for 2 rows"),
        ({"potentials": []}, ValueError, "`potentials` is empty"),
        ({"potentials": [2]}, ValueError, "no potential 2"),
        ({"steps": 0}, ValueError, "`steps` is 0"),
        ({"starts": 0}, ValueError, "`starts` is 0"),
    ],
)  # fmt: skip
def test_strips_that_cannot_be_drawn_say_why(settings, error, message):
    with pytest.raises(error, match=message):
        plot_traversals(Bowls(Patches()), **settings)


def test_images_that_are_no_numbers_are_not_drawn():
    class Broken(Patches):
        def __call__(self, z):
            return super().__call__(z) * torch.nan

    with pytest.raises(NonFinite, match="images that are not finite"):
        plot_traversals(Bowls(Broken()))


@pytest.mark.parametrize(
    "draw",
    [
        lambda flow: plot_traversals(flow, steps=1, potentials=[0]),
        lambda flow: plot_traversals(flow, steps=1, title="A title of many words that does not fit into one line"),
        lambda flow: plot_landscape(flow, times=[3], **SMALL),
        lambda flow: plot_landscape(flow, times=[3, 4], kind="surface", **SMALL),
        lambda flow: plot_comparison({"a": flow}, steps=1),
    ],
)
def test_words_above_and_below_small_pictures_are_not_cut(draw):
    figure = draw(Bowls(Patches(), name="a flow with a longer name"))
    figure.canvas.draw()
    for words in (figure._suptitle, figure._supxlabel):
        extent = words.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.width
        panels = [ax.get_tightbbox() for ax in figure.axes if ax.axison]
        assert not any(extent.overlaps(panel) for panel in panels)


def test_numbers_of_many_columns_do_not_run_into_each_other():
    figure = plot_traversals(Bowls(Patches()), steps=20)
    figure.canvas.draw()
    words = [label for label in figure.axes[0].get_xticklabels() if label.get_text()]
    assert [label.get_text() for label in words] == ["−20", "−15", "−10", "−5", "start", "+5", "+10", "+15", "+20"]
    extents = [label.get_window_extent() for label in words]
    assert all(a.x1 < b.x0 for a, b in pairwise(extents))


# Comparison


VALUES = {"one": {"VP": 0.75, "log-density drift": -2.5}, "two": {"VP": 0.5}}


def test_a_comparison_walks_all_flows_from_one_start(tmp_path):
    flows = {"one": Bowls(Patches()), "two": Straight(Patches(), potentials=3)}
    drawn = comparison(flows, values=VALUES, steps=2)
    np.testing.assert_array_equal(drawn.methods[0].codes[0, 0, 2], drawn.methods[1].codes[0, 2, 2])
    for method, flow in zip(drawn.methods, flows.values(), strict=True):
        np.testing.assert_array_equal(method.images, strips(flow, drawn.methods[0].codes[0, 0, 2], steps=2).images)
    figure = draw_comparison(drawn, tmp_path / "sheet.png")
    assert [ax.get_title(loc="left") for ax in figure.axes[::2]] == ["one", "two"]
    texts = [[t.get_text() for t in ax.texts] for ax in figure.axes[1::2]]
    assert texts == [["0.75", "VP", "−2.50", "log-density\ndrift"], ["0.50", "–"]]
    width, height = figure.get_size_inches() * 200
    assert size_of(tmp_path / "sheet.png") == (int(width), int(height))


def test_a_comparison_takes_reports_and_the_metrics_that_are_asked_for():
    class Report:
        values = {"one": {"gap": 0.1, "residual": 3e-11, "vp": 0.4}, "random (control)": {"vp": 0.3}}

    flows = {"one": Bowls(Patches())}
    drawn = comparison(flows, values=Report(), steps=1)
    assert drawn.values == {"one": {"vp": 0.4, "residual": 3e-11}}
    texts = [t.get_text() for t in draw_comparison(drawn).axes[1].texts]
    assert texts == ["0.40", "VP", "3.0e−11", "PDE residual"]
    assert comparison(flows, values=Report(), metrics=["gap"], steps=1).values == {"one": {"gap": 0.1}}
    with pytest.raises(UnknownName, match=r"flow in the report `two`.*one, random"):
        comparison({"two": Bowls(Patches())}, values=Report())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"flows": {}}, ValueError, "`flows` is empty"),
        ({"values": {"three": {}}}, UnknownName, "`three`.*one, two"),
        ({"values": VALUES, "metrics": ["gap"]}, UnknownName, "metric `gap`.*VP"),
        ({"z": np.zeros((2, 3))}, WrongShape, "`z` holds 2 starts"),
        ({"flows": {"one": Bowls(Patches()), "two": Bowls(latent_dim=4)}}, WrongShape, "one: 3, two: 4"),
    ],
)  # fmt: skip
def test_a_comparison_that_cannot_be_drawn_says_why(settings, error, message):
    flows = {"one": Bowls(Patches()), "two": Straight(Patches())}
    with pytest.raises(error, match=message):
        plot_comparison(**{"flows": flows, **settings})


# Films


def test_a_film_of_strips_shows_every_column_to_and_fro(tmp_path):
    assert to_and_fro(2, 5) == [2, 3, 4, 3, 2, 1, 0, 1]
    drawn = strips(Bowls(Patches()), steps=2)
    path = film_strips(drawn, tmp_path / "strips.gif", seconds=2.0)
    with Image.open(path) as film:
        assert (film.n_frames, film.info["duration"], film.info["loop"]) == (8, 250, 0)


def test_films_are_made_of_a_flow(tmp_path):
    path = animate_landscape(Bowls(), tmp_path / "land.gif", 1, frames=4, dpi=40, **SMALL)
    with Image.open(path) as film:
        assert film.n_frames == 4
        assert film.size == (224, 200)
    path = animate_traversals(Bowls(Patches()), tmp_path / "strips.gif", steps=1, starts=1, between=2)
    with Image.open(path) as film:
        assert film.n_frames == 8


def test_a_film_needs_a_suffix_it_knows_and_frames(tmp_path):
    with pytest.raises(ValueError, match=r"`film.png`.*\.gif, \.mp4"):
        animate_traversals(Bowls(Patches()), tmp_path / "film.png")
    with pytest.raises(ValueError, match="`frames` is 1"):
        animate_landscape(Bowls(), tmp_path / "film.gif", frames=1)
    with pytest.raises(ValueError, match="`seconds` is 0"):
        film_strips(strips(Bowls(Patches()), steps=1), tmp_path / "film.gif", seconds=0)
    assert not list(tmp_path.iterdir())


def test_mp4_needs_ffmpeg_and_says_so_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(animation.shutil, "which", lambda name: None)
    with pytest.raises(NotYet, match=r"`film.mp4` needs the program `ffmpeg`.*write `film.gif`"):
        animate_landscape(None, tmp_path / "film.mp4")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_mp4_hands_all_frames_to_ffmpeg(tmp_path, monkeypatch):
    """A stand-in for ffmpeg writes what it is given to its last argument."""
    program = tmp_path / "ffmpeg"
    program.write_text('#!/bin/sh\nfor last; do :; done\ncat > "$last"\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    frames = [np.full((5, 7, 3), i, dtype=np.uint8) for i in range(3)]
    path = animation.write_film(animation.film_path(tmp_path / "film.mp4"), frames, 1.0)
    assert path.read_bytes() == b"".join(bytes([i]) * (4 * 6 * 3) for i in range(3))
    program.write_text("#!/bin/sh\necho no codec >&2\nexit 1\n")
    with pytest.raises(RuntimeError, match="`ffmpeg` failed: no codec"):
        animation.write_film(tmp_path / "other.mp4", frames, 1.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ffmpeg", "film.mp4"]


# House rules


def test_figures_need_neither_pyplot_nor_a_display():
    program = (
        "import sys, pinnflow.latent.archive\n"
        "assert 'matplotlib' not in sys.modules and 'h5py' not in sys.modules\n"
        "from tests.latent.simple_flows import Bowls, Patches\n"
        "from pinnflow.latent.strips import plot_traversals\n"
        "figure = plot_traversals(Bowls(Patches()), steps=1)\n"
        "assert figure._repr_png_().startswith(b'\\x89PNG')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_figure_comes_back_without_a_file():
    assert isinstance(plot_landscape(Bowls(), **SMALL), Figure)
