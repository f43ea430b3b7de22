"""Which transformation was it? The posterior q(k | x_0, x_T) of the index, told from the first and the last image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softmax

from pinnflow.errors import WrongShape
from pinnflow.latent.objectives import DifferenceNetwork


class IndexPosterior(nn.Module):
    """Scores of q(k | x_0, x_T): softmax(scores) are the probabilities.

    Args:
        image_shape: `(c, h, w)`.
        potentials: K.
        seed: of the first weights.
        width: channels of the first convolution.
    """

    def __init__(self, image_shape: Sequence[int], potentials: int, seed: int = 0, width: int = 12):
        super().__init__()
        c, h, w = image_shape
        self.potentials = potentials
        self.network = DifferenceNetwork(c, (h, w), potentials, width, torch.Generator().manual_seed(seed))

    def forward(self, first: Tensor, last: Tensor) -> Tensor:
        """Scores `[n, K]` of images `[n, c, h, w]`."""
        return self.network(first, last)

    def probabilities(self, first: Tensor, last: Tensor) -> Tensor:
        """q(k | x_0, x_T), `[n, K]`."""
        return softmax(self(first, last), dim=1)

    def relaxed(self, scores: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Weights on the simplex `[n, K]`: softmax((scores + g) / temperature) with Gumbel noise g.

        Source: Jang, Gu & Poole (2017); Maddison, Mnih & Teh (2017).
        """
        uniform = torch.rand(scores.shape, generator=generator).clamp(min=1e-20).to(scores)
        return softmax((scores - torch.log(-torch.log(uniform))) / temperature, dim=1)

    def divergence(self, scores: Tensor) -> Tensor:
        """KL(q(k) | uniform), `[n]`: log K less the entropy."""
        log_q = log_softmax(scores, dim=1)
        return math.log(scores.shape[1]) + (log_q.exp() * log_q).sum(dim=1)

    def imbalance(self, scores: Tensor) -> Tensor:
        """KL(mean of q over the batch | uniform): 0 where all k are used equally often."""
        mean = softmax(scores, dim=1).mean(dim=0)
        return (mean * (mean * len(mean)).clamp(min=1e-12).log()).sum()


@dataclass(frozen=True)
class IndexRecovery:
    """How often the index was told right.

    Attributes:
        accuracy: share of sequences, under the matching of potentials to transformations that is best for it.
        error: its standard error.
        matching: the transformation that potential k was matched with, K numbers.
        counts: sequences of transformation j (column) that were given potential k (row).
    """

    accuracy: float
    error: float
    matching: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]


def index_recovery(told: Tensor, labels: Tensor, potentials: int) -> IndexRecovery:
    """The share of indices `told` `[n]` that agree with the true ones `[n]`, by the best permutation of their names.

    Raises:
        WrongShape: the two are not of equally many sequences, or not of whole numbers below `potentials`.
    """
    if told.shape != labels.shape or told.dim() != 1 or not len(told):
        raise WrongShape(f"{list(told.shape)} indices for {list(labels.shape)} sequences; expected [n] and [n]")
    for name, one in (("told", told), ("labels", labels)):
        if one.is_floating_point() or int(one.min()) < 0 or int(one.max()) >= potentials:
            raise WrongShape(
                f"`{name}` holds {one.dtype} from {one.min()} to {one.max()}; expected whole numbers from 0 to "
                f"{potentials - 1}, as there are {potentials} potentials"
            )
    counts = torch.zeros(potentials, potentials, dtype=torch.long)
    counts.index_put_((told, labels), torch.ones_like(labels), accumulate=True)
    rows, columns = linear_sum_assignment(-counts.numpy())
    share = float(counts[rows, columns].sum()) / len(told)
    return IndexRecovery(
        accuracy=share,
        error=math.sqrt(share * (1 - share) / len(told)),
        matching=tuple(int(j) for j in columns),
        counts=tuple(tuple(row) for row in counts.tolist()),
    )
