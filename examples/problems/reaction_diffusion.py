"""The Brusselator: two substances that react in a loop and diffuse along a tube.

    u_t = 1 + u^2 v - 4 u + u_xx / 50,   v_t = 3 u - u^2 v + v_xx / 50   on [0, 1], both held at their rest values

Run: pinnflow solve examples/problems/reaction_diffusion.py
"""

from sympy import Eq, Rational, pi, sin

from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")
u, v = field("u", t, x), field("v", t, x)
diffusivity = Rational(1, 50)

problem = Problem(
    equations=[
        Eq(u.diff(t), 1 + u**2 * v - 4 * u + diffusivity * u.diff(x, 2)),
        Eq(v.diff(t), 3 * u - u**2 * v + diffusivity * v.diff(x, 2)),
    ],
    domain={t: (0, 5), x: (0, 1)},
    conditions=[
        Eq(u.subs(t, 0), 1 + sin(2 * pi * x)),
        Eq(v.subs(t, 0), 3),
        Eq(u.subs(x, 0), 1),
        Eq(u.subs(x, 1), 1),
        Eq(v.subs(x, 0), 3),
        Eq(v.subs(x, 1), 3),
    ],
    name="reaction_diffusion",
)
