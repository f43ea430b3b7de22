"""Films: landscapes that change in time with samples on them, and images that walk to and fro.

GIF is written by pillow, MP4 by the program `ffmpeg` where it is installed.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pinnflow.errors import NotYet, UnknownName
from pinnflow.latent.canvas import FAINT, INK, checked_path, new_figure, style, wrapped
from pinnflow.latent.landscape import KINDS, Landscape, draw_panel, draw_pictured, footnote, landscape, value_label
from pinnflow.latent.strips import Strips, colours_of, enlarge, join, strips
from pinnflow.latent.writing import in_one_piece

SUFFIXES = (".gif", ".mp4")


def animate_landscape(
    flow: Any,
    path: str | PathLike[str],
    potential: int = 0,
    *,
    directions: Any = None,
    center: Any = None,
    span: float = 3.0,
    resolution: int = 60,
    samples: int = 12,
    steps: int = 6,
    step_length: float | None = 0.35,
    images: int = 4,
    seed: int = 0,
    kind: str = "map",
    frames: int = 37,
    seconds: float = 6.0,
    dpi: int = 100,
) -> Path:
    """Films u_k from t = 0 to t = `steps`, with samples that flow on it; arguments as for `plot_landscape`.

    Args:
        frames: pictures, the first and the last time included.
        seconds: how long one pass takes.
        dpi: dots per inch.

    Raises:
        NotYet: an MP4 is asked for and there is no `ffmpeg`.
    """
    path = film_path(path)
    if frames < 2:
        raise ValueError(f"`frames` is {frames}; a film needs at least 2")
    times = np.linspace(0.0, steps, frames).tolist()
    drawn = landscape(
        flow, potential, times, directions=directions, center=center, span=span, resolution=resolution,
        samples=samples, steps=steps, step_length=step_length, images=images, seed=seed,
    )  # fmt: skip
    return film_landscape(drawn, path, kind=kind, seconds=seconds, dpi=dpi)


def film_landscape(
    drawn: Landscape, path: str | PathLike[str], *, kind: str = "map", seconds: float = 6.0, dpi: int = 100
) -> Path:
    """The film of a landscape: a frame for each of its times."""
    path = film_path(path)
    if kind not in KINDS:
        raise UnknownName("kind of landscape", kind, KINDS)
    return write_film(path, list(_landscape_frames(drawn, kind, dpi)), seconds)


def animate_traversals(
    flow: Any,
    path: str | PathLike[str],
    z: Any = None,
    *,
    steps: int = 6,
    step_length: float | None = 0.35,
    potentials: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    starts: int = 3,
    between: int = 4,
    smooth: bool = False,
    seed: int = 0,
    seconds: float = 6.0,
    dpi: int = 100,
) -> Path:
    """Films samples that walk along each potential, back, and against it; arguments as for `plot_traversals`.

    A column is a potential, a row a start.

    Args:
        between: images a step: codes on the straight line between two steps make the film smooth.
        seconds: how long one pass takes.
        dpi: dots per inch.

    Raises:
        NotYet: an MP4 is asked for and there is no `ffmpeg`.
    """
    path = film_path(path)
    drawn = strips(
        flow, z, steps=steps, step_length=step_length, potentials=potentials, labels=labels, starts=starts,
        between=between, seed=seed,
    )  # fmt: skip
    return film_strips(drawn, path, smooth=smooth, seconds=seconds, dpi=dpi)


def film_strips(
    drawn: Strips, path: str | PathLike[str], *, smooth: bool = False, seconds: float = 6.0, dpi: int = 100
) -> Path:
    """The film of strips: from the start to the end, back to the start, to the other end, and back."""
    path = film_path(path)
    return write_film(path, list(_strip_frames(drawn, smooth, dpi)), seconds)


def to_and_fro(start: int, columns: int) -> list[int]:
    """The order in which a film shows the columns: start, last, start, first, and back next to the start."""
    forth = list(range(start, columns))
    back = list(range(start, -1, -1))
    return forth + forth[-2:0:-1] + back + back[-2:0:-1]


def film_path(path: str | PathLike[str]) -> Path:
    """`path`, if it can become a film here.

    Raises:
        ValueError: neither GIF nor MP4.
        FileNotFoundError: the folder does not exist.
        NotYet: an MP4 is asked for and there is no `ffmpeg`.
    """
    path = checked_path(path, SUFFIXES, "film")
    if path.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise NotYet(
            f"`{path.name}` needs the program `ffmpeg`, which is not installed here; install it with your system's "
            f"package manager, or write `{path.with_suffix('.gif').name}`."
        )
    return path


def write_film(path: Path, frames: Sequence[np.ndarray], seconds: float) -> Path:
    """Writes pictures `[h, w, 3]` of 8 bits, all of one size, as GIF or MP4."""
    if not seconds > 0:
        raise ValueError(f"`seconds` is {seconds!r}; it must be positive")
    write = _write_mp4 if path.suffix.lower() == ".mp4" else _write_gif
    return in_one_piece(path, lambda part: write(part, frames, seconds))


def _write_gif(path, frames, seconds):
    from PIL import Image

    pictures = [_in_256_colours(Image.fromarray(frame)) for frame in frames]
    duration = max(20, round(1000 * seconds / len(pictures)))
    pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)


def _in_256_colours(picture):
    """All that a frame of a GIF can hold: most for the gradients, the rest for rare colours such as markers."""
    from PIL import Image

    parts = ((190, Image.Quantize.MEDIANCUT), (64, Image.Quantize.MAXCOVERAGE))
    chosen = [255, 255, 255, 0, 0, 0]
    for count, method in parts:
        colours = picture.quantize(count, method=method, dither=Image.Dither.NONE).getpalette()[: 3 * count]
        chosen += colours + colours[:3] * (count - len(colours) // 3)
    palette = Image.new("P", (1, 1))
    palette.putpalette(chosen)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def _write_mp4(path, frames, seconds):
    # The codec takes even sizes only.
    frames = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    height, width = frames[0].shape[:2]
    command = [
        "ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", f"{len(frames) / seconds:.6f}", "-i", "-", "-pix_fmt", "yuv420p", "-f", "mp4", str(path),
    ]  # fmt: skip
    data = b"".join(np.ascontiguousarray(frame).tobytes() for frame in frames)
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`ffmpeg` failed: {done.stderr.decode(errors='replace').strip()}")


def _pixels(figure):
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def _landscape_frames(drawn: Landscape, kind: str, dpi: int) -> Iterator[np.ndarray]:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    name, low, high = drawn.palette
    with style():
        count = len(drawn.pictured)
        figure = new_figure(5.6 + (1.2 if count else 0), 5.0, dpi=dpi)
        figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05)
        cells = figure.add_gridspec(1, 2 if count else 1, width_ratios=(4.4, 4.0 / count) if count else None)
        ax = figure.add_subplot(cells[0], projection="3d" if kind == "surface" else None)
        beside = figure.add_subplot(cells[1]) if count else None
        figure.colorbar(
            ScalarMappable(Normalize(low, high), name), ax=ax, label=value_label(drawn), pad=0.03, aspect=24,
            shrink=0.95 if kind == "map" else 0.65,
        ).outline.set_linewidth(0.6)  # fmt: skip
        figure.suptitle(f"{drawn.name}: potential {drawn.potential}", fontsize=13)
        figure.supxlabel(wrapped(footnote(drawn, kind), figure.get_figwidth(), 9), fontsize=9, color=FAINT)
        for i, time in enumerate(drawn.times):
            ax.clear()
            draw_panel(ax, drawn, i, kind)
            ax.set_title(f"$t = {time:.1f}$")
            if beside is not None:
                beside.clear()
                draw_pictured(beside, drawn, i, vertical=True)
            if not i:
                figure.draw_without_rendering()  # the layout takes a second pass
            yield _pixels(figure)
            # Laid out once: nothing but the field and the samples move.
            figure.set_layout_engine("none")


def _strip_frames(drawn: Strips, smooth: bool, dpi: int) -> Iterator[np.ndarray]:
    tiles = colours_of(drawn.images, drawn.name)  # [s, r, c, h, w, 3]
    s, r, _, h, w = tiles.shape[:5]
    side = float(np.clip(9.0 / r, 0.45, 1.25))
    width, height = side * r + 0.3, side * s * h / w + 1.15
    with style():
        figure = new_figure(max(width, 3.2), height, dpi=dpi)
        ax = figure.add_axes((0.15 / width, 0.5 / height, 1 - 0.3 / width, 1 - 1.15 / height))
        figure.suptitle(f"{drawn.name}", fontsize=13, y=1 - 0.08 / height, va="top")
        reach = float(np.abs(drawn.positions).max())
        clock = figure.add_axes((0.25, 0.22 / height, 0.5, 0.08 / height))
        clock.set(xlim=(-reach, reach), ylim=(-1, 1), yticks=[], xticks=[])
        for spine in clock.spines.values():
            spine.set_visible(False)
        clock.axhline(0, color=FAINT, linewidth=1)
        clock.plot(0, 0, "|", color=FAINT, markersize=9)
        (hand,) = clock.plot([0], [0], "o", color="#d55e00", markersize=8, clip_on=False)
        for place, sign, align in ((-0.05, "\N{MINUS SIGN}", "right"), (1.05, "+", "left")):
            label = f"{sign}{reach:g} step{'s' * (reach != 1)}"
            clock.text(place, 0.5, label, transform=clock.transAxes, ha=align, va="center", fontsize=10, color=INK)
        picture = None
        for column in to_and_fro(drawn.start, len(drawn.positions)):
            frame = tiles[:, :, column]
            mosaic, x, _, _ = join(enlarge(frame) if smooth else frame)
            if picture is None:
                picture = ax.imshow(mosaic, interpolation="antialiased")
                ax.set_xticks(x + (mosaic.shape[1] - x[-1] - 1) / 2, drawn.labels, fontsize=12)
                ax.set_yticks([])
                ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False, pad=2)
                for spine in ax.spines.values():
                    spine.set_visible(False)
            picture.set_data(mosaic)
            hand.set_xdata([drawn.positions[column]])
            yield _pixels(figure)
