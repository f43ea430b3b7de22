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

import math
import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pinnflow.compiler.chains import CHAINS, accumulate, add, weighted
from pinnflow.compiler.composition import elementwise, elementwise_by_name
from pinnflow.compiler.jet import RULES, Jet, MissingRule, rule
from pinnflow.compiler.lines import Tops


def directional_jet(
    function: Callable[[Tensor], Tensor],
    points: Tensor,
    directions: Tensor,
    order: int | Sequence[int],
    tops: Tops | None = None,
) -> tuple[Tensor, ...]:
    """Derivatives of `function` along lines: d^k/ds^k f(x + s v) at s = 0, for k = 0, ..., order.

    Args:
        function: maps points `[n, d]` to values `[n, m]`; made of operations in `RULES`.
        points: `[n, d]`.
        directions: `[M, d]`, or `[M, n, d]` for directions that differ from row to row; not normalised, so the k-th
            derivative scales with |v|^k.
        order: highest derivative carried, or one per direction, not increasing.
        tops: G weighted sums of derivatives one order higher than that. Where only such a sum is needed, as for a
            Laplacian, it costs one pass instead of one for each direction.

    Returns:
        Tuple of max(order) + 1 tensors: the values `[n, m]`, then for k = 1, 2, ... the k-th derivatives `[M_k, n, m]`
        along the M_k leading directions whose order is at least k; then, if there are `tops`, their sums `[G, n, m]`.

    Raises:
        MissingRule: an operation inside `function` has no entry in the rule table; the message names it.

    Source: Griewank & Walther, Evaluating Derivatives (2008), ch. 13; for the sums Dangel et al., Collapsing Taylor
    mode automatic differentiation (2025).
    """
    orders = [order] * directions.shape[0] if isinstance(order, int) else list(order)
    if orders != sorted(orders, reverse=True) or len(orders) != directions.shape[0]:
        raise ValueError(f"`order` must be one number, or one per direction, not increasing; it is {order}.")
    highest = max(orders, default=0)
    if highest == 0 and tops is None:
        return (function(points),)
    widths = tuple(sum(1 for o in orders if o >= k) for k in range(1, highest + 1))
    first = (directions if directions.ndim == 3 else directions[:, None, :]).to(points)
    slopes: list[Tensor | None] = [first[: widths[0]], *[None] * (highest - 1)] if highest else []
    if tops is not None:
        total = None
        for k, start, weights in tops.parts:
            if k == 1:
                total = add(total, weighted(weights, first[start : start + len(weights[0])]))
        slopes.append(total)
        widths = (*widths, tops.count)
    result = function(Jet(points, slopes, widths, tops))
    if not isinstance(result, Jet):  # a constant
        return (result, *(torch.zeros_like(result).expand(w, *result.shape) for w in widths))
    return result.tensors()


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
    slopes = [None if s is None else torch.nn.functional.linear(s, weight) for s in _whole(jet).slopes]
    return jet.like(torch.nn.functional.linear(jet.value, weight, bias), slopes)


@rule("matmul", "mm", "bmm")
def _matmul(left, right) -> Jet:
    if isinstance(left, Jet) and isinstance(right, Tensor) and right.ndim == 2:
        return _whole(left).map(lambda s: s @ right)
    jets = [a for a in (left, right) if isinstance(a, Jet)]
    # Rows are points: a product over the first axis, x @ x.T, mixes them and has no place in a module.
    if any(a.ndim < 3 for a in (left, right)):
        raise MissingRule("matmul other than jet @ matrix, or of results with one axis beside rows and columns")
    if len(jets) == 2:
        return bilinear(torch.matmul, *_aligned(_whole(left), _whole(right)))
    if jets[0] is left:
        return _whole(left).map(lambda s: s @ right)
    return _whole(right).map(lambda s: left @ s)


def _whole(jet: Jet) -> Jet:
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
    a, b = _aligned(a, b)
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


def _aligned(a: Jet, b: Jet) -> tuple[Jet, Jet]:
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
    a, b = _aligned(a, b)
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


@rule("layer_norm")
def _layer_norm(jet, normalized_shape, weight=None, bias=None, eps=1e-5) -> Jet:
    axes, jet = tuple(range(-len(normalized_shape), 0)), _whole(jet)
    centred = jet - jet.map(lambda s: s.mean(axes, keepdim=True))
    spread = RULES["square"](centred).map(lambda s: s.mean(axes, keepdim=True))
    result = centred * RULES["rsqrt"](spread + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


@rule("rms_norm")
def _rms_norm(jet, normalized_shape, weight=None, eps=None) -> Jet:
    axes, jet = tuple(range(-len(normalized_shape), 0)), _whole(jet)
    eps = torch.finfo(jet.dtype).eps if eps is None else eps
    result = jet * RULES["rsqrt"](RULES["square"](jet).map(lambda s: s.mean(axes, keepdim=True)) + eps)
    return result if weight is None else result * weight


# -- attention ---------------------------------------------------------------------------------------------------------


@rule("softmax")
def _softmax(jet, dim, _stacklevel=3, dtype=None) -> Jet:
    if dtype is not None and dtype != jet.dtype:
        raise MissingRule("softmax in another dtype")
    # Moved by a constant, which changes nothing but keeps exp finite.
    powers = RULES["exp"](jet - jet.value.detach().amax(dim, keepdim=True))
    return powers / powers.map_any(lambda s: s.sum(dim, keepdim=True))


@rule("log_softmax")
def _log_softmax(jet, dim, _stacklevel=3, dtype=None) -> Jet:
    if dtype is not None and dtype != jet.dtype:
        raise MissingRule("log_softmax in another dtype")
    moved = jet - jet.value.detach().amax(dim, keepdim=True)
    return moved - RULES["log"](RULES["exp"](moved).map_any(lambda s: s.sum(dim, keepdim=True)))


@rule("logsumexp")
def _logsumexp(jet, dim, keepdim=False) -> Jet:
    most = jet.value.detach().amax(dim, keepdim=True)
    total = RULES["log"](RULES["exp"](jet - most).map_any(lambda s: s.sum(dim, keepdim=keepdim)))
    return total + (most if keepdim else most.squeeze(dim))


@rule("scaled_dot_product_attention")
def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **rest) -> Jet:
    if dropout_p > 0 or is_causal or rest.get("enable_gqa"):
        raise MissingRule("scaled_dot_product_attention with dropout, a causal mask or grouped queries")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = _mul(_matmul(query, key.transpose(-2, -1)), scale)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            raise MissingRule("scaled_dot_product_attention with a mask of truth values")
        scores = scores + attn_mask
    return _matmul(_softmax(scores, -1) if isinstance(scores, Jet) else torch.softmax(scores, -1), value)
