"""The Allen-Cahn equation on a circle."""

from __future__ import annotations

from sympy import Eq, Expr, Rational, cos, pi

from pdes.parameters import expression, number, same_at_ends
from pdes.registry import pde
from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")


@pde
def allen_cahn(diffusivity=Rational(1, 10_000), reaction=5, initial: Expr = x**2 * cos(pi * x), duration=1) -> Problem:
    r"""Separation into two phases: u_t = D u_xx + r (u - u^3).

    $$u_t = D u_{xx} + r (u - u^3), \qquad -1 < x < 1 \text{ periodic}, \quad 0 < t < T, \qquad u(0, x) = u_0(x)$$

    `u` is an order parameter, -1 in one phase and 1 in the other; everything is dimensionless. Interfaces have the
    width $\sqrt{2 D / r}$. The default $u_0$ has a kink at $x = \pm 1$ as a periodic function.

    Args:
        diffusivity: $D$; positive.
        reaction: $r$, rate of separation; positive.
        initial: $u_0$, an expression in `x` with equal values at both ends.
        duration: $T$; positive.

    Reference: Fourier modes and an exponential integrator, `benchmarks/references/allen_cahn.py`.

    Source: Allen & Cahn, Acta Metallurgica 27 (1979) 1085; the default values are those of Raissi, Perdikaris &
    Karniadakis, J. Comput. Phys. 378 (2019) 686.
    """
    D, r = number("diffusivity", diffusivity, above=0), number("reaction", reaction, above=0)
    T = number("duration", duration, above=0)
    start = same_at_ends("initial", expression("initial", initial, x), x, -1, 1)

    u = field("u", t, x)
    return Problem(
        equations=[Eq(u.diff(t), D * u.diff(x, 2) + r * u - r * u**3)],
        domain={t: (0, T), x: (-1, 1)},
        conditions=[Eq(u.subs(t, 0), start), Eq(u.subs(x, -1), u.subs(x, 1))],
        name="allen_cahn",
    )
