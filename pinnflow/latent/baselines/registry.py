"""Baselines by name: each is a `Flow`; a new one is a file in this folder with a decorated class."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from pinnflow.errors import UnknownName
from pinnflow.latent.traversal import Flow

_BASELINES: dict[str, type[Flow]] = {}
_Class = TypeVar("_Class", bound=type[Flow])


def register_baseline(name: str) -> Callable[[_Class], _Class]:
    """Class decorator that makes `baseline(name, ...)` find the class."""

    def enter(cls: _Class) -> _Class:
        _BASELINES[name] = cls
        return cls

    return enter


def baseline(name: str, /, generator=None, **settings) -> Flow:
    """A flow to compare with, not yet fitted: `baseline("sefa", generator, potentials=5).fit()`.

    Args:
        name: one of `baselines()`.
        generator: maps codes `[n, d]` to images `[n, c, h, w]`.
        **settings: of the class, among them `latent_dim`, `potentials`, `seed`, and `name`, what tables call it.

    Raises:
        UnknownName: no such baseline; the message lists all.
    """
    if name not in baselines():
        raise UnknownName("baseline", name, _BASELINES)
    return _BASELINES[name](generator, **settings)


def baselines() -> tuple[str, ...]:
    """The names that `baseline` knows."""
    import pinnflow.latent.baselines as folder

    for module in iter_modules(folder.__path__):
        import_module(f"{folder.__name__}.{module.name}")
    return tuple(sorted(_BASELINES))
