"""The jet of a function of one variable, as one step for autograd."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from pinnflow.compiler.chains import accumulate, add, faa_di_bruno
from pinnflow.compiler.jet import Jet


def elementwise(chain):
    """Rule for y = f(z) from the chain of derivatives of f: `rule(jet, ...) -> Jet` with the chain's settings."""

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


class _Directional(tuple):
    """The slopes of a jet, with the number of directions alive at each order, for `faa_di_bruno`."""

    widths: tuple[int, ...]

    @classmethod
    def of(cls, slopes, widths):
        made = cls(slopes)
        made.widths = widths
        return made
