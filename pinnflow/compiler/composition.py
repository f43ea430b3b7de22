"""The jet of a function of one variable, as one step for autograd."""

from __future__ import annotations

import functools
import inspect
import math

import torch
from torch import Tensor

from pinnflow.compiler import framed
from pinnflow.compiler.chains import FROM_VALUE, accumulate, add, faa_di_bruno, weighted
from pinnflow.compiler.jet import Jet, Pending, is_watched


def elementwise(chain, from_value=None):
    """Rule for y = f(z) from the chain of derivatives of f: `rule(jet, ...) -> Jet` with the chain's settings.

    `from_value(y, order)`, where it exists, gives the same chain from the value, which saves evaluating f twice.
    """

    def apply(jet: Jet, *args, **kwargs) -> Jet:
        bound = functools.partial(_call_chain, chain, args, kwargs)

        def make(whole):
            return composition(bound, from_value, jet, not whole and jet.tops is not None)

        if isinstance(jet, Pending):  # all of it is needed, now that a function of it is
            jet = jet.whole
        return Pending(jet, jet.value.shape, make, (bound, from_value, jet))

    return apply


def composition(chain, from_value, jet: Jet, sums_only: bool = False) -> Jet:
    """f of a jet, from `chain(z, order)`; when `sums_only` without the derivatives below the sums."""
    value, *slopes, _ = _Composition.apply(
        chain, from_value, jet.widths, jet.tops, jet.frame, sums_only, jet.value, *jet.slopes
    )
    return jet.like(value, slopes)


def elementwise_by_name(name, chain):
    """Rule for an entry of `CHAINS`."""
    return elementwise(chain, FROM_VALUE.get(name))


def _call_chain(chain, args, kwargs, z, order):
    return chain(z, order, *args, **kwargs)


class _Composition(torch.autograd.Function):
    """The jet of y = f(z) from the jet of z, with the derivative of that map written out.

    With w_i = d^i/ds^i f'(z(s)) the differential is dy_k = sum_j C(k, j) w_{k-j} dz_j, because dy = f'(z) dz along the
    line; its transpose is the gradient. A sum S over directions of weight w of the k-th derivatives differs in that the
    k-th derivatives of z are known in sum only, which is how they enter: dS = f'(z) dS_z + (sum of weight w_k) dz_0 +
    sum of weight C(k, j) w_{k-j} dz_j over 0 < j < k. Recording the operations of `faa_di_bruno` instead would give
    the same numbers and keep every intermediate until the reverse pass.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(chain, from_value, widths, tops, frame, sums_only, value, *slopes):
        order = _highest(widths, tops)
        outer = chain(value, order)
        weights = _plain_sum(widths, tops, frame, value, slopes)
        if weights is not None and isinstance(outer[1], Tensor) and isinstance(outer[2], Tensor):
            return (outer[0], *_by_lines(outer, slopes, weights, sums_only))
        results = (outer[0], *_composed(outer[1:], slopes, widths, tops, frame, sums_only))
        # Where f is the identity a result is an argument, which autograd wants as a view.
        given = {id(value), *map(id, slopes)}
        return (*(y.view_as(y) if y is not None and id(y) in given else y for y in results), None)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.chain, ctx.from_value, ctx.widths, ctx.tops, ctx.frame, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        kept = tensors if ctx.from_value is None else [output[0], *tensors[1:]]
        if output[-1] is not None:
            ctx.mark_non_differentiable(output[-1])
        ctx.save_for_backward(*kept, output[-1])
        ctx.save_for_forward(*kept, output[-1])
        ctx.shapes = [None if z is None else z.shape for z in tensors]

    @staticmethod
    def backward(ctx, *gradients):
        kept, *slopes, squares = ctx.saved_tensors
        gradients = gradients[:-1]
        weights = None if torch.is_grad_enabled() else _plain_sum(ctx.widths, ctx.tops, ctx.frame, kept, slopes)
        if weights is not None and squares is not None and gradients[-1] is not None:
            outer = _outer(ctx, kept, 3)
            if all(isinstance(entry, Tensor) for entry in outer[1:]):
                found = _gradients_by_lines(outer, slopes, weights, squares, gradients, ctx.needs_input_grad[6:])
                return (*[None] * 6, *found)
        w = _bent_slope(ctx, kept, slopes)
        if ctx.frame is not None:
            return (*[None] * 6, *_fitting(framed.gradients(w, gradients, ctx.tops, ctx.frame), ctx))
        carried = len(ctx.widths) - (ctx.tops is not None)
        sums = gradients[-1] if ctx.tops is not None else None
        in_place = not torch.is_grad_enabled() and not is_watched()
        result: list[Tensor | None] = []
        for j, shape in enumerate(ctx.shapes[: carried + 1]):
            if not ctx.needs_input_grad[j + 6]:
                result.append(None)
                continue
            total = _gradient(ctx.widths, w, gradients[: carried + 1], j)
            if sums is not None and j == 0:
                total = total if w[-1] is None else _accumulate_over_directions(total, w[-1], sums)
            elif sums is not None:
                # A factor 1 leaves an argument as it is, which is not to be written into.
                own = in_place and not any(total is g for g in gradients if g is not None)
                add_sums = _add_sums_in_place if own else _add_sums
                total = add_sums(total, ctx.tops, w, sums, j, ctx.widths[j - 1])
            if total is not None and j > 0:
                total = _filled(total, shape[0])
            result.append(total if total is None else total.sum_to_size(shape))
        if ctx.tops is not None:
            wanted = sums is not None and ctx.shapes[-1] is not None
            result.append((w[0] * sums).sum_to_size(ctx.shapes[-1]) if wanted else None)
        return (*[None] * 6, *result)

    @staticmethod
    def jvp(ctx, _chain, _from_value, _widths, _tops, _frame, _sums_only, *tangents):
        kept, *slopes, _ = ctx.saved_tensors
        w = _bent_slope(ctx, kept, slopes)
        if ctx.frame is not None:
            found = framed.product(w, tangents, ctx.tops, ctx.frame, accumulate)
            return (accumulate(None, w[0], tangents[0]), *found, None)
        carried = len(ctx.widths) - (ctx.tops is not None)
        result = []
        for k in range(carried + 1):
            total = None
            for j in range(k + 1):
                bent = _leading(w, k - j, widths=ctx.widths, like=k)
                tangent = _leading(tangents, j, widths=ctx.widths, like=k)
                total = accumulate(total, bent, tangent, math.comb(k, j))
            result.append(total)
        if ctx.tops is not None:
            total = accumulate(accumulate(None, w[0], tangents[-1]), w[-1], tangents[0])
            for k, start, weights in ctx.tops.parts:
                alive, mixed = slice(start, start + len(weights[0])), None
                for j in range(1, k):
                    left, right = w[k - j], tangents[j]
                    if left is not None and right is not None:
                        mixed = accumulate(mixed, left[alive], right[alive], math.comb(k, j))
                total = add(total, weighted(weights, mixed))
            result.append(total)
        return (*result, None)


# torch looks up the signature at every call, a fiftieth of a step unless it is written down.
_Composition.forward.__signature__ = inspect.signature(_Composition.forward)  # type: ignore[attr-defined]


def _composed(outer, slopes, widths, tops, frame, sums_only=False):
    if frame is not None:
        return framed.composed(outer, slopes, tops, frame, sums_only)
    return faa_di_bruno(outer, slopes, widths, tops, sums_only)


def _fitting(gradients, ctx):
    """Gradients in the shapes of what they belong to."""
    pairs = zip(gradients, ctx.shapes, ctx.needs_input_grad[6:], strict=True)
    return [None if g is None or shape is None or not needed else g.sum_to_size(shape) for g, shape, needed in pairs]


def _highest(widths, tops):
    carried = len(widths) - (tops is not None)
    return max([carried, *(k for k, _, _ in tops.parts)]) if tops is not None else carried


def _accumulate_over_directions(total, bent, gradient):
    """total + sum over the directions of bent gradient; a few of them one by one, without a large intermediate."""
    if gradient.shape[0] > 8:
        return add(total, (bent * gradient).sum(0))
    bent = bent.expand(gradient.shape[0], *bent.shape[1:])
    for piece in zip(bent.unbind(0), gradient.unbind(0), strict=True):
        total = accumulate(total, *piece)
    return total


def _gradient(widths, w, gradients, j):
    """The gradient by the j-th derivatives, from those by the derivatives that are carried one by one."""
    total = None
    for k in range(j, len(gradients)):
        bent, gradient = _leading(w, k - j, widths=widths, like=k), gradients[k]
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
    return total


def _add_sums(total, tops, w, sums, j, width):
    """total + what the sums contribute to the gradient by the j-th derivatives, `[width, ...]`."""
    for k, start, weights in tops.parts:
        if k <= j or w[k - j] is None:
            continue
        count = len(weights[0])
        bent = w[k - j][start : start + count]
        if len(weights) == 1 and len(set(weights[0])) == 1:
            share = weights[0][0] * math.comb(k, j) * sums
        else:
            share = weighted([[math.comb(k, j) * row[i] for row in weights] for i in range(count)], sums)
        piece = bent * share
        after = width - start - count
        if start or after:
            before = [piece.new_zeros(start, *piece.shape[1:])] if start else []
            piece = torch.cat([*before, piece, *([piece.new_zeros(after, *piece.shape[1:])] if after else [])])
        total = piece if total is None else _filled(total, width) + piece
    return total


def _add_sums_in_place(total, tops, w, sums, j, width):
    """As `_add_sums`, without temporary tensors of all directions; for values that nobody differentiates further."""
    fresh = None
    for k, start, weights in tops.parts:
        if k <= j or w[k - j] is None:
            continue
        bent, count = w[k - j], len(weights[0])
        uniform = len(weights) == 1 and len(set(weights[0])) == 1
        if uniform and fresh is None and total is None and count == width:
            fresh = bent[start : start + count] * (math.comb(k, j) * weights[0][0] * sums)
            continue
        if fresh is None:
            fresh = _own(total, (width, *torch.broadcast_shapes(bent.shape[1:], sums.shape[1:])), sums)
        if uniform:
            fresh[start : start + count].addcmul_(
                bent[start : start + count], sums, value=math.comb(k, j) * weights[0][0]
            )
            continue
        for i in range(count):
            row = fresh[start + i]
            for g, some in enumerate(weights):
                if some[i]:
                    row.addcmul_(bent[start + i], sums[g], value=math.comb(k, j) * some[i])
    return total if fresh is None else fresh


def _own(total, shape, like):
    """`total` in full size."""
    if total is None:
        return like.new_zeros(shape)
    total = _filled(total, shape[0])
    return total if tuple(total.shape) == tuple(shape) else total.expand(shape).clone()


def _bent_slope(ctx, kept, slopes):
    """The jet of f'(z(s)), with the sums of its highest derivatives."""
    outer = _outer(ctx, kept, _highest(ctx.widths, ctx.tops) + 1)[1:]
    return [outer[0], *_composed(outer[1:], slopes, ctx.widths, ctx.tops, ctx.frame)]


def _outer(ctx, kept, order):
    return ctx.chain(kept, order) if ctx.from_value is None else ctx.from_value(kept, order)


# -- the commonest case, a sum of second derivatives, line by line: each passes the processor's cache once ------------


def _plain_sum(widths, tops, frame, value, slopes):
    """The weights when there are first derivatives and one sum of second ones along the same lines, else None."""
    if (
        tops is None
        or frame is not None
        or len(widths) != 2
        or len(tops.parts) != 1
        or is_watched()
        or value.numel() < SMALL
    ):
        return None
    k, start, weights = tops.parts[0]
    if k != 2 or start or len(weights) != 1 or len(weights[0]) != widths[0] or slopes[0] is None:
        return None
    # The first derivatives may be the same in all rows, as behind the first layer.
    rows, *rest = slopes[0].shape[1:]
    alike = tuple(rest) == value.shape[1:] and rows in (1, len(value))
    return weights[0] if alike and (slopes[1] is None or slopes[1].shape[1:] == value.shape) else None


SMALL = 2**14
"""Entries of a layer below which a step for each line would cost more than it saves."""


def _by_lines(outer, slopes, weights, sums_only):
    """First derivatives f' z_i, the sum f' S_z + f'' sum of w_i z_i^2, and the sum of w_i z_i^2 for the way back."""
    _, first, second = outer[:3]
    lines, total = slopes
    result = None if sums_only else first.new_empty(len(lines), *first.shape)
    squares = torch.zeros_like(lines[0])
    for i, (z, weight) in enumerate(zip(lines.unbind(0), weights, strict=True)):
        if result is not None:
            torch.mul(z, first, out=result[i])
        squares.addcmul_(z, z, value=weight)
    sums = squares * second
    return result, (sums if total is None else sums.addcmul_(total[0], first))[None], squares


def _gradients_by_lines(outer, slopes, weights, squares, gradients, needed):
    """Those by value, first derivatives and sum: g_i of f' z_i, G of the sum.

    By z_i it is f' g_i + 2 w_i f'' G z_i; by the value f' g + f'' (G S_z + sum of z_i g_i), and the third derivative
    of f times G times the sum of w_i z_i^2.
    """
    _, first, second, third = outer
    lines, total = slopes
    own, by_lines, by_sum = gradients[0], gradients[1], gradients[2][0]
    mixed = torch.zeros_like(first) if total is None else by_sum * total[0]
    factor = 2 * second * by_sum
    alike = lines.shape[1] != len(first)  # in all rows
    factor = factor.sum(0, keepdim=True) if alike else factor
    result = torch.empty_like(lines, memory_format=_layout(lines)) if needed[1] else lines
    of_lines = [None] * len(lines) if by_lines is None else by_lines.unbind(0)
    for z, g, h, weight in zip(lines.unbind(0), of_lines, result.unbind(0), weights, strict=True):
        if g is not None:
            mixed.addcmul_(z, g)
        if not needed[1]:
            continue
        if g is None:
            torch.mul(z, factor if weight == 1 else weight * factor, out=h)
            continue
        if alike:
            torch.sum(g * first, 0, keepdim=True, out=h)
        else:
            torch.mul(g, first, out=h)
        h.addcmul_(z, factor, value=weight)
    by_value = mixed.mul_(second).addcmul_(squares * third, by_sum)
    if own is not None:
        by_value.addcmul_(own, first)
    return by_value, result if needed[1] else None, None if total is None else (first * by_sum)[None]


def _layout(lines):
    """That of `lines` if they fill their memory, as behind `first_layer.through_second_layer`."""
    return torch.preserve_format if lines.transpose(0, 1).is_contiguous() else torch.contiguous_format


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
