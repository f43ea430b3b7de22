"""A beam on two supports that swings in a viscous fluid.

    u_tt + 2 c u_t + k u_xxxx = 0  on [0, 1], u = u_xx = 0 at both ends, let go from rest

Run: pinnflow solve examples/problems/damped_beam.py --set damping=2
"""

from sympy import Eq, cos, exp, nsimplify, pi, sin, sqrt

from pinnflow import Problem, coordinates, field


def problem(damping=1, stiffness=0.1) -> Problem:
    """The beam with `damping` c and `stiffness` k, weak enough in damping to swing: c < pi^2 sqrt(k)."""
    c, k = nsimplify(damping), nsimplify(stiffness)  # exact: 0.1 is 1/10
    t, x = coordinates("t x")
    u = field("u", t, x)

    def mode(n):  # each sine swings by itself, with its own frequency
        frequency = sqrt(k * (n * pi) ** 4 - c**2)
        return sin(n * pi * x) * exp(-c * t) * (cos(frequency * t) + c / frequency * sin(frequency * t))

    exact = mode(1) - mode(2) / 2
    return Problem(
        equations=[Eq(u.diff(t, 2) + 2 * c * u.diff(t) + k * u.diff(x, 4), 0)],
        domain={t: (0, 2), x: (0, 1)},
        conditions=[
            Eq(u.subs(t, 0), sin(pi * x) - sin(2 * pi * x) / 2),
            Eq(u.diff(t).subs(t, 0), 0),
            Eq(u.subs(x, 0), 0),
            Eq(u.subs(x, 1), 0),
            Eq(u.diff(x, 2).subs(x, 0), 0),
            Eq(u.diff(x, 2).subs(x, 1), 0),
        ],
        exact=exact,
        name="damped_beam",
    )
