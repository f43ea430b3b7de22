"""What all pictures of latent flows share: the look, figures without pyplot, and where files may go."""

from __future__ import annotations

import io
import textwrap
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pinnflow.latent.writing import in_one_piece

STYLE: Any = {
    "font.family": ["STIXGeneral", "serif"],
    "mathtext.fontset": "stix",
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "savefig.facecolor": "white",
}
INK = "#1a1a1a"
FAINT = "#6b6b6b"


def style() -> AbstractContextManager[None]:
    """The look of the pictures, inside a `with`."""
    from matplotlib import rc_context

    return rc_context(STYLE)


def new_figure(width: float, height: float, **settings: Any) -> Any:
    """A figure of so many inches that needs no display, touches no pyplot state, and that notebooks show."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=110)
            return buffer.getvalue()

    figure = Picture(figsize=(width, height), **settings)
    FigureCanvasAgg(figure)
    return figure


def finish(figure: Any, path: str | PathLike[str] | None) -> Any:
    """The figure itself, written to `path` where there is one.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the suffix names no kind of picture.
    """
    figure.draw_without_rendering()  # the layout of axes of equal aspect takes a second pass
    if path is None:
        return figure
    kinds = figure.canvas.get_supported_filetypes()
    path = checked_path(path, tuple(f".{kind}" for kind in kinds), "picture")
    in_one_piece(path, lambda part: figure.savefig(part, format=path.suffix[1:].lower()))
    return figure


def wrapped(words: str, inches: float, size: float) -> str:
    """`words` in as many lines as they need beside or below each other in a width; `size` in points."""
    return textwrap.fill(words, max(12, int(inches * 72 / (0.46 * size))))  # letters are 0.46 as wide as high


def write_around(figure: Any, title: str, note: str, size: float = 13) -> None:
    """Puts `title` above and `note` below a figure of the height for one line each; it grows by the further lines."""
    width, height = figure.get_size_inches()
    title, note = wrapped(title, width, size), wrapped(note, width, 9.5)
    more = (title.count("\n") * size + note.count("\n") * 9.5) * 1.2 / 72
    figure.set_size_inches(width, height + more)
    figure.suptitle(title, fontsize=size)
    figure.supxlabel(note, fontsize=9.5, color=FAINT)


def checked_path(path: str | PathLike[str], suffixes: tuple[str, ...], what: str) -> Path:
    """`path`, if its folder exists and its suffix is one of `suffixes`."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"`{path.name}` has no suffix of a {what}; write one of {', '.join(sorted(suffixes))}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder `{path.parent}` of `{path.name}` does not exist; create it first.")
    return path


def palette(values: np.ndarray) -> tuple[str, float, float]:
    """Name and limits of a colour map that the colour-blind can read: diverging where the sign changes."""
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    if low < -0.03 * largest and high > 0.03 * largest:
        return "RdBu_r", -largest, largest
    if not high - low > 1e-9 * largest:
        half = 0.5 * (largest or 1.0)
        return "viridis", low - half, high + half
    return "viridis", low, high
