"""`TrainedFlow`: fields with weights, trained for objectives, with checkpoints that resume to the same digits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pinnflow.errors import DamagedFile, NonFinite
from pinnflow.latent.checkpoint import read_state, write_state
from pinnflow.latent.objectives import Objective, Walk
from pinnflow.latent.potentials import scale_slopes
from pinnflow.latent.rendering import at_rest
from pinnflow.latent.traversal import Flow, positive

Progress = Callable[[dict[str, Any]], None]


class TrainedFlow(Flow):
    """A flow whose fields have weights. Subclasses make `self.field`, a module, and supply `velocity`.

    Attributes:
        field: the module that holds the weights.
        objectives: what it is trained for, an `nn.ModuleList`.
        history: one entry for each hundredth of a training, `{iteration, seconds, loss, name of objective: value}`.
        steps, step_length: of the walks in training.
    """

    field: Any  # an nn.Module

    branches = 3
    """Walks from every start of a batch, each along another field."""

    whole = 0.75
    """Share of the pairs of images that are start and end of a whole walk; the others are any two of its steps."""

    matching_share = 1.0
    """Share of the rate that is taken where sequences are matched at raw velocities."""

    def __init__(
        self,
        generator,
        latent_dim: int,
        potentials: int,
        *,
        objectives: Sequence[Objective],
        seed: int = 0,
        steps: int = 6,
        step_length: float | None = 0.35,
        rate: float = 3e-2,
        name: str | None = None,
        device=None,
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__(generator, latent_dim, potentials, name=name, device=device, dtype=dtype)
        if isinstance(objectives, Objective):
            raise ValueError(f"`objectives` is {objectives!r}; it must be a list such as `[Classifier(), Spread()]`")
        for one in objectives:
            if not isinstance(one, Objective):
                raise ValueError(f"`objectives` holds {one!r}; it must be a list of objects like `Classifier()`")
        self.objectives = nn.ModuleList(objectives)
        self.seed, self.steps, self.step_length, self.rate = seed, positive("steps", steps), step_length, rate
        self.two_way = any(one.two_way for one in objectives)
        self.iteration = 0
        self.history: list[dict[str, Any]] = []
        self._generator = torch.Generator().manual_seed(seed)
        self._optimizer: torch.optim.Optimizer | Any = None
        self._further: torch.optim.Optimizer | Any = None  # of steps for single objectives

    def place_weights(self) -> None:
        """Brings the field to the flow's device and dtype, and the objectives to the generator's."""
        self.field.to(device=self.device, dtype=self.dtype)
        if self.generator is not None:
            with at_rest(self.generator):
                for one in self.objectives:
                    one.prepare(self, self._generator)  # type: ignore[operator]

    @property
    def untrained(self) -> bool:
        """Whether the weights are the first ones."""
        return self.iteration == 0 and not self.history

    def scale_velocity(self, factor: float) -> bool:
        """Multiplies the velocities by a factor, in the weights; False, and nothing done, where there are none for it.

        Exact where velocities are linear in a weight, else of the right order.
        """
        return scale_slopes(self.field, factor)

    def fit(
        self,
        iterations: int | None = None,
        batch: int = 64,
        time_limit: float | None = None,
        progress: Progress | None = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
    ) -> TrainedFlow:
        """Trains until `iterations` have been made in all.

        Args:
            iterations: in all, those of an earlier call or a checkpoint included; by default 200 for each potential and
                at least 1000, so that each is walked as often however many there are.
            batch: starts for each iteration, every one walked along `branches` fields; field, direction and the pair of
                images are drawn for every walk.
            time_limit: seconds after which it stops; a later call goes on.
            progress: called with the latest entry of the history a hundred times.
            checkpoint: a file that holds all it takes to go on, written every hundredth of the training and at the end.
            resume: goes on from the checkpoint if the file exists; the digits are those of a training without a break.

        Returns:
            The flow itself.

        Raises:
            NonFinite: the loss is no number; the message names the objective.
            DamagedFile: the checkpoint is not one of this flow.
        """
        iterations = max(1000, 200 * self.potentials) if iterations is None else positive("iterations", iterations)
        positive("batch", batch)
        if time_limit is not None and not time_limit > 0:
            raise ValueError(f"`time_limit` is {time_limit!r}; it must be a positive number of seconds")
        if resume and checkpoint is None:
            raise ValueError("`resume=True` needs the file to resume from: `checkpoint='flow.ckpt'`")
        if self.generator is None:
            raise ValueError(f"`{self.name}` has no generator, so there is nothing to train it on")
        if not len(self.objectives):
            raise ValueError(f"`{self.name}` has no objectives, so there is nothing to train it for; see `objectives=`")
        if self._optimizer is None:
            self._optimizer = self._make_optimizer()
            if any(one.further for one in self.objectives):
                self._further = torch.optim.Adam(self.field.parameters(), lr=self.rate, betas=(0.9, 0.99))
        if resume and checkpoint is not None and Path(checkpoint).exists():
            self._restore(read_state(checkpoint), checkpoint)
        begin, every = time.perf_counter(), max(1, iterations // 100)
        while self.iteration < iterations:
            noted = self.iteration % every == 0 or self.iteration == iterations - 1
            with at_rest(self.generator):
                entry = self._iterate(iterations, batch, noted)
            if entry is not None:
                entry["seconds"] = time.perf_counter() - begin
                self.history.append(entry)
                if progress is not None:
                    progress(entry)
                if checkpoint is not None:
                    write_state(checkpoint, self._state())
            if time_limit is not None and time.perf_counter() - begin > time_limit:
                break
        if checkpoint is not None:
            write_state(checkpoint, self._state())
        return self

    def _make_optimizer(self):
        groups = [{"params": list(self.field.parameters()), "rate": self.rate}]
        others = list(self.objectives.parameters())
        if others:
            groups.append({"params": others, "rate": 2e-3})
        return torch.optim.Adam(groups, lr=self.rate, betas=(0.9, 0.99))

    def _iterate(self, iterations, batch, note):
        factor = share_of_rate(self.iteration, iterations)
        for group in self._optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        walk = self._walk(batch)
        values: dict[str, Any] = {}
        for one in self.objectives:
            same = sum(name.split(" ")[0] == one.name for name in values)
            values[f"{one.name} {same + 1}" if same else one.name] = one.weight * one(walk)
        loss = sum(values.values())
        for name, value in values.items():
            if not bool(torch.isfinite(value)):
                raise NonFinite(
                    f"the objective `{name}` of `{self.name}` is {float(value.detach())} in iteration {self.iteration}"
                )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.field.parameters(), 10.0)
        self._optimizer.step()
        self._go_further(walk, factor)
        self.iteration += 1
        if not note:
            return None
        entry = {"iteration": self.iteration, "loss": float(loss.detach())}
        entry |= {name: float(value.detach()) for name, value in values.items()}
        for one in self.objectives:
            told = one.accuracy(walk)  # type: ignore[operator]
            if told is not None:
                entry["accuracy"] = told
        return entry

    def _go_further(self, walk, factor):
        """Steps for single objectives: a third of the rate, and the gradients have a memory of their own."""
        if self._further is None:
            return
        codes = [z.detach() for z in walk.path]
        still = Walk(self, codes, walk.k, walk.sign, walk.branches, walk.first, walk.last, walk.generator)
        for one in self.objectives:
            for _ in range(one.further):  # type: ignore[call-overload]
                self._further.param_groups[0]["lr"] = self.rate * factor / 3
                self._further.zero_grad(set_to_none=True)
                one(still).backward()
                self._further.step()

    def _walk(self, batch) -> Walk:
        g, K = self._generator, self.potentials
        branches = min(self.branches, K)
        rows = batch * branches
        z = torch.randn(batch, self.latent_dim, generator=g, dtype=torch.float64)
        z = z.repeat_interleave(branches, dim=0).to(self.device, self.dtype)
        # Every code is walked along different fields, as far as there are any.
        k = torch.rand(batch, K, generator=g).argsort(dim=1)[:, :branches].flatten()
        sign = 2 * torch.randint(2, (rows, 1), generator=g) - 1 if self.two_way else torch.ones(rows, 1)
        whole = torch.rand(rows, generator=g) < self.whole
        last = torch.where(whole, self.steps, torch.randint(1, self.steps + 1, (rows,), generator=g))
        first = torch.where(whole, 0, (torch.rand(rows, generator=g) * last).long())
        k, sign = k.to(self.device), sign.to(self.device, self.dtype)
        field = self._field(k, self.step_length, sign)
        path = [z]
        for i in range(1, self.steps + 1):
            path.append(path[-1] + field(path[-1], float(i)))
        return Walk(self, path, k, sign, branches, first.to(self.device), last.to(self.device), g)

    def _state(self) -> dict[str, Any]:
        return {
            "iteration": self.iteration,
            "field": self.field.state_dict(),
            "objectives": self.objectives.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "further": None if self._further is None else self._further.state_dict(),
            "generator": self._generator.get_state(),
            "history": self.history,
        }

    def _restore(self, state: dict[str, Any], path: str | Path) -> None:
        try:
            self.field.load_state_dict(state["field"])
            self.objectives.load_state_dict(state["objectives"])
            self._optimizer.load_state_dict(state["optimizer"])
            if self._further is not None:
                self._further.load_state_dict(state["further"])
        except (RuntimeError, ValueError, KeyError) as trouble:
            raise DamagedFile(f"`{path}` is a checkpoint of another flow than `{self.name}`: {trouble}") from None
        self._generator.set_state(state["generator"])
        self.iteration, self.history = state["iteration"], state["history"]


def share_of_rate(iteration: int, iterations: int) -> float:
    """What part of the learning rate counts: it rises for 20 iterations and falls like a cosine to a twentieth."""
    return min(1.0, (iteration + 1) / 20) * (0.05 + 0.95 * (1 + math.cos(math.pi * (iteration / iterations))) / 2)
