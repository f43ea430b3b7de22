"""A convolutional generator with many latents and random weights: for cost, not for beauty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pinnflow.errors import DeclarationError
from pinnflow.latent.generators.gate import Generator, whole_number
from pinnflow.latent.generators.nets import over_rows
from pinnflow.latent.generators.registry import register_generator
from pinnflow.latent.generators.storage import storable
from pinnflow.latent.generators.training import frozen, seeded

# Deviation of the last layer's output, on which the sigmoid acts.
CONTRAST = 1.5


@register_generator("conv")
@storable
class ConvGenerator(Generator):
    """Transposed convolutions in the manner of DCGAN: `z [..., d] -> images [..., c, size, size]` in [0, 1], untrained.

    The kernels interpolate, with random mixtures of the channels and a little noise: images are smooth colour fields.
    Each layer is scaled so that its features have mean 0 and vary with z by about 1. With `latent_dim=512, size=64` it
    is what the cost of a traversal is measured on.

    Args:
        latent_dim: d.
        size: pixels a side, a power of 2 and at least 8.
        channels: of the images.
        width: channels of the features at full resolution, doubled at every halving up to 8 times.
        seed: of the weights.

    Source: Radford et al., Unsupervised Representation Learning with Deep Convolutional GANs (2016).
    """

    kind = "conv"

    def __init__(self, latent_dim: int = 512, size: int = 64, channels: int = 3, width: int = 16, seed: int = 0):
        super().__init__()
        for label, value in (("latent_dim", latent_dim), ("channels", channels), ("width", width), ("size", size)):
            whole_number("conv", label, value)
        if size < 8 or size & (size - 1):
            raise DeclarationError(f"conv: `size` is {size}; expected a power of 2 from 8 upwards, e.g. 64.")
        self.latent_dim = latent_dim
        self.image_shape = (channels, size, size)
        self.name = "conv"
        self._made_of = {"latent_dim": latent_dim, "size": size, "channels": channels, "width": width, "seed": seed}
        stages = size.bit_length() - 3  # from 4 x 4
        widths = [width * min(2**i, 8) for i in range(stages, 0, -1)]
        with seeded(seed):
            layers: list[nn.Module] = [nn.Linear(latent_dim, widths[0] * 16), nn.Unflatten(1, (widths[0], 4, 4))]
            for i, o in zip(widths, [*widths[1:], channels]):
                layers += [nn.SiLU(), nn.ConvTranspose2d(i, o, 4, stride=2, padding=1)]
            self.layers = nn.Sequential(*layers)
            for layer in self.layers:
                if isinstance(layer, nn.ConvTranspose2d):
                    layer.weight.data = smooth_kernels(*layer.weight.shape[:2])
            x = torch.randn(64, latent_dim)
        frozen(self)
        scaled: list[Any] = []
        for layer in self.layers:
            if isinstance(layer, (nn.Linear, nn.ConvTranspose2d)):
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
                # Over latents, so that what varies does so by 1; the same pattern in all images counts for nothing.
                layer.weight /= layer(x).std(0).mean()
                if isinstance(layer, nn.ConvTranspose2d):
                    layer.bias -= layer(x).mean((0, 2, 3))  # type: ignore[operator]
                scaled.append(layer)
            x = layer(x)
        scaled[-1].weight *= CONTRAST
        scaled[-1].bias *= CONTRAST

    def settings(self) -> dict[str, Any]:
        """What the constructor needs to make one of the same form."""
        return dict(self._made_of)

    def forward(self, z: Tensor) -> Tensor:
        """Images of the latents."""
        return torch.sigmoid(over_rows(self.layers, self.checked(z).to(next(self.parameters()).dtype), 1))


def smooth_kernels(inputs: int, outputs: int) -> Tensor:
    """Kernels `[inputs, outputs, 4, 4]` of a transposed convolution of stride 2: interpolation, plus noise."""
    slope = torch.tensor([0.25, 0.75, 0.75, 0.25])
    return torch.randn(inputs, outputs, 1, 1) * torch.outer(slope, slope) + 0.03 * torch.randn(inputs, outputs, 4, 4)
