"""All residuals of a module as one vector of its weights, with its Jacobian: what Gauss-Newton needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pinnflow.compiler.evaluation import Evaluation
from pinnflow.errors import UnknownName

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem


FORWARD = 4
"""Up to so many parameters a Jacobian takes forward mode: per-row gradients cost about as much as four values."""


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

    def J(self, theta: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """The Jacobian dr/dtheta, `[N, p]`, dense, without a loop over rows or parameters.

        Row i of a module's result depends on row i of its input only, so every row of J is the gradient of a residual
        at a single point, and `torch.func.vmap` computes them together: one reverse pass whatever p is. A few
        parameters take forward mode, one pass for each.

        Args:
            theta: `[p]`.
            names: parameters of the module whose columns are wanted, in their order in `theta`; for those of
                `last_layer` the reverse pass ends at the features, so J costs hardly more than r. By default all of
                them and the unknown coefficients.
        """
        columns = torch.arange(theta.shape[0], device=theta.device) if names is None else self._columns(names)
        if len(columns) <= FORWARD:

            def moved(some):
                return self.r(theta.index_put((columns,), some))

            return torch.func.jacfwd(moved)(theta[columns])
        return torch.cat([self._rows_of_jacobian(name, theta, names) for name in self.points])

    @property
    def last_layer(self) -> tuple[str, ...]:
        """Names of the parameters of the last `nn.Linear`, the coefficients of the features before it.

        Raises:
            UnknownName: the module has none.
        """
        layers = [name for name, one in self.module.named_modules() if isinstance(one, nn.Linear)]
        if not layers:
            raise UnknownName("layer", "nn.Linear", [type(one).__name__ for one in self.module.modules()])
        prefix = f"{layers[-1]}." if layers[-1] else ""
        return tuple(name for name in (f"{prefix}weight", f"{prefix}bias") if name in self._weights)

    def _columns(self, names):
        pieces, start = [], 0
        for name, shape in self._shapes:
            if name in names:
                pieces.append(torch.arange(start, start + shape.numel()))
            start += shape.numel()
        return torch.cat(pieces).to(self.theta.device)

    def Jv(self, theta: Tensor, v: Tensor) -> Tensor:
        """J v, `[N]`, for `v [p]`, by forward mode."""
        return torch.func.jvp(self.r, (theta,), (v,))[1]

    def JTv(self, theta: Tensor, v: Tensor) -> Tensor:
        """J^T v, `[p]`, for `v [N]`, by reverse mode."""
        return torch.func.vjp(self.r, theta)[1](v)[0]

    def _rows_of_jacobian(self, name, theta, names):
        points, block = self.points[name], self.evaluation.blocks[name]
        weights, unknowns = self._split(theta)
        # The vector that is differentiated: all of theta, or the parameters that are asked for.
        wanted = theta if names is None else torch.cat([weights[n].reshape(-1) for n, _ in self._shapes if n in names])
        pieces = []
        for part, index in enumerate(self._rows[name]):
            alone = [torch.arange(int(i == part)) for i in range(len(self._rows[name]))]

            def one(some, row, alone=alone):
                moved = self._split(some) if names is None else ({**weights, **self._named(some, names)}, unknowns)
                return self._block(name, moved, row[None], alone)[0]

            pieces.append(torch.func.vmap(torch.func.grad(one), (None, 0))(wanted, points[index]))
        found = torch.cat(pieces)[torch.argsort(torch.cat(list(self._rows[name])))]
        # Measured values are constants: they do not enter the Jacobian, the noise does.
        return found if block.data is None else found / self.evaluation.noise(name, found)[:, None]

    def _named(self, some, names):
        shapes = [(name, shape) for name, shape in self._shapes if name in names]
        pieces = some.split([shape.numel() for _, shape in shapes])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(shapes, pieces, strict=True)}

    def _block(self, name, moved, points, rows):
        """A block's residual without its data, at points that need not be all of them."""
        weights, unknowns = moved
        values = self.evaluation.values(self._network(weights), {name: points}, unknowns, {name: rows}, with_data=False)
        return self._factor(name) * values[name]

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
