"""Whether compiling pays, by the time that steps take. Needs no torch."""

from __future__ import annotations

import os
import time


def crowd() -> float:
    """How many times longer compiling takes than alone: processes that want to run, for each processor, at least 1.

    Steps slow down as well, but their times are measured.
    """
    try:
        waiting = os.getloadavg()[0]
    except (AttributeError, OSError):  # not on every system
        return 1.0
    return max(1.0, waiting / (os.cpu_count() or 1))


class Stopwatch:
    """Decides when compiling pays: once the steps so far would have saved what compiling costs.

    Like renting or buying: whatever the number of steps turns out to be, the time spent is at most about twice that of
    the better choice.

    Attributes:
        steps: taken so far.
        step: seconds of a step, the median of those so far.
    """

    idle_cost = 20.0
    """Seconds that compiling a step is expected to take while nothing else runs."""

    share = 0.4
    """What compiling saves of a step: the eager step takes 1.6 to 1.8 times as long (`benchmarks/derivatives.py`)."""

    def __init__(self):
        self.steps, self.step = 0, 0.0
        self._last: float | None = None
        self._recent: list[float] = []

    def tick(self) -> None:
        """A step begins."""
        now = time.perf_counter()
        if self._last is not None:
            self._recent = [*self._recent[-20:], now - self._last]
            self.step = sorted(self._recent)[len(self._recent) // 2]
        self.steps, self._last = self.steps + 1, now

    @property
    def cost(self) -> float:
        """Seconds that compiling is expected to take now."""
        return self.idle_cost * crowd()

    @property
    def pays_after(self) -> int:
        """The number of steps after which compiling pays."""
        return max(20, round(self.cost / max(self.share * self.step, 1e-6)))

    @property
    def pays(self) -> bool:
        return self.steps > 20 and self.steps >= self.pays_after
