"""Vector operators as unevaluated nodes (being completed)."""

import sympy


class NormalDerivative(sympy.Expr):
    """Derivative along the outward normal of the boundary."""

    rank = 0

    def __new__(cls, expression):
        return sympy.Expr.__new__(cls, sympy.sympify(expression))


def rank(expression):
    """0 scalar, 1 vector, 2 matrix."""
    return getattr(expression, "rank", 0)
