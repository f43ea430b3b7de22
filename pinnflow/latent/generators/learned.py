"""What VAE and GAN share: the form of a generator that is trained on images, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from pinnflow.latent.generators.gate import Generator, whole_number
from pinnflow.latent.generators.nets import checked_shape, choose_architecture
from pinnflow.latent.generators.storage import save_generator


class LearnedGenerator(Generator):
    """A generator that learns images; a subclass makes the networks.

    Args:
        image_shape: `(c, h, w)`.
        latent_dim: d.
        architecture: `mlp`, `conv`, or `auto`: mlp up to 256 pixels.
        width: of the hidden layers (mlp), of the channels at full resolution (conv); None: 256 and 16.
        name: what reports call it.

    Attributes:
        history, stop: what training told; empty for one from a file.
    """

    def __init__(self, image_shape: Sequence[int], latent_dim: int, architecture: str, width: int | None, name: str):
        super().__init__()
        self.image_shape = checked_shape(image_shape, name)
        self.latent_dim = whole_number(name, "latent_dim", latent_dim)
        self.name = name
        self.architecture = choose_architecture(architecture, self.image_shape)
        self.width = width
        self.history: list[dict[str, Any]] = []
        self.stop = ""

    def settings(self) -> dict[str, Any]:
        """What the constructor needs to make one of the same form."""
        return {
            "image_shape": list(self.image_shape),
            "latent_dim": self.latent_dim,
            "architecture": self.architecture,
            "width": self.width,
            "name": self.name,
        }

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the weights and the form to one HDF5 file; `load_generator` reads it."""
        save_generator(self, path)
