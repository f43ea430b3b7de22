"""Self-scaled Broyden with a dense inverse Hessian, and L-BFGS, in float64 with a strong Wolfe line search.

Sources: Al-Baali, Numerical experience with a class of self-scaling quasi-Newton algorithms, J. Optim. Theory Appl. 96
(1998); Urban, Stefanou & Pons, Unveiling the optimization process of physics informed neural networks, 2405.04230.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import scipy.optimize
import torch

from pinnflow.methods.objective import Objective

LARGEST = 4000  # weights; the inverse Hessian is dense
REDRAW = 200  # steps on one set of points
STALLS = 6


def update_inverse(h: np.ndarray, s: np.ndarray, y: np.ndarray, bs: float) -> np.ndarray:
    """The self-scaled Broyden update of the inverse Hessian; satisfies H y = s.

    Args:
        h: `[p, p]`, symmetric positive definite.
        s: step, `[p]`.
        y: change of the gradient, `[p]`, with y.s > 0.
        bs: s.B s, B the inverse of `h`.
    """
    hy, ys = h @ y, float(y @ s)
    yhy = float(y @ hy)
    b, big = bs / ys, yhy / ys
    a = max(big * b - 1.0, 0.0)  # 0 when s and H y are parallel
    if a < 1e-12:
        theta, scale = 0.0, min(1.0, 1.0 / b)
    else:
        low = min(1.0, big * (1.0 - math.sqrt(a / (a + 1.0))))
        theta = max((low - 1.0) / a, min(1.0 / low, (1.0 - b) / b))
        sigma = 1.0 + a * theta
        root = abs(sigma) ** (-1.0 / max(len(s) - 1, 1))
        scale = min(1.0, 1.0 / b)
        scale = scale * min(root, 1.0 / theta) if theta > 0 else min(scale * root, sigma)
    phi = (1.0 - theta) / (1.0 + a * theta)
    v = math.sqrt(yhy) * (s / ys - hy / yhy)
    inner = h - np.outer(hy, hy) / yhy + phi * np.outer(v, v)
    result = inner / max(scale, 1e-10) + np.outer(s, s) / ys
    return (result + result.T) / 2


class _Function:
    """Loss and gradient of an objective as functions of a numpy vector; the last call is remembered."""

    def __init__(self, objective: Objective):
        self.objective, self.key, self.pair = objective, None, None

    def both(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        key = theta.tobytes()
        if key != self.key:
            objective = self.objective
            objective.load(torch.as_tensor(theta, dtype=objective.dtype, device=objective.task.device))
            loss = objective.loss()
            gradient = torch.autograd.grad(loss, objective.parameters, allow_unused=True)
            flat = [
                (torch.zeros_like(p) if g is None else g).reshape(-1).double().cpu().numpy()
                for g, p in zip(gradient, objective.parameters, strict=True)
            ]
            self.key, self.pair = key, (float(loss.detach()), np.concatenate(flat))
        return self.pair

    def value(self, theta):
        return self.both(theta)[0]

    def gradient(self, theta):
        return self.both(theta)[1]


def broyden(objective: Objective, over: Callable[[], bool], record: Callable[[int, float], None]) -> tuple[int, str]:
    """Train in place until `over()`; (steps, why it ended). Arguments as for `gauss_newton`."""
    theta = objective.theta.double().cpu().numpy()
    h, fresh, steps, stalls = np.eye(len(theta)), True, 0, 0
    call = _Function(objective)
    loss, gradient = call.both(theta)
    start, before = loss, None
    ended = "the time was used up; raise `time_limit` for a smaller error"
    while not over():
        direction = -(h @ gradient)
        slope = float(gradient @ direction)
        moved = None
        if slope < 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a failed search is answered below
                found = scipy.optimize.line_search(
                    call.value, call.gradient, theta, direction, gradient, loss, before, c1=1e-4, c2=0.9, maxiter=20
                )
            if found[0] is not None and np.isfinite(found[3] if found[3] is not None else loss):
                moved = theta + found[0] * direction
        if moved is None:
            if not fresh:  # the curvature is of no use any more: steepest descent starts it anew
                h, fresh = np.eye(len(theta)), True
                continue
            stalls += 1
        else:
            value, new = call.both(moved)
            s, y = moved - theta, new - gradient
            if float(y @ s) > 1e-14 * float(np.linalg.norm(y) * np.linalg.norm(s)):
                if fresh:
                    h *= float(y @ s) / float(y @ y)
                    bs = float(s @ s) * float(y @ y) / float(y @ s)
                else:
                    bs = -float(found[0]) * float(s @ gradient)  # B s = -alpha g
                h, fresh = update_inverse(h, s, y, bs), False
            theta, before, loss, gradient = moved, loss, value, new
            steps += 1
            record(steps, loss**0.5)
        if moved is None or steps % REDRAW == 0:
            stalls = stalls if moved is None else (stalls + 1 if loss > 0.98 * start else 0)
            if stalls >= STALLS:
                ended = "the quasi-Newton steps no longer lower the residual: a wider `network` or more `points` may"
                break
            _load(objective, theta)
            objective.draw(adaptive=True)
            call.key, before = None, None
            loss, gradient = call.both(theta)
            start = loss
    _load(objective, theta)
    return steps, ended


def lbfgs(objective: Objective, over: Callable[[], bool], record: Callable[[int, float], None]) -> tuple[int, str]:
    """L-BFGS on redrawn points; never ends before `over()` without saying why. Arguments as for `gauss_newton`."""
    steps, stalls = 0, 0
    while not over():
        kept = objective.theta
        start = float(objective.loss().detach())
        now = start
        memory = torch.optim.LBFGS(
            objective.parameters,
            max_iter=20,
            history_size=60,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def closure(memory=memory):
            memory.zero_grad()
            loss = objective.loss()
            loss.backward()
            return loss

        for _ in range(REDRAW // 20):
            previous = now
            memory.step(closure)
            steps += 20
            now = float(objective.loss().detach())
            if not math.isfinite(now) or now > 1.5 * previous:
                objective.load(kept)
                break
            kept = objective.theta
            record(steps, abs(now) ** 0.5)
            if over() or now > 0.999 * previous:
                break
        stalls = 0 if math.isfinite(now) and now < 0.98 * start else stalls + 1
        if stalls >= STALLS:
            return steps, "L-BFGS no longer lowers the residual: a wider `network` or more `points` may"
        if not over():
            objective.draw(adaptive=True)
    return steps, "the time was used up; raise `time_limit` for a smaller error"


def _load(objective, theta):
    objective.load(torch.as_tensor(theta, dtype=objective.dtype, device=objective.task.device))
