"""Sequences along known transformations: one factor changes, the others stay, and any length can be drawn."""

import math

import numpy as np
import pytest
import torch

from pinnflow.errors import DamagedFile, DeclarationError, NonFinite, UnknownName, WrongShape
from pinnflow.latent.generators.data import ImageSet, draw_sprites
from pinnflow.latent.generators.moving import (
    MovingImages,
    draw_blends,
    draw_digits,
    moving_images,
    moving_sprites,
)


def dot(row, column, size=16):
    """A grey image with light around one place."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 2.0)[None, None].float()


def centre(image):
    """Row and column of the centre of light of `[h, w]`, from the middle of the picture."""
    h, w = image.shape
    light = image / image.sum()
    return (
        float((light.sum(1) * (torch.arange(h) + 0.5)).sum()) - h / 2,
        float((light.sum(0) * (torch.arange(w) + 0.5)).sum()) - w / 2,
    )


@pytest.mark.parametrize("name", ["digits", "sprites"])
def test_one_factor_changes_by_equal_steps_and_the_others_stay(name):
    found = moving_images(name, count=40, seed=3)
    rows = torch.arange(40)
    factors = found.factors(rows, 7)
    change = factors[1:] - factors[:-1]
    torch.testing.assert_close(change, found.rates[found.labels].expand_as(change), rtol=0, atol=1e-5)
    assert ((found.rates != 0).sum(dim=1) == 1).all()
    frames = found.frames(rows, 7)
    assert frames.shape == (8, 40, *found.image_shape)
    assert frames.min() >= 0
    assert frames.max() <= 1
    # Every sequence moves visibly in every step (the shape of sprites, in two hundred pixels, is the least).
    moved = (frames[1:] - frames[:-1]).abs().flatten(2).sum(dim=2)
    assert float(moved.min()) > 0.2


def test_longer_sequences_begin_as_shorter_ones():
    found = moving_images("sprites", count=6, seed=1)
    rows = torch.tensor([4, 0])
    torch.testing.assert_close(found.frames(rows, 9)[:4], found.frames(rows, 3), rtol=0, atol=1e-6)


def test_parts_share_no_digit_and_seeds_say_all():
    one, same, other = (moving_images("digits", count=30, seed=s) for s in (0, 0, 1))
    rows = torch.arange(30)
    assert torch.equal(one.frames(rows, 2), same.frames(rows, 2))
    assert not torch.equal(one.frames(rows, 2), other.frames(rows, 2))
    test = moving_images("digits", count=30, seed=0, part="test")
    assert not torch.equal(one.frames(rows, 0), test.frames(rows, 0))
    assert not torch.equal(
        moving_images("sprites", count=9).start, moving_images("sprites", count=9, part="test").start
    )


def test_digits_turn_against_the_clock_and_grow_about_the_middle():
    """A dot at the distance r to the right of the middle goes to the angle a, and to r times the scale."""
    image = dot(7.5, 10.5)
    for scale, angle in ((1.0, 0.0), (1.0, 0.7), (1.5, -0.4), (0.6, 2.0)):
        drawn = draw_digits(image, torch.tensor([[math.log(scale), angle, 0.0]]), 16)[0, 0]
        row, column = centre(drawn)
        assert column == pytest.approx(3 * scale * math.cos(angle), abs=0.05)
        assert row == pytest.approx(-3 * scale * math.sin(angle), abs=0.05)  # rows count downwards


def test_hue_turns_red_into_green_and_blue_and_keeps_the_shape():
    image = dot(7.5, 7.5)
    for i in range(3):
        colours = draw_digits(image, torch.tensor([[0.0, 0.0, i * 2 * math.pi / 3]]), 16)[0]
        assert int(colours.flatten(1).sum(dim=1).argmax()) == i
        torch.testing.assert_close(colours[i], image[0, 0], rtol=0, atol=1e-5)


def test_sprites_of_whole_shapes_are_the_known_ones_and_blends_lie_between():
    place = torch.tensor([[0.2, -0.3, math.log(0.8), 0.4]])
    known = torch.tensor([[0.2, -0.3, 0.8, 0.4]])
    for shape in (0.0, 1.0, 2.0):
        s = torch.tensor([[shape]])
        torch.testing.assert_close(
            draw_blends(torch.cat([place, s], 1), 32), draw_sprites(torch.cat([known, s], 1), 32), rtol=0, atol=1e-5
        )
    light = [float(draw_blends(torch.cat([place, torch.tensor([[s]])], 1), 32).sum()) for s in (0.0, 0.5, 1.0)]
    assert light[0] > light[1] > light[2]


def test_images_of_ones_own_and_files_are_moved(tmp_path):
    images = ImageSet("dots", torch.cat([dot(7.5, c) for c in (6.0, 7.0, 8.0)]))
    found = moving_images(images, count=5)
    assert found.image_shape == (3, 16, 16)
    assert found.name == "dots"
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "m.npz", x_train=x, y_train=np.arange(6), x_test=x, y_test=np.arange(6))
    assert moving_images(tmp_path / "m.npz", count=4).image_shape == (3, 28, 28)
    assert moving_images(str(tmp_path / "m.npz"), count=4, size=14, part="test").image_shape == (3, 14, 14)
    (tmp_path / "bad.npz").write_bytes(b"no file of numbers")
    with pytest.raises(DamagedFile, match=r"bad\.npz"):
        moving_images(tmp_path / "bad.npz", count=4)


def test_what_cannot_be_moved_is_refused_in_words():
    with pytest.raises(UnknownName, match="digits"):
        moving_images("letters")
    with pytest.raises(UnknownName, match="test, train"):
        moving_sprites(4, part="validation")
    with pytest.raises(DeclarationError, match="at least 1 and 8"):
        moving_sprites(0)
    with pytest.raises(WrongShape, match="square grey"):
        moving_images(ImageSet("colour", torch.zeros(2, 3, 8, 8)), count=2)
    draw = lambda factors, rows: torch.zeros(len(rows), 1, 8, 8)  # noqa: E731
    start = torch.zeros(3, 2)
    with pytest.raises(WrongShape, match=r"rates \[2, 3\]"):
        MovingImages("toy", ("a", "b"), start, torch.zeros(2, 3), [0, 1, 0], draw)
    with pytest.raises(WrongShape, match="whole numbers"):
        MovingImages("toy", ("a", "b"), start, torch.eye(2), [0.0, 1.0, 0.0], draw)
    with pytest.raises(DeclarationError, match="beyond the 2 transformations a, b"):
        MovingImages("toy", ("a", "b"), start, torch.eye(2), [0, 1, 2], draw)
    with pytest.raises(ValueError, match="0 or more"):
        MovingImages("toy", ("a", "b"), start, torch.eye(2), [0, 1, 0], draw).frames(torch.arange(2), -1)
    with pytest.raises(DeclarationError, match="one name"):
        MovingImages("toy", ("a", "a"), start, torch.eye(2), [0, 1, 0], draw)
    with pytest.raises(WrongShape, match="bool"):
        MovingImages("toy", ("a", "b"), start, torch.eye(2), [True, False, True], draw)
    with pytest.raises(NonFinite, match="starts"):
        MovingImages("toy", ("a", "b"), start * torch.nan, torch.eye(2), [0, 1, 0], draw)
    with pytest.raises(WrongShape, match="`draw` answered"):
        MovingImages("toy", ("a", "b"), start, torch.eye(2), [0, 1, 0], lambda factors, rows: factors)
    bright = lambda factors, rows: 255 * torch.ones(len(rows), 1, 8, 8)  # noqa: E731
    with pytest.raises(DeclarationError, match="255"):
        MovingImages("toy", ("a", "b"), start, torch.eye(2), [0, 1, 0], bright).frames([0, 1], 1)
