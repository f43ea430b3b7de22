"""The advection equation on a circle."""

from __future__ import annotations

import math

from sympy import Eq, Expr, pi, sin

from pdes.parameters import expression, number
from pdes.registry import pde
from pinnflow import Problem, coordinates, field
from pinnflow.errors import DeclarationError

t, x = coordinates("t x")


@pde
def advection(speed=1, initial: Expr = sin(x), duration=1) -> Problem:
    r"""A profile carried around a circle: u_t + c u_x = 0.

    $$u_t + c u_x = 0, \qquad 0 < x < 2 \pi \text{ periodic}, \quad 0 < t < T, \qquad u(0, x) = u_0(x)$$

    `u` is a concentration, in any unit; `x` is an angle in radians.

    Args:
        speed: $c$, radians per time, of either sign. At 80 the profile turns almost 13 times in unit time.
        initial: $u_0$, an expression in `x` of period $2 \pi$.
        duration: $T$, time; positive.

    Exact solution: $u = u_0(x - c t)$.

    Source: method of characteristics; Evans, Partial Differential Equations (2010), section 2.1.
    """
    c, T = number("speed", speed), number("duration", duration, above=0)
    profile = _periodic(expression("initial", initial, x))

    u = field("u", t, x)
    return Problem(
        equations=[Eq(u.diff(t) + c * u.diff(x), 0)],
        domain={t: (0, T), x: (0, 2 * pi)},
        conditions=[Eq(u.subs(t, 0), profile), Eq(u.subs(x, 0), u.subs(x, 2 * pi))],
        exact=profile.subs(x, x - c * t),
        name="advection",
    )


def _periodic(profile: Expr) -> Expr:
    # The exact solution continues the formula beyond the circle, so equal values at both ends would not be enough.
    for place in (0.0, 0.7, 2.1, 5.3):
        here, there = (float(profile.subs(x, p)) for p in (place, place + 2 * math.pi))
        if not math.isclose(here, there, rel_tol=1e-9, abs_tol=1e-9):
            raise DeclarationError(
                f"`initial` is `{profile}`, which is {here:.6g} at x = {place} and {there:.6g} a full turn further; "
                "an expression of period 2 pi is expected, for instance `initial=sympy.sin(x)`."
            )
    return profile
