"""What a running fit shows: a live line on a terminal, facts to a callable, or nothing.

Methods call `report(stage, **facts)` and know nothing of terminals; `make_progress` decides once where the facts go.
Facts that the line knows: `fraction` (0 to 1), `score` (the residual that is being made small), `estimate` (of the
error), `unknowns` (`{Symbol: value}` of coefficients, or how many numbers are solved for) and `message`; others go to a
callable only.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TextIO


class Progress:
    """Receives `report(stage, **facts)` until `close()`; this one is silent. Also a context manager."""

    def __call__(self, stage: str, **facts: Any) -> None:
        """Takes one report; `stage` says what is being done, `facts` how far it is."""

    def close(self) -> None:
        """Ends the display; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_progress(
    progress: bool | Callable[[dict[str, Any]], object] | None = None, stream: TextIO | None = None
) -> Progress:
    """Where the reports of a fit go: `report(stage, **facts)`, closed by `.close()`.

    Args:
        progress: `None` shows a live line when `stream` is a terminal and nothing otherwise; `True` shows it on a
            terminal and writes plain lines otherwise; `False` is silent; a callable gets `{"stage": stage, **facts}`.
        stream: `sys.stderr` unless given, so that the output of a program stays clean.

    Raises:
        TypeError: `progress` is something else.
    """
    stream = sys.stderr if stream is None else stream
    if progress is False:
        return Progress()
    if progress is None or progress is True:
        if _is_terminal(stream):
            return LiveLine(stream)
        return PlainLines(stream) if progress else Progress()
    if callable(progress):
        return Forward(progress)
    raise TypeError(
        f"`progress` is {progress!r}; expected None (live on a terminal), True, False, "
        "or a callable that takes one dict, such as `progress=print`."
    )


class Forward(Progress):
    """Hands each report to the user's callable as one dict; what it raises passes through."""

    def __init__(self, receive: Callable[[dict[str, Any]], object]):
        self.receive = receive

    def __call__(self, stage: str, **facts: Any) -> None:
        self.receive({"stage": stage, **facts})


class PlainLines(Progress):
    """A line of text at each new stage and then every few seconds: for logs."""

    def __init__(self, stream: TextIO, every: float = 5.0):
        self.stream, self.every = stream, every
        self.started = time.monotonic()
        self.shown_stage, self.shown_at = "", 0.0

    def __call__(self, stage: str, **facts: Any) -> None:
        now = time.monotonic()
        if stage == self.shown_stage and now - self.shown_at < self.every:
            return
        self.shown_stage, self.shown_at = stage, now
        self.stream.write(" · ".join([f"{now - self.started:6.1f} s", stage, *_describe(facts)]) + "\n")
        self.stream.flush()


class LiveLine(Progress):
    """One line that is rewritten in place; the clock and the spinner move while a long step computes.

    It vanishes at `close()`: what was found is told by the report of the solution, not by the display.
    """

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self.started = time.monotonic()
        self.lock = threading.Lock()  # rich draws from a thread of its own
        self.stage = "starting"
        self.facts: dict[str, Any] = {}
        self.spinner = Spinner("dots")
        # A user's print goes above the line on a terminal; into a file it must stay on stdout.
        self.live = Live(
            self,
            console=Console(file=stream),
            refresh_per_second=8,
            transient=True,
            redirect_stdout=_is_terminal(sys.stdout),
        )
        self.live.start()

    def __call__(self, stage: str, **facts: Any) -> None:
        with self.lock:
            self.stage, self.facts = stage, facts

    def close(self) -> None:
        self.live.stop()

    def __rich__(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        with self.lock:
            stage, facts = self.stage, dict(self.facts)
        parts = [f"{time.monotonic() - self.started:.0f} s", *_describe(facts)]
        line = Table.grid(padding=(0, 1))
        line.add_column(no_wrap=True)
        line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_row(self.spinner, Text.assemble((stage, "bold"), " · " + " · ".join(parts)))
        return line


def _describe(facts: Mapping[str, Any]) -> list[str]:
    """The facts a person wants to see, in a fixed order."""
    parts = []
    if facts.get("fraction") is not None:
        parts.append(f"{100 * min(max(float(facts['fraction']), 0.0), 1.0):.0f} %")
    if facts.get("score") is not None:
        parts.append(f"residual {_number(facts['score'], 2)}")
    if facts.get("estimate") is not None:
        parts.append(f"error {_number(facts['estimate'], 2)}")
    unknowns = facts.get("unknowns")
    if isinstance(unknowns, Mapping):
        parts += [f"{name} = {_number(value, 5)}" for name, value in unknowns.items()]
    elif unknowns is not None:
        parts.append(f"{unknowns} unknowns")
    if facts.get("message"):
        parts.append(" ".join(str(facts["message"]).split()))
    return parts


def _number(value: Any, digits: int) -> str:
    try:
        return f"{float(value):.{digits}g}"
    except (TypeError, ValueError):  # a display never stops a computation
        return str(value)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # replaced by an object without isatty, or closed
        return False
