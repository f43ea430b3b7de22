"""All residuals of a module as one vector of its weights, with its Jacobian: what Gauss-Newton needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pinnflow.compiler.evaluation import Evaluation

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem


class System:
    """r(theta): every residual times sqrt(weight / n of its block), so that |r|^2 is the loss of `compile`.

    N residuals, p parameters; theta `[p]` holds the module's parameters in the order of `module.named_parameters()`,
    then the unknown coefficients. Functions of theta are pure: the module's own weights stay as they are.

    Args:
        problem: the declaration, or its `Evaluation`.
        module: maps `[n, columns]` to `[n, fields]`, row by row.
        points: `{block: [n, columns]}`.
        unknowns: `{symbol: 0-d tensor}` to start from; those of the problem if missing.
    """

    def __init__(
        self,
        problem: Problem | Evaluation,
        module: nn.Module,
        points: Mapping[str, Tensor],
        unknowns: Mapping | None = None,
    ):
        self.evaluation = problem if isinstance(problem, Evaluation) else Evaluation(problem)
        self.module, self.points = module, dict(points)
        self._weights = dict(module.named_parameters())
        self._shapes = [(name, parameter.shape) for name, parameter in self._weights.items()]
        self._start = dict(unknowns or {})
        self._rows = {name: self.evaluation.rows_of(name, tensor) for name, tensor in self.points.items()}

    @property
    def theta(self) -> Tensor:
        """The present parameters, `[p]`, detached."""
        like = next(iter(self._weights.values()))
        unknowns = [
            torch.as_tensor(self._start.get(symbol, 1.0), dtype=like.dtype, device=like.device).reshape(1)
            for symbol in self.evaluation.unknowns
        ]
        return torch.cat([*(weight.detach().reshape(-1) for weight in self._weights.values()), *unknowns])

    def load(self, theta: Tensor) -> dict:
        """Writes `theta [p]` into the module; returns the unknown coefficients `{symbol: float}`."""
        weights, unknowns = self._split(theta.detach())
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(weights[name])
        self._start = {symbol: float(value) for symbol, value in unknowns.items()}
        return dict(self._start)

    def r(self, theta: Tensor) -> Tensor:
        """The residual vector, `[N]`: block after block in the order of `points`."""
        weights, unknowns = self._split(theta)
        values = self.evaluation.values(self._network(weights), self.points, unknowns, self._rows)
        return torch.cat([self._factor(name) * value for name, value in values.items()])

    def J(self, theta: Tensor) -> Tensor:
        """The Jacobian dr/dtheta, `[N, p]`, dense, by one reverse pass over all rows at once.

        Row i of a module's result depends on row i of its input only, so every row of J is the gradient of a residual
        at a single point; `torch.func.vmap` computes them together.
        """
        return torch.cat([self._rows_of_jacobian(name, theta) for name in self.points])

    def Jv(self, theta: Tensor, v: Tensor) -> Tensor:
        """J v, `[N]`, for `v [p]`, by forward mode."""
        return torch.func.jvp(self.r, (theta,), (v,))[1]

    def JTv(self, theta: Tensor, v: Tensor) -> Tensor:
        """J^T v, `[p]`, for `v [N]`, by reverse mode."""
        return torch.func.vjp(self.r, theta)[1](v)[0]

    def _rows_of_jacobian(self, name, theta):
        points, data = self.points[name], self.evaluation.blocks[name].data
        if data is not None:  # measured values are constants: they do not enter the Jacobian, the noise does
            return torch.func.jacrev(lambda th: self._block(name, th, points, self._rows[name]))(theta)
        pieces = []
        for part, index in enumerate(self._rows[name]):
            alone = [torch.arange(int(i == part)) for i in range(len(self._rows[name]))]

            def one(th, row, alone=alone):
                return self._block(name, th, row[None], alone)[0]

            pieces.append(torch.func.vmap(torch.func.grad(one), (None, 0))(theta, points[index]))
        order = torch.cat(list(self._rows[name]))
        return torch.cat(pieces)[torch.argsort(order)]

    def _block(self, name, theta, points, rows):
        weights, unknowns = self._split(theta)
        value = self.evaluation.values(self._network(weights), {name: points}, unknowns, {name: rows})[name]
        return self._factor(name) * value

    def _factor(self, name) -> float:
        return (self.evaluation.blocks[name].weight / self.points[name].shape[0]) ** 0.5

    def _network(self, weights):
        return lambda x: torch.func.functional_call(self.module, weights, (x,))

    def _split(self, theta):
        sizes = [shape.numel() for _, shape in self._shapes]
        pieces = theta.split([*sizes, *[1] * len(self.evaluation.unknowns)])
        weights = {name: piece.reshape(shape) for (name, shape), piece in zip(self._shapes, pieces, strict=False)}
        unknowns = {s: piece[0] for s, piece in zip(self.evaluation.unknowns, pieces[len(sizes) :], strict=True)}
        return weights, unknowns
