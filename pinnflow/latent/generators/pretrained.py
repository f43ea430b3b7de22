"""Published networks whose weights lie in a folder: BigGAN, and the image decoder of diffusers' `AutoencoderKL`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pinnflow.errors import DamagedFile, DeclarationError, MissingExtra, WrongShape
from pinnflow.latent.generators.adapters import Truncated
from pinnflow.latent.generators.gate import Generator, checked_images
from pinnflow.latent.generators.nets import over_rows
from pinnflow.latent.generators.registry import register_generator
from pinnflow.latent.generators.training import frozen
from pinnflow.latent.plain import plain_operations


class ClassConditional(Generator):
    """A BigGAN with its class held fixed: `z [..., d] -> images [..., 3, size, size]` in [0, 1].

    Args:
        network: a `pytorch_pretrained_biggan.BigGAN`.
        class_index: the number of a class, or a weight for every class `[classes]`, which mixes their embeddings.
        truncation: which of the stored batch statistics are used, in (0, 1]; `biggan` truncates z along with it.
    """

    def __init__(self, network: nn.Module, class_index: int | Sequence[float] | Tensor = 0, truncation: float = 1.0):
        super().__init__()
        given: Any = truncation
        if not (isinstance(given, Real) and 0 < float(given) <= 1):
            raise DeclarationError(f"biggan: `truncation` is {truncation!r}; expected a number in (0, 1].")
        config: Any = network.config
        self.network = frozen(network)
        self.truncation = float(truncation)
        self.latent_dim = int(config.z_dim)
        self.name = "biggan"
        self.label: Tensor
        self.register_buffer("label", class_weights(class_index, int(config.num_classes)).to(self._weight))
        with torch.no_grad():
            first = self._images(torch.zeros(1, self.latent_dim).to(self._weight))
        c, h, w = first.shape[1:]
        self.image_shape = (c, h, w)
        checked_images(first, self.image_shape, self.name)

    @property
    def _weight(self) -> Tensor:
        return next(self.network.parameters())

    def forward(self, z: Tensor) -> Tensor:
        """Images of the class for latents as the network takes them."""
        return over_rows(self._images, self.checked(z).to(self._weight.dtype), 1)

    def _images(self, z: Tensor) -> Tensor:
        label = self.label.expand(len(z), -1)
        return (0.5 * (self.network(z, label, self.truncation) + 1.0)).clamp(0.0, 1.0)


def class_weights(class_index: int | Sequence[float] | Tensor, classes: int) -> Tensor:
    """A weight for every class, `[classes]`.

    Raises:
        DeclarationError: `class_index` is neither a whole number nor a list of numbers.
        WrongShape: there is no such class, or not one weight for each.
    """
    try:
        given = torch.as_tensor(class_index)
    except (TypeError, ValueError, RuntimeError):
        given = torch.zeros(0, 0)
    if given.ndim == 1:
        if len(given) != classes:
            raise WrongShape(f"biggan: {len(given)} class weights; expected one for each of the {classes} classes.")
        return given.to(torch.float32)
    if given.ndim or given.is_floating_point() or given.dtype == torch.bool:
        raise DeclarationError(
            f"biggan: `class_index` is {class_index!r}; expected the number of a class, 0 to {classes - 1}, or a "
            f"weight for each of the {classes}."
        )
    index = int(given)
    if not 0 <= index < classes:
        raise WrongShape(f"biggan: `class_index` is {index}; expected 0 to {classes - 1}.")
    return nn.functional.one_hot(torch.tensor(index), classes).to(torch.float32)


@register_generator("biggan")
def biggan(
    path: str | PathLike[str],
    *,
    class_index: int | Sequence[float] | Tensor = 0,
    truncation: float = 0.4,
    device: torch.device | str | None = None,
) -> Truncated:
    """A BigGAN out of a folder with `config.json` and `pytorch_model.bin`, for one class, z ~ N(0, I).

    z is carried to a normal truncated at 2 and multiplied by `truncation`, as the network was sampled by its authors.

    Args:
        path: the folder. Nothing is downloaded.
        class_index: the number of an ImageNet class, or weights `[classes]`.
        truncation: in (0, 1]; smaller gives less varied and better images.
        device: where it computes.

    Raises:
        MissingExtra: `pytorch_pretrained_biggan` is not installed.
        FileNotFoundError: a file is missing.
        DamagedFile: the weights are not those of the configuration, or it describes no network.
    """
    from pinnflow.latent.generators.files import read_weights

    try:
        from pytorch_pretrained_biggan import BigGAN, BigGANConfig
    except ImportError:
        raise MissingExtra("pytorch_pretrained_biggan", "pretrained", "BigGAN") from None
    folder = Path(path)
    config_file, weights_file = folder / "config.json", folder / "pytorch_model.bin"
    for file in (config_file, weights_file):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: missing; a BigGAN is a folder with config.json and pytorch_model.bin.")
    network = BigGAN(BigGANConfig.from_json_file(str(config_file)))
    fill(network, read_weights(weights_file), weights_file)
    try:
        of_class = ClassConditional(network, class_index, truncation)
    except RuntimeError as error:
        raise DamagedFile(f"{config_file}: describes a network that cannot be run ({error}).") from None
    return Truncated(of_class, 2.0, truncation).to(device or "cpu")


def fill(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Puts named weights into a network, all of them.

    Raises:
        DamagedFile: some are missing, of another shape, or not finite.
    """
    try:
        missing = network.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        raise DamagedFile(
            f"{path}: not the weights of this configuration ({' '.join(str(error).split())[:300]})."
        ) from None
    if missing:
        raise DamagedFile(f"{path}: {len(missing)} weights are missing, e.g. `{missing[0]}`.")
    broken = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise DamagedFile(f"{path}: the weights `{broken[0]}` hold NaN or infinite values.")


class LatentDecoder(Generator):
    """The decoder of a diffusers `AutoencoderKL`: `z [..., c h w] -> images` in [0, 1].

    z is the flattened latent image in the scale in which diffusion models see it, about N(0, 1) for each number; it is
    divided by `scaling_factor`, and `shift_factor` is added. Independent numbers are no natural image: start from
    `code_of(images)`.

    Args:
        network: an `AutoencoderKL`.
        size: height and width of the images in pixels, or one number for both; None: the configuration's `sample_size`.
    """

    def __init__(self, network: nn.Module, size: int | Sequence[int] | None = None):
        super().__init__()
        config: Any = network.config
        self.network: Any = frozen(network)
        self.name = "autoencoder-kl"
        halved = 2 ** (len(config.block_out_channels) - 1)
        asked: Any = config.sample_size if size is None else size
        sides = list(asked) if isinstance(asked, (list, tuple)) else [asked, asked]
        if len(sides) != 2 or not all(isinstance(n, int) and n >= halved and n % halved == 0 for n in sides):
            raise DeclarationError(
                f"autoencoder-kl: `size` is {asked!r}; expected a multiple of {halved}, e.g. {8 * halved}, or two."
            )
        height, width = sides
        self.latent_shape = (int(config.latent_channels), height // halved, width // halved)
        self.latent_dim = math.prod(self.latent_shape)
        self.image_shape = (int(config.out_channels), height, width)
        self.scale = float(getattr(config, "scaling_factor", None) or 1.0)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)

    def forward(self, z: Tensor) -> Tensor:
        """Images of flattened latent images."""
        weight = next(self.network.parameters())
        with plain_operations():
            return over_rows(self._images, self.checked(z).to(weight.dtype), 1)

    def _images(self, z: Tensor) -> Tensor:
        pictures = self.network.decode(z.unflatten(1, self.latent_shape) / self.scale + self.shift).sample
        return (0.5 * (pictures + 1.0)).clamp(0.0, 1.0)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance `[n, d]` of the latents of images `[n, c, h, w]` in [0, 1]."""
        weight = next(self.network.parameters())
        images = checked_images(images, self.image_shape, self.name).to(weight.dtype)
        found = self.network.encode(2.0 * images - 1.0).latent_dist
        mean = (found.mean - self.shift) * self.scale
        return mean.flatten(1), (found.logvar + 2.0 * math.log(self.scale)).flatten(1)

    def code_of(self, images: Tensor) -> Tensor:
        """The mean latents `[n, d]` of images `[n, c, h, w]`."""
        return self.encode(images)[0]


@register_generator("autoencoder-kl")
def autoencoder_kl(
    path: str | PathLike[str], *, size: int | Sequence[int] | None = None, device: torch.device | str | None = None
) -> LatentDecoder:
    """The decoder of a diffusers `AutoencoderKL` out of its folder, as `save_pretrained` writes it.

    Args:
        path: the folder, with `config.json` and the weights as .safetensors or .bin. Nothing is downloaded.
        size: height and width of the images in pixels, or one number for both; None: what the configuration says.
        device: where it computes.

    Raises:
        MissingExtra: `diffusers` is not installed.
        FileNotFoundError: a file is missing.
        DamagedFile: the weights are not those of the configuration.
    """
    from pinnflow.latent.generators.files import read_weights

    try:
        from diffusers import AutoencoderKL
    except ImportError:
        raise MissingExtra("diffusers", "pretrained", "An AutoencoderKL") from None
    folder = Path(path)
    kept = [folder / f"diffusion_pytorch_model{end}" for end in (".safetensors", ".bin")]
    weights_file = next((file for file in kept if file.is_file()), None)
    if not (folder / "config.json").is_file() or weights_file is None:
        raise FileNotFoundError(
            f"{folder}: an AutoencoderKL is a folder with config.json and diffusion_pytorch_model.safetensors or .bin."
        )
    network = AutoencoderKL.from_config(AutoencoderKL.load_config(str(folder)))
    fill(network, read_weights(weights_file), weights_file)
    return LatentDecoder(network, size).to(device or "cpu")
