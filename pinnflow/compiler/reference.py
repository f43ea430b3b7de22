"""Nested reverse mode: partial derivatives of any module by differentiating again and again.

Obviously right and slow: its cost grows threefold with each order. It is what Taylor mode is compared with, and what
modules fall back to that use an operation without a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Request = tuple[int, tuple[int, ...]]
"""`(field, orders)`: a column of the module's output and the order of differentiation in each column of the input."""


def nested_reverse(
    module: Callable[[Tensor], Tensor], points: Tensor, requests: Iterable[Request]
) -> dict[Request, Tensor]:
    """Partial derivatives of the columns of `module(points)`, each `[n]`.

    Row i of the output must depend on row i of the input only: then the gradient of a column's sum holds all rows'
    derivatives. A derivative that does not depend on the points is zero.

    Args:
        module: maps `[n, d]` to `[n, m]`.
        points: `[n, d]`.
        requests: which derivatives.
    """
    requests = list(requests)
    try:
        leaf = points.detach().requires_grad_() if not points.requires_grad else points
    except RuntimeError:  # inside torch.func transforms leaves cannot be marked
        return _by_transform(module, points, requests)
    with torch.enable_grad():
        values = module(leaf)
        found: dict[Request, Tensor] = {}
        partials: dict[Request, Tensor | None] = {}

        def derivative(field: int, orders: tuple[int, ...]) -> Tensor:
            if (field, orders) not in found:
                if not any(orders):
                    found[field, orders] = values[:, field]
                else:
                    axis = max(i for i, order in enumerate(orders) if order)
                    lower = tuple(order - (i == axis) for i, order in enumerate(orders))
                    found[field, orders] = slope(field, lower)[:, axis]
            return found[field, orders]

        def slope(field: int, orders: tuple[int, ...]) -> Tensor:
            # One reverse pass gives all first partial derivatives, `[n, d]`.
            if (field, orders) not in partials:
                inner = derivative(field, orders)
                gradient = None
                if inner.requires_grad:
                    (gradient,) = torch.autograd.grad(inner.sum(), leaf, create_graph=True, allow_unused=True)
                partials[field, orders] = torch.zeros_like(leaf) if gradient is None else gradient
            return partials[field, orders]

        result = {request: derivative(*request) for request in requests}
    return result if torch.is_grad_enabled() else {request: value.detach() for request, value in result.items()}


def _by_transform(module, points, requests):
    """The same by nested `torch.func.vjp`, which composes with other transforms; the last reverse pass is shared."""

    def column(field):
        return lambda x: module(x)[:, field]

    def slopes(function, x):
        value, pull = torch.func.vjp(function, x)
        return value, pull(torch.ones_like(value))[0]

    def derivative(field, orders):
        function = column(field)
        for axis, order in enumerate(orders):
            for _ in range(order):
                function = _slope_function(slopes, function, axis)
        return function

    result, partials = {}, {}
    for field, orders in requests:
        if not any(orders):
            continue
        axis = max(i for i, order in enumerate(orders) if order)
        lower = tuple(order - (i == axis) for i, order in enumerate(orders))
        if (field, lower) not in partials:
            result[field, lower], partials[field, lower] = slopes(derivative(field, lower), points)
        result[field, orders] = partials[field, lower][:, axis]
    values = None
    for field, orders in requests:
        if (field, orders) not in result:  # a value of which no derivative was asked for
            values = module(points) if values is None else values
            result[field, orders] = values[:, field]
    return {request: result[request] for request in requests}


def _slope_function(slopes, function, axis):
    return lambda x: slopes(function, x)[1][:, axis]
