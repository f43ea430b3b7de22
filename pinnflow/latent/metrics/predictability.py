"""Variation predictability (VP): how well a small network, shown a few pairs, tells which traversal was walked.

As published (Zhu, Xu, Tao, Learning disentangled representations with latent variation predictability, ECCV 2020), a
ConvNet sees the pixel difference of the two ends of a walk and predicts k, with 10 % of the pairs to learn from and
90 % to be tested on. Made fair here: the number of epochs is fixed (no stopping at the best test accuracy), nothing is
normalised over a batch (which could leak k), and differences count in eight-bit steps, without compression.

VP says how recognisable the K walks are, not that each changes one thing: a field that pulls everything to K points
scores highest. Chance is 1/K, so only scores of equal K compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pinnflow.errors import NonFinite, WrongShape
from pinnflow.latent.traversal import positive

WIDTH = 16  # channels of the first convolution
BATCH = 32
RATE = 3e-3  # of Adam, at the top of one cycle
LARGEST = 64  # pixels a side; larger images are averaged down
LEVELS = 255  # steps between black and white of an eight-bit file


@dataclass(frozen=True)
class Predictability:
    """Test accuracy of the few-shot classifier over repeats.

    Attributes:
        scores: one for each repeat (other split, other start of the network).
        classes: K.
        pairs: how many there were, for learning and testing together.
        epochs: how often the pairs for learning were seen.
        share: of the pairs that were learned from.
    """

    scores: tuple[float, ...]
    classes: int
    pairs: int
    epochs: int
    share: float

    @property
    def mean(self) -> float:
        """Mean of the repeats."""
        return float(np.mean(self.scores))

    @property
    def spread(self) -> float:
        """Sample standard deviation of the repeats; 0 for a single one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0

    @property
    def chance(self) -> float:
        """1/K, what guessing gives."""
        return 1 / self.classes

    def __str__(self) -> str:
        several = len(self.scores) > 1
        spread = f" +- {self.spread:.3f}" if several else ""
        return (
            f"VP {self.mean:.3f}{spread} (K = {self.classes}, chance {self.chance:.3f}, {self.pairs} pairs, "
            f"{self.share:.0%} to learn from, {self.epochs} epochs, {len(self.scores)} repeat{'s' * several})"
        )


def variation_predictability(
    before: Tensor,
    after: Tensor,
    labels: Tensor | Sequence,
    *,
    repeats: int = 3,
    seed: int = 0,
    epochs: int = 30,
    share: float = 0.1,
) -> Predictability:
    """Few-shot accuracy at telling k from the images at the two ends of a walk.

    Args:
        before: images at the start, `[n, c, h, w]`, in any range; 8 to 64 pixels a side are used as they are.
        after: images at the end, of the same shape.
        labels: which walk each pair shows, `[n]`; only whether two are equal matters, not their names.
        repeats: how many splits and networks.
        seed: of the splits, the networks and the order of learning; nothing global is touched.
        epochs: passes over the pairs for learning, fixed beforehand.
        share: of the pairs of every label that is learned from.

    Raises:
        WrongShape: the images or labels do not belong together.
        NonFinite: an image is not finite.
        ValueError: fewer than two labels, or too few pairs to learn from one of each label; numbers that make no sense.

    Source: Zhu, Xu, Tao, ECCV 2020; deviations in the head of this file.
    """
    before, after = torch.as_tensor(before), torch.as_tensor(after)
    if before.dim() != 4 or before.shape != after.shape:
        raise WrongShape(
            f"the images before and after have the shapes {tuple(before.shape)} and {tuple(after.shape)}; "
            "expected [n, channels, height, width] twice"
        )
    k, classes = canonical(labels, len(before))
    if classes < 2:
        raise ValueError(f"`labels` holds {classes} label; to tell walks apart takes two or more")
    positive("repeats", repeats)
    positive("epochs", epochs)
    if not 0 < share < 1:
        raise ValueError(f"`share` is {share}; it must lie between 0 and 1")
    fewest = int(torch.bincount(k).min())
    if round(share * fewest) < 1:
        raise ValueError(
            f"one label has only {fewest} pairs, of which a share of {share} leaves none to learn from; "
            f"give {math.ceil(0.5 / share) + 1} or more pairs of each"
        )
    change = difference(before, after)
    k = k.to(change.device)
    scores = [_accuracy(change, k, classes, epochs, share, seed + 1000 * r) for r in range(repeats)]
    return Predictability(tuple(scores), classes, len(k), epochs, share)


def canonical(labels: Tensor | Sequence, rows: int) -> tuple[Tensor, int]:
    """`(k [n], K)`: labels counted in the order in which they first appear, so that their names cannot matter."""
    names = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if names.shape != (rows,):
        raise WrongShape(f"`labels` has the shape {names.shape}; expected one for each of {rows} pairs")
    _, first, which = np.unique(names, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return torch.as_tensor(rank[which.reshape(-1)]), len(first)


def difference(before: Tensor, after: Tensor) -> Tensor:
    """`after - before` in whole eight-bit steps of the range of `before`, `[n, c, h, w]`, at most 64 pixels wide.

    Rounding makes a change of less than half a grey level count as none, instead of a signal that a normalisation
    would blow up. (Rounding the two images instead would not: wherever they pass the edge of a level, it shows.)
    """
    for name, images in (("before", before), ("after", after)):
        if not bool(torch.isfinite(images).all()):
            raise NonFinite(f"an image `{name}` the walk is not finite")
    low, high = before.amin(), before.amax()
    step = torch.where(high > low, (high - low) / LEVELS, torch.ones_like(high))
    change = torch.round((after - before) / step).float()
    factor = math.ceil(max(change.shape[-2:]) / LARGEST)
    return F.avg_pool2d(change, factor, ceil_mode=True) if factor > 1 else change


def _accuracy(change, k, classes, epochs, share, seed):
    """Test accuracy of one network, learned on one split."""
    noise = torch.Generator().manual_seed(seed)
    learned, tested = split(k.cpu(), share, noise)
    predict = learn(change[learned], k[learned], classes, epochs, noise)
    hits = [(predict(change[rows]) == k[rows]).sum() for rows in tested.split(512)]
    return float(sum(hits)) / len(tested)


def learn(change: Tensor, k: Tensor, classes: int, epochs: int, noise: torch.Generator) -> Callable[[Tensor], Tensor]:
    """The trained network as a function from differences `[m, c, h, w]` to labels `[m]`.

    It sees the pairs for learning alone: their size sets the unit, and the number of epochs is fixed.

    Args:
        change: differences, `[n, c, h, w]`, float32.
        k: labels `[n]`, whole numbers below `classes`.
        classes: K.
        epochs: passes over the pairs.
        noise: draws the first weights and the order of the pairs.
    """
    size = change.square().mean().sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    weights = [w.to(change.device).requires_grad_() for w in start(change.shape[1:], classes, noise)]
    optimiser = torch.optim.Adam(weights, lr=RATE)
    updates = epochs * math.ceil(len(change) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=updates)
    with torch.enable_grad():
        for _ in range(epochs):
            for rows in torch.randperm(len(change), generator=noise).split(BATCH):
                optimiser.zero_grad()
                F.cross_entropy(logits(weights, change[rows] / size), k[rows]).backward()
                optimiser.step()
                schedule.step()

    def predict(new):
        with torch.no_grad():
            return logits(weights, new / size).argmax(dim=1)

    return predict


def split(k, share, noise):
    """Row numbers to learn from and to be tested on: `share` of every label, drawn anew for each repeat."""
    learned, tested = [], []
    for label in range(int(k.max()) + 1):
        rows = (k == label).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=noise)]
        cut = round(share * len(rows))
        learned.append(rows[:cut])
        tested.append(rows[cut:])
    return torch.cat(learned), torch.cat(tested)


def start(shape, classes, noise):
    """Weights of the ConvNet: convolutions down to 4 x 4 pixels or less, then one linear map."""
    channels, *size = shape
    width, weights = WIDTH, []
    for stride in _strides(size):
        weights += [_he((width, channels, 3, 3), 9 * channels, noise), torch.zeros(width)]
        channels, width, size = width, 2 * WIDTH, [-(-s // stride) for s in size]
    inputs = channels * size[0] * size[1]
    return [*weights, _he((classes, inputs), 2 * inputs, noise), torch.zeros(classes)]


def _strides(size):
    """Of the convolutions: 2 until 4 pixels are left, after strides of 1 where that makes fewer than three."""
    halvings = max(0, math.ceil(math.log2(max(size) / 4)))
    return [1] * (3 - halvings) + [2] * halvings


def _he(shape, inputs, noise):
    """He's start of a layer before a rectifier: N(0, 2 / inputs)."""
    return torch.randn(shape, generator=noise) * math.sqrt(2 / inputs)


def logits(weights: list[Tensor], change: Tensor) -> Tensor:
    """`[n, K]`; every row by itself: no statistics of the batch, through which k could leak."""
    *convolutions, matrix, offset = weights
    for weight, bias, stride in zip(convolutions[::2], convolutions[1::2], _strides(change.shape[-2:])):
        change = F.relu(F.conv2d(change, weight, bias, stride=stride, padding=1))
    return change.flatten(1) @ matrix.T + offset
