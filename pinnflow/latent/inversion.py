"""Rows x = g(x) of a batch, each solved for itself: by iteration where g contracts, by Newton's method elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pinnflow.errors import NotSolved

PLAIN = 60  # iterations of x <- g(x)
NEWTON = 40
STARTS = 24  # other places to start from


def solve_fixed_points(
    g: Callable[[Tensor], Tensor], guess: Tensor, *, around: Tensor | None = None, tolerance: float = 1e-8
) -> Tensor:
    """The rows of x `[n, d]` with |x - g(x)| at rounding error, at worst `tolerance` (float32: 1e-4).

    Args:
        g: a map of `[n, d]` to `[n, d]` in which row i depends on row i only; it is called with all rows.
        guess: where the iteration starts.
        around: `[n, d]`; rows that are not found are looked for from other places, as far from here as the guess.

    Raises:
        NotSolved: some rows were not found; the message says how many, and how far off.
    """
    double = guess.dtype == torch.float64
    aim, allowed = (1e-13, tolerance) if double else (2e-6, max(tolerance, 1e-4))
    x = guess
    best, error = x, _distance(x, g(x))
    for _ in range(PLAIN):
        new = g(x)
        defect = _distance(x, new)
        better = defect <= error
        best, error = torch.where(better[:, None], x, best), torch.where(better, defect, error)
        if bool((error <= aim).all()):
            return best
        x = new
    best, error = _newton(g, best, error, aim)
    draw = torch.Generator().manual_seed(0)
    for _ in range(STARTS if around is not None else 0):
        lost = error > allowed
        if not bool(lost.any()):
            break
        away = torch.randn(guess.shape, generator=draw, dtype=torch.float64).to(guess)
        away = away / torch.linalg.vector_norm(away, dim=1, keepdim=True)
        length = torch.linalg.vector_norm(guess - around, dim=1, keepdim=True)
        x = torch.where(lost[:, None], around + length * away, best)
        x, defect = _newton(g, x, _distance(x, g(x)), aim)
        better = defect < error
        best, error = torch.where(better[:, None], x, best), torch.where(better, defect, error)
    if not bool((error <= allowed).all()):
        lost = int((~(error <= allowed)).sum())
        raise NotSolved(
            f"{lost} of {len(error)} steps could not be walked back (off by up to {float(error.max()):.1e}): the field "
            'contracts too much there; use shorter steps or `integrator="midpoint"`, both ways'
        )
    return best


def _newton(g, x, error, aim):
    """Damped Newton steps on x - g(x) = 0 with the d x d Jacobian of each row."""
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    damping = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
    for _ in range(NEWTON):
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            value = at - g(at)
            rows = [torch.autograd.grad(column.sum(), at, retain_graph=True)[0] for column in value.unbind(1)]
        jacobian = torch.stack(rows, dim=1)
        ridge = 1e-12 * (1 + jacobian.abs().amax(dim=(1, 2), keepdim=True)) * eye
        move = torch.linalg.solve(jacobian + ridge, value.detach())
        trial = x - damping * move
        defect = _distance(trial, g(trial).detach())
        better = defect < error
        x, error = torch.where(better[:, None], trial, x), torch.where(better, defect, error)
        damping = torch.where(better[:, None], (2 * damping).clamp(max=1), damping / 2)
        if bool((error <= aim).all()) or float(damping.max()) < 1e-6:
            break
    return x, error


def _distance(x, y):
    return torch.nan_to_num((x - y).abs().amax(dim=1), nan=torch.inf)
