"""The kinds of trial functions by name, so that a file can say which one it holds.

A trial registers with `@register_trial`; `restore` is what `pinnflow.load` calls with the state read from a file. The
modules that ship with pinnflow are imported only when a file or a caller asks for their kind.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from pinnflow.errors import UnknownName

TRIALS: dict[str, type] = {}

# Where the kinds that ship with pinnflow register themselves; a kind of one's own registers when it is imported.
HOMES: dict[str, str] = {
    "evolution": "pinnflow.trial.evolution",
    "exact": "pinnflow.trial.coupled",
    "features": "pinnflow.trial.expansion",
    "network": "pinnflow.trial.networks",
    "slabs": "pinnflow.trial.slabs",
    "sum": "pinnflow.trial.sums",
}


@runtime_checkable
class Trial(Protocol):
    """A fitted function: what stands in for all unknown fields at once.

    Attributes:
        kind: the name it is registered under.
    """

    kind: ClassVar[str]

    def derivatives(self, points: np.ndarray, wanted: Sequence[tuple[int, tuple[int, ...]]]) -> list[np.ndarray]:
        """The wanted derivatives at `points` `[n, D]`, each `[n]`, float64, in problem units.

        Args:
            points: columns in the order of `problem.columns`.
            wanted: `(index of the field, order of differentiation per column)`.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything `from_state` needs: nested dicts of arrays, str, int, float, bool, None and lists of these."""
        ...

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Trial:
        """The trial that `state` was taken from, to the last digit."""
        ...


def register_trial(kind):
    """Adds a trial class to the registry, under its attribute `kind`; used as a decorator.

    Raises:
        ValueError: the class has no `kind`, or another class has taken the name.
    """
    name = getattr(kind, "kind", None)
    if not isinstance(name, str) or not name:
        raise ValueError(f"`{kind.__name__}` needs a class attribute `kind`, the name that files know it by.")
    taken = TRIALS.get(name)
    # The same class again is a module that was reloaded.
    if taken is not None and (taken.__module__, taken.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(f"The kind `{name}` is taken by `{taken.__qualname__}`; choose another for `{kind.__name__}`.")
    TRIALS[name] = kind
    return kind


def restore(state: dict[str, Any]) -> Trial:
    """The trial whose `state()` this is, with the registered name under `"kind"`.

    Raises:
        UnknownName: no such kind is registered; a trial of your own has to be imported before its file is read.
    """
    name = state.get("kind")
    if name not in TRIALS and name in HOMES:
        importlib.import_module(HOMES[name])
    if name not in TRIALS:
        # A kind of one's own is known once the module that registers it is imported.
        raise UnknownName("kind of trial", name, TRIALS.keys() | HOMES.keys())
    return TRIALS[name].from_state(state)
