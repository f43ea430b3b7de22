"""A GIF with time as frames: a moving curve, a map, or a landscape."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pinnflow.errors import NothingToDraw, UnknownName
from pinnflow.solution import panels
from pinnflow.solution.panels import Axis, Picture, View, make_view
from pinnflow.solution.plotting import title

KINDS = ("curves", "map", "surface")


def animate(
    solution: Any,
    path: str | PathLike[str],
    *,
    kind: str | None = None,
    at: Mapping[Any, Any] | None = None,
    field: Any = None,
    frames: int = 50,
    seconds: float = 5.0,
    points: int | None = None,
    dpi: int = 100,
) -> Path:
    """Writes a GIF that loops through the time axis.

    Args:
        solution: the solution; time is `problem.time`.
        path: file to write, `.gif`.
        kind: None draws a curve where one axis is left beside time, a map where two or more are; `"surface"` a
            landscape.
        at: `{coordinate: value}` to cut further axes, which are cut in the middle otherwise; `(low, high)` to draw a
            part, also of the time axis.
        field: name of the field; by default the first.
        frames: number of frames, first and last time included.
        seconds: how long one pass takes.
        points: resolution per axis.
        dpi: dots per inch.

    Returns:
        The path.

    Raises:
        NothingToDraw: there is no time axis, or no other axis.
        UnknownName: an unknown kind, field or coordinate.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise NothingToDraw(f"Animations are written as GIF; write `{path.with_suffix('.gif').name}`.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder `{path.parent}` of `{path.name}` does not exist.")
    declared = solution.problem.fields[0] if field is None else solution[field].field
    view = make_view(solution, declared, at)
    clock, drawn = _kind(view, kind)
    view = view.cut({axis.column: 0.5 * (axis.low + axis.high) for axis in view.space[2:]})
    times = clock.points(max(2, frames))
    count = points or {"curves": panels.CURVE_POINTS, "map": 161, "surface": 61}[drawn]
    cuts = [view.cut({clock.column: time}) for time in times]
    values = [_values(cut, drawn, count) for cut in cuts]
    pictures: list[Any] = []
    with rc_context(panels.STYLE):
        figure = Picture(figsize={"curves": (5.2, 3.4), "map": (4.7, 3.8), "surface": (5.4, 4.0)}[drawn], dpi=dpi)
        canvas = FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained")
        ax = figure.subplots(subplot_kw={"projection": "3d"} if drawn == "surface" else {})
        for cut, time, array in zip(cuts, times, values, strict=True):
            ax.clear()
            image = _draw(ax, cut, drawn, array, values)
            figure.suptitle(f"{title(solution)}\n{panels.value_in_words(clock, time)}", fontsize=10.5)
            if not pictures:
                _bar(figure, ax, image, drawn, cut.label)
            canvas.draw()
            # Laid out once: nothing but the field moves, and a frame costs half.
            figure.set_layout_engine("none")
            picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
            # GIF holds 256 colours: the method that keeps rare ones, or the ends of the colour bar go grey.
            pictures.append(picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    duration = max(20, round(1000 * seconds / len(pictures)))
    try:
        pictures[0].save(temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _kind(view: View, asked: str | None) -> tuple[Axis, str]:
    if view.time is None:
        axes = ", ".join(str(axis.column) for axis in view.space) or "none"
        raise NothingToDraw(f"`{view.field}` has no time axis to animate (its axes: {axes}); use `solution.plot`, or "
                            "say which coordinate is time: `Problem(..., time=...)`.")  # fmt: skip
    if not view.space:
        raise NothingToDraw(f"`{view.field}` depends on time alone; `solution.plot` shows all of it.")
    if asked is None:
        return view.time, "curves" if len(view.space) == 1 else "map"
    if asked not in KINDS:
        raise UnknownName("kind of animation", asked, KINDS)
    if (asked == "curves") != (len(view.space) == 1):
        fitting = '"curves"' if len(view.space) == 1 else '"map" or "surface"'
        raise NothingToDraw(f'`kind="{asked}"` does not fit `{view.field}`; choose {fitting}.')
    return view.time, asked


def _values(cut, drawn, count):
    if drawn != "curves":
        return panels.map_values(cut, count)
    (axis,) = cut.space
    return cut.values({axis.column: axis.points(count)})


def _draw(ax, cut, drawn, array, values):
    # Limits and colours are those of all frames: what moves is the field, not the scale.
    if drawn == "map":
        return panels.draw_map(ax, cut, array, panels.colours(values), contours=True)
    if drawn == "surface":
        return panels.draw_surface(ax, cut, array, panels.colours(values))
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    panels.draw_curve(ax, cut, len(array), color="#1f4e9e")
    margin = 0.06 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    ax.set_ylabel(cut.label)
    return None


def _bar(figure, ax, image, drawn, label):
    if drawn == "surface":
        figure.colorbar(image, ax=ax, label=label, pad=0.08, shrink=0.65, aspect=20).outline.set_linewidth(0.6)
    elif drawn == "map":
        # Not inside the axes, which are cleared for every frame.
        figure.colorbar(image, ax=ax, label=label, pad=0.02, aspect=25).outline.set_linewidth(0.6)
