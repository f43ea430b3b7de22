"""A generator with known factors, a dial for their entanglement, and the exact traversals: the benchmark.

Latents z ~ N(0, I) go through a closed-form diffeomorphism w = h(z) that preserves N(0, I): a rotation, then rotations
of single planes (w_i, w_j) by an angle that depends on a third coordinate, warp sin(1.2 w_k + phase). The factors are
f_j = 2 Phi(w_j) - 1, uniform and independent; `renderers` draws them. With warp = 0 the factors are linear in z; the
larger the warp, the less a straight line in z follows one of them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pinnflow.errors import DeclarationError, WrongShape
from pinnflow.latent.generators.gate import Generator, checked_images, whole_number
from pinnflow.latent.generators.readout import ellipse_features, fitted_features
from pinnflow.latent.generators.registry import register_generator
from pinnflow.latent.generators.renderers import feature_names, find_renderer, render

FREQUENCY = 1.2


@register_generator("warped")
class WarpedGenerator(Generator):
    """`z [..., d] -> images [..., c, size, size]` with known factors, computed in the dtype and on the device of z.

    Args:
        latent_dim: the number d of latent coordinates, at least `factors`; 3 or more where `warp` is not 0.
        factors: how many of the coordinates of h(z) are visible; the others are nuisance.
        warp: how strongly the factors are entangled. 0: linear in z; 1: the linear R^2 of a factor is about 0.6.
        size: pixels a side, at least 8.
        seed: the rotation, the planes and the phases.
        renderer: `ellipse`, `colour`, `blobs`, `bars`, or one of your own.

    Attributes:
        factor_names: what each factor changes, e.g. `x`.
        planes: `(i, j, k, phase)` for every plane rotation, in order.

    Raises:
        DeclarationError: the numbers contradict each other.
        UnknownName: there is no such renderer.
    """

    def __init__(
        self,
        latent_dim: int = 8,
        factors: int = 5,
        warp: float = 1.0,
        size: int = 32,
        seed: int = 0,
        *,
        renderer: str = "ellipse",
    ):
        super().__init__()
        least = {"latent_dim": 1, "factors": 1, "size": 8, "seed": 0}
        given = {"latent_dim": latent_dim, "factors": factors, "size": size, "seed": seed}
        for label, value in given.items():
            whole_number("warped", label, value, least[label])
        if factors > latent_dim:
            raise DeclarationError(
                f"warped: `factors` is {factors} and `latent_dim` is {latent_dim}; expected 1 <= factors <= latent_dim."
            )
        if not isinstance(warp, (int, float)) or not math.isfinite(warp) or (warp != 0 and latent_dim < 3):
            raise DeclarationError(
                f"warped: `warp` is {warp!r} with `latent_dim` {latent_dim}; a finite number is expected, and a plane "
                f"can be turned by a third coordinate only where there are 3 or more. Write `warp=0` for a rotation."
            )
        self.latent_dim = latent_dim
        self.image_shape = (find_renderer(renderer).channels, size, size)
        self.name = "warped"
        self.renderer = renderer
        self.warping = float(warp)
        self.size = size
        self.seed = seed
        self.factor_names = feature_names(renderer, factors)
        draw = np.random.default_rng(seed)
        # No buffer: `.float()` would round the rotation, and with it the inverse in float64.
        self._rotation = torch.from_numpy(random_rotation(draw, latent_dim))
        self.planes = random_planes(draw, min(latent_dim, factors + 3)) if warp else []

    def forward(self, z: Tensor) -> Tensor:
        """Images of the latents; see the class."""
        return self.draw(self.factors(z))

    def draw(self, factors: Tensor) -> Tensor:
        """Images `[..., c, h, w]` of factors `[..., F]` in (-1, 1)."""
        return render(self.renderer, factors, self.size)

    def warp(self, z: Tensor) -> Tensor:
        """w = h(z) `[..., d]`: |det Dh| = 1 and |h(z)| = |z|, so N(0, I) is preserved."""
        w = self.checked(z) @ self._rotation.to(z).mT
        return turn(w, self.planes, self.warping)

    def unwarp(self, w: Tensor) -> Tensor:
        """z = h^{-1}(w) `[..., d]`, in closed form: the planes are turned back in reverse order."""
        return turn(self.checked(w), self.planes[::-1], -self.warping) @ self._rotation.to(w)

    def factors(self, z: Tensor) -> Tensor:
        """f = 2 Phi(w) - 1 of the first F coordinates of w = h(z): `[..., F]` in (-1, 1), uniform for z ~ N(0, I)."""
        return torch.erf(self.warp(z)[..., : len(self.factor_names)] / math.sqrt(2.0))

    def oracle(
        self, z: Tensor, k: int | Tensor, steps: int = 6, step_length: float = 0.35, direction: int | Tensor = 1
    ) -> Tensor:
        """The exact traversal of factor k: z(s) = h^{-1}(h(z) + s e_k), every other factor constant.

        Args:
            z: `[n, d]`.
            k: a factor, or one per row `[n]`.
            steps: how many.
            step_length: length of a step in w. The steps in z are of about that length, not exactly.
            direction: 1 or -1, or one per row `[n]`.

        Returns:
            `[steps + 1, n, d]`, the first entry is z.

        Raises:
            WrongShape: `k` is no factor, or `k` or `direction` has not one entry per row.
        """
        w = self.warp(z)
        rows = z.shape[:-1]
        index = torch.as_tensor(k, device=z.device)
        sign = torch.as_tensor(direction, device=z.device).to(z.dtype)
        for label, value in (("k", index), ("direction", sign)):
            if value.ndim and value.shape != rows:
                raise WrongShape(
                    f"warped: `{label}` has the shape {list(value.shape)}; expected one per row of z, {list(rows)}."
                )
        count = len(self.factor_names)
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= count):
            raise WrongShape(
                f"warped: `k` reaches from {int(index.min())} to {int(index.max())}; expected 0 to {count - 1}."
            )
        axis = torch.nn.functional.one_hot(index.long().expand(rows), self.latent_dim).to(z)
        move = step_length * sign.expand(rows)[..., None] * axis
        distance = torch.arange(1, steps + 1, device=z.device, dtype=z.dtype).reshape(-1, *[1] * z.ndim)
        return torch.cat([z[None], self.unwarp(w + distance * move)])

    def read_factors(self, images: Tensor) -> Tensor:
        """The factors `[..., F]` seen in any images `[..., c, h, w]`, without using z.

        The ellipse with up to five factors is read by moments, in closed form (centroid, square root of the area, axis
        angle, mass over area); everything else by a nearest drawing and damped Gauss-Newton steps on the pixels.

        Raises:
            WrongShape, NonFinite: not such images.
        """
        checked_images(images, self.image_shape, self.name)
        count = len(self.factor_names)
        with torch.no_grad():
            if self.renderer == "ellipse" and count <= 5:
                return ellipse_features(images)[..., :count]
            flat = images.reshape(-1, *self.image_shape)
            return fitted_features(flat, self.draw, count, self.seed).reshape(*images.shape[:-3], count)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{super().extra_repr()}, factors={self.factor_names}, warp={self.warping}, seed={self.seed}"


def turn(w: Tensor, planes: list[tuple[int, int, int, float]], strength: float) -> Tensor:
    """The planes turned one after the other, each by strength sin(1.2 w_k + phase): `[..., d] -> [..., d]`."""
    if not planes:
        return w
    reach = 1 + max(max(plane[:3]) for plane in planes)
    column = list(w[..., :reach].unbind(-1))
    for i, j, k, phase in planes:
        # k is neither i nor j, so the angle is the same before and after, and the turn can be undone.
        angle = strength * torch.sin(FREQUENCY * column[k] + phase)
        c, s = torch.cos(angle), torch.sin(angle)
        column[i], column[j] = c * column[i] - s * column[j], s * column[i] + c * column[j]
    return torch.cat([torch.stack(column, -1), w[..., reach:]], -1)


def random_rotation(draw: np.random.Generator, d: int) -> np.ndarray:
    """A rotation `[d, d]` drawn uniformly (Haar), determinant 1.

    Source: Mezzadri, How to generate random matrices from the classical compact groups (2007).
    """
    q, r = np.linalg.qr(draw.standard_normal((d, d)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[0] = -q[0]
    return q


def random_planes(draw: np.random.Generator, m: int) -> list[tuple[int, int, int, float]]:
    """`(i, j, k, phase)` of about 0.75 m planes among m coordinates (6 of 8); each coordinate is in one or two."""
    count = max(1, round(0.75 * m))
    while True:
        slots = np.concatenate([draw.permutation(m) for _ in range(math.ceil(2 * count / m))])[: 2 * count]
        pairs = slots.reshape(-1, 2)
        if (pairs[:, 0] != pairs[:, 1]).all():
            break
    planes = []
    for i, j in pairs.tolist():
        k = int(draw.choice([c for c in range(m) if c not in (i, j)]))
        planes.append((i, j, k, float(draw.uniform(0, 2 * math.pi))))
    return planes
