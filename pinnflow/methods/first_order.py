"""First-order training for networks too large for a matrix of their weights: SOAP and Adam.

The rate rises, stays, and decays with the time that is used; points are redrawn now and then; the weights of the blocks
follow their gradients; for evolution problems later times wait until earlier ones are learnt.

Sources: Kingma & Ba, 1412.6980 (Adam); Vyas et al., SOAP: improving and stabilizing Shampoo using Adam, 2409.11321.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pinnflow.methods.balancing import balanced
from pinnflow.methods.objective import Objective

RATE = 2e-3
LAST_RATE = 0.02  # of the rate, at the end
WARM_UP = 100  # steps
REDRAW = 50
BALANCE = 100  # steps between updates of the blocks' weights
STRICTNESS = 1.0  # of causal weights, relative residuals squared


class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of the gradient's second moments on either side of a matrix.

    Args:
        parameters: vectors are treated as Adam does.
        lr: rate.
        beta: decay of all averages.
        every: steps between updates of the eigenbases.
    """

    def __init__(self, parameters, lr: float = RATE, beta: float = 0.95, every: int = 5, eps: float = 1e-12):
        super().__init__(parameters, {"lr": lr, "beta": beta, "every": every, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        """One step with the gradients as they are."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, self.state[p], group)

    def _update(self, p: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        beta = group["beta"]
        if not state:
            state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p), sides=[])
            if p.ndim == 2:
                state["sides"] = [torch.zeros(n, n, dtype=p.dtype, device=p.device) for n in p.shape]
                state["bases"] = [torch.eye(n, dtype=p.dtype, device=p.device) for n in p.shape]
        state["step"] += 1
        if state["sides"]:
            left, right = state["sides"]
            left.lerp_(gradient @ gradient.T, 1 - beta)
            right.lerp_(gradient.T @ gradient, 1 - beta)
            if state["step"] % group["every"] == 1:
                self._turn(state)
            u, v = state["bases"]
            gradient = u.T @ gradient @ v
        state["mean"].lerp_(gradient, 1 - beta)
        state["square"].lerp_(gradient.square(), 1 - beta)
        correction = 1 - beta ** state["step"]
        step = (state["mean"] / correction) / ((state["square"] / correction).sqrt() + group["eps"])
        if state["sides"]:
            u, v = state["bases"]
            step = u @ step @ v.T
        p.sub_(group["lr"] * step)

    def _turn(self, state):
        """New eigenbases; the first moment turns with them."""
        old = state["bases"]
        new = [torch.linalg.eigh(side)[1].flip(1) for side in state["sides"]]
        state["mean"] = new[0].T @ (old[0] @ state["mean"] @ old[1].T) @ new[1]
        state["bases"] = new


def adam(objective: Objective, over: Callable[[], bool], record: Callable[[int, float], None], share=None):
    """Adam until `over()`; (steps, why it ended). Arguments as for `gauss_newton`, `share` as for `descend`."""
    return descend(objective, torch.optim.Adam(objective.parameters, lr=RATE), over, record, share)


def soap(objective: Objective, over: Callable[[], bool], record: Callable[[int, float], None], share=None):
    """SOAP until `over()`; (steps, why it ended). Arguments as for `gauss_newton`, `share` as for `descend`."""
    return descend(objective, SOAP(objective.parameters), over, record, share)


def descend(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    over: Callable[[], bool],
    record: Callable[[int, float], None],
    share: Callable[[], float] | None = None,
) -> tuple[int, str]:
    """Steps of an optimiser until the time is over.

    Args:
        share: the part of the time that is used, for the rate; without it the rate does not decay.
    """
    steps, best, kept = 0, math.inf, objective.theta
    natural = dict(objective.weights)
    if objective.task.time_column is not None:
        objective.strictness = STRICTNESS
    ended = "the time was used up; raise `time_limit` for a smaller error"
    while not over():
        done = min(max(share(), 0.0), 1.0) if share else 0.0
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (steps + 1) / WARM_UP) * LAST_RATE**done
        if done > 0.5:
            objective.strictness = 0.0
        optimizer.zero_grad()
        loss = objective.loss()
        loss.backward()
        value = float(loss.detach())
        if not math.isfinite(value):
            objective.load(kept)
            ended = "a residual was not finite; the best weights before are kept"
            break
        if value < best and steps % 20 == 0:
            best, kept = value, objective.theta
        optimizer.step()
        steps += 1
        if steps % BALANCE == 0:
            objective.weights = balanced(objective.weights, gradient_norms(objective))
            record(steps, value**0.5)
        if steps % REDRAW == 0:
            objective.draw(adaptive=steps % (2 * REDRAW) == 0)
    objective.weights, objective.strictness = natural, 0.0
    return steps, ended


def gradient_norms(objective: Objective) -> dict[str, float]:
    """Norm of the gradient of each block's mean square, unweighted."""
    norms = {}
    for name, part in objective.parts_of_loss(weighted=False).items():
        gradient = torch.autograd.grad(part, objective.parameters, retain_graph=True, allow_unused=True)
        norms[name] = math.sqrt(sum(float(g.square().sum()) for g in gradient if g is not None))
    return norms
