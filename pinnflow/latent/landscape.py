"""Landscapes: a potential over a plane of the latent space, through time, with the walks of samples on it.

`landscape` computes the numbers, `draw_landscape` draws them, `plot_landscape` does both. The plane is spanned by the
two directions in which the potential moves samples the most, or by directions of your own. Walks are not confined to
the plane: what is drawn is their projection, and `share` says how much of their movement it shows.
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

from pinnflow.errors import NonFinite, NothingToDraw, UnknownName, WrongShape
from pinnflow.latent.canvas import INK, finish, new_figure, palette, style, write_around
from pinnflow.latent.strips import colours_of, drawable, enlarge, join

KINDS = ("map", "surface")
ARROWS = 15  # velocity arrows a side
PROBES = 256  # samples whose movement chooses the plane
ROWS = 8192  # codes in one call of a flow
# Of the walks whose images are shown; Okabe & Ito's colours, which the colour-blind can tell apart.
COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#0072b2")


@dataclass(frozen=True)
class Landscape:
    """A potential over a plane, with walks; all that its pictures need.

    Attributes:
        name: of the flow.
        potential: k.
        center: a point of the plane, `[d]`.
        directions: an orthonormal basis of it, `[2, d]`.
        times: m times.
        axis: coordinates of the grid along both directions, `[r]`.
        values: u_k at the times, `[m, r, r]`: second direction, first direction.
        arrow_axis: coordinates of the arrows, `[q]`.
        arrows: components of the velocity along the two directions, `[m, q, q, 2]`.
        paths: codes along the walks, `[steps + 1, s, d]`; entry i is where step i, taken at time i, leads.
        share: part of the squared length of the drawn walks' steps that lies in the plane.
        step_length: of the walks; None: the raw velocity.
        pictured: numbers of the walks whose images are shown, `[p]`.
        images: what they look like at the times, `[m, p, c, h, w]`.
        symbol: what the values are called, in mathematics.
    """

    name: str
    potential: int
    center: np.ndarray
    directions: np.ndarray
    times: np.ndarray
    axis: np.ndarray
    values: np.ndarray
    arrow_axis: np.ndarray
    arrows: np.ndarray
    paths: np.ndarray
    share: float
    step_length: float | None
    pictured: np.ndarray
    images: np.ndarray
    symbol: str = "u"

    @property
    def projected(self) -> np.ndarray:
        """The walks in coordinates of the plane, `[steps + 1, s, 2]`."""
        return (self.paths - self.center) @ self.directions.T

    def trails(self, time: float) -> np.ndarray:
        """The projected walks up to a time: the steps taken by then, and the part of the one that is under way."""
        done = int(min(max(time, 0.0), len(self.paths) - 1.0))
        trails = self.projected[: done + 1]
        last = (self.codes_at(time) - self.center) @ self.directions.T
        return trails if time <= done or done == len(self.paths) - 1 else np.concatenate([trails, last[None]])

    def codes_at(self, time: float) -> np.ndarray:
        """Where the samples are at a time, `[s, d]`: on the straight line from step to step."""
        return code_at(self.paths, time)

    @property
    def palette(self) -> tuple[str, float, float]:
        """Name and limits of the colours: of a potential diverging about zero, which log-densities have no use for."""
        name, low, high = palette(self.values)
        if name == "RdBu_r" and self.symbol != "u":
            return "viridis", float(self.values.min()), float(self.values.max())
        return name, low, high


def landscape(
    flow: Any,
    potential: int = 0,
    times: Sequence[float] | None = None,
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
) -> Landscape:
    """The numbers of a landscape: see `plot_landscape` for the arguments and errors."""
    if not hasattr(flow, "potential"):
        raise NothingToDraw(f"`{flow.name}` has velocities but no potential, so there is no landscape to draw; "
                            "use `plot_traversals`.")  # fmt: skip
    if not span > 0:
        raise ValueError(f"`span` is {span!r}; it must be positive")
    if resolution < 2 or samples < 1:
        raise ValueError(f"`resolution` is {resolution} and `samples` is {samples}; expected at least 2 and 1")
    at = torch.as_tensor(whole_steps(steps) if times is None else list(times), dtype=torch.float64)
    if at.dim() != 1 or not len(at):
        raise ValueError(f"`times` is {times!r}; expected one or more numbers")
    origin = _read_center(flow, center)
    basis = (
        movement_plane(flow, potential, steps, step_length, seed)
        if directions is None
        else _read_directions(flow, directions)
    )

    def place(a, b):
        return origin + a.to(basis)[..., None] * basis[0] + b.to(basis)[..., None] * basis[1]

    axis = torch.linspace(-span, span, resolution, dtype=torch.float64)
    vertical, horizontal = torch.meshgrid(axis, axis, indexing="ij")
    grid = place(horizontal, vertical)
    coarse = span * (2 * torch.arange(ARROWS, dtype=torch.float64) + 1 - ARROWS) / ARROWS
    vertical, horizontal = torch.meshgrid(coarse, coarse, indexing="ij")
    posts = place(horizontal, vertical)
    starts = place(*_sunflower(samples, 0.8 * span))
    with torch.no_grad():
        paths = flow.traverse(starts, potential, steps=steps, step_length=step_length)
        values = torch.stack([_on_grid(flow, flow.potential, grid, t, potential) for t in at.tolist()])
        velocity = torch.stack([_on_grid(flow, flow.velocity, posts, t, potential) for t in at.tolist()])
    if not bool(torch.isfinite(values).all()):
        raise NonFinite(f"potential {potential} of `{flow.name}` is not finite everywhere on the plane; use a smaller "
                        f"`span` than {span:g}")  # fmt: skip
    pictured = torch.linspace(0, samples - 1, min(images, samples, len(COLOURS))).round().long()
    shown = torch.zeros(len(at), 0, 1, 1, 1)
    if getattr(flow, "generator", None) is not None and len(pictured):
        shown = drawable(flow.render(torch.stack([code_at(paths[:, pictured], t) for t in at.tolist()])), flow.name)
    paths = paths.double().cpu()
    moved = paths.diff(dim=0)
    length = float((moved**2).sum())
    return Landscape(
        name=flow.name,
        potential=int(potential),
        center=_array(origin),
        directions=_array(basis),
        times=_array(at),
        axis=_array(axis),
        values=_array(values),
        arrow_axis=_array(coarse),
        arrows=_array(velocity @ basis.T),
        paths=_array(paths),
        share=float(((moved @ basis.T) ** 2).sum()) / length if length > 0 else 1.0,
        step_length=step_length,
        pictured=pictured.numpy() if shown.shape[1] else np.zeros(0, dtype=np.int64),
        images=shown.numpy(),
        symbol=str(getattr(flow, "potential_symbol", "u")),
    )


def plot_landscape(
    flow: Any,
    path: str | PathLike[str] | None = None,
    potential: int = 0,
    times: Sequence[float] | None = None,
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
) -> Any:
    """Draws u_k over a plane of the latent space at several times, with samples that flow on it.

    Args:
        flow: a `Flow` with a method `potential(z, t, k)`; its attribute `potential_symbol` names the values.
        path: file to write; the suffix says the format (png, pdf, svg). None: nothing is written.
        potential: k.
        times: one panel for each; by default whole numbers up to `steps`.
        directions: two vectors `[2, d]`, which are made orthonormal, or the numbers of two axes; by default the plane
            in which the potential moves samples the most.
        center: a code `[d]` in the middle of the picture; by default the origin.
        span: the picture reaches from -span to span along both directions, in standard deviations of the prior.
        resolution: points a side.
        samples: walks, started in the plane.
        steps: of the walks; at time t the steps up to t are drawn.
        step_length: of the walks; None takes the velocity as it is.
        images: of how many walks the images are shown, where the flow has a generator; at most 6.
        seed: of the samples that choose the plane.
        kind: `map` or `surface`.

    Returns:
        The matplotlib `Figure`.

    Raises:
        NothingToDraw: the flow has no potential, or its latent space no plane.
        WrongShape: `directions` or `center` have other dimensions than the latent space.
        UnknownName: no such kind.
        NonFinite: the potential is not finite on the plane.
        DeclarationError: pixels lie neither in [0, 1] nor in [-1, 1].
        ValueError: numbers that make no sense; the message names them.
    """
    _check_kind(kind)
    drawn = landscape(
        flow, potential, times, directions=directions, center=center, span=span, resolution=resolution,
        samples=samples, steps=steps, step_length=step_length, images=images, seed=seed,
    )  # fmt: skip
    return draw_landscape(drawn, path, kind=kind)


def draw_landscape(
    drawn: Landscape,
    path: str | PathLike[str] | None = None,
    *,
    times: Sequence[float] | None = None,
    kind: str = "map",
) -> Any:
    """The picture of a landscape: one panel for each of its times (or for those nearest to `times`), one colour scale.

    Raises:
        UnknownName: no such kind.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    _check_kind(kind)
    chosen = range(len(drawn.times)) if times is None else [int(np.abs(drawn.times - t).argmin()) for t in times]
    columns = min(len(chosen), 4)
    rows = -(-len(chosen) // columns)
    name, low, high = drawn.palette
    with style():
        width, height = (2.9, 2.9) if kind == "map" else (3.5, 2.9)
        heights = [height] if not len(drawn.pictured) else [height, width / len(drawn.pictured)]
        figure = new_figure(width * columns + 1.3, sum(heights) * rows + 1.0)
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.05)
        cells = figure.add_gridspec(rows * len(heights), columns, height_ratios=heights * rows)
        panels = []
        for place, i in enumerate(chosen):
            row, column = place // columns * len(heights), place % columns
            ax = figure.add_subplot(cells[row, column], projection="3d" if kind == "surface" else None)
            draw_panel(ax, drawn, i, kind)
            ax.set_title(f"$t = {drawn.times[i]:g}$")
            if kind == "map" and column:
                ax.set(ylabel="", yticklabels=[])
            panels.append(ax)
            if len(heights) > 1:
                draw_pictured(figure.add_subplot(cells[row + 1, column]), drawn, i)
        bar = figure.colorbar(
            ScalarMappable(Normalize(low, high), name), ax=panels, label=value_label(drawn), pad=0.015, aspect=22,
            shrink=1.0 if kind == "map" else 0.7,
        )  # fmt: skip
        bar.outline.set_linewidth(0.6)
        write_around(figure, heading(drawn), footnote(drawn, kind))
        return finish(figure, path)


def draw_panel(ax: Any, drawn: Landscape, i: int, kind: str = "map", *, time: float | None = None) -> None:
    """The landscape at its i-th time on axes of yours (three-dimensional for `surface`), walks up to that time."""
    time = float(drawn.times[i]) if time is None else time
    (_draw_map if kind == "map" else _draw_surface)(ax, drawn, i, time)


def draw_pictured(ax: Any, drawn: Landscape, i: int, *, vertical: bool = False) -> None:
    """The images of the numbered walks at the i-th time, framed in their colours, on axes of yours."""
    from matplotlib.patches import Rectangle

    tiles = enlarge(colours_of(drawn.images[i], drawn.name)[None])[0]
    mosaic, x, y, _ = join(tiles[:, None] if vertical else tiles[None])
    ax.imshow(mosaic, interpolation="antialiased")
    if not vertical:  # apart from the images of the next panel
        ax.set_xlim(-0.06 * mosaic.shape[1], 1.06 * mosaic.shape[1])
    h, w = tiles.shape[1:3]
    for number, colour in zip(range(len(tiles)), COLOURS, strict=False):
        left, upper = (x[0], y[number]) if vertical else (x[number], y[0])
        ax.add_patch(Rectangle((left - 0.5, upper - 0.5), w, h, fill=False, edgecolor=colour, linewidth=2,
                               clip_on=False))  # fmt: skip
        ax.text(left + 0.1 * w, upper + 0.12 * h, str(number + 1), color="white", fontsize=8, fontweight="bold",
                ha="center", va="center", bbox={"boxstyle": "circle,pad=0.15", "fc": colour, "ec": "none"})  # fmt: skip
    ax.axis("off")


def code_at(paths: Any, time: float) -> Any:
    """Codes at a time of walks `[steps + 1, ..., d]`: on the straight line from step to step."""
    time = min(max(time, 0.0), len(paths) - 1.0)
    done = min(int(time), len(paths) - 2)
    return paths[done] + (time - done) * (paths[done + 1] - paths[done])


def heading(drawn: Landscape) -> str:
    """The title of the pictures."""
    return f"{drawn.name}: landscape of potential {drawn.potential}, with samples flowing on it"


def footnote(drawn: Landscape, kind: str = "map") -> str:
    """What the reader has to know about the plane."""
    arrows = "Arrows: velocity. " if kind == "map" else ""
    numbers = ", numbered as their images" if len(drawn.pictured) else ""
    return (
        f"Plane through the latent space, in standard deviations of its codes; {100 * drawn.share:.0f} % of the "
        f"samples' movement lies in it. {arrows}Rings: starts, dots: where the samples are{numbers}."
    )


def value_label(drawn: Landscape) -> str:
    """Label of the colour bar."""
    return f"${drawn.symbol}_{{{drawn.potential}}}(z, t)$"


def movement_plane(flow: Any, potential: int, steps: int, step_length: float | None, seed: int) -> Tensor:
    """The two leading principal directions of the way from start to end of `PROBES` walks, `[2, d]`.

    Of the way, not of the ends: those carry the spread of the starts, which has no direction.
    """
    if flow.latent_dim < 2:
        raise NothingToDraw(f"the latent space of `{flow.name}` has {flow.latent_dim} dimension; a plane needs two")
    noise = torch.Generator().manual_seed(seed)
    z = torch.randn(PROBES, flow.latent_dim, generator=noise, dtype=torch.float64)
    path = flow.traverse(z, potential, steps=steps, step_length=step_length).double().cpu()
    way = path[-1] - path[0]
    # Rows without movement would leave the directions to rounding.
    vectors = torch.linalg.eigh(way.T @ way).eigenvectors.flip(1)[:, :2].T
    return vectors * torch.where((vectors @ way.mean(dim=0)) < 0, -1.0, 1.0)[:, None]


def whole_steps(steps: int) -> list[float]:
    """About four whole numbers with equal distances, the last of which is `steps`."""
    gap = max(1, round(steps / 4))
    return [float(t) for t in range(steps, 0, -gap)][::-1]


def _read_center(flow, center):
    if center is None:
        return torch.zeros(flow.latent_dim, dtype=torch.float64)
    origin = torch.as_tensor(center, dtype=torch.float64).detach().cpu()
    if origin.shape != (flow.latent_dim,):
        raise WrongShape(f"`center` has shape {tuple(origin.shape)}; expected one code, ({flow.latent_dim},)")
    return origin


def _read_directions(flow, directions):
    """Two directions as orthonormal rows; the first keeps its direction, the second the part across it."""
    d = flow.latent_dim
    rows = torch.as_tensor(directions).detach().cpu()
    if rows.shape == (2,) and not rows.is_floating_point():
        if int(rows.min()) < 0 or int(rows.max()) >= d:
            raise WrongShape(f"`directions` are axes {rows.tolist()}; expected two of 0 to {d - 1}")
        rows = torch.eye(d, dtype=torch.float64)[rows]
    if rows.shape != (2, d):
        raise WrongShape(f"`directions` has shape {tuple(rows.shape)}; expected two vectors, (2, {d}), or two axes")
    rows = rows.double()
    first = rows[0] / torch.linalg.vector_norm(rows[0]).clamp_min(1e-300)
    across = rows[1] - (rows[1] @ first) * first
    if not (rows[0].norm() > 0 and across.norm() > 1e-9 * rows[1].norm()):
        raise ValueError("`directions` are parallel, or one of them is zero; expected two that span a plane")
    return torch.stack([first, across / across.norm()])


def _on_grid(flow, function, grid, t, k):
    """`function(z, t, k)` at codes `[r, r, d]`, computed where and as the flow does, then in float64 on the CPU."""
    codes = grid.flatten(0, 1).to(device=getattr(flow, "device", None), dtype=getattr(flow, "dtype", None))
    rows = [function(part, t, k).detach().double().cpu() for part in codes.split(ROWS)]
    return torch.cat(rows).unflatten(0, grid.shape[:2])


def _sunflower(count, radius):
    """`count` points spread evenly over a disc, the same ones every time."""
    i = torch.arange(count, dtype=torch.float64)
    r, angle = radius * torch.sqrt((i + 0.5) / count), i * (np.pi * (3 - 5**0.5))
    return r * torch.cos(angle), r * torch.sin(angle)


def _array(tensor):
    return tensor.detach().double().cpu().numpy()


def _check_kind(kind):
    if kind not in KINDS:
        raise UnknownName("kind of landscape", kind, KINDS)


def _draw_map(ax, drawn, i, time):
    from matplotlib import patheffects

    name, low, high = drawn.palette
    span = drawn.axis[-1]
    ax.imshow(
        _shaded(drawn.values[i], name, low, high), origin="lower", extent=(-span, span, -span, span),
        interpolation="bicubic",
    )  # fmt: skip
    levels = np.linspace(low, high, 18)[1:-1]
    levels = levels[(levels > drawn.values[i].min()) & (levels < drawn.values[i].max())]
    if len(levels):
        ax.contour(drawn.axis, drawn.axis, drawn.values[i], levels=levels, colors=INK, linewidths=0.4, alpha=0.35,
                   linestyles="solid")  # fmt: skip
    _draw_arrows(ax, drawn, i)
    trails = drawn.trails(time)
    halo = [patheffects.Stroke(linewidth=3.2, foreground="white"), patheffects.Normal()]
    for walk in trails.transpose(1, 0, 2):
        ax.plot(*walk.T, color=INK, linewidth=1.5, solid_capstyle="round", path_effects=halo, zorder=4)
    ax.plot(*trails[0].T, "o", markersize=4, color="white", markeredgecolor=INK, markeredgewidth=0.9, zorder=5)
    ax.plot(*trails[-1].T, "o", markersize=5.5, color=INK, markeredgecolor="white", markeredgewidth=0.9, zorder=6)
    for number, s in enumerate(drawn.pictured):
        (x, y), colour = trails[-1][s], COLOURS[number]
        ax.plot(x, y, "o", markersize=12, color=colour, markeredgecolor="white", markeredgewidth=1, zorder=7)
        ax.text(x, y, str(number + 1), color="white", fontsize=8.5, fontweight="bold", ha="center",
                va="center_baseline", zorder=8, clip_on=True)  # fmt: skip
    ax.set(xlim=(-span, span), ylim=(-span, span), xlabel="first direction", ylabel="second direction", aspect="equal")
    ax.locator_params(nbins=5)


def _draw_arrows(ax, drawn, i):
    longest = np.sqrt((drawn.arrows**2).sum(axis=-1)).max()
    if not longest > 0:
        return
    # The longest arrow of all panels spans one cell, so that lengths compare between panels.
    cell = drawn.arrow_axis[1] - drawn.arrow_axis[0]
    u, v = np.moveaxis(drawn.arrows[i], -1, 0) * cell / longest
    ax.quiver(drawn.arrow_axis, drawn.arrow_axis, u, v, angles="xy", scale_units="xy", scale=1, color=INK, alpha=0.55,
              width=0.0045, headwidth=4, headlength=4.5, headaxislength=4, pivot="mid", zorder=3)  # fmt: skip


def _draw_surface(ax, drawn, i, time):
    name, low, high = drawn.palette
    values, span = drawn.values[i], drawn.axis[-1]
    bottom, top = float(drawn.values.min()), float(drawn.values.max())
    ax.computed_zorder = False
    ax.plot_surface(
        drawn.axis[None, :], drawn.axis[:, None], values, facecolors=_shaded(values, name, low, high, strength=0.8),
        rcount=len(drawn.axis), ccount=len(drawn.axis), linewidth=0, antialiased=False, shade=False, zorder=1,
    )  # fmt: skip
    lift = 0.01 * (top - bottom)
    trails = drawn.trails(time)
    for walk in trails.transpose(1, 0, 2):
        dense = np.concatenate([np.linspace(a, b, 8) for a, b in pairwise(walk)] or [walk])
        dense = dense[np.abs(dense).max(axis=1) <= span]
        if len(dense):
            height = interpolate(drawn.axis, values, dense) + lift
            ax.plot(*dense.T, height, color="white", linewidth=3.0, solid_capstyle="round", zorder=3)
            ax.plot(*dense.T, height, color=INK, linewidth=1.5, solid_capstyle="round", zorder=4)
    for points, style_ in ((trails[0], {"color": "white", "mec": INK, "ms": 4}),
                           (trails[-1], {"color": INK, "mec": "white", "ms": 5.5})):  # fmt: skip
        inside = points[np.abs(points).max(axis=1) <= span]
        ax.plot(*inside.T, interpolate(drawn.axis, values, inside) + lift, "o", mew=0.9, zorder=5, **style_)
    for number, s in enumerate(drawn.pictured):
        where = trails[-1][s]
        if np.abs(where).max() <= span:
            at = (*where, interpolate(drawn.axis, values, where[None])[0] + lift)
            ax.plot(*([v] for v in at), "o", markersize=12, color=COLOURS[number], mec="white", mew=1, zorder=6)
            ax.text(*at, str(number + 1), color="white", fontsize=8.5, fontweight="bold", ha="center",
                    va="center_baseline", zorder=7)  # fmt: skip
    ax.set(xlim=(-span, span), ylim=(-span, span), zlim=(bottom, top) if top > bottom else (low, high))
    ax.set_xlabel("first direction", labelpad=-6)
    ax.set_ylabel("second direction", labelpad=-6)
    ax.view_init(elev=38, azim=-62)
    ax.set_box_aspect((1.25, 1.25, 0.75), zoom=1.22)
    ax.tick_params(pad=-3, labelsize=8)
    ax.locator_params(nbins=4)
    for side in (ax.xaxis, ax.yaxis, ax.zaxis):
        side.set_pane_color((1, 1, 1, 0))
        side.line.set_linewidth(0.6)
        side._axinfo["grid"].update(color=(0.86, 0.86, 0.86, 1), linewidth=0.4)


def interpolate(axis: np.ndarray, values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values `[r, r]` at points `[s, 2]` (first direction, second direction) inside the grid, bilinear."""
    where = np.clip((points - axis[0]) / (axis[1] - axis[0]), 0, len(axis) - 1 - 1e-9)
    cell = where.astype(int)
    (x, y), (i, j) = (where - cell).T, cell.T
    return ((1 - y) * ((1 - x) * values[j, i] + x * values[j, i + 1])
            + y * ((1 - x) * values[j + 1, i] + x * values[j + 1, i + 1]))  # fmt: skip


def _shaded(values, name, low, high, strength=0.45):
    """Colours in light from the upper left: slopes show that flat colours hide."""
    from matplotlib import colormaps

    colours = colormaps[name]((values - low) / (high - low))
    height = 0.6 * (values - low) / (high - low)  # in a box of side 1
    opaque = colours[..., :3]
    along, across = np.gradient(height, 1 / (len(values) - 1))
    light = np.array([-0.5, 0.5, 0.71])
    brightness = (light[2] - across * light[0] - along * light[1]) / np.sqrt(1 + across**2 + along**2)
    change = strength * (brightness - light[2])[..., None]
    # Towards white in the light and towards black in the shade: cutting at 1 would change the hue.
    colours[..., :3] = np.where(change > 0, opaque + (1 - opaque) * np.minimum(change, 1), opaque * (1 + change))
    return colours
