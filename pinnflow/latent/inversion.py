"""Rows x = g(x) of a batch, each solved for itself: by iteration where g contracts, by Newton's method elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pinnflow.errors import NotSolved

PLAIN = 60  # iterations of x <- g(x)
CONTRACTION = 0.8  # of |x - g(x)| in one of them, at least
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
    best, error = nearby_fixed_points(g, guess)
    draw = torch.Generator().manual_seed(0)
    for _ in range(STARTS):
        lost = error > allowed
        if around is None or not bool(lost.any()):
            break
        away = torch.randn(guess.shape, generator=draw, dtype=torch.float64).to(guess)
        away = away / torch.linalg.vector_norm(away, dim=1, keepdim=True)
        length = torch.linalg.vector_norm(guess - around, dim=1, keepdim=True)
        x = torch.where(lost[:, None], around + length * away, best)
        x, defect = _newton(g, x, _distance(x, g(x)), aim)
        better = defect < error
        best, error = torch.where(better[:, None], x, best), torch.where(better, defect, error)
    if not bool((error <= allowed).all()):
        rows = int((~(error <= allowed)).sum())
        raise NotSolved(
            f"{rows} of {len(error)} steps could not be walked back or solved for (off by up to "
            f"{float(error.max()):.1e}): the field contracts too much there, or has its summit within the step; use "
            'shorter steps or, where steps are explicit, `integrator="midpoint"`, both ways'
        )
    return best


def nearby_fixed_points(g: Callable[[Tensor], Tensor], guess: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions looked for beside the guess alone, and how far off they are: x `[n, d]`, max |x - g(x)| `[n]`."""
    aim = 1e-13 if guess.dtype == torch.float64 else 2e-6
    best, error = _iterate(g, guess, aim)
    return _newton(g, best, error, aim)


def _iterate(g, guess, aim):
    """`(x, |x - g(x)|)` by x <- g(x) in the rows where that contracts all along; the guess in the others.

    Where it does not contract, several codes are moved to the same place, and iteration ends at one far from the guess.
    Newton's method then finds the one beside the guess: the straightest way, which walks along a ridge came.
    """
    x, new = guess, g(guess)
    error = first = _distance(x, new)
    contracts = torch.ones_like(error, dtype=torch.bool)
    for _ in range(PLAIN):
        move = contracts & (error > aim)
        if not bool(move.any()):
            break
        after = g(new)
        defect = _distance(new, after)
        contracts = contracts & ((defect <= CONTRACTION * error) | (error <= aim))
        move = move & contracts
        x, new = torch.where(move[:, None], new, x), torch.where(move[:, None], after, new)
        error = torch.where(move, defect, error)
    contracts = contracts | (error <= aim)
    return torch.where(contracts[:, None], x, guess), torch.where(contracts, error, first)


def _newton(g, x, error, aim):
    """Damped Newton steps on x - g(x) = 0 with the d x d Jacobian of each row."""
    if bool((error <= aim).all()):
        return x, error
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
