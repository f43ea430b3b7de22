"""The register of equations: `@pde` puts a function into `ALL` under its own name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pinnflow import Problem

ALL: dict[str, Callable[..., Problem]] = {}

Equation = TypeVar("Equation", bound=Callable[..., Problem])


def pde(function: Equation) -> Equation:
    """`function`, registered under its name; the first line of its docstring is what `pinnflow list` shows."""
    if function.__name__ in ALL:
        raise ValueError(f"`{function.__name__}` is already registered, by {ALL[function.__name__].__module__}.")
    ALL[function.__name__] = function
    return function
