"""Taylor rules of the elementary operations: functions of one variable, linear maps, arithmetic.

They fall into the classes of Griewank & Walther, Evaluating Derivatives (2008), ch. 13: what is linear acts on every
coefficient, products follow Leibniz, functions of one variable follow Faa di Bruno with the derivatives in `chains.py`.
`layers.py` builds whole layers of them.
"""

from __future__ import annotations

import math
import operator

import torch
from torch import Tensor

from pinnflow.compiler.chains import CHAINS, accumulate, add, weighted
from pinnflow.compiler.composition import elementwise, elementwise_by_name
from pinnflow.compiler.jet import RULES, Jet, MissingRule, rule

# -- functions of one variable -----------------------------------------------------------------------------------------

for _name, _chain in CHAINS.items():
    RULES[_name] = elementwise_by_name(_name, _chain)


@rule("pow", "float_power")
def _pow(base, exponent) -> Jet:
    if not isinstance(exponent, Jet) and not isinstance(exponent, Tensor):
        return elementwise(CHAINS["pow"])(base, exponent)
    if isinstance(base, int | float):
        return RULES["exp"](_mul(exponent, math.log(base)))
    return RULES["exp"](_mul(exponent, RULES["log"](base) if isinstance(base, Jet) else torch.log(base)))


# -- linear maps -------------------------------------------------------------------------------------------------------


@rule("linear")
def _linear(jet, weight, bias=None) -> Jet:
    if not isinstance(jet, Jet) or isinstance(weight, Jet):
        raise MissingRule("linear with weights that depend on the points")
    slopes = [None if s is None else torch.nn.functional.linear(s, weight) for s in whole(jet).slopes]
    return jet.like(torch.nn.functional.linear(jet.value, weight, bias), slopes)


@rule("matmul", "mm", "bmm")
def _matmul(left, right) -> Jet:
    if isinstance(left, Jet) and isinstance(right, Tensor) and right.ndim == 2:
        return whole(left).map(lambda s: s @ right)
    jets = [a for a in (left, right) if isinstance(a, Jet)]
    # Rows are points: a product over the first axis, x @ x.T, mixes them and has no place in a module.
    if any(a.ndim < 3 for a in (left, right)):
        raise MissingRule("matmul other than jet @ matrix, or of results with one axis beside rows and columns")
    if len(jets) == 2:
        return bilinear(torch.matmul, *aligned(whole(left), whole(right)))
    if jets[0] is left:
        return whole(left).map(lambda s: s @ right)
    return whole(right).map(lambda s: left @ s)


def whole(jet: Jet) -> Jet:
    """`jet` with slopes that have all trailing axes in full: one may be 1 where a constant was broadcast in."""
    rest = jet.shape[1:]
    if all(s is None or s.shape[2:] == rest for s in jet.slopes):
        return jet
    return jet.like(jet.value, [None if s is None else s.expand(*s.shape[:2], *rest) for s in jet.slopes])


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
        return like.like(value, slopes)

    return apply


RULES["cat"] = RULES["concat"] = RULES["concatenate"] = _join(torch.cat)
RULES["stack"] = _join(torch.stack)


def _constant(value, like: Jet) -> Jet:
    return like.like(torch.as_tensor(value, dtype=like.dtype, device=like.device), [None] * len(like.slopes))


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
    return like.like(value, slopes)


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
    a, b = aligned(a, b)
    return a.like(a.value + b.value, [add(x, y) for x, y in zip(a.slopes, b.slopes, strict=True)])


@rule("sub", "subtract", "isub")
def _sub(a, b, *, alpha=1) -> Jet:
    return _add(a, -b if alpha == 1 else _mul(b, -alpha))


@rule("rsub")
def _rsub(a, b, *, alpha=1) -> Jet:
    return _sub(b, a, alpha=alpha)


def _shift(jet: Jet, value: Tensor) -> Jet:
    """`jet` with another value, which may have more axes because a constant was broadcast in."""
    return jet.like(value, [_with_axes(s, value.ndim) for s in jet.slopes])


def _with_axes(slope, ndim):
    """Axes inserted behind that of the directions, so that it stays in front when shapes are aligned at the right."""
    if slope is None or slope.ndim == ndim + 1:
        return slope
    return slope.reshape(slope.shape[0], *[1] * (ndim + 1 - slope.ndim), *slope.shape[1:])


def aligned(a: Jet, b: Jet) -> tuple[Jet, Jet]:
    """Both with as many axes, as broadcasting would have them."""
    ndim = max(a.ndim, b.ndim)
    return tuple(
        jet if jet.ndim == ndim else jet.like(jet.value, [_with_axes(s, ndim) for s in jet.slopes]) for jet in (a, b)
    )


@rule("mul", "multiply", "rmul", "imul")
def _mul(a, b) -> Jet:
    if not isinstance(a, Jet):
        a, b = b, a
    if not isinstance(b, Jet):
        value = a.value * b
        return a.like(value, [None if s is None else _with_axes(s, value.ndim) * b for s in a.slopes])
    a, b = aligned(a, b)
    return bilinear(operator.mul, a, b, accumulate)


def bilinear(product, a: Jet, b: Jet, accumulate=None) -> Jet:
    """The jet of `product(a, b)`, linear in each: (ab)^(k) = sum_j C(k, j) a^(j) b^(k-j) (Leibniz).

    Args:
        product: acts on the trailing axes of its arguments and broadcasts over the leading ones.
        a: a jet with as many axes as b.
        b: along the same directions.
        accumulate: `(total, x, y, weight) -> total + weight product(x, y)`, None being zero; made of `product` if
            missing.
    """
    accumulate = accumulate or _accumulated(product)
    carried = len(a.widths) - (a.tops is not None)
    x, y = (a.value, *a.slopes[:carried]), (b.value, *b.slopes[:carried])
    slopes = []
    for k, width in enumerate(a.widths[:carried], 1):
        total = None
        for j in range(k + 1):
            left, right = (e if i == 0 or e is None else e[:width] for i, e in ((j, x[j]), (k - j, y[k - j])))
            total = accumulate(total, left, right, math.comb(k, j))
        slopes.append(total)
    if a.tops is not None:
        total = accumulate(accumulate(None, a.value, b.slopes[-1], 1), a.slopes[-1], b.value, 1)
        for k, start, weights in a.tops.parts:
            alive, mixed = slice(start, start + len(weights[0])), None
            for j in range(1, k):
                left, right = (None if e is None else e[alive] for e in (x[j], y[k - j]))
                mixed = accumulate(mixed, left, right, math.comb(k, j))
            total = add(total, weighted(weights, mixed))
        slopes.append(total)
    return a.like(product(a.value, b.value), slopes)


def _accumulated(product):
    def accumulate(total, a, b, weight):
        if a is None or b is None:
            return total
        term = product(a, b)
        return add(total, term if weight == 1 else weight * term)

    return accumulate


@rule("div", "divide", "true_divide", "truediv", "idiv", "itruediv")
def _div(a, b) -> Jet:
    if isinstance(b, Jet):
        return _mul(RULES["reciprocal"](b), a)
    value = a.value / b
    return a.like(value, [None if s is None else _with_axes(s, value.ndim) / b for s in a.slopes])


@rule("rdiv", "rtruediv")
def _rdiv(a, b) -> Jet:
    return _div(b, a)


@rule("rpow")
def _rpow(exponent, base) -> Jet:
    return _pow(base, exponent)
