"""Generators that are trained on the spot, by name, with settings that make good images in about a minute."""

from __future__ import annotations

from os import PathLike
from typing import Any

from pinnflow.latent.generators.data import digits, mnist, sprites
from pinnflow.latent.generators.gan import GAN, train_gan
from pinnflow.latent.generators.registry import register_generator
from pinnflow.latent.generators.vae import VAE, train_vae


@register_generator("digits-vae")
def digits_vae(**settings: Any) -> VAE:
    """`train_vae` on scikit-learn's digits, 8x8."""
    return train_vae(digits(), **settings)


@register_generator("digits-gan")
def digits_gan(**settings: Any) -> GAN:
    """`train_gan` on scikit-learn's digits, 8x8, with convolutions."""
    usual: dict[str, Any] = {"architecture": "conv", "iterations": 2000}
    return train_gan(digits(), **(usual | settings))


@register_generator("mnist-vae")
def mnist_vae(path: str | PathLike[str], *, limit: int | None = 20_000, **settings: Any) -> VAE:
    """`train_vae` on the first `limit` training images of an .npz file, with convolutions.

    Args:
        path: the file, see `data.mnist`.
        limit: how many images; None: all.
        settings: of `train_vae`.
    """
    usual: dict[str, Any] = {"latent_dim": 10, "beta": 0.7, "iterations": 1000, "rate": 3e-3}
    return train_vae(mnist(path, limit=limit), **(usual | settings))


@register_generator("sprites-vae")
def sprites_vae(*, count: int = 8000, size: int = 32, **settings: Any) -> VAE:
    """`train_vae` on rendered sprites.

    Args:
        count: how many images.
        size: pixels a side.
        settings: of `train_vae`.
    """
    # Six latents for five factors: with more, most draws from the prior are of no sprite at all. Convolutions learn
    # more from an iteration, but cost six times as much on a processor.
    usual: dict[str, Any] = {"latent_dim": 6, "beta": 0.3, "iterations": 3000, "rate": 3e-3}
    usual |= {"architecture": "mlp", "width": 512}
    return train_vae(sprites(count, size), **(usual | settings))
