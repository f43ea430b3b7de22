"""Digits, sprites and MNIST files: images in [0, 1] that belong to their labels and factors."""

import math
import sys

import numpy as np
import pytest
import torch

from pinnflow.errors import DamagedFile, DeclarationError, MissingExtra, NonFinite, UnknownName, WrongShape
from pinnflow.latent.generators.data import SHAPES, ImageSet, digits, draw_sprites, images_of, mnist, sprites


def mnist_file(path, **change):
    draw = np.random.default_rng(0)
    arrays = {
        "x_train": draw.integers(0, 256, (12, 28, 28), dtype=np.uint8),
        "y_train": np.arange(12, dtype=np.uint8) % 10,
        "x_test": draw.integers(0, 256, (5, 28, 28), dtype=np.uint8),
        "y_test": np.arange(5, dtype=np.uint8),
    } | change
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path, arrays


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    found, original = digits(), datasets.load_digits()
    assert found.image_shape == (1, 8, 8)
    assert np.array_equal(found.images[:, 0].numpy() * 16, original.images)
    assert found.labels.tolist() == original.target.tolist()


def test_a_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtra, match=r"digits.*scikit-learn.*\[latent\]"):
        digits()


def test_arrays_are_images_and_anything_else_is_refused_without_printing_it():
    array = np.random.default_rng(0).random((5, 1, 8, 8))
    assert torch.equal(images_of(array).images, torch.from_numpy(array).float())
    with pytest.raises(TypeError, match=r"a list is no set of images; expected a name, a path or an array"):
        images_of([[0.0] * 1000])


def test_sprites_repeat_for_a_seed_and_differ_for_another():
    first, again, other = sprites(20, 16), sprites(20, 16), sprites(20, 16, seed=1)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.factors, other.factors)
    assert set(sprites(200, 8).labels.tolist()) == set(range(len(SHAPES)))


@pytest.mark.parametrize("shape", range(3), ids=SHAPES)
def test_a_sprite_moves_and_grows_by_its_factors(shape):
    """Moving by one pixel shifts the image; the area goes with the square of the scale; turning keeps the area."""
    size = 64
    base = torch.tensor([[0.1, -0.2, 0.7, 0.3, float(shape)]])
    image = draw_sprites(base, size)[0, 0]
    pixel = 2 / size / 0.4
    right, up = (draw_sprites(base + pixel * torch.eye(5)[k], size)[0, 0] for k in (0, 1))
    assert torch.allclose(right[:, 1:], image[:, :-1], atol=1e-4)
    assert torch.allclose(up[:-1], image[1:], atol=1e-4)
    grown = draw_sprites(base * torch.tensor([1, 1, 1.3, 1, 1]), size)[0, 0]
    assert grown.sum() / image.sum() == pytest.approx(1.69, rel=0.03)
    turned = draw_sprites(base * torch.tensor([1, 1, 1, -1, 1]), size)[0, 0]
    assert turned.sum() == pytest.approx(float(image.sum()), rel=0.02)
    assert (turned - image).abs().max() > 0.3


def test_shapes_differ():
    three = draw_sprites(torch.tensor([[0.0, 0, 0.8, 0.2, k] for k in range(3)]), 32)
    assert (three[0] - three[1]).abs().mean() > 0.01
    assert (three[1] - three[2]).abs().mean() > 0.01
    assert (three[0] - three[2]).abs().mean() > 0.01


def test_sprites_stay_inside_the_image():
    images = sprites(500, 32).images[:, 0]
    edge = torch.cat([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], 1)
    assert edge.max() < 0.5
    assert images.flatten(1).amax(1).min() > 0.9


def test_mnist_is_read_from_a_file(tmp_path):
    path, arrays = mnist_file(tmp_path / "small.npz")
    train, test = mnist(path), mnist(path, part="test", limit=3)
    assert train.name == "small"
    assert np.array_equal((train.images[:, 0] * 255).round().numpy(), arrays["x_train"])
    assert train.labels.tolist() == arrays["y_train"].tolist()
    assert len(test) == 3
    assert np.array_equal((test.images[:, 0] * 255).round().numpy(), arrays["x_test"][:3])


def test_colours_come_last_in_a_file_and_first_in_a_tensor(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    path, _ = mnist_file(tmp_path / "colour.npz", x_train=x)
    images = mnist(path).images
    assert images.shape == (12, 3, 8, 8)
    assert int((images[1, 2, 3, 4] * 255).round()) == int(x[1, 3, 4, 2])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y_train": None}, DamagedFile, "no array `y_train`; it holds x_test, x_train, y_test"),
        ({"x_train": np.zeros((12, 28, 28))}, WrongShape, "float64"),
        ({"x_train": np.zeros((12, 784), np.uint8)}, WrongShape, r"\[12, 784\]"),
        ({"y_train": np.zeros(11, np.uint8)}, WrongShape, r"one label per image, \[12\]"),
        ({"x_train": np.array([{"a": 1}] * 12, dtype=object)}, DamagedFile, "not an .npz file of numbers"),
    ],
)
def test_files_that_are_no_mnist_are_refused(tmp_path, change, error, words):
    path, _ = mnist_file(tmp_path / "odd.npz", **change)
    with pytest.raises(error, match=words):
        mnist(path)


def test_broken_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DamagedFile, match=r"text\.npz"):
        mnist(tmp_path / "text.npz")
    path, _ = mnist_file(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DamagedFile, match=r"cut\.npz"):
        mnist(path)
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        mnist(tmp_path / "none.npz")
    with pytest.raises(UnknownName, match="test, train"):
        mnist(path, part="validation")


def test_images_are_found_by_what_is_given(tmp_path):
    path, _ = mnist_file(tmp_path / "small.npz")
    known = sprites(3, 8)
    assert images_of(known) is known
    assert images_of("sprites", count=2, size=8).image_shape == (1, 8, 8)
    assert len(images_of(str(path))) == 12
    assert images_of(torch.zeros(2, 1, 8, 8, dtype=torch.float64)).images.dtype == torch.float32
    with pytest.raises(UnknownName, match=r"PATH\.npz, digits, mnist, sprites"):
        images_of("cifar")


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (torch.full((2, 1, 8, 8), 255.0), DeclarationError, "Divide images of bytes by 255"),
        (torch.full((2, 1, 8, 8), math.nan), NonFinite, "2 of the images"),
        (torch.zeros(8, 8), WrongShape, r"\[8, 8\]"),
        (torch.zeros(0, 1, 8, 8), WrongShape, "at least 1"),
    ],
)
def test_what_is_no_image_is_refused(images, error, words):
    with pytest.raises(error, match=words):
        ImageSet("mine", images)
