"""Expressions as the user would type them: `u.diff(t).subs(t, 0)` instead of `Subs(Derivative(u(t, x), t), t, 0)`."""

from __future__ import annotations

from collections.abc import Iterable

import sympy
from sympy.core.function import AppliedUndef
from sympy.printing.str import StrPrinter


def written(expression: object, fields: Iterable[AppliedUndef] = (), limit: int = 300) -> str:
    """`expression` in Python notation; a declared field is printed by its name alone.

    Args:
        expression: any object; what is not sympy is printed by `repr`.
        fields: the declared fields.
        limit: longer texts are cut in the middle.
    """
    if isinstance(expression, bool):
        return str(expression)
    if not isinstance(expression, sympy.Basic):
        text = repr(expression)
    else:
        text = _Notation({"order": None}, frozenset(fields)).doprint(expression)
    text = " ".join(text.split())  # matrices come on several lines
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


class _Notation(StrPrinter):
    def __init__(self, settings, fields):
        super().__init__(settings)
        self._fields = fields

    def _print_AppliedUndef(self, node):
        if node in self._fields:
            return node.func.__name__
        return f"{node.func.__name__}({', '.join(map(self._print, node.args))})"

    def _print_Derivative(self, node):
        wanted = [self._print(v) if n == 1 else f"{self._print(v)}, {self._print(n)}" for v, n in node.variable_count]
        return f"{self._receiver(node.expr)}.diff({', '.join(wanted)})"

    def _print_Subs(self, node):
        pairs = list(zip(node.variables, node.point, strict=True))
        if len(pairs) == 1:
            return f"{self._receiver(node.expr)}.subs({self._print(pairs[0][0])}, {self._print(pairs[0][1])})"
        inside = ", ".join(f"{self._print(v)}: {self._print(p)}" for v, p in pairs)
        return f"{self._receiver(node.expr)}.subs({{{inside}}})"

    def _print_Equality(self, node):
        return f"Eq({self._print(node.lhs)}, {self._print(node.rhs)})"

    def _receiver(self, node):
        if node.is_Add or node.is_Mul or node.is_Pow:
            return f"({self._print(node)})"
        return self._print(node)
