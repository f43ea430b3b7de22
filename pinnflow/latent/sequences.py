"""What a model of sequences is worth: likelihood of sequences and of single images, and equivariance.

All of it for a `StructuredVAE`, whose `flow` may be one without movement: then a sequence is T + 1 images that have
nothing to do with each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pinnflow.errors import DeclarationError, WrongShape
from pinnflow.latent.generators.mixed import MixedImages
from pinnflow.latent.generators.moving import MovingImages
from pinnflow.latent.likelihood import Bernoulli, Likelihood, Pixels, importance_weighted, together
from pinnflow.latent.rendering import at_rest
from pinnflow.latent.structured import StructuredVAE
from pinnflow.latent.traversal import Flow, positive

REFINED = 0.05  # the first step of Adam in mean and log variance


def sequence_likelihood(
    model: StructuredVAE,
    frames: Tensor,
    labels: Tensor,
    samples: int = 64,
    *,
    refine: int = 0,
    pixels: Pixels | None = None,
    seed: int = 0,
) -> Likelihood:
    """The importance-weighted bound of log p(x_0, ..., x_T | k), nats a sequence.

    The encoder looks at x_0 alone, and few of its draws may suit the other images: then the bound is loose, and says
    so (`effective`). `refine` lets the draws of each sequence know all of its images; any draws give a bound.

    Args:
        model: of sequences.
        frames: `[T + 1, n, c, h, w]`; for Bernoulli pixels black and white, `likelihood.binarised`, or it is no bound.
        labels: k, `[n]`.
        samples: draws of q(z_0 | x_0); without movement, of q(z | x) of every image.
        refine: steps of Adam that raise the bound with one draw in mean and variance of q, for each sequence by itself
            (without movement, each image), beginning with what the encoder answers.
        pixels: p(x_t | z_t); by default `Bernoulli()`.
        seed: of the draws.

    Raises:
        WrongShape: frames and labels do not belong together.
    """
    _check(frames, labels)
    if not isinstance(refine, int) or refine < 0:
        raise ValueError(f"`refine` is {refine!r}; it must be a whole number, 0 or more")
    pixels, vae, length, c = pixels or Bernoulli(), model.vae, len(frames), frames.shape[2]
    prior = None if model.prior is None else model.log_first
    if refine:
        parts = [frames] if model.moves else frames.unsqueeze(1)  # without movement sequences of one image
        return together([_refined(model, x, labels, samples, refine, pixels, seed + t) for t, x in enumerate(parts)])
    if not model.moves:
        alone = [
            importance_weighted(vae, x, samples, pixels=pixels, prior=prior, seed=seed + t)
            for t, x in enumerate(frames)
        ]
        return together(alone)

    def decoded(z, k):
        answer = getattr(vae, pixels.decoder)(model.path(z, k, length - 1).flatten(0, 1))
        return answer.unflatten(0, (length, len(z))).transpose(0, 1).flatten(1, 2)

    images = frames.transpose(0, 1).flatten(1, 2)  # one image of (T + 1) c channels
    pair = (lambda x: vae.encode(x[:, :c]), decoded)
    known = None if prior is None else lambda z, k: prior(z)
    return importance_weighted(pair, images, samples, pixels=pixels, prior=known, given=labels, seed=seed)


def _refined(model, frames, labels, samples, steps, pixels, seed) -> Likelihood:
    """The bound with draws from a q of its own for each sequence."""
    length, decode = len(frames), getattr(model.vae, pixels.decoder)
    images = frames.transpose(0, 1).flatten(1, 2)  # one image of (T + 1) c channels

    def decoded(z, k):
        answer = decode(model.path(z, k, length - 1).flatten(0, 1))
        return answer.unflatten(0, (length, len(z))).transpose(0, 1).flatten(1, 2)

    with torch.no_grad(), at_rest(model):
        mean, log_variance = (one.to(model.flow.dtype).clone() for one in model.vae.encode(frames[0]))
    draw = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam([mean.requires_grad_(), log_variance.requires_grad_()], REFINED)
    with torch.enable_grad(), at_rest(model):
        for i in range(steps):
            adam.param_groups[0]["lr"] = REFINED * (1 - i / steps)
            z = mean + torch.exp(log_variance / 2) * torch.randn(mean.shape, generator=draw, dtype=mean.dtype)
            log_p = pixels.log_likelihood(decoded(z, labels).double(), images.double())
            loss = -(log_p + model.log_first(z) + log_variance.sum(dim=1) / 2).sum()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
    mean, scale = mean.detach(), torch.exp(log_variance.detach() / 2)

    # e ~ N(0, I) stands for z_0 = mean + scale e, so its prior is that of z_0 times the product of the scales.
    def origin(e, rows):
        return mean[rows] + scale[rows] * e.to(mean)

    def prior(e, rows):
        return model.log_first(origin(e, rows)) + scale[rows].log().sum(dim=1)

    def encode(x):
        return x.new_zeros(len(x), mean.shape[1]), x.new_zeros(len(x), mean.shape[1])

    with at_rest(model):
        return importance_weighted(
            (encode, lambda e, rows: decoded(origin(e, rows), labels[rows])),
            images,
            samples,
            pixels=pixels,
            prior=prior,
            given=torch.arange(len(labels)),
            seed=seed,
        )


def image_likelihood(
    model: StructuredVAE,
    frames: Tensor,
    labels: Tensor,
    samples: int = 64,
    *,
    widened: float = 1.0,
    pixels: Pixels | None = None,
    seed: int = 0,
) -> list[Likelihood]:
    r"""The bounds of log p(x_t | k, t) for every image alone, t = 0, ..., T.

    The prior of z_t is the density that the flow carries there, N(0, I) without movement. What k and t are worth to a
    model that knows them is at most log(1 + K T) nats, see `pinnflow.latent.structured`. The integral is taken over
    z_0, where no determinants are needed, with draws from the normal distribution that has its mode and its curvature
    in common with $N(z_0; 0, I) \, q(F_{k,t}(z_0) | x_t)$; the weights count it as they count any other q.

    Args:
        model, frames, labels, samples, pixels, seed: as for `sequence_likelihood`.
        widened: the variances of q(z_t | x_t) are multiplied by it, a positive number. An encoder that was trained on
            sequences is as sure as a whole sequence makes it, more than one image can; draws from a wider q may give a
            closer bound.
    """
    _check(frames, labels)
    if not 0 < widened < math.inf:
        raise ValueError(f"`widened` is {widened!r}; it must be a positive number")
    pixels, vae, found = pixels or Bernoulli(), model.vae, []
    decode = getattr(vae, pixels.decoder)

    def wide(x):
        mean, log_variance = vae.encode(x)
        return mean, log_variance + math.log(widened)

    for t, x in enumerate(frames):
        if not (t and model.moves):
            first = None if model.prior is None else model.log_first
            found.append(importance_weighted((wide, decode), x, samples, pixels=pixels, prior=first, seed=seed + t))
            continue
        with torch.no_grad():
            mean, log_variance = wide(x)
        start, spread = _pulled_back(model, mean, log_variance, labels, t)  # [n, d], [n, d, d]
        size = torch.linalg.slogdet(spread).logabsdet

        # e ~ N(0, I) stands for z_0 = start + spread e, so its prior is N(z_0; 0, I) |det spread|.
        def origin(e, rows, start=start, spread=spread):
            return start[rows] + (spread[rows] @ e.to(start)[:, :, None])[:, :, 0]

        def prior(e, rows, origin=origin, size=size):
            return model.log_first(origin(e, rows)) + size[rows]

        def decoded(e, rows, origin=origin, t=t):
            return decode(model.path(origin(e, rows), labels[rows], t)[-1])

        def encode(x, like=mean):
            return x.new_zeros(len(x), like.shape[1]), x.new_zeros(len(x), like.shape[1])

        rows = torch.arange(len(x))
        how: Any = {"pixels": pixels, "prior": prior, "given": rows, "seed": seed + t}
        found.append(importance_weighted((encode, decoded), x, samples, **how))
    return found


def _pulled_back(model, mean, log_variance, k, t, iterations=30):
    """Mode and Cholesky factor of the covariance, for z_0, of N(z_0; 0, I) N(F_{k,t}(z_0); mean, variance).

    Gauss and Newton's method, damped row by row: where F contracts, z_0 is what the prior says.
    """
    mean, weight = mean.to(model.flow.dtype), torch.exp(-log_variance.to(model.flow.dtype))

    def misfit(z):
        with torch.no_grad():
            end = model.path(z, k, t)[-1]
        return (z.square().sum(dim=1) + (weight * (end - mean).square()).sum(dim=1)) / 2

    def normal_equations(z):
        with torch.enable_grad():
            begin = z.detach().requires_grad_()
            end = model.path(begin, k, t)[-1]
            J = torch.stack([torch.autograd.grad(c.sum(), begin, retain_graph=True)[0] for c in end.unbind(1)], dim=1)
        away = (weight * (end.detach() - mean))[:, :, None]
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        return J.mT @ (weight[:, :, None] * J) + eye, (J.mT @ away)[:, :, 0] + z

    with torch.no_grad():
        z = 2 * mean - model.path(mean, k, t)[-1]
    value, damping = misfit(z), torch.full((len(z), 1, 1), 1e-3, dtype=z.dtype)
    for _ in range(iterations):
        curvature, slope = normal_equations(z)
        scaled = curvature + damping * torch.diag_embed(torch.diagonal(curvature, dim1=1, dim2=2))
        trial = z - torch.linalg.solve(scaled, slope)
        reached = misfit(trial)
        better = reached < value
        z, value = torch.where(better[:, None], trial, z), torch.where(better, reached, value)
        damping = torch.where(better[:, None, None], damping / 5, damping * 5).clamp(1e-9, 1e9)
    return z, torch.linalg.cholesky(torch.linalg.inv(normal_equations(z)[0]))


@dataclass(frozen=True)
class SequenceError:
    """How far continued sequences are from the true ones, sums over pixels and images.

    Attributes:
        error: sum of |decode(z_t) - x_t| over t = 1, ..., T, over that of |x_0 - x_t|, what the transformation changes.
        along: the same for every t alone, those beyond the trained length too.
        each: the same for every transformation, over t = 1, ..., T.
        beyond: the same for the steps after the T-th.
        pixel: mean of |decode(z_t) - x_t| over pixels and t = 1, ..., T.
        floor: the error of |decode(encode(x_t)) - x_t|, over t = 1, ..., T: what a perfect flow would be left with.
    """

    error: float
    along: tuple[float, ...]
    each: tuple[float, ...]
    beyond: float
    pixel: float
    floor: float


def sequence_error(
    model: StructuredVAE,
    sequences: MovingImages,
    *,
    steps: int | None = None,
    flow: Flow | None = None,
    matching: Sequence[int] | None = None,
    rows: int = 500,
) -> SequenceError:
    """|decode(flow(encode x_0)) - x_t| along sequences that were not trained on.

    Args:
        model: its encoder and decoder.
        sequences: others than it was trained on, of the same kind.
        steps: to go, more than the trained T for what lies beyond; by default T.
        flow: another one in the same space of codes; by default the model's own.
        matching: the transformation that each potential stands for, `index_recovery(...).matching`, where the index was
            found without labels.
        rows: so many sequences, the first.

    Raises:
        DeclarationError: several transformations act at once, or `matching` names no transformation or one twice.
    """
    if isinstance(sequences, MixedImages):
        raise DeclarationError(
            f"{sequences.name}: several transformations act at once, so that no sequence goes along one potential; "
            "walk them by weights instead, `model.continued(first, model.index.weights(first, last))`."
        )
    steps, T = model.steps if steps is None else steps, model.steps
    flow = model.flow if flow is None else flow
    vae, K = model.vae, len(sequences.names)
    matching = range(K) if matching is None else [int(j) for j in matching]
    if sorted(matching) != list(range(K)):
        raise DeclarationError(
            f"`matching` is {matching}; expected each of the {K} transformations once, as in "
            "`index_recovery(...).matching`."
        )
    potential = torch.tensor(matching).argsort()
    totals = torch.zeros(3, steps, K, dtype=torch.float64)  # [missed, moved, missed by encoding x_t itself]
    size = 0
    with torch.no_grad():
        for part in torch.arange(min(positive("rows", rows), len(sequences))).split(256):
            frames, k = sequences.frames(part, steps), sequences.labels[part]
            path = flow.traverse(vae.encode(frames[0])[0], potential[k], steps, None)
            shown = vae.decode(path[1:])
            again = vae.decode(vae.encode(frames[1:])[0])
            for total, other in zip(totals, (shown, frames[:1], again)):
                total.index_add_(1, k, (other - frames[1:]).abs().flatten(2).sum(dim=2).double())
            size += frames[0].numel()
    missed, moved, floor = totals
    within = slice(None, min(T, steps))
    return SequenceError(
        error=float(missed[within].sum() / moved[within].sum()),
        along=tuple((missed.sum(dim=1) / moved.sum(dim=1)).tolist()),
        each=tuple((missed[within].sum(dim=0) / moved[within].sum(dim=0)).tolist()),
        beyond=float(missed[T:].sum() / moved[T:].sum()) if steps > T else float("nan"),
        pixel=float(missed[within].sum() / (size * min(T, steps))),
        floor=float(floor[within].sum() / moved[within].sum()),
    )


def _check(frames, labels):
    if frames.dim() != 5 or labels.shape != frames.shape[1:2]:
        raise WrongShape(
            f"frames {list(frames.shape)} and labels {list(labels.shape)}; expected [T + 1, n, c, h, w] and [n]"
        )
