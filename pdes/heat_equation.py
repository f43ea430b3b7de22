"""The heat equation on an interval."""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Eq, Rational, exp, pi, sin

from pdes.parameters import number
from pdes.registry import pde
from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")


@pde
def heat(diffusivity=Rational(1, 10), amplitudes: Sequence = (1, 0, Rational(1, 2)), length=1, duration=1) -> Problem:
    r"""Heat in a rod with cold ends: u_t = D u_xx.

    $$u_t = D u_{xx}, \qquad 0 < x < L, \quad 0 < t < T$$

    with $u = 0$ at both ends and $u(0, x) = \sum_k a_k \sin(k \pi x / L)$.
    `u` is the temperature above that of the ends, in kelvin.

    Args:
        diffusivity: $D$, length squared per time; positive. Conductivity over heat capacity per volume.
        amplitudes: $a_1, a_2, \dots$ of the modes, in kelvin.
        length: $L$, length of the rod; positive.
        duration: $T$, time; positive.

    Exact solution: $u = \sum_k a_k \exp(-D (k \pi / L)^2 t) \sin(k \pi x / L)$.

    Source: Fourier, Théorie analytique de la chaleur (1822), chapter III.
    """
    D, L = number("diffusivity", diffusivity, above=0), number("length", length, above=0)
    T = number("duration", duration, above=0)
    modes = [(number("amplitudes", a), k * pi / L) for k, a in enumerate(amplitudes, 1)]

    u = field("u", t, x)
    return Problem(
        equations=[Eq(u.diff(t), D * u.diff(x, 2))],
        domain={t: (0, T), x: (0, L)},
        conditions=[
            Eq(u.subs(t, 0), sum(a * sin(k * x) for a, k in modes)),
            Eq(u.subs(x, 0), 0),
            Eq(u.subs(x, L), 0),
        ],
        exact=sum(a * exp(-D * k**2 * t) * sin(k * x) for a, k in modes),
        name="heat",
    )
