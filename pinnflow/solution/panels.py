"""The parts pictures are made of: curve, map and landscape of one field on one set of axes.

`plotting.py` and `animation.py` choose the parts and arrange them. Nothing here touches pyplot: figures work without a
display, in threads, and beside the figures of others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from sympy.core.function import AppliedUndef

from pinnflow.errors import NothingToDraw, OutsideDomain, UnknownName
from pinnflow.solution import evaluation

STYLE: Any = {
    "font.family": ["STIXGeneral", "serif"],
    "mathtext.fontset": "stix",
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 11.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.5,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.dpi": 110,
    "savefig.dpi": 220,
    "image.cmap": "viridis",
}

EXACT: dict[str, Any] = {"color": "black", "linewidth": 0.85, "linestyle": (0, (3, 4)), "alpha": 0.85}
CURVE_POINTS = 1001
MAP_POINTS = 241
SURFACE_POINTS = 151


class Picture(Figure):
    """A matplotlib figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        import io

        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


@dataclass(frozen=True)
class Axis:
    """A column of the points with the interval that is drawn."""

    column: sympy.Symbol
    low: float
    high: float

    @property
    def label(self) -> str:
        return f"${sympy.latex(self.column)}$"

    def points(self, count: int) -> np.ndarray:
        return np.linspace(self.low, self.high, count)


@dataclass(frozen=True)
class View:
    """One field, the axes it is drawn over, and the values of the columns it is cut at.

    Attributes:
        space: axes other than time, in the order of the problem.
        time: the time axis, None where there is none or it is cut.
        fixed: `{column: value}` chosen by the reader.
    """

    solution: Any
    field: AppliedUndef
    space: tuple[Axis, ...]
    time: Axis | None
    fixed: Mapping[sympy.Symbol, float]

    @property
    def label(self) -> str:
        name = sympy.latex(sympy.Symbol(self.field.func.__name__))
        return f"${name}({', '.join(sympy.latex(axis) for axis in self.field.args)})$"

    @property
    def name(self) -> str:
        return f"${sympy.latex(sympy.Symbol(self.field.func.__name__))}$"

    def cut(self, values: Mapping[sympy.Symbol, float]) -> View:
        """The same field at fixed values of more columns."""
        space = tuple(axis for axis in self.space if axis.column not in values)
        time = None if self.time is not None and self.time.column in values else self.time
        return replace(self, space=space, time=time, fixed={**self.fixed, **values})

    def values(self, grid: Mapping[sympy.Symbol, np.ndarray]) -> np.ndarray:
        """The field on arrays that broadcast; columns neither in `grid` nor cut are at the middle of their axis."""
        problem = self.solution.problem
        return evaluation.values_at(problem, self.solution.trial, self.field, self._place(grid))

    def exact(self, grid: Mapping[sympy.Symbol, np.ndarray]) -> np.ndarray | None:
        """The exact solution there, None where the problem states none."""
        unknowns = {symbol: float(estimate) for symbol, estimate in self.solution.unknowns.items()}
        where = self._place(grid)
        return evaluation.exact_values(self.solution.problem, self.field, unknowns, where.columns)

    def observed(self, axes: Iterable[Axis]) -> list[np.ndarray] | None:
        """Coordinates of the measured values of this field along `axes`, then the values; None without any."""
        found = [o for o in self.solution.problem.observations if o.expression == self.field]
        if not found or self.fixed:
            return None
        rows = []
        for o in found:
            at = {getattr(key, "name", key): np.asarray(value) for key, value in o.at.items()}
            if any(str(axis.column) not in at for axis in axes):
                return None
            arrays = np.broadcast_arrays(*(at[str(axis.column)] for axis in axes), np.asarray(o.values))
            rows.append([array.ravel() for array in arrays])
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    def _place(self, grid):
        problem = self.solution.problem
        shape = np.broadcast_shapes(*(np.shape(a) for a in grid.values()))
        columns = []
        for column in problem.columns:
            low, high = problem.bounds.get(column, (-math.inf, math.inf))
            value = grid.get(column, self.fixed.get(column, _middle(low, high)))
            columns.append(np.broadcast_to(np.asarray(value, dtype=np.float64), shape))
        return evaluation.Place(shape, tuple(columns))


def make_view(solution: Any, field: AppliedUndef, at: Mapping[Any, Any] | None) -> View:
    """The view of `field` with the columns in `at` cut at a value, or drawn on an interval `(low, high)` only.

    Raises:
        UnknownName: a key of `at` is no column of the problem.
        OutsideDomain: a value outside the domain.
        NothingToDraw: an endless axis of which no interval was chosen.
    """
    problem = solution.problem
    known = {str(column): column for column in problem.columns}
    chosen = {}
    for key, value in (at or {}).items():
        if str(key) not in known:
            raise UnknownName("coordinate", key, known)
        chosen[known[str(key)]] = value
    axes, fixed, time = [], {}, None
    for argument in field.args:
        for column in getattr(argument, "components", None) or (argument,):
            low, high = problem.bounds.get(column, (-math.inf, math.inf))
            value = chosen.get(column)
            if value is not None:
                ends = [float(v) for v in np.atleast_1d(np.asarray(value, dtype=np.float64))]
                slack = evaluation.ROUNDING * max(1.0, *(abs(v) for v in ends))
                if len(ends) > 2 or min(ends) < low - slack or max(ends) > high + slack:
                    raise OutsideDomain(f"`at={{{column}: {value}}}`: expected a value, or a pair (low, high), between "
                                        f"{low:g} and {high:g}.")  # fmt: skip
                if len(ends) == 1:
                    fixed[column] = ends[0]
                    continue
                low, high = ends
            if not (math.isfinite(low) and math.isfinite(high)):
                raise NothingToDraw(f"`{column}` runs from {low:g} to {high:g}; choose the part to draw: "
                                    f"`at={{{column}: (low, high)}}`.")  # fmt: skip
            axis = Axis(column, low, high)
            if argument == problem.time:
                time = axis
            else:
                axes.append(axis)
    return View(solution, field, tuple(axes), time, fixed)


def axes_of(view: View) -> tuple[Axis, ...]:
    """The axes that are left, time first: time is horizontal in every map."""
    return (*((view.time,) if view.time is not None else ()), *view.space)


def colours(values: Iterable[np.ndarray]) -> tuple[str, Normalize]:
    """Name of a perceptually uniform map and its range: diverging around zero where the values change sign."""
    arrays = list(values)
    low, high = min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays)
    largest = max(abs(low), abs(high))
    # Overshoot of a few per cent is no change of sign: a density that dips below zero stays a density.
    if low < -0.03 * largest and high > 0.03 * largest:
        return "RdBu_r", TwoSlopeNorm(0.0, -largest, largest)
    if not high - low > 1e-12 * largest:
        return "viridis", Normalize(low - 0.5 * (largest or 1), high + 0.5 * (largest or 1))
    return "viridis", Normalize(low, high)


def draw_curve(ax: Any, view: View, points: int | None = None, **style: Any) -> np.ndarray:
    """The field along the one axis that is left, with the exact solution dashed over it; returns the values."""
    (axis,) = axes_of(view)
    places = axis.points(points or CURVE_POINTS)
    values = view.values({axis.column: places})
    (line,) = ax.plot(places, values, solid_capstyle="round", **style)
    exact = view.exact({axis.column: places})
    if exact is not None:
        ax.plot(places, exact, zorder=line.zorder + 1, **EXACT)
    ax.set_xlim(axis.low, axis.high)
    ax.set_xlabel(axis.label)
    ax.margins(y=0.06)
    return values


def map_values(view: View, points: int | None = None) -> np.ndarray:
    """The field over the two axes that are left, `[vertical, horizontal]`."""
    horizontal, vertical = axes_of(view)
    count = points or MAP_POINTS
    return view.values(
        {horizontal.column: horizontal.points(count)[None, :], vertical.column: vertical.points(count)[:, None]}
    )


def draw_map(ax: Any, view: View, values: np.ndarray, palette: tuple[str, Normalize], contours: bool = False) -> Any:
    """Colours over the two axes that are left; time is horizontal. Returns the image, for the colour bar."""
    horizontal, vertical = axes_of(view)
    name, norm = palette
    extent = (horizontal.low, horizontal.high, vertical.low, vertical.high)
    lengths = horizontal.high - horizontal.low, vertical.high - vertical.low
    # Two lengths of a kind keep their ratio; time against space, or a needle, fills its box.
    square = horizontal != view.time and max(lengths) <= 4 * min(lengths)
    image = ax.imshow(
        values, origin="lower", extent=extent, aspect="equal" if square else "auto", cmap=name, norm=norm,
        interpolation="bicubic",
    )  # fmt: skip
    if contours and np.ptp(values) > 1e-9 * np.abs(values).max():
        low, high = image.get_clim()
        levels = np.linspace(low or 0.0, high or 0.0, 11)[1:-1]
        inside = levels[(levels > values.min()) & (levels < values.max())]
        if len(inside):
            places = [axis.points(n) for axis, n in zip((horizontal, vertical), values.shape[::-1], strict=True)]
            ax.contour(*places, values, levels=inside, colors="black", linewidths=0.45, alpha=0.35, linestyles="solid")
    ax.set_xlabel(horizontal.label)
    ax.set_ylabel(vertical.label)
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    return image


def draw_surface(ax: Any, view: View, values: np.ndarray, palette: tuple[str, Normalize]) -> Any:
    """A landscape over the two axes that are left; `ax` is three-dimensional. Returns what a colour bar needs."""
    horizontal, vertical = axes_of(view)
    name, norm = palette
    across, along = (axis.points(n) for axis, n in zip((horizontal, vertical), values.shape[::-1], strict=True))
    ax.plot_surface(
        across[None, :], along[:, None], values, facecolors=_shaded(values, name, norm), rcount=values.shape[0],
        ccount=values.shape[1], linewidth=0, antialiased=False, shade=False,
    )  # fmt: skip
    ax.set(xlim=(horizontal.low, horizontal.high), ylim=(vertical.low, vertical.high))
    ax.set_zlim(norm.vmin, norm.vmax)
    ax.set_xlabel(horizontal.label, labelpad=4)
    ax.set_ylabel(vertical.label, labelpad=4)
    ax.view_init(elev=30, azim=-58)
    ax.set_box_aspect((1.25, 1.25, 0.85), zoom=1.05)
    ax.tick_params(pad=1, labelsize=8.5)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis.line.set_linewidth(0.6)
        axis._axinfo["grid"].update(color=(0.85, 0.85, 0.85, 1), linewidth=0.4)
    return ScalarMappable(norm, name)


def draw_bar(ax: Any, image: Any, label: str, above: bool = False) -> None:
    """The colour bar of `image`, as high as the map `ax` beside it; its label stands above it where there is room."""
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.035, 0.0, 0.04, 1.0)))
    bar.outline.set_linewidth(0.6)
    if above:
        bar.ax.set_title(label, fontsize=STYLE["axes.labelsize"], loc="left")
    else:
        bar.set_label(label)


def draw_observations(ax: Any, view: View, axes: tuple[Axis, ...]) -> None:
    """The measured values of the field: points on a map, points beside a curve."""
    found = view.observed(axes)
    if found is None:
        return
    places = found if len(axes) == 1 else found[:-1]
    step = max(1, len(places[0]) // 1500)
    ax.scatter(
        *(p[::step] for p in places), s=7, facecolor="white", edgecolor="black", linewidth=0.4, alpha=0.8, zorder=5
    )


def value_in_words(axis: Axis, value: float) -> str:
    """`$t = 0.25$`, with as many digits as the axis needs."""
    digits = max(0, 2 - math.floor(math.log10(axis.high - axis.low)))
    rounded = round(value, digits)
    return f"${sympy.latex(axis.column)} = {rounded + 0.0:.{digits}f}".rstrip("0").rstrip(".") + "$" if digits else (
        f"${sympy.latex(axis.column)} = {rounded:.0f}$")  # fmt: skip


def _shaded(values, name, norm):
    """The colours of a landscape in light from the side: slopes show that flat colours hide."""
    colours = colormaps[name](norm(values))
    # In a box of side 1 and height 1/2, whatever the units of the axes are.
    height = (values - norm.vmin) / (norm.vmax - norm.vmin) / 2
    along, across = np.gradient(height, 1 / (values.shape[0] - 1), 1 / (values.shape[1] - 1))
    light = np.array([-0.5, -0.35, 0.79])
    brightness = (-across * light[0] - along * light[1] + light[2]) / np.sqrt(1 + across**2 + along**2)
    factor = 0.95 + 0.55 * (brightness - light[2])  # a shade darker than the paper, or white fields have no edge
    colours[..., :3] = np.clip(colours[..., :3] * factor[..., None], 0, 1)
    return colours


def _middle(low, high):
    return 0.5 * (low + high) if math.isfinite(low) and math.isfinite(high) else 0.0
