"""A dissolved substance in a closed vessel, carried and mixed differently from place to place.

    c_t = (a c_x - b c)_x  on [0, 1] with mixing a = (1 + x) / 10 and flow b = cos(pi x), nothing passes the walls

Run: pinnflow solve examples/problems/drift_diffusion.py
"""

from sympy import Eq, cos, pi, sin

from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")
c = field("c", t, x)
mixing, flow = (1 + x) / 10, cos(pi * x)
flux = flow * c - mixing * c.diff(x)

problem = Problem(
    equations=[Eq(c.diff(t), -flux.diff(x))],
    domain={t: (0, 1), x: (0, 1)},
    conditions=[
        # A start that lets nothing through the walls either, so that flux and concentration are smooth from t = 0 on.
        Eq(c.subs(t, 0), sin(pi * x) ** 2),
        Eq(flux.subs(x, 0), 0),
        Eq(flux.subs(x, 1), 0),
    ],
    name="drift_diffusion",
)
