"""How far each traversal changes one factor and leaves the others alone, where the factors are known.

Everything starts from the movement matrix M `[K, F]`: the mean size of the change of factor j, from the start to the
end of a walk along potential k, in units of the spread of that factor over the starts,

    M_kj = mean |f_j(z_T) - f_j(z_0)| / std f_j(z_0),     S_kj = M_kj / sum_j M_kj  (the shares).

The scores are of sizes, not of correlations: a Pearson correlation with the step number is 1 for a change of any size,
so that a walk which moves one factor by 1 and another by 1e-6 looks as if it moved both (`attribute_correlation`).
The mean over walks comes before the shares, so a potential that moves another factor at every place scores low.

Sizes to compare with, for five factors: exact traversals 1, random directions about 0.25 to 0.28 in a strongly warped
space (0.35 to 0.45 in a linear one, where a direction may happen to lie near a factor), equal shares 0.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pinnflow.errors import NonFinite, WrongShape
from pinnflow.latent.metrics.scores import certainty

# A change below this share of a factor's spread is rounding, not movement.
NOTHING = 1e-6


@dataclass(frozen=True)
class Match:
    """One-to-one assignment of potentials to factors.

    Attributes:
        factor: the factor of each potential, `[K]`; -1 where there are more potentials than factors.
        score: mean share S of the matched factors, over the min(K, F) potentials that have one.
    """

    factor: tuple[int, ...]
    score: float


def movement(factors: Tensor, labels: Tensor | Sequence[int], potentials: int | None = None) -> Tensor:
    """M `[K, F]`: mean |change of factor j| along potential k, in units of the factor's spread over the starts.

    Args:
        factors: along the walks, `[steps + 1, n, F]`; only the first and the last step count.
        labels: the potential of each walk, whole numbers `[n]`.
        potentials: K; by default the largest label + 1.

    Raises:
        WrongShape: factors and labels do not belong together.
        NonFinite: a factor is not finite.
        ValueError: a potential without a walk.
    """
    factors, k, count = checked(factors, labels, potentials)
    scale = factors[0].std(dim=0, correction=0)
    # A factor that is the same at all starts has no spread to measure by: its own unit is taken.
    scale = torch.where(scale > NOTHING * factors[0].abs().amax(dim=0), scale, torch.ones_like(scale))
    change = (factors[-1] - factors[0]).abs() / scale
    change = torch.where(change > NOTHING, change, torch.zeros_like(change))
    return by_potential(change, k, count)


def shares(moved: Tensor) -> Tensor:
    """S `[K, F]`, rows of M divided by their sums; a potential that moves nothing has equal shares."""
    total = moved.sum(dim=1, keepdim=True)
    return torch.where(total > 0, moved / torch.where(total > 0, total, 1), 1 / moved.shape[1])


def concentration(moved: Tensor) -> Tensor:
    """max_j S_kj, `[K]`: share of the movement that goes into the largest factor; 1 exact, 1/F at worst."""
    return shares(moved).amax(dim=1)


def gap(moved: Tensor) -> Tensor:
    """(first - second) / first of the shares, `[K]`: 1 where one factor alone moves, 0 where two move alike."""
    if moved.shape[1] < 2:
        return torch.ones(len(moved), dtype=moved.dtype, device=moved.device)
    first, second = shares(moved).topk(2, dim=1).values.unbind(dim=1)
    return (first - second) / first


def coverage(moved: Tensor) -> float:
    """Number of different factors that are the largest of a potential, over min(K, F)."""
    alive = moved[moved.sum(dim=1) > 0]
    return len(set(alive.argmax(dim=1).tolist())) / min(moved.shape)


def match(moved: Tensor) -> Match:
    """The assignment of potentials to different factors with the largest sum of shares.

    Source: Kuhn, The Hungarian method (1955), by `scipy.optimize.linear_sum_assignment`.
    """
    from scipy.optimize import linear_sum_assignment

    share = shares(moved).detach().cpu().numpy()
    rows, columns = linear_sum_assignment(share, maximize=True)
    factor = np.full(len(share), -1)
    factor[rows] = columns
    return Match(tuple(factor.tolist()), float(share[rows, columns].mean()))


def importance_scores(moved: Tensor) -> tuple[float, float]:
    """`(disentanglement, completeness)` of the movement matrix, read as a matrix of importances.

    Disentanglement is 1 - entropy of a potential's shares (base F), weighted by how much the potential moves;
    completeness the same for the factors (base K). Both are 1 for one factor each, 0 where all move alike.

    Source: Eastwood & Williams, A framework for the quantitative evaluation of disentangled representations (2018).
    """
    importance = moved.detach().cpu().double().numpy()
    return certainty(importance), certainty(importance.T)


def attribute_correlation(
    attributes: Tensor,
    labels: Tensor | Sequence[int],
    potentials: int | None = None,
    *,
    resolution: float = 1e-3,
    normalise: bool = True,
) -> Tensor:
    """Mean Pearson correlation of each attribute with the step number, `[K, A]`, as face traversals are judged.

    Misleading by itself: the correlation does not see how large a change is. With `resolution=0`, as published, an
    exact traversal scores 0.4 to 0.8 on the benchmark, because an attribute that changes by rounding alone correlates
    as well as the one that moves. Here an attribute that varies along a walk by less than `resolution` of its spread
    over the starts counts 0 for this walk. Report it beside `concentration`, never instead.

    Args:
        attributes: along the walks, `[steps + 1, n, A]`, three frames or more.
        labels: the potential of each walk, whole numbers `[n]`.
        potentials: K; by default the largest label + 1.
        resolution: smallest standard deviation along a walk that counts, in units of the spread over the starts.
        normalise: divide the absolute values of every row by their sum (l1); otherwise signed correlations.

    Source: Tzelepis et al., WarpedGANSpace (ICCV 2021), for the protocol.
    """
    attributes, k, count = checked(attributes, labels, potentials)
    if len(attributes) < 3:
        raise ValueError(f"a correlation along {len(attributes)} frames says nothing; walk 2 or more steps")
    spread = attributes[0].std(dim=0, correction=0)
    step = torch.arange(len(attributes), dtype=attributes.dtype, device=attributes.device)
    step = (step - step.mean()) / step.std(correction=0)
    centred = attributes - attributes.mean(dim=0)
    deviation = centred.square().mean(dim=0).sqrt()
    correlation = (step[:, None, None] * centred).mean(dim=0) / torch.where(deviation > 0, deviation, 1)
    correlation = torch.where(deviation > resolution * spread, correlation, 0)
    table = by_potential(correlation, k, count)
    return shares(table.abs()) if normalise else table


def checked(values: Tensor, labels: Tensor | Sequence[int], potentials: int | None) -> tuple[Tensor, Tensor, int]:
    """`(values [steps + 1, n, F], k [n], K)` after the errors that `movement` promises."""
    values = torch.as_tensor(values)
    values = values if values.is_floating_point() else values.double()
    k = torch.as_tensor(labels, device=values.device)
    if values.dim() != 3 or len(values) < 2 or k.shape != values.shape[1:2] or k.is_floating_point():
        raise WrongShape(
            f"found {tuple(values.shape)} and labels {tuple(k.shape)} of {k.dtype}; expected [steps + 1, n, ...] "
            "with a step or more, and a whole number for each of the n walks"
        )
    if not bool(torch.isfinite(values).all()):
        raise NonFinite(f"not finite along the walks, first at step {_first_bad(values)}")
    count = int(k.max()) + 1 if potentials is None else potentials
    walks = torch.bincount(k.long(), minlength=count)
    if len(walks) > count or bool((walks == 0).any()):
        raise ValueError(
            f"`labels` must be 0 to {count - 1}, with a walk of each; the numbers of walks are {walks.tolist()}"
        )
    return values, k.long(), count


def _first_bad(values):
    return int((~torch.isfinite(values)).flatten(1).any(dim=1).nonzero()[0])


def by_potential(values: Tensor, k: Tensor, potentials: int) -> Tensor:
    """Means `[K, ...]` over the rows `[n, ...]` of each label."""
    total = torch.zeros((potentials, *values.shape[1:]), dtype=values.dtype, device=values.device)
    count = torch.bincount(k, minlength=potentials).to(values)
    return total.index_add(0, k, values) / count.reshape(-1, *[1] * (values.dim() - 1))
