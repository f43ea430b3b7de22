"""Generators out of what there is: any callable, a truncated prior, a W space, the features of an inner layer.

Each adapter is itself a generator `z -> images` in [0, 1] whose latents are meant to be N(0, I).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from pinnflow.errors import DeclarationError, NonFinite, UnknownName, WrongShape
from pinnflow.latent.generators.gate import Generator, whole_number
from pinnflow.latent.generators.nets import over_rows
from pinnflow.latent.plain import plain_operations

Images = Callable[[Tensor], Tensor]


class Adapted(Generator):
    """Any torch callable `z [n, d] -> images`, as a generator of images in [0, 1].

    One call with two latents finds the shape of the images. Grey images `[n, h, w]` get a channel; flat ones `[n, p]`
    need `image_shape`.

    Args:
        images: the callable. An `nn.Module` is put into evaluation mode and frozen.
        latent_dim: d.
        image_range: the range of its pixels: (0, 1), (-1, 1) or any other; None: (-1, 1) if the two images have a pixel
            below -0.01, else (0, 1). Pixels beyond the range are cut off.
        image_shape: `(c, h, w)` of flat images.
        dtype: what it computes in; None: its weights', or float32.
        name: what reports call it.

    Raises:
        WrongShape: the answer is no images; `latent_dim` is not its own.
        NonFinite: the answer holds NaN.
        DeclarationError: the pixels fit neither range and `image_range` is None.
    """

    def __init__(
        self,
        images: Images,
        latent_dim: int,
        *,
        image_range: tuple[float, float] | None = None,
        image_shape: tuple[int, int, int] | None = None,
        dtype: torch.dtype | None = None,
        name: str | None = None,
    ):
        super().__init__()
        if not callable(images):
            raise TypeError(f"a {type(images).__name__} is no generator; expected a callable `z [n, d] -> images`.")
        whole_number(type(images).__name__, "latent_dim", latent_dim)
        if isinstance(images, nn.Module):
            frozen_if_possible(images)
        self.images = images
        self.latent_dim = latent_dim
        self.name = name or getattr(images, "name", None) or type(images).__name__
        weight = next(iter(weights_of(images)), None)
        self.dtype = dtype or (weight.dtype if weight is not None else torch.float32)
        self.device = weight.device if weight is not None else torch.device("cpu")
        self._flat_shape = image_shape
        probe = torch.randn(2, latent_dim, generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)
        with torch.no_grad():
            found = self._pictures(self._asked(probe))
        self.image_shape = (found.shape[1], found.shape[2], found.shape[3])
        self.image_range = image_range or detected_range(found, self.name)
        if not self.image_range[0] < self.image_range[1]:
            raise DeclarationError(
                f"{self.name}: `image_range` is {self.image_range}; expected (low, high), low < high."
            )

    def forward(self, z: Tensor) -> Tensor:
        """Images of the latents, in [0, 1]."""
        low, high = self.image_range
        with plain_operations():
            pictures = over_rows(lambda rows: self._pictures(self.images(rows)), self.checked(z).to(self.dtype), 1)
        return ((pictures - low) / (high - low)).clamp(0.0, 1.0)

    def _asked(self, probe: Tensor) -> Any:
        """The first answer, with what the callable itself objects to put beside the size it was asked with."""
        try:
            return self.images(probe)
        except (RuntimeError, IndexError, AssertionError) as error:
            told = str(error).strip().splitlines() or [type(error).__name__]
            # TorchScript puts its own traceback first.
            words = told[-1] if "TorchScript" in told[0] else "\n".join(told)
            raise WrongShape(
                f"{self.name}: the callable failed on latents {list(probe.shape)} of {probe.dtype}: {words}\n"
                f"  `latent_dim` is {self.latent_dim}; write the number of latents that it takes, and `dtype=` if it "
                f"computes in another one."
            ) from error

    def _pictures(self, answer: Any) -> Tensor:
        """The answer as `[n, c, h, w]`."""
        answer = getattr(answer, "sample", answer) if not isinstance(answer, Tensor) else answer
        if isinstance(answer, (tuple, list)) and answer:
            answer = answer[0]
        if isinstance(answer, Tensor) and answer.ndim == 2 and self._flat_shape is not None:
            answer = answer.unflatten(1, self._flat_shape)
        if isinstance(answer, Tensor) and answer.ndim == 3:
            answer = answer[:, None]
        if not isinstance(answer, Tensor) or answer.ndim != 4:
            found = list(answer.shape) if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            raise WrongShape(
                f"{self.name}: the callable returned {found}; expected images [n, c, h, w]. "
                f"Give `image_shape=(c, h, w)` where it returns rows of pixels."
            )
        return answer


def detected_range(pictures: Tensor, name: str) -> tuple[float, float]:
    """(0, 1) or (-1, 1), by the pixels of a few images.

    Raises:
        NonFinite: there are NaN or infinite pixels.
        DeclarationError: the pixels lie outside (-1, 1) by more than a tenth.
    """
    if not torch.isfinite(pictures).all():
        raise NonFinite(f"{name}: images of standard normal latents hold NaN or infinite values.")
    low, high = float(pictures.min()), float(pictures.max())
    if low < -1.1 or high > 1.1:
        raise DeclarationError(
            f"{name}: pixels reach from {low:.3g} to {high:.3g}, which is neither [0, 1] nor [-1, 1]. "
            f"Write the range of its images, e.g. `image_range=(0, 255)`."
        )
    return (-1.0, 1.0) if low < -0.01 else (0.0, 1.0)


class Truncated(Generator):
    """A generator asked only near the middle of its prior: z ~ N(0, I) is carried to a truncated normal, exactly.

    With Phi the normal distribution function, each coordinate becomes  scale Phi^{-1}(Phi(-bound) + (Phi(bound) -
    Phi(-bound)) Phi(z)),  which is smooth and increasing, so that paths in z stay paths.

    Args:
        generator: any generator with `latent_dim` and `image_shape`.
        bound: the truncation in standard deviations; 2 for BigGAN.
        scale: what the truncated normal is multiplied by: BigGAN's truncation.
    """

    def __init__(self, generator: Generator, bound: float = 2.0, scale: float = 1.0):
        super().__init__()
        numbers: Any = (bound, scale)
        if not all(isinstance(n, Real) and float(n) > 0 for n in numbers) or not math.isfinite(scale):
            raise DeclarationError(f"truncation: `bound` {bound!r} and `scale` {scale!r}; expected numbers above 0.")
        if not hasattr(generator, "latent_dim") or not hasattr(generator, "image_shape"):
            raise DeclarationError(
                f"a {type(generator).__name__} states no `latent_dim` and no `image_shape`; write "
                f"`Truncated(Adapted(generator, latent_dim))`."
            )
        self.generator = generator
        self.latent_dim = generator.latent_dim
        self.image_shape = generator.image_shape
        self.name = f"{getattr(generator, 'name', 'generator')} truncated at {bound:g}"
        self.bound, self.scale = float(bound), float(scale)

    def forward(self, z: Tensor) -> Tensor:
        """Images of the truncated latents."""
        return self.generator(self.truncate(z))

    def truncate(self, z: Tensor) -> Tensor:
        """Each coordinate of z `[..., d]`, carried into (-bound scale, bound scale)."""
        return self.scale * truncated_normal(self.checked(z), self.bound)


def truncated_normal(z: Tensor, bound: float) -> Tensor:
    """Phi^{-1}(Phi(-b) + (Phi(b) - Phi(-b)) Phi(z)): N(0, 1) carried to N(0, 1) given |x| < b."""
    mass = math.erf(bound / math.sqrt(2.0))  # Phi(b) - Phi(-b)
    # In terms of erf, x = sqrt(2) erfinv(mass erf(z / sqrt(2))), which keeps its digits near 0.
    return math.sqrt(2.0) * torch.erfinv(mass * torch.erf(z / math.sqrt(2.0)))


class WSpace(Generator):
    """The space behind a mapping network: codes N(0, I) are whitened w, images are those of a synthesis network.

    w = mean + truncation L code, with the mean and the Cholesky factor L of the covariance of mapping(z), z ~ N(0, I).
    So codes have the mean 0 and the covariance I; `code_of(z)` gives the code of a latent of the mapping network.

    Args:
        mapping: `z [n, d] -> w [n, m]`.
        synthesis: `w [n, m] -> images`. Where it wants one w for each layer, write
            `lambda w: network.synthesis(w[:, None].repeat(1, layers, 1))`.
        latent_dim: d of the mapping network.
        truncation: 1 is the space as it is, 0 is the mean image.
        draws: how many z the mean and the covariance are taken from.
        seed: of these.
        image_range: as for `Adapted`.
        name: what reports call it.
    """

    def __init__(
        self,
        mapping: Callable[[Tensor], Tensor],
        synthesis: Images,
        latent_dim: int,
        *,
        truncation: float = 1.0,
        draws: int = 10_000,
        seed: int = 0,
        image_range: tuple[float, float] | None = None,
        name: str = "w",
    ):
        super().__init__()
        if not math.isfinite(truncation) or truncation <= 0:
            raise DeclarationError(f"{name}: `truncation` is {truncation}; expected a number above 0, usually up to 1.")
        whole_number(name, "latent_dim", latent_dim)
        whole_number(name, "draws", draws, 2)
        if isinstance(mapping, nn.Module):
            frozen_if_possible(mapping)
        self.mapping = mapping
        self.truncation = float(truncation)
        self.name = name
        weight = next(iter(weights_of(mapping)), torch.zeros(0))
        z = torch.randn(draws, latent_dim, generator=torch.Generator().manual_seed(seed)).to(weight)
        with torch.no_grad():
            try:
                w = torch.cat([mapping(part) for part in z.split(1024)])
            except (RuntimeError, IndexError, AssertionError) as error:
                raise WrongShape(
                    f"{name}: the mapping failed on latents [n, {latent_dim}] of {z.dtype}: {error}\n"
                    f"  `latent_dim` is {latent_dim}; write the number of latents that it takes."
                ) from error
        if w.ndim != 2:
            raise WrongShape(f"{name}: the mapping returned {list(w.shape)}; expected w [{draws}, m].")
        if draws <= w.shape[1]:
            raise DeclarationError(
                f"{name}: `draws` is {draws}; the covariance of {w.shape[1]} numbers takes more of them, better ten "
                f"times as many."
            )
        self.mean: Tensor
        self.factor: Tensor
        self.register_buffer("mean", w.mean(0))
        self.register_buffer("factor", covariance_factor(w, name))
        self.latent_dim = w.shape[1]
        self.synthesis = Adapted(
            lambda code: synthesis(self.w_of(code)), self.latent_dim, image_range=image_range, dtype=w.dtype, name=name
        )
        if isinstance(synthesis, nn.Module):
            self.network = frozen_if_possible(synthesis)
        self.image_shape = self.synthesis.image_shape

    def forward(self, z: Tensor) -> Tensor:
        """Images of codes `[..., m]`."""
        return self.synthesis(self.checked(z).to(self.mean.device))

    def w_of(self, code: Tensor) -> Tensor:
        """w `[..., m]` of codes."""
        return self.mean + self.truncation * code @ self.factor.mT

    def code_of(self, z: Tensor) -> Tensor:
        """The codes `[n, m]` of latents `[n, d]` of the mapping network, so that truncation acts on their images."""
        w = self.mapping(z.to(self.mean))
        return torch.linalg.solve_triangular(self.factor, (w - self.mean).mT, upper=False).mT


def covariance_factor(rows: Tensor, name: str) -> Tensor:
    """The lower Cholesky factor of the covariance of the rows `[n, m]`; what does not vary gets next to nothing.

    Raises:
        NonFinite: the rows hold NaN.
        DeclarationError: they are all alike.
    """
    if not torch.isfinite(rows).all():
        raise NonFinite(f"{name}: the mapping returned NaN or infinite values for standard normal latents.")
    covariance = torch.cov(rows.double().T).reshape(rows.shape[1], rows.shape[1])
    if not float(covariance.diagonal().sum()) > 0:
        raise DeclarationError(
            f"{name}: the mapping returns the same w for all latents, so there is no space to walk in."
        )
    ridge = 1e-6 * covariance.diagonal().mean().clamp_min(1e-12)
    return torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance)).to(covariance)).to(rows)


class InnerLayer(Generator):
    """A generator entered at an inner layer: codes N(0, I) are principal components of that layer's features.

    features = mean + sum_i code_i s_i e_i, with the mean, the directions e_i and deviations s_i of the features that
    latents z ~ N(0, I) cause. Whatever lies before the layer is computed for one fixed latent, so paths that go around
    the layer keep the values of that latent.

    Args:
        generator: an `nn.Module` `z [n, d] -> images [n, c, h, w]`.
        layer: the name of a submodule, as in `generator.named_modules()`, whose output is one tensor.
        latent_dim: d; None: `generator.latent_dim`.
        components: how many principal components; None: 64, or as many as there are.
        draws: how many z they are taken from.
        seed: of these and of the fixed latent.
        image_range: as for `Adapted`.

    Raises:
        UnknownName: there is no such submodule.
        WrongShape: its output is no tensor `[n, ...]`, or there are fewer components.
    """

    def __init__(
        self,
        generator: nn.Module,
        layer: str,
        latent_dim: int | None = None,
        *,
        components: int | None = None,
        draws: int = 1000,
        seed: int = 0,
        image_range: tuple[float, float] | None = None,
    ):
        super().__init__()
        if not isinstance(generator, nn.Module):
            raise DeclarationError(f"a {type(generator).__name__} has no layers to enter; expected an `nn.Module`.")
        modules = {name: module for name, module in generator.named_modules() if name}
        if layer not in modules:
            raise UnknownName("layer", layer, modules)
        d = latent_dim if latent_dim is not None else getattr(generator, "latent_dim", None)
        if not isinstance(d, int):
            raise DeclarationError("The generator has no attribute `latent_dim`; write `latent_dim=` its latents.")
        whole_number(layer, "draws", draws, 2)
        self.network = frozen_if_possible(generator)
        self.layer = layer
        self.name = f"{getattr(generator, 'name', type(generator).__name__)} from {layer}"
        self._inner = modules[layer]
        weight = next(iter(weights_of(generator)), torch.zeros(0))
        z = torch.randn(draws, d, generator=torch.Generator().manual_seed(seed)).to(weight)
        with torch.no_grad():
            features = torch.cat([self.features(part) for part in z.split(128)])
        self.feature_shape = tuple(features.shape[1:])
        flat = features.flatten(1)
        most = min(draws - 1, flat.shape[1])
        count = min(64, most) if components is None else components
        if not isinstance(count, int) or not 1 <= count <= most:
            raise WrongShape(f"{self.name}: `components` is {count}; expected 1 to {most}, the features' own number.")
        mean = flat.mean(0)
        _, s, directions = torch.linalg.svd(flat - mean, full_matrices=False)
        self.mean: Tensor
        self.directions: Tensor
        self.start: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions[:count] * (s[:count, None] / math.sqrt(draws - 1)))
        self.register_buffer("start", z[:1])
        self.latent_dim = count
        self.outside = Adapted(self._onwards, count, image_range=image_range, dtype=weight.dtype, name=self.name)
        self.image_shape = self.outside.image_shape

    def forward(self, z: Tensor) -> Tensor:
        """Images of codes `[..., components]`."""
        return self.outside(self.checked(z).to(self.mean.device))

    def features(self, z: Tensor) -> Tensor:
        """What the layer gives for latents `[n, d]` of the generator."""
        kept: list[Any] = []
        handle = self._inner.register_forward_hook(lambda module, args, output: kept.append(output))
        try:
            self.network(z)
        finally:
            handle.remove()
        if len(kept) != 1 or not isinstance(kept[0], Tensor) or len(kept[0]) != len(z):
            raise WrongShape(
                f"{self.name}: the layer was called {len(kept)} times or does not return one tensor [n, ...]; "
                f"choose a layer that is called once."
            )
        return kept[0]

    def code_of(self, z: Tensor) -> Tensor:
        """The codes `[n, components]` of latents `[n, d]` of the generator."""
        away = self.features(z.to(self.mean)).flatten(1) - self.mean
        return away @ self.directions.mT / self.directions.square().sum(1)

    def _onwards(self, code: Tensor) -> Tensor:
        features = (self.mean + code @ self.directions).unflatten(1, self.feature_shape)
        handle = self._inner.register_forward_hook(lambda module, args, output: features)
        try:
            return self.network(self.start.expand(len(code), -1))
        finally:
            handle.remove()


def weights_of(thing: Any) -> list[Tensor]:
    """The floating point parameters and buffers of a module; none of anything else."""
    if not isinstance(thing, nn.Module):
        return []
    return [t for t in (*thing.parameters(), *thing.buffers()) if t.is_floating_point()]


def frozen_if_possible(module: nn.Module) -> nn.Module:
    """`frozen`, also for TorchScript, and for modules out of `torch.export`, which have no evaluation mode."""
    with suppress(NotImplementedError):
        module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
