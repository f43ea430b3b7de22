"""Networks trained by Adam, then L-BFGS: for unknown coefficients, many coordinates, or a network of the user's own.

Every residual is divided by the magnitude its linearised rows would have on the scaled box, so no weight is typed; the
loss is the mean square of these over all blocks, conditions counted ten times. Where one system of features resolves
the axes, the trained network is the start of a Newton step on features, which polishes it and gives the error; else a
second network from other random numbers does.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from pinnflow.compiler.evaluation import Evaluation
from pinnflow.errors import NonFinite
from pinnflow.methods.base import Outcome, Task, register_method
from pinnflow.methods.least_squares import estimate_error, grow
from pinnflow.methods.newton import NewtonSearch
from pinnflow.methods.rows import as_function, distance, measure, row_terms
from pinnflow.sampling.points import draw_block
from pinnflow.trial.networks import NetworkTrial, make_network

CONDITION_WEIGHT = 10.0
EQUATION_POINTS = 2048
ADAM_SHARE = 0.4
RATE = 2e-3


@register_method("network")
def solve_network(task: Task) -> Outcome:
    """Train; then polish on features where that is possible, or train a second network to measure the distance."""
    own = isinstance(task.network, nn.Module)
    small = task.dimension <= 3 and not task.problem.unknowns
    begin, limit = task.clock.elapsed, task.clock.limit
    share = 0.6 if not own or small else 0.95
    task.clock.limit = begin + share * (limit - begin)
    first = Training(task, build_network(task, 0), 0)
    first.run()
    task.clock.limit = limit
    trial, function = first.trial, first.function
    checks = [task.draw(t, 2000 if t.block.kind == "equation" else 200, task.rng(6)) for t in row_terms(task)]
    score = measure(task, checks, function, unknowns=first.unknown_values()).score()
    remarks = [f"network with {first.size} weights, {first.steps} steps, relative residual {score:.1e}"]
    outcome = Outcome(trial, float("inf"), score, first.stop, "network", remarks, first.estimates())
    task.keep(outcome)
    if small:
        return polish(task, outcome, own)
    if own:
        outcome.error_estimate = score  # beliefs about an error need a second solution; the residual is what there is
        outcome.remarks.append("the estimate is the relative residual: there is no second solution to compare with")
        return outcome
    second = Training(task, build_network(task, 1), 1)
    second.run()
    rival = measure(task, checks, second.function, unknowns=second.unknown_values()).score()
    gap = max(distance(task, checks[0], function, second.function))
    if rival < score:
        outcome = Outcome(second.trial, 0.0, rival, second.stop, "network", remarks, second.estimates())
    # Two networks of unequal quality: the distance belongs to both in the ratio of their residuals.
    outcome.error_estimate = gap * min(score, rival) / max(math.hypot(score, rival), 1e-300) * 2**0.5
    outcome.remarks.append("the estimate compares two networks")
    return outcome


def polish(task: Task, outcome: Outcome, keep_network: bool) -> Outcome:
    """Newton steps on features from the trained network: a better solution, and the error of the network."""
    network = as_function(outcome.trial)
    search = NewtonSearch(task)
    search.current, search.current_score = network, outcome.score
    search.pilots()
    fresh = task.draw(row_terms(task)[0], 2000, task.rng(7))
    if keep_network:
        best = search.ranked()[0]
        outcome.error_estimate = max(distance(task, fresh, network, best.function))
        return outcome
    polished = grow(task, search)
    if polished.score < outcome.score:
        polished.method = "network"
        polished.remarks = [*outcome.remarks, "polished by Newton steps on " + polished.remarks[0]]
        return polished
    outcome.error_estimate = max(
        max(distance(task, fresh, network, search.ranked()[0].function)), estimate_error(task, fresh, search.ranked())
    )
    return outcome


def build_network(task: Task, number: int) -> nn.Module:
    """The user's module, a registered network by name, or the default one for the problem's axes."""
    if isinstance(task.network, nn.Module):
        return task.network
    if number == 0 and isinstance(task.start, NetworkTrial):
        return task.start.module
    problem = task.problem
    periodic = [i for i, p in enumerate(task.periodic) if p]
    width = 48 if task.dimension <= 3 else 64
    return make_network(
        task.network or "mlp",
        inputs=task.dimension,
        outputs=len(problem.fields),
        width=width,
        depth=3,
        bounds=task.bounds,
        periodic=periodic,
        harmonics=4,
        scale=field_scales(task),
        dtype=task.dtype,
        seed=1000 * task.seed + number,
    )


def field_scales(task: Task) -> list[float]:
    """A typical size per field: the largest data that a condition gives for its value; 1 where none does."""
    sizes = [0.0] * len(task.problem.fields)
    rng = task.rng(8)
    for term in row_terms(task):
        values = [a for a in term.part.atoms if a.order == 0]
        if term.block.kind in ("equation", "observation") or len(term.part.atoms) != 1 or not values:
            if term.block.kind == "observation" and len(values) == 1:
                f = task.field_index(values[0])
                sizes[f] = max(sizes[f], float(np.abs(np.asarray(term.block.data[1])).max()))
            continue
        points = task.draw(term, 100, rng)
        nothing = [torch.zeros(len(points), dtype=torch.float64)]
        unknowns = unknown_starts(task)
        slope = float(term.residual.slopes(points, nothing, unknowns)[0].abs().max())
        data = float(term.residual.value(points, nothing, unknowns).abs().max())
        if slope > 0 and math.isfinite(data):
            f = task.field_index(values[0])
            sizes[f] = max(sizes[f], data / slope)
    return [s or 1.0 for s in sizes]


def unknown_starts(task: Task) -> list[Tensor]:
    """The initial values of the unknown coefficients, 0-d tensors."""
    return [torch.tensor(float(getattr(v, "initial", v)), dtype=torch.float64) for v in task.problem.unknowns.values()]


class Unknowns(nn.Module):
    """Unknown coefficients in a form that is easy to train: bounded ones through a sigmoid, others in units of their start."""

    def __init__(self, task: Task):
        super().__init__()
        self.symbols = tuple(task.problem.unknowns)
        self.limits = []
        starts = []
        for value in task.problem.unknowns.values():
            low, high = getattr(value, "low", None), getattr(value, "high", None)
            start = float(getattr(value, "initial", value)) if low is None else (float(low) + float(high)) / 2
            self.limits.append((start, abs(start) or 1.0) if low is None else (float(low), float(high)))
            starts.append(low is not None)
        self.bounded = starts
        self.raw = nn.Parameter(torch.zeros(len(self.symbols), dtype=torch.float64))

    def values(self) -> dict:
        """{coefficient: 0-d tensor} in problem units."""
        result = {}
        for i, (symbol, (a, b)) in enumerate(zip(self.symbols, self.limits, strict=True)):
            result[symbol] = a + (b - a) * torch.sigmoid(self.raw[i]) if self.bounded[i] else a + b * self.raw[i]
        return result


class Training:
    """One network trained on one set of points, redrawn now and then."""

    def __init__(self, task: Task, network: nn.Module, number: int):
        self.task, self.network, self.number = task, network.to(task.device), number
        self.evaluation = Evaluation(task.problem)
        self.unknowns = Unknowns(task).to(task.device)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        if task.problem.unknowns:
            self.parameters.append(self.unknowns.raw)
        like = next(iter(network.parameters()), torch.zeros((), dtype=task.dtype))
        self.dtype = like.dtype
        self.size = sum(p.numel() for p in self.parameters)
        self.rng = task.rng(9, number)
        self.weights = self._weights()
        self.steps, self.stop = 0, ""
        self.draw()

    @property
    def trial(self) -> NetworkTrial:
        return NetworkTrial(self.network, [(high - low) / 2 for low, high in self.task.bounds])

    def function(self, points, wanted):
        return [torch.as_tensor(v) for v in self.trial.derivatives(points.numpy(), wanted)]

    def unknown_values(self) -> list[Tensor]:
        return [v.detach().double().cpu() for v in self.unknowns.values().values()]

    def estimates(self) -> dict:
        return {s: float(v.detach()) for s, v in self.unknowns.values().items()}

    def draw(self) -> None:
        """Fresh points for every block; equations that are sampled alike share theirs."""
        count = self.task.points or EQUATION_POINTS
        self.points, self.rows, shared = {}, {}, {}
        for name, block in self.evaluation.blocks.items():
            if block.kind == "observation":
                array, rows = np.asarray(block.data[0], dtype=float), None
            elif block.kind == "equation" and block.parts[0].free in shared:
                self.points[name] = shared[block.parts[0].free]
                continue
            else:
                array, rows = draw_block(
                    block,
                    self.task.problem.bounds,
                    self.task.problem.columns,
                    count if block.kind == "equation" else count // 8,
                    self.rng,
                )
            tensor = torch.as_tensor(array, dtype=self.dtype, device=self.task.device)
            if block.kind == "equation":
                shared[block.parts[0].free] = tensor
            self.points[name] = tensor
            if rows is not None and len(rows) > 1:
                self.rows[name] = [torch.as_tensor(r, device=self.task.device) for r in rows]

    def _weights(self) -> dict[str, float]:
        """1 / scale^2 per block, the scale being what the terms amount to for a field that varies over the box."""
        sizes = field_scales(self.task)
        half = [(high - low) / 2 for low, high in self.task.bounds]
        weights: dict[str, float] = {}
        rng = self.task.rng(10)
        for term in self.task.terms:
            if term.exact:
                weights[term.block.name] = 0.0
                continue
            points = self.task.draw(term, 200, rng)
            values = [
                torch.full((len(points),), sizes[self.task.field_index(a)], dtype=torch.float64)
                for a in term.part.atoms
            ]
            slopes = term.residual.slopes(points, values, unknown_starts(self.task))
            scale = 0.0
            for atom, slope in zip(term.part.atoms, slopes, strict=True):
                size = sizes[self.task.field_index(atom)] / math.prod(
                    h**o for h, o in zip(half, atom.orders, strict=True)
                )
                magnitude = float(slope.double().square().mean().sqrt())
                scale = max(scale, (magnitude if math.isfinite(magnitude) else 0.0) * size)
            factor = 1.0 if term.block.kind == "equation" else CONDITION_WEIGHT
            weights[term.block.name] = factor * term.block.weight / (scale or 1.0) ** 2
        return weights

    def loss(self) -> Tensor:
        """Sum over blocks of weight times mean square residual."""
        values = self.evaluation.values(self.network, self.points, self.unknowns.values(), self.rows)
        return sum(self.weights[name] * v.square().mean() for name, v in values.items() if self.weights[name])

    def check_start(self) -> None:
        """Refuse a loss that is not finite before any training, naming the sub-expression."""
        with torch.no_grad():
            sentence = self.evaluation.explain(self.network, self.points, self.unknowns.values(), self.rows)
        if sentence is not None:
            raise NonFinite(f"the first residual is not finite: {sentence}")

    def run(self) -> None:
        """Adam with a decaying rate, then L-BFGS on redrawn points, until the time is up."""
        self.check_start()
        begin, limit = self.task.clock.elapsed, self.task.clock.limit
        switch = begin + ADAM_SHARE * (limit - begin)
        optimizer = torch.optim.Adam(self.parameters, lr=RATE)
        best, kept = float("inf"), None
        while self.task.clock.elapsed < switch:
            done = (self.task.clock.elapsed - begin) / max(switch - begin, 1e-9)
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, (self.steps + 1) / 100) * 0.05 ** min(done, 1.0)
            optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            value = float(loss.detach())
            if not math.isfinite(value):
                self._restore(kept)
                self.stop = "Adam met a residual that is not finite and went back to the best weights"
                break
            if value < best and self.steps % 20 == 0:
                best, kept = value, [p.detach().clone() for p in self.parameters]
            optimizer.step()
            self.steps += 1
            if self.steps % 50 == 0:
                self.draw()
            if self.steps % 100 == 0:
                self.task.record("adam", step=self.steps, score=value**0.5, unknowns=self.size)
        self._quasi_newton()

    def _quasi_newton(self) -> None:
        stalls = 0
        while not self.task.clock.over() and stalls < 3:
            self.draw()
            optimizer = torch.optim.LBFGS(
                self.parameters,
                lr=1.0,
                max_iter=25,
                history_size=60,
                tolerance_grad=0,
                tolerance_change=0,
                line_search_fn="strong_wolfe",
            )
            start = previous = float(self.loss().detach())
            kept = [p.detach().clone() for p in self.parameters]
            for _ in range(40):

                def closure():
                    optimizer.zero_grad()
                    loss = self.loss()
                    loss.backward()
                    return loss

                optimizer.step(closure)
                self.steps += 25
                now = float(self.loss().detach())
                self.task.record("l-bfgs", step=self.steps, score=abs(now) ** 0.5, unknowns=self.size)
                if not math.isfinite(now) or now > 10 * start:
                    self._restore(kept)
                    break
                kept = [p.detach().clone() for p in self.parameters]
                if self.task.clock.over() or now > 0.999 * previous:
                    break
                previous = now
            stalls = stalls + 1 if now > 0.9 * start else 0
        self.stop = self.stop or (
            "the time was used up; raise `time_limit` for a smaller error"
            if self.task.clock.over()
            else "L-BFGS no longer lowered the loss; a larger `network` or more `points` may"
        )

    def _restore(self, kept) -> None:
        if kept is not None:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, kept, strict=True):
                    parameter.copy_(value)
