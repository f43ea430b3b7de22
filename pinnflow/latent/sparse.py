r"""Which transformations act at once, and how fast? A sparse posterior of their weights: spikes and slabs.

A sequence goes along all K transformations together, $z_t = z_{t-1} + \sum_k s_k v_k(z_{t-1}, t)$ with

$$s_k = b_k g_k, \qquad b_k \sim \mathrm{Bernoulli}(\pi), \qquad g_k \sim N(1, \sigma^2):$$

the spike b says whether k acts, the slab g how fast. With $q(b_k = 1) = \gamma_k$, and g of a transformation that acts
normal with mean $m_k$ and deviation $r_k$ (of one that does not, as the prior says: nothing depends on it),

$$KL(q | p) = \sum_k \gamma_k \log \frac{\gamma_k}{\pi} + (1 - \gamma_k) \log \frac{1 - \gamma_k}{1 - \pi} +
  \gamma_k \Big( \log \frac{\sigma}{r_k} + \frac{r_k^2 + (m_k - 1)^2}{2 \sigma^2} - \frac{1}{2} \Big),$$

and a bound of the likelihood with it stays a bound. Draws of b are relaxed for training: sigmoid((log odds + noise) /
temperature) with logistic noise.

**Training** finds the potentials and their weights together and has bad optima: one potential for a transformation, and
another for what a second one has more than the first. Two things help. There are more potentials than transformations,
so that each finds one of its own; and pi falls from 1/2 to a small number, so that those which are not needed cease to
act. In the second half pi is for each potential how often it acts (automatic relevance determination).

Sources: Song, Keller, Sebe & Welling, Flow factorized representation learning (NeurIPS 2023), for the task; Mitchell &
Beauchamp, Bayesian variable selection in linear regression (1988), for the prior; Maddison, Mnih & Teh (2017) and Jang,
Gu & Poole (2017) for relaxed draws; MacKay (1992) for relevance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from pinnflow.errors import DeclarationError, WrongShape
from pinnflow.latent.objectives import DifferenceNetwork


@dataclass(frozen=True)
class SpikeSlab:
    """The prior of the weights of each transformation.

    Args:
        probability: pi, that it acts.
        spread: sigma, of the speed around 1.

    Raises:
        DeclarationError: no such distribution.
    """

    probability: float = 0.03
    spread: float = 0.3

    def __post_init__(self):
        if not 0 < self.probability < 1:
            raise DeclarationError(f"spike: `probability` is {self.probability}; expected a number between 0 and 1.")
        if not self.spread > 0:
            raise DeclarationError(f"slab: `spread` is {self.spread}; expected a positive number.")

    def divergence(
        self, log_odds: Tensor, mean: Tensor, log_variance: Tensor, probability: float | Tensor | None = None
    ) -> Tensor:
        """KL(q | p) of the weights of a sequence, `[n]`, from what the posterior answers, `[n, K]` each.

        Args:
            log_odds, mean, log_variance: of the posterior.
            probability: other pi, one for all or `[K]`.
        """
        ratio = log_variance - 2 * math.log(self.spread)
        slab = 0.5 * (ratio.exp() + ((mean - 1) / self.spread).square() - 1 - ratio)
        return self.spike_divergence(log_odds, probability) + (torch.sigmoid(log_odds) * slab).sum(dim=1)

    def spike_divergence(self, log_odds: Tensor, probability: float | Tensor | None = None) -> Tensor:
        """The same where all speeds are known to be 1, `[n]`."""
        pi = torch.as_tensor(self.probability if probability is None else probability, dtype=log_odds.dtype)
        gamma = torch.sigmoid(log_odds)
        on, off = logsigmoid(log_odds) - pi.log(), logsigmoid(-log_odds) - torch.log1p(-pi)
        return (gamma * on + (1 - gamma) * off).sum(dim=1)


class SparsePosterior(nn.Module):
    """q(b, g | x_0, x_T): independent over the transformations, told from the first and the last image.

    Args:
        image_shape: `(c, h, w)`.
        potentials: K.
        prior: of the weights.
        seed: of the first weights of the network.
        width: channels of the first convolution.

    Attributes:
        usage: how often each potential acted in the last batches of the training, `[K]`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        potentials: int,
        prior: SpikeSlab | None = None,
        seed: int = 0,
        width: int = 12,
    ):
        super().__init__()
        c, h, w = image_shape
        self.potentials, self.prior = potentials, prior or SpikeSlab()
        self.register_buffer("usage", torch.full((potentials,), 0.5))
        self.usage: Tensor
        self.network = DifferenceNetwork(c, (h, w), 3 * potentials, width, torch.Generator().manual_seed(seed))

    def forward(self, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log odds of b, mean and log variance of g, `[n, K]` each, for images `[n, c, h, w]`."""
        log_odds, mean, narrower = self.network(first, last).chunk(3, dim=1)
        return log_odds, 1 + self.prior.spread * mean, 2 * math.log(self.prior.spread) - softplus(narrower)

    def probabilities(self, first: Tensor, last: Tensor) -> Tensor:
        """q(b_k = 1), `[n, K]`."""
        return torch.sigmoid(self(first, last)[0])

    def weights(self, first: Tensor, last: Tensor) -> Tensor:
        """The most probable b times the mean of g, `[n, K]`."""
        log_odds, mean, _ = self(first, last)
        return torch.where(log_odds > 0, mean, torch.zeros_like(mean))

    def draw(self, parts: tuple[Tensor, Tensor, Tensor], temperature: float, generator: torch.Generator) -> Tensor:
        """Weights s `[n, K]` with relaxed spikes, differentiable; whole ones for the temperature 0."""
        log_odds, mean, log_variance = parts
        spikes = self.spikes(log_odds, temperature, generator)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return spikes * (mean + torch.exp(0.5 * log_variance) * noise)

    def spikes(self, log_odds: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """b `[n, K]` between 0 and 1, differentiable; 0 or 1 for the temperature 0."""
        uniform = torch.rand(log_odds.shape, generator=generator, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        noisy = log_odds + torch.logit(uniform).to(log_odds)
        return torch.sigmoid(noisy / temperature) if temperature > 0 else (noisy > 0).to(noisy)


@dataclass(frozen=True)
class SetRecovery:
    """How well the sets of transformations that act at once were told.

    Attributes:
        whole: share of sequences with the whole set right.
        precision: share of the transformations told to act that do.
        recall: share of the transformations that act and are told to.
        f1: harmonic mean of the two.
        matching: the transformation that potential k was matched with, or -1 for one too many.
        chance: `(whole, f1)` of the same answers given to other sequences, under their own best matching.
    """

    whole: float
    precision: float
    recall: float
    f1: float
    matching: tuple[int, ...]
    chance: tuple[float, float]


def set_recovery(told: Tensor, acting: Tensor, *, seed: int = 0) -> SetRecovery:
    """How often the sets `told` `[n, P]` agree with the true ones `[n, K]`, by the best naming of P >= K potentials.

    A potential that is left over is wrong wherever it acts.

    Args:
        told, acting: True where a potential, a transformation acts.
        seed: of the order of sequences that chance is measured by.

    Raises:
        WrongShape: the two are not of equally many sequences, or there are fewer potentials than transformations.
    """
    if told.dim() != 2 or acting.dim() != 2 or len(told) != len(acting) or told.shape[1] < acting.shape[1]:
        raise WrongShape(f"sets {list(told.shape)} for {list(acting.shape)}; expected [n, P] and [n, K] with P >= K")
    told, acting = told.bool().cpu(), acting.bool().cpu()
    order = torch.randperm(len(told), generator=torch.Generator().manual_seed(seed))
    whole, precision, recall, matching = _agreement(told, acting)
    others = _agreement(told[order], acting)
    return SetRecovery(
        whole, precision, recall, _f1(precision, recall), matching, (others[0], _f1(others[1], others[2]))
    )


def _agreement(told, acting):
    """Whole sets, precision and recall, and the transformation of each potential, under the best matching."""
    agree = (told[:, :, None] == acting[:, None, :]).sum(dim=0) - (~told).sum(dim=0)[:, None]  # to being left over
    rows, columns = linear_sum_assignment(-agree.numpy())
    matching = torch.full((told.shape[1],), -1)
    matching[torch.as_tensor(rows)] = torch.as_tensor(columns)
    truth = acting[:, matching.clamp(min=0)] & (matching >= 0)
    right = float((told & truth).sum())
    return (
        float((told == truth).all(dim=1).double().mean()),
        right / max(1, int(told.sum())),
        right / max(1, int(acting.sum())),
        tuple(int(j) for j in matching),
    )


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
