"""Seventeen problems that no method was developed on, solved with no option given; exact solutions in closed form.

    python -m benchmarks.invented --seeds 0,1 --json invented.json

They cover what the accuracy table leaves out: systems of ordinary equations, a singular point, a parameter as an axis,
a fully nonlinear equation, three dimensions with mixed conditions, mixed derivatives, first-order systems in the plane,
flows that depend on time or fill a cube. The last five were added after the first twelve were solved, to find limits.
Errors, ratios and times are those of `accuracy.py`. Every solution is smooth: six digits are aimed at.
"""

from __future__ import annotations

import argparse
import json
import time

import scipy.special
import sympy
from sympy import Eq, Rational, cos, cosh, erf, exp, pi, sin, sinh, sqrt

from benchmarks.accuracy import HEADER, line, markdown, merge, ratios, solve_row, stored
from benchmarks.statements import Row, on_square
from pinnflow import Problem, coordinates, field
from pinnflow.methods.base import Clock

t, x, y, z, k, r = coordinates("t x y z k r")

INVENTED: dict[int, Row] = {}
TARGET, SECONDS = 1e-6, 60


def invented(number: int, title: str, reference=None):
    """Registers a declaration as a row."""

    def register(declare):
        INVENTED[number] = Row(number, title, declare, reference, TARGET, SECONDS)
        return declare

    return register


def rotation():
    """Angular velocities of a free rigid body, by Jacobi's elliptic functions."""

    def evaluate(t):
        sn, cn, dn, _ = scipy.special.ellipj(t, 0.51)
        return [sn, cn, dn]

    return evaluate


@invented(1, "free rigid body, t up to 20", rotation)
def rigid_body():
    a, b, c = (field(name, t) for name in "abc")
    return Problem(
        [Eq(a.diff(t), b * c), Eq(b.diff(t), -a * c), Eq(c.diff(t), -Rational(51, 100) * a * b)],
        {t: (0, 20)},
        [Eq(a.subs(t, 0), 0), Eq(b.subs(t, 0), 1), Eq(c.subs(t, 0), 1)],
    )


@invented(2, "Lane-Emden, index 5, singular at 0")
def lane_emden():
    u = field("u", r)
    return Problem(
        [Eq(r * u.diff(r, 2) + 2 * u.diff(r) + r * u**5, 0)],
        {r: (0, 10)},
        [Eq(u.subs(r, 0), 1), Eq(u.diff(r).subs(r, 0), 0)],
        exact=1 / sqrt(1 + r**2 / 3),
    )


@invented(3, "layer at a turning point, eps = 1e-4")
def turning_point():
    u, eps, bend = field("u", x), Rational(1, 10_000), cos(2 * x)
    layer = erf(x / sqrt(2 * eps))
    exact = layer + bend
    source = eps * bend.diff(x, 2) + x * bend.diff(x)  # the layer itself solves the equation
    return Problem(
        [Eq(eps * u.diff(x, 2) + x * u.diff(x), source)],
        {x: (-1, 1)},
        [Eq(u.subs(x, end), exact.subs(x, end)) for end in (-1, 1)],
        exact=exact,
    )


@invented(4, "absorber, rate as an axis")
def absorber():
    u = field("u", k, x)
    return Problem(
        [Eq(u.diff(x, 2), k**2 * u)],
        {k: (1, 10), x: (0, 1)},
        [Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 1)],
        exact=sinh(k * x) / sinh(k),
    )


@invented(5, "Monge-Ampere")
def monge_ampere():
    u, exact = field("u", x, y), exp((x**2 + y**2) / 2)
    return Problem(
        [Eq(u.diff(x, 2) * u.diff(y, 2) - u.diff(x, y) ** 2, (1 + x**2 + y**2) * exp(x**2 + y**2))],
        {x: (0, 1), y: (0, 1)},
        on_square(u, exact),
        exact=exact,
    )


@invented(6, "clamped plate on a bed")
def clamped_plate():
    u, stiffness = field("u", x, y), 100 * (1 + x * y)
    exact = (sin(pi * x) * sin(2 * pi * y)) ** 2 * exp(x - y)

    def operator(w):
        return w.diff(x, 4) + 2 * w.diff(x, 2, y, 2) + w.diff(y, 4) + stiffness * w

    return Problem(
        [Eq(operator(u), operator(exact))],
        {x: (0, 1), y: (0, 1)},
        [
            *on_square(u, sympy.Integer(0)),
            *(Eq(u.diff(axis).subs(axis, end), 0) for axis in (x, y) for end in (0, 1)),
        ],
        exact=exact,
    )


@invented(7, "nonlinear diffusion in a cube, Robin")
def cube():
    u, exact = field("u", x, y, z), sin(2 * x + y) * exp(-z) + x * y * z

    def operator(w):
        flux = [(1 + w**2 / 2) * w.diff(axis) for axis in (x, y, z)]
        return sum(f.diff(axis) for f, axis in zip(flux, (x, y, z), strict=True))

    return Problem(
        [Eq(operator(u), operator(exact).doit())],
        {x: (0, 1), y: (0, 1), z: (0, 1)},
        [
            Eq(u.subs(x, 0), exact.subs(x, 0)),
            Eq(u.subs(x, 1), exact.subs(x, 1)),
            Eq(u.diff(y).subs(y, 0), exact.diff(y).subs(y, 0)),
            Eq(u.subs(y, 1), exact.subs(y, 1)),
            Eq(u.subs(z, 0), exact.subs(z, 0)),
            Eq((u.diff(z) + u).subs(z, 1), (exact.diff(z) + exact).subs(z, 1)),
        ],
        exact=exact,
    )


@invented(8, "Benjamin-Bona-Mahony, soliton")
def soliton():
    u, speed, end = field("u", t, x), 2, 40
    exact = 3 * (speed - 1) / cosh(sqrt(Rational(speed - 1, speed)) * (x + 5 - speed * t) / 2) ** 2
    return Problem(
        [Eq(u.diff(t) + u.diff(x) + u * u.diff(x) - u.diff(x, 2, t), 0)],
        {t: (0, 5), x: (-end, end)},
        [
            Eq(u.subs(t, 0), exact.subs(t, 0)),
            *(Eq(u.diff(x, order).subs(x, -end), u.diff(x, order).subs(x, end)) for order in (0, 1)),
        ],
        exact=exact,
    )


@invented(9, "swinging packet in a trap")
def trapped_packet():
    u, v = field("u", t, x), field("v", t, x)
    place, momentum = 2 * cos(t), -2 * sin(t)  # of a coherent state, which keeps its shape
    phase = momentum * x - momentum * place / 2 - t / 2
    size = exp(-((x - place) ** 2) / 2) / pi ** Rational(1, 4)
    exact = {u: size * cos(phase), v: size * sin(phase)}
    return Problem(
        [  # i h_t = -h_xx / 2 + x^2 h / 2
            Eq(u.diff(t), -v.diff(x, 2) / 2 + x**2 * v / 2),
            Eq(v.diff(t), u.diff(x, 2) / 2 - x**2 * u / 2),
        ],
        {t: (0, pi), x: (-10, 10)},
        [
            *(Eq(w.subs(t, 0), exact[w].subs(t, 0)) for w in (u, v)),
            *(Eq(w.subs(x, end), 0) for w in (u, v) for end in (-10, 10)),
        ],
        exact=exact,
    )


@invented(10, "Maxwell, resonator with loss")
def resonator():
    e, h, g = field("e", t, x, y), field("h", t, x, y), field("g", t, x, y)
    loss, square = Rational(1, 2), 5 * pi**2  # of the wave numbers pi and 2 pi
    rate = sqrt(square - loss**2 / 4)
    swing = exp(-loss * t / 2) * sin(rate * t)  # time part of the fluxes: swing'' + loss swing' + square swing = 0
    shape = sin(pi * x) * sin(2 * pi * y)
    exact = {e: swing.diff(t) * shape, h: -swing * shape.diff(y), g: swing * shape.diff(x)}
    return Problem(
        [
            Eq(h.diff(t), -e.diff(y)),
            Eq(g.diff(t), e.diff(x)),
            Eq(e.diff(t), g.diff(x) - h.diff(y) - loss * e),
        ],
        {t: (0, 1), x: (0, 1), y: (0, 1)},
        [
            *(Eq(w.subs(t, 0), exact[w].subs(t, 0)) for w in (e, h, g)),
            *on_square(e, sympy.Integer(0)),
        ],
        exact=exact,
    )


@invented(11, "hill in a whirl")
def whirl():
    u, nu, end = field("u", t, x, y), Rational(1, 50), 2
    width = Rational(1, 10) + 4 * nu * t
    away = (x - Rational(7, 10) * cos(t)) ** 2 + (y - Rational(7, 10) * sin(t)) ** 2
    exact = exp(-away / width) / (10 * width)
    return Problem(
        [Eq(u.diff(t) - y * u.diff(x) + x * u.diff(y), nu * (u.diff(x, 2) + u.diff(y, 2)))],
        {t: (0, pi), x: (-end, end), y: (-end, end)},
        [Eq(u.subs(t, 0), exact.subs(t, 0)), *on_square(u, exact, (-end, end))],
        exact=exact,
    )


@invented(12, "excitable medium, Robin")
def excitable():
    u, v = field("u", t, x), field("v", t, x)
    exact = {u: sin(3 * x - 2 * t) + x / 2, v: cos(2 * x) * exp(-t)}

    def rates(u, v):
        return (
            u.diff(t) - (1 + x) / 10 * u.diff(x, 2) - u + u**3 / 3 + v,
            v.diff(t) - v.diff(x, 2) / 20 - (u + Rational(7, 10) - Rational(8, 10) * v) / 5,
        )

    def leak(w, end, sign):
        return (w + sign * w.diff(x)).subs(x, end)

    return Problem(
        [Eq(a, b) for a, b in zip(rates(u, v), rates(*exact.values()), strict=True)],
        {t: (0, 3), x: (0, 2)},
        [
            *(Eq(w.subs(t, 0), value.subs(t, 0)) for w, value in exact.items()),
            *(Eq(leak(w, end, s), leak(f, end, s)) for w, f in exact.items() for end, s in ((0, -1), (2, 1))),
        ],
        exact=exact,
    )


@invented(13, "sine-Gordon in the plane")
def sine_gordon():
    u, exact = field("u", t, x, y), sin(x + 2 * y - t) * exp(-x * y / 2)

    def operator(w):
        return w.diff(t, 2) - w.diff(x, 2) - w.diff(y, 2) + sin(w)

    return Problem(
        [Eq(operator(u), operator(exact))],
        {t: (0, 1), x: (0, 1), y: (0, 1)},
        [
            Eq(u.subs(t, 0), exact.subs(t, 0)),
            Eq(u.diff(t).subs(t, 0), exact.diff(t).subs(t, 0)),
            *on_square(u, exact),
        ],
        exact=exact,
    )


@invented(14, "front in the plane")
def front():
    u, nu = field("u", t, x, y), Rational(1, 20)
    exact = 1 / (1 + exp((x + y - t) / (2 * nu)))
    return Problem(
        [Eq(u.diff(t) + u * u.diff(x) + u * u.diff(y), nu * (u.diff(x, 2) + u.diff(y, 2)))],
        {t: (0, 1), x: (0, 1), y: (0, 1)},
        [Eq(u.subs(t, 0), exact.subs(t, 0)), *on_square(u, exact)],
        exact=exact,
    )


@invented(15, "heat in a cube, four coordinates")
def heated_cube():
    u, exact = field("u", t, x, y, z), exp(-t) * sin(x + y) * cos(z) + x * z * t

    def operator(w):
        return w.diff(t) - sum(((1 + x * y * z / 2) * w.diff(axis)).diff(axis) for axis in (x, y, z))

    return Problem(
        [Eq(operator(u), operator(exact).doit())],
        {t: (0, 1), x: (0, 1), y: (0, 1), z: (0, 1)},
        [
            Eq(u.subs(t, 0), exact.subs(t, 0)),
            *(Eq(u.subs(axis, end), exact.subs(axis, end)) for axis in (x, y, z) for end in (0, 1)),
        ],
        exact=exact,
    )


@invented(16, "Stokes flow in a cube")
def stokes():
    u, v, w, p = (field(name, x, y, z) for name in "uvwp")
    flow = sin(z) + 2 * cos(y), sin(x) + 3 * cos(z), 2 * sin(y) + cos(x)
    pressure = x * y * z - Rational(1, 8)

    def force(velocity, pressure, axis):
        return sum(velocity.diff(a, 2) for a in (x, y, z)) - pressure.diff(axis)

    pairs = list(zip((u, v, w), flow, (x, y, z), strict=True))
    return Problem(
        [
            *(Eq(force(found, p, axis), force(given, pressure, axis)) for found, given, axis in pairs),
            Eq(u.diff(x) + v.diff(y) + w.diff(z), 0),
        ],
        {x: (0, 1), y: (0, 1), z: (0, 1)},
        [
            *(
                Eq(found.subs(axis, end), given.subs(axis, end))
                for found, given, _ in pairs
                for axis in (x, y, z)
                for end in (0, 1)
            ),
            Eq(p.subs({x: 0, y: 0, z: 0}), pressure.subs(x, 0)),
        ],
        exact={u: flow[0], v: flow[1], w: flow[2], p: pressure},
    )


@invented(17, "Taylor-Green vortex, Navier-Stokes")
def taylor_green():
    u, v, p = (field(name, t, x, y) for name in "uvp")
    nu = Rational(1, 10)
    decay = exp(-2 * pi**2 * nu * t)
    flow = -cos(pi * x) * sin(pi * y) * decay, sin(pi * x) * cos(pi * y) * decay
    pressure = -(cos(2 * pi * x) + cos(2 * pi * y)) * decay**2 / 4

    def momentum(w, axis):
        rate = w.diff(t) + u * w.diff(x) + v * w.diff(y)
        return Eq(rate + p.diff(axis), nu * (w.diff(x, 2) + w.diff(y, 2)))

    return Problem(
        [momentum(u, x), momentum(v, y), Eq(u.diff(x) + v.diff(y), 0)],
        {t: (0, 1), x: (0, 1), y: (0, 1)},
        [
            *(Eq(w.subs(t, 0), f.subs(t, 0)) for w, f in zip((u, v), flow, strict=True)),
            *on_square(u, flow[0]),
            *on_square(v, flow[1]),
            Eq(p.subs({x: 0, y: 0}), pressure.subs({x: 0, y: 0})),
        ],
        exact={u: flow[0], v: flow[1], p: pressure},
    )


def main(rows: dict[int, Row], file_name: str, description: str) -> None:
    """The command line of a table; results are stored in a file beside this module."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(map(str, rows)), help="numbers, separated by commas")
    parser.add_argument("--seeds", default="0", help="numbers, separated by commas")
    parser.add_argument("--json", help="file for the results; those of other rows and seeds stay in it")
    parser.add_argument("--processor", action="store_true", help="count processor time, for a machine that is shared")
    parser.add_argument("--show", action="store_true", help="run nothing; print the stored table")
    arguments = parser.parse_args()
    if arguments.show:
        print(markdown(stored(file_name)), ratios(stored(file_name)), sep="\n\n")
        return
    if arguments.processor:
        Clock.now = staticmethod(time.process_time)
    print(HEADER, flush=True)
    results = []
    for number in map(int, arguments.rows.split(",")):
        for seed in map(int, arguments.seeds.split(",")):
            results.append(solve_row(rows[number], seed))
            print(line(results[-1]), flush=True)
            if arguments.json:
                content = merge(arguments.json, results[-1:])
                with open(arguments.json, "w") as file:
                    json.dump(content, file, indent=1)


if __name__ == "__main__":
    main(INVENTED, "invented.json", str(__doc__))
