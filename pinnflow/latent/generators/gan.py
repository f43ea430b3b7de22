"""A small generative adversarial network with spectral normalisation, trained on the spot.

The critic D has spectral norm 1 in every layer and minimises E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]; the
generator minimises -E[D(G(z))]. What is returned is the running average of the generator's weights, which is smoother
in z and steadier than the last iterate.

Source: Miyato et al., Spectral Normalization for Generative Adversarial Networks (2018); Yaz et al., The Unusual
Effectiveness of Averaging in GAN Training (2019).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pinnflow.errors import DeclarationError
from pinnflow.latent.generators.data import ImageSet, images_of
from pinnflow.latent.generators.learned import LearnedGenerator
from pinnflow.latent.generators.nets import make_decoder, make_encoder, over_rows
from pinnflow.latent.generators.storage import storable
from pinnflow.latent.generators.training import Loop, Progress, frozen, seeded, set_rate
from pinnflow.latent.rendering import usual_device


@storable
class GAN(LearnedGenerator):
    """The generator of a GAN: `z [..., d] -> images [..., c, h, w]` in [0, 1].

    Args:
        image_shape: `(c, h, w)`.
        latent_dim: d.
        architecture: `mlp`, `conv`, or `auto`: mlp up to 256 pixels.
        width: as for `VAE`.
        name: what reports call it.

    Attributes:
        history, stop: what training told; empty for one from a file.
    """

    kind = "gan"

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 8,
        architecture: str = "auto",
        width: int | None = None,
        name: str = "gan",
    ):
        super().__init__(image_shape, latent_dim, architecture, width, name)
        self.decoder = make_decoder(self.architecture, self.image_shape, latent_dim, width)

    def forward(self, z: Tensor) -> Tensor:
        """Images of the latents."""
        weight = next(self.decoder.parameters())
        return torch.sigmoid(over_rows(self.decoder, self.checked(z).to(weight.dtype), 1))


def train_gan(
    data: str | PathLike[str] | ImageSet | Tensor,
    *,
    latent_dim: int = 8,
    architecture: str = "auto",
    width: int | None = None,
    iterations: int = 2500,
    batch: int = 64,
    rate: float = 1e-3,
    average: float = 0.995,
    seed: int = 0,
    time_limit: float | None = None,
    progress: Progress = None,
    device: torch.device | str | None = None,
    name: str | None = None,
) -> GAN:
    """A GAN trained on images; the same seed gives the same weights on the same kind of machine.

    Args:
        data: the images: a set, a tensor `[n, c, h, w]` in [0, 1], a registered name, or the path of an .npz file.
        latent_dim, architecture, width: form of the generator; the critic mirrors it.
        iterations, batch, rate: a step of each network in every iteration; the largest step of Adam (beta1 = 0).
        average: of the running average of the weights, per iteration, in [0, 1).
        seed: of weights, batches and noise.
        time_limit: seconds; None: no limit.
        progress: see `Loop`.
        device: where to train; None: the GPU if there is one.
        name: what reports call it; None: `<data>-gan`.

    Returns:
        The averaged generator in evaluation mode, its weights frozen.
    """
    found = images_of(data)
    if not 0 <= average < 1:
        raise DeclarationError(f"gan: `average` is {average}; expected a number in [0, 1).")
    where = usual_device(device)
    with seeded(seed):
        gan = GAN(found.image_shape, latent_dim, architecture, width, name or f"{found.name}-gan").to(where)
        critic = make_encoder(gan.architecture, gan.image_shape, 1, width, spectral_norm, LeakyReLU).to(where)
    averaged = copy.deepcopy(gan)
    images = found.images.to(where)
    generating = torch.optim.Adam(gan.parameters(), rate, betas=(0.0, 0.99), fused=True)
    judging = torch.optim.Adam(critic.parameters(), rate, betas=(0.0, 0.99), fused=True)
    loop = Loop(gan.name, len(images), batch, iterations, seed, time_limit, progress)
    for rows in loop:
        for optimiser in (generating, judging):
            set_rate(optimiser, loop.annealed(rate))
        with torch.no_grad():
            drawn = gan(loop.noise(len(rows), latent_dim).to(where))
        scores = critic(torch.cat([images[rows.to(where)], drawn]))
        real, unreal = scores.chunk(2)
        hinge = torch.relu(1.0 - real).mean() + torch.relu(1.0 + unreal).mean()
        _step(judging, hinge, critic)
        critic.requires_grad_(False)
        score = critic(gan(loop.noise(len(rows), latent_dim).to(where))).mean()
        critic.requires_grad_(True)
        _step(generating, -score, gan)
        with torch.no_grad():
            # The first iterations count little: the average of t iterates has at most the weight (t - 1) / (t + 9).
            keep = min(average, (loop.iteration - 1) / (loop.iteration + 9))
            torch._foreach_lerp_(list(averaged.parameters()), list(gan.parameters()), 1.0 - keep)
        loop.tell(hinge=hinge, score=score)
    averaged.history, averaged.stop = loop.history, loop.stop
    return frozen(averaged)


class LeakyReLU(nn.LeakyReLU):
    """max(x, 0.2 x)."""

    def __init__(self):
        super().__init__(0.2)


def _step(optimiser: torch.optim.Optimizer, loss: Tensor, module: nn.Module) -> None:
    module.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
