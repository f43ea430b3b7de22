"""Derivatives of functions of one variable to any order: the table that Taylor mode composes with.

`CHAINS[name](z, order)` returns `[f(z), f'(z), ..., f^(order)(z)]`, each a tensor of the shape of z, a number where the
derivative is constant, or None where it is zero. Names are those of the torch function. A new activation is one
function with `@chain`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from pinnflow.compiler.jet import is_recorded

Value = Tensor | float | None
"""A tensor, a constant, or None for an exact zero."""

CHAINS: dict[str, Callable[..., list[Value]]] = {}
"""`{torch name: function(z, order, **settings) -> [f, f', ..., f^(order)]}`."""


FROM_VALUE: dict[str, Callable[..., list[Value]]] = {}
"""`{torch name: function(f(z), order) -> the same}` where the chain follows from the value alone."""


def chain(*names: str):
    """Enters a function into `CHAINS` under the names of its torch functions."""

    def enter(function):
        for name in names:
            CHAINS[name] = function
        return function

    return enter


# -- arithmetic that knows zeros ---------------------------------------------------------------------------------------


def add(a: Value, b: Value) -> Value:
    """a + b, where None is zero."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def times(a: Value, b: Value) -> Value:
    """a b, where None is zero and the number 1 costs nothing."""
    if a is None or b is None:
        return None
    if isinstance(a, int | float) and a == 1:
        return b
    if isinstance(b, int | float) and b == 1:
        return a
    return a * b


def accumulate(total: Value, a: Value, b: Value, weight: int = 1) -> Value:
    """total + weight a b, where None is zero; one pass over memory where all three are tensors."""
    if a is None or b is None:
        return total
    if isinstance(total, Tensor) and isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.addcmul(total, a, b, value=weight)
    return add(total, times(float(weight), times(a, b)))


def weighted(weights: Sequence[Sequence[float]], values: Value) -> Value:
    """`[G, ...]`: sums over the first axis of `values [M, ...]`, with G rows of M weights; None is zero."""
    if values is None:
        return None
    if len(weights) > 1 and len(values) == 1:
        return values.new_tensor([row[0] for row in weights]).reshape(-1, *[1] * (values.ndim - 1)) * values
    if len(weights) > 1 and is_recorded():  # in one expression, where rows put together would be written to memory
        columns, total = values.new_tensor(weights), None
        for j, value in enumerate(values.unbind(0)):
            if any(row[j] for row in weights):
                total = add(total, columns[:, j].reshape(-1, *[1] * value.ndim) * value)
        return values.new_zeros(len(weights), *values.shape[1:]) if total is None else total
    if len(weights[0]) > 8:
        return torch.tensordot(values.new_tensor(weights), values, 1)
    rows = [_weighted(row, values) for row in weights]
    return torch.stack(rows) if len(rows) > 1 else rows[0][None]


def _weighted(row, values):
    total = None
    for weight, value in zip(row, values.unbind(0), strict=True):
        if weight:
            if total is None:
                total = value if weight == 1 else weight * value
            else:
                total = torch.add(total, value, alpha=weight)
    return torch.zeros_like(values[0]) if total is None else total


def leibniz(a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
    """Derivatives of a product from those of its factors: (ab)^(k) = sum_j C(k, j) a^(j) b^(k-j)."""
    return [_leibniz(a, b, k) for k in range(min(len(a), len(b)))]


def _leibniz(a, b, k):
    total: Value = None
    for j in range(k + 1):
        total = accumulate(total, a[j], b[k - j], math.comb(k, j))
    return total


def compose(outer: Sequence[Value], inner: Sequence[Value]) -> list[Value]:
    """Derivatives of f(g(z)): `outer` holds f, f', ... at g(z), `inner` holds g, g', ... at z (Faa di Bruno)."""
    return [outer[0], *faa_di_bruno(outer[1:], inner[1:])]


def faa_di_bruno(
    outer: Sequence[Value], inner: Sequence[Value], widths=None, tops=None, sums_only=False
) -> list[Value]:
    """[(f o g)^(k) for k = 1, ..., K] = sum_m f^(m) B_{k,m}(g', g'', ...), from f^(m) and g^(j), m, j = 1, ..., K.

    The partial Bell polynomials follow B_{k,m} = sum_i C(k-1, i-1) g^(i) B_{k-i,m-1} (Comtet, Advanced Combinatorics,
    1974, 3.3).

    Args:
        outer: f', f'', ..., as many as the highest order.
        inner: g', g'', ..., each with a leading axis of directions when there are `widths`.
        widths: the numbers of directions alive at each order; only the leading ones are carried on.
        tops: `Tops`; then the last of `inner` and of the result are the sums over directions of higher derivatives.
        sums_only: the other derivatives are not needed, and None.
    """
    carried = inner if tops is None else inner[:-1]
    bell: dict[tuple[int, int], Value] = {}
    result: list[Value] = []
    for k in range(1, len(carried) + 1):
        alive = slice(widths[k - 1]) if widths else None
        total: Value = None
        for m in range(1, k + 1):
            bell[k, m] = inner[k - 1] if m == 1 else bell_polynomial(carried, bell, k, m, alive)
            total = None if sums_only else accumulate(total, outer[m - 1], bell[k, m])
        result.append(total)
    if tops is not None:
        sums = times(outer[0], inner[-1])
        for m, value in top_sums(carried, bell, tops).items():
            sums = accumulate(sums, outer[m - 1], value)
        result.append(sums)
    return result


def bell_polynomial(inner: Sequence[Value], bell, k: int, m: int, alive: slice | None) -> Value:
    """B_{k,m} of the directions `alive` from those of lower k."""
    total: Value = None
    for i in range(1, k - m + 2):
        left, right = _some(inner[i - 1], alive), _some(bell[k - i, m - 1], alive)
        total = accumulate(total, left, right, math.comb(k - 1, i - 1))
    return total


def top_sums(inner, bell, tops) -> dict[int, Value]:
    """{m: the sum over directions and orders k of weight B_{k,m}} for m = 2, ...: f^(m) is common to all of them."""
    sums: dict[int, Value] = {}
    if not inner or inner[0] is None:
        return sums
    for k, start, weights in tops.parts:
        alive = slice(start, start + len(weights[0]))
        for m in range(2, k + 1):
            if k == 2 and len(weights[0]) <= 8:  # the commonest case, without the squares in between
                value = _weighted_squares(weights, inner[0][alive])
            elif k == 2 and len(weights) == 1 and len(set(weights[0])) == 1:
                value = weights[0][0] * inner[0][alive].square().sum(0, keepdim=True)
            else:
                value = weighted(weights, bell_polynomial(inner, bell, k, m, alive))
            sums[m] = add(sums.get(m), value)
    return sums


def _weighted_squares(weights, values):
    rows = []
    for row in weights:
        total = None
        for weight, value in zip(row, values.unbind(0), strict=True):
            if weight and total is None:
                total = value * value if weight == 1 else (weight * value) * value
            elif weight:
                total = torch.addcmul(total, value, value, value=weight)
        rows.append(torch.zeros_like(values[0]) if total is None else total)
    return torch.stack(rows) if len(rows) > 1 else rows[0][None]


def _some(value, alive):
    if alive is None or not isinstance(value, Tensor) or (alive.start in (None, 0) and value.shape[0] == alive.stop):
        return value
    return value[alive]


# -- the table ---------------------------------------------------------------------------------------------------------


@cache
def _polynomials(slope: tuple[int, ...], order: int) -> tuple[tuple[int, ...], ...]:
    """q_k with f^(k) = s(f) q_k(f) for a function with f' = s(f), s a polynomial: q_{k+1} = (s q_k)'."""
    polynomials = [(1,)]
    for _ in range(order - 1):
        product = [0] * (len(slope) + len(polynomials[-1]) - 1)
        for i, a in enumerate(slope):
            for j, b in enumerate(polynomials[-1]):
                product[i + j] += a * b
        polynomials.append(tuple(i * a for i, a in enumerate(product))[1:])
    return tuple(polynomials)


def _autonomous(value: Tensor, slope: tuple[int, ...], order: int) -> list[Value]:
    """Chain of a function that solves f' = s(f), from its value."""
    if order == 0:
        return [value]
    first = _horner(value, slope)
    return [value, *(times(first, _horner(value, q)) for q in _polynomials(slope, order))]


def _horner(y: Tensor, coefficients: Sequence[int]) -> Value:
    """Polynomial with the coefficients of 1, y, y^2, ...; even and odd ones in steps of y^2."""
    if not any(coefficients[1:]):
        return float(coefficients[0])
    step = 2 if not any(coefficients[1::2]) or not any(coefficients[0::2]) else 1
    odd = step == 2 and not any(coefficients[0::2])
    wanted = [float(c) for c in (coefficients[1::2] if odd else coefficients[::step])]
    base = y * y if step == 2 else y
    total: Value = wanted[-1]
    for c in reversed(wanted[:-1]):
        total = times(total, base)
        total = total + c if c else total
    return times(total, y) if odd else total


@chain("tanh")
def _tanh(z, order):
    return _tanh_from_value(torch.tanh(z), order)


def _tanh_from_value(y, order):
    if order > 3 or order == 0:
        return _autonomous(y, (1, 0, -1), order)
    # The same polynomials in the fewest passes over memory; the third derivative is 4 f' - 6 f'^2.
    first = torch.addcmul(y.new_ones(()), y, y, value=-1)
    second = (-2 * y) * first if order > 1 else None
    third = torch.addcmul(4 * first, first, first, value=-6) if order > 2 else None
    return [y, first, second, third][: order + 1]


FROM_VALUE["tanh"] = _tanh_from_value


@chain("sigmoid", "expit", "special_expit")
def _sigmoid(z, order):
    return _autonomous(torch.sigmoid(z), (0, 1, -1), order)


FROM_VALUE.update(
    dict.fromkeys(("sigmoid", "expit", "special_expit"), lambda y, order: _autonomous(y, (0, 1, -1), order))
)


@chain("tan")
def _tan(z, order):
    return _autonomous(torch.tan(z), (1, 0, 1), order)


@chain("exp")
def _exp(z, order):
    return [torch.exp(z)] * (order + 1)


FROM_VALUE["exp"] = lambda y, order: [y] * (order + 1)


@chain("exp2")
def _exp2(z, order):
    value = torch.exp2(z)
    return [value * math.log(2) ** k for k in range(order + 1)]


@chain("expm1")
def _expm1(z, order):
    return [torch.expm1(z), *[torch.exp(z)] * order]


@chain("sin")
def _sin(z, order):
    return _cycle(torch.sin(z), torch.cos(z), -1, order)


@chain("cos")
def _cos(z, order):
    return _cycle(torch.cos(z), -torch.sin(z), -1, order)


@chain("sinh")
def _sinh(z, order):
    return _cycle(torch.sinh(z), torch.cosh(z), 1, order)


@chain("cosh")
def _cosh(z, order):
    return _cycle(torch.cosh(z), torch.sinh(z), 1, order)


def _cycle(value, first, sign, order):
    """Chain of a function with f'' = sign f."""
    entries = [value, first]
    while len(entries) <= order:
        entries.append(-entries[-2] if sign < 0 else entries[-2])
    return entries[: order + 1]


@chain("pow")
def _pow(z, order, exponent=2.0):
    entries: list[Value] = []
    factor = 1.0
    for k in range(order + 1):
        power = exponent - k
        if factor == 0:
            entries.append(None)
        elif power == 0:
            entries.append(factor)
        else:
            entries.append(times(factor, z if power == 1 else z**power))
        factor *= power
    if entries and not isinstance(entries[0], Tensor):
        entries[0] = torch.ones_like(z)
    return entries


@chain("square")
def _square(z, order):
    return _pow(z, order, 2)


@chain("reciprocal")
def _reciprocal(z, order):
    return _pow(z, order, -1)


@chain("sqrt")
def _sqrt(z, order):
    return _pow(z, order, 0.5)


@chain("rsqrt")
def _rsqrt(z, order):
    return _pow(z, order, -0.5)


@chain("log")
def _log(z, order):
    return [torch.log(z), *_pow(z, order - 1, -1)] if order else [torch.log(z)]


@chain("log1p")
def _log1p(z, order):
    return [torch.log1p(z), *_pow(1 + z, order - 1, -1)] if order else [torch.log1p(z)]


def _by_slope(value: Tensor, slope: Callable[[int], list[Value]], order: int) -> list[Value]:
    """Chain from the value and the chain of the first derivative."""
    return [value, *slope(order - 1)] if order else [value]


@chain("atan", "arctan")
def _atan(z, order):
    # (1 + z^2)^(-1)
    return _by_slope(torch.atan(z), lambda m: compose(_pow(1 + z * z, m, -1), _quadratic(z, 1.0, m)), order)


@chain("asinh", "arcsinh")
def _asinh(z, order):
    # (1 + z^2)^(-1/2)
    return _by_slope(torch.asinh(z), lambda m: compose(_pow(1 + z * z, m, -0.5), _quadratic(z, 1.0, m)), order)


def _quadratic(z, a, order):
    """Chain of 1 + a z^2, whose value is not used."""
    return [None, 2 * a * z, 2.0 * a, *[None] * order][: order + 1]


def _gaussian(z, order):
    """Chain of the normal density phi: phi^(k) = (-1)^k He_k(z) phi."""
    density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    hermite: list = [1.0, z]
    while len(hermite) <= order:
        hermite.append(z * hermite[-1] - (len(hermite) - 1) * hermite[-2])
    return [times((-1.0) ** k, times(hermite[k], density)) for k in range(order + 1)]


@chain("erf", "special_erf")
def _erf(z, order):
    root = math.sqrt(2)  # erf(z) = 2 Phi(sqrt(2) z) - 1
    return _by_slope(
        torch.erf(z), lambda m: [times(2 * root ** (k + 1), p) for k, p in enumerate(_gaussian(root * z, m))], order
    )


@chain("softplus")
def _softplus(z, order, beta=1.0, threshold=20.0):
    value = torch.nn.functional.softplus(z, beta, threshold)
    return _by_slope(value, lambda m: [times(beta**k, s) for k, s in enumerate(_sigmoid(beta * z, m))], order)


@chain("logsigmoid", "log_sigmoid")
def _logsigmoid(z, order):
    negative = _softplus(-z, order)
    return [times((-1.0) ** (k + 1), entry) for k, entry in enumerate(negative)]


def _identity(z, order):
    return [z, 1.0, *[None] * order][: order + 1]


@chain("silu")
def _silu(z, order, inplace=False):
    return leibniz(_identity(z, order), _sigmoid(z, order))


@chain("gelu")
def _gelu(z, order, approximate="none"):
    if approximate == "none":
        cdf = _by_slope(0.5 * (1 + torch.erf(z / math.sqrt(2))), lambda m: _gaussian(z, m), order)
        return leibniz(_identity(z, order), cdf)
    a, b = math.sqrt(2 / math.pi), 0.044715
    inner = [a * (z + b * z**3), a * (1 + 3 * b * z * z), 6 * a * b * z, 6 * a * b, *[None] * order][: order + 1]
    bent = compose(_tanh(inner[0], order), inner)
    bent[0] = 1 + bent[0]
    return [times(0.5, entry) for entry in leibniz(_identity(z, order), bent)]


@chain("mish")
def _mish(z, order, inplace=False):
    inner = _softplus(z, order)
    return leibniz(_identity(z, order), compose(_tanh(inner[0], order), inner))


@chain("softsign")
def _softsign(z, order):
    # z / (1 + |z|), smooth on each side of zero
    side = torch.sign(z)
    below = [times(side**k, entry) for k, entry in enumerate(_pow(1 + torch.abs(z), order, -1))]
    return leibniz(_identity(z, order), below)


@chain("relu")
def _relu(z, order, inplace=False):
    return [torch.relu(z), (z > 0).to(z.dtype), *[None] * order][: order + 1]


@chain("leaky_relu")
def _leaky_relu(z, order, negative_slope=0.01, inplace=False):
    value = torch.nn.functional.leaky_relu(z, negative_slope)
    return [value, torch.where(z > 0, 1.0, negative_slope).to(z.dtype), *[None] * order][: order + 1]


@chain("abs", "absolute")
def _abs(z, order):
    return [torch.abs(z), torch.sign(z), *[None] * order][: order + 1]


@chain("elu")
def _elu(z, order, alpha=1.0, inplace=False):
    below = alpha * torch.exp(torch.clamp(z, max=0.0))
    value = torch.nn.functional.elu(z, alpha)
    return [value, *(torch.where(z > 0, 1.0 if k == 0 else 0.0, below) for k in range(order))]
