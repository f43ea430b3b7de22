"""The loop that trains a generator on the spot: seeded batches, a limit of time, and word of how far it is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pinnflow.errors import DeclarationError, NonFinite
from pinnflow.latent.generators.gate import whole_number

Progress = Callable[[dict[str, Any]], None] | bool | None


class Loop:
    """Iterates over batches of row numbers until the iterations or the seconds are used up.

    Args:
        stage: what is trained, e.g. `vae`.
        rows: how many images there are.
        batch: rows of a batch; every epoch is a new permutation.
        iterations: how many batches.
        seed: of the batches, and of `noise`.
        time_limit: seconds after which no further batch is begun; what was learned until then stays. A run that is
            stopped by it depends on the clock.
        progress: None shows a line when stderr is a terminal, True always, False never; a callable gets a dict with
            `stage`, `iteration`, `iterations`, `elapsed`, and what `tell` was given, about four times a second.

    Attributes:
        history: what was told, one dict in every hundredth of the iterations.
        stop: why the loop ended, a sentence.
    """

    def __init__(
        self,
        stage: str,
        rows: int,
        batch: int,
        iterations: int,
        seed: int,
        time_limit: float | None = None,
        progress: Progress = None,
    ):
        whole_number(stage, "batch", batch)
        whole_number(stage, "iterations", iterations)
        if time_limit is not None and not time_limit > 0:
            raise DeclarationError(f"{stage}: `time_limit` is {time_limit}; expected seconds above 0, or None.")
        self.stage, self.rows, self.batch, self.iterations = stage, rows, min(batch, rows), iterations
        self.draw = torch.Generator().manual_seed(seed)
        self.time_limit = time_limit
        self.show = _line if progress is True or (progress is None and sys.stderr.isatty()) else progress or None
        self.history: list[dict[str, Any]] = []
        self.stop = ""
        self._shown = -math.inf

    def __iter__(self) -> Iterator[Tensor]:
        self.begun = time.perf_counter()
        order = torch.empty(0, dtype=torch.long)
        for count in range(1, self.iterations + 1):
            self.iteration = count
            if self.time_limit is not None and self.elapsed > self.time_limit:
                self.stop = f"The time limit of {self.time_limit:g} s ended it after {self.iteration - 1} iterations."
                break
            if len(order) < self.batch:
                order = torch.randperm(self.rows, generator=self.draw)
            yield order[: self.batch]
            order = order[self.batch :]
        else:
            self.stop = f"All {self.iterations} iterations were done."
        if self.show is _line:
            sys.stderr.write("\n")

    @property
    def elapsed(self) -> float:
        """Seconds since the loop began."""
        return time.perf_counter() - self.begun

    def relaxation(self) -> float:
        """Temperature of relaxed draws: it falls from 1 to 0.3 over the first half."""
        return max(0.3, 1 - 1.4 * self.iteration / self.iterations)

    def annealed(self, rate: float) -> float:
        """The rate of this iteration: up over the first twentieth, then down to 0 along a cosine."""
        x = self.iteration / self.iterations
        return rate * min(1.0, 20 * x) * 0.5 * (1 + math.cos(math.pi * min(1.0, x)))

    def noise(self, *shape: int) -> Tensor:
        """Standard normal numbers from the loop's own generator, the same on every device."""
        return torch.randn(*shape, generator=self.draw)

    def tell(self, **facts: Tensor) -> None:
        """Takes note of scalar tensors; they are read only when they are shown or kept.

        Raises:
            NonFinite: one of them is NaN or infinite.
        """
        keep = self.iteration % max(1, self.iterations // 100) == 0 or self.iteration == self.iterations
        show = self.show is not None and self.elapsed - self._shown > 0.25
        if not (keep or show):
            return
        values = {name: float(value.detach()) for name, value in facts.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise NonFinite(
                    f"{self.stage}: `{name}` is {value} at iteration {self.iteration}. "
                    f"Take a smaller `rate`, or look at the images it is trained on."
                )
        entry = {
            "stage": self.stage,
            "iteration": self.iteration,
            "iterations": self.iterations,
            "elapsed": self.elapsed,
        }
        entry |= values
        if keep:
            self.history.append(entry)
        if show and self.show is not None and not isinstance(self.show, bool):
            self._shown = self.elapsed
            self.show(entry)


def _line(entry: dict[str, Any]) -> None:
    told = "  ".join(f"{name} {value:.4g}" for name, value in entry.items() if isinstance(value, float))
    sys.stderr.write(f"\r{entry['stage']} {entry['iteration']}/{entry['iterations']}  {told}   ")
    sys.stderr.flush()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's own random numbers (initial weights) follow the seed; outside, they go on as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the step length of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def frozen(module: Any) -> Any:
    """The module in evaluation mode, its weights without gradients: a generator is walked in, not trained further."""
    return module.eval().requires_grad_(False)
