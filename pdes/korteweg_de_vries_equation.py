"""The Korteweg-de Vries equation."""

from __future__ import annotations

from sympy import Eq, Expr, Rational, cos, cosh, pi, sqrt

from pdes.parameters import expression, number, same_at_ends
from pdes.registry import pde
from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")


@pde
def korteweg_de_vries(
    dispersion=Rational(22, 1000), initial: Expr = cos(pi * x), soliton_speed=None, duration=1
) -> Problem:
    r"""Shallow water that breaks into solitons: u_t + u u_x + d^2 u_xxx = 0.

    $$u_t + u u_x + \delta^2 u_{xxx} = 0, \qquad -1 < x < 1, \quad 0 < t < T, \qquad u(0, x) = u_0(x)$$

    periodic in `x`; `u` is the height of the surface above its rest; everything is dimensionless. With the default
    values the cosine steepens and then breaks up into a train of solitons.

    Args:
        dispersion: $\delta$; positive. Solitons of height $3 c$ have the width $2 \delta / \sqrt{c}$.
        initial: $u_0$, an expression in `x` with equal values at both ends; not used with `soliton_speed`.
        soliton_speed: $c$; if given, a single soliton that passes $x = 0$ at half time. The axis is then not periodic:
            the values at both ends and the slope at the right one are those of the soliton.
        duration: $T$; positive.

    Exact solution: with `soliton_speed`, $u = 3 c / \cosh^2(\sqrt{c} (x - c (t - T/2)) / (2 \delta))$. Else there is a
    reference, `benchmarks/references/korteweg_de_vries.py`.

    Source: Zabusky & Kruskal, Phys. Rev. Lett. 15 (1965) 240.
    """
    delta, T = number("dispersion", dispersion, above=0), number("duration", duration, above=0)
    if soliton_speed is None:
        exact = None
        start = same_at_ends("initial", expression("initial", initial, x), x, -1, 1)
    else:
        c = number("soliton_speed", soliton_speed, above=0)
        exact = 3 * c / cosh(sqrt(c) * (x - c * (t - T / 2)) / (2 * delta)) ** 2
        start = exact.subs(t, 0)

    u = field("u", t, x)
    if exact is None:
        ends = [Eq(u.subs(x, -1), u.subs(x, 1))]
    else:
        # Two values and the slope at the right end make the third-order problem well posed (energy estimate).
        ends = [Eq(u.subs(x, end), exact.subs(x, end)) for end in (-1, 1)]
        ends.append(Eq(u.diff(x).subs(x, 1), exact.diff(x).subs(x, 1)))
    return Problem(
        equations=[Eq(u.diff(t) + u * u.diff(x) + delta**2 * u.diff(x, 3), 0)],
        domain={t: (0, T), x: (-1, 1)},
        conditions=[Eq(u.subs(t, 0), start), *ends],
        exact=exact,
        name="korteweg_de_vries",
    )
