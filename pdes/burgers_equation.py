"""The viscous Burgers equation on an interval."""

from __future__ import annotations

from sympy import Eq, Expr, Rational, pi, sin

from pdes.parameters import expression, number, zero_at_ends
from pdes.registry import pde
from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")


@pde
def burgers(viscosity=Rational(1, 100) / pi, initial: Expr = -sin(pi * x), duration=1) -> Problem:
    r"""Steepening against viscosity: u_t + u u_x = nu u_xx.

    $$u_t + u u_x = \nu u_{xx}, \qquad -1 < x < 1, \quad 0 < t < T, \qquad u(0, x) = u_0(x)$$

    with $u = 0$ at both ends. `u` is a velocity; everything is dimensionless. With the default values a front of width
    $\sim 2 \nu$ stands at $x = 0$ from $t = 1 / \pi$ on.

    Args:
        viscosity: $\nu$; positive.
        initial: $u_0$, an expression in `x` that vanishes at both ends.
        duration: $T$; positive.

    Reference: the Cole-Hopf transformation by Gauss-Hermite quadrature, `benchmarks/references/cole_hopf.py`.

    Source: Cole, Quart. Appl. Math. 9 (1951) 225; the default values are those of Basdevant et al.,
    Computers & Fluids 14 (1986) 23.
    """
    nu, T = number("viscosity", viscosity, above=0), number("duration", duration, above=0)
    start = zero_at_ends("initial", expression("initial", initial, x), x, -1, 1)

    u = field("u", t, x)
    return Problem(
        equations=[Eq(u.diff(t) + u * u.diff(x), nu * u.diff(x, 2))],
        domain={t: (0, T), x: (-1, 1)},
        conditions=[Eq(u.subs(t, 0), start), Eq(u.subs(x, -1), 0), Eq(u.subs(x, 1), 0)],
        name="burgers",
    )
