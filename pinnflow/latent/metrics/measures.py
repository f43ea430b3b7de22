"""The measures of a report, by name: each takes `Walks` and returns numbers for the table, or nothing.

A new one is a function of ten lines with `@register_metric`. What is no number (a matrix, a list) goes to the details
of the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pinnflow.errors import NotApplicable
from pinnflow.latent.metrics import factors as of_factors
from pinnflow.latent.metrics import paths as of_paths
from pinnflow.latent.metrics.predictability import LEVELS, variation_predictability
from pinnflow.latent.metrics.scores import dci, mutual_information_gap, separated_attribute_predictability
from pinnflow.latent.metrics.walks import Walks

Measure = Callable[[Walks], dict[str, Any]]
METRICS: dict[str, Measure] = {}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: what stands above it.
        digits: after the point; None for a number that may be tiny.
        meaning: one line for the legend.
    """

    title: str
    digits: int | None
    meaning: str


COLUMNS: dict[str, Column] = {}


def register_metric(name: str, **columns: tuple[str, int | None, str]) -> Callable[[Measure], Measure]:
    """Decorator that puts a measure into every report.

    Args:
        name: of the measure.
        **columns: `(title, digits, meaning)` for every key of its answer that gets a column.
    """

    def enter(measure: Measure) -> Measure:
        METRICS[name] = measure
        COLUMNS.update({key: Column(*column) for key, column in columns.items()})
        return measure

    return enter


@register_metric(
    "predictability",
    vp=("VP", 3, "few-shot accuracy at telling k from the pixel difference of start and end; not disentanglement"),
    chance=("chance", 3, "1/K, the VP of guessing"),
)
def predictability(walks: Walks) -> dict[str, Any]:
    """VP with its spread, and how much the images change."""
    if walks.before is None or walks.after is None or walks.flow.potentials < 2:
        return {}
    vp = variation_predictability(
        walks.before, walks.after, walks.labels, repeats=walks.plan.repeats, seed=walks.plan.seed
    )
    extent = (walks.before.amax() - walks.before.amin()).clamp_min(torch.finfo(walks.before.dtype).tiny)
    change = (walks.after - walks.before).square().mean().sqrt() / extent
    found = {"vp": vp.mean, "vp_scores": list(vp.scores), "chance": vp.chance, "image_change": float(change)}
    return found | ({"vp_spread": vp.spread} if len(vp.scores) > 1 else {})  # one repeat has none


@register_metric(
    "factors",
    concentration=("concentration", 3, "share of the movement in a potential's largest factor; exact 1"),
    gap=("gap", 3, "(first - second) / first of these shares"),
    coverage=("coverage", 2, "different favourites over min(K, F)"),
    match=("match", 3, "mean share under the best one-to-one assignment of potentials to factors"),
    correlation=("l1-corr", 3, "largest l1-normalised correlation with the step number; blind to size, so misleading"),
    strict=("strict", 3, "share of walks along which the matched factor never goes back"),
)
def factors(walks: Walks) -> dict[str, Any]:
    """Scores of the movement matrix, where factors are known."""
    if walks.factors is None:
        return {}
    along, count = walks.factors, walks.flow.potentials
    labels = walks.labels[: along.shape[1]].to(along.device)
    moved = of_factors.movement(along, labels, count)
    matched = of_factors.match(moved)
    disentanglement, completeness = of_factors.importance_scores(moved)
    values = {
        "concentration": float(of_factors.concentration(moved).mean()),
        "gap": float(of_factors.gap(moved).mean()),
        "coverage": of_factors.coverage(moved),
        "match": matched.score,
        "disentanglement": disentanglement,
        "completeness": completeness,
        "factors": along.shape[-1],
        "movement": moved.tolist(),
        "matched": list(matched.factor),
        "favourite": moved.argmax(dim=1).tolist(),
    }
    if len(along) > 2:
        for key, resolution in (("correlation", 1e-3), ("correlation_as_published", 0.0)):
            table = of_factors.attribute_correlation(along, labels, count, resolution=resolution)
            values[key] = float(table.amax(dim=1).mean())
    return values | _success(along, labels, moved.argmax(dim=1))


def _success(along, labels, favourite):
    """Strict and relaxed success of the factor that each potential moves most, in the direction it mostly goes."""
    property = along.gather(2, favourite[labels].expand(len(along), -1)[..., None])[..., 0]  # [steps + 1, n]
    change = of_factors.by_potential(property[-1] - property[0], labels, len(favourite))
    sign = torch.where(change < 0, -1.0, 1.0).to(property)
    success = of_paths.monotone_success(property * sign[labels])
    return {"strict": success.strict, "relaxed": success.relaxed, "gain": success.gain}


@register_metric(
    "space",
    variance=("variance", 3, "Var(z_T | k) / Var(z_0 | k), mean over k; below 0.5 is collapse"),
    drift=("drift", 2, "mean change of the log-density, nats; random directions lose (length)^2 / 2"),
    straightness=("straight", 3, "distance over length"),
    length=("length", 2, "of the walk, in the units of the latent space"),
)
def space(walks: Walks) -> dict[str, Any]:
    """What happens to the latent codes."""
    variance = of_paths.endpoint_variance(walks.path, walks.labels, walks.flow.potentials)
    return {
        "variance": float(variance.mean()),
        "variance_least": float(variance.min()),
        "variances": variance.tolist(),
        "moving": of_paths.moving_share(walks.path, walks.labels, walks.flow.potentials).tolist(),
        "drift": float(of_paths.log_density_drift(walks.path, walks.flow.log_density).mean()),
        "straightness": float(of_paths.straightness(walks.path).mean()),
        "length": float(of_paths.path_length(walks.path).mean()),
    }


@register_metric(
    "classes",
    class_kept=("class kept", 3, "share of the frames after the start that show the class of the start"),
)
def classes(walks: Walks) -> dict[str, Any]:
    """Class kept along the walks, where there is a classifier."""
    plan = walks.plan
    seen = walks.path if plan.on_codes else walks.frames
    if plan.classifier is None or seen is None:
        return {}
    kept = of_paths.class_kept(seen, plan.classifier)
    return {"class_kept": kept.along, "class_kept_end": kept.end, "class_chance": kept.chance}


@register_metric(
    "equation",
    residual=("residual", None, "|r| / sqrt(sum of terms^2) of each point of the walks, quadratic mean"),
    residual_norm=("residual norm", None, "||r|| / ||terms|| of the worst potential; above 0.1: PDE not satisfied"),
)
def equation(walks: Walks) -> dict[str, Any]:
    """Relative residual of the equation, where the flow has one: of points and of potentials."""
    residual = getattr(walks.flow, "residual", None)
    if residual is None:
        return {}
    try:
        found = of_paths.pde_residual(
            residual, walks.path, walks.labels, points=walks.plan.points, seed=walks.plan.seed
        )
        norms = _norms(walks)
    except NotApplicable:  # a potential flow without an equation
        return {}
    values = {"residual": found.mean, "residual_median": found.median, "residual_worst": found.worst}
    return values | ({"residual_norm": max(norms.values()), "residual_norms": list(norms.values())} if norms else {})


def _norms(walks: Walks) -> dict[int, float]:
    """Of each potential, where the flow tells them."""
    norms = getattr(walks.flow, "residual_norms", None)
    if norms is None:
        return {}
    points = of_paths.points_of(walks.path, walks.labels, points=walks.plan.points, seed=walks.plan.seed)
    return norms(*points)


@register_metric(
    "scores",
    mig=("MIG", 3, "mutual information gap of the values of the potentials as codes"),
    sap=("SAP", 3, "gap of R^2 of the two best codes"),
    dci=("DCI", 3, "disentanglement of the importances in regressions from codes to factors"),
)
def scores(walks: Walks) -> dict[str, Any]:
    """Disentanglement scores of the potentials' values at the starts, read as codes; on request only."""
    potential = getattr(walks.flow, "potential", None)
    if not walks.plan.scores or walks.factors is None or potential is None or walks.flow.potentials < 2:
        return {}
    z = walks.path[0, : walks.factors.shape[1]]
    with torch.no_grad():
        codes = torch.stack([potential(z, float(walks.plan.steps), k) for k in range(walks.flow.potentials)], dim=1)
    found = dci(codes, walks.factors[0], seed=walks.plan.seed)
    return {
        "mig": mutual_information_gap(codes, walks.factors[0]),
        "sap": separated_attribute_predictability(codes, walks.factors[0]),
        "dci": found.disentanglement,
        "dci_completeness": found.completeness,
        "dci_informativeness": found.informativeness,
    }


def measure(walks: Walks) -> dict[str, Any]:
    """All that the registered measures find, by key."""
    found: dict[str, Any] = {}
    for function in METRICS.values():
        found |= function(walks)
    return found


def flags(found: dict[str, Any]) -> tuple[str, ...]:
    """What a reader must not overlook in the numbers of one flow."""
    warnings = []
    if found.get("variance", 1.0) < of_paths.COLLAPSE:
        warnings.append("collapse")
    elif found.get("variance_least", 1.0) < of_paths.COLLAPSE:
        worst = min(range(len(found["variances"])), key=found["variances"].__getitem__)
        warnings.append(f"collapse of potential {worst}")
    for k, share in enumerate(found.get("moving", ())):
        if share < of_paths.STILL:
            warnings.append(f"potential {k} leaves codes where they are ({share:.0%} of the steps move one)")
    if not found.get("residual_norm", found.get("residual", 0.0)) <= of_paths.UNSATISFIED:
        warnings.append("PDE not satisfied")
    elif not found.get("residual", 0.0) <= of_paths.UNSATISFIED:
        warnings.append("PDE satisfied where its terms are large")
    if found.get("image_change", 1.0) < 1 / LEVELS:
        warnings.append("no visible change")
    return tuple(warnings)
