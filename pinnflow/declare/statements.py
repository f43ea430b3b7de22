"""What a declaration is made of beside equations: conditions with a place, observations, bounds of unknowns."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import sympy

from pinnflow.errors import DeclarationError


class _Frozen:
    """Attributes are set once, by `_store`; equality and hash go by content."""

    def _store(self, **attributes):
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name, value):
        raise AttributeError(f"`{type(self).__name__}` cannot be changed; make a new one instead of setting `{name}`.")

    def __delattr__(self, name):
        raise AttributeError(f"`{type(self).__name__}` cannot be changed.")

    def _content(self):
        raise NotImplementedError

    def __eq__(self, other):
        return type(self) is type(other) and self._content() == other._content()

    def __hash__(self):
        return hash((type(self).__name__, self._content()))


class Condition(_Frozen):
    """An equation that holds on a part of the boundary or at a point, with a name and a weight.

    Args:
        eq: the equation, `Eq(left, right)`, or an expression meaning `= 0`.
        on: where it holds: a dict of pins `{x: 1, y: 0}`, a plane `Eq(x, 1)`, `"boundary"` for all faces of the
            spatial box, or None when the fields in `eq` are pinned already.
        name: name of its block; `condition 3` and so on by default.
        weight: weight in a training loss.
    """

    eq: object
    on: object
    name: str | None
    weight: float | None

    def __init__(self, eq: Any, on: Any = None, name: str | None = None, weight: float | None = None):
        if isinstance(on, Mapping):
            on = MappingProxyType(dict(on))
        self._store(eq=eq, on=on, name=name, weight=weight)

    def _content(self):
        on = tuple(self.on.items()) if isinstance(self.on, Mapping) else self.on
        return (self.eq, on, self.name, self.weight)

    def __repr__(self):
        on = dict(self.on) if isinstance(self.on, Mapping) else self.on
        given = [("on", on), ("name", self.name), ("weight", self.weight)]
        return f"Condition({', '.join([str(self.eq), *(f'{k}={v!r}' for k, v in given if v is not None)])})"

    def __reduce__(self):
        on = dict(self.on) if isinstance(self.on, Mapping) else self.on
        return Condition, (self.eq, on, self.name, self.weight)


class Observations(_Frozen):
    """Measured values of an expression in the fields at given points.

    Args:
        expression: what was measured, any sympy expression in the fields and their derivatives.
        at: `{coordinate: array}`; the arrays broadcast, a vector coordinate takes shape `[..., d]`.
        values: the measured values, of the shape the coordinates broadcast to.
        noise: standard deviation, one number or one for each value; None when unknown.

    Attributes:
        expression, at, values, noise: as given, arrays as read-only float64.
    """

    expression: object
    at: Mapping
    values: np.ndarray
    noise: np.ndarray | None

    def __init__(self, expression: Any, at: Mapping[Any, Any], values: Any, noise: Any = None):
        if not isinstance(at, Mapping):
            raise DeclarationError(
                f"`Observations`: the points are {type(at).__name__}, expected a dict `{{coordinate: array}}`. Write "
                "for example `Observations(u, {t: times, x: places}, values)`."
            )
        self._store(
            expression=sympy.sympify(expression),
            at=MappingProxyType({c: _array(a, f"the points of `{c}`") for c, a in at.items()}),
            values=_array(values, "the values"),
            noise=None if noise is None else _array(noise, "the noise"),
        )
        if self.noise is not None and not np.all(self.noise > 0):
            raise DeclarationError(
                f"`Observations`: the noise must be positive, found {self.noise.min():g}. It is the standard deviation "
                "of the values; leave it out when it is unknown."
            )

    def _content(self):
        arrays = [*self.at.values(), self.values, *([] if self.noise is None else [self.noise])]
        return (self.expression, tuple(self.at), tuple((a.shape, a.tobytes()) for a in arrays))

    def __repr__(self):
        return f"Observations({self.expression}, {self.values.size} values)"

    def __reduce__(self):
        return Observations, (self.expression, dict(self.at), self.values, self.noise)


class Bounds(_Frozen):
    """An interval in which an unknown coefficient lies.

    Args:
        low: lower bound.
        high: upper bound, greater than `low`.

    Raises:
        DeclarationError: the bounds are no finite real numbers, or in the wrong order.
    """

    low: float
    high: float

    def __init__(self, low: float, high: float):
        try:
            numbers = float(low), float(high)
        except TypeError:
            numbers = (float("nan"),) * 2
        if not all(np.isfinite(numbers)):
            raise DeclarationError(
                f"`Bounds({low}, {high})` needs two finite numbers. For a coefficient bounded on no side give its "
                "initial value instead: `unknowns={c: 1.0}`."
            )
        if not numbers[0] < numbers[1]:
            raise DeclarationError(f"`Bounds({low}, {high})` is empty; write the smaller number first.")
        self._store(low=numbers[0], high=numbers[1])

    @property
    def initial(self) -> float:
        """Where a search starts: the middle."""
        return (self.low + self.high) / 2

    def _content(self):
        return (self.low, self.high)

    def __repr__(self):
        return f"Bounds({self.low:g}, {self.high:g})"

    def __reduce__(self):
        return Bounds, (self.low, self.high)


def _array(values, what):
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DeclarationError(f"`Observations`: {what} are no numbers ({error}); expected an array.") from None
    if not np.all(np.isfinite(array)):
        bad = int(np.flatnonzero(~np.isfinite(array.ravel()))[0])
        raise DeclarationError(
            f"`Observations`: entry {bad} of {what} is {array.ravel()[bad]}. Leave out values that were not measured."
        )
    array.setflags(write=False)
    return array
