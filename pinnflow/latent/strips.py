"""Image strips: what a sample looks like while it walks along each of the K potentials, against and with it.

`strips` computes the images, `draw_strips` draws them, `plot_traversals` does both. A row is a potential, a column a
step: the start in the middle, the walk against the velocity to the left, the walk along it to the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnflow.errors import DeclarationError, NonFinite, WrongShape
from pinnflow.latent.canvas import FAINT, INK, finish, new_figure, style, write_around

TILE = (0.22, 0.62)  # inches: the smallest and the largest side of an image
WIDTH, HEIGHT = 11.0, 15.0  # inches that a figure shall not exceed, unless its images would be too small


@dataclass(frozen=True)
class Strips:
    """Images along walks from s starts, for r potentials, at c positions.

    Attributes:
        name: of the flow.
        potentials: the numbers k of the rows, `[r]`.
        labels: what stands beside the rows.
        positions: steps from the start, negative against the velocity, `[c]`.
        codes: `[s, r, c, d]`.
        images: `[s, r, c, channels, height, width]`, float32.
        step_length: of the walks; None: the raw velocity.
    """

    name: str
    potentials: np.ndarray
    labels: tuple[str, ...]
    positions: np.ndarray
    codes: np.ndarray
    images: np.ndarray
    step_length: float | None

    @property
    def start(self) -> int:
        """The column of the start."""
        return int(np.abs(self.positions).argmin())

    def whole(self) -> np.ndarray:
        """The columns at whole numbers of steps."""
        return np.flatnonzero(np.isclose(self.positions, np.round(self.positions)))


def strips(
    flow: Any,
    z: Any = None,
    *,
    steps: int = 6,
    step_length: float | None = 0.35,
    potentials: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    starts: int = 1,
    between: int = 1,
    seed: int = 0,
) -> Strips:
    """The images of `plot_traversals`, which explains the arguments.

    Args:
        between: images a step; with more than 1 also codes on the way between two steps are rendered, for animations.

    Raises:
        WrongShape: z has other dimensions, or there are not as many labels as rows.
        WrongShape, DeclarationError, NonFinite: the images cannot be drawn, see `drawable`.
        ValueError: numbers that make no sense; the message names them.
    """
    if between < 1 or starts < 1:
        raise ValueError(f"`starts` is {starts} and `between` is {between}; both must be positive")
    rows = list(range(flow.potentials)) if potentials is None else [int(k) for k in potentials]
    if not rows:
        raise ValueError("`potentials` is empty; name at least one potential")
    if labels is None:
        labels = [f"$u_{{{k}}}$" for k in rows]
    if len(labels) != len(rows):
        raise WrongShape(f"`labels` has {len(labels)} entries for {len(rows)} rows")
    z = starting_codes(flow, starts, seed) if z is None else torch.as_tensor(z)
    z = z[None] if z.dim() == 1 else z
    if z.dim() != 2 or z.shape[1] != flow.latent_dim:
        raise WrongShape(f"`z` has shape {tuple(z.shape)}; expected starts [s, {flow.latent_dim}]")
    s, r = len(z), len(rows)
    begin = z.repeat_interleave(r, dim=0)
    k = torch.as_tensor(rows).repeat(s).to(z.device)
    halves = [flow.traverse(begin, k, steps=steps, step_length=step_length, direction=sign) for sign in (-1, 1)]
    path = _refined(torch.cat([halves[0].flip(0), halves[1][1:]]), between)  # [c, s r, d]
    images = drawable(flow.render(path), flow.name)
    columns = len(path)
    return Strips(
        name=flow.name,
        potentials=np.asarray(rows),
        labels=tuple(str(label) for label in labels),
        positions=np.linspace(-steps, steps, columns),
        codes=_ordered(path, s, r).double().cpu().numpy(),
        images=_ordered(images, s, r).numpy(),
        step_length=step_length,
    )


def plot_traversals(
    flow: Any,
    path: str | PathLike[str] | None = None,
    z: Any = None,
    *,
    steps: int = 6,
    step_length: float | None = 0.35,
    potentials: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    starts: int = 1,
    difference: bool = False,
    smooth: bool = False,
    title: str | None = None,
    seed: int = 0,
) -> Any:
    """Draws what samples look like along all potentials: a row for each, from -steps to +steps.

    Args:
        flow: a `Flow` with a generator of 1 or 3 channels; images in [-1, 1] are brought to [0, 1].
        path: file to write; the suffix says the format (png, pdf, svg). None: nothing is written.
        z: starts, `[d]` or `[s, d]`; a block of rows for each. By default `starts` codes that `seed` draws.
        steps: to either side.
        step_length: of the steps; None takes the velocity as it is.
        potentials: the rows; by default all.
        labels: what stands beside the rows, such as the name of a factor.
        starts: how many starts are drawn where z is not given.
        difference: shows below every row how the images differ from the start.
        smooth: enlarges small images smoothly instead of as squares.
        title: by default the name of the flow.
        seed: of the starts.

    Returns:
        The matplotlib `Figure`.

    Raises:
        WrongShape: z or the images have a shape that cannot be drawn, or there are not as many labels as rows.
        DeclarationError: pixels lie neither in [0, 1] nor in [-1, 1].
        NonFinite: the generator returned something that is no number.
        ValueError: numbers that make no sense; the message names them.
    """
    drawn = strips(
        flow, z, steps=steps, step_length=step_length, potentials=potentials, labels=labels, starts=starts, seed=seed
    )
    return draw_strips(drawn, path, difference=difference, smooth=smooth, title=title)


def draw_strips(
    drawn: Strips,
    path: str | PathLike[str] | None = None,
    *,
    difference: bool = False,
    smooth: bool = False,
    title: str | None = None,
) -> Any:
    """The picture of strips; arguments as for `plot_traversals`."""
    blocks = len(drawn.images)
    lines = len(drawn.labels) * (2 if difference else 1)
    columns = len(drawn.whole())
    aspect = drawn.images.shape[-2] / drawn.images.shape[-1]
    tile = np.clip(min((WIDTH - 0.9) / columns, (HEIGHT - 1.0) / (blocks * lines * aspect)), *TILE)
    with style():
        figure = new_figure(
            tile * columns + 0.9 + (0.8 if difference else 0), blocks * (tile * aspect * lines + 0.3) + 0.75
        )
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.04)
        axes = figure.subplots(blocks, 1, squeeze=False)[:, 0]
        for i, ax in enumerate(axes):
            image = draw_block(ax, drawn, i, difference=difference, smooth=smooth, numbered=i == 0)
            if blocks > 1:
                ax.set_title(f"start {i + 1}", loc="left", fontsize=10, color=FAINT)
        if difference:
            bar = figure.colorbar(image, ax=list(axes), label="change of the image", aspect=25, pad=0.02, shrink=0.8)
            bar.outline.set_linewidth(0.6)
        write_around(figure, title or f"{drawn.name}: samples moved along each potential", step_note(drawn))
        return finish(figure, path)


def draw_block(
    ax: Any, drawn: Strips, start: int = 0, *, difference: bool = False, smooth: bool = False, numbered: bool = True
) -> Any:
    """The strips of one start on axes of yours; returns the image of the differences, for a colour bar, or None."""
    from matplotlib.patches import Rectangle

    whole = drawn.whole()
    tiles = colours_of(drawn.images[start][:, whole], drawn.name)  # [r, c, h, w, 3]
    positions = np.round(drawn.positions[whole]).astype(int)
    scaled = None
    if difference:
        change, limit = differences(drawn, start), largest_difference(drawn)
        scaled = _scale(limit)
        shown = scaled.to_rgba(change[:, whole], bytes=True)[..., :3]
        tiles = np.stack([tiles, shown], axis=1).reshape(-1, *tiles.shape[1:])
    if smooth:
        tiles = enlarge(tiles)
    mosaic, x, y, gap = join(tiles, together=2 if difference else 1)
    ax.imshow(mosaic, interpolation="antialiased")
    h, w = tiles.shape[2:4]
    middle = int(np.flatnonzero(positions == 0)[0])
    line = 0.5 * gap + 0.5
    ax.add_patch(Rectangle((x[middle] - line, -line), w + 2 * line - 1, mosaic.shape[0] + 2 * line - 1, fill=False,
                           edgecolor="#d55e00", linewidth=1.6, clip_on=False))  # fmt: skip
    every = 1 if len(positions) <= 27 else 5  # numbers of so many columns would run into each other
    words = [f"{p:+d}".replace("-", "\N{MINUS SIGN}") if p else "start" for p in positions]
    shown = [word if p % every == 0 else "" for word, p in zip(words, positions)]
    ax.set_xticks(x + (w - 1) / 2, shown if numbered else [])
    middles = y + (h - 1) / 2
    if difference:
        middles = (middles[::2] + middles[1::2]) / 2
    ax.set_yticks(middles, drawn.labels, fontsize=12)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False, pad=3, labelcolor=INK)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return scaled


def step_note(drawn: Strips) -> str:
    """What a step is, for the foot of a picture."""
    length = "the velocity as it is" if drawn.step_length is None else f"{drawn.step_length:g} long in the latent space"
    return f"Columns: steps against ($-$) and along ($+$) the velocity, {length}."


def starting_codes(flow: Any, count: int, seed: int) -> Tensor:
    """Standard normal codes `[count, d]` drawn by `seed`."""
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(count, flow.latent_dim, generator=noise, dtype=torch.float64)


def differences(drawn: Strips, start: int = 0) -> np.ndarray:
    """How images differ from the start, mean over the channels, `[r, c, h, w]`."""
    images = drawn.images[start].astype(np.float64)
    return (images - images[:, drawn.start : drawn.start + 1]).mean(axis=2)


def largest_difference(drawn: Strips) -> float:
    """The limit of the colour scale of differences, the same for all starts."""
    return max(float(np.abs(differences(drawn, i)).max()) for i in range(len(drawn.images))) or 1.0


def drawable(images: Tensor, name: str = "flow") -> Tensor:
    """Images `[..., c, h, w]` of a generator as pictures take them: in [0, 1], float32, on the CPU.

    Images in [-1, 1], as networks that end with tanh make them, are known by pixels below -0.25 and brought to [0, 1].

    Raises:
        WrongShape: neither 1 nor 3 channels.
        DeclarationError: pixels lie neither in [0, 1] nor in [-1, 1], by more than a half.
        NonFinite: they are no numbers.
    """
    if images.dtype.is_complex or not bool(torch.isfinite(images).all()):
        raise NonFinite(f"the generator of `{name}` returned images that are not finite")
    _check_channels(images.shape[-3], name)
    images = images.detach().float().cpu()
    low, high = (float(images.min()), float(images.max())) if images.numel() else (0.0, 1.0)
    if low < -1.5 or high > 1.5:
        raise DeclarationError(
            f"`{name}` makes images with pixels from {low:.3g} to {high:.3g}; pictures need [0, 1] or [-1, 1]. Say "
            f"what their range is, for instance `Adapted(generator, latent_dim, image_range=(0, 255))`"
        )
    return (images + 1) / 2 if low < -0.25 else images


def _check_channels(channels, name):
    if channels not in (1, 3):
        raise WrongShape(
            f"`{name}` makes images of {channels} channels; pictures need 1 (grey) or 3 (red, green, blue). Draw a "
            f"flow on some of them, for instance `flow.generator = lambda z: generator(z)[:, :3]`"
        )


def colours_of(images: np.ndarray, name: str = "flow") -> np.ndarray:
    """Images `[..., c, h, w]` as colours `[..., h, w, 3]` of 8 bits; values outside [0, 1] are cut.

    Raises:
        WrongShape: neither 1 nor 3 channels.
    """
    channels = images.shape[-3]
    _check_channels(channels, name)
    # In 8 bits from here on: 32 rows of 256 x 256 images are a gigabyte otherwise.
    last = np.moveaxis(np.round(255 * np.clip(images, 0, 1)).astype(np.uint8), -3, -1)
    return np.repeat(last, 3, axis=-1) if channels == 1 else last


def join(tiles: np.ndarray, together: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Tiles `[r, c, h, w, 3]` on white: the picture, left and upper edges of the tiles in pixels, and the gap.

    Args:
        tiles: of 8 bits.
        together: rows that form a group, inside which gaps are half as wide.
    """
    r, c, h, w = tiles.shape[:4]
    gap = max(2, round(max(h, w) / 14))
    row = np.arange(r)
    y, x = row * (h + gap // 2) + row // together * (gap - gap // 2), np.arange(c) * (w + gap)
    picture = np.full((y[-1] + h, x[-1] + w, 3), 255, dtype=np.uint8)
    for i in range(r):
        for j in range(c):
            picture[y[i] : y[i] + h, x[j] : x[j] + w] = tiles[i, j]
    return picture, x, y, gap


def enlarge(tiles: np.ndarray, side: int = 96) -> np.ndarray:
    """Tiles `[r, c, h, w, 3]` at about `side` pixels by bicubic interpolation; larger ones are left alone."""
    factor = side // max(tiles.shape[2:4])
    if factor < 2:
        return tiles
    stack = torch.as_tensor(np.moveaxis(tiles, -1, 2)).flatten(0, 1).float()
    large = torch.nn.functional.interpolate(stack, scale_factor=factor, mode="bicubic", align_corners=False)
    return np.moveaxis(large.round().clamp(0, 255).byte().unflatten(0, tiles.shape[:2]).numpy(), 2, -1)


def _scale(limit):
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(-limit, limit), "RdBu_r")


def _refined(path, between):
    """A path `[c, n, d]` with `between - 1` codes put into each of its steps, on the straight line."""
    if between == 1:
        return path
    shares = torch.arange(between, dtype=path.dtype, device=path.device)[:, None, None] / between
    inner = torch.cat([a + shares * (b - a) for a, b in pairwise(path)])
    return torch.cat([inner, path[-1:]])


def _ordered(along, s, r):
    """`[c, s r, ...]` as `[s, r, c, ...]`."""
    return along.unflatten(1, (s, r)).permute(1, 2, 0, *range(3, along.dim() + 1))
