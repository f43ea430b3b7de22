"""Sequences of images below each other: what a transformation does, and what models make of its first image."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor

from pinnflow.errors import WrongShape
from pinnflow.latent.canvas import FAINT, INK, finish, new_figure, style

TILE = 0.52  # inches: the side of an image
MARGIN = 1.25  # inches: left of the images, for what the rows are


def plot_sequences(
    path: str | PathLike[str] | None,
    groups: Mapping[str, Mapping[str, Tensor]],
    *,
    trained: int | None = None,
    title: str = "",
) -> Any:
    """A figure with a block of rows for each transformation, a row for each model, and a column for each step.

    Args:
        path: where to write it; None: nowhere.
        groups: `{transformation: {what the row is: images [T + 1, c, h, w] in [0, 1]}}`.
        trained: the last step that training saw; a line is drawn behind it.
        title: above all.

    Returns:
        The figure.

    Raises:
        WrongShape: there are no rows, or not all of one length and size.
    """
    shapes = {tuple(images.shape) for rows in groups.values() for images in rows.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 4:
        raise WrongShape(f"sequences {sorted(shapes)}; expected rows of one shape [T + 1, c, h, w]")
    length, _, h, w = next(iter(shapes))
    gap = max(1, h // 14)  # pixels between images
    count, blocks = sum(map(len, groups.values())), len(groups)
    wide, high = MARGIN + length * TILE, count * TILE + 0.28 * blocks + (0.55 if title else 0.3)
    with style():
        figure = new_figure(wide + 0.1, high)
        top = high - (0.5 if title else 0.22)
        if title:
            figure.text(MARGIN / wide, 1 - 0.2 / high, title, color=INK, size=11, va="center")
        for t in range(length):
            x = (MARGIN + (t + 0.5) * TILE) / (wide + 0.1)
            figure.text(x, (top + 0.04) / high, str(t), color=FAINT, size=9, ha="center", va="bottom")
        for name, rows in groups.items():
            figure.text(0.08 / wide, (top - 0.13) / high, name, color=INK, size=10.5, va="center", weight="bold")
            for i, (label, images) in enumerate(rows.items()):
                bottom = top - 0.2 - (i + 1) * TILE
                strip = np.ones((h, length * (w + gap) - gap, 3))
                for t, image in enumerate(images.detach().cpu().double().clamp(0, 1).numpy()):
                    strip[:, t * (w + gap) : t * (w + gap) + w] = np.broadcast_to(image.transpose(1, 2, 0), (h, w, 3))
                axes = figure.add_axes(
                    (MARGIN / (wide + 0.1), bottom / high, length * TILE / (wide + 0.1), 0.94 * TILE / high)
                )
                axes.imshow(strip, interpolation="nearest", aspect="auto")
                axes.set_axis_off()
                if trained is not None and trained + 1 < length:
                    axes.axvline((trained + 1) * (w + gap) - gap / 2 - 0.5, color="#c1440e", linewidth=1.6)
                figure.text(
                    (MARGIN - 0.08) / (wide + 0.1), (bottom + TILE / 2) / high, label, color=FAINT, size=9, ha="right",
                    va="center",
                )  # fmt: skip
            top -= 0.28 + len(rows) * TILE
        return finish(figure, path)
