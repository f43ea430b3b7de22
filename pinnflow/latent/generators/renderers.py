"""Smooth pictures of known factors: what `WarpedGenerator` draws.

A renderer turns features in (-1, 1) into light and cover on a grid; every feature moves the picture smoothly, so images
can be differentiated by forward and reverse mode. Features beyond a renderer's own are amplitudes of cosine waves in
the background, so any number of factors can be seen. A new renderer is one function with `@renderer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pinnflow.errors import DeclarationError, UnknownName

Draw = Callable[[list[Tensor], Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Renderer:
    """One way to draw features.

    Attributes:
        name: the name in the registry.
        channels: 1 for grey, 3 for colour.
        features: what each of its own features is, in order.
        draw: `(features, x, y) -> (light [..., c, h, w], cover [..., 1, h, w])`; a list of one tensor `[..., 1, 1, 1]`
            per feature, the grid of pixel centres in (-1, 1), y upwards. Light is what the object adds, cover is how
            much of the background it hides.
    """

    name: str
    channels: int
    features: tuple[str, ...]
    draw: Draw


RENDERERS: dict[str, Renderer] = {}


def renderer(name: str, channels: int, *features: str) -> Callable[[Draw], Draw]:
    """Adds a drawing function to the registry under `name`; used as a decorator."""

    def register(draw: Draw) -> Draw:
        RENDERERS[name] = Renderer(name, channels, features, draw)
        return draw

    return register


def find_renderer(name: str) -> Renderer:
    """The renderer called `name`.

    Raises:
        UnknownName: there is none; the message lists those that exist.
    """
    if name not in RENDERERS:
        raise UnknownName("renderer", name, RENDERERS)
    return RENDERERS[name]


def feature_names(name: str, factors: int) -> tuple[str, ...]:
    """What the first `factors` features of a renderer are: its own, then `background 1`, `background 2`, ..."""
    own = find_renderer(name).features
    return (*own, *(f"background {i + 1}" for i in range(factors - len(own))))[:factors]


def render(name: str, features: Tensor, size: int) -> Tensor:
    """Images `[..., c, size, size]` in [0, 1] of features `[..., m]` in (-1, 1).

    The features that a renderer has and `features` lacks are 0, the middle of their range; those beyond its own are
    background waves.

    Raises:
        UnknownName: no such renderer.
        DeclarationError: `size` is below 8 pixels.
    """
    how = find_renderer(name)
    if size < 8:
        raise DeclarationError(f"{name}: `size` is {size} pixels; expected at least 8.")
    centres = (torch.arange(size, dtype=features.dtype, device=features.device) + 0.5) * (2.0 / size) - 1.0
    x, y = centres[None, None, :], -centres[None, :, None]  # [1, 1, w], [1, h, 1]
    values = list(features[..., None, None, None].unbind(-4))  # each [..., 1, 1, 1]
    own, beyond = values[: len(how.features)], values[len(how.features) :]
    own += [torch.zeros_like(features[..., :1, None, None])] * (len(how.features) - len(own))
    light, cover = how.draw(own, x, y)
    return light + (1.0 - cover) * background(beyond, x, y) if beyond else light


def background(amplitudes: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Light in (0, 0.2), below the darkest object: cosine waves of growing frequency with the given amplitudes."""
    waves = cosine_waves(len(amplitudes))
    total = torch.zeros_like(amplitudes[0] * x * y)
    for a, (p, q) in zip(amplitudes, waves):
        total = total + a * torch.cos(0.5 * math.pi * p * (x + 1.0)) * torch.cos(0.5 * math.pi * q * (y + 1.0))
    return 0.2 * torch.sigmoid(3.0 * total / math.sqrt(len(amplitudes)))


def cosine_waves(count: int) -> list[tuple[int, int]]:
    """The first `count` pairs of frequencies other than (0, 0), lowest first."""
    reach = math.isqrt(2 * count) + 2
    waves = sorted(((p, q) for p in range(reach) for q in range(reach) if p or q), key=lambda w: (sum(w), w))
    return waves[:count]


def bump(distance_squared: Tensor) -> Tensor:
    """exp(-r^4): flat inside, smooth at the edge, gone at r = 1.7."""
    return torch.exp(-distance_squared.square())


# Half ranges of the ellipse, that its read-out by moments inverts.
CENTRE, RADIUS, GROWTH, TURN, ASPECT = 0.4, 0.22, 0.4, 0.4 * math.pi, 1.8


def ellipse_cover(place: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """A super-Gaussian ellipse `[..., 1, h, w]` of constant aspect ratio; place = x, y, size, angle in (-1, 1)."""
    x0, y0, size, angle = place
    radius = RADIUS * torch.exp(GROWTH * size)
    c, s = torch.cos(TURN * angle), torch.sin(TURN * angle)
    dx, dy = x - CENTRE * x0, y - CENTRE * y0
    along, across = c * dx + s * dy, c * dy - s * dx
    return bump((along.square() / ASPECT + across.square() * ASPECT) / radius.square())


@renderer("ellipse", 1, "x", "y", "size", "angle", "brightness")
def draw_ellipse(f: list[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """One grey ellipse."""
    cover = ellipse_cover(f[:4], x, y)
    return cover * (0.65 + 0.35 * f[4]), cover


@renderer("colour", 3, "x", "y", "size", "angle", "hue", "brightness")
def draw_colour(f: list[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """One coloured ellipse; the hue covers 0.8 of the colour circle, so that its ends differ."""
    cover = ellipse_cover(f[:4], x, y)
    shift = torch.arange(3, dtype=x.dtype, device=x.device)[:, None, None] * (2.0 * math.pi / 3.0)
    rgb = 0.5 + 0.5 * torch.cos(0.8 * math.pi * f[4] - shift)
    return cover * rgb * (0.7 + 0.3 * f[5]), cover


@renderer("blobs", 1, "left height", "right height", "left size", "right size", "left brightness", "right brightness")
def draw_blobs(f: list[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two discs, one in each half, that move up and down: factors that never touch the same pixels."""

    def disc(x0: float, height: Tensor, size: Tensor) -> Tensor:
        radius = 0.22 * torch.exp(0.4 * size)
        return bump(((x - x0).square() + (y - 0.5 * height).square()) / radius.square())

    left, right = disc(-0.48, f[0], f[2]), disc(0.48, f[1], f[3])
    light = left * (0.65 + 0.35 * f[4]) + (1.0 - left) * right * (0.65 + 0.35 * f[5])
    return light, 1.0 - (1.0 - left) * (1.0 - right)


@renderer("bars", 1, "row", "column", "row width", "column width", "row brightness", "column brightness")
def draw_bars(f: list[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A horizontal and a vertical bar that cross: factors that always share pixels."""

    def bar(position: Tensor, width: Tensor, along: Tensor) -> Tensor:
        return bump(((along - 0.6 * position) / (0.16 * torch.exp(0.5 * width))).square())

    row, column = bar(f[0], f[2], y), bar(f[1], f[3], x)
    row_light, column_light = row * (0.65 + 0.35 * f[4]), column * (0.65 + 0.35 * f[5])
    light = 1.0 - (1.0 - row_light) * (1.0 - column_light)
    return light, 1.0 - (1.0 - row) * (1.0 - column)
