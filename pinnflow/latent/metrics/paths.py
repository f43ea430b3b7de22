"""What walks do to the latent space: collapse, drift from what is usual, length, shape, classes, the equation.

All functions take the codes along the walks, `[steps + 1, n, d]`, and say nothing of how the flow was made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pinnflow.errors import WrongShape
from pinnflow.latent.metrics.factors import by_potential, checked
from pinnflow.latent.traversal import standard_normal

COLLAPSE = 0.5  # an endpoint variance below this is flagged
UNSATISFIED = 0.1  # a relative residual above this is flagged
STILL = 0.5  # potentials that move codes in a smaller share of the steps are flagged


def endpoint_variance(path: Tensor, labels: Tensor | Sequence[int], potentials: int | None = None) -> Tensor:
    """Var(z_T | k) / Var(z_0 | k), total variances (traces), `[K]`.

    1 for translations and rotations, s^2 for z -> s z + a; near 0 for a field that pulls everything to one place,
    which is perfectly recognisable and of no use: below 0.5 a report says `collapse`.

    Args:
        path: codes along the walks, `[steps + 1, n, d]`.
        labels: the potential of each walk, whole numbers `[n]`.
        potentials: K; by default the largest label + 1.

    Raises:
        ValueError: a potential has fewer than two walks, or all of them start at one place.
    """
    path, k, count = checked(path, labels, potentials)
    start, end = (_variance(z, k, count) for z in (path[0], path[-1]))
    if not bool((start > 0).all()):
        raise ValueError(
            f"potential {int((start <= 0).nonzero()[0])} has one start only, so its variance cannot be compared; "
            "give two or more different starts of each potential"
        )
    return end / start


def _variance(z, k, count):
    """Mean square distance from the mean of the same label, `[K]`."""
    return by_potential((z - by_potential(z, k, count)[k]).square().sum(dim=1), k, count)


def log_density_drift(path: Tensor, log_density: Callable[[Tensor], Tensor] = standard_normal) -> Tensor:
    """log p(z_T) - log p(z_0) of each walk, `[n]`, in nats: positive towards the usual, negative away from it."""
    return log_density(path[-1]) - log_density(path[0])


def path_length(path: Tensor) -> Tensor:
    """sum_i |z_i - z_{i-1}| of each walk, `[n]`, in the units of the latent space."""
    return torch.linalg.vector_norm(path[1:] - path[:-1], dim=-1).sum(dim=0)


def moving_share(path: Tensor, labels: Tensor, potentials: int) -> Tensor:
    """Share of the steps along each potential that move their code at all, `[K]`; 1 for one without walks.

    A density that is zero somewhere, or a potential that is flat there, leaves codes where they are.

    Args:
        path: codes along the walks, `[steps + 1, n, d]`.
        labels: the potential of each walk, `[n]`.
        potentials: K.
    """
    moves = (path[1:] != path[:-1]).any(dim=-1).to(path.dtype).mean(dim=0)
    count = torch.bincount(labels, minlength=potentials)
    total = moves.new_zeros(potentials).index_add(0, labels, moves)
    return torch.where(count > 0, total / count.clamp(min=1), 1.0)


def straightness(path: Tensor) -> Tensor:
    """|z_T - z_0| over the length of each walk, `[n]`: 1 on a line, 2/pi on a semicircle, 0 on a closed loop.

    A walk that does not move counts 1, the limit of short walks.
    """
    length = path_length(path)
    direct = torch.linalg.vector_norm(path[-1] - path[0], dim=-1)
    return torch.where(length > 0, direct / torch.where(length > 0, length, 1), 1)


@dataclass(frozen=True)
class ClassKept:
    """How far walks keep the class of their start.

    Attributes:
        along: mean share of the frames after the start that show the class of the start.
        end: share of the walks whose last frame does.
        chance: what two unrelated starts would give, sum_c p_c^2 of the classes at the starts.
    """

    along: float
    end: float
    chance: float


def class_kept(frames: Tensor, classifier: Callable[[Tensor], Tensor]) -> ClassKept:
    """How far walks keep the class that a classifier sees.

    Args:
        frames: codes `[steps + 1, n, d]` or images `[steps + 1, n, c, h, w]`: what the classifier takes.
        classifier: maps `[m, ...]` to classes `[m]` (whole numbers) or to scores `[m, C]`.

    Raises:
        WrongShape: the classifier answered neither.
    """
    with torch.no_grad():
        answer = torch.as_tensor(classifier(frames.flatten(0, 1)))
    rows = frames.shape[0] * frames.shape[1]
    if answer.shape[:1] != (rows,) or answer.dim() > 2 or (answer.dim() == 1 and answer.is_floating_point()):
        raise WrongShape(
            f"the classifier answered {tuple(answer.shape)} of {answer.dtype} to {rows} frames; "
            f"expected whole numbers [{rows}] or scores [{rows}, classes]"
        )
    seen = (answer.argmax(dim=1) if answer.dim() == 2 else answer).unflatten(0, frames.shape[:2])
    same = (seen[1:] == seen[0]).double()
    frequency = torch.unique(seen[0], return_counts=True)[1].double() / seen.shape[1]
    return ClassKept(float(same.mean()), float(same[-1].mean()), float(frequency.square().sum()))


def logistic_classifier(
    inputs: Tensor, classes: Tensor | Sequence[int], *, decay: float = 1e-3
) -> Callable[[Tensor], Tensor]:
    """Multinomial logistic regression on labelled codes or images, `[m, ...] -> scores [m, C]`.

    Args:
        inputs: `[n, ...]`, codes or images.
        classes: whole numbers `[n]` from 0.
        decay: of the squared weights, for inputs of unit spread.

    Raises:
        WrongShape: not one class for each input.
    """
    shape = torch.as_tensor(inputs).shape[1:]
    x = torch.as_tensor(inputs).double().flatten(1)
    y = torch.as_tensor(classes, device=x.device).long()
    if y.shape != x.shape[:1]:
        raise WrongShape(f"found {tuple(x.shape)} inputs and classes {tuple(y.shape)}; expected a class for each input")
    centre, scale = x.mean(dim=0), x.std(dim=0, correction=0)
    scale = torch.where(scale > 1e-6 * scale.max(), scale, torch.inf)  # a pixel that never changes says nothing
    weight = torch.zeros(x.shape[1], int(y.max()) + 1, dtype=x.dtype, device=x.device, requires_grad=True)
    offset = torch.zeros(weight.shape[1], dtype=x.dtype, device=x.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, offset], max_iter=200, line_search_fn="strong_wolfe")
    x = (x - centre) / scale

    def loss():
        optimiser.zero_grad()
        value = F.cross_entropy(x @ weight + offset, y) + decay / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    matrix, shift = weight.detach(), offset.detach()

    def scores(new: Tensor) -> Tensor:
        flat = new.to(matrix).flatten(1)
        if flat.shape[1] != len(matrix):
            raise WrongShape(
                f"the classifier has learned from {tuple(shape)}, and is asked about {tuple(new.shape[1:])}; give it "
                "codes or images of the same generator"
            )
        return (flat - centre) / scale @ matrix + shift

    return scores


@dataclass(frozen=True)
class Success:
    """Share of the walks along which a property rises; see `monotone_success`."""

    strict: float
    relaxed: float
    gain: float


def monotone_success(
    values: Tensor,
    similarity: Tensor | None = None,
    *,
    value_range: float | None = None,
    tolerance: float = 0.05,
    similarity_tolerance: float = 0.1,
) -> Success:
    """How many walks raise a property without ever going back.

    Strict: the property never falls, it takes more than two different values, and the similarity to the start never
    rises. Relaxed: the property may fall back below an earlier value by `tolerance` of its range, and the similarity
    may rise by 0.1, in one step. The relaxed share is nearly free (random directions reach 0.65), the strict one
    is not.

    Args:
        values: the property along the walks, `[steps + 1, n]`; for a property that ought to fall give its negative.
        similarity: to the start, `[steps + 1, n]`; left out of account if None.
        value_range: of the property; by default largest minus smallest of `values`.
        tolerance: of the relaxed share, as a part of the range.
        similarity_tolerance: of the relaxed share.

    Returns:
        Success, with the mean gain of the property.

    Source: Wei et al., Navigating chemical space with latent flows (NeurIPS 2024), for the definitions.
    """
    strict, relaxed = monotone_walks(
        values,
        similarity,
        value_range=value_range,
        tolerance=tolerance,
        similarity_tolerance=similarity_tolerance,
    )
    return Success(
        float(strict.double().mean()), float(relaxed.double().mean()), float((values[-1] - values[0]).double().mean())
    )


def monotone_walks(
    values: Tensor,
    similarity: Tensor | None = None,
    *,
    value_range: float | None = None,
    tolerance: float = 0.05,
    similarity_tolerance: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Which walks succeed, strictly and in the relaxed sense, `[n]` each; arguments as for `monotone_success`."""
    extent = float(values.amax() - values.amin()) if value_range is None else value_range
    step = values[1:] - values[:-1]
    varied = torch.tensor([len(torch.unique(walk)) > 2 for walk in values.unbind(dim=1)], device=values.device)
    strict, relaxed = (step >= 0).all(dim=0) & varied, (step >= -tolerance * extent).all(dim=0)
    if similarity is not None:
        if similarity.shape != values.shape:
            raise WrongShape(f"`similarity` is {tuple(similarity.shape)}, the property {tuple(values.shape)}")
        climb = similarity[1:] - similarity[:-1]
        strict = strict & (climb <= 0).all(dim=0)
        relaxed = relaxed & (climb <= similarity_tolerance).all(dim=0)
    return strict, relaxed


@dataclass(frozen=True)
class Residual:
    """Relative residual |r| / sqrt(sum of terms^2) on points along walks.

    Attributes:
        mean: quadratic mean over the points.
        median: of the points.
        worst: the largest.
        points: how many.
    """

    mean: float
    median: float
    worst: float
    points: int


def pde_residual(
    residual: Callable[[Tensor, Tensor, Tensor], Tensor],
    path: Tensor,
    labels: Tensor,
    *,
    points: int = 512,
    seed: int = 0,
) -> Residual:
    """How well the potentials obey their equation where walks of new codes go.

    Args:
        residual: `flow.residual`: `(z [m, d], t [m], k [m])` to |r| / sqrt(sum of terms^2), `[m]`.
        path: codes along the walks, `[steps + 1, n, d]`. The step from z_{i-1} to z_i asks for the velocity at z_{i-1}
            and t = i, so these are the points.
        labels: the potential of each walk, `[n]`.
        points: drawn without replacement from all steps of all walks.
        seed: of the draw.
    """
    z, t, k = points_of(path, labels, points=points, seed=seed)
    ratio = residual(z, t, k).detach().double().abs()
    return Residual(float(ratio.square().mean().sqrt()), float(ratio.median()), float(ratio.max()), len(k))


def points_of(path: Tensor, labels: Tensor, *, points: int = 512, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Where walks ask for the velocity: codes `[m, d]`, times `[m]` and potentials `[m]`, m at most `points`.

    Args:
        path, labels, points, seed: as for `pde_residual`.
    """
    steps, n = len(path) - 1, path.shape[1]
    noise = torch.Generator().manual_seed(seed)
    which = torch.randperm(steps * n, generator=noise)[:points].to(path.device)
    k = torch.as_tensor(labels, device=path.device).long().repeat(steps)[which]
    return path[:-1].flatten(0, 1)[which], (which // n + 1).to(path), k
