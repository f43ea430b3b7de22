r"""How a flow carries densities along: divergence and log-determinant, exactly or from two random probes.

A step z -> z + s(z) divides the density by |det(I + Ds)|, and the continuous flow dz/dt = v changes its logarithm by
-div v in a unit of time. The d x d matrix of derivatives costs d passes of reverse mode. Instead, with probes e of
independent signs, E e^T A e = tr A for any matrix A, so that

$$\mathrm{div}\, v = E\, e^T Dv\, e, \qquad \log|\det(I + A)| = E\, e^T \log(I + A)\, e$$

are estimated without bias; of log(I + A) e only the component along e is needed, which a few Arnoldi steps give to many
digits, each one product with A^T.

Source: Hutchinson, A stochastic estimator of the trace (1989); Ubaru, Chen & Saad, Fast estimation of tr(f(A)) via
stochastic Lanczos quadrature (2017).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

EXACT = 128
"""Dimensions up to which derivatives are taken exactly unless probes are asked for."""

PROBES = 2

DEPTH = 16  # Arnoldi steps; exact from d steps on, and to rounding where the step is well below 1


def divergence(field: Callable[[Tensor], Tensor], z: Tensor, *, probes: int | None = None, seed: int = 0) -> Tensor:
    """tr Dv(z) of each row, `[n]`.

    Args:
        field: v, from codes `[n, d]` to `[n, d]`, row by row, differentiable.
        z: codes.
        probes: of the unbiased estimate; None: exact up to 128 dimensions, two above.
        seed: of the probes.
    """
    at, v = _answer(field, z)
    count = _count(probes, z)
    if count is None:
        return torch.stack([row[:, i] for i, row in enumerate(_rows(v, at))]).sum(dim=0)
    return torch.stack([(_product(v, at, e) * e).sum(dim=1) for e in _signs(count, z, seed)]).mean(dim=0)


def log_determinant(step: Callable[[Tensor], Tensor], z: Tensor, *, probes: int | None = None, seed: int = 0) -> Tensor:
    """log|det(I + Ds(z))| of each row, `[n]`: what the step z -> z + s(z) takes from a log-density.

    Args:
        step: s, from codes `[n, d]` to `[n, d]`, row by row, differentiable.
        z, probes, seed: as for `divergence`.
    """
    at, moved = _answer(step, z)
    count = _count(probes, z)
    if count is None:
        unity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        return torch.linalg.slogdet(unity + torch.stack(_rows(moved, at), dim=1)).logabsdet
    apply = lambda w: _product(moved, at, w)  # noqa: E731
    depth = min(DEPTH, z.shape[1])
    return torch.stack([_logarithm_along(apply, e, depth) for e in _signs(count, z, seed)]).mean(dim=0)


def _answer(function, z):
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        return at, function(at)


def _count(probes, z):
    """None for exact derivatives."""
    if probes is None:
        return PROBES if z.shape[1] > EXACT else None
    if not isinstance(probes, int) or isinstance(probes, bool) or probes < 1:
        raise ValueError(f"`probes` is {probes!r}; it must be a positive whole number, or None")
    return probes


def _signs(count, z, seed):
    """Random signs, `[n, d]` for each probe: of all independent numbers those with the least variance here."""
    noise = np.random.default_rng(seed)
    return [torch.from_numpy(noise.choice([-1.0, 1.0], size=tuple(z.shape))).to(z) for _ in range(count)]


def _product(answer, at, w):
    """A^T w by row; zero where the answer does not depend on the code."""
    if not answer.requires_grad:
        return torch.zeros_like(at)
    found = torch.autograd.grad(answer, at, w, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(at) if found is None else found


def _rows(answer, at):
    """Rows of A, `[n, d]` each."""
    axes = torch.eye(at.shape[1], dtype=at.dtype, device=at.device)
    return [_product(answer, at, axis.expand_as(at)) for axis in axes]


def _logarithm_along(apply, e, depth):
    """Re e^T log(I + A^T) e by row, `[n]`, from the Hessenberg matrix of `depth` Arnoldi steps."""
    n, d = e.shape
    basis = [e / d**0.5]
    small = e.new_zeros(n, depth, depth)
    for j in range(depth):
        w = apply(basis[j])
        for _ in range(2):  # orthogonal to rounding only when done twice
            for i, q in enumerate(basis):
                part = (w * q).sum(dim=1)
                small[:, i, j] += part
                w = w - part[:, None] * q
        if j + 1 == depth:
            break
        size = torch.linalg.vector_norm(w, dim=1)
        # The space is exhausted: the zero vector goes on, and log 1 = 0 adds nothing.
        size = torch.where(size > 1e-12 * torch.linalg.matrix_norm(small).clamp(min=1e-300), size, 0.0)
        small[:, j + 1, j] = size
        basis.append(torch.where(size > 0, 1 / torch.where(size > 0, size, 1.0), 0.0)[:, None] * w)
    values, vectors = torch.linalg.eig(torch.eye(depth, dtype=e.dtype, device=e.device) + small)
    unit = torch.zeros(n, depth, 1, dtype=vectors.dtype, device=e.device)
    unit[:, 0] = 1
    along = vectors[:, 0, :] * torch.linalg.solve(vectors, unit)[:, :, 0]
    return d * (along * torch.log(values)).sum(dim=1).real
