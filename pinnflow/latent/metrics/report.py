"""`evaluate`: one table of all measures for one flow or several, beside the controls without which it says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch import Tensor

from pinnflow.latent.metrics.controls import Attractor, Oracle, RandomDirections
from pinnflow.latent.metrics.measures import COLUMNS, flags, measure
from pinnflow.latent.metrics.paths import logistic_classifier, path_length
from pinnflow.latent.metrics.walks import Plan, Reader, draw_labels, walk
from pinnflow.latent.traversal import Flow, positive


@dataclass(frozen=True)
class Report:
    """Measures of flows and controls.

    Attributes:
        values: `{flow: {measure: number}}`, controls included.
        details: `{flow: {measure: list}}`: the movement matrix, the matched factors, variances by potential, ...
        flags: `{flow: sentences}`: `collapse`, `PDE not satisfied`, `no visible change`, potentials that
            leave codes where they are.
        controls: which of the flows are controls.
        settings: how it was measured.
    """

    values: dict[str, dict[str, float]]
    details: dict[str, dict[str, list]]
    flags: dict[str, tuple[str, ...]]
    controls: tuple[str, ...]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings, lists and dictionaries: ready for JSON."""
        return {
            "settings": dict(self.settings),
            "controls": list(self.controls),
            "values": {name: dict(row) for name, row in self.values.items()},
            "details": {name: dict(row) for name, row in self.details.items()},
            "flags": {name: list(row) for name, row in self.flags.items()},
        }

    def to_markdown(self) -> str:
        """The table in Markdown, with the legend below."""
        head, *rows = self._table()
        lines = [head, ["---", *["---:"] * (len(head) - 2), "---"], *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        legend = "\n".join(f"- **{title}**: {meaning}" for title, meaning in self._legend())
        return f"{self._title()}\n\n{table}\n\n{legend}\n"

    def __str__(self) -> str:
        return f"{self._title()}\n{aligned(self._table())}\n{self._footer()}"

    def _title(self) -> str:
        s = self.settings
        length = "raw velocities" if s["step_length"] is None else f"length {s['step_length']:g}"
        told = f"VP: 10 % of the pairs to learn from, {s['repeats']} repeat{'s' * (s['repeats'] != 1)}; "
        return (
            f"{s['pairs']} walks of {s['steps']} step{'s' * (s['steps'] != 1)}, {length}; "
            f"K = {', '.join(map(str, s['potentials']))}; {told if 'vp' in self._columns() else ''}seed {s['seed']}"
        )

    def _columns(self) -> list[str]:
        present = {key for row in self.values.values() for key in row}
        return [key for key in COLUMNS if key in present]

    def _table(self) -> list[list[str]]:
        columns = self._columns()
        rows = [["flow", *(COLUMNS[key].title for key in columns), "flags"]]
        for name, row in self.values.items():
            label = f"{name} (control)" if name in self.controls and "(control)" not in name else name
            cells = [_cell(row, key) for key in columns]
            rows.append([label, *cells, ", ".join(self.flags[name]) or "-"])
        return rows

    def _legend(self) -> list[tuple[str, str]]:
        return [(COLUMNS[key].title, COLUMNS[key].meaning) for key in self._columns()]

    def _footer(self) -> str:
        return "\n".join(f"  {title}: {meaning}" for title, meaning in self._legend())


def evaluate(
    flow: Flow | Mapping[str, Flow],
    *,
    pairs: int = 4000,
    steps: int = 6,
    step_length: float | None = 0.35,
    seed: int = 0,
    repeats: int = 3,
    controls: bool = True,
    quick: bool = False,
    integrator: str = "euler",
    starts: Tensor | None = None,
    attributes: Reader | None = None,
    classifier: Reader | None = None,
    labelled: tuple[Tensor, Tensor] | None = None,
    frames: int = 512,
    points: int = 512,
    scores: bool = False,
) -> Report:
    """Measures one flow or several on the same starts, beside controls.

    The controls are random directions, the exact traversals if the generator has an `oracle`, and an attractor with
    raw and with equal steps: the one with raw steps has a VP near 1 and is flagged, which shows what VP is worth alone.
    With raw velocities (`step_length=None`) the controls walk in steps of the mean length of the first flow's.

    Args:
        flow: a flow, or `{name: flow}` over the same latent space.
        pairs: number of walks.
        steps: of each walk.
        step_length: of each step in the latent space; None for raw velocities.
        seed: of starts, labels, networks and controls; the same seed gives the same report.
        repeats: of the classifier behind VP.
        controls: whether to add them.
        quick: one repeat and no attractor with equal steps, whatever `repeats` says; VP is as large, but has no spread.
        integrator: of the walks.
        starts: codes `[n, d]` to start from, instead of `pairs` standard normal ones.
        attributes: maps images `[m, c, h, w]` to attributes `[m, A]`, measured instead of the generator's `factors`.
        classifier: maps images to classes `[m]` or scores `[m, C]`, for the class kept along the walks.
        labelled: `(codes or images, classes)` to fit a logistic classifier to, instead of giving one.
        frames: number of walks of which `attributes` and `classifier` see all images.
        points: at which the equation is checked.
        scores: also MIG, SAP and DCI of the potentials' values as codes; needs scikit-learn.

    Raises:
        ValueError: no flow, flows over different latent spaces, or both `classifier` and `labelled`.
    """
    first, flows = _same_space(flow)
    for label, value in (("pairs", pairs), ("repeats", repeats), ("frames", frames), ("points", points)):
        positive(label, value)
    if classifier is not None and labelled is not None:
        raise ValueError("give a `classifier` or `labelled` data to fit one to, not both")
    on_codes = labelled is not None and labelled[0].dim() == 2
    plan = Plan(
        steps=steps,
        integrator=integrator,
        repeats=1 if quick else repeats,
        seed=seed,
        frames=frames,
        points=points,
        attributes=attributes,
        classifier=logistic_classifier(*labelled) if labelled is not None else classifier,
        on_codes=on_codes,
        scores=scores,
    )
    z = first.codes(starts) if starts is not None else first.sample(pairs, seed)
    before = None if first.generator is None else first.render(z)
    rows: dict[str, tuple[Flow, float | None]] = {name: (one, step_length) for name, one in flows.items()}
    added: dict[str, tuple[Flow, float | None]] = {}
    if controls:
        length = step_length if step_length is not None else _mean_step(first, z, plan)
        for potentials in sorted({one.potentials for one in flows.values()}):
            same = len({one.potentials for one in flows.values()}) == 1
            for name, control in make_controls(first, potentials, length, seed, quick).items():
                label = name if same else f"{name}, K = {potentials}"
                added[f"{label} (control)" if label in flows else label] = control
    found = {}
    for name, (one, length_of) in (rows | added).items():
        labels = draw_labels(len(z), one.potentials, seed)
        found[name] = measure(walk(one, z, labels, length_of, plan, before))
    settings = {
        "potentials": sorted({one.potentials for one in flows.values()}),
        "pairs": len(z),
        "steps": steps,
        "step_length": step_length,
        "seed": seed,
        "repeats": plan.repeats,
        "quick": quick,
        "integrator": integrator,
    }
    return _report(found, tuple(added), settings)


def make_controls(
    flow: Flow, potentials: int, step_length: float, seed: int = 0, quick: bool = False
) -> dict[str, tuple[Flow, float | None]]:
    """`{name: (control, step length)}` for flows like `flow` with K potentials."""
    common: dict[str, Any] = {"device": flow.device, "dtype": flow.dtype}
    shape = (flow.generator, flow.latent_dim, potentials)
    attractor = Attractor(*shape, seed=seed, **common)
    made: dict[str, tuple[Flow, float | None]] = {
        "random": (RandomDirections(*shape, seed=seed, **common), step_length)
    }
    names = getattr(flow.generator, "factor_names", ())
    if hasattr(flow.generator, "oracle") and len(names) > 0:
        made["oracle"] = (Oracle(flow.generator, min(potentials, len(names)), **common), step_length)
    made["attractor"] = (attractor, None)
    if not quick:
        made["attractor, equal steps"] = (attractor, step_length)
    return made


def _mean_step(flow, z, plan):
    """Mean length of the raw steps of a flow; 1 for one that does not move."""
    path = flow.traverse(z, draw_labels(len(z), flow.potentials, plan.seed).to(z.device), plan.steps, None)
    return float(path_length(path).mean()) / plan.steps or 1.0


def _same_space(flow):
    """`(first flow, {name: flow})` of what `evaluate` was given."""
    flows = dict(flow) if isinstance(flow, Mapping) else {getattr(flow, "name", ""): flow}
    for one in flows.values():
        if not isinstance(one, Flow):
            raise TypeError(f"`evaluate` was given a {type(one).__name__}; expected a flow or {{name: flow}}")
    if not flows:
        raise ValueError("`evaluate` was given no flow; expected a flow or {name: flow}")
    first = next(iter(flows.values()))
    for name, one in flows.items():
        if one.latent_dim != first.latent_dim or one.generator is not first.generator:
            raise ValueError(
                f"the flow `{name}` has another generator or latent dimension ({one.latent_dim}) than the first "
                f"({first.latent_dim}); evaluate them in separate reports"
            )
    return first, flows


def _report(found, controls, settings):
    values = {n: {k: float(v) for k, v in row.items() if not isinstance(v, list)} for n, row in found.items()}
    details = {n: {k: v for k, v in row.items() if isinstance(v, list)} for n, row in found.items()}
    return Report(values, details, {n: flags(row) for n, row in found.items()}, controls, settings)


@dataclass(frozen=True)
class SeedReport:
    """Reports of several fits of the same flow, summarised.

    Attributes:
        reports: one for each seed.
        median: `{flow: {measure: number}}`.
        range: `{flow: {measure: (smallest, largest)}}`.
        flags: `{flow: {sentence: in how many fits}}`.
    """

    reports: tuple[Report, ...]
    median: dict[str, dict[str, float]]
    range: dict[str, dict[str, tuple[float, float]]]
    flags: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings, lists and dictionaries: ready for JSON."""
        return {
            "median": self.median,
            "range": {name: {k: list(v) for k, v in row.items()} for name, row in self.range.items()},
            "flags": self.flags,
            "reports": [report.to_dict() for report in self.reports],
        }

    def to_markdown(self) -> str:
        """Median and range of every column in Markdown."""
        head, *rows = self._table()
        lines = [head, ["---", *["---:"] * (len(head) - 2), "---"], *rows]
        return f"{self._title()}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

    def __str__(self) -> str:
        return f"{self._title()}\n{aligned(self._table())}"

    def _title(self) -> str:
        seeds = ", ".join(str(report.settings["seed"]) for report in self.reports)
        return f"median (smallest to largest) over {len(self.reports)} fits, seeds {seeds}"

    def _table(self):
        present = {key for row in self.median.values() for key in row}
        columns = [key for key in COLUMNS if key in present]
        rows = [["flow", *(COLUMNS[key].title for key in columns), "flags"]]
        for name, row in self.median.items():
            cells = [_range_cell(row, self.range[name], key) for key in columns]
            raised = ", ".join(f"{flag} ({count} of {len(self.reports)})" for flag, count in self.flags[name].items())
            rows.append([name, *cells, raised or "-"])
        return rows


def evaluate_seeds(
    make: Callable[[int], Flow | Mapping[str, Flow]], seeds: Sequence[int] = (0, 1, 2), **settings
) -> SeedReport:
    """Fits and evaluates once for each seed, and summarises: one fit is an anecdote.

    Args:
        make: returns the fitted flow, or `{name: flow}`, for a seed.
        seeds: also those of the reports.
        **settings: of `evaluate`.
    """
    return summarise([evaluate(make(seed), seed=seed, **settings) for seed in seeds])


def summarise(reports: Sequence[Report]) -> SeedReport:
    """Median and range over reports of the same flows.

    Raises:
        ValueError: no report, or reports of different flows.
    """
    if not reports or any(report.values.keys() != reports[0].values.keys() for report in reports):
        found = "; ".join(", ".join(report.values) for report in reports) or "none"
        raise ValueError(f"reports of the same flows are needed to summarise them; found {found}")
    middle: dict[str, dict[str, float]] = {}
    extent: dict[str, dict[str, tuple[float, float]]] = {}
    raised: dict[str, dict[str, int]] = {}
    for name, row in reports[0].values.items():
        series = {key: [report.values[name][key] for report in reports] for key in row}
        middle[name] = {key: median(column) for key, column in series.items()}
        extent[name] = {key: (min(column), max(column)) for key, column in series.items()}
        sentences = [flag for report in reports for flag in report.flags[name]]
        raised[name] = {flag: sentences.count(flag) for flag in dict.fromkeys(sentences)}
    return SeedReport(tuple(reports), middle, extent, raised)


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells as text: the first and the last column to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    last = len(widths) - 1
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cell(row, key):
    if key not in row:
        return "-"
    text = _number(row[key], key)
    return f"{text} ± {row['vp_spread']:.3f}" if key == "vp" and "vp_spread" in row else text


def _range_cell(row, extent, key):
    if key not in row:
        return "-"
    middle, low, high = (_number(value, key) for value in (row[key], *extent[key]))
    return middle if low == high else f"{middle} ({low} to {high})"


def _number(value, key):
    digits = COLUMNS[key].digits
    return f"{value:.1e}" if digits is None else f"{value:.{digits}f}"
