"""Variational autoencoders, trained on the spot.

With z ~ N(0, I), a decoder p(x | z) of independent Bernoulli pixels and a normal encoder q(z | x), training minimises
E_q[-log p(x | z)] + beta KL(q(z | x) | N(0, I)).  With beta = 1 a short training leaves latents that say nothing about
the image; a smaller beta keeps them at work, and `active_latents` counts them.

Source: Kingma & Welling, Auto-Encoding Variational Bayes (2014); Higgins et al., beta-VAE (2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike

import torch
from torch import Tensor, nn

from pinnflow.errors import DeclarationError
from pinnflow.latent.generators.data import ImageSet, images_of
from pinnflow.latent.generators.gate import checked_images
from pinnflow.latent.generators.learned import LearnedGenerator
from pinnflow.latent.generators.nets import make_decoder, make_encoder, over_rows
from pinnflow.latent.generators.storage import storable
from pinnflow.latent.generators.training import Loop, Progress, frozen, seeded, set_rate
from pinnflow.latent.rendering import usual_device

# A latent is at work when its mean varies over the images by more than this (Burda et al., 2016, section 5.2).
ACTIVE = 0.01


@storable
class VAE(LearnedGenerator):
    """An encoder and a decoder; called, it decodes: `z [..., d] -> images [..., c, h, w]` in [0, 1].

    Args:
        image_shape: `(c, h, w)`.
        latent_dim: d.
        architecture: `mlp`, `conv`, or `auto`: mlp up to 256 pixels.
        width: of the hidden layers (mlp), of the channels at full resolution (conv); None: 256 and 16.
        name: what reports call it.

    Attributes:
        activity: variance of each latent's mean over the images it was trained on, relative to the prior's as training
            left it, `[d]`; NaN before training.
        history, stop: what training told; empty for one from a file.
    """

    kind = "vae"

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 8,
        architecture: str = "auto",
        width: int | None = None,
        name: str = "vae",
    ):
        super().__init__(image_shape, latent_dim, architecture, width, name)
        self.encoder = make_encoder(self.architecture, self.image_shape, 2 * latent_dim, width)
        self.decoder = make_decoder(self.architecture, self.image_shape, latent_dim, width)
        self.register_buffer("activity", torch.full((latent_dim,), torch.nan))
        self.activity: Tensor

    def forward(self, z: Tensor) -> Tensor:
        """Images of the latents: the probability of light in each pixel."""
        return self.decode(z)

    def decode(self, z: Tensor) -> Tensor:
        """Images `[..., c, h, w]` of latents `[..., d]`."""
        return torch.sigmoid(self.logits(z))

    def logits(self, z: Tensor) -> Tensor:
        """log(p / (1 - p)) of each pixel, `[..., c, h, w]`."""
        return over_rows(self.decoder, self.checked(z).to(self.activity.dtype), 1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance `[..., d]` of q(z | x) for images `[..., c, h, w]`.

        Raises:
            WrongShape, NonFinite: not such images.
        """
        images = checked_images(images, self.image_shape, self.name).to(self.activity.dtype)
        mean, log_variance = over_rows(self.encoder, images, 3).chunk(2, -1)
        return mean, log_variance

    @property
    def active_latents(self) -> int:
        """How many latents carry something about the image: variance of the mean above 0.01."""
        return int((self.activity > ACTIVE).sum())


def train_vae(
    data: str | PathLike[str] | ImageSet | Tensor,
    *,
    latent_dim: int = 8,
    architecture: str = "auto",
    width: int | None = None,
    beta: float = 0.1,
    iterations: int = 1500,
    batch: int = 64,
    rate: float = 4e-3,
    seed: int = 0,
    time_limit: float | None = None,
    progress: Progress = None,
    device: torch.device | str | None = None,
    name: str | None = None,
) -> VAE:
    """A VAE trained on images; the same seed gives the same weights on the same kind of machine.

    Args:
        data: the images: a set, a tensor `[n, c, h, w]` in [0, 1], a registered name, or the path of an .npz file.
        latent_dim, architecture, width: form of the VAE.
        beta: weight of the divergence from the prior, in nats against nats; below 1 keeps more latents at work.
        iterations, batch, rate: batches, their size, and the largest step of Adam.
        seed: of weights, batches and noise.
        time_limit: seconds; None: no limit.
        progress: see `Loop`.
        device: where to train; None: the GPU if there is one.
        name: what reports call it; None: `<data>-vae`.

    Returns:
        The VAE in evaluation mode, its weights frozen; `active_latents`, `history` and `stop` say how it went.
    """
    found = images_of(data)
    if not isinstance(beta, (int, float)) or not 0 <= beta < math.inf:
        raise DeclarationError(f"vae: `beta` is {beta!r}; expected a number, 0 or more.")
    where = usual_device(device)
    with seeded(seed):
        vae = VAE(found.image_shape, latent_dim, architecture, width, name or f"{found.name}-vae")
    vae.to(where).train()
    images = found.images.to(where)
    optimiser = torch.optim.Adam(vae.parameters(), rate, fused=True)
    loop = Loop(vae.name, len(images), batch, iterations, seed, time_limit, progress)
    for rows in loop:
        set_rate(optimiser, loop.annealed(rate))
        x = images[rows.to(where)]
        reconstruction, divergence = elbo_terms(vae, x, loop.noise(len(x), latent_dim).to(where))
        loss = reconstruction + beta * divergence
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        loop.tell(loss=loss, reconstruction=reconstruction, divergence=divergence)
    frozen(vae)
    standardise(vae, images)
    vae.history, vae.stop = loop.history, loop.stop
    return vae


def standardise(vae: VAE, images: Tensor) -> None:
    """Rescales each latent so that over the images it has mean 0 and variance 1, and notes the activity.

    With beta below 1 the latents of the images spread more widely than N(0, I), and draws from N(0, I) would be images
    that were never learned. The shift and the scale go into the weights next to the latents: the image that comes out
    of an image stays the same.
    """
    with torch.no_grad():
        encoded = [vae.encode(part) for part in images.split(1024)]
        mean, log_variance = (torch.cat(parts).double() for parts in zip(*encoded))
        vae.activity.copy_(mean.var(0, correction=0))
        centre = mean.mean(0)
        spread = (mean.var(0, correction=0) + log_variance.exp().mean(0)).sqrt()
        inward = last_linear(vae.encoder)
        d = vae.latent_dim
        inward.weight[:d] /= spread[:, None]
        inward.bias[:d] = (inward.bias[:d] - centre) / spread
        inward.bias[d:] -= 2.0 * spread.log()
        outward = next(layer for layer in vae.decoder.modules() if isinstance(layer, nn.Linear))
        outward.bias.add_((outward.weight.double() @ centre).to(outward.bias))
        outward.weight *= spread


def last_linear(module: nn.Module) -> nn.Linear:
    """The linear layer that a network ends with."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]


def elbo_terms(vae: VAE, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """-log p(x | z) for z drawn from q(z | x) by `noise` `[n, d]`, and KL(q | N(0, I)): nats, mean over the images."""
    mean, log_variance = vae.encode(images)
    z = mean + torch.exp(0.5 * log_variance) * noise
    pixels = nn.functional.binary_cross_entropy_with_logits(vae.logits(z), images, reduction="sum")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum()
    return pixels / len(images), divergence / len(images)
