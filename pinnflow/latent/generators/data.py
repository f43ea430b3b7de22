"""Images without a download: scikit-learn's digits, rendered sprites with known factors, MNIST from a file.

A new data set is one function with `@data_set`; `images_of` finds it by name.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pinnflow.errors import DamagedFile, DeclarationError, MissingExtra, UnknownName, WrongShape
from pinnflow.latent.generators.gate import checked_images, in_range


@dataclass(frozen=True)
class ImageSet:
    """Images and what is known about them.

    Attributes:
        name: what it is.
        images: `[n, c, h, w]`, float32 in [0, 1].
        labels: the class of each image `[n]`, where there is one.
        factors: `[n, F]`, float32, where they are known.
        factor_names: what each factor is.
    """

    name: str
    images: Tensor
    labels: Tensor | None = None
    factors: Tensor | None = None
    factor_names: tuple[str, ...] = ()

    def __post_init__(self):
        checked_images(self.images, tuple(self.images.shape[-3:]), self.name)
        if self.images.ndim != 4 or not len(self.images):
            raise WrongShape(
                f"{self.name}: `images` has the shape {list(self.images.shape)}; expected [n, c, h, w], n at least 1."
            )
        in_range(self.images, self.name)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(c, h, w)`."""
        return tuple(self.images.shape[1:])  # type: ignore[return-value]


DATA_SETS: dict[str, Callable[..., ImageSet]] = {}


def data_set(name: str) -> Callable[[Callable[..., ImageSet]], Callable[..., ImageSet]]:
    """Adds a function that makes an `ImageSet` to the registry; used as a decorator."""

    def register(make: Callable[..., ImageSet]) -> Callable[..., ImageSet]:
        DATA_SETS[name] = make
        return make

    return register


def images_of(data: str | PathLike[str] | ImageSet | Tensor | np.ndarray, **settings) -> ImageSet:
    """The images meant by `data`: a name, the path of an .npz file, an array `[n, c, h, w]`, or a set itself.

    Raises:
        UnknownName: no data set has that name, and it is no .npz file.
    """
    if isinstance(data, ImageSet):
        return data
    if isinstance(data, (Tensor, np.ndarray)):
        return ImageSet("images", torch.as_tensor(data).to(torch.float32))
    if not isinstance(data, (str, PathLike)):
        raise TypeError(
            f"a {type(data).__name__} is no set of images; expected a name, a path or an array [n, c, h, w]"
        )
    if str(data) in DATA_SETS:
        return DATA_SETS[str(data)](**settings)
    if str(data).endswith(".npz"):
        return mnist(data, **settings)
    raise UnknownName("data set", data, [*DATA_SETS, "PATH.npz"])


@data_set("digits")
def digits() -> ImageSet:
    """The 1797 handwritten digits of scikit-learn, 8x8, with their classes.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra("scikit-learn", "latent", "The digits data set") from None
    found = load_digits()
    images = torch.from_numpy(found.images.astype(np.float32) / 16.0)[:, None]
    return ImageSet("digits", images, torch.from_numpy(found.target.astype(np.int64)))


@data_set("mnist")
def mnist(path: str | PathLike[str], part: str = "train", limit: int | None = None) -> ImageSet:
    """The images of an .npz file with the arrays x_train, y_train, x_test, y_test of bytes, as MNIST is given.

    Args:
        path: the file. Arrays `[n, h, w]` or `[n, h, w, c]`.
        part: `train` or `test`.
        limit: take the first so many.

    Raises:
        DamagedFile: it cannot be read, or lacks an array, or holds Python objects.
        WrongShape: images and labels do not belong together.
    """
    if part not in ("train", "test"):
        raise UnknownName("part of the data", part, ["train", "test"])
    names = (f"x_{part}", f"y_{part}")
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                raise DamagedFile(
                    f"{path}: no array `{missing[0]}`; it holds {', '.join(sorted(file.files)) or 'nothing'}. "
                    f"Expected x_train, y_train, x_test and y_test."
                )
            x, y = file[names[0]], file[names[1]]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: there is no such file; expected an .npz file with x_train, y_train ..."
        ) from None
    except (ValueError, AttributeError, zipfile.BadZipFile, EOFError) as error:
        raise DamagedFile(f"{path}: not an .npz file of numbers ({error}).") from None
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        raise WrongShape(
            f"{path}: `{names[0]}` is {x.dtype} {list(x.shape)}; expected uint8 [n, h, w] or [n, h, w, c]."
        )
    if y.shape != x.shape[:1]:
        raise WrongShape(
            f"{path}: `{names[1]}` has the shape {list(y.shape)}; expected one label per image, [{len(x)}]."
        )
    x, y = x[:limit], y[:limit]
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    images = torch.from_numpy(np.ascontiguousarray(x)).to(torch.float32) / 255.0
    return ImageSet(Path(path).stem, images, torch.from_numpy(y.astype(np.int64)))


SHAPES = ("square", "ellipse", "heart")


@data_set("sprites")
def sprites(count: int = 5000, size: int = 64, seed: int = 0) -> ImageSet:
    """White shapes on black with known factors, drawn without aliasing.

    The factors are x and y in (-1, 1), scale in (0.5, 1), orientation in (-pi/4, pi/4), where even a square has only
    one, and the shape 0, 1 or 2: square, ellipse, heart. All are uniform and independent; the shape is the label too.

    Args:
        count: how many.
        size: pixels a side, at least 8.
        seed: of the factors.
    """
    if count < 1 or size < 8:
        raise DeclarationError(f"sprites: {count} images of {size} pixels; expected at least 1 and 8.")
    draw = np.random.default_rng(seed)
    factors = np.stack(
        [
            draw.uniform(-1, 1, count),
            draw.uniform(-1, 1, count),
            draw.uniform(0.5, 1, count),
            draw.uniform(-math.pi / 4, math.pi / 4, count),
            draw.integers(0, len(SHAPES), count),
        ],
        1,
    ).astype(np.float32)
    f = torch.from_numpy(factors)
    images = torch.cat([draw_sprites(part, size) for part in f.split(1024)])
    return ImageSet("sprites", images, f[:, 4].long(), f, ("x", "y", "scale", "orientation", "shape"))


def draw_sprites(factors: Tensor, size: int) -> Tensor:
    """Images `[n, 1, size, size]` of the factors `[n, 5]` of `sprites`.

    Each shape is where a function is negative that is nearly the distance to its edge; there the light falls from 1 to
    0 over about one pixel.
    """
    distances = sprite_distances(factors[:, :4], size)  # [3, n, h, w]
    index = factors[:, 4, None, None].round().long()[None].expand(1, *distances.shape[1:])
    return torch.sigmoid(-distances.gather(0, index)[0] * (2.0 * size))[:, None]


def sprite_distances(factors: Tensor, size: int) -> Tensor:
    """Distances to the edges of all shapes `[shapes, n, size, size]`; factors `[n, 4]`: x, y, scale, orientation."""
    x0, y0, scale, angle = factors[:, :, None, None].unbind(1)  # [n, 1, 1]
    centres = (torch.arange(size, dtype=factors.dtype, device=factors.device) + 0.5) * (2.0 / size) - 1.0
    x, y = centres[None, None, :] - 0.4 * x0, -centres[None, :, None] - 0.4 * y0
    c, s = torch.cos(angle), torch.sin(angle)
    u, v = (c * x + s * y) / (0.55 * scale), (c * y - s * x) / (0.55 * scale)
    return torch.stack([_square(u, v), _ellipse(u, v), _heart(u, v)]) * (0.55 * scale)


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.75


def _ellipse(u: Tensor, v: Tensor) -> Tensor:
    return (u.square() + (v / 0.55).square()).sqrt().sub(1.0) * 0.7


def _heart(u: Tensor, v: Tensor) -> Tensor:
    """A square standing on a corner, and a disc on each of its upper sides."""
    p, q = (u + v) / math.sqrt(2.0) + 0.15, (v - u) / math.sqrt(2.0) + 0.15
    r = 0.5
    square = torch.maximum(p.abs(), q.abs()) - r
    discs = torch.minimum(torch.hypot(p - r, q), torch.hypot(p, q - r)) - r
    return torch.minimum(square, discs)
