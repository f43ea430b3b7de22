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
        return {request: _by_transform(module, points, request) for request in requests}
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


def _by_transform(module, points, request):
    """The same by nested `torch.func.vjp`, which composes with other transforms; nothing is shared."""
    field, orders = request

    def column(x):
        return module(x)[:, field]

    def differentiate(function, axis):
        def slope(x):
            value, pull = torch.func.vjp(function, x)
            return pull(torch.ones_like(value))[0][:, axis]

        return slope

    function = column
    for axis, order in enumerate(orders):
        for _ in range(order):
            function = differentiate(function, axis)
    return function(points)
