"""What every training minimises: scaled residuals of a network and of unknown coefficients as functions of one vector.

Every residual is divided by the magnitude its terms would have for a field that varies over the box, so no weight is
typed; conditions count ten times. The vector theta holds the network's trainable parameters, then the coefficients in
a form that is easy to train.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pinnflow.compiler.evaluation import Evaluation
from pinnflow.compiler.payoff import Stopwatch
from pinnflow.compiler.recorded import Program, Unrecordable
from pinnflow.compiler.tiles import divide
from pinnflow.errors import NonFinite
from pinnflow.methods.balancing import causal_weights
from pinnflow.methods.base import Task
from pinnflow.methods.rows import row_terms
from pinnflow.sampling.adaptive import draw_by_residual
from pinnflow.sampling.points import draw_block
from pinnflow.trial.networks import NetworkTrial

CONDITION_WEIGHT = 10.0
CONDITION_SHARE = 0.5  # condition points over equation points, all blocks together
FEWEST = 32  # points of a condition
CANDIDATES = 4  # per point that is drawn by the residual
LONG_ENOUGH = 5  # times the seconds that compiling takes must be left, or the loss stays as it is


def field_scales(task: Task) -> list[float]:
    """A typical size per field: the largest rms of data that a condition or observation gives for its value, else 1."""
    sizes = [0.0] * len(task.problem.fields)
    rng = task.rng(8)
    for term in row_terms(task):
        values = [a for a in term.part.atoms if a.order == 0]
        if term.block.kind == "observation":
            if len(values) == 1 and len(term.part.atoms) == 1:
                f = task.field_index(values[0])
                sizes[f] = max(sizes[f], float(np.sqrt(np.mean(np.square(term.block.data[1])))))
            continue
        if term.block.kind == "equation" or len(term.part.atoms) != 1 or not values:
            continue
        points = task.draw(term, 100, rng)
        nothing = [torch.zeros(len(points), dtype=torch.float64)]
        unknowns = unknown_starts(task)
        slope = float(term.residual.slopes(points, nothing, unknowns)[0].double().square().mean().sqrt())
        data = float(term.residual.value(points, nothing, unknowns).double().square().mean().sqrt())
        if slope > 0 and math.isfinite(data):
            f = task.field_index(values[0])
            sizes[f] = max(sizes[f], data / slope)
    return [s or 1.0 for s in sizes]


def unknown_starts(task: Task) -> list[Tensor]:
    """The initial values of the unknown coefficients, 0-d tensors."""
    return [torch.tensor(float(getattr(v, "initial", v)), dtype=torch.float64) for v in task.problem.unknowns.values()]


class Unknowns(nn.Module):
    """Unknown coefficients in a form that is easy to train: bounded ones through a sigmoid, others over their start."""

    def __init__(self, task: Task):
        super().__init__()
        self.symbols = tuple(task.problem.unknowns)
        self.limits, self.bounded = [], []
        for value in task.problem.unknowns.values():
            low, high = getattr(value, "low", None), getattr(value, "high", None)
            start = float(getattr(value, "initial", value))
            self.limits.append((start, abs(start) or 1.0) if low is None else (float(low), float(high)))
            self.bounded.append(low is not None)
        self.raw = nn.Parameter(torch.zeros(len(self.symbols), dtype=torch.float64))

    def values(self, raw: Tensor | None = None) -> dict:
        """{coefficient: 0-d tensor} in problem units."""
        raw = self.raw if raw is None else raw
        result = {}
        for i, (symbol, (a, b)) in enumerate(zip(self.symbols, self.limits, strict=True)):
            result[symbol] = a + (b - a) * torch.sigmoid(raw[i]) if self.bounded[i] else a + b * raw[i]
        return result


class Objective:
    """Residuals of one network on one set of points, redrawn at will.

    Args:
        task: the problem.
        network: maps `[n, columns]` to `[n, fields]`, row by row.
        number: of this network, for its random numbers.
        count: points of each equation.

    Attributes:
        weights: `{block: weight}` of the mean squares.
        points: `{block: [n, columns]}`.
    """

    def __init__(self, task: Task, network: nn.Module, number: int, count: int):
        self.task, self.network = task, network.to(task.device)
        self.count = task.points or count
        self.evaluation = Evaluation(task.problem)
        self.unknowns = Unknowns(task).to(task.device)
        self._named = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._sizes = [p.numel() for p in self._named.values()]
        like = next(iter(self._named.values()), torch.zeros((), dtype=task.dtype))
        self.dtype = like.dtype
        self.size = sum(self._sizes) + len(self.unknowns.symbols)
        self.rng = task.rng(9, number)
        self.weights = self._natural_weights()
        self.strictness = 0.0  # of causal weights
        self.points: dict[str, Tensor] = {}
        self.rows: dict = {}
        self._program = Program(self._recorded_loss, gradient=True, divide=partial(divide, self.evaluation))
        self._watch = Stopwatch()
        self._compiling = self._refused = False
        self.draw()

    # -- parameters ------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What an optimiser of torch is given."""
        return [*self._named.values(), *([self.unknowns.raw] if self.unknowns.symbols else [])]

    @property
    def theta(self) -> Tensor:
        """The present parameters, `[p]`, detached."""
        return torch.cat([p.detach().reshape(-1).to(self.dtype) for p in self.parameters])

    def load(self, theta: Tensor) -> None:
        """Write theta into the network and the coefficients."""
        with torch.no_grad():
            for p, piece in zip(self.parameters, theta.split([p.numel() for p in self.parameters]), strict=True):
                p.copy_(piece.reshape(p.shape))

    def _split(self, theta):
        pieces = theta.split([*self._sizes, len(self.unknowns.symbols)])
        weights = {n: piece.reshape(p.shape) for (n, p), piece in zip(self._named.items(), pieces, strict=False)}
        return weights, self.unknowns.values(pieces[-1])

    def unknown_values(self) -> list[Tensor]:
        return [v.detach().double().cpu() for v in self.unknowns.values().values()]

    def estimates(self) -> dict:
        return {s: float(v.detach()) for s, v in self.unknowns.values().items()}

    @property
    def trial(self) -> NetworkTrial:
        return NetworkTrial(self.network, [(high - low) / 2 for low, high in self.task.bounds])

    def function(self, points, wanted):
        """The network as methods use functions."""
        return [torch.as_tensor(v) for v in self.trial.derivatives(points.numpy(), wanted)]

    # -- points ----------------------------------------------------------------------------------------------------

    def draw(self, adaptive: bool = False) -> None:
        """Fresh points for every block; equations that are sampled alike share theirs.

        Args:
            adaptive: half the equation points are drawn where the residual is large.
        """
        task, shared = self.task, {}
        blocks = {n: b for n, b in self.evaluation.blocks.items() if self.weights[n]}
        conditions = sum(b.kind not in ("equation", "observation") for b in blocks.values())
        each = max(FEWEST, int(CONDITION_SHARE * self.count / max(conditions, 1)))
        points, rows = {}, {}
        for name, block in blocks.items():
            if block.kind == "observation":
                points[name] = torch.as_tensor(np.asarray(block.data[0], float), dtype=self.dtype, device=task.device)
                continue
            if block.kind == "equation" and block.parts[0].free in shared:
                points[name] = shared[block.parts[0].free]
                continue
            count = self.count if block.kind == "equation" else each
            array, index = draw_block(block, task.problem.bounds, task.problem.columns, count, self.rng)
            points[name] = torch.as_tensor(array, dtype=self.dtype, device=task.device)
            if block.kind == "equation":
                if adaptive:
                    points[name] = self._crowd(name, block, points[name])
                shared[block.parts[0].free] = points[name]
            if len(index) > 1:
                rows[name] = [torch.as_tensor(r, device=task.device) for r in index]
        self.points, self.rows = points, rows

    def _crowd(self, name, block, uniform):
        n = len(uniform) // 2
        array, _ = draw_block(block, self.task.problem.bounds, self.task.problem.columns, CANDIDATES * n, self.rng)
        pool = torch.as_tensor(array, dtype=self.dtype, device=self.task.device)
        with torch.no_grad():
            values = self.evaluation.values(self.network, {name: pool}, self.unknowns.values())[name]
        kept = draw_by_residual(values.double().cpu().numpy(), n, self.rng)
        return torch.cat([uniform[n:], pool[torch.as_tensor(kept, device=pool.device)]])

    # -- values ----------------------------------------------------------------------------------------------------

    def residuals(self, theta: Tensor) -> Tensor:
        """r(theta), `[N]`: |r|^2 is the loss; a pure function."""
        weights, unknowns = self._split(theta)

        def network(x):
            return torch.func.functional_call(self.network, weights, (x,))

        values = self.evaluation.values(network, self.points, unknowns, self.rows)
        return torch.cat([self._factor(name) * value for name, value in values.items()])

    def jacobian(self, theta: Tensor, only: slice = slice(None)) -> Tensor:
        """dr/dtheta, `[N, p]`: row i depends on point i alone, so all rows are gradients taken together.

        Args:
            only: the part of theta that is differentiated by.
        """
        return torch.cat([self._block_jacobian(name, theta, only) for name in self.points])

    def _block_jacobian(self, name, theta, only):
        points, data = self.points[name], self.evaluation.blocks[name].data

        def block(part, places, rows):
            full = torch.cat([theta[: only.start or 0], part, theta[only.stop :]]) if only != slice(None) else part
            weights, unknowns = self._split(full)

            def network(x):
                return torch.func.functional_call(self.network, weights, (x,))

            given = None if rows is None else {name: rows}
            return self._factor(name) * self.evaluation.values(network, {name: places}, unknowns, given)[name]

        if data is not None:  # measured values belong to their points, so the points stay together
            return torch.func.jacrev(lambda part: block(part, points, None))(theta[only])
        rows = self.rows.get(name)
        if rows is None:
            one = torch.func.grad(lambda part, row: block(part, row[None], None)[0])
            return torch.func.vmap(one, (None, 0))(theta[only], points)
        pieces = []
        for i, index in enumerate(rows):
            alone = [torch.arange(int(i == j), device=points.device) for j in range(len(rows))]
            one = torch.func.grad(lambda part, row, alone=alone: block(part, row[None], alone)[0])
            pieces.append(torch.func.vmap(one, (None, 0))(theta[only], points[index]))
        return torch.cat(pieces)[torch.argsort(torch.cat(rows))]

    def _factor(self, name) -> float:
        return (self.weights[name] / self.points[name].shape[0]) ** 0.5

    def loss(self) -> Tensor:
        """Sum over blocks of weight times mean square residual; differentiable by the parameters in place.

        Compiled with its gradient once the steps so far would have saved what that costs, if there is time left.
        """
        self._watch.tick()
        if self._watch.pays and self.task.clock.left > LONG_ENOUGH * self._watch.cost:
            self._compiling = True
        if self._compiling and not self._refused and not self.strictness:
            like = next(iter(self.points.values()))
            weights = [like.new_tensor(self.weights[name]) for name in self.points]
            try:
                return self._program(self.network, self.points, self.unknowns.values(), self.rows, weights)
            except Unrecordable:
                self._refused = True
        return sum(self.parts_of_loss().values())

    def _recorded_loss(self, network, points, unknowns, rows, weights):
        weight_of = dict(zip(self.points, weights, strict=True))  # of a tile's blocks as well
        values = self.evaluation.values(network, points, unknowns, rows)
        return torch.stack([weight_of[name] * value.square().mean() for name, value in values.items()]).sum()

    def parts_of_loss(self, weighted: bool = True) -> dict[str, Tensor]:
        """{block: weight times mean square residual}, equations with causal weights."""
        values = self.evaluation.values(self.network, self.points, self.unknowns.values(), self.rows)
        result, task = {}, self.task
        for name, value in values.items():
            squares = value.square()
            if self.strictness and task.time_column is not None and self.evaluation.blocks[name].kind == "equation":
                times = self.points[name][:, task.time_column]
                span = task.bounds[task.time_column]
                squares = squares * causal_weights(times, self.weights[name] * squares, span, self.strictness)
            result[name] = (self.weights[name] if weighted else 1.0) * squares.mean()
        return result

    def check_start(self) -> None:
        """Refuse a residual that is not finite before any training, naming the sub-expression."""
        with torch.no_grad():
            sentence = self.evaluation.explain(self.network, self.points, self.unknowns.values(), self.rows)
        if sentence is not None:
            raise NonFinite(f"the first residual is not finite: {sentence}")

    def _natural_weights(self) -> dict[str, float]:
        """1 / scale^2 per block, the scale being what its terms amount to for a field that varies over the box."""
        sizes = field_scales(self.task)
        half = [(high - low) / 2 for low, high in self.task.bounds]
        weights: dict[str, float] = {}
        rng = self.task.rng(10)
        for term in self.task.terms:
            if term.exact:
                weights[term.block.name] = 0.0
                continue
            points = self.task.draw(term, 200, rng)
            spread = [sizes[self.task.field_index(a)] for a in term.part.atoms]
            atoms = [size * torch.as_tensor(rng.normal(size=len(points))) for size in spread]
            slopes = term.residual.slopes(points, atoms, unknown_starts(self.task))
            scale = 0.0
            for atom, slope in zip(term.part.atoms, slopes, strict=True):
                size = sizes[self.task.field_index(atom)]
                size /= math.prod(h**o for h, o in zip(half, atom.orders, strict=True))
                magnitude = float(slope.double().abs().mean())
                scale = max(scale, (magnitude if math.isfinite(magnitude) else 0.0) * size)
            noise = (getattr(term.block, "data", None) or (None,) * 3)[2]
            if noise is not None:  # the compiler divides these residuals by their standard deviation
                scale /= float(np.sqrt(np.mean(np.square(noise))))
            factor = 1.0 if term.block.kind == "equation" else CONDITION_WEIGHT
            weights[term.block.name] = factor * term.block.weight / (scale or 1.0) ** 2
        return weights
