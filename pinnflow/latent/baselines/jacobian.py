"""The Jacobian of a generator by forward mode, its mean pull-back metric, and the walk along its singular vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy

import torch
from torch import Tensor

from pinnflow.errors import NotSolved, NotYet
from pinnflow.latent.baselines.linear import needed
from pinnflow.latent.baselines.registry import register_baseline
from pinnflow.latent.rendering import images, push_forward
from pinnflow.latent.traversal import Flow, stated_dimension

VALUES = 2**21  # of images that one call of a generator may return
ROWS = 512  # codes in one call of a generator


def jacobians(generator: Callable[[Tensor], Tensor], z: Tensor) -> Iterator[Tensor]:
    """J of every code as `[b, c * h * w, d]`, a few codes at a time, in the order of z `[n, d]`."""
    d = z.shape[1]
    size = images(generator, z[:1]).numel()
    codes = max(1, min(ROWS, VALUES // size) // d)
    for part in z.split(codes):
        rows = part.repeat_interleave(d, dim=0)
        tangents = torch.eye(d, dtype=z.dtype, device=z.device).repeat(len(part), 1)
        calls = zip(rows.split(ROWS), tangents.split(ROWS), strict=True)
        columns = torch.cat([push_forward(generator, a, b) for a, b in calls])
        yield columns.unflatten(0, (len(part), d)).transpose(1, 2)


def pullback_metric(generator: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """J^T J at every code, `[n, d, d]` in float64: how far images move when codes do."""
    return torch.cat([J.mT.double() @ J.double() for J in jacobians(generator, z)])


@torch.no_grad()
def mean_pullback(generator: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The mean of J^T J over codes z `[n, d]`, `[d, d]` in float64."""
    total = torch.zeros(z.shape[1], z.shape[1], dtype=torch.float64, device=z.device)
    for J in jacobians(generator, z):
        J = J.double().flatten(0, 1)
        total += (J.T @ J).to(total.device)
    return total / len(z)


@torch.no_grad()
def leading_pullback(
    generator: Callable[[Tensor], Tensor], z: Tensor, count: int, noise: torch.Generator, rounds: int = 3
) -> Tensor:
    """The `count` leading eigenvectors of the mean of J^T J as rows, without forming it.

    Subspace iteration with a few spare columns: J^T (J q) by forward, then reverse mode. Accurate where the eigenvalues
    fall off behind the first `count`; between equal ones any basis is an answer.

    Source: Halko, Martinsson & Tropp, SIAM Review 53 (2011), algorithm 4.4.
    """
    d = z.shape[1]
    q = torch.randn(d, min(d, count + 8), generator=noise, dtype=torch.float64).to(z)
    for _ in range(rounds):
        q = torch.linalg.qr(_apply_pullback(generator, z, q)).Q
    small = q.T @ _apply_pullback(generator, z, q)
    vectors = torch.linalg.eigh((small + small.T) / 2).eigenvectors
    return (q @ vectors.flip(1)[:, :count]).T


def _apply_pullback(generator, z, q):
    """mean_i J_i^T J_i q, `[d, m]`."""
    total = torch.zeros_like(q)
    codes = max(1, ROWS // q.shape[1])
    for part in z.split(codes):
        rows = part.repeat_interleave(q.shape[1], dim=0)
        tangents = q.T.repeat(len(part), 1)
        moved = push_forward(generator, rows, tangents)
        with torch.enable_grad():
            at = rows.detach().requires_grad_()
            (pulled,) = torch.autograd.grad(images(generator, at).flatten(1), at, moved)
        total += pulled.unflatten(0, (len(part), q.shape[1])).sum(dim=0).T
    return total / len(z)


@register_baseline("local-jacobian")
class LocalJacobian(Flow):
    """v_k(z) = k-th right singular vector of J(z): the k-th strongest change of the image at this very code.

    A singular vector has no sign. At a single code the one is taken that points along the k-th eigenvector of the mean
    of J^T J (from `fit`); along a walk the vector is followed: the next one is the singular vector with the largest
    overlap with the last, also where singular values cross and it is no longer the k-th. `inverse` knows the last walks
    of this flow; of others it takes the first vector at the end of the walk by the rule for a single code, so it comes
    back to the start only of walks along which rank and sign have not changed.

    Args: as for `LinearFlow`.
        samples: codes over which the mean is taken; by default 256, and in many dimensions fewer (16 from 512 on).

    Source: Ramesh, Choi & LeCun, arXiv 1812.01161 (2018), who follow the singular vectors of the generator's Jacobian.
    """

    def __init__(
        self,
        generator: Callable[[Tensor], Tensor],
        latent_dim: int | None = None,
        potentials: int = 5,
        *,
        seed: int = 0,
        samples: int | None = None,
        name: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__(
            generator, stated_dimension(generator, latent_dim), potentials, name=name, device=device, dtype=dtype
        )
        if self.potentials > self.latent_dim:
            raise ValueError(
                f"`potentials` is {potentials}, but a Jacobian of {self.latent_dim} columns has no more than "
                f"{self.latent_dim} right singular vectors"
            )
        self.seed = seed
        self.samples = samples or min(256, max(16, 8192 // self.latent_dim))
        self.reference: Tensor | None = None
        self._last: Tensor | None = None

    def fit(self, **settings) -> LocalJacobian:
        """Finds the reference for the signs, `[K, d]`."""
        mean = mean_pullback(needed(self.generator, self.name), self.sample(self.samples, self.seed))
        self.reference = leading_eigenvectors(mean, self.potentials).to(device=self.device, dtype=self.dtype)
        return self

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """The k-th right singular vector of J(z), `[n, d]`, with the sign of the reference."""
        reference = self._reference()
        k = self.index(k, len(z))
        vectors = self._singular_vectors(z)
        return _aligned(vectors[torch.arange(len(z), device=z.device), k], reference[k])

    def traverse(self, z, potential=0, steps=6, step_length=0.35, direction=1, *, integrator="euler", start=0):
        """As `Flow.traverse`, following the singular vector that the walk began with."""
        walker = self._walker()
        walk = Flow.traverse(walker, z, potential, steps, step_length, direction, integrator=integrator, start=start)
        self._walks = walker._walks
        return walk

    def inverse(self, z, potential=0, steps=6, step_length=0.35, direction=1, *, integrator="euler", start=0):
        """As `Flow.inverse`: the last walks of this flow, else following the vector that is the k-th at z."""
        z, k, sign = self._read(z, potential, steps, step_length, direction, integrator)
        settings = {"integrator": integrator, "start": start}
        signs = sign.reshape(-1).expand(len(z))
        path = self._remembered(z, steps).flip(0)
        found = ~torch.isnan(path[-1]).any(dim=1)
        if bool(found.any()):  # a remembered walk counts only if it is one with these arguments
            again = Flow.traverse(
                self._walker(), path[-1, found], k[found], steps, step_length, signs[found], **settings
            )
            found[found.clone()] = (again[-1] - z[found]).abs().amax(dim=1) < 1e-6
        lost = ~found
        if bool(lost.any()):
            path[:, lost] = Flow.inverse(self._walker(), z[lost], k[lost], steps, step_length, signs[lost], **settings)
        return path

    def transported_log_density(self, *args, **settings) -> Tensor:
        """Not served: it needs the derivative of singular vectors."""
        raise NotYet(f"`{self.name}` has no transported log-density: it needs the derivative of singular vectors")

    def _walker(self):
        """A copy that remembers the last vector of one walk."""
        self._reference()
        walker = copy(self)
        walker._last = None
        walker._walks = copy(self._walks)
        return walker

    def _reference(self) -> Tensor:
        if self.reference is None:
            raise NotSolved(f"`{self.name}` has no signs yet; call `.fit()` first")
        return self.reference

    def _field(self, k, step_length, sign, *, graph=False):
        last = self._last  # of the step before; the same for all evaluations within a step

        def field(z, t):
            v = self.velocity(z, t, k) if last is None else _nearest(self._singular_vectors(z), last)
            self._last = v
            return sign * (v if step_length is None else step_length * v)

        return field

    def _singular_vectors(self, z):
        """All right singular vectors as rows, `[n, d, d]`, the strongest first."""
        metric = pullback_metric(self.generator, z)
        return torch.linalg.eigh(metric).eigenvectors.flip(2).mT.to(device=self.device, dtype=self.dtype)


def leading_eigenvectors(metric: Tensor, count: int) -> Tensor:
    """The eigenvectors of the `count` largest eigenvalues of a symmetric `[d, d]`, as rows, the largest first."""
    return torch.linalg.eigh(metric).eigenvectors.flip(1)[:, :count].T


def _aligned(v, reference):
    """v with the sign that gives it a positive component along `reference`."""
    return torch.where((v * reference).sum(dim=-1, keepdim=True) < 0, -v, v)


def _nearest(vectors, last):
    """Of rows `[n, d, d]` the one with the largest overlap with `last` `[n, d]`, with its sign."""
    overlap = (vectors @ last[:, :, None])[:, :, 0]
    best = overlap.abs().argmax(dim=1)
    return _aligned(vectors[torch.arange(len(last), device=last.device), best], last)
