"""Sets of transformations inferred for flows that are known: only the posterior of spikes and slabs is trained."""

from __future__ import annotations

import torch

from pinnflow.errors import DeclarationError, WrongShape
from pinnflow.latent.generators.moving import MovingImages
from pinnflow.latent.generators.training import Loop, Progress
from pinnflow.latent.sparse import SparsePosterior, SpikeSlab
from pinnflow.latent.structured import StructuredVAE


def infer_sets(
    model: StructuredVAE,
    sequences: MovingImages,
    *,
    sparsity: SpikeSlab | None = None,
    iterations: int = 600,
    batch: int = 32,
    rate: float = 4e-3,
    seed: int = 0,
    time_limit: float | None = None,
    progress: Progress = None,
) -> SparsePosterior:
    """The posterior of which transformations of a model act at once in sequences, and how fast.

    The model has learned its transformations one by one, with their names; here are sequences along several of them,
    and nothing is said of which. Encoder, decoder and flows stay as they are; the bound of `pinnflow.latent.sparse` is
    raised by relaxed draws, for the last image and another one of each sequence. The index of transformation k is its
    own.

    Args:
        model: trained on sequences along one transformation each.
        sequences: along several at once; their labels are not looked at.
        sparsity: how often and how fast a transformation acts before anything is seen; None: with probability 0.3, at a
            speed of 1 +- 0.3.
        iterations, batch, rate: batches, sequences in each, and the largest step of Adam.
        seed: of weights, batches and noise.
        time_limit: seconds; None: no limit.
        progress: see `Loop`.

    Raises:
        DeclarationError: the codes of the model do not move.
        WrongShape: the images of the sequences are not those of the model.
    """
    if not model.moves:
        raise DeclarationError(
            f"sets: the codes of `{model.flow.name}` do not move; expected a model trained with a transition, "
            "e.g. `train_structured_vae(single, 'hamilton-jacobi')`."
        )
    if tuple(sequences.image_shape) != tuple(model.vae.image_shape):
        raise WrongShape(
            f"{sequences.name}: images {list(sequences.image_shape)}; expected those of the model, "
            f"{list(model.vae.image_shape)}"
        )
    T, vae = model.steps, model.vae
    q = SparsePosterior(vae.image_shape, model.flow.potentials, sparsity or SpikeSlab(0.3), seed)
    optimiser = torch.optim.Adam(q.parameters(), rate)
    loop = Loop("sets", len(sequences), batch, iterations, seed, time_limit, progress)
    for rows in loop:
        for group in optimiser.param_groups:
            group["lr"] = loop.annealed(rate)
        frames = torch.bernoulli(sequences.frames(rows, T), generator=loop.draw)
        parts = q(frames[0], frames[T])
        weights = q.draw(parts, loop.relaxation(), loop.draw)
        with torch.no_grad():
            z, _ = model.drawn(frames[0], loop.noise(len(rows), vae.latent_dim))
        path = model.path(z, weights, T)
        at = sorted({int(torch.randint(1, T + 1, (), generator=loop.draw)), T})
        missed = (T / len(at)) * model.missed(path[at], frames[at]).sum(dim=0).mean()
        divergence = q.prior.divergence(*parts).mean()
        optimiser.zero_grad(set_to_none=True)
        (missed + divergence).backward()
        optimiser.step()
        loop.tell(loss=missed + divergence, missed=missed, divergence=divergence)
    return q.eval().requires_grad_(False)
