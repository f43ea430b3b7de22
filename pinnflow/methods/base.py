"""What every method gets and gives: the `Task` (equations made computable), the `Clock`, the `Outcome`, the registry.

A method is a function `solve(task) -> Outcome`, registered under its name. It reads residuals, never a PDE.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnflow.compiler.residual import Residual
from pinnflow.declare.analysis import Block, Part, periodic_axis
from pinnflow.declare.structure import periodic_axes, problem_is_linear
from pinnflow.errors import UnknownName
from pinnflow.sampling.points import draw_part
from pinnflow.trial.expansion import Frame

DEFAULT_SECONDS = 60.0


def meets(estimate: float, tolerance: float | None) -> bool:
    """Whether an estimate is below the tolerance with a margin: estimates are true within a small factor only."""
    return tolerance is not None and 3 * estimate <= tolerance


def worth_it(estimate: float, seconds: float, tolerance: float | None) -> bool:
    """Whether a round of so many nominal seconds is worth its time when no tolerance was asked for.

    An error that is already small is not made smaller at any price; a `tolerance` asks for it. The seconds are computed
    from operation counts, not measured, so that the same seed ends with the same digits on a busy machine too.
    """
    if tolerance is not None:
        return not meets(estimate, tolerance)
    patience = (
        60.0
        if estimate > 1e-4
        else 25.0
        if estimate > 1e-6
        else 12.0
        if estimate > 1e-8
        else 7.0
        if estimate > 1e-10
        else 3.0
    )
    return seconds <= patience


class Clock:
    """Time since the fit began, against its limit in seconds: wall time, unless `now` is another clock."""

    now = staticmethod(time.perf_counter)

    def __init__(self, limit: float | None):
        self.start = self.now()
        self.limit = DEFAULT_SECONDS if limit is None else limit

    @property
    def elapsed(self) -> float:
        return self.now() - self.start

    @property
    def left(self) -> float:
        return self.limit - self.elapsed

    def over(self) -> bool:
        return self.left <= 0


@dataclass(frozen=True)
class Term:
    """One part of one block, ready to be computed.

    Attributes:
        block: the block it belongs to.
        residual: the lowered part.
        exact: satisfied by every trial function (a periodic axis), so it needs no rows.
    """

    block: Block
    residual: Residual
    exact: bool = False

    @property
    def part(self) -> Part:
        return self.residual.part


@dataclass
class Outcome:
    """What a method returns.

    Attributes:
        trial: the fitted function, or None when nothing was found.
        error_estimate: largest relative L2 error over the fields; inf when nothing can be said.
        by_field: the same of every field; empty where only the largest is known.
        score: relative residual on fresh points; above 1e-2 the problem counts as not solved.
        stop: a sentence with the remedy.
        method: the registered name of what produced `trial`.
        remarks: sentences that belong to the reason: family, number of unknowns, steps.
    """

    trial: Any
    error_estimate: float
    score: float
    stop: str
    method: str
    remarks: list[str] = field(default_factory=list)
    unknowns: dict = field(default_factory=dict)
    converging: bool = False  # the last rounds approached each other
    by_field: list[float] = field(default_factory=list)


@dataclass
class Task:
    """A problem made computable, with the settings of one fit."""

    problem: Any
    tolerance: float | None = None
    clock: Clock = field(default_factory=lambda: Clock(None))
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float64
    network: Any = None
    points: int | None = None
    report: Callable[..., None] = lambda stage, **facts: None
    callbacks: tuple = ()
    history: list[dict] = field(default_factory=list)
    latest: Outcome | None = None  # what there is when the user interrupts
    on_keep: Callable[[Outcome], Any] = lambda outcome: None
    start: Any = None  # a trial of an earlier fit to go on from
    alternative: bool = False  # another method is waiting, so a hopeless one may give up early

    def record(self, stage: str, **facts) -> None:
        """Add a line to the history and tell the progress display."""
        entry = {"stage": stage, "elapsed": round(self.clock.elapsed, 4), **facts}
        self.history.append(entry)
        self.report(stage, **facts)
        for callback in self.callbacks:
            callback(dict(entry))

    def keep(self, outcome: Outcome) -> None:
        """Remember the best so far, for an interrupt and for the checkpoint."""
        self.latest = outcome
        self.on_keep(outcome)

    def rng(self, *purpose: int) -> np.random.Generator:
        """A generator of its own for each purpose, so that no draw depends on what ran before."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=purpose))

    @cached_property
    def dimension(self) -> int:
        return len(self.problem.columns)

    @cached_property
    def bounds(self) -> list[tuple[float, float]]:
        return [self.problem.bounds[c] for c in self.problem.columns]

    @cached_property
    def frame(self) -> Frame:
        return Frame.of(self.bounds)

    @cached_property
    def time_column(self) -> int | None:
        return None if self.problem.time is None else self.problem.columns.index(self.problem.time)

    @cached_property
    def periodic(self) -> list[bool]:
        """Per column: every field that depends on it is periodic there, and nothing else is said at its ends."""
        axes = periodic_axes(self.problem)
        return [column in axes for column in self.problem.columns]

    @cached_property
    def terms(self) -> list[Term]:
        """All parts of all blocks; the parts that a periodic axis satisfies are marked exact."""
        terms = []
        for block in self.problem.blocks:
            for part in block.parts:
                axis = periodic_axis(part) if block.kind == "periodic" else None
                exact = axis is not None and self.periodic[self.problem.columns.index(axis)]
                residual = Residual(
                    part, self.problem.columns, tuple(self.problem.unknowns), self.problem.bounds, block.name
                )
                terms.append(Term(block, residual, exact))
        return terms

    @cached_property
    def linear(self) -> bool:
        return not self.problem.unknowns and problem_is_linear(self.problem)

    def field_index(self, atom) -> int:
        return self.problem.fields.index(atom.field)

    def draw(self, term: Term, count: int, rng: np.random.Generator, clustered: bool = False) -> Tensor:
        """[n, D] points for a term; `clustered` moves them towards the ends of the axes as cos(pi s) does."""
        data = getattr(term.block, "data", None)
        if data is not None:
            return torch.as_tensor(np.asarray(data[0], dtype=float))
        points = draw_part(term.part, self.problem.bounds, self.problem.columns, count, rng)
        if clustered:
            for column, name in enumerate(self.problem.columns):
                if name not in term.part.pins and not self.periodic[column]:
                    low, high = self.bounds[column]
                    share = (points[:, column] - low) / (high - low)
                    points[:, column] = low + (high - low) * (1 - np.cos(np.pi * share)) / 2
        return torch.as_tensor(points)

    def is_missing(self, field_call) -> list[bool]:
        """Per column: the field depends on it."""
        return [getattr(c, "axis", c) in field_call.args for c in self.problem.columns]


METHODS: dict[str, Callable[[Task], Outcome]] = {}


def register_method(name: str):
    """Class the decorated function as the method `name`."""

    def keep(function):
        METHODS[name] = function
        return function

    return keep


def find_method(name: str) -> Callable[[Task], Outcome]:
    """The method `name`, or an error that lists all of them."""
    if name not in METHODS:
        raise UnknownName("method", name, ["auto", *METHODS])
    return METHODS[name]
