"""Sympy expressions that torch computes by arithmetic, exponentials and logarithms alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from sympy import Add, Expr, Mul, Number, NumberSymbol, Pow, Symbol, exp, lambdify, log, preorder_traversal

_PLAIN = (Add, Mul, Pow, Number, NumberSymbol, Symbol, exp, log)


def is_plain(expression: Expr, symbols: Collection[Expr]) -> bool:
    """Whether nothing but `symbols` stands in it: no other names, no derivatives, no values at other places."""
    nodes = preorder_traversal(expression)
    return expression.free_symbols <= set(symbols) and all(isinstance(node, _PLAIN) for node in nodes)


def plain_function(arguments: Sequence[Symbol], expression: Expr) -> Callable[..., Any]:
    """A plain expression as a function of tensors; a number where no argument stands in it."""
    return lambdify(arguments, expression, modules=[{"exp": torch.exp, "log": torch.log}])
