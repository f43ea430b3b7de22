"""The cubic Schroedinger equation as two real equations."""

from __future__ import annotations

from sympy import Eq, cosh, pi

from pdes.parameters import number
from pdes.registry import pde
from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")


@pde
def schroedinger(amplitude=2, half_width=15, duration=pi / 2) -> Problem:
    r"""A breathing light pulse, h = u + i v: i h_t + h_xx / 2 + |h|^2 h = 0.

    $$i h_t + \tfrac12 h_{xx} + |h|^2 h = 0, \qquad -w < x < w \text{ periodic}, \quad 0 < t < T$$

    with $h(0, x) = A / \cosh x$. The fields are the real part `u` and the imaginary part `v` of a pulse's envelope:

    $$u_t = -\tfrac12 v_{xx} - (u^2 + v^2) v, \qquad v_t = \tfrac12 u_{xx} + (u^2 + v^2) u.$$

    Everything is dimensionless.

    Args:
        amplitude: $A$; positive. 1 is a soliton; a whole number N is N solitons in one place, which breathe.
        half_width: $w$; positive. At 15 the pulse and its periodic images meet at $10^{-6}$.
        duration: $T$; positive. The default is one period of the breathing of $A = 2$.

    Reference: Fourier modes and a split step of order 4, `benchmarks/references/schroedinger.py`. On the whole line
    there are closed forms: $e^{it/2} / \cosh x$ for $A = 1$ and, for $A = 2$,
    $4 e^{it/2} (\cosh 3x + 3 e^{4it} \cosh x) / (\cosh 4x + 4 \cosh 2x + 3 \cos 4t)$.

    Source: Satsuma & Yajima, Prog. Theor. Phys. Suppl. 55 (1974) 284.
    """
    A, T = number("amplitude", amplitude, above=0), number("duration", duration, above=0)
    w = number("half_width", half_width, above=0)

    u, v = field("u", t, x), field("v", t, x)
    intensity = u**2 + v**2
    return Problem(
        equations=[
            Eq(u.diff(t), -v.diff(x, 2) / 2 - intensity * v),
            Eq(v.diff(t), u.diff(x, 2) / 2 + intensity * u),
        ],
        domain={t: (0, T), x: (-w, w)},
        conditions=[
            Eq(u.subs(t, 0), A / cosh(x)),
            Eq(v.subs(t, 0), 0),
            Eq(u.subs(x, -w), u.subs(x, w)),
            Eq(v.subs(x, -w), v.subs(x, w)),
        ],
        name="schroedinger",
    )
