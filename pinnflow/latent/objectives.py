"""What potentials are trained for: small objects that give one number for a walk, and combine by adding up.

An objective sees a `Walk`: codes before and after, with images on demand. `PotentialFlow(objectives=[...])` takes any
list of them; one of your own is a subclass of `Objective` with a `forward(walk)`.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pinnflow.latent.rendering import images, own_device, own_dtype, push_forward
from pinnflow.latent.traversal import unit

if TYPE_CHECKING:
    from pinnflow.latent.training import TrainedFlow


class Walk:
    """A batch of walks in training; row i goes along its own field, in its own direction.

    Attributes:
        flow: whose walks they are.
        path: codes after 0, 1, ... steps, `[n, d]` each, with gradients.
        k: fields, `[n]`.
        sign: directions, `[n, 1]`, 1 or -1.
        branches: so many rows in a row begin at the same code.
        first, last: the steps `[n]` between which each row's images are compared, first < last.
        generator: of random numbers for objectives that need some.
    """

    def __init__(self, flow: TrainedFlow, path: list[Tensor], k, sign, branches, first, last, generator):
        self.flow, self.path, self.k, self.sign = flow, path, k, sign
        self.branches, self.first, self.last, self.generator = branches, first, last, generator

    @property
    def way(self) -> Tensor:
        """A number for field and direction, `[n]`: k, or k + K against the velocity."""
        return self.k + self.flow.potentials * (self.sign[:, 0] < 0)

    @cached_property
    def codes(self) -> Tensor:
        """The path as one tensor, `[steps + 1, n, d]`."""
        return torch.stack(self.path)

    @cached_property
    def before(self) -> Tensor:
        return self.codes[self.first, torch.arange(len(self.k), device=self.k.device)]

    @cached_property
    def after(self) -> Tensor:
        return self.codes[self.last, torch.arange(len(self.k), device=self.k.device)]

    @cached_property
    def images(self) -> tuple[Tensor, Tensor]:
        """Images before and after, `[n, c, h, w]` each."""
        # Walks from one start that begin there share its image.
        shared = self.path[0][:: self.branches]
        own = self.first > 0
        drawn = images(self.flow.generator, torch.cat([shared, self.before[own], self.after]))
        begin, moved, after = drawn.split([len(shared), int(own.sum()), len(self.k)])
        before = begin.repeat_interleave(self.branches, dim=0)
        if len(moved):
            before = before.index_put((own.nonzero()[:, 0].to(before.device),), moved)
        return before, after

    @cached_property
    def time(self) -> Tensor:
        """The time of the step that leads on from `before`, `[n]`."""
        return (self.first + 1).to(self.before.dtype)

    @cached_property
    def velocity(self) -> Tensor:
        """v_k at `before`, `[n, d]`."""
        return self.flow.velocity(self.before, self.time, self.k)


class Objective(nn.Module):
    """One number for a walk, to be made small.

    Args:
        weight: by which it counts.
    """

    name = "objective"
    two_way = False
    """Whether walks in training have to go against the velocities as well."""
    further = 0
    """Steps that are made for this objective alone after every step of the training, the walks being given."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"the weight of `{self.name}` is {weight!r}; it must be a number >= 0")
        self.weight = float(weight)

    def prepare(self, flow: TrainedFlow, generator: torch.Generator) -> None:
        """Called once before training, when the flow and the size of its images are known."""

    def forward(self, walk: Walk) -> Tensor:
        raise NotImplementedError

    def accuracy(self, walk: Walk) -> float | None:
        """Share of the walks of a batch whose field is told right, for progress; None where nothing is told."""
        return None


class Classifier(Objective):
    """Cross entropy of a network that has to tell from the change of the image along which field a walk went.

    The network is small and sees the difference of two images only, at half the resolution: a large one that sees both
    images tells fields apart by details that few examples do not show. No normalisation over the batch: its statistics
    would tell k to a network that sees nothing else.

    Args:
        weight: as for all.
        sign: whether walks go both ways and the direction has to be told as well.
        channels: of the first convolution; the second has twice as many.
    """

    name = "classifier"

    def __init__(self, weight: float = 1.0, *, sign: bool = False, channels: int = 12):
        super().__init__(weight)
        self.two_way, self.channels = sign, channels

    def prepare(self, flow, generator):
        with torch.no_grad():
            c, height, width = images(flow.generator, flow.sample(1)).shape[1:]
        classes = flow.potentials * (2 if self.two_way else 1)
        self.network = DifferenceNetwork(c, (height, width), classes, self.channels, generator)
        self.network.to(device=own_device(flow.generator, flow.device), dtype=own_dtype(flow.generator))

    def forward(self, walk):
        logits = self.network(*walk.images)
        return nn.functional.cross_entropy(logits, self._labels(walk).to(logits.device)).to(walk.before.dtype)

    @torch.no_grad()
    def accuracy(self, walk: Walk) -> float:
        """Share of rows told right."""
        logits = self.network(*walk.images)
        return float((logits.argmax(dim=1) == self._labels(walk).to(logits.device)).double().mean())

    def _labels(self, walk):
        return walk.way if self.two_way else walk.k


class DifferenceNetwork(nn.Module):
    """Scores of classes from what changed in an image: pooling to at most 16 pixels, two convolutions, one layer.

    Args:
        channels: of the images.
        size: height and width in pixels.
        classes: how many.
        width: channels of the first convolution.
        generator: of the first weights.
    """

    def __init__(self, channels: int, size: tuple[int, int], classes: int, width: int, generator: torch.Generator):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(tuple(min(16, side) for side in size))
        first = nn.Conv2d(channels, width, 5, stride=2, padding=2)
        second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        pixels = math.prod(-(-min(16, side) // 4) for side in size)
        head = nn.Linear(2 * width * pixels, classes)
        self.layers = nn.Sequential(first, nn.LeakyReLU(0.1), second, nn.LeakyReLU(0.1), nn.Flatten(), head)
        with torch.no_grad():
            for layer in (first, second, head):
                draw = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(draw * (2.0 / layer.weight[0].numel()) ** 0.5)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        return self.layers(self.pool(4 * (after - before)))


class Reconstruction(Objective):
    """The published objective for linear directions: tell from both images along which field and how far a walk went.

    Cross entropy for the field plus the mean distance of the signed length, walks going either way; a network with
    three convolutions sees the two images side by side.

    Args:
        weight: as for all.
        shift: weight of the second part in the sum.

    Source: Voynov & Babenko, Unsupervised Discovery of Interpretable Directions in the GAN Latent Space (ICML 2020).
    """

    name = "reconstruction"
    two_way = True

    def __init__(self, weight: float = 1.0, *, shift: float = 0.25):
        super().__init__(weight)
        self.shift = float(shift)

    def prepare(self, flow, generator):
        with torch.no_grad():
            c, height, width = images(flow.generator, flow.sample(1)).shape[1:]
        self.network = PairNetwork(c, (height, width), flow.potentials + 1, generator)
        self.network.to(device=own_device(flow.generator, flow.device), dtype=own_dtype(flow.generator))

    def forward(self, walk):
        scores = self.network(*walk.images)
        told = nn.functional.cross_entropy(scores[:, :-1], walk.k.to(scores.device))
        length = (walk.last - walk.first).to(walk.sign) * walk.sign[:, 0]
        missed = (scores[:, -1] - length.to(scores)).abs().mean()
        return (told + self.shift * missed).to(walk.before.dtype)

    @torch.no_grad()
    def accuracy(self, walk: Walk) -> float:
        """Share of rows whose field is told right."""
        scores = self.network(*walk.images)[:, :-1]
        return float((scores.argmax(dim=1) == walk.k.to(scores.device)).double().mean())


class PairNetwork(nn.Module):
    """Scores from two images side by side: three strided convolutions, two layers.

    Args:
        channels: of the images.
        size: height and width in pixels.
        scores: how many.
        generator: of the first weights.
    """

    def __init__(self, channels: int, size: tuple[int, int], scores: int, generator: torch.Generator):
        super().__init__()
        widths = (2 * channels, 16, 32, 64)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(0.1)]
        pixels = math.prod(-(-side // 8) for side in size)
        layers += [nn.Flatten(), nn.Linear(64 * pixels, 64), nn.LeakyReLU(0.1), nn.Linear(64, scores)]
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            for weight in self.layers.parameters():
                draw = torch.randn(weight.shape, generator=generator)
                weight.copy_(draw * (2.0 / weight[0].numel()) ** 0.5 if weight.dim() > 1 else 0 * draw)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        return self.layers(torch.cat([before, after], dim=1))


class Movement(Objective):
    """Minus the logarithm of the mean square of J v, the change of the image along the velocity: visible movement.

    With `by_direction` (the default) v counts by its direction only, so that nothing is won by growing; the logarithm
    makes the objective independent of the contrast of the images. J v by forward mode.
    """

    name = "movement"

    def __init__(self, weight: float = 0.1, *, by_direction: bool = True):
        super().__init__(weight)
        self.by_direction = by_direction

    def forward(self, walk):
        v = unit(walk.velocity) if self.by_direction else walk.velocity
        change = push_forward(walk.flow.generator, walk.before, v)
        return -torch.log(change.square().mean(dim=1) + 1e-12).mean().to(v.dtype)


class Spread(Objective):
    """Keeps walks from running together: those along one field should end about as far apart as they began.

    For every field the variance of the ends is compared with that of the starts, both within the batch; what is missing
    to `least` counts squared. Without it a classifier rewards fields that collapse everything onto K points.

    Args:
        weight: as for all.
        least: the share of the variance below which a field is held back.
    """

    name = "spread"

    def __init__(self, weight: float = 100.0, *, least: float = 0.85):
        super().__init__(weight)
        self.least = least

    def forward(self, walk):
        start, end = walk.path[0], walk.path[-1]
        ways = walk.flow.potentials * (2 if walk.flow.two_way else 1)
        way = walk.way if walk.flow.two_way else walk.k
        same = nn.functional.one_hot(way, ways).to(start.dtype)
        count = same.sum(dim=0)

        def within(z):
            mean = (same.T @ z) / count.clamp(min=1)[:, None]
            return same.T @ ((z - mean[way]) ** 2).sum(dim=1)

        # Walks along one field from one start alone (K below the number of branches) have nothing to be compared with.
        several = within(start) > 1e-12
        if not bool(several.any()):
            return (end * 0).sum()
        ratio = within(end)[several] / within(start)[several]
        lost = torch.relu(self.least - ratio) ** 2
        return (lost * count[several]).sum() / count.sum()


class Orthogonality(Objective):
    """Mean squared cosine between the movements of different fields at one code, in the image and in the latent space.

    J v_i . J v_j = 0, the pull-back metric, asks for movements that change different pixels; any K fields can be mixed
    so that they satisfy it. Together with v_i . v_j = 0 it singles out the principal axes of the generator, which are
    the factors of the unwarped benchmark (concentration 0.45 without, 0.56 with the first, 0.80 with both).

    Args:
        weight: as for all; the more, the more concentrated and the less predictable are the movements.
        latent: weight of the second part in the sum.
        rows: starts of the batch that are taken, because every one costs K changes of an image.
    """

    name = "orthogonality"

    def __init__(self, weight: float = 3.0, *, latent: float = 1.0, rows: int = 12):
        super().__init__(weight)
        self.latent, self.rows = float(latent), rows

    def forward(self, walk):
        flow, K = walk.flow, walk.flow.potentials
        starts = walk.path[0][:: walk.branches][: self.rows].detach()
        n = len(starts)
        t = 1 + (flow.steps - 1) * torch.rand(n, generator=walk.generator, dtype=torch.float64).to(starts)
        z, k = starts.repeat_interleave(K, dim=0), torch.arange(K, device=starts.device).repeat(n)
        v = unit(flow.velocity(z, t.repeat_interleave(K), k))
        change = push_forward(flow.generator, z, v).to(v.dtype)
        total = _alike(change.unflatten(0, (n, K)))
        return total + self.latent * _alike(v.unflatten(0, (n, K))) if self.latent else total


def _alike(moves: Tensor) -> Tensor:
    """Mean squared cosine between different ones of K vectors `[n, K, m]`."""
    K = moves.shape[1]
    directions = moves / (torch.linalg.vector_norm(moves, dim=2, keepdim=True) + 1e-12)
    cosines = (directions @ directions.mT) ** 2
    different = 1 - torch.eye(K, dtype=moves.dtype, device=moves.device)
    return (cosines * different).sum(dim=(1, 2)).mean() / max(1, K * (K - 1))


class Obedience(Objective):
    """How far the equation is from holding: the square of the residual in units of its terms.

    The mean square of r over the mean of the sum of squares of the terms does not change when a potential is scaled,
    so it cannot be made small by making the potential small; it is taken for each potential, so that none hides behind
    a larger one. Mixed with it is the mean of each row's own ratio, without which the equation would hold only where
    its terms are large. Conditions that do not hold by construction count by their mean square, in units of the mean
    square of the potential. Taken at codes the walks come through and somewhat farther out, one time for each; the
    codes are given, so that walks are not led to where the equation happens to hold.

    Args:
        weight: as for all. A small one leaves potentials that break their equation.
        rows: codes that are taken.
        by_row: share of the rows' own ratios.
        further: steps for the equation alone after every step of the training. They cost less in predictability than
            the same obedience by weight: on the warped generator, one seed, porous medium with `by_row=1`, VP 0.71 with
            the weight 100 alone, 0.80 with the weight 30 and three steps more; residual 0.04 and 0.05.
    """

    name = "equation"

    def __init__(self, weight: float = 30.0, *, rows: int = 192, by_row: float = 0.2, further: int = 2):
        super().__init__(weight)
        self.rows, self.by_row, self.further = rows, float(by_row), further

    def forward(self, walk):
        flow, draw = walk.flow, walk.generator
        codes = walk.codes.detach()
        row = torch.randint(len(walk.k), (self.rows,), generator=draw).to(walk.k.device)
        step = torch.randint(len(codes), (self.rows,), generator=draw).to(walk.k.device)
        outward, late = torch.rand(2, self.rows, generator=draw, dtype=torch.float64).to(codes)
        z = codes[step, row] * (1 + 0.3 * outward[:, None])
        # The whole time axis, and the times of the walks where it ends before them or begins after.
        begin, end = min(flow.equation.begin, 1.0), max(flow.equation.horizon, float(flow.steps))
        return flow.disobedience(z, begin + (end - begin) * late, walk.k[row], draw, self.by_row)
