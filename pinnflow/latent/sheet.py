"""The comparison sheet: the same start walked by several flows, one below the other, and their metrics beside.

`comparison` computes the images, `draw_comparison` draws them, `plot_comparison` does both.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from pinnflow.errors import UnknownName, WrongShape
from pinnflow.latent.canvas import FAINT, finish, new_figure, style, write_around
from pinnflow.latent.strips import Strips, draw_block, starting_codes, step_note, strips

BAR = "#3182bd"
COLUMN = 1.0  # inches for each metric
# What a sheet shows of a report unless it is told, and how these measures are called for readers of pictures.
HEADLINES = {
    "vp": "VP",
    "concentration": "concentration",
    "coverage": "coverage",
    "variance": "endpoint variance",
    "drift": "log-density drift",
    "residual": "PDE residual",
}


@dataclass(frozen=True)
class Comparison:
    """Strips of several flows from one start.

    Attributes:
        methods: the strips, named as in the sheet.
        values: the metrics of the methods, by the name of the method, then of the metric.
    """

    methods: tuple[Strips, ...]
    values: dict[str, dict[str, float]]

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics, in the order in which they come up."""
        return list(dict.fromkeys(metric for row in self.values.values() for metric in row))


def comparison(
    flows: Mapping[str, Any],
    z: Any = None,
    values: Any = None,
    *,
    metrics: Sequence[str] | None = None,
    steps: int = 6,
    step_length: float | None = 0.35,
    potentials: Sequence[int] | None = None,
    seed: int = 0,
) -> Comparison:
    """The contents of `plot_comparison`, which explains the arguments and errors."""
    if not flows:
        raise ValueError("`flows` is empty; give at least one, `{name: flow}`")
    dimensions = {name: flow.latent_dim for name, flow in flows.items()}
    if len(set(dimensions.values())) > 1:
        found = ", ".join(f"{name}: {d}" for name, d in dimensions.items())
        raise WrongShape(f"`flows` have latent spaces of different dimensions ({found}), so no start is common to them")
    table = _table(values, flows, metrics)
    if z is None:
        z = starting_codes(next(iter(flows.values())), 1, seed)[0]
    rows = []
    for name, flow in flows.items():
        drawn = strips(flow, z, steps=steps, step_length=step_length, potentials=potentials)
        if len(drawn.images) != 1:
            raise WrongShape(f"`z` holds {len(drawn.images)} starts; a sheet compares flows from one, [d]")
        rows.append(Strips(**{**vars(drawn), "name": name}))
    return Comparison(tuple(rows), table)


def plot_comparison(
    flows: Mapping[str, Any],
    path: str | PathLike[str] | None = None,
    z: Any = None,
    values: Any = None,
    *,
    metrics: Sequence[str] | None = None,
    steps: int = 6,
    step_length: float | None = 0.35,
    potentials: Sequence[int] | None = None,
    smooth: bool = False,
    title: str | None = None,
    seed: int = 0,
) -> Any:
    """Draws one start walked by several flows, and a table of metrics beside.

    Args:
        flows: `{name: flow}`, in the order of the sheet.
        path: file to write; the suffix says the format. None: nothing is written.
        z: the start, `[d]`; by default drawn by `seed`.
        values: `{name: {metric: number}}`, or the report of `evaluate` on these flows.
        metrics: which of them, in this order; by default all, and of a report the most telling ones.
        steps: to either side.
        step_length: of the steps; None takes the velocity as it is.
        potentials: the rows; by default all of each flow.
        smooth: enlarges small images smoothly.
        title: of the sheet.
        seed: of the start.

    Returns:
        The matplotlib `Figure`.

    Raises:
        UnknownName: `values` speak of a flow, or `metrics` of a metric, that there is none of.
        WrongShape: the latent spaces differ, or z is not one start.
        ValueError: no flows.
    """
    drawn = comparison(
        flows, z, values, metrics=metrics, steps=steps, step_length=step_length, potentials=potentials, seed=seed
    )
    return draw_comparison(drawn, path, smooth=smooth, title=title)


def draw_comparison(
    drawn: Comparison, path: str | PathLike[str] | None = None, *, smooth: bool = False, title: str | None = None
) -> Any:
    """The picture of a comparison."""
    metrics = drawn.metrics
    columns = max(len(m.whole()) for m in drawn.methods)
    lines = sum(len(m.labels) for m in drawn.methods)
    tile = float(np.clip(min(6.8 / columns, (15.0 - 0.5 * len(drawn.methods)) / lines), 0.22, 0.6))
    left, right = tile * columns + 0.6, COLUMN * len(metrics)
    heights = [tile * len(m.labels) + 0.34 for m in drawn.methods]
    with style():
        figure = new_figure(left + right + 0.2, sum(heights) + 1.25)
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.03)
        axes = figure.subplots(
            len(drawn.methods), 2 if metrics else 1, squeeze=False, height_ratios=heights,
            width_ratios=(left, right) if metrics else None,
        )  # fmt: skip
        for i, (row, method) in enumerate(zip(axes, drawn.methods, strict=True)):
            draw_block(row[0], method, smooth=smooth, numbered=i == 0)
            row[0].set_title(method.name, loc="left", fontsize=12, fontweight="bold")
            if metrics:
                _draw_numbers(row[1], drawn, method.name, metrics, headed=i == 0)
        write_around(figure, title or "The same sample walked by different flows", step_note(drawn.methods[0]), 14)
        return finish(figure, path)


def _draw_numbers(ax, drawn, name, metrics, headed):
    ax.set(xlim=(0, len(metrics)), ylim=(-1, 1))
    ax.axis("off")
    for j, metric in enumerate(metrics):
        value = drawn.values.get(name, {}).get(metric)
        column = [row[metric] for row in drawn.values.values() if metric in row and math.isfinite(row[metric])]
        ax.text(j + 0.5, 0, _written(value), ha="center", va="center", fontsize=13)
        if value is not None and math.isfinite(value) and min(column) >= 0:
            # The whole bar is 1 for scores, else the largest value of the column.
            share = value / max(1.0, *column)
            ax.barh(-0.24, 0.76, left=j + 0.12, height=0.07, color="#ececec", zorder=1)
            ax.barh(-0.24, 0.76 * share, left=j + 0.12, height=0.07, color=BAR, zorder=2)
        if headed:
            words = textwrap.fill(HEADLINES.get(metric, metric).replace("_", " "), 13)
            ax.text(j + 0.5, 0.6, words, ha="center", va="bottom", fontsize=10)
    if headed:
        ax.plot([0.05, len(metrics) - 0.05], [0.54, 0.54], color=FAINT, linewidth=0.7)


def _written(value):
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "none"
    digits = "1e" if 0 < abs(value) < 0.005 else "2f" if abs(value) < 100 else "0f"
    return f"{value:.{digits}}".replace("-", "\N{MINUS SIGN}")


def _table(values, flows, metrics):
    """`{flow: {metric: float}}` of a mapping, or of a report, whose controls are left out."""
    if values is None:
        return {}
    if isinstance(values, Mapping):
        for name in values:
            if name not in flows:
                raise UnknownName("flow in `values`", name, flows)
        rows = values
    else:
        rows = {name: row for name, row in values.values.items() if name in flows}
        if not rows:
            raise UnknownName("flow in the report", next(iter(flows)), values.values)
        metrics = metrics or [key for key in HEADLINES if any(key in row for row in rows.values())]
    present = dict.fromkeys(metric for row in rows.values() for metric in row)
    for metric in metrics or ():
        if metric not in present:
            raise UnknownName("metric", metric, present)
    chosen = list(metrics or present)
    return {name: {m: float(row[m]) for m in chosen if m in row} for name, row in rows.items()}
