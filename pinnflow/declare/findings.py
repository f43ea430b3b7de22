"""Findings about a declaration, and the registry of checks that produce them.

A new check is one function with `@check` in `check_conditions.py` or `check_equations.py`; it yields findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing about a declaration that its author should know.

    Attributes:
        level: `error` (there is no or no unique solution), `warning` (probably not what was meant) or `note`.
        code: a stable name of the kind of finding.
        statement: the statement, field or coordinate it is about.
        message: what was found and what was expected.
        remedy: what to write; empty when nothing needs to be done.
    """

    level: Level
    code: str
    statement: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.level}: {self.statement}: {self.message}"
        return f"{text}\n  {self.remedy}" if self.remedy else text


@dataclass(frozen=True)
class Report:
    """All findings about one problem, errors first.

    Attributes:
        findings: errors, then warnings, then notes.
        name: the problem's name.
    """

    findings: tuple[Finding, ...]
    name: str | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the problem ill-posed."""
        return self._of("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are probably mistakes."""
        return self._of("warning")

    @property
    def notes(self) -> tuple[Finding, ...]:
        """Everything else worth knowing."""
        return self._of("note")

    def _of(self, level):
        return tuple(f for f in self.findings if f.level == level)

    def __bool__(self) -> bool:
        return bool(self.findings)

    def __str__(self) -> str:
        name = f"{self.name}: " if self.name else ""
        if not self.findings:
            return f"{name}nothing to report."
        counts = [(len(self.errors), "error"), (len(self.warnings), "warning"), (len(self.notes), "note")]
        head = ", ".join(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in counts if n)
        return "\n".join([f"{name}{head}.", *map(str, self.findings)])


Check = Callable[["Problem"], Iterator[Finding]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Registers a check under the name of its function."""
    CHECKS[function.__name__] = function
    return function
