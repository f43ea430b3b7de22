"""Taylor mode: derivatives along straight lines, carried forward through a network by a table of rules.

A `Jet` stands for the values and the directional derivatives d^k/ds^k f(x + s v), k = 1, ..., K, of an intermediate
result along many directions v at once. Called with a jet instead of a tensor, a module computes as it always does; each
torch operation it calls is looked up in `RULES`, which `rules.py` and `layers.py` fill. So the cost of order K along M
directions is that of about 1 + K M forward passes, and all directions share each matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pinnflow.compiler import layers, rules  # noqa: F401  (they fill RULES)
from pinnflow.compiler.chains import add, weighted
from pinnflow.compiler.jet import RULES, Jet, MissingRule, Pending
from pinnflow.compiler.lines import Frame, Tops

__all__ = ["RULES", "MissingRule", "directional_jet"]


def directional_jet(
    function: Callable[[Tensor], Tensor],
    points: Tensor,
    directions: Tensor,
    order: int | Sequence[int],
    tops: Tops | None = None,
    frame: Frame | None = None,
    sums_only: bool = False,
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
        frame: combinations of the derivatives along dependent directions to be carried in their place.
        sums_only: besides the values only the sums are needed; what stands in place of the others means nothing.

    Returns:
        Tuple of max(order) + 1 tensors: the values `[n, m]`, then for k = 1, 2, ... the k-th derivatives `[M_k, n, m]`
        along the M_k leading directions whose order is at least k, or the combinations of them that `frame` names;
        then, if there are `tops`, their sums `[G, n, m]`.

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
    if frame is not None:
        widths = frame.carried
    slopes: list[Tensor | None] = [None] * highest
    if highest:
        slopes[0] = first[: widths[0]] if frame is None else first[list(frame.basis)]
    if tops is not None:
        total = None
        for k, start, weights in tops.parts:
            if k == 1:
                total = add(total, weighted(weights, first[start : start + len(weights[0])]))
        slopes.append(total)
        widths = (*widths, tops.count)
    result = function(Jet(points, slopes, widths, tops, frame))
    if not isinstance(result, Jet):  # a constant
        return (result, *(torch.zeros_like(result).expand(w, *result.shape) for w in widths))
    if isinstance(result, Pending):
        result = result.some(not sums_only)
    return result.tensors()
