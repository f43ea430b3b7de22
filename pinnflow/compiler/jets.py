"""Taylor mode: derivatives along straight lines, carried forward through a network by a table of rules.

A `Jet` stands for the values and the directional derivatives d^k/ds^k f(x + s v), k = 1, ..., K, of an intermediate
result along many directions v at once. Called with a jet instead of a tensor, a module computes as it always does; each
torch operation it calls is looked up in `RULES`. So the cost of order K along M directions is that of about 1 + K M
forward passes, and all directions share each matrix product.

The rules fall into the classes of Griewank & Walther, Evaluating Derivatives (2008), ch. 13: what is linear acts on
every coefficient, products follow Leibniz, functions of one variable follow Faa di Bruno with the derivatives in
`chains.py`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pinnflow.compiler.chains import CHAINS, accumulate, add, faa_di_bruno

RULES: dict[str, Callable[..., Any]] = {}
"""`{torch name: function of the same arguments, some of them jets}`."""


def rule(*names: str):
    """Enters a function into `RULES` under the names of its torch functions or methods."""

    def enter(function):
        for name in names:
            RULES[name] = function
        return function

    return enter


class MissingRule(NotImplementedError):
    """An operation inside the function has no entry in the rule table; `.operation` names it."""

    def __init__(self, operation: str):
        super().__init__(f"Taylor mode has no rule for `{operation}`")
        self.operation = operation


def directional_jet(
    function: Callable[[Tensor], Tensor], points: Tensor, directions: Tensor, order: int | Sequence[int]
) -> tuple[Tensor, ...]:
    """Derivatives of `function` along lines: d^k/ds^k f(x + s v) at s = 0, for k = 0, ..., order.

    Args:
        function: maps points `[n, d]` to values `[n, m]`; made of operations in `RULES`.
        points: `[n, d]`.
        directions: `[M, d]`, or `[M, n, d]` for directions that differ from row to row; not normalised, so the k-th
            derivative scales with |v|^k.
        order: highest derivative, or one per direction, not increasing.

    Returns:
        Tuple of max(order) + 1 tensors: the values `[n, m]`, then for k = 1, 2, ... the k-th derivatives `[M_k, n, m]`
        along the M_k leading directions whose order is at least k.

    Raises:
        MissingRule: an operation inside `function` has no entry in the rule table; the message names it.

    Source: Griewank & Walther, Evaluating Derivatives (2008), ch. 13.
    """
    orders = [order] * directions.shape[0] if isinstance(order, int) else list(order)
    if orders != sorted(orders, reverse=True) or len(orders) != directions.shape[0]:
        raise ValueError(f"`order` must be one number, or one per direction, not increasing; it is {order}.")
    highest = max(orders, default=0)
    if highest == 0:
        return (function(points),)
    widths = tuple(sum(1 for o in orders if o >= k) for k in range(1, highest + 1))
    first = directions if directions.ndim == 3 else directions[:, None, :]
    result = function(Jet(points, (first.to(points), *[None] * (highest - 1)), widths))
    if not isinstance(result, Jet):  # a constant
        return (result, *(torch.zeros_like(result).expand(w, *result.shape) for w in widths))
    return result.tensors()


class Jet:
    """A value and its derivatives along M directions.

    Attributes:
        value: `[n, ...]`.
        slopes: for k = 1, ..., K the k-th derivative `[M_k, n, ...]` (n may be 1 where it is the same in all rows), or
            None where it is zero.
        widths: the numbers of directions (M_1, ..., M_K), not increasing: a direction needed to order 1 only is not
            carried to order 2.
    """

    __slots__ = ("slopes", "value", "widths")

    def __init__(self, value: Tensor, slopes: Sequence[Tensor | None], widths: tuple[int, ...]):
        self.value, self.slopes, self.widths = value, tuple(slopes), widths

    def tensors(self) -> tuple[Tensor, ...]:
        """`(value, first derivatives, second derivatives, ...)` in full size."""
        full = [self.value]
        for width, entry in zip(self.widths, self.slopes, strict=True):
            shape = (width, *self.value.shape)
            full.append(self.value.new_zeros(()).expand(shape) if entry is None else entry.expand(shape))
        return tuple(full)

    def map(self, linear: Callable[[Tensor], Tensor]) -> Jet:
        """The jet of L f for a linear map L that acts on the trailing axes."""
        return Jet(linear(self.value), [None if s is None else linear(s) for s in self.slopes], self.widths)

    def map_any(self, linear: Callable[[Tensor], Tensor]) -> Jet:
        """As `map`, for a linear map that names its axes by number: it never sees the axis of the directions."""
        slopes = [
            None if s is None else torch.func.vmap(linear)(s.expand(s.shape[0], *self.value.shape)) for s in self.slopes
        ]
        return Jet(linear(self.value), slopes, self.widths)

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
        return self.map_any(lambda s: s[index])

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


# -- functions of one variable -----------------------------------------------------------------------------------------


class _Directional(tuple):
    """The slopes of a jet, with the number of directions alive at each order, for `faa_di_bruno`."""

    widths: tuple[int, ...]

    @classmethod
    def of(cls, slopes, widths):
        made = cls(slopes)
        made.widths = widths
        return made


def _elementwise(chain):
    def apply(jet: Jet, *args, **kwargs) -> Jet:
        bound = functools.partial(_call_chain, chain, args, kwargs)
        value, *slopes = _Composition.apply(bound, jet.widths, jet.value, *jet.slopes)
        return Jet(value, slopes, jet.widths)

    return apply


def _call_chain(chain, args, kwargs, z, order):
    return chain(z, order, *args, **kwargs)


class _Composition(torch.autograd.Function):
    """The jet of y = f(z) from the jet of z, with the derivative of that map written out.

    With w_i = d^i/ds^i f'(z(s)) the differential is dy_k = sum_j C(k, j) w_{k-j} dz_j, because dy = f'(z) dz along the
    line; its transpose is the gradient. Recording the operations of `faa_di_bruno` instead would give the same numbers
    and keep every intermediate until the reverse pass.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(chain, widths, value, *slopes):
        outer = chain(value, len(slopes))
        results = (outer[0], *faa_di_bruno(outer[1:], _Directional.of(slopes, widths)))
        # Where f is the identity a result is an argument, which autograd wants as a view.
        given = {id(value), *map(id, slopes)}
        return tuple(y.view_as(y) if y is not None and id(y) in given else y for y in results)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.chain, ctx.widths, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx, *gradients):
        value, *slopes = tensors = ctx.saved_tensors
        w = _bent_slope(ctx.chain, ctx.widths, value, slopes)
        result: list[Tensor | None] = []
        for j, z in enumerate(tensors):
            total = None
            for k in range(j, len(w)) if ctx.needs_input_grad[j + 2] else ():
                bent, gradient = _leading(w, k - j, widths=ctx.widths, like=k), gradients[k]
                if bent is None or gradient is None:
                    continue
                if j == 0 and k > 0:  # all directions share the value
                    total = _accumulate_over_directions(total, bent, gradient)
                elif j == 0:
                    total = accumulate(total, bent, gradient)
                elif total is None or total.shape[0] == gradient.shape[0]:
                    total = accumulate(total, bent, gradient, math.comb(k, j))
                else:  # fewer directions reach this order
                    total = total + _filled(math.comb(k, j) * bent * gradient, total.shape[0])
            if total is not None and j > 0:
                total = _filled(total, z.shape[0])
            result.append(total if total is None else total.sum_to_size(z.shape))
        return (None, None, *result)

    @staticmethod
    def jvp(ctx, _chain, _widths, *tangents):
        value, *slopes = ctx.saved_tensors
        w = _bent_slope(ctx.chain, ctx.widths, value, slopes)
        result = []
        for k in range(len(w)):
            total = None
            for j in range(k + 1):
                bent = _leading(w, k - j, widths=ctx.widths, like=k)
                tangent = _leading(tangents, j, widths=ctx.widths, like=k)
                total = accumulate(total, bent, tangent, math.comb(k, j))
            result.append(total)
        return tuple(result)


def _accumulate_over_directions(total, bent, gradient):
    """total + sum over the directions of bent gradient; a few of them one by one, without a large intermediate."""
    if gradient.shape[0] > 8:
        return add(total, (bent * gradient).sum(0))
    for piece in zip(bent, gradient, strict=True):
        total = accumulate(total, *piece)
    return total


def _bent_slope(chain, widths, value, slopes):
    """The jet of f'(z(s))."""
    outer = chain(value, len(slopes) + 1)[1:]
    return [outer[0], *faa_di_bruno(outer[1:], _Directional.of(slopes, widths))]


def _leading(entries, index, widths, like):
    """Entry `index` of a jet for the directions that are alive at order `like`; the value has no axis of directions."""
    entry = entries[index]
    if entry is None or index == 0 or like == 0:
        return entry
    return entry[: widths[like - 1]]


def _filled(slopes, count):
    """`slopes` with zeros for the directions that end earlier, `[count, ...]`."""
    if slopes.shape[0] == count:
        return slopes
    return torch.cat([slopes, slopes.new_zeros(count - slopes.shape[0], *slopes.shape[1:])])


for _name, _chain in CHAINS.items():
    RULES[_name] = _elementwise(_chain)


@rule("pow", "float_power")
def _pow(base, exponent) -> Jet:
    if not isinstance(exponent, Jet) and not isinstance(exponent, Tensor):
        return _elementwise(CHAINS["pow"])(base, exponent)
    if isinstance(base, int | float):
        return RULES["exp"](_mul(exponent, math.log(base)))
    return RULES["exp"](_mul(exponent, RULES["log"](base) if isinstance(base, Jet) else torch.log(base)))


# -- linear maps -------------------------------------------------------------------------------------------------------


@rule("linear")
def _linear(jet, weight, bias=None) -> Jet:
    if not isinstance(jet, Jet) or isinstance(weight, Jet):
        raise MissingRule("linear with weights that depend on the points")
    slopes = [None if s is None else torch.nn.functional.linear(s, weight) for s in jet.slopes]
    return Jet(torch.nn.functional.linear(jet.value, weight, bias), slopes, jet.widths)


@rule("matmul", "mm")
def _matmul(left, right) -> Jet:
    if isinstance(left, Jet) and isinstance(right, Tensor) and right.ndim == 2:
        return left.map(lambda s: s @ right)
    raise MissingRule("matmul other than jet @ matrix")


@rule("addmm")
def _addmm(offset, left, right) -> Jet:
    return _add(_matmul(left, right), offset)


@rule("neg", "negative")
def _neg(jet) -> Jet:
    return jet.map(operator.neg)


def _linear_by_axes(function):
    def apply(jet, *args, **kwargs):
        if not isinstance(jet, Jet):
            raise MissingRule(function.__name__)
        return jet.map_any(lambda s: function(s, *args, **kwargs))

    return apply


for _function in (
    Tensor.sum, Tensor.mean, Tensor.reshape, Tensor.view, Tensor.flatten, Tensor.unflatten, Tensor.unsqueeze,
    Tensor.squeeze, Tensor.transpose, Tensor.permute, Tensor.movedim, Tensor.expand, Tensor.contiguous, Tensor.clone,
    Tensor.to, Tensor.float, Tensor.double, Tensor.narrow, Tensor.select, Tensor.roll, Tensor.flip, Tensor.repeat,
    Tensor.cumsum, Tensor.index_select, Tensor.type_as, Tensor.diff, Tensor.swapaxes, Tensor.t,
):  # fmt: skip
    RULES[_function.__name__] = _linear_by_axes(_function)
RULES["getitem"] = Jet.__getitem__


@rule("einsum")
def _einsum(equation, *operands) -> Jet:
    jets = [i for i, operand in enumerate(operands) if isinstance(operand, Jet)]
    if len(jets) != 1:
        raise MissingRule("einsum of several results")
    return operands[jets[0]].map_any(
        lambda s: torch.einsum(equation, *(s if i == jets[0] else o for i, o in enumerate(operands)))
    )


@rule("unbind")
def _unbind(jet, dim=0):
    return tuple(jet.map_any(lambda s, i=i: s.select(dim, i)) for i in range(jet.value.shape[dim]))


@rule("split")
def _split(jet, split_size_or_sections, dim=0):
    pieces = jet.value.split(split_size_or_sections, dim)
    return tuple(jet.map_any(lambda s, i=i: s.split(split_size_or_sections, dim)[i]) for i in range(len(pieces)))


@rule("chunk")
def _chunk(jet, chunks, dim=0):
    pieces = jet.value.chunk(chunks, dim)
    return tuple(jet.map_any(lambda s, i=i: s.chunk(chunks, dim)[i]) for i in range(len(pieces)))


def _join(function):
    """Rule for `cat` and `stack` of jets and constants."""

    def apply(tensors, dim=0, **kwargs) -> Jet:
        dim = kwargs.get("axis", dim)
        like = next(t for t in tensors if isinstance(t, Jet))
        tensors = [t if isinstance(t, Jet) else _constant(t, like) for t in tensors]
        value = function([t.value for t in tensors], dim)
        full = [t.tensors()[1:] for t in tensors]
        slopes = [
            None
            if all(t.slopes[k] is None for t in tensors)
            else function([entry[k] for entry in full], dim if dim < 0 else dim + 1)
            for k in range(len(like.slopes))
        ]
        return Jet(value, slopes, like.widths)

    return apply


RULES["cat"] = RULES["concat"] = RULES["concatenate"] = _join(torch.cat)
RULES["stack"] = _join(torch.stack)


def _constant(value, like: Jet) -> Jet:
    return Jet(torch.as_tensor(value, dtype=like.dtype, device=like.device), [None] * len(like.slopes), like.widths)


@rule("where")
def _where(condition, yes, no) -> Jet:
    if isinstance(condition, Jet):
        raise MissingRule("where with a condition that is a value")
    like = yes if isinstance(yes, Jet) else no
    yes, no = (b if isinstance(b, Jet) else _constant(b, like) for b in (yes, no))
    value = torch.where(condition, yes.value, no.value)
    slopes = [
        None if a is None and b is None else torch.where(condition, 0.0 if a is None else a, 0.0 if b is None else b)
        for a, b in zip(yes.slopes, no.slopes, strict=True)
    ]
    return Jet(value, slopes, like.widths)


for _name in ("zeros_like", "ones_like", "rand_like", "randn_like", "new_zeros", "new_ones", "new_tensor", "numel"):
    RULES[_name] = lambda jet, *args, _name=_name, **kwargs: (
        getattr(jet.value, _name)(*args, **kwargs)
        if hasattr(Tensor, _name)
        else getattr(torch, _name)(jet.value, *args, **kwargs)
    )
for _name in ("gt", "lt", "ge", "le", "eq", "ne"):
    RULES[_name] = lambda a, b, _name=_name: getattr(torch, _name)(_plain(a), _plain(b))


def _plain(value):
    return value.value if isinstance(value, Jet) else value


@rule("dropout")
def _dropout(jet, p=0.5, training=True, inplace=False) -> Jet:
    if training and p > 0:
        raise MissingRule("dropout in training mode")
    return jet


# -- arithmetic of two operands ----------------------------------------------------------------------------------------


@rule("add", "radd", "iadd")
def _add(a, b, *, alpha=1) -> Jet:
    if alpha != 1:
        b = _mul(b, alpha)
    if not isinstance(a, Jet):
        a, b = b, a
    if not isinstance(b, Jet):
        return _shift(a, a.value + b)
    a, b = _aligned(a, b)
    return Jet(a.value + b.value, [add(x, y) for x, y in zip(a.slopes, b.slopes, strict=True)], a.widths)


@rule("sub", "subtract", "isub")
def _sub(a, b, *, alpha=1) -> Jet:
    return _add(a, -b if alpha == 1 else _mul(b, -alpha))


@rule("rsub")
def _rsub(a, b, *, alpha=1) -> Jet:
    return _sub(b, a, alpha=alpha)


def _shift(jet: Jet, value: Tensor) -> Jet:
    """`jet` with another value, which may have more axes because a constant was broadcast in."""
    return Jet(value, [_with_axes(s, value.ndim) for s in jet.slopes], jet.widths)


def _with_axes(slope, ndim):
    """Axes inserted behind that of the directions, so that it stays in front when shapes are aligned at the right."""
    if slope is None or slope.ndim == ndim + 1:
        return slope
    return slope.reshape(slope.shape[0], *[1] * (ndim + 1 - slope.ndim), *slope.shape[1:])


def _aligned(a: Jet, b: Jet) -> tuple[Jet, Jet]:
    ndim = max(a.ndim, b.ndim)
    return tuple(
        jet if jet.ndim == ndim else Jet(jet.value, [_with_axes(s, ndim) for s in jet.slopes], jet.widths)
        for jet in (a, b)
    )


@rule("mul", "multiply", "rmul", "imul")
def _mul(a, b) -> Jet:
    if not isinstance(a, Jet):
        a, b = b, a
    if not isinstance(b, Jet):
        value = a.value * b
        return Jet(value, [None if s is None else _with_axes(s, value.ndim) * b for s in a.slopes], a.widths)
    a, b = _aligned(a, b)
    x, y = (a.value, *a.slopes), (b.value, *b.slopes)
    slopes = []
    for k, width in enumerate(a.widths, 1):
        total = None
        for j in range(k + 1):  # Leibniz: sum_j C(k, j) a^(j) b^(k-j)
            left, right = (e if i == 0 or e is None else e[:width] for i, e in ((j, x[j]), (k - j, y[k - j])))
            total = accumulate(total, left, right, math.comb(k, j))
        slopes.append(total)
    return Jet(a.value * b.value, slopes, a.widths)


@rule("div", "divide", "true_divide", "truediv", "idiv", "itruediv")
def _div(a, b) -> Jet:
    if isinstance(b, Jet):
        return _mul(RULES["reciprocal"](b), a)
    value = a.value / b
    return Jet(value, [None if s is None else _with_axes(s, value.ndim) / b for s in a.slopes], a.widths)


@rule("rdiv", "rtruediv")
def _rdiv(a, b) -> Jet:
    return _div(b, a)


@rule("rpow")
def _rpow(exponent, base) -> Jet:
    return _pow(base, exponent)


@rule("layer_norm")
def _layer_norm(jet, normalized_shape, weight=None, bias=None, eps=1e-5) -> Jet:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = jet - jet.map(lambda s: s.mean(axes, keepdim=True))
    spread = RULES["square"](centred).map(lambda s: s.mean(axes, keepdim=True))
    result = centred * RULES["rsqrt"](spread + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def _operator(name):
    return lambda self, other: RULES[name](self, other)


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "matmul", "pow", "rpow"):
    setattr(Jet, f"__{_name}__", _operator(_name))
for _name in ("gt", "lt", "ge", "le"):
    setattr(Jet, f"__{_name}__", _operator(_name))
