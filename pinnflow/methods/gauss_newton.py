r"""Gauss-Newton with Levenberg-Marquardt damping for networks of up to a few thousand weights, in float64.

A step minimises $|J d + r|^2 + \lambda |d|^2$. The triangular factor of $J^T J + \lambda I$ gives a first solution and
one correction with J itself brings it to the accuracy of an orthogonal factorisation (corrected seminormal equations,
Bjorck, Linear Algebra Appl. 88/89, 1987); with fewer residuals than weights the dual form
$d = -J^T (J J^T + \lambda I)^{-1} r$ is smaller. Several damping factors are tried at every step and the best is kept.
Points are redrawn after accepted steps, half of them where the residual is large.

Sources: Mueller & Zeinhofer, Achieving high accuracy with PINNs via energy natural gradients, 2302.13163; Nocedal &
Wright, Numerical Optimization (2006), sec. 10.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pinnflow.methods.objective import Objective

PROBES = (0.03, 0.3, 3.0)  # times the last damping
FIRST_DAMPING = 1e-2  # of the mean square of the columns of J
LEAST, MOST = 1e-14, 1e6
REDRAW = 4  # accepted steps on one set of points
REFUSALS = 8  # rounds of probes without success before the points are redrawn; twice that ends the training


def damped_step(jacobian: Tensor, residual: Tensor, damping: float, square: Tensor | None = None) -> Tensor | None:
    """The minimiser of |J d + r|^2 + damping |d|^2, `[p]`; None when the factorisation fails.

    Args:
        jacobian: `[N, p]`.
        residual: `[N]`.
        damping: positive.
        square: J^T J, or J J^T when N < p, where the caller has it already.
    """
    n, p = jacobian.shape
    dual = n < p
    if square is None:
        square = jacobian @ jacobian.T if dual else jacobian.T @ jacobian
    shifted = square + damping * torch.eye(len(square), dtype=square.dtype, device=square.device)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if int(failed):
        return None

    def solve(right):
        return torch.cholesky_solve(right[:, None], factor)[:, 0]

    if dual:
        y = solve(residual)
        y = y + solve(residual - jacobian @ (jacobian.T @ y) - damping * y)
        return -(jacobian.T @ y)
    d = solve(-(jacobian.T @ residual))
    return d + solve(-(jacobian.T @ (jacobian @ d + residual)) - damping * d)


def gauss_newton(
    objective: Objective, over: Callable[[], bool], record: Callable[[int, float], None]
) -> tuple[int, str]:
    """Train in place until `over()`; returns (steps, why it ended).

    Args:
        objective: what is minimised; its points are redrawn.
        over: whether the time is up, asked before every step.
        record: gets the number of the step and the root of the loss.
    """
    theta = objective.theta
    damping, refused, on_points, steps, stalls = None, 0, 0, 0, 0
    residual = objective.residuals(theta).detach()
    loss = float(residual @ residual)
    start = loss
    while not over():
        jacobian = objective.jacobian(theta).detach()
        square = jacobian @ jacobian.T if len(residual) < len(theta) else jacobian.T @ jacobian
        scale = float(square.diagonal().sum()) / len(theta)
        damping = FIRST_DAMPING if damping is None else damping
        best = None
        while best is None and not over():
            for factor in PROBES:
                tried = min(max(damping * factor, LEAST), MOST)
                step = damped_step(jacobian, residual, tried * scale, square)
                if step is None or not torch.isfinite(step).all():
                    continue
                moved = objective.residuals(theta + step).detach()
                value = float(moved @ moved)
                if math.isfinite(value) and value < (best[0] if best else loss):
                    best = (value, theta + step, moved, tried)
            if best is None:
                damping, refused = damping * 30, refused + 1
                if damping > MOST or refused > REFUSALS:
                    break
        steps += 1
        if best is not None:
            loss, theta, residual, damping = best
            on_points, refused = on_points + 1, 0
            objective.load(theta)
            record(steps, loss**0.5)
        if best is None or on_points >= REDRAW:
            stalls = stalls + 1 if loss > 0.98 * start or best is None else 0
            if stalls >= 6:
                return steps, "Gauss-Newton no longer lowers the residual: a wider `network` or more `points` may"
            objective.draw(adaptive=stalls < 3)
            residual = objective.residuals(theta).detach()
            loss = start = float(residual @ residual)
            on_points, refused = 0, 0
            damping = min(damping, 1.0)
    return steps, "the time was used up; raise `time_limit` for a smaller error"
