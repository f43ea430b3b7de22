"""The networks inside the trained generators: from images to numbers, and from latents to images.

Two architectures by name: `mlp` for images of at most 256 pixels, `conv` for sides up to 64 and more. None of them uses
statistics of the batch, so a row's image depends on that row alone, and every network is smooth (SiLU).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from pinnflow.errors import DeclarationError, UnknownName

ImageShape = tuple[int, int, int]
Wrap = Callable[[nn.Module], nn.Module]


def identity(module: nn.Module) -> nn.Module:
    """The module itself."""
    return module


def checked_shape(image_shape: Sequence[int], name: str) -> ImageShape:
    """`image_shape` as a tuple `(c, h, w)`, if it is one.

    Raises:
        DeclarationError: it is not.
    """
    shape = tuple(int(n) for n in image_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise DeclarationError(
            f"{name}: `image_shape` is {tuple(image_shape)}; expected (channels, height, width), e.g. (1, 28, 28)."
        )
    return shape


def halvings(h: int, w: int) -> int:
    """How often both sides can be halved while they stay whole and at least 4: 28, 14, 7; 64, 32, 16, 8, 4."""
    count = 0
    while h % 2 == 0 and w % 2 == 0 and min(h, w) >= 8:
        h, w, count = h // 2, w // 2, count + 1
    return count


def stage_widths(stages: int, width: int) -> list[int]:
    """Channels at full resolution and after each halving: doubled, up to 8 times."""
    return [width * min(2**i, 8) for i in range(stages + 1)]


def mlp_encoder(image_shape: ImageShape, outputs: int, width: int, wrap: Wrap, act: type[nn.Module]) -> nn.Module:
    """Images `[n, c, h, w]` to numbers `[n, outputs]` by two hidden layers."""
    return nn.Sequential(
        nn.Flatten(),
        wrap(nn.Linear(math.prod(image_shape), width)),
        act(),
        wrap(nn.Linear(width, width)),
        act(),
        wrap(nn.Linear(width, outputs)),
    )


def mlp_decoder(image_shape: ImageShape, latent_dim: int, width: int) -> nn.Module:
    """Latents `[n, d]` to logits `[n, c, h, w]` by two hidden layers."""
    return nn.Sequential(
        nn.Linear(latent_dim, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, math.prod(image_shape)),
        nn.Unflatten(1, image_shape),
    )


def conv_encoder(image_shape: ImageShape, outputs: int, width: int, wrap: Wrap, act: type[nn.Module]) -> nn.Module:
    """Images `[n, c, h, w]` to numbers `[n, outputs]`: strided convolutions, then two linear layers."""
    c, h, w = image_shape
    stages = halvings(h, w)
    channels = stage_widths(stages, width)[1:] if stages else []
    layers: list[nn.Module] = []
    for i, o in zip([c, *channels], channels):
        layers += [wrap(nn.Conv2d(i, o, 4, stride=2, padding=1)), act()]
    rest = (channels[-1] if channels else c) * (h >> stages) * (w >> stages)
    layers += [nn.Flatten(), wrap(nn.Linear(rest, 8 * width)), act(), wrap(nn.Linear(8 * width, outputs))]
    return nn.Sequential(*layers)


def conv_decoder(image_shape: ImageShape, latent_dim: int, width: int) -> nn.Module:
    """Latents `[n, d]` to logits `[n, c, h, w]`: a linear layer, then transposed convolutions."""
    c, h, w = image_shape
    stages = halvings(h, w)
    channels = stage_widths(stages, width)[::-1]
    start = (channels[0], h >> stages, w >> stages)
    layers: list[nn.Module] = [
        nn.Linear(latent_dim, 8 * width),
        nn.SiLU(),
        nn.Linear(8 * width, math.prod(start)),
        nn.Unflatten(1, start),
        nn.SiLU(),
    ]
    for i, o in pairwise(channels):
        layers += [nn.ConvTranspose2d(i, o, 4, stride=2, padding=1), nn.SiLU()]
    layers.append(nn.Conv2d(channels[-1], c, 3, padding=1))
    return nn.Sequential(*layers)


ARCHITECTURES: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module], int]] = {
    "mlp": (mlp_encoder, mlp_decoder, 256),
    "conv": (conv_encoder, conv_decoder, 16),
}


def choose_architecture(name: str, image_shape: ImageShape) -> str:
    """`name`, or for `auto` the one that suits the size of the image.

    Raises:
        UnknownName: no such architecture.
    """
    if name == "auto":
        return "mlp" if math.prod(image_shape) <= 256 else "conv"
    if name not in ARCHITECTURES:
        raise UnknownName("architecture", name, [*ARCHITECTURES, "auto"])
    return name


def make_encoder(
    architecture: str,
    image_shape: ImageShape,
    outputs: int,
    width: int | None = None,
    wrap: Wrap = identity,
    act: type[nn.Module] = nn.SiLU,
) -> nn.Module:
    """`images [n, c, h, w] -> [n, outputs]`; `wrap` goes around every layer with weights (spectral normalisation)."""
    encoder, _, usual = ARCHITECTURES[architecture]
    return encoder(image_shape, outputs, width or usual, wrap, act)


def make_decoder(architecture: str, image_shape: ImageShape, latent_dim: int, width: int | None = None) -> nn.Module:
    """`z [n, d] -> logits [n, c, h, w]`."""
    _, decoder, usual = ARCHITECTURES[architecture]
    return decoder(image_shape, latent_dim, width or usual)


def over_rows(module: Callable[[Tensor], Tensor], x: Tensor, inner: int) -> Tensor:
    """The module applied to a tensor whose last `inner` axes are one row, with any axes before them."""
    lead = x.shape[: x.ndim - inner]
    y: Any = module(x.reshape(-1, *x.shape[x.ndim - inner :]))
    return y.reshape(*lead, *y.shape[1:])
