r"""Training of VAEs whose codes flow, with the index of the transformation known or not.

With B_k the bound of a sequence for index k, see `structured.py`, and a uniform prior over k,

$$\log p(x_0, \dots, x_T) \ge \sum_k q(k) B_k - KL(q(k) | 1 / K).$$

**inferred**: the sum over k is taken term by term. Its largest value is at $q^*(k) \propto \exp(B_k)$, where it is
$\log \frac{1}{K} \sum_k \exp(B_k)$; flows and decoder are trained for that, and q(k | x_0, x_T) learns $q^*$ by its
cross entropy. In the beginning $q^* \propto \exp(B_k / \tau)$ with a temperature of many nats, that falls to 1: or else
a potential that is best for a few sequences in the first iterations would take them all.

**gumbel**: the expectation is taken at a relaxed draw, weights y on the simplex that move codes by
$\sum_k y_k v_k$, the gradient of the mixed potential, and q is trained through it. One path a sequence instead of K.
The relaxation gets harder, and in the first half a term asks that on average all k are used, as the prior says.

**sparse**: several transformations act at once, each with its own speed; weights are drawn from a posterior with spikes
and slabs, see `sparse.py`.

Sources: Ueda & Nakano, Deterministic annealing EM (1998); Jang, Gu & Poole, Categorical reparameterization with
Gumbel-softmax (2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, softmax

from pinnflow.errors import DeclarationError, UnknownName
from pinnflow.latent.baselines import baseline
from pinnflow.latent.carried import CarriedPrior
from pinnflow.latent.flow import PotentialFlow
from pinnflow.latent.generators.mixed import MixedImages
from pinnflow.latent.generators.moving import MovingImages
from pinnflow.latent.generators.training import Loop, Progress, seeded
from pinnflow.latent.generators.vae import VAE, elbo_terms
from pinnflow.latent.index import IndexPosterior
from pinnflow.latent.presets import PRESETS
from pinnflow.latent.sparse import SparsePosterior, SpikeSlab
from pinnflow.latent.structured import StructuredVAE
from pinnflow.latent.transitions import LinearTransition, Still
from pinnflow.latent.traversal import Flow, positive

EQUAL = 20.0  # nats a sequence: weight of an index used equally often, when a training by Gumbel's noise begins

MakeFlow = Callable[[VAE, int, int, int], Flow]

FIRST_SPEED = 0.03  # of fields without a scale of their own: root mean square of the first velocities


def _slow(name: str) -> MakeFlow:
    """A trained field of the baselines, slow at first: it moves codes by several units a step otherwise."""

    def make(vae: VAE, K: int, steps: int, seed: int) -> Flow:
        flow: Any = baseline(name, vae, potentials=K, objectives=[], seed=seed)
        z = flow.sample(256, seed)
        with torch.no_grad():
            speed = flow.velocity(z, 1.0, torch.arange(256) % K).square().sum(dim=1).mean().sqrt()
        flow.scale_velocity(FIRST_SPEED / float(speed))
        return flow

    return make


TRANSITIONS: dict[str, MakeFlow] = {
    "none": lambda vae, K, steps, seed: Still(vae, vae.latent_dim, K, name="no flow"),
    "linear": lambda vae, K, steps, seed: LinearTransition(vae, vae.latent_dim, K, seed=seed),
    "potential": lambda vae, K, steps, seed: PotentialFlow(
        vae, potentials=K, form="none", objectives=[], steps=steps, seed=seed, name="potential"
    ),
    "helmholtz": _slow("helmholtz"),
    "free": _slow("free"),
}
"""What moves codes, by name, as functions `(vae, K, T, seed) -> Flow`; the names of equations are others."""

NETWORKS = ("potential", "helmholtz", "free")


def make_transition(transition: str | MakeFlow, vae: VAE, K: int, steps: int, seed: int) -> Flow:
    """The flow meant by a name: of `TRANSITIONS`, or of an equation, whose potentials obey it.

    Raises:
        UnknownName: there is neither.
    """
    if callable(transition):
        return transition(vae, K, steps, seed)
    if transition in TRANSITIONS:
        return TRANSITIONS[transition](vae, K, steps, seed)
    if transition in PRESETS:
        return PotentialFlow(vae, potentials=K, pde=transition, objectives=[], steps=steps, seed=seed)
    raise UnknownName("transition", transition, [*TRANSITIONS, *PRESETS])


def train_structured_vae(
    sequences: MovingImages,
    transition: str | MakeFlow = "hamilton-jacobi",
    *,
    steps: int = 5,
    index: str = "known",
    latent_dim: int = 12,
    architecture: str = "mlp",
    width: int | None = 256,
    beta: float = 1.0,
    agreement: float = 1.0,
    alone: tuple[float, float] = (0.0, 0.0),
    later: int | None = None,
    carried: int = 0,
    potentials: int | None = None,
    sparsity: SpikeSlab | None = None,
    temperature: float = 100.0,
    warmup: float = 0.3,
    iterations: int = 2000,
    batch: int = 32,
    rate: float = 4e-3,
    flow_rate: float | None = None,
    seed: int = 0,
    time_limit: float | None = None,
    progress: Progress = None,
) -> StructuredVAE:
    """A VAE and its transitions, trained together from scratch; the same seed gives the same weights.

    Pixels are drawn black or white anew in every iteration, with the probability that the grey says.

    Args:
        sequences: what is to be modelled.
        transition: `none`, `linear`, `potential` (a network without an equation), `helmholtz` (a potential and a part
            without divergence), `free`, the name of an equation that the potentials obey, or a function
            `(vae, K, T, seed) -> Flow`.
        steps: T.
        index: `known`; or `inferred` or `gumbel` where labels are not to be looked at; or `sparse` where several
            transformations may act at once and nothing is said of which.
        latent_dim, architecture, width: form of the VAE.
        beta: weight of the divergence from the prior; 1 is the bound of the likelihood.
        agreement: weight of the encoder's loss on images at t > 0, which trains nothing else.
        alone: of a known index, how much the bound of single images weighs, each with a normal code of its own, against
            that of the sequence: in the beginning and in the end of the training. 1 makes an ordinary VAE.
        later: of a known index, how many of the images at t > 0 of a sequence are looked at in an iteration, drawn anew
            and counted for the others, too; None: all. A few make iterations cheaper, and the bound stays the same.
        carried: steps of a Hamilton-Jacobi flow that carries N(0, I) to the prior of codes, see `carried.py`; 0: none.
        potentials: K, by default one for each transformation, and two more for `sparse`.
        sparsity: of `sparse`: how often and how fast a transformation acts before anything is seen; None: a potential
            acts with probability 0.03, at a speed of 1 +- 0.3.
        temperature: of an `inferred` index in the beginning, in nats.
        warmup: share of the iterations over which the weight of the divergence rises from 0: with the whole weight from
            the start on, a short training leaves most of the codes unused.
        iterations, batch, rate: batches, sequences in each, and the largest step of Adam.
        flow_rate: the largest step for the weights of the flow; None: 0.002 for networks (`potential`, `helmholtz`,
            `free`), which larger ones spoil, else 0.01.
        seed: of weights, batches and noise.
        time_limit: seconds; None: no limit.
        progress: see `Loop`.

    Returns:
        The model in evaluation mode, its weights frozen.

    Raises:
        UnknownName: no such transition or way to treat the index.
        DeclarationError: what is asked for makes no sense, alone or together.
        NonFinite: the loss is no number.
    """
    if not isinstance(sequences, MovingImages):
        raise TypeError(
            f"`sequences` is a {type(sequences).__name__}; expected those of `moving_images('sprites')`, or "
            "`MovingImages(name, names, start, rates, labels, draw)` for some of your own"
        )
    if index not in STEPS:
        raise UnknownName("way to treat the index", index, STEPS)
    if flow_rate is None:
        flow_rate = 2e-3 if transition in NETWORKS else 1e-2
    numbers = {"beta": beta, "agreement": agreement, "temperature": temperature, "warmup": warmup, "rate": rate}
    for name, value in (numbers | {"flow_rate": flow_rate}).items():
        size = "a positive number" if "rate" in name else "0 or more"
        if not value >= 0 or ("rate" in name and not 0 < value < math.inf):
            raise DeclarationError(f"structured vae: `{name}` is {value}; expected {size}.")
    positive("width", 1 if width is None else width)
    positive("latent_dim", latent_dim)
    positive("iterations", iterations)
    _check_alone(alone, index)
    if later is not None and (index != "known" or not positive("later", later) <= steps):
        raise DeclarationError(
            f"structured vae: `later` is {later}, the index {index}; expected 1 to {steps} images, and `index='known'`."
        )
    if index == "known" and isinstance(sequences, MixedImages) and transition != "none":
        raise DeclarationError(
            f"structured vae: in {sequences.name} several transformations act at once, so that no sequence has one "
            "index; expected `index='sparse'`, or flows learned from single ones and `infer_sets(model, mixed)`."
        )
    count = len(sequences.names)
    K = positive("potentials", (count + 2 if index == "sparse" else count) if potentials is None else potentials)
    if count > K:
        raise DeclarationError(f"structured vae: {K} `potentials`; expected one for each of {count} transformations.")
    steps = positive("steps", steps)
    with seeded(seed):
        vae = VAE(sequences.image_shape, latent_dim, architecture, width, f"{sequences.name}-vae")
    flow = make_transition(transition, vae, K, steps, seed)
    model = StructuredVAE(vae, flow, steps, prior=CarriedPrior(latent_dim, carried, seed=seed) if carried else None)
    if model.moves:
        told = (sequences.image_shape, K)
        model.index = SparsePosterior(*told, sparsity, seed) if index == "sparse" else IndexPosterior(*told, seed)
    groups = [{"params": list(vae.parameters()), "rate": rate}]
    if model.field is not None:
        groups.append({"params": list(model.field.parameters()), "rate": flow_rate})
    if model.prior is not None:
        groups.append({"params": list(model.prior.parameters()), "rate": flow_rate})
    if model.index is not None:
        groups.append({"params": list(model.index.parameters()), "rate": rate})
    optimiser = torch.optim.Adam(groups, lr=rate, fused=True)
    grey = _drawn_once(sequences, steps)
    loop = Loop(f"vae, {flow.name}", len(sequences), batch, iterations, seed, time_limit, progress)
    step = STEPS[index] if model.moves else _independent
    if step is _known:
        step = partial(_known, later=steps if later is None else later)
    if max(alone) > 0 and model.moves:
        step = _beside
    model.train()
    for rows in loop:
        for group in optimiser.param_groups:
            group["lr"] = loop.annealed(group["rate"])
        frames = torch.bernoulli(grey[:, rows].float() / 255, generator=loop.draw)
        heat = max(1.0, temperature) ** max(0.0, 1 - 2 * loop.iteration / iterations)  # 1 from the middle on
        share = alone[0] + (alone[1] - alone[0]) * loop.iteration / iterations
        dial = share if step is _beside else heat
        missed, divergence, of_index, codes = step(model, frames, sequences.labels[rows], loop, dial)
        warm = min(1.0, loop.iteration / (warmup * iterations)) if warmup else 1.0
        parts = {"missed": missed, "divergence": warm * beta * divergence, "index": of_index}
        if agreement and codes is not None:
            t = int(torch.randint(1, len(frames), (), generator=loop.draw))  # of one time: it costs an encoding
            parts["agreement"] = agreement * _outside(vae, codes[t - 1], frames[t])
        loss = torch.stack(list(parts.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimiser.step()
        loop.tell(loss=loss, **parts)
    model.eval().requires_grad_(False)
    model.history, model.stop = loop.history, loop.stop
    return model


def _check_alone(alone, index):
    if not (isinstance(alone, (tuple, list)) and len(alone) == 2 and all(0 <= share <= 1 for share in alone)):
        raise DeclarationError(
            f"structured vae: `alone` is {alone!r}; expected two shares from 0 to 1, in the beginning and in the end."
        )
    if max(alone) > 0 and index != "known":
        raise DeclarationError(
            f"structured vae: `alone` is {alone!r} and the index {index}; expected `index='known'` with `alone`."
        )


def _drawn_once(sequences: MovingImages, steps: int) -> Tensor:
    """All images in bytes, `[T + 1, n, c, h, w]`: drawing them anew is a sixth of the time of an iteration."""
    parts = [sequences.frames(rows, steps) for rows in torch.arange(len(sequences)).split(256)]
    return torch.cat([(255 * part).round().to(torch.uint8) for part in parts], dim=1)


def _independent(model, frames, labels, loop, heat):
    """Images that have nothing to do with each other: an ordinary VAE."""
    flat = frames.flatten(0, 1)
    noise = loop.noise(len(flat), model.vae.latent_dim)
    if model.prior is None:
        missed, divergence = elbo_terms(model.vae, flat, noise)
    else:
        z, away = model.drawn(flat, noise)
        missed, divergence = model.missed(z, flat).mean(), away.mean()
    return missed, divergence, missed.new_zeros(()), None


# The steps below answer with nats an image: -log p(x | z), KL of q(z_0), what belongs to the index; and codes z_1, ...,
# z_T that the encoder is to cover, [T, n, d]. The posterior of the index is trained beside a known index too.


def _known(model, frames, labels, loop, heat, later):
    n, T, images = frames.shape[1], len(frames) - 1, frames.shape[0] * frames.shape[1]
    noise = loop.noise(n, model.vae.latent_dim)
    if later < T:
        z, divergence = model.drawn(frames[0], noise)
        path = model.path(z, labels, T)
        at = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(T, generator=loop.draw)[:later]])
        missed = model.missed(path[at], frames[at])
        missed = missed[0] + T / later * missed[1:].sum(dim=0)
    else:
        missed, divergence, path = model.bound_terms(frames, labels, noise)
    of_index = cross_entropy(model.index(frames[0], frames[-1]), labels, reduction="sum")
    return missed.sum() / images, divergence.sum() / images, of_index / images, path[1:].detach()


def _beside(model, frames, labels, loop, share):
    """The bound of single images, all of them, and that of the sequence, of the first image and another one."""
    n, T, images = frames.shape[1], len(frames) - 1, frames.shape[0] * frames.shape[1]
    missed, divergence, *_ = _independent(model, frames, labels, loop, share)
    if share < 1:
        z, once = model.drawn(frames[0], loop.noise(n, model.vae.latent_dim))
        t = int(torch.randint(1, T + 1, (), generator=loop.draw))
        path = model.path(z, labels, t)
        along = model.missed(torch.stack([path[0], path[t]]), torch.stack([frames[0], frames[t]]))
        missed = share * missed + (1 - share) * (along[0] + T * along[1]).sum() / images
        divergence = share * divergence + (1 - share) * once.sum() / images
    of_index = cross_entropy(model.index(frames[0], frames[-1]), labels, reduction="sum")
    return missed, divergence, of_index / images, None


def _gumbel(model, frames, labels, loop, heat):
    n, images, progress = frames.shape[1], frames.shape[0] * frames.shape[1], loop.iteration / loop.iterations
    scores = model.index(frames[0], frames[-1])
    weights = model.index.relaxed(scores, loop.relaxation(), loop.draw)
    of_index = model.index.divergence(scores).sum()
    if progress < 0.5:
        # All potentials are to be used, or else one that does for two transformations takes both.
        of_index = of_index + n * EQUAL * (1 - 2 * progress) * model.index.imbalance(scores)
    else:
        # Forwards a whole draw, backwards the relaxed one: each potential is to do for a transformation by itself.
        whole = torch.nn.functional.one_hot(weights.argmax(dim=1), weights.shape[1]).to(weights)
        weights = whole + weights - weights.detach()
    missed, divergence, path = model.bound_terms(frames, weights, loop.noise(n, model.vae.latent_dim))
    return missed.sum() / images, divergence.sum() / images, of_index / images, path[1:].detach()


def _inferred(model, frames, labels, loop, heat):
    """The bound for every k on two images of the sequence beside the first: the last, and one drawn."""
    n, T, K = frames.shape[1], len(frames) - 1, model.flow.potentials
    images = frames.shape[0] * n
    z, divergence = model.drawn(frames[0], loop.noise(n, model.vae.latent_dim))
    path = model.path(z.repeat_interleave(K, dim=0), torch.arange(K).repeat(n), T).unflatten(1, (n, K))
    first = model.missed(path[0, :, 0], frames[0])
    last = model.missed(path[T], frames[T][:, None].expand(-1, K, -1, -1, -1))  # [n, K]
    if T > 1:
        t = int(torch.randint(1, T, (), generator=loop.draw))
        later = last + (T - 1) * model.missed(path[t], frames[t][:, None].expand(-1, K, -1, -1, -1))
    else:
        later = last
    best = softmax(-later.detach() / heat, dim=1)  # q*
    missed = first + (best * later).sum(dim=1)
    scores = model.index(frames[0], frames[-1])
    of_index = -(best * log_softmax(scores, dim=1)).sum(dim=1)
    chosen = path[1:, torch.arange(n), best.argmax(dim=1)].detach()
    return missed.sum() / images, divergence.sum() / images, of_index.sum() / images, chosen


def _sparse(model, frames, labels, loop, heat):
    """Weights of all potentials at once, drawn from relaxed spikes and slabs."""
    n, images, progress = frames.shape[1], frames.shape[0] * frames.shape[1], loop.iteration / loop.iterations
    q, parts, temperature = model.index, model.index(frames[0], frames[-1]), loop.relaxation()
    q.usage.lerp_(torch.sigmoid(parts[0].detach()).mean(dim=0), 0.05)
    if progress < 0.5:
        # All speeds 1 at first: free ones would let the potentials be any mixtures of the transformations.
        weights = q.spikes(parts[0], temperature, loop.draw)
        away = q.prior.spike_divergence(parts[0], 0.5 * (2 * q.prior.probability) ** (2 * progress))
    else:
        weights = q.draw(parts, temperature, loop.draw)
        away = q.prior.divergence(*parts, q.usage.clamp(1e-3, 0.5))
    missed, divergence, path = model.bound_terms(frames, weights, loop.noise(n, model.vae.latent_dim))
    return missed.sum() / images, divergence.sum() / images, away.sum() / images, path[1:].detach()


STEPS: dict[str, Callable] = {"known": _known, "inferred": _inferred, "gumbel": _gumbel, "sparse": _sparse}


def _outside(vae: VAE, codes: Tensor, images: Tensor) -> Tensor:
    """-log q(z_t | x_t) of codes `[n, d]` and images `[n, c, h, w]` in the mean, up to a constant."""
    mean, log_variance = vae.encode(images)
    away = (codes.to(mean) - mean).square() * torch.exp(-log_variance)
    return 0.5 * (away + log_variance).sum() / len(codes)
