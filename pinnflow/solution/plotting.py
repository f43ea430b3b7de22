"""Pictures of a solution: which one shows a field is read off its axes.

| axes | picture |
|---|---|
| one | curve, the exact solution dashed over it |
| one and time | map over time with the times of the cuts beside it |
| two | map with contour lines |
| two and time | frames |
| more | slices through the middle, or where `at` says |

`kind="surface"` draws landscapes instead of maps. Several fields stand in rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pinnflow.errors import NothingToDraw, UnknownName
from pinnflow.solution import panels
from pinnflow.solution.panels import Picture, View, make_view
from pinnflow.solution.report import ROUNDING_ERROR

# Fractions of the time axis at which cuts and frames are taken when the reader names none.
CUTS = (0.0, 0.25, 0.5, 0.75, 1.0)
FRAMES = (0.0, 1 / 3, 2 / 3, 1.0)


def plot(
    solution: Any,
    path: str | PathLike[str] | None = None,
    *,
    kind: str | None = None,
    at: Mapping[Any, Any] | None = None,
    field: Any = None,
    times: Sequence[float] | None = None,
    points: int | None = None,
    ax: Any = None,
) -> Any:
    """A picture of the solution.

    Args:
        solution: the solution.
        path: file to write; the suffix says the format (png, pdf, svg).
        kind: None chooses by the axes; `"surface"`, `"map"`, `"curves"`, `"frames"` or `"slices"`.
        at: `{coordinate: value}` to cut the solution there, `{coordinate: (low, high)}` to draw a part.
        field: name of one field; by default all of them, in rows.
        times: of the cuts or frames.
        points: resolution per axis.
        ax: axes of a figure of your own to draw a single curve, map or surface on.

    Returns:
        The matplotlib `Figure`; the axes if `ax` was given. Nothing is shown: notebooks do that by themselves.

    Raises:
        NothingToDraw: the picture needs other axes than the solution has.
        UnknownName: an unknown kind, field or coordinate.
    """
    chosen = solution.problem.fields if field is None else (solution[field].field,)
    views = [make_view(solution, declared, at) for declared in chosen]
    kinds = [_kind(view, kind) for view in views]
    with rc_context(panels.STYLE):
        if ax is not None:
            return _on_axes(ax, views, kinds, points)
        sizes = [_SIZES[k](view, times) for view, k in zip(views, kinds, strict=True)]
        width, heights = max(w for w, _ in sizes), [h for _, h in sizes]
        figure = Picture(figsize=(width, sum(heights) + 0.35), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subfigures(len(views), 1, squeeze=False, height_ratios=heights)[:, 0]
        for row, view, k in zip(rows, views, kinds, strict=True):
            KINDS[k](row, view, times, points)
        figure.suptitle(title(solution), fontsize=11.5)
        if path is not None:
            path = Path(path)
            if not path.parent.is_dir():
                raise FileNotFoundError(f"The folder `{path.parent}` of `{path.name}` does not exist.")
            figure.savefig(path)
    return figure


def title(solution: Any) -> str:
    """The problem's name and how far the picture can be trusted, in words."""
    error = solution.error_estimate
    if not math.isfinite(error):
        words = "no error estimate"
    elif error < ROUNDING_ERROR:
        words = "estimated relative error below $10^{-11}$"
    else:
        exponent = math.floor(math.log10(error))
        mantissa = error / 10.0**exponent
        size = f"{error:.2g}" if exponent >= -2 else f"${mantissa:.1f} \\cdot 10^{{{exponent}}}$"
        words = f"estimated relative error {size}"
    name = (solution.problem.name or "").replace("_", " ")
    text = f"{name}: {words}" if name else words[0].upper() + words[1:]
    return text if solution.success else f"{text} (not solved)"


def _kind(view, asked):
    """The kind to draw `view` as, when the reader asked for `asked`."""
    dimensions = len(view.space)
    timed = view.time is not None
    if dimensions + timed == 0:
        raise NothingToDraw(f"Every axis of `{view.field}` is cut by `at`, so only one number is left: "
                            f'write `solution["{view.field.func.__name__}"](...)`.')  # fmt: skip
    fitting = {"curves"} if dimensions + timed == 1 else {"surface", "map"}
    if timed and dimensions >= 1:
        fitting.add("frames")
    if timed and dimensions == 1:
        fitting |= {"history", "curves"}
    if dimensions >= 3:
        fitting.add("slices")
    if asked is None:
        if dimensions + timed == 1:
            return "curves"
        if timed:
            return "history" if dimensions == 1 else "frames"
        return "map" if dimensions == 2 else "slices"
    if asked not in KINDS:
        raise UnknownName("kind of picture", asked, KINDS)
    if asked not in fitting:
        axes = ", ".join(str(axis.column) for axis in panels.axes_of(view))
        choices = ", ".join(f'"{k}"' for k in sorted(fitting))
        raise NothingToDraw(f'`kind="{asked}"` does not fit `{view.field}` over the axes {axes}; choose {choices}.')
    return asked


def _curves(figure, view, times, points):
    ax = figure.subplots()
    if view.space and view.time is not None:
        _cuts(ax, view, times, points)
    else:
        panels.draw_curve(ax, view, points, color="#1f4e9e")
        panels.draw_observations(ax, view, panels.axes_of(view))
        _legend_exact(ax, view)
    ax.set_ylabel(view.label)


def _history(figure, view, times, points):
    """One axis and time: the map, and cuts of it at a few times."""
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    values = panels.map_values(view, points)
    image = panels.draw_map(left, view, values, panels.colours([values]))
    panels.draw_bar(left, image, view.label, above=True)
    panels.draw_observations(left, view, panels.axes_of(view))
    for time, colour in _cuts(right, view, times, points):
        # A wedge on the upper edge says which cut is which; lines across would hide the field.
        left.plot(time, 1.0, marker="v", markersize=6, color=colour, markeredgecolor="white", markeredgewidth=0.5,
                  transform=left.get_xaxis_transform(), clip_on=False, zorder=6)  # fmt: skip
    right.set_ylabel(view.label)


def _cuts(ax, view, times, points):
    chosen = _times(view, times, CUTS)
    shades = colormaps["viridis"](np.linspace(0.0, 0.88, len(chosen)))
    # Later curves are thinner, so that one that hides another lets it show at both sides.
    widths = np.linspace(2.8, 1.3, len(chosen))
    for time, colour, width in zip(chosen, shades, widths, strict=True):
        cut, words = view.cut({view.time.column: time}), panels.value_in_words(view.time, time)
        panels.draw_curve(ax, cut, points, color=colour, linewidth=width, label=words)
    _legend_exact(ax, view)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.4)
    return list(zip(chosen, shades, strict=True))


def _map(figure, view, times, points):
    _grid_of_maps(figure, view, [_plane(view)], points, surface=False)


def _surface(figure, view, times, points):
    if view.time is not None and len(view.space) >= 2:
        cuts = [view.cut({view.time.column: time}) for time in _times(view, times, FRAMES)]
        _grid_of_maps(figure, view, [_plane(cut) for cut in cuts], points, surface=True)
    else:
        _grid_of_maps(figure, view, [_plane(view)], points, surface=True)


def _frames(figure, view, times, points):
    cuts = [view.cut({view.time.column: time}) for time in _times(view, times, FRAMES)]
    if len(view.space) == 1:
        axes = figure.subplots(1, len(cuts), sharey=True, squeeze=False)[0]
        for ax, cut in zip(axes, cuts, strict=True):
            panels.draw_curve(ax, cut, points, color="#1f4e9e")
            ax.set_title(_cut_in_words(view, cut))
            ax.locator_params(axis="x", nbins=4)
        axes[0].set_ylabel(view.label)
        return
    _grid_of_maps(figure, view, [_plane(cut) for cut in cuts], points, surface=False)


def _slices(figure, view, times, points):
    """Three planes through the middle: every pair of the first three axes."""
    if view.time is not None:
        view = view.cut({view.time.column: _times(view, times, (1.0,))[0]})
    a, b, c = view.space[:3]
    rest = {axis.column: 0.5 * (axis.low + axis.high) for axis in view.space[3:]}
    planes = [view.cut({**rest, axis.column: 0.5 * (axis.low + axis.high)}) for axis in (c, b, a)]
    _grid_of_maps(figure, view, planes, points, surface=False)


def _plane(view):
    """The first two axes, the others cut in the middle."""
    axes = panels.axes_of(view)
    return view.cut({axis.column: 0.5 * (axis.low + axis.high) for axis in axes[2:]})


def _grid_of_maps(figure, whole: View, cuts, points, surface):
    """Maps or landscapes side by side with one colour scale."""
    options = {"subplot_kw": {"projection": "3d"}} if surface else {}
    axes = figure.subplots(1, len(cuts), squeeze=False, **options)[0]
    count = points or (panels.SURFACE_POINTS if surface else panels.MAP_POINTS)
    values = [panels.map_values(cut, count) for cut in cuts]
    palette = panels.colours(values)
    same = len({panels.axes_of(cut) for cut in cuts}) == 1
    for i, (ax, cut, array) in enumerate(zip(axes, cuts, values, strict=True)):
        draw: Callable[..., Any] = panels.draw_surface if surface else panels.draw_map
        image = draw(ax, cut, array, palette, **({} if surface else {"contours": True}))
        if cut is not whole:
            ax.set_title(_cut_in_words(whole, cut))
        if len(cuts) > 1:
            ax.locator_params(nbins=3 if surface else 4)  # labels of neighbours must not touch
        if same and i > 0 and not surface:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
        if not surface and len(cuts) == 1:
            panels.draw_observations(ax, cut, panels.axes_of(cut))
    if surface:
        bar = figure.colorbar(image, ax=list(axes), label=whole.label, pad=0.08, shrink=0.65, aspect=20)
        bar.outline.set_linewidth(0.6)
    else:
        panels.draw_bar(axes[-1], image, whole.label)


def _on_axes(ax, views, kinds, points):
    if len(views) != 1:
        names = ", ".join(f'field="{view.field.func.__name__}"' for view in views)
        raise NothingToDraw(f"One set of axes shows one field; choose one of {names}.")
    (view,), (kind,) = views, kinds
    if kind == "curves" and (view.time is None or not view.space):
        panels.draw_curve(ax, view, points, color="#1f4e9e")
        panels.draw_observations(ax, view, panels.axes_of(view))
        ax.set_ylabel(view.label)
    elif kind == "curves":
        _cuts(ax, view, None, points)
        ax.set_ylabel(view.label)
    else:
        if len(panels.axes_of(view)) > 2:
            axes = ", ".join(str(axis.column) for axis in panels.axes_of(view))
            raise NothingToDraw(f"`{view.field}` has the axes {axes}; one set of axes shows two of them. Cut the "
                                f"others with `at={{...}}`.")  # fmt: skip
        values = panels.map_values(view, points)
        draw: Callable[..., Any] = panels.draw_surface if kind == "surface" else panels.draw_map
        draw(ax, view, values, panels.colours([values]))
        ax.set_title(view.label)
    return ax


def _times(view, times, fractions):
    axis = view.time
    if times is None:
        return [axis.low + f * (axis.high - axis.low) for f in fractions]
    chosen = [float(time) for time in np.atleast_1d(np.asarray(times, dtype=np.float64))]
    outside = [time for time in chosen if not axis.low <= time <= axis.high]
    if outside or not chosen:
        raise NothingToDraw(f"`times={list(chosen)}`: expected times between {axis.low:g} and {axis.high:g}.")
    return chosen


def _cut_in_words(whole, cut):
    words = []
    for axis in panels.axes_of(whole):
        if axis.column in cut.fixed and axis.column not in whole.fixed:
            words.append(panels.value_in_words(axis, cut.fixed[axis.column]))
    return ", ".join(words)


def _legend_exact(ax, view):
    if view.solution.problem.exact is not None and view.field in view.solution.problem.exact:
        ax.plot([], [], label="exact", **panels.EXACT)
        if view.time is None or not view.space:
            ax.legend(loc="best")


# A kind of picture is one function and one size: (width, height) in inches of a row.
KINDS: dict[str, Callable[..., None]] = {
    "curves": _curves,
    "frames": _frames,
    "history": _history,
    "map": _map,
    "slices": _slices,
    "surface": _surface,
}
_SIZES: dict[str, Callable[..., tuple[float, float]]] = {
    "curves": lambda view, times: (5.4, 3.2),
    "frames": lambda view, times: (2.45 * (len(FRAMES) if times is None else np.size(times)) + 0.9, 2.7),
    "history": lambda view, times: (8.6, 3.1),
    "map": lambda view, times: (4.6, 3.6),
    "slices": lambda view, times: (9.4, 3.1),
    "surface": lambda view, times: (
        (2.9 * (len(FRAMES) if times is None else np.size(times)) + 0.9, 3.0)
        if view.time is not None and len(view.space) >= 2
        else (5.6, 3.9)
    ),
}
