"""The Poisson equation on the unit square."""

from __future__ import annotations

from sympy import Eq, Expr, exp, pi, sin

from pdes.parameters import expression
from pdes.registry import pde
from pinnflow import Problem, coordinates, field

x, y = coordinates("x y")


@pde
def poisson(
    solution: Expr = sin(pi * x) * sin(4 * pi * y) + x * (1 - x) * y * (1 - y) * exp(x), source: Expr | None = None
) -> Problem:
    r"""A potential of given charges on the unit square: -(u_xx + u_yy) = f.

    $$-(u_{xx} + u_{yy}) = f, \qquad (x, y) \in (0, 1)^2, \qquad u = g \text{ on the boundary}$$

    `u` is the potential; everything is dimensionless.

    Args:
        solution: $g$ on the boundary and, unless `source` is given, the solution itself: an expression in `x` and `y`
            from which $f = -\Delta g$ is derived. The default vanishes on the boundary.
        source: $f$, an expression in `x` and `y`; no exact solution is known then.

    Exact solution: `solution`, if there is no `source`.

    Source: manufactured; Roache, J. Fluids Eng. 124 (2002) 4-10.
    """
    g = expression("solution", solution, x, y)
    f = -g.diff(x, 2) - g.diff(y, 2) if source is None else expression("source", source, x, y)

    u = field("u", x, y)
    return Problem(
        equations=[Eq(-u.diff(x, 2) - u.diff(y, 2), f)],
        domain={x: (0, 1), y: (0, 1)},
        conditions=[Eq(u.subs(axis, end), g.subs(axis, end)) for axis in (x, y) for end in (0, 1)],
        exact=g if source is None else None,
        name="poisson",
    )
