"""Jets of which several lines share coefficients (`lines.Frame`): composition, product and gradient.

A jet is a list: the value, the first derivatives along a basis of the lines, those of each order along its lines, with
`frame.sums` in the place of the last, then the sums of `Tops` if there are any. Each function goes from these to the
derivatives along the lines and back; `composition.py` and `rules.py` hold the same for jets without a frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from pinnflow.compiler.chains import Value, accumulate, add, bell_polynomial, times, top_sums, weighted
from pinnflow.compiler.lines import Frame, Tops


def along_lines(derivatives: Sequence[Value], frame: Frame) -> list[Value]:
    """The derivatives of each order along every line, None where only sums of them are carried."""
    along = [weighted(frame.rows, derivatives[0]), *derivatives[1:]]
    return [*along[:-1], None] if frame.sums else along


def composed(
    outer: Sequence[Value], inner: Sequence[Value], tops: Tops | None, frame: Frame, sums_only=False
) -> list[Value]:
    """Derivatives of f o g from f', f'', ... and those of g, as `chains.faa_di_bruno`."""
    carried = inner if tops is None else inner[:-1]
    along, n = along_lines(carried, frame), len(carried)
    bell: dict[tuple[int, int], Value] = {}
    result = [None if sums_only else times(outer[0], carried[0])]
    bell[1, 1] = along[0]
    for k in range(2, n + 1):
        alive, near = slice(frame.widths[k - 1]), bool(frame.sums) and k == n
        total = times(outer[0], carried[-1]) if near and not sums_only else None
        for m in range(1, k + 1):
            bell[k, m] = along[k - 1] if m == 1 else bell_polynomial(along, bell, k, m, alive)
            if not sums_only:
                total = accumulate(total, outer[m - 1], _summed(frame, bell[k, m]) if near else bell[k, m])
        result.append(total)
    if tops is not None:
        sums = times(outer[0], inner[-1])
        for m, value in top_sums(along, bell, tops).items():
            sums = accumulate(sums, outer[m - 1], value)
        if frame.sums:  # the one term with derivatives of order n
            sums = accumulate(sums, outer[1], _paired(frame, tops, carried[0], carried[-1], accumulate), n + 1)
        result.append(sums)
    return result


def product(a: Sequence[Value], b: Sequence[Value], tops: Tops | None, frame: Frame, accumulate: Callable) -> list:
    """Derivatives of a bilinear product from those of its factors, the value left out (Leibniz).

    Args:
        a: the first factor's value and derivatives.
        b: the second one's.
        tops: the sums.
        frame: what is carried.
        accumulate: `(total, x, y, weight) -> total + weight product(x, y)`, None being zero.
    """
    n = len(frame.carried)
    x, y = ([one[0], *along_lines(one[1 : n + 1], frame)] for one in (a, b))
    result = [accumulate(accumulate(None, a[0], b[1], 1), a[1], b[0], 1)]
    for k in range(2, n + 1):
        inside = _leibniz(x, y, k, slice(frame.widths[k - 1]), accumulate)
        if frame.sums and k == n:
            inside = _summed(frame, inside)
        result.append(accumulate(accumulate(inside, a[0], b[k], 1), a[k], b[0], 1))
    if tops is not None:
        total = accumulate(accumulate(None, a[0], b[-1], 1), a[-1], b[0], 1)
        for k, start, weights in tops.parts:
            total = add(total, weighted(weights, _leibniz(x, y, k, slice(start, start + len(weights[0])), accumulate)))
        if frame.sums:
            for first, near in ((a[1], b[n]), (b[1], a[n])):
                swapped = accumulate if first is a[1] else lambda t, p, q, c: accumulate(t, q, p, c)
                pairs = _paired(frame, tops, first, near, swapped)
                total = add(total, times(float(n + 1), pairs))
        result.append(total)
    return result


def _leibniz(x, y, k, alive, accumulate):
    """The terms of (xy)^(k) without the values themselves."""
    total = None
    for j in range(1, k):
        if x[j] is not None and y[k - j] is not None:
            total = accumulate(total, x[j][alive], y[k - j][alive], math.comb(k, j))
    return total


def gradients(w: Sequence[Value], given: Sequence[Value], tops: Tops | None, frame: Frame) -> list[Value]:
    """The transpose of `product` in its second factor: gradients by the value and the derivatives of z, from those by
    the derivatives of y, where dy = w dz along each line."""
    n = len(frame.carried)
    along = [w[0], *along_lines(w[1 : n + 1], frame)]
    sums = given[-1] if tops is not None else None
    by_value = None
    for k, (bent, gradient) in enumerate(zip(w, given, strict=True)):
        if bent is not None and gradient is not None:
            by_value = add(by_value, (bent * gradient).sum(0) if k else bent * gradient)
    result = [by_value]
    single = n - 1 if frame.sums else n  # the orders that are carried line by line
    for j in range(1, single + 1):
        total = None
        # Order k on all its lines: what y's derivatives hand on, and the weights they do it with.
        sources = [(k, 0, given[k]) for k in range(max(j, 2), single + 1)]
        if frame.sums and given[n] is not None:
            sources.append((n, 0, weighted(_columns([row for _, _, row in frame.sums]), given[n])))
        if sums is not None:
            sources += [(k, start, weighted(_columns(rows), sums)) for k, start, rows in tops.parts if k > j]
        for k, start, gradient in sources:
            bent = along[k - j]
            if gradient is None or bent is None:
                continue
            bent = bent if k == j else bent[start : start + len(gradient)]
            total = add(total, _placed(math.comb(k, j) * bent * gradient, start, frame.widths[j - 1]))
        if j == 1:
            total = accumulate(weighted(_columns(frame.rows), total), w[0], given[1])
            if frame.sums and sums is not None and w[n] is not None:
                for g in range(tops.count):
                    places = {i: place for place, (h, i, _) in enumerate(frame.sums) if h == g}
                    some = _picked(w[n], list(places.values())) * sums[g : g + 1] * (n + 1)
                    total = add(total, _spread(some, list(places), len(frame.basis)))
        result.append(total)
    if frame.sums:
        total = times(w[0], given[n])
        if sums is not None and w[1] is not None:
            firsts, tops_of = [i for _, i, _ in frame.sums], [g for g, _, _ in frame.sums]
            total = add(total, (n + 1) * _picked(w[1], firsts) * (_picked(sums, tops_of) if tops.count > 1 else sums))
        result.append(total)
    if tops is not None:
        result.append(times(w[0], sums))
    return result


def _summed(frame, values):
    return weighted([row for _, _, row in frame.sums], values)


def _paired(frame, tops, first, near, accumulate):
    """For each sum of `tops`, sum over the basis of first derivatives times the sums that belong to them."""
    if first is None or near is None:
        return None
    rows: list = [None] * tops.count
    for place, (g, i, _) in enumerate(frame.sums):
        rows[g] = accumulate(rows[g], first[i : i + 1], near[place : place + 1], 1)
    return torch.cat(rows)


def _columns(rows):
    return tuple(zip(*rows, strict=True))


def _placed(piece, start, width):
    """`piece` with zeros for the lines before and behind it."""
    after = width - start - len(piece)
    if not start and not after:
        return piece
    zeros = [piece.new_zeros(number, *piece.shape[1:]) for number in (start, after)]
    return torch.cat([zeros[0], piece, zeros[1]])


def _picked(values, places):
    return values if places == list(range(len(values))) else values[places]


def _spread(values, places, count):
    """`values` as rows `places` of `count`, the others zero."""
    if places == list(range(count)):
        return values
    rows = dict(zip(places, values.unbind(0), strict=True))
    return torch.stack([rows[i] if i in rows else torch.zeros_like(values[0]) for i in range(count)])
