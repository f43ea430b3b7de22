"""Measures of traversals: what was walked, what changed, and beside which controls that has to be read."""

from pinnflow.latent.metrics.controls import Attractor, Oracle, RandomDirections, RandomWalk
from pinnflow.latent.metrics.factors import (
    attribute_correlation,
    concentration,
    coverage,
    gap,
    importance_scores,
    match,
    movement,
    shares,
)
from pinnflow.latent.metrics.measures import register_metric
from pinnflow.latent.metrics.paths import (
    class_kept,
    endpoint_variance,
    log_density_drift,
    logistic_classifier,
    monotone_success,
    moving_share,
    path_length,
    pde_residual,
    straightness,
)
from pinnflow.latent.metrics.predictability import Predictability, variation_predictability
from pinnflow.latent.metrics.report import Report, SeedReport, evaluate, evaluate_seeds, summarise
from pinnflow.latent.metrics.scores import dci, mutual_information_gap, separated_attribute_predictability

__all__ = [
    "Attractor",
    "Oracle",
    "Predictability",
    "RandomDirections",
    "RandomWalk",
    "Report",
    "SeedReport",
    "attribute_correlation",
    "class_kept",
    "concentration",
    "coverage",
    "dci",
    "endpoint_variance",
    "evaluate",
    "evaluate_seeds",
    "gap",
    "importance_scores",
    "log_density_drift",
    "logistic_classifier",
    "match",
    "monotone_success",
    "movement",
    "moving_share",
    "mutual_information_gap",
    "path_length",
    "pde_residual",
    "register_metric",
    "separated_attribute_predictability",
    "shares",
    "straightness",
    "summarise",
    "variation_predictability",
]
