r"""How probable images are under a model with a decoder p(x | z) and an encoder q(z | x): bounds with their errors.

With the log weight

$$\log w = \log p(x | z) + \log N(z; 0, I) - \log q(z | x), \qquad z \sim q(z | x),$$

the mean of log w is the ELBO, and the mean of log (1/k) (w_1 + ... + w_k) is the importance-weighted bound: both are at
most log p(x), the second grows with k and comes to log p(x). All numbers are natural logarithms, the larger the better.

The divergence lowers the bound: E log w = E log p(x | z) - KL(q | N(0, I)). With the sign of the last two terms of
log w exchanged a larger divergence would count as a better likelihood.

Another prior than N(0, I) is a function `prior(z)` of codes; where it or the decoder depends on something known about
each image, such as its transformation, that is `given`, and both are asked with it: `prior(z, given)`.

Source: Burda, Grosse & Salakhutdinov, Importance weighted autoencoders (2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pinnflow.errors import NonFinite, WrongShape
from pinnflow.latent.rendering import at_rest, own_device, own_dtype
from pinnflow.latent.traversal import positive

Encoder = Callable[[Tensor], tuple[Tensor, Tensor]]
Prior = Callable[..., Tensor]


@dataclass(frozen=True)
class Bernoulli:
    """Independent pixels that are 1 with probability sigmoid(y), where y are the answers of the decoder, `logits`.

    Probabilities of images whose pixels are 0 or 1. For grey pixels the number is a cross entropy and no density:
    compare models by it, if you must, or draw black and white pixels first, `binarised(images)`.
    """

    decoder = "logits"

    def log_likelihood(self, answer: Tensor, images: Tensor) -> Tensor:
        """log p(x | z), `[n]`, of images `[n, ...]` and the decoder's answers `[n, ...]`."""
        # x log s(y) + (1 - x) log s(-y) = x y - log(1 + e^y)
        return (images * answer - softplus(answer)).flatten(1).sum(dim=1)


@dataclass(frozen=True)
class Gaussian:
    """Independent normal pixels around the answers of the decoder, `decode`.

    Args:
        scale: their standard deviation, in the units of a pixel. The likelihood means little where it was not chosen by
            the data: it is a weight of the squared error.
    """

    scale: float = 1.0
    decoder = "decode"

    def __post_init__(self):
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"the `scale` of the pixels is {self.scale!r}; it must be a positive number")

    def log_likelihood(self, answer: Tensor, images: Tensor) -> Tensor:
        """log p(x | z), `[n]`, of images `[n, ...]` and the decoder's answers `[n, ...]`."""
        away = ((images - answer) / self.scale).square().flatten(1)
        return -away.sum(dim=1) / 2 - away.shape[1] * (math.log(self.scale) + math.log(2 * math.pi) / 2)


Pixels = Bernoulli | Gaussian


@dataclass(frozen=True)
class Likelihood:
    """A lower bound of the mean log-likelihood of images.

    Attributes:
        value: mean over the images, nats for an image.
        error: standard error of the mean: other images, and other draws, would give this much another value.
        noise: standard error from the draws alone, with these images; NaN for one draw of each.
        each: of every image, `[n]`.
        samples: draws k behind the bound of one image; 1 for the ELBO.
        effective: mean number of draws that count, (sum w)^2 / sum w^2; far below `samples` the bound is loose.
        pixels: of an image, all channels.
    """

    value: float
    error: float
    noise: float
    each: Tensor
    samples: int
    effective: float
    pixels: int

    @property
    def bits_per_pixel(self) -> float:
        """-value in bits, for a pixel: the smaller the better."""
        return -self.value / (math.log(2) * self.pixels)

    def __str__(self) -> str:
        bound = "ELBO" if self.samples == 1 else f"importance-weighted, {self.samples} draws"
        return f"log p >= {self.value:.2f} +- {self.error:.2f} nats an image ({bound}, {len(self.each)} images)"


def elbo(
    model: Any,
    images: Tensor,
    *,
    pixels: Pixels | None = None,
    prior: Prior | None = None,
    given: Tensor | None = None,
    draws: int = 16,
    seed: int = 0,
    chunk: int = 4096,
) -> Likelihood:
    """E_q log w, the evidence lower bound of log p(x).

    Args:
        model: has `encode(images) -> (mean, log variance)` `[n, d]` and `logits(z)` or, for normal pixels, `decode(z)`;
            or a pair (encode, decode) of such callables. Networks are called in evaluation mode, in their own dtype.
        images: `[n, c, h, w]`, not the ones that the model was trained on.
        pixels: p(x | z); by default `Bernoulli()`.
        prior: log density of codes, `[n, d] -> [n]`; by default that of N(0, I). It may answer -inf.
        given: what is known of each image, `[n, ...]`; the decoder and the prior get it as a second argument.
        draws: of each q(z | x).
        seed: of the draws.
        chunk: codes that are decoded at once.

    Raises:
        WrongShape: the answers of the model do not belong to the images.
        NonFinite: a weight is no number.
    """
    how: Any = {"pixels": pixels, "prior": prior, "given": given, "seed": seed, "chunk": chunk}
    return _mean(log_weights(model, images, draws, **how)[:, None], images)


def importance_weighted(
    model: Any,
    images: Tensor,
    samples: int = 64,
    *,
    pixels: Pixels | None = None,
    prior: Prior | None = None,
    given: Tensor | None = None,
    repeats: int = 1,
    seed: int = 0,
    chunk: int = 4096,
) -> Likelihood:
    """E log (1/k) sum_k w, the importance-weighted bound of log p(x) with k = `samples`.

    Args:
        samples: k. `samples=1` is the ELBO.
        repeats: independent groups of k draws whose bounds are averaged, for `noise`.
        model, images, pixels, prior, given, seed, chunk: as for `elbo`.
    """
    count = positive("samples", samples) * positive("repeats", repeats)
    how: Any = {"pixels": pixels, "prior": prior, "given": given, "seed": seed, "chunk": chunk}
    weights = log_weights(model, images, count, **how)
    return _mean(weights.unflatten(0, (repeats, samples)), images)


def bounds(
    model: Any,
    images: Tensor,
    samples: Sequence[int] = (1, 8, 64),
    *,
    pixels: Pixels | None = None,
    prior: Prior | None = None,
    given: Tensor | None = None,
    seed: int = 0,
    chunk: int = 4096,
) -> dict[int, Likelihood]:
    """The bound for several k from the same draws, `{k: bound}`: how far it still grows says how loose it is.

    Args:
        samples: the k, each a divisor of the largest.
        model, images, pixels, prior, given, seed, chunk: as for `elbo`.

    Raises:
        ValueError: some k does not divide the largest.
    """
    largest = max(positive("samples", k) for k in samples)
    if any(largest % k for k in samples):
        raise ValueError(
            f"`samples` is {tuple(samples)}; each has to divide the largest, {largest}, to share its draws"
        )
    how: Any = {"pixels": pixels, "prior": prior, "given": given, "seed": seed, "chunk": chunk}
    weights = log_weights(model, images, largest, **how)
    return {k: _mean(weights.unflatten(0, (largest // k, k)), images) for k in sorted(samples)}


def difference(better: Likelihood, other: Likelihood) -> tuple[float, float]:
    """How much better the first is on the same images, and the standard error of that: `(value, error)` in nats.

    Images differ more than models do; image by image the differences have a much smaller error than the two values.

    Raises:
        WrongShape: the two are not of equally many images.
    """
    if better.each.shape != other.each.shape:
        raise WrongShape(f"bounds of {len(better.each)} and of {len(other.each)} images cannot be compared one by one")
    gained = better.each - other.each
    return float(gained.mean()), _standard_error(gained)


def together(parts: Sequence[Likelihood]) -> Likelihood:
    """The bound for images that belong together and are independent in the model: each part's i-th image with the i-th.

    Raises:
        WrongShape: the parts are not of equally many images.
    """
    if len({len(one.each) for one in parts}) != 1:
        raise WrongShape(f"{[len(one.each) for one in parts]} images cannot be put together one by one")
    each = torch.stack([one.each for one in parts]).sum(dim=0)
    return Likelihood(
        value=float(each.mean()),
        error=_standard_error(each),
        noise=math.sqrt(sum(one.noise**2 for one in parts)),
        each=each,
        samples=parts[0].samples,
        effective=min(one.effective for one in parts),
        pixels=sum(one.pixels for one in parts),
    )


def log_weights(
    model: Any,
    images: Tensor,
    samples: int,
    *,
    pixels: Pixels | None = None,
    prior: Prior | None = None,
    given: Tensor | None = None,
    seed: int = 0,
    chunk: int = 4096,
) -> Tensor:
    """log p(x | z) + log p(z) - log q(z | x) for draws z of q(z | x), `[samples, n]`, in float64.

    Arguments and errors as for `elbo`.
    """
    pixels = Bernoulli() if pixels is None else pixels
    positive("samples", samples)
    if images.dim() < 2 or not len(images):
        raise WrongShape(f"`images` has the shape {list(images.shape)}; expected [n, c, h, w] with an image or more")
    if given is not None and len(given) != len(images):
        raise WrongShape(f"`given` says something of {len(given)} images; there are {len(images)}")
    encode, decode = _pair(model, pixels)
    device, dtype = own_device(model, images.device), _dtype_of(model, images)
    noise = np.random.default_rng(seed)
    columns = []
    with torch.no_grad(), at_rest(model):
        for rows in torch.arange(len(images)).split(max(1, chunk // samples)):
            x = images[rows].to(device=device, dtype=dtype)
            known = () if given is None else (given[rows].to(device),)
            mean, log_variance = encode(x)
            if mean.shape != log_variance.shape or mean.dim() != 2 or len(mean) != len(x):
                raise WrongShape(
                    f"the encoder answered {list(mean.shape)} and {list(log_variance.shape)} to {len(x)} images; "
                    f"expected mean and log variance [{len(x)}, d]"
                )
            # Image by image, so that the draws do not depend on how many are decoded at once.
            drawn = noise.standard_normal((len(x), samples, mean.shape[1]))
            unit = torch.from_numpy(drawn).transpose(0, 1).to(device)
            # The constants d/2 log(2 pi) of the prior and of q cancel each other.
            z = mean.double() + (log_variance.double() / 2).exp() * unit
            log_q = -(unit.square() + log_variance.double()).sum(dim=2) / 2
            log_prior = -z.square().sum(dim=2) / 2 if prior is None else _prior_of(prior, z, known)
            log_p = [_decoded(decode, codes, x, pixels, known) for codes in z.to(dtype)]
            columns.append(torch.stack(log_p) + log_prior - log_q)
    weights = torch.cat(columns, dim=1)
    good = torch.isfinite(weights) | ((weights == -torch.inf) if prior is not None else False)
    if not bool(good.all()):
        row = int((~good).any(dim=0).nonzero()[0])
        raise NonFinite(f"the weight of image {row} is not finite; look at the encoder's log variance and the decoder")
    return weights


def binarised(images: Tensor, seed: int = 0) -> Tensor:
    """Black and white images, white with the probability that the grey says: what `Bernoulli` has a likelihood for."""
    noise = torch.Generator().manual_seed(seed)
    return (torch.rand(images.shape, generator=noise, dtype=torch.float64).to(images.device) < images).to(images.dtype)


def _prior_of(prior, z, known):
    """log p(z) `[samples, n]` for codes `[samples, n, d]`, without the constant that q lacks too."""
    samples, n, d = z.shape
    answer = prior(z.flatten(0, 1), *(one.repeat(samples, *(1,) * (one.dim() - 1)) for one in known))
    if answer.shape != (samples * n,):
        raise WrongShape(
            f"the prior answered {list(answer.shape)} to {samples * n} codes; expected one number for each"
        )
    return answer.double().unflatten(0, (samples, n)) + d / 2 * math.log(2 * math.pi)


def _decoded(decode, z, x, pixels, known=()):
    answer = decode(z, *known)
    if answer.shape != x.shape:
        raise WrongShape(f"the decoder answered {list(answer.shape)} to {len(z)} codes; the images are {list(x.shape)}")
    return pixels.log_likelihood(answer.double(), x.double())


def _pair(model, pixels):
    if isinstance(model, tuple):
        if len(model) != 2 or not all(callable(one) for one in model):
            raise TypeError("a pair of callables is expected, (encode, decode)")
        return model
    missing = [name for name in ("encode", pixels.decoder) if not hasattr(model, name)]
    if missing:
        raise TypeError(
            f"a {type(model).__name__} has no `{'` and no `'.join(missing)}`; `{type(pixels).__name__}` pixels need a "
            f"model with `encode` and `{pixels.decoder}`, or a pair of callables (encode, decode)"
        )
    return model.encode, getattr(model, pixels.decoder)


def _dtype_of(model, images):
    """A model's own dtype; for a pair of callables that of the images."""
    return own_dtype(model) if isinstance(model, nn.Module) else images.dtype


def _mean(weights: Tensor, images: Tensor) -> Likelihood:
    """The bound from log weights `[repeats, k, n]`."""
    repeats, k, _ = weights.shape
    by_group = torch.logsumexp(weights, dim=1) - math.log(k)  # [repeats, n]
    each = by_group.mean(dim=0)
    share = torch.softmax(weights, dim=1)
    # Of one group: d log(mean w) = d(mean w) / mean w, whose variance is var(w) / (k mean(w)^2).
    if repeats > 1:
        variance = by_group.var(dim=0) / repeats
    else:
        variance = (k * share).var(dim=1)[0] / k if k > 1 else torch.full_like(each, torch.nan)
    return Likelihood(
        value=float(each.mean()),
        error=_standard_error(each),
        noise=float(variance.sum().sqrt() / len(each)),
        each=each,
        samples=k,
        effective=float((1 / share.square().sum(dim=1)).mean()),
        pixels=images[0].numel(),
    )


def _standard_error(values):
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else math.nan
