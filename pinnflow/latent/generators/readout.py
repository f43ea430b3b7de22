"""Factors read out of images: by moments for the ellipse, by fitting a drawing for every other renderer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pinnflow.latent.generators.renderers import CENTRE, GROWTH, RADIUS, TURN

# int exp(-r^4) over the plane, and the variance of a coordinate under it.
MASS = math.pi * math.sqrt(math.pi) / 2
VARIANCE = 1 / (2 * math.sqrt(math.pi))


def ellipse_features(images: Tensor) -> Tensor:
    """x, y, size, angle and brightness `[..., 5]` of the bright object in grey images `[..., 1, h, w]`, by moments.

    Inverts `renderers.draw_ellipse`; an image without light gives the middle of every range but the brightness.
    """
    light = images[..., 0, :, :].clamp_min(0.0)
    h, w = light.shape[-2:]
    x = (torch.arange(w, dtype=light.dtype, device=light.device) + 0.5) * (2.0 / w) - 1.0
    y = -((torch.arange(h, dtype=light.dtype, device=light.device) + 0.5) * (2.0 / h) - 1.0)
    column, row = light.sum(-2), light.sum(-1)  # [..., w], [..., h]
    tiny = torch.finfo(light.dtype).tiny
    mass = column.sum(-1)
    share = 1.0 / mass.clamp_min(tiny)
    mx, my = (column * x).sum(-1) * share, (row * y).sum(-1) * share
    dx, dy = x - mx[..., None], y - my[..., None]
    xx, yy = (column * dx.square()).sum(-1) * share, (row * dy.square()).sum(-1) * share
    xy = torch.einsum("...hw,...h,...w->...", light, dy, dx) * share
    area = (xx * yy - xy.square()).clamp_min(tiny).sqrt() / VARIANCE  # a b
    angle = 0.5 * torch.atan2(2.0 * xy, xx - yy)
    size = (0.5 * area.log() - math.log(RADIUS)) / GROWTH
    brightness = mass * (4.0 / (h * w)) / (MASS * area)
    features = torch.stack([mx / CENTRE, my / CENTRE, size, angle / TURN, (brightness - 0.65) / 0.35], -1)
    dark = torch.tensor([0.0, 0.0, 0.0, 0.0, -0.65 / 0.35]).to(features)
    return torch.where((mass > 1e-6 * h * w)[..., None], features, dark)


def fitted_features(
    images: Tensor, draw: Callable[[Tensor], Tensor], count: int, seed: int, *, steps: int = 15, chunk: int = 512
) -> Tensor:
    """The features `[n, count]` in [-1, 1] whose drawing is closest to the images `[n, c, h, w]`, pixel by pixel.

    Starts at the nearest of 4096 drawings and takes Levenberg-Marquardt steps; images that are not matched to 3e-5 of a
    pixel's range start again from drawings further down the list, as the misfit has several minima.
    """
    bank = (2.0 * torch.rand(4096, count, generator=torch.Generator().manual_seed(seed)) - 1.0).to(images)
    pictures = torch.cat([draw(part).flatten(1) for part in bank.split(chunk)])
    return torch.cat([_nearest(part.flatten(1), draw, bank, pictures, steps) for part in images.split(chunk)])


# Positions in the list of nearest drawings where fits start: neighbours in the list often lead to the same minimum.
STARTS = (0, 3, 10, 30, 100, 300)


def _nearest(pixels: Tensor, draw: Callable[[Tensor], Tensor], bank: Tensor, pictures: Tensor, steps: int) -> Tensor:
    """`fitted_features` of one chunk of flat images `[n, p]`."""
    distance = pictures.square().sum(1) - 2.0 * pixels @ pictures.mT  # |a - b|^2 less a constant
    order = distance.topk(max(STARTS) + 1, largest=False, sorted=True).indices
    features, misfit = _descend(bank[order[:, 0]], pixels, draw, steps)
    # An angle runs into the end of its range where the other end is the way to go.
    for start in (None, *STARTS[1:], None):
        rest = (misfit > 1e-9 * pixels.shape[1]).nonzero()[:, 0]
        if not len(rest):
            break
        stuck = features[rest].abs() >= 1.0
        begin = torch.where(stuck, -features[rest], features[rest]) if start is None else bank[order[rest, start]]
        others, found = _descend(begin, pixels[rest], draw, steps)
        better = found < misfit[rest]
        features[rest[better]], misfit[rest[better]] = others[better], found[better]
    return features


def _descend(features: Tensor, pixels: Tensor, draw: Callable[[Tensor], Tensor], steps: int) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt from `features` `[n, F]`, each image with its own damping; also the squared misfit `[n]`."""
    damping = torch.full_like(features[:, 0], 1e-3)
    identity = torch.eye(features.shape[1]).to(features)

    def flat(f: Tensor) -> Tensor:
        return draw(f).flatten(1)

    misfit = (flat(features) - pixels).square().sum(1)
    for _ in range(steps):
        rest = pixels - flat(features)
        columns = [torch.func.jvp(flat, (features,), (axis.expand_as(features),))[1] for axis in identity]
        J = torch.stack(columns, -1)  # [n, p, F]
        normal = J.mT @ J
        scale = normal.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(torch.finfo(J.dtype).tiny)
        step = torch.linalg.solve(normal + (damping * scale)[:, None, None] * identity, J.mT @ rest[..., None])
        trial = (features + step[..., 0]).clamp(-1.0, 1.0)
        found = (flat(trial) - pixels).square().sum(1)
        better = found < misfit
        features = torch.where(better[:, None], trial, features)
        misfit = torch.where(better, found, misfit)
        damping = torch.where(better, damping / 10, damping * 10).clamp(1e-9, 1e6)
    return features, misfit
