"""The wave equation on an interval."""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Eq, Rational, cos, pi, sin

from pdes.parameters import number
from pdes.registry import pde
from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")


@pde
def wave(speed=2, amplitudes: Sequence = (1, 0, 0, Rational(1, 2)), length=1, duration=1) -> Problem:
    r"""Waves on a string held at both ends: u_tt = c^2 u_xx.

    $$u_{tt} = c^2 u_{xx}, \qquad 0 < x < L, \quad 0 < t < T$$

    with $u = 0$ at both ends, $u(0, x) = \sum_k a_k \sin(k \pi x / L)$ and $u_t(0, x) = 0$.
    `u` is the deflection, in any unit of length; the equation is linear, so that unit does not matter.

    Args:
        speed: $c$, the wave speed, length per time; positive. $c^2$ is tension over mass per length.
        amplitudes: $a_1, a_2, \dots$ of the standing waves, in the unit of `u`. The default has two scales.
        length: $L$, length of the string; positive.
        duration: $T$, time; positive.

    Exact solution: $u = \sum_k a_k \sin(k \pi x / L) \cos(k \pi c t / L)$.

    Source: separation of variables; Strauss, Partial Differential Equations (2008), section 4.1.
    """
    c, L, T = number("speed", speed, above=0), number("length", length, above=0), number("duration", duration, above=0)
    modes = [(number("amplitudes", a), k * pi / L) for k, a in enumerate(amplitudes, 1)]
    exact = sum(a * sin(k * x) * cos(c * k * t) for a, k in modes)

    u = field("u", t, x)
    return Problem(
        equations=[Eq(u.diff(t, 2), c**2 * u.diff(x, 2))],
        domain={t: (0, T), x: (0, L)},
        conditions=[
            Eq(u.subs(t, 0), sum(a * sin(k * x) for a, k in modes)),
            Eq(u.diff(t).subs(t, 0), 0),
            Eq(u.subs(x, 0), 0),
            Eq(u.subs(x, L), 0),
        ],
        exact=exact,
        name="wave",
    )
