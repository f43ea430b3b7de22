"""The cubic Klein-Gordon equation on an interval."""

from __future__ import annotations

from sympy import Eq, Expr, cos, pi

from pdes.parameters import expression, number
from pdes.registry import pde
from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")


@pde
def klein_gordon(
    mass=0, coupling=1, speed=1, solution: Expr = x * cos(5 * pi * t) + (x * t) ** 3, duration=1
) -> Problem:
    r"""A self-interacting relativistic field: u_tt - c^2 u_xx + m^2 u + g u^3 = f.

    $$u_{tt} - c^2 u_{xx} + m^2 u + g u^3 = f, \qquad 0 < x < 1, \quad 0 < t < T$$

    with value and velocity given at $t = 0$ and values at both ends. Everything is dimensionless.

    Args:
        mass: $m$; 0 leaves the cubic term alone.
        coupling: $g$; the problem is linear at 0 and focusing (may blow up) below.
        speed: $c$; positive.
        solution: an expression in `t` and `x` from which $f$ and all conditions are derived.
        duration: $T$; positive.

    Exact solution: `solution`.

    Source: manufactured, as in Wang, Teng & Perdikaris, SIAM J. Sci. Comput. 43 (2021) A3055, section 4.2.
    """
    m, g, c = number("mass", mass), number("coupling", coupling), number("speed", speed, above=0)
    T = number("duration", duration, above=0)
    exact = expression("solution", solution, t, x)

    def operator(w):
        return w.diff(t, 2) - c**2 * w.diff(x, 2) + m**2 * w + g * w**3

    u = field("u", t, x)
    return Problem(
        equations=[Eq(operator(u), operator(exact))],
        domain={t: (0, T), x: (0, 1)},
        conditions=[
            Eq(u.subs(t, 0), exact.subs(t, 0)),
            Eq(u.diff(t).subs(t, 0), exact.diff(t).subs(t, 0)),
            Eq(u.subs(x, 0), exact.subs(x, 0)),
            Eq(u.subs(x, 1), exact.subs(x, 1)),
        ],
        exact=exact,
        name="klein_gordon",
    )
