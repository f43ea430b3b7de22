"""What every generator checks at its door: latents of the right size, images that are images.

A generator is any callable `z [..., d] -> images [..., c, h, w]` in [0, 1] with the attributes `latent_dim` and
`image_shape`. The ones of this package inherit `Generator`.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from pinnflow.errors import DeclarationError, NonFinite, WrongShape


class Generator(nn.Module):
    """Base of the generators of this package: `z [..., d] -> images [..., c, h, w]` in [0, 1].

    Attributes:
        latent_dim: the number d of latent coordinates; the prior is N(0, I_d).
        image_shape: `(c, h, w)`.
        name: what reports and pictures call it.
    """

    latent_dim: int
    image_shape: tuple[int, int, int]
    name: str = "generator"

    def forward(self, z: Tensor) -> Tensor:
        """Images `[..., c, h, w]` of the latents `[..., d]`."""
        raise NotImplementedError

    def checked(self, z: Tensor) -> Tensor:
        """`z` itself, if its last axis holds `latent_dim` real numbers.

        Raises:
            WrongShape: it does not.
            TypeError: `z` is not a tensor of real floating point numbers.
        """
        return checked_latents(z, self.latent_dim, self.name)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"latent_dim={self.latent_dim}, image_shape={self.image_shape}"


def whole_number(owner: str, label: str, value: Any, least: int = 1) -> int:
    """`value` itself, if it is a whole number and large enough.

    Raises:
        DeclarationError: it is not; the message names whose it is and what it is called.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise DeclarationError(f"{owner}: `{label}` is {value!r}; expected a whole number, at least {least}.")
    return int(value)


def checked_latents(z: Tensor, latent_dim: int, name: str) -> Tensor:
    """`z` itself, if it is a real tensor `[..., latent_dim]`; see `Generator.checked`."""
    if not isinstance(z, Tensor) or not z.is_floating_point():
        found = f"a tensor of {z.dtype}" if isinstance(z, Tensor) else f"a {type(z).__name__}"
        raise TypeError(
            f"{name}: `z` is {found}; expected a tensor of real numbers, e.g. `torch.randn(16, {latent_dim})`."
        )
    if z.ndim == 0 or z.shape[-1] != latent_dim:
        raise WrongShape(
            f"{name}: `z` has the shape {list(z.shape)}; expected [..., {latent_dim}], as the generator has "
            f"{latent_dim} latent coordinates. Draw it with `torch.randn(n, {latent_dim})`."
        )
    return z


def checked_images(images: Tensor, shape: tuple[int, int, int], name: str) -> Tensor:
    """`images` itself, if it is a finite tensor `[..., c, h, w]` with the given `(c, h, w)`.

    Raises:
        WrongShape: the last three axes are others.
        NonFinite: there is a NaN or an infinite value; the message says in how many images.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"{name}: `images` is a {type(images).__name__}; expected a tensor [..., c, h, w].")
    if images.ndim < 3 or tuple(images.shape[-3:]) != tuple(shape):
        raise WrongShape(
            f"{name}: `images` has the shape {list(images.shape)}; expected [..., {', '.join(map(str, shape))}]."
        )
    if not torch.isfinite(images).all():
        bad = int((~torch.isfinite(images)).flatten(-3).any(-1).sum())
        raise NonFinite(f"{name}: {bad} of the images hold NaN or infinite values; pixels are numbers in [0, 1].")
    return images


def in_range(images: Tensor, name: str) -> Tensor:
    """`images` itself, if no pixel lies outside [0, 1].

    Raises:
        DeclarationError: there is one.
    """
    if images.numel() and (float(images.min()) < 0 or float(images.max()) > 1):
        raise DeclarationError(
            f"{name}: pixels reach from {float(images.min()):.6g} to {float(images.max()):.6g}; expected numbers in "
            "[0, 1]. Divide images of bytes by 255."
        )
    return images
