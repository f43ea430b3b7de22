"""Weights of the blocks of a loss: by the magnitude of their terms, by their gradients, and in the order of time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHARE = 0.9  # of the old weight that is kept at every update


def balanced(weights: dict[str, float], norms: dict[str, float]) -> dict[str, float]:
    """Weights moved towards equal gradient norms: w_i ~ sum_j |g_j| / |g_i|, their mean kept.

    Args:
        weights: per block.
        norms: norm of the gradient of each block's mean square, unweighted.

    Source: Wang, Sankaran, Wang & Perdikaris, An expert's guide to training physics-informed neural networks,
    2308.08468, algorithm 1.
    """
    live = {name: norm for name, norm in norms.items() if norm > 0 and math.isfinite(norm) and weights[name] > 0}
    if len(live) < 2:
        return dict(weights)
    total = sum(live.values())
    wanted = {name: total / norm for name, norm in live.items()}
    # The common factor means nothing to the optimiser; keeping the mean of the logarithm keeps its rate meaningful.
    shift = sum(math.log(weights[name]) - math.log(wanted[name]) for name in live) / len(live)
    return {
        name: SHARE * weight + (1 - SHARE) * wanted[name] * math.exp(shift) if name in live else weight
        for name, weight in weights.items()
    }


def causal_weights(
    times: Tensor, squares: Tensor, span: tuple[float, float], strictness: float, chunks: int = 16
) -> Tensor:
    """Per point exp(-strictness * sum of the mean squares of all earlier chunks of time), `[n]`, without gradient.

    Args:
        times: `[n]`.
        squares: squared residual at each, `[n]`, relative: about 1 where nothing is learnt yet.
        span: low and high end of the time axis.
        strictness: 0 weighs all alike; large values hold back what is later than the first unsolved chunk.
        chunks: equal parts of the time span.

    Source: Wang, Sankaran & Perdikaris, Respecting causality is all you need, 2203.07404, eq. (3.14).
    """
    low, high = span
    with torch.no_grad():
        index = ((times - low) / (high - low) * chunks).long().clamp(0, chunks - 1)
        total = torch.zeros(chunks, dtype=squares.dtype, device=squares.device).index_add(0, index, squares)
        count = torch.zeros_like(total).index_add(0, index, torch.ones_like(squares))
        mean = total / count.clamp(min=1)
        before = torch.cumsum(mean, 0) - mean
        return torch.exp(-strictness * before)[index]
