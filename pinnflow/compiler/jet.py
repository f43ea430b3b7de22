"""Jets: a value with its derivatives along straight lines, as what a module computes with instead of a tensor.

Every torch operation that meets a jet is looked up in `RULES`; `jets.py` holds the rules.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pinnflow.compiler.lines import Frame, Tops

RULES: dict[str, Callable[..., Any]] = {}
"""`{torch name: function of the same arguments, some of them jets}`."""


def rule(*names: str):
    """Enters a function into `RULES` under the names of its torch functions or methods."""

    def enter(function):
        for name in names:
            RULES[name] = function
        return function

    return enter


def is_watched() -> bool:
    """Whether torch.func or a recording follows the operations, which then must not write into their arguments."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch._C._len_torch_dispatch_stack() > 0


def is_recorded() -> bool:
    """Whether a recording follows the operations, for a compiler that makes a pass over memory of many of them."""
    return torch._C._len_torch_dispatch_stack() > 0


class MissingRule(NotImplementedError):
    """An operation inside the function has no entry in the rule table; `.operation` names it."""

    def __init__(self, operation: str):
        super().__init__(f"Taylor mode has no rule for `{operation}`")
        self.operation = operation


class Jet:
    """A value and its derivatives along M directions.

    Attributes:
        value: `[n, ...]`.
        slopes: for k = 1, ..., K the k-th derivative `[M_k, n, ...]` (n may be 1 where it is the same in all rows), or
            None where it is zero; then, if there are `tops`, their sums `[G, n, ...]`. Whatever is linear acts on all
            of these alike.
        widths: the numbers of directions (M_1, ..., M_K), not increasing: a direction needed to order 1 only is not
            carried to order 2; then, if there are `tops`, G.
        tops: which sums of higher derivatives the last slope holds; None for none.
        frame: which combinations of the derivatives along the lines the other slopes hold; None for all of these.
    """

    __slots__ = ("frame", "slopes", "tops", "value", "widths")

    def __init__(
        self,
        value: Tensor,
        slopes: Sequence[Tensor | None],
        widths: tuple[int, ...],
        tops: Tops | None = None,
        frame: Frame | None = None,
    ):
        self.value, self.slopes, self.widths, self.tops, self.frame = value, tuple(slopes), widths, tops, frame

    def like(self, value: Tensor, slopes: Sequence[Tensor | None]) -> Jet:
        """A jet along the same directions."""
        return Jet(value, slopes, self.widths, self.tops, self.frame)

    def tensors(self) -> tuple[Tensor, ...]:
        """`(value, first derivatives, second derivatives, ...)` in full size."""
        full = [self.value]
        for width, entry in zip(self.widths, self.slopes, strict=True):
            shape = (width, *self.value.shape)
            full.append(self.value.new_zeros(()).expand(shape) if entry is None else entry.expand(shape))
        return tuple(full)

    def map(self, linear: Callable[[Tensor], Tensor]) -> Jet:
        """The jet of L f for a linear map L that acts on the trailing axes."""
        return self.like(linear(self.value), [None if s is None else linear(s) for s in self.slopes])

    def map_any(self, linear: Callable[[Tensor], Tensor], by_rows: bool = False) -> Jet:
        """As `map`, for a linear map that names its axes by number: it never sees the axis of the directions.

        Args:
            linear: the map of `[n, ...]`.
            by_rows: it acts on each row alike, so that slopes that are the same in all rows stay one row.
        """
        rest = self.value.shape[1:]
        slopes = [
            None
            if s is None
            else torch.func.vmap(linear)(s.expand(s.shape[0], s.shape[1] if by_rows else len(self.value), *rest))
            for s in self.slopes
        ]
        return self.like(linear(self.value), slopes)

    # What a module may ask of its input besides calling torch functions.
    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)
    device = property(lambda self: self.value.device)
    requires_grad = property(lambda self: self.value.requires_grad)
    T = property(lambda self: self.map_any(lambda s: s.T))
    mT = property(lambda self: self.map(lambda s: s.mT))

    def size(self, *axis):
        return self.value.size(*axis)

    def dim(self):
        return self.value.ndim

    def __len__(self):
        return len(self.value)

    def __getitem__(self, index):
        first = index[0] if isinstance(index, tuple) and index else index
        return self.map_any(lambda s: s[index], by_rows=isinstance(first, slice) and first == slice(None))

    def __iter__(self):
        return iter(self.unbind(0))

    def __neg__(self):
        return self.map(operator.neg)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", str(function)).strip("_")
        if name not in RULES:
            raise MissingRule(name)
        return RULES[name](*args, **(kwargs or {}))

    def __getattr__(self, name):
        if name in RULES:
            return functools.partial(RULES[name], self)
        if hasattr(Tensor, name):
            raise MissingRule(name)
        raise AttributeError(f"a jet has no attribute `{name}`")


class Pending(Jet):
    """A jet that is computed when it is looked at: behind the last layer a few of its derivatives are enough.

    Args:
        like: a jet along the same directions.
        shape: of the value.
        make: `(whole: bool) -> Jet`; when not whole, derivatives below the sums may be missing.
        source: for a function of one variable `(chain, from_value, jet)`, what `composition.composition` makes it of.

    Attributes:
        derivatives: the function's derivatives at the jet's value, where a rule has taken them.
    """

    __slots__ = ("_found", "derivatives", "make", "source", "tail")

    def __init__(self, like: Jet, shape: Sequence[int], make: Callable[[bool], Jet], source=None):
        self.widths, self.tops, self.frame, self.tail = like.widths, like.tops, like.frame, torch.Size(shape)
        self.make, self.source, self._found, self.derivatives = make, source, None, None

    @property
    def whole(self) -> Jet:
        if self._found is None:
            self._found = self.make(True)
        return self._found

    @property
    def is_untouched(self) -> bool:
        return self._found is None

    def some(self, whole: bool) -> Jet:
        """The jet, of which only value and sums are needed unless `whole`."""
        return self.whole if whole or self._found is not None else self.make(False)

    value = property(lambda self: self.whole.value)
    slopes = property(lambda self: self.whole.slopes)
    shape = property(lambda self: self.tail)
    ndim = property(lambda self: len(self.tail))

    def size(self, *axis):
        return self.tail if not axis else self.tail[axis[0]]

    def dim(self):
        return len(self.tail)

    def __len__(self):
        return self.tail[0]


def _operator(name):
    return lambda self, other: RULES[name](self, other)


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "matmul", "pow", "rpow"):
    setattr(Jet, f"__{_name}__", _operator(_name))
for _name in ("gt", "lt", "ge", "le"):
    setattr(Jet, f"__{_name}__", _operator(_name))
