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

from pinnflow.compiler import framed
from pinnflow.compiler.chains import CHAINS, accumulate, add, weighted
from pinnflow.compiler.composition import elementwise, elementwise_by_name
from pinnflow.compiler.first_layer import through_second_layer
from pinnflow.compiler.jet import RULES, Jet, MissingRule, Pending, is_recorded, is_watched, rule

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
    if isinstance(jet, Pending) and jet.is_untouched and jet.shape[-1] == weight.shape[-1] and weight.ndim == 2:
        found = through_second_layer(jet, weight, bias) if jet.source else None
        if found is not None:
            return found
        shape = (*jet.shape[:-1], len(weight))
        return Pending(jet, shape, lambda all_of_it: _through_layer(jet.some(all_of_it), weight, bias))
    return _through_layer(jet, weight, bias)


def _through_layer(jet, weight, bias):
    if is_recorded() and jet.value.ndim == 2 and len(weight) >= WIDE:
        return _in_one_product(whole(jet), weight, bias)
    slopes = [None if s is None else torch.nn.functional.linear(s, weight) for s in whole(jet).slopes]
    return jet.like(torch.nn.functional.linear(jet.value, weight, bias), slopes)


WIDE = 8
"""Columns of a product from which on one for all coefficients is worth it; few ones have coefficients nobody needs."""


def _in_one_product(jet, weight, bias):
    """One product for all coefficients: a compiler writes them side by side in the first place."""
    full = [i for i, s in enumerate(jet.slopes) if s is not None and s.shape[1] == len(jet.value)]
    pieces = [jet.value[None], *(jet.slopes[i] for i in full)]
    products = torch.nn.functional.linear(torch.cat(pieces), weight).split([len(piece) for piece in pieces])
    slopes = [
        None if s is None or i in full else torch.nn.functional.linear(s, weight) for i, s in enumerate(jet.slopes)
    ]
    for i, product in zip(full, products[1:], strict=True):
        slopes[i] = product
    value = products[0].squeeze(0)
    return jet.like(value if bias is None else value + bias, slopes)


@rule("matmul", "mm", "bmm", "mv")
def _matmul(left, right) -> Jet:
    if isinstance(left, Jet) and not isinstance(right, Jet) and right.ndim <= 2:
        return whole(left).map(lambda s: s @ right)
    # Rows are points: a product over the first axis, x @ x.T, mixes them and has no place in a module.
    if any(a.ndim < 3 for a in (left, right) if isinstance(a, Jet)):
        raise MissingRule("matmul other than jet @ matrix, or of results with one axis beside rows and columns")
    if isinstance(left, Jet) and isinstance(right, Jet):
        return bilinear(torch.matmul, *aligned(whole(left), whole(right)))
    if isinstance(left, Jet):
        return _shifted(whole(left), left.value @ right, lambda s: _times_constant(s, right))
    # From the left: columns of the transposed product.
    return _shifted(whole(right), left @ right.value, lambda s: _times_constant(s.mT, left.mT).mT)


def _shifted(jet: Jet, value: Tensor, linear) -> Jet:
    """The jet with this value and `linear` of slopes that have as many axes."""
    return jet.like(value, [None if s is None else linear(_with_axes(s, value.ndim)) for s in jet.slopes])


def _times_constant(slopes, matrix):
    """`slopes [M, n, ..., p, q] @ matrix [n, ..., q, r]`: the directions are rows of one product for each point.

    A product that broadcasts would copy the matrix for every direction.
    """
    directions, *batch, p, q = slopes.shape
    while matrix.ndim < slopes.ndim - 1:
        matrix = matrix[None]
    if all(size == 1 for size in batch):  # the same at all points: one product for all matrices
        flat, rows = matrix.movedim(-2, 0), slopes.reshape(directions * p, q)  # [q, n, ..., r]
        axes = _axes_of(rows) if rows.numel() > 4096 else None
        if axes is None:
            product = rows @ flat.reshape(q, -1)
        else:
            product = (flat if axes == slice(None) else flat[axes]).reshape(directions * p, -1)
        return product.reshape(directions, p, *flat.shape[1:]).movedim(1, -2)
    product = slopes.movedim(0, -3).flatten(-3, -2) @ matrix
    return product.unflatten(-2, (directions, p)).movedim(-3, 0)


def _axes_of(rows):
    """The columns that `rows [m, q]` pick when each is a unit vector, as an index, else None."""
    if rows.requires_grad or is_watched():
        return None
    rows = rows.detach()
    places = rows.argmax(1)
    if not bool((rows.gather(1, places[:, None]) == 1).all()) or int(rows.count_nonzero()) != len(rows):
        return None
    start = int(places[0])
    if bool((places == torch.arange(start, start + len(places), device=places.device)).all()):
        return slice(None) if len(rows) == rows.shape[1] else slice(start, start + len(rows))
    return places


def whole(jet: Jet) -> Jet:
    """`jet` with slopes that have all trailing axes in full: one may be 1 where a constant was broadcast in."""
    rest = jet.shape[1:]
    if all(s is None or s.shape[2:] == rest for s in jet.slopes):
        return jet
    return jet.like(jet.value, [None if s is None else s.expand(*s.shape[:2], *rest) for s in jet.slopes])


@rule("addmm", "baddbmm", "addmv")
def _addmm(offset, left, right, *, beta=1, alpha=1) -> Jet:
    product = _matmul(left, right)
    product = product if alpha == 1 else _mul(product, alpha)
    return _add(product, offset if beta == 1 else _mul(offset, beta) if isinstance(offset, Jet) else beta * offset)


@rule("neg", "negative")
def _neg(jet) -> Jet:
    return jet.map(operator.neg)


def _linear_by_axes(function, by_rows=None):
    """Rule of a linear map with axes given by number; `by_rows(ndim, arguments)` says when it leaves the rows apart."""

    def apply(jet, *args, **kwargs):
        if not isinstance(jet, Jet):
            raise MissingRule(function.__name__)
        apart = by_rows is not None and by_rows(jet.ndim, *args, **kwargs)
        return jet.map_any(lambda s: function(s, *args, **kwargs), apart)

    return apply


def _axis_given(ndim, dim=None, *_, **__):
    """Whether the axes named first are none of the rows'."""
    axes = dim if isinstance(dim, tuple | list) else (dim,)
    return all(isinstance(axis, int) and axis % ndim for axis in axes)


def _two_axes_given(ndim, dim0=0, dim1=0, *_, **__):
    return bool(dim0 % ndim and dim1 % ndim)


for _function in (
    Tensor.reshape, Tensor.view, Tensor.flatten, Tensor.squeeze, Tensor.permute, Tensor.movedim, Tensor.expand,
    Tensor.roll, Tensor.flip, Tensor.repeat, Tensor.diff, Tensor.t, Tensor.unsqueeze,
):  # fmt: skip
    RULES[_function.__name__] = _linear_by_axes(_function)
for _function in (
    Tensor.sum, Tensor.mean, Tensor.unflatten, Tensor.narrow, Tensor.select, Tensor.cumsum, Tensor.index_select,
):  # fmt: skip
    RULES[_function.__name__] = _linear_by_axes(_function, _axis_given)
for _function in (Tensor.transpose, Tensor.swapaxes):
    RULES[_function.__name__] = _linear_by_axes(_function, _two_axes_given)
for _function in (Tensor.contiguous, Tensor.clone, Tensor.to, Tensor.float, Tensor.double, Tensor.type_as):
    RULES[_function.__name__] = _linear_by_axes(_function, lambda *_, **__: True)
RULES["flatten"] = _linear_by_axes(Tensor.flatten, lambda ndim, start=0, end=-1: start % ndim > 0)
RULES["unsqueeze"] = _linear_by_axes(Tensor.unsqueeze, lambda ndim, dim: dim % (ndim + 1) > 0)
RULES["getitem"] = Jet.__getitem__


@rule("einsum")
def _einsum(equation, *operands) -> Jet:
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = operands[0]
    jets = [i for i, operand in enumerate(operands) if isinstance(operand, Jet)]
    letters, arrow, result = equation.replace(" ", "").partition("->")
    if not arrow or "." in equation or len(jets) > 2:
        if len(jets) > 1:
            raise MissingRule("einsum of several results, with dots or without an arrow")
        return operands[jets[0]].map_any(
            lambda s: torch.einsum(equation, *(s if i == jets[0] else o for i, o in enumerate(operands)))
        )
    indices = letters.split(",")
    line = next(c for c in "zyxwvutsrqponmlkjihgfedcbaZ" if c not in equation)  # the axis of the directions

    def product(*some):
        along = [tensor.ndim > len(index) for tensor, index in zip(some, (indices[i] for i in jets), strict=True)]
        filled, names = list(operands), list(indices)
        for i, tensor, bent in zip(jets, some, along, strict=True):
            filled[i], names[i] = tensor, line + names[i] if bent else names[i]
        return torch.einsum(f"{','.join(names)}->{line if any(along) else ''}{result}", *filled)

    whole_ones = [whole(operands[i]) for i in jets]
    if len(jets) == 2:
        return bilinear(product, *whole_ones)
    return whole_ones[0].like(
        product(whole_ones[0].value), [None if s is None else product(s) for s in whole_ones[0].slopes]
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
        rows_apart = dim % value.ndim > 0
        slopes = []
        for k, width in enumerate(like.widths):
            given = [t.slopes[k] for t in tensors]
            if all(s is None for s in given):
                slopes.append(None)
                continue
            # Slopes that are the same in all rows stay one row.
            n = 1 if rows_apart and all(s is None or s.shape[1] == 1 for s in given) else len(like.value)
            full = [
                (like.value.new_zeros(()) if s is None else s).expand(
                    width, n if rows_apart else len(t.value), *t.shape[1:]
                )
                for s, t in zip(given, tensors, strict=True)
            ]
            slopes.append(function(full, dim if dim < 0 else dim + 1))
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


@rule("clamp", "clip")
def _clamp(jet, min=None, max=None) -> Jet:
    for bound, pick in ((min, "maximum"), (max, "minimum")):
        jet = jet if bound is None else RULES[pick](jet, bound)
    return jet


@rule("clamp_min")
def _clamp_min(jet, min) -> Jet:
    return RULES["maximum"](jet, min)


@rule("clamp_max")
def _clamp_max(jet, max) -> Jet:
    return RULES["minimum"](jet, max)


@rule("maximum")
def _maximum(a, b) -> Jet:
    return _where(_plain(a) > _plain(b), a, b)


@rule("minimum")
def _minimum(a, b) -> Jet:
    return _where(_plain(a) < _plain(b), a, b)


@rule("linalg_vector_norm", "norm", "linalg_norm")
def _norm(jet, ord=2, dim=None, keepdim=False, **rest) -> Jet:
    ord = rest.get("p", ord)
    if ord not in (2, None, "fro") or not isinstance(dim, int) or dim % jet.ndim == 0:
        raise MissingRule("a norm other than the Euclidean one along one axis behind the rows")
    return RULES["sqrt"](RULES["sum"](RULES["square"](jet), dim, keepdim=keepdim))


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
    if a.frame is not None:
        pair = ((jet.value, *jet.slopes) for jet in (a, b))
        return a.like(product(a.value, b.value), framed.product(*pair, a.tops, a.frame, accumulate))
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
