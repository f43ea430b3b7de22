"""Sequences of images along known transformations, drawn when they are asked for, at any length.

A sequence has a start, the factors of its first image, and an index k, the transformation that goes on from there: at
step t the factors are start + t rate_k, and the others stay as they are. Digits shrink, turn and change colour; sprites
move to the right and up, grow, turn and change their shape. Nothing is stored but the starts, so that lengths beyond
the trained one cost nothing.

A new kind of sequences is one function with `@moving`; `moving_images` finds it by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from os import PathLike

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from pinnflow.errors import DeclarationError, NonFinite, UnknownName, WrongShape
from pinnflow.latent.generators.data import ImageSet, digits, images_of, mnist, sprite_distances
from pinnflow.latent.generators.gate import checked_images, in_range

Draw = Callable[[Tensor, Tensor], Tensor]

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class MovingImages:
    """Sequences x_0, ..., x_T along K known transformations.

    Args:
        name: what they are.
        names: of the transformations, K.
        start: factors of the first images, `[n, F]`.
        rates: what a step adds to the factors under each transformation, `[K, F]`.
        labels: the transformation k of each sequence, whole numbers `[n]`.
        draw: `(factors [m, F], rows [m]) -> images [m, c, h, w]` in [0, 1]; the rows say which sequences they are of.

    Raises:
        WrongShape: they do not belong together.
        DeclarationError: two transformations of one name, labels of none, or pixels outside [0, 1].
        NonFinite: starts or rates are no numbers.
    """

    def __init__(
        self, name: str, names: Sequence[str], start: Tensor, rates: Tensor, labels: Tensor | Sequence[int], draw: Draw
    ):
        self.name, self.names, self.draw = name, tuple(names), draw
        self.start, self.rates = start, torch.as_tensor(rates, dtype=start.dtype)
        self.labels = torch.as_tensor(labels)
        n, K = len(start), len(self.names)
        if start.dim() != 2 or self.rates.shape != (K, start.shape[1]) or not n:
            raise WrongShape(
                f"{name}: starts {list(start.shape)} and rates {list(self.rates.shape)} of {K} transformations; "
                f"expected [n, F] and [{K}, F], n at least 1"
            )
        if len(set(self.names)) < K:
            raise DeclarationError(f"{name}: two transformations of one name among {', '.join(self.names)}")
        for what, numbers in (("starts", self.start), ("rates", self.rates)):
            if not bool(torch.isfinite(numbers).all()):
                raise NonFinite(f"{name}: the {what} hold NaN or infinite values; factors are finite numbers")
        if self.labels.shape != (n,) or self.labels.dtype not in WHOLE:
            raise WrongShape(
                f"{name}: labels {list(self.labels.shape)} of {self.labels.dtype}; expected {n} whole numbers"
            )
        self.labels = self.labels.long()
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= K:
            raise DeclarationError(f"{name}: labels reach beyond the {K} transformations {', '.join(self.names)}")
        one = draw(start[:1], torch.zeros(1, dtype=torch.long))
        if not isinstance(one, Tensor) or one.dim() != 4 or len(one) != 1:
            found = list(one.shape) if isinstance(one, Tensor) else f"a {type(one).__name__}"
            raise WrongShape(f"{name}: `draw` answered {found} to one row of factors; expected [1, c, h, w]")
        c, h, w = one.shape[1:]
        self.image_shape = (int(c), int(h), int(w))

    def __len__(self) -> int:
        return len(self.start)

    def factors(self, rows: Tensor, steps: int) -> Tensor:
        """Factors along the sequences `rows` `[m]`: `[steps + 1, m, F]`."""
        t = torch.arange(steps + 1, dtype=self.start.dtype)[:, None, None]
        return self.start[rows] + t * self.rates[self.labels[rows]]

    def frames(self, rows: Tensor, steps: int) -> Tensor:
        """Images along the sequences `rows` `[m]`: `[steps + 1, m, c, h, w]`, float32.

        Raises:
            ValueError: `steps` is negative.
            NonFinite: the drawing made numbers that are none.
            DeclarationError: it made pixels outside [0, 1].
        """
        if not isinstance(steps, Integral) or steps < 0:
            raise ValueError(f"`steps` is {steps!r}; a sequence has 0 or more")
        rows = torch.as_tensor(rows)
        factors = self.factors(rows, steps)
        images = checked_images(self.draw(factors.flatten(0, 1), rows.repeat(steps + 1)), self.image_shape, self.name)
        return in_range(images, self.name).unflatten(0, (steps + 1, len(rows)))


MOVING: dict[str, Callable[..., MovingImages]] = {}


def moving(name: str) -> Callable[[Callable[..., MovingImages]], Callable[..., MovingImages]]:
    """Adds a function that makes sequences to the registry; used as a decorator."""

    def register(make: Callable[..., MovingImages]) -> Callable[..., MovingImages]:
        MOVING[name] = make
        return make

    return register


def moving_images(data: str | PathLike[str] | ImageSet, **settings) -> MovingImages:
    """The sequences meant by `data`: `digits`, `sprites`, the path of an .npz file of digits, or images to be moved.

    Args:
        data: where the first images come from.
        settings: `count`, `size`, `part` (`train` or `test`) and `seed` of the function that makes them.

    Raises:
        UnknownName: no sequences have that name, and it is no .npz file.
    """
    if isinstance(data, str) and data in MOVING:
        return MOVING[data](**settings)
    if isinstance(data, ImageSet) or str(data).endswith(".npz"):
        return moving_digits(data, **settings)
    raise UnknownName("sequences of images", data, [*MOVING, "PATH.npz"])


# Of digits: (name, lowest and highest start, what one step adds). The scale counts by its logarithm.
DIGIT_FACTORS = (
    ("scale", math.log(0.95), math.log(1.15), math.log(0.9)),
    ("rotation", -math.pi / 6, -math.pi / 18, math.pi / 12),
    ("hue", 0.0, math.pi / 4, math.pi / 6),
)

# Of sprites: the place in units in which 1 is two fifths of half the picture; the shape 0, 1, 2 is a square, an ellipse
# and a heart, and between them something between them.
SPRITE_FACTORS = (
    ("x", -1.0, -0.2, 0.2),
    ("y", -1.0, -0.2, 0.2),
    ("scale", math.log(0.6), math.log(0.85), math.log(1.07)),
    ("orientation", -math.pi / 5, -math.pi / 20, math.pi / 20),
    ("shape", 0.0, 0.8, 0.15),
)


@moving("digits")
def moving_digits(
    data: str | PathLike[str] | ImageSet | None = None,
    count: int = 2000,
    size: int | None = None,
    *,
    part: str = "train",
    seed: int = 0,
) -> MovingImages:
    """Coloured digits that shrink by 10 %, turn by 15 degrees, or change their hue by 30 degrees in every step.

    Args:
        data: grey images: None for scikit-learn's digits, the path of an .npz file with MNIST's arrays, or a set.
        count: sequences; each takes an image at random and starts at a random scale, angle and hue.
        size: pixels a side; None: 16 for digits of 8x8, else as they are.
        part: `train` or `test`: digits of the first four fifths or of the others; of MNIST, its own parts.
        seed: of images, starts and transformations.
    """
    base = _grey_images(data, part, count)
    size = size or max(16, base.image_shape[-1])
    start, labels, draw = _starts("digits", DIGIT_FACTORS, count, size, seed)
    chosen = torch.from_numpy(draw.integers(0, len(base), count))
    source = base.images
    if source.shape[-1] > size:  # fewer pixels than there are: average first, or else edges break up
        source = interpolate(source, (size, size), mode="area")

    def render(factors: Tensor, rows: Tensor) -> Tensor:
        return draw_digits(source[chosen[rows]], factors, size)

    names = tuple(name for name, *_ in DIGIT_FACTORS)
    return MovingImages(base.name, names, start, _rates(DIGIT_FACTORS), labels, render)


@moving("sprites")
def moving_sprites(count: int = 4000, size: int = 32, *, part: str = "train", seed: int = 0) -> MovingImages:
    """White sprites that move to the right, move up, grow by 7 %, turn by 9 degrees, or change their shape.

    Args:
        count, size, seed: as for `moving_digits`.
        part: `train` or `test`: other starts.
    """
    if part not in ("train", "test"):
        raise UnknownName("part of the data", part, ["train", "test"])
    start, labels, _ = _starts("sprites", SPRITE_FACTORS, count, size, [seed, part == "test"])
    names = tuple(name for name, *_ in SPRITE_FACTORS)
    return MovingImages(
        "sprites", names, start, _rates(SPRITE_FACTORS), labels, lambda factors, rows: draw_blends(factors, size)
    )


def draw_digits(images: Tensor, factors: Tensor, size: int) -> Tensor:
    """Colour images `[n, 3, size, size]` of grey ones `[n, 1, h, w]`, by factors `[n, 3]`: log scale, angle, hue."""
    scale, angle, hue = factors.exp()[:, 0], factors[:, 1], factors[:, 2]
    c, s, none = torch.cos(angle) / scale, torch.sin(angle) / scale, torch.zeros_like(angle)
    # The place in the source of every pixel: turned back and shrunk. Rows count downwards, angles the other way.
    back = torch.stack([torch.stack([c, -s, none], dim=1), torch.stack([s, c, none], dim=1)], dim=1)
    grid = affine_grid(back, [len(images), 1, size, size], align_corners=False)
    light = grid_sample(images, grid, align_corners=False)
    return (light * saturated(hue)[:, :, None, None]).clamp(0, 1)


def saturated(hue: Tensor) -> Tensor:
    """Red, green and blue `[n, 3]` of the pure colours at these angles `[n]` of the circle: red 0, green 2 pi / 3."""
    sixths = (hue[:, None] * (3 / math.pi) - torch.tensor([0.0, 2.0, 4.0], dtype=hue.dtype)) % 6
    return (2 - torch.minimum(sixths, 6 - sixths)).clamp(0, 1)


def draw_blends(factors: Tensor, size: int) -> Tensor:
    """Images `[n, 1, size, size]` of the factors `[n, 5]` of moving sprites: x, y, log scale, angle, shape."""
    placed = torch.cat([factors[:, :2], factors[:, 2:3].exp(), factors[:, 3:4]], dim=1)
    distances = sprite_distances(placed, size)  # [3, n, h, w]
    shape = factors[:, 4].clamp(0, len(distances) - 1)[:, None, None]
    # Between two shapes the distance to the edge is that between the distances.
    weights = (1 - (shape - torch.arange(len(distances), dtype=shape.dtype)[:, None, None, None]).abs()).clamp(min=0)
    return torch.sigmoid(-(weights * distances).sum(dim=0) * (2.0 * size))[:, None]


def _starts(name, factors, count, size, seed):
    if count < 1 or size < 8:
        raise DeclarationError(f"{name}: {count} sequences of {size} pixels; expected at least 1 and 8.")
    draw = np.random.default_rng(seed)
    low, high = (np.array([one[i] for one in factors]) for i in (1, 2))
    start = torch.from_numpy(draw.uniform(low, high, (count, len(factors))).astype(np.float32))
    return start, torch.from_numpy(draw.integers(0, len(factors), count)), draw


def _rates(factors) -> Tensor:
    return torch.diag(torch.tensor([rate for *_, rate in factors]))


def _grey_images(data, part, count) -> ImageSet:
    if part not in ("train", "test"):
        raise UnknownName("part of the data", part, ["train", "test"])
    if data is None or (isinstance(data, str) and data == "digits"):
        found = digits()
        cut = 4 * len(found) // 5
        rows = slice(0, cut) if part == "train" else slice(cut, None)
        return ImageSet("digits", found.images[rows])
    found = mnist(data, part=part, limit=max(1, count)) if str(data).endswith(".npz") else images_of(data)
    if found.image_shape[0] != 1 or found.image_shape[1] != found.image_shape[2]:
        raise WrongShape(
            f"{found.name}: images {list(found.image_shape)} cannot be coloured and turned; expected "
            "square grey ones [1, h, h]"
        )
    return found
