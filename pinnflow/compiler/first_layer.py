"""The second linear layer of a network, whose jet has a simple form.

Behind a linear layer the derivatives along lines are the same in all rows, z' = c. Behind the function of one variable
that follows, those of order k are f^(k)(z) c^k: one matrix for all lines, times a row for each. So the next layer takes
f^(k)(z) (W c^k)^T, and the n times width derivatives of each line are never written down.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pinnflow.compiler.chains import Value, accumulate, weighted
from pinnflow.compiler.jet import Jet, Pending, is_watched

MANY = 16
"""Lines from which on it pays: fewer are carried as they are, one after the other."""


def through_second_layer(pending: Pending, weight: Tensor, bias: Tensor | None) -> Jet | None:
    """W f(z) + b for such a z, or None where z has another form or too few rows for it to pay."""
    chain, from_value, jet = pending.source
    carried = jet.slopes if jet.tops is None else jet.slopes[:-1]
    if not carried or not _is_constant(carried[0], jet.value) or any(s is not None for s in carried[1:]):
        return None
    if len(jet.value) < 2 * len(weight) or len(carried[0]) < MANY or is_watched():
        return None
    sums = None if jet.tops is None else jet.slopes[-1]
    if sums is not None and not _is_constant(sums, jet.value):
        return None
    order = max(len(carried), *(k for k, _, _ in jet.tops.parts), 0) if jet.tops is not None else len(carried)
    functions = _functions(pending, chain, from_value, jet.value, order)
    if functions is None:
        return None
    powers = _powers(jet, carried[0], order)
    linear = torch.nn.functional.linear
    slopes: list[Value] = [_wide(f, c, weight) for f, c in zip(functions[1:], _carried(jet, powers), strict=False)]
    if jet.tops is not None:
        total = None if sums is None else functions[1] * sums
        for k, start, weights in jet.tops.parts:
            if k == 1:  # in `sums` from the beginning
                continue
            c = weighted(weights, powers[k - 1][start : start + len(weights[0])])
            total = accumulate(total, functions[k], c)
        slopes.append(None if total is None else linear(total, weight))
    return jet.like(linear(functions[0], weight, bias), slopes)


def _is_constant(slope, value):
    return isinstance(slope, Tensor) and value.ndim == 2 and slope.shape[1:] == (1, value.shape[1])


def _powers(jet, first, order):
    """c, c^2, ... of each line."""
    line = first if jet.frame is None else weighted(jet.frame.rows, first)
    found = [line]
    for _ in range(order - 1):
        found.append(found[-1] * line)
    return found


def _carried(jet, powers):
    """The rows that stand for the derivatives of each order."""
    if jet.frame is None:
        widths = jet.widths if jet.tops is None else jet.widths[:-1]
        return [c[:width] for c, width in zip(powers, widths, strict=False)]
    frame = jet.frame
    rows = [c[:width] for c, width in zip(powers, frame.widths, strict=False)]
    rows[0] = powers[0][list(frame.basis)]
    if frame.sums:
        rows[-1] = weighted([row for _, _, row in frame.sums], rows[-1])
    return rows


def _wide(function, rows, weight):
    """`[M, n, out]` from a function `[n, in]` and rows `[M, 1, in]` by one product."""
    product = torch.nn.functional.linear(function, (weight * rows).flatten(0, 1))
    return product.unflatten(1, (len(rows), len(weight))).transpose(0, 1)


def _functions(pending, chain, from_value, z, order):
    """f(z), f'(z), ..., each a tensor, or None where one of them is a number."""
    if pending.derivatives is None:
        with torch.no_grad():
            sample = chain(z[:1], order)
        if not all(isinstance(entry, Tensor) for entry in sample):
            return None
        pending.derivatives = _Chain.apply(chain, from_value, order, z)
    return pending.derivatives


class _Chain(torch.autograd.Function):
    """A function of one variable with its derivatives, of which only the value or z is kept for the reverse pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(chain, from_value, order, z):
        entries = chain(z, order)
        # Equal entries, as of exp, are to be different results.
        return tuple(
            entry.clone() if any(entry is e for e in entries[:i]) else entry for i, entry in enumerate(entries)
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.chain, ctx.from_value, ctx.order, z = inputs
        ctx.set_materialize_grads(False)
        kept = z if ctx.from_value is None else output[0]
        ctx.save_for_backward(kept)
        ctx.save_for_forward(kept)

    @staticmethod
    def backward(ctx, *gradients):
        total: Value = None
        for gradient, slope in zip(gradients, _Chain.slopes(ctx), strict=True):
            total = accumulate(total, gradient, slope)
        return None, None, None, total

    @staticmethod
    def jvp(ctx, _chain, _from_value, _order, tangent):
        return tuple(_slope_times(slope, tangent) for slope in _Chain.slopes(ctx))

    @staticmethod
    def slopes(ctx) -> list[Value]:
        (kept,) = ctx.saved_tensors
        return (ctx.chain if ctx.from_value is None else ctx.from_value)(kept, ctx.order + 1)[1:]


def _slope_times(slope, tangent):
    return torch.zeros_like(tangent) if slope is None else slope * tangent
