"""The statements of the accuracy table as declarations, each with its reference.

A row is a problem as a user would write it, with no option given, and an independent reference on scattered points. The
table itself is `benchmarks/accuracy.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import sympy
from sympy import Eq, Rational, cos, exp, pi, sin, sqrt

import pdes
from benchmarks.observed import Observed
from benchmarks.references import (
    allen_cahn,
    cavity,
    cole_hopf,
    composite_plate,
    fokker_planck,
    gray_scott,
    heated_plate,
    korteweg_de_vries,
    kuramoto_sivashinsky,
    limit_cycle,
    reflection,
    schroedinger,
)
from pinnflow import Observations, Problem, coordinates, field

t, x, y = coordinates("t x y")

Reference = Callable[..., np.ndarray | tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        number: its number.
        title: what is solved.
        declare: makes the problem.
        reference: makes the function of as many arrays as there are coordinates; None where the problem has `exact`.
        target: relative L2 error aimed at.
        seconds: time allowed on 2 cores.
        compared: names of the fields compared; all by default.
        observed: where coefficients are to be found: what `declare` draws its observations from.
    """

    number: int
    title: str
    declare: Callable[..., Problem]
    reference: Callable[[], Reference] | None
    target: float
    seconds: float
    compared: tuple[str, ...] | None = None
    observed: Observed | None = None

    def make_reference(self, problem: Problem) -> Reference:
        """Values of the compared fields at arrays of the coordinates, in the order of the problem."""
        if self.reference is not None:
            return _made(self.reference)
        expressions = [
            problem.exact[f] for f in problem.fields if self.compared is None or f.func.__name__ in self.compared
        ]
        return sympy.lambdify(problem.coordinates, expressions, ["scipy", "numpy"])


@lru_cache
def _made(reference: Callable[[], Reference]) -> Reference:
    return reference()


ROWS: dict[int, Row] = {}


def row(number: int, title: str, target: float, seconds: float, reference=None, compared=None, observed=None):
    """Registers a declaration as a row of the table."""

    def register(declare: Callable[..., Problem]) -> Callable[..., Problem]:
        ROWS[number] = Row(number, title, declare, reference, target, seconds, compared, observed)
        return declare

    return register


def periodic(u, axis, low, high, order):
    """Values and derivatives up to `order - 1` of u are the same at both ends of the axis."""
    return [Eq(u.diff(axis, k).subs(axis, low), u.diff(axis, k).subs(axis, high)) for k in range(order)]


def on_square(u, values, ends=(0, 1)):
    """u has the given values on the boundary of a square in x and y."""
    return [Eq(u.subs(axis, end), values.subs(axis, end)) for axis in (x, y) for end in ends]


ZERO = sympy.Integer(0)


@row(1, "Burgers", 1e-7, 20, cole_hopf.burgers)
def burgers():
    return pdes.burgers()


@row(2, "Allen-Cahn", 1e-5, 40, allen_cahn.reference)
def allen_cahn_equation():
    return _with_periodic_derivatives(pdes.allen_cahn(), 2)


@row(3, "Korteweg-de Vries", 1e-6, 30, korteweg_de_vries.reference)
def korteweg_de_vries_equation():
    return _with_periodic_derivatives(pdes.korteweg_de_vries(), 3)


@row(4, "Kuramoto-Sivashinsky", 1e-3, 60, kuramoto_sivashinsky.reference)
def kuramoto_sivashinsky_equation():
    a, b, c = Rational(100, 16), Rational(100, 16**2), Rational(100, 16**4)
    u = field("u", t, x)
    return Problem(
        [Eq(u.diff(t) + a * u * u.diff(x) + b * u.diff(x, 2) + c * u.diff(x, 4), 0)],
        {t: (0, 1), x: (0, 2 * pi)},
        [Eq(u.subs(t, 0), cos(x) * (1 + sin(x))), *periodic(u, x, 0, 2 * pi, 4)],
    )


@row(5, "advection", 1e-10, 5)
def advection():
    return pdes.advection(speed=80)


@row(6, "wave, two scales", 1e-11, 5)
def wave():
    return pdes.wave()


@row(7, "Klein-Gordon", 1e-10, 10)
def klein_gordon():
    return pdes.klein_gordon()


@row(8, "Schroedinger", 1e-6, 30, schroedinger.reference)
def schroedinger_equation():
    return _with_periodic_derivatives(pdes.schroedinger(), 2)


@row(9, "Helmholtz (1,4)", 1e-11, 5)
def helmholtz():
    return pdes.helmholtz()


@row(10, "Helmholtz, ten waves", 1e-8, 60)
def helmholtz_ten_waves():
    k = 21 * pi
    exact = sin(k * (x * cos(Rational(7, 10)) + y * sin(Rational(7, 10))))
    exact += cos(k * (x * cos(Rational(21, 10)) + y * sin(Rational(21, 10)))) / 2
    u = field("u", x, y)
    return Problem(
        [Eq(u.diff(x, 2) + u.diff(y, 2) + k**2 * u, 0)], {x: (0, 1), y: (0, 1)}, on_square(u, exact), exact=exact
    )


@row(11, "Poisson", 1e-11, 2)
def poisson():
    return pdes.poisson()


@row(12, "strong coefficient", 1e-8, 30)
def strong_coefficient():
    a = 10 ** (sin(2 * pi * x) * sin(2 * pi * y))
    exact = sin(pi * x) * sin(pi * y) + x * (1 - x) * y * (1 - y)

    def operator(w):
        return -(a * w.diff(x)).diff(x) - (a * w.diff(y)).diff(y)

    u = field("u", x, y)
    return Problem([Eq(operator(u), operator(exact))], {x: (0, 1), y: (0, 1)}, on_square(u, ZERO), exact=exact)


@row(13, "heat, oscillating coefficient", 1e-5, 60, composite_plate.reference)
def heat_oscillating_coefficient():
    a = Rational(1, 10) * (1 + Rational(9, 10) * sin(6 * pi * x) * sin(5 * pi * y))
    u = field("u", t, x, y)
    return Problem(
        [Eq(u.diff(t), (a * u.diff(x)).diff(x) + (a * u.diff(y)).diff(y) + sin(pi * x) * sin(pi * y))],
        {t: (0, 1), x: (0, 1), y: (0, 1)},
        [Eq(u.subs(t, 0), 0), *on_square(u, ZERO)],
    )


@row(14, "heat, two scales", 1e-6, 60)
def heat_two_scales():
    u = field("u", t, x, y)
    start = sin(20 * pi * x) * sin(pi * y)
    return Problem(
        [Eq(u.diff(t), u.diff(x, 2) / (500 * pi) ** 2 + u.diff(y, 2) / pi**2)],
        {t: (0, 5), x: (0, 1), y: (0, 1)},
        [Eq(u.subs(t, 0), start), *on_square(u, ZERO)],
        exact=start * exp(-(1 + Rational(20, 500) ** 2) * t),
    )


@row(15, "heat, long time", 1e-3, 60, heated_plate.reference)
def heat_long_time():
    u = field("u", t, x, y)
    source = 5 * sin(u**2) * (1 + 2 * sin(pi * t / 4)) * sin(4 * pi * x) * sin(2 * pi * y)
    return Problem(
        [Eq(u.diff(t), Rational(1, 1000) * (u.diff(x, 2) + u.diff(y, 2)) + source)],
        {t: (0, 100), x: (0, 1), y: (0, 1)},
        [Eq(u.subs(t, 0), sin(4 * pi * x) * sin(3 * pi * y)), *on_square(u, ZERO)],
    )


@row(16, "Kovasznay", 1e-10, 20)
def kovasznay():
    nu = Rational(1, 40)
    decay = 1 / (2 * nu) - sqrt(1 / (4 * nu**2) + 4 * pi**2)
    flow = 1 - exp(decay * x) * cos(2 * pi * y), decay / (2 * pi) * exp(decay * x) * sin(2 * pi * y)
    pressure = (1 - exp(2 * decay * x)) / 2
    u, v, p = (field(name, x, y) for name in "uvp")
    box = {x: (-Rational(1, 2), 1), y: (-Rational(1, 2), Rational(3, 2))}
    return Problem(
        _navier_stokes(u, v, p, nu),
        box,
        [
            *(Eq(w.subs(a, end), f.subs(a, end)) for w, f in zip((u, v), flow) for a in (x, y) for end in box[a]),
            Eq(p.subs({x: 0, y: 0}), pressure.subs(x, 0)),
        ],
        exact={u: flow[0], v: flow[1], p: pressure},
    )


@row(17, "cavity, Reynolds number 100", 1e-4, 60, lambda: cavity.reference(1 / 100), ("u", "v"))
def cavity_100():
    return _cavity(Rational(1, 100))


@row(18, "cavity, Reynolds number 400", 1e-3, 60, lambda: cavity.reference(1 / 400), ("u", "v"))
def cavity_400():
    return _cavity(Rational(1, 400))


@row(19, "Fokker-Planck, double well", 1e-8, 10, fokker_planck.reference)
def double_well():
    return pdes.fokker_planck()


@row(20, "Fokker-Planck, limit cycle", 1e-4, 60, limit_cycle.reference)
def limit_cycle_density():
    p, r2, s2 = field("p", t, x, y), x**2 + y**2, Rational(1, 16)
    end = Rational(5, 2)
    bx, by = x - y - x * r2, x + y - y * r2
    return Problem(
        [Eq(p.diff(t), -(bx * p).diff(x) - (by * p).diff(y) + Rational(1, 10) * (p.diff(x, 2) + p.diff(y, 2)))],
        {t: (0, 1), x: (-end, end), y: (-end, end)},
        [
            Eq(p.subs(t, 0), exp(-((x - 1) ** 2 + y**2) / (2 * s2)) / (2 * pi * s2)),
            *on_square(p, ZERO, (-end, end)),
        ],
    )


@row(21, "Hamilton-Jacobi, viscous", 1e-7, 20, cole_hopf.hamilton_jacobi)
def hamilton_jacobi():
    return _with_periodic_derivatives(pdes.hamilton_jacobi(), 2)


@row(22, "Gray-Scott", 1e-3, 120, lambda: gray_scott.reference(96))
def gray_scott_reaction():
    u, v = field("u", t, x, y), field("v", t, x, y)
    near = Rational(5, 100), Rational(2, 100)
    rate = 1000 * u * v**2
    return Problem(
        [
            Eq(u.diff(t), Rational(1, 5) * (u.diff(x, 2) + u.diff(y, 2)) + 40 * (1 - u) - rate),
            Eq(v.diff(t), Rational(1, 10) * (v.diff(x, 2) + v.diff(y, 2)) - 100 * v + rate),
        ],
        {t: (0, Rational(1, 2)), x: (-1, 1), y: (-1, 1)},
        [
            Eq(u.subs(t, 0), 1 - exp(-10 * ((x + near[0]) ** 2 + (y + near[1]) ** 2))),
            Eq(v.subs(t, 0), 1 - exp(-10 * ((x - near[0]) ** 2 + (y - near[1]) ** 2))),
            *(e for w in (u, v) for axis in (x, y) for e in periodic(w, axis, -1, 1, 2)),
        ],
    )


@row(23, "elasticity", 1e-10, 20)
def elasticity():
    u, v = field("u", x, y), field("v", x, y)
    exact = sin(pi * x) * cos(pi * y), x**2 * y + sin(pi * y)

    def stress(a, b):  # plane strain, lambda = mu = 1
        return 3 * a.diff(x) + b.diff(y), a.diff(y) + b.diff(x), a.diff(x) + 3 * b.diff(y)

    def forces(a, b):
        xx, xy, yy = stress(a, b)
        return xx.diff(x) + xy.diff(y), xy.diff(x) + yy.diff(y)

    sides = [(x, 0), (y, 0), (y, 1)]
    return Problem(
        [Eq(found, given.doit()) for found, given in zip(forces(u, v), forces(*exact))],
        {x: (0, 1), y: (0, 1)},
        [
            *(Eq(w.subs(axis, end), f.subs(axis, end)) for w, f in zip((u, v), exact) for axis, end in sides),
            *(Eq(found.subs(x, 1), given.subs(x, 1)) for found, given in zip(stress(u, v)[:2], stress(*exact)[:2])),
        ],
        exact=dict(zip((u, v), exact)),
    )


@row(24, "beam", 1e-10, 5)
def beam():
    u = field("u", t, x)
    return Problem(
        [Eq(u.diff(t, 2) + u.diff(x, 4), 0)],
        {t: (0, 1), x: (0, pi)},
        [
            Eq(u.subs(t, 0), sin(x) + sin(3 * x) / 4),
            Eq(u.diff(t).subs(t, 0), 0),
            *(Eq(u.diff(x, order).subs(x, end), 0) for end in (0, pi) for order in (0, 2)),
        ],
        exact=sin(x) * cos(t) + sin(3 * x) * cos(9 * t) / 4,
    )


@row(25, "boundary layer", 1e-10, 5)
def boundary_layer():
    u = field("u", x)
    return Problem(
        [Eq(-Rational(1, 100) * u.diff(x, 2) + u.diff(x), 1)],
        {x: (0, 1)},
        [Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)],
        exact=x - (exp(100 * (x - 1)) - exp(-100)) / (1 - exp(-100)),
    )


@row(26, "Burgers, p and q", 1e-6, 60, observed=Observed.burgers(0.0))
@row(27, "Burgers, p and q, 1 % noise", 2, 60, observed=Observed.burgers(0.01))
def burgers_with_unknown_coefficients(points: np.ndarray, values: np.ndarray) -> Problem:
    p, q = sympy.symbols("p q", real=True)
    u = field("u", t, x)
    return Problem(
        [Eq(u.diff(t) + p * u * u.diff(x), q * u.diff(x, 2))],
        {t: (0, 1), x: (-1, 1)},
        [Eq(u.subs(t, 0), -sin(pi * x)), Eq(u.subs(x, -1), 0), Eq(u.subs(x, 1), 0)],
        unknowns={p: Rational(1, 2), q: Rational(1, 50)},
        observations=[Observations(u, {t: points[:, 0], x: points[:, 1]}, values)],
    )


@row(28, "wave, pulse", 1e-7, 20, reflection.pulse)
def wave_pulse():
    u = field("u", t, x)
    return Problem(
        [Eq(u.diff(t, 2), 4 * u.diff(x, 2))],
        {t: (0, 1), x: (0, 1)},
        [
            Eq(u.subs(t, 0), exp(-100 * (x - Rational(37, 100)) ** 2)),
            Eq(u.diff(t).subs(t, 0), 0),
            Eq(u.subs(x, 0), 0),
            Eq(u.subs(x, 1), 0),
        ],
    )


@row(29, "advection, pulse", 1e-7, 20)
def advection_pulse():
    return pdes.advection(speed=80, initial=exp(-20 * (1 - cos(x - 2))))


@row(30, "Poisson, peak", 1e-9, 20)
def poisson_peak():
    return pdes.poisson(solution=exp(-100 * ((x - Rational(37, 100)) ** 2 + (y - Rational(61, 100)) ** 2)))


def _with_periodic_derivatives(problem: Problem, order: int) -> Problem:
    low, high = problem.domain[x]
    more = [e for u in problem.fields for e in periodic(u, x, low, high, order)[1:]]
    return problem.with_(conditions=(*problem.conditions, *more))


def _navier_stokes(u, v, p, nu):
    return [
        Eq(u * u.diff(x) + v * u.diff(y) + p.diff(x), nu * (u.diff(x, 2) + u.diff(y, 2))),
        Eq(u * v.diff(x) + v * v.diff(y) + p.diff(y), nu * (v.diff(x, 2) + v.diff(y, 2))),
        Eq(u.diff(x) + v.diff(y), 0),
    ]


def _cavity(nu):
    u, v, p = (field(name, x, y) for name in "uvp")
    lid = 16 * x**2 * (1 - x) ** 2
    return Problem(
        _navier_stokes(u, v, p, nu),
        {x: (0, 1), y: (0, 1)},
        [
            *(Eq(u.subs(axis, end), lid if (axis, end) == (y, 1) else 0) for axis in (x, y) for end in (0, 1)),
            *on_square(v, ZERO),
            Eq(p.subs({x: 0, y: 0}), 0),
        ],
    )
