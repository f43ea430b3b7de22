"""The exceptions of pinnflow.

Every message says which statement is meant, what was found, what was expected and what to write instead. Each class
inherits from the builtin it specialises, so `except ValueError` keeps working.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class PinnflowError(Exception):
    """Anything that pinnflow raises on purpose."""


@dataclass(frozen=True)
class Mistake:
    """One wrong statement of a declaration.

    Attributes:
        statement: `equation 1`, `condition 2`, `domain` ...
        message: what is wrong, with the user's term, what was found and what was expected.
        remedy: what to write instead.
        code: a stable name of the kind of mistake, for programs.
        unsupported: the statement is meaningful, but this release cannot solve it.
    """

    statement: str
    message: str
    remedy: str
    code: str
    unsupported: bool = False

    def __str__(self) -> str:
        text = f"{self.statement}: {self.message}"
        return f"{text}\n  {self.remedy}" if self.remedy else text


class DeclarationError(PinnflowError, ValueError):
    """The declaration contradicts itself or cannot be read; `mistakes` lists every wrong statement.

    Args:
        mistakes: the mistakes found, or one sentence.
        name: name of the problem, put before the message.
    """

    def __init__(self, mistakes: Iterable[Mistake] | str, name: str | None = None):
        if isinstance(mistakes, str):
            mistakes = (Mistake(name or "declaration", mistakes, "", "declaration"),)
            text = mistakes[0].message
        else:
            mistakes = tuple(mistakes)
            head = f"{name}: " if name else ""
            text = "\n".join(str(m) for m in mistakes)
            if len(mistakes) > 1:
                text = f"{len(mistakes)} statements cannot be used.\n{text}"
            text = head + text
        super().__init__(text)
        self.mistakes: tuple[Mistake, ...] = mistakes


class IllPosedProblem(PinnflowError, ValueError):
    """The statements are fine one by one, but together they have no or no unique solution."""


class UnknownName(PinnflowError, ValueError):
    """A name that is in no registry; the message lists all that are.

    Args:
        kind: what was asked for, e.g. `method`.
        name: what was given.
        choices: the names that exist.
    """

    def __init__(self, kind: str, name: object, choices: Iterable[str]):
        self.choices = tuple(sorted(choices))
        super().__init__(f"There is no {kind} `{name}`. Choose one of: {', '.join(self.choices)}.")


class OutsideDomain(PinnflowError, ValueError):
    """A solution was asked for a value at a point outside the domain it was solved on."""


class DamagedFile(PinnflowError, OSError):
    """A file of pinnflow is truncated, altered, or not one of ours."""


class MissingExtra(PinnflowError, ImportError):
    """An optional library is not installed; the message names the extra that brings it.

    Args:
        library: its name.
        extra: the extra of the distribution.
        purpose: what it is needed for.
    """

    def __init__(self, library: str, extra: str, purpose: str):
        super().__init__(f"{purpose} needs `{library}`. Install it with `pip install 'pinnflow-pde[{extra}]'`.")


class NotYet(PinnflowError, NotImplementedError):
    """A meaningful request that this release does not serve."""


class UnsupportedDeclaration(DeclarationError, NotYet):
    """A declaration whose only mistakes are statements that this release cannot solve yet."""


class NoExactFamily(PinnflowError, ValueError):
    """There is no known family of functions that satisfies the equations identically."""


class NonFinite(PinnflowError, ArithmeticError):
    """An infinite value or NaN came up; the message names the block and the sub-expression."""


class MissingName(UnknownName):
    """A name that had to be given and was not: a coordinate of a call, the field of a system.

    Args:
        message: what is missing and what to write.
        choices: the names that exist.
    """

    def __init__(self, message: str, choices: Iterable[str]):
        ValueError.__init__(self, message)
        self.choices = tuple(sorted(choices))


class UnknownFormat(PinnflowError, OSError):
    """A file of pinnflow in a format that this release cannot read."""


class NothingToDraw(PinnflowError, ValueError):
    """A picture was asked for that the solution has no axes for; the message says which pictures it has."""


class WrongShape(PinnflowError, ValueError):
    """A tensor or the result of a module has another shape than its rows and fields need."""


class NotSolved(PinnflowError, RuntimeError):
    """No method produced a function at all; the message says what stopped it and what to try."""


class NotApplicable(PinnflowError, ValueError):
    """The problem does not have the form a method solves; the message says why and what to write instead."""


class UnusableDevice(PinnflowError, ValueError):
    """The device that was asked for does not exist here."""


class NoErrorField(PinnflowError, ValueError):
    """The error of a solution cannot be given point by point; the message says why."""
