"""Problems that fill a box of three axes, solved with no option given; exact solutions in closed form.

    python -m benchmarks.boxes --seeds 0,1 --json boxes.json

Boundary layers, an inner layer on a sphere, a layer with a cubic, conditions of all kinds, two coupled fields,
oscillations. The method for boxes was developed on rows 1 to 7; rows 8 to 12 were written down afterwards.
"""

from __future__ import annotations

from sympy import Eq, Rational, cos, erf, exp, log, pi, sin, sqrt, tanh

from benchmarks.invented import main
from benchmarks.statements import Row
from pinnflow import Problem, coordinates, field, laplacian

x, y, z = coordinates("x y z")
u, v = field("u", x, y, z), field("v", x, y, z)
UNIT = dict.fromkeys((x, y, z), (0, 1))
BOXES: dict[int, Row] = {}
TARGET, SECONDS = 1e-6, 60


def box(number: int, title: str):
    """Registers a declaration as a row."""

    def register(declare):
        BOXES[number] = Row(number, title, declare, None, TARGET, SECONDS)
        return declare

    return register


def on_faces(function, exact, axes=(x, y, z)):
    """The function has the values of `exact` on the faces across the axes."""
    return [Eq(function.subs(axis, end), exact.subs(axis, end)) for axis in axes for end in (0, 1)]


def given(operator, exact):
    """operator(u) = operator(exact) with the values of `exact` on all faces."""
    return Problem([Eq(operator(u), operator(exact))], UNIT, on_faces(u, exact), exact=exact)


@box(1, "flow with two boundary layers of 1/50")
def corner():
    width = Rational(1, 50)

    def layer(s):
        return s - (exp((s - 1) / width) - exp(-1 / width)) / (1 - exp(-1 / width))

    return given(lambda w: -width * laplacian(w, x, y, z) + w.diff(x) + w.diff(y), layer(x) * layer(y) * sin(pi * z))


@box(2, "layer of 1/25 on a sphere, coefficient 1 + xy/2")
def shell():
    radius = sqrt((x - Rational(1, 2)) ** 2 + (y - Rational(1, 2)) ** 2 + (z - Rational(1, 2)) ** 2 + Rational(1, 100))
    a = 1 + x * y / 2
    return given(lambda w: -sum((a * w.diff(axis)).diff(axis) for axis in (x, y, z)), tanh(25 * (radius - 0.3)))


@box(3, "cubic with a layer of 1/20")
def cubic():
    width = Rational(1, 40)
    exact = tanh((x - Rational(3, 10)) / width / 2) * (1 + y * z) + sin(3 * y) * exp(z) / 2
    return given(lambda w: -(width**2) * laplacian(w, x, y, z) * (2 + sin(x + y)) + w**3 + w + w.diff(x) / 10, exact)


@box(4, "Bratu")
def bratu():
    return given(lambda w: -laplacian(w, x, y, z) - exp(w), sin(pi * x) * sin(pi * y) * sin(2 * pi * z))


@box(5, "values, slopes and sums given; mixed derivative")
def robin():
    exact = exp(-40 * ((x - 0.3) ** 2 + (y - 0.6) ** 2 + (z - 0.5) ** 2)) + x * y

    def operator(w):
        return (
            -((1 + x**2) * w.diff(x)).diff(x) - w.diff(y, 2) - (2 + cos(z)) * w.diff(z, 2) + w.diff(x).diff(y) / 2 + w
        )

    return Problem(
        [Eq(operator(u), operator(exact))],
        UNIT,
        [
            Eq(u.subs(x, 0), exact.subs(x, 0)),
            Eq(u.diff(x).subs(x, 1) + 2 * u.subs(x, 1), (exact.diff(x) + 2 * exact).subs(x, 1)),
            Eq(u.diff(y).subs(y, 0), exact.diff(y).subs(y, 0)),
            Eq(u.subs(y, 1), exact.subs(y, 1)),
            Eq(u.diff(z).subs(z, 0), exact.diff(z).subs(z, 0)),
            Eq(3 * u.subs(z, 1) - u.diff(z).subs(z, 1), (3 * exact - exact.diff(z)).subs(z, 1)),
        ],
        exact=exact,
    )


@box(6, "two coupled fields, one with a layer of 1/20")
def pair():
    first, second = tanh(20 * (x + y - 1)) * cos(z), sin(3 * x * y) + z**2

    def one(a, b):
        return -laplacian(a, x, y, z) + a * b + b.diff(x)

    def other(a, b):
        return -laplacian(b, x, y, z) + b**3 + a.diff(z)

    return Problem(
        [Eq(other(u, v), other(first, second)), Eq(one(u, v), one(first, second))],
        UNIT,
        on_faces(u, first) + on_faces(v, second),
        exact={u: first, v: second},
    )


@box(7, "Helmholtz, indefinite, coefficient that varies")
def helmholtz():
    return given(lambda w: laplacian(w, x, y, z) + (150 + 50 * x) * w, sin(12 * x + 5 * y) * cos(7 * z))


@box(8, "turning flow around the middle, width 1/30")
def vortex():
    width = Rational(1, 30)
    exact = exp(-20 * ((x - 0.7) ** 2 + (y - 0.5) ** 2)) * (1 - z**2) + erf(8 * (z - Rational(1, 2)))
    return given(
        lambda w: -width * laplacian(w, x, y, z) + (y - 0.5) * w.diff(x) - (x - 0.5) * w.diff(y) + w / 5, exact
    )


@box(9, "conductivity 1 + u^2, anisotropic")
def conductor():
    exact = log(1 + x + 2 * y * z) + sin(5 * z) / 3
    return given(
        lambda w: -((1 + w**2) * w.diff(x)).diff(x) - 10 * w.diff(y, 2) - ((1 + w**2) * w.diff(z)).diff(z) / 10, exact
    )


@box(10, "a box of 5 x 1 x 1/5 with Burgers' flux")
def channel():
    sides = {x: (0, 5), y: (0, 1), z: (0, Rational(1, 5))}
    exact = -tanh(4 * (x - 2)) / 2 * (1 + y) + cos(10 * z)

    def operator(w):
        return w * w.diff(x) - laplacian(w, x, y, z) / 8

    conditions = [Eq(u.subs(axis, end), exact.subs(axis, end)) for axis in sides for end in sides[axis]]
    return Problem([Eq(operator(u), operator(exact))], sides, conditions, exact=exact)


@box(11, "predator and prey, slopes zero on the walls")
def predators():
    first = 2 + cos(pi * x) * cos(pi * y) * cos(pi * z)
    second = 1 + cos(2 * pi * x) * cos(pi * z) / 2

    def one(a, b):
        return -laplacian(a, x, y, z) / 20 - a * (1 - a / 4) + a * b / (1 + a)

    def other(a, b):
        return -laplacian(b, x, y, z) / 5 + b - a * b / (1 + a)

    walls = [Eq(w.diff(axis).subs(axis, end), 0) for w in (u, v) for axis in (x, y, z) for end in (0, 1)]
    return Problem(
        [Eq(one(u, v), one(first, second)), Eq(other(u, v), other(first, second))],
        UNIT,
        walls,
        exact={u: first, v: second},
    )


@box(12, "sine-Poisson with a peak of 1/15")
def peak():
    exact = exp(-225 * ((x - 0.4) ** 2 + (y - 0.3) ** 2 + (z - 0.6) ** 2)) + x * z
    return given(lambda w: -laplacian(w, x, y, z) + sin(3 * w) + y * w.diff(z), exact)


if __name__ == "__main__":
    main(BOXES, "boxes.json", str(__doc__))
