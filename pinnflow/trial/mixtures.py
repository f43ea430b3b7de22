"""Gaussian mixtures that satisfy linear diffusion equations with linear drift identically."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from pinnflow.trial.families import Columns, own


class GaussianMixture(Columns):
    r"""Gaussians moved by their own kernel: linear diffusion with a linear drift, in any dimension; positive.

    $u_t = \nabla \cdot A \nabla u - (B z + g) \cdot \nabla u + c u$, A and B symmetric with common eigenvectors. Along
    the eigenvector with eigenvalues $\lambda, \beta$ the mean moves as $\dot m = \beta m + g$ and the variance as
    $\dot v = 2 \beta v + 2 \lambda$; the whole is multiplied by $e^{(c + \mathrm{tr} B) t}$.
    Densities are relative to the height of $N(0, (L/2)^2)$ per coordinate, L half the length of the box, so that they
    neither vanish nor overflow in many dimensions.

    Args:
        bounds, time, members, features: as for `Columns`.
        diffusion, drift: eigenvalues of A and B, `[d]`.
        constant: g in the eigenvectors, with the origin at the centre of the box, `[d]`.
        rotation: the eigenvectors as columns, `[d, d]`, or None for the axes themselves.
        growth: c + tr B.
        generator: of the first weights.
    """

    def __init__(self, bounds, time, members, features, diffusion, drift, constant, rotation, growth, generator):
        super().__init__(bounds, time, members, features)
        d = self.dimension
        self.growth = float(growth)
        self.groups = _equal_pairs(diffusion, drift)
        self.register_buffer("constant", torch.as_tensor(constant, dtype=torch.float64))
        self.register_buffer("rotation", None if rotation is None else torch.as_tensor(rotation, dtype=torch.float64))
        self.means = nn.Parameter(0.5 * self.half * self.normal(generator, members, features, d))
        self.log_widths = nn.Parameter(math.log(0.5 * self.half) + 0.2 * self.normal(generator, members, features))
        self.log_weights = nn.Parameter(0.5 * self.normal(generator, members, features) - math.log(features))

    def log_density(self, points: Tensor, member: Tensor | None = None) -> Tensor:
        """log u, `[n, members]` or `[n, 1]` as in a call: its gradient is safe where the density itself is tiny."""
        weights, member = self.weights(member)
        t, z = self.split(points)
        z = z - self.center
        z = z if self.rotation is None else z @ self.rotation
        elapsed = t - self.start
        total = own(weights["log_weights"], member) + self.growth * elapsed[:, :, None]  # [n, members, features]
        width = own((2 * weights["log_widths"]).exp(), member)
        for axes, diffusion, drift in self.groups:
            stretch = torch.exp(drift * elapsed)  # [n, 1]
            y = z[:, axes] - self.constant[axes] * _integral(drift, elapsed)
            means = weights["means"][..., axes]
            squares = (
                (y**2).sum(dim=1)[:, None, None]
                - 2 * stretch[:, :, None] * self.onto(y, means, member)
                + stretch[:, :, None] ** 2 * own((means**2).sum(dim=-1), member)
            )
            variance = stretch[:, :, None] ** 2 * width + 2 * diffusion * _integral(2 * drift, elapsed)[:, :, None]
            total = total - squares / (2 * variance) - len(axes) / 2 * torch.log(variance / (self.half / 2) ** 2)
        return torch.logsumexp(total, dim=-1)

    def forward(self, points: Tensor, member: Tensor | None = None) -> Tensor:
        return torch.exp(self.log_density(points, member))


class RotatingMixture(Columns):
    r"""As `GaussianMixture` for a drift matrix B that is not symmetric, or has other eigenvectors than A.

    Means and covariances follow $m = e^{B t} \mu + \int e^{B s} g \, ds$ and
    $\Sigma = \sigma^2 e^{B t} e^{B^T t} + 2 \int e^{B s} A e^{B^T s} ds$, all from one exponential of a block matrix
    (Van Loan, 1978). Costs a d x d factorisation for each point and feature.

    Args:
        bounds, time, members, features: as for `Columns`.
        diffusion, drift: A and B, `[d, d]`.
        constant: g with the origin at the centre of the box, `[d]`.
        growth: c + tr B.
        generator: of the first weights.
    """

    def __init__(self, bounds, time, members, features, diffusion, drift, constant, growth, generator):
        super().__init__(bounds, time, members, features)
        d = self.dimension
        self.growth = float(growth)
        # exp(t [[-B, 2A, 0], [0, B^T, 0], ...]): Van Loan's matrix for the covariance, and one for the mean.
        block = np.zeros((2 * d, 2 * d))
        block[:d, :d], block[:d, d:], block[d:, d:] = -np.asarray(drift), 2 * np.asarray(diffusion), np.transpose(drift)
        mean = np.zeros((d + 1, d + 1))
        mean[:d, :d], mean[:d, d] = drift, constant
        self.register_buffer("block", torch.as_tensor(block))
        self.register_buffer("mean", torch.as_tensor(mean))
        self.means = nn.Parameter(0.5 * self.half * self.normal(generator, members, features, d))
        self.log_widths = nn.Parameter(math.log(0.5 * self.half) + 0.2 * self.normal(generator, members, features))
        self.log_weights = nn.Parameter(0.5 * self.normal(generator, members, features) - math.log(features))

    def log_density(self, points: Tensor, member: Tensor | None = None) -> Tensor:
        """log u, `[n, members]` or `[n, 1]` as in a call."""
        weights, member = self.weights(member)
        t, z = self.split(points)
        d, elapsed = self.dimension, (t - self.start)[:, :, None]
        blocks = torch.linalg.matrix_exp(elapsed * self.block)
        turn = blocks[:, d:, d:].mT  # e^(Bt)
        spread = turn @ blocks[:, :d, d:]
        shift = torch.linalg.matrix_exp(elapsed * self.mean)[:, :d, d]
        width = own((2 * weights["log_widths"]).exp(), member)[..., None, None]
        covariance = width * (turn @ turn.mT)[:, None, None] + spread[:, None, None]
        means = (turn[:, None, None] @ own(weights["means"], member)[..., None])[..., 0] + shift[:, None, None]
        lower = torch.linalg.cholesky(covariance)
        away = torch.linalg.solve_triangular(lower, ((z - self.center)[:, None, None] - means)[..., None], upper=False)[
            ..., 0
        ]
        log_root = torch.log(torch.diagonal(lower, dim1=-2, dim2=-1) / (self.half / 2)).sum(dim=-1)
        total = own(weights["log_weights"], member) + self.growth * elapsed - (away**2).sum(dim=-1) / 2 - log_root
        return torch.logsumexp(total, dim=-1)

    def forward(self, points: Tensor, member: Tensor | None = None) -> Tensor:
        return torch.exp(self.log_density(points, member))


def _integral(rate: float, t: Tensor) -> Tensor:
    """Integral of e^(rate s) over s from 0 to t."""
    return torch.expm1(rate * t) / rate if abs(rate) > 1e-12 else t


def _equal_pairs(diffusion, drift):
    """[(axes, diffusion, drift)] of axes that share both eigenvalues, to rounding."""
    scale = max(np.abs(diffusion).max(), 1e-300), max(np.abs(drift).max(), 1e-300)
    groups: dict[tuple, list[int]] = {}
    for i, (a, b) in enumerate(zip(diffusion, drift, strict=True)):
        groups.setdefault((round(a / scale[0], 12), round(b / scale[1], 12)), []).append(i)
    return [(axes, float(diffusion[axes[0]]), float(drift[axes[0]])) for axes in groups.values()]
