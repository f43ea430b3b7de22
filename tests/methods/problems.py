"""Declarations that several tests of the methods share, with their exact solutions."""

from sympy import Eq, Rational, atan, cos, cosh, exp, pi, sin, sqrt

from pinnflow import Problem, coordinates, field

t, x, y = coordinates("t x y")


def manufactured(operators, solutions):
    """Equations whose right-hand sides make `solutions` = {field: expression} exact."""

    def value(expression):
        for f, e in solutions.items():
            expression = expression.subs(f, e)
        return expression.doit()

    return [Eq(operator, value(operator)) for operator in operators]


def data(f, e, axis, *places):
    """`f` equals `e` at the places of an axis."""
    return [Eq(f.subs(axis, p), e.subs(axis, p)) for p in places]


def start(f, e, velocity=False):
    """Initial value of `f`, and its time derivative if `velocity`."""
    given = [Eq(f.subs(t, 0), e.subs(t, 0))]
    return given + [Eq(f.diff(t).subs(t, 0), e.diff(t).subs(t, 0))] if velocity else given


def damped_beam():
    """u_tt + u_t / 2 + u_xxxx = 0, simply supported: a mode that decays."""
    u = field("u", t, x)
    rate = sqrt(1 - Rational(1, 16))
    e = exp(-t / 4) * (cos(rate * t) + sin(rate * t) / (4 * rate)) * sin(x)
    ends = [Eq(q.subs(x, p), 0) for q in (u, u.diff(x, 2)) for p in (0, pi)]
    return Problem(
        [Eq(u.diff(t, 2) + u.diff(t) / 2 + u.diff(x, 4), 0)], {t: (0, 2), x: (0, pi)}, start(u, e, True) + ends, exact=e
    )


def reaction_diffusion():
    """The Brusselator with sources that make two given fields exact; a flux condition and a value condition."""
    u, v = field("u", t, x), field("v", t, x)
    e, f = 1 + exp(-t) * cos(pi * x) / 2, 3 - exp(-t) * cos(pi * x) * x * (1 - x)
    return Problem(
        manufactured(
            [
                u.diff(t) - (1 + u**2 * v - 4 * u + u.diff(x, 2) / 50),
                v.diff(t) - (3 * u - u**2 * v + v.diff(x, 2) / 50),
            ],
            {u: e, v: f},
        ),
        {t: (0, 2), x: (0, 1)},
        [
            *start(u, e),
            *start(v, f),
            *(Eq(u.diff(x).subs(x, p), e.diff(x).subs(x, p)) for p in (0, 1)),
            *data(v, f, x, 0, 1),
        ],
        exact={u: e, v: f},
    )


def drift_diffusion():
    """u_t = (a u_x)_x - (b u)_x + f with a = 1 + x^2/2, b = sin 2x; a Robin condition."""
    u = field("u", t, x)
    e = exp(-t) * sin(3 * x) + x * t
    operator = u.diff(t) - ((1 + x**2 / 2) * u.diff(x)).diff(x) + (sin(2 * x) * u).diff(x)
    robin = Eq(u.diff(x).subs(x, 2) + 2 * u.subs(x, 2), (e.diff(x) + 2 * e).subs(x, 2))
    return Problem(
        manufactured([operator], {u: e}), {t: (0, 1), x: (0, 2)}, start(u, e) + data(u, e, x, 0) + [robin], exact=e
    )


def moving_ends():
    """u_t = ((1 + u^2) u_x)_x + f: nonlinear diffusion with a value and a flux that change in time."""
    u = field("u", t, x)
    e = 2 + sin(4 * t) * x + exp(-t) * cos(3 * x)
    flux = Eq(u.diff(x).subs(x, 1), e.diff(x).subs(x, 1))
    return Problem(
        manufactured([u.diff(t) - ((1 + u**2) * u.diff(x)).diff(x)], {u: e}),
        {t: (0, 1), x: (0, 1)},
        start(u, e) + data(u, e, x, 0) + [flux],
        exact=e,
    )


def radiation():
    """u_t = u_xx + f with u_x + u^4 given at one end: a nonlinear condition."""
    u = field("u", t, x)
    e = 1 + x * exp(-t) + x**2 / 4
    end = Eq(u.diff(x).subs(x, 1) + u.subs(x, 1) ** 4, (e.diff(x) + e**4).subs(x, 1))
    return Problem(
        manufactured([u.diff(t) - u.diff(x, 2)], {u: e}),
        {t: (0, 1), x: (0, 1)},
        start(u, e) + data(u, e, x, 0) + [end],
        exact=e,
    )


def kink():
    """The sine-Gordon equation's travelling kink, second order in time."""
    u = field("u", t, x)
    e = 4 * atan(exp((x - t / 2) / sqrt(Rational(3, 4))))
    return Problem(
        [Eq(u.diff(t, 2) - u.diff(x, 2) + sin(u), 0)],
        {t: (0, 4), x: (-8, 8)},
        start(u, e, True) + data(u, e, x, -8, 8),
        exact=e,
    )


def long_waves():
    """Benjamin-Bona-Mahony: u_t + u_x + u u_x = u_xxt; the mass matrix is not the identity. A solitary wave."""
    u = field("u", t, x)
    e = Rational(3, 2) / cosh(sqrt(Rational(1, 12)) * (x - 3 * t / 2)) ** 2
    return Problem(
        [Eq(u.diff(t) + u.diff(x) + u * u.diff(x) - u.diff(x, 2).diff(t), 0)],
        {t: (0, 4), x: (-30, 40)},
        start(u, e) + data(u, e, x, -30, 40),
        exact=e,
    )


def charges():
    """A density that moves in the potential it makes itself: one equation has no time derivative."""
    n, p = field("n", t, x), field("p", t, x)
    e, f = 1 + cos(pi * x) * exp(-t) / 2, x * (1 - x) * sin(t) + x
    return Problem(
        manufactured([n.diff(t) - n.diff(x, 2) / 10 - (n * p.diff(x)).diff(x), p.diff(x, 2) + n], {n: e, p: f}),
        {t: (0, 1), x: (0, 1)},
        start(n, e) + data(n, e, x, 0, 1) + data(p, f, x, 0, 1),
        exact={n: e, p: f},
    )


def plane_stokes():
    """Stokes flow with the velocity on the boundary and the pressure at one point."""
    u, v, p = (field(name, x, y) for name in "uvp")
    e, f, g = sin(pi * x) * cos(pi * y), -cos(pi * x) * sin(pi * y), x * y + sin(x)

    def laplace(q):
        return q.diff(x, 2) + q.diff(y, 2)

    return Problem(
        manufactured([-laplace(u) + p.diff(x), -laplace(v) + p.diff(y), u.diff(x) + v.diff(y)], {u: e, v: f, p: g}),
        {x: (0, 1), y: (0, 1)},
        [c for q, z in ((u, e), (v, f)) for axis in (x, y) for c in data(q, z, axis, 0, 1)]
        + [Eq(p.subs({x: 0, y: 0}), 0)],
        exact={u: e, v: f, p: g},
    )


def family():
    """The heat equation for a whole range of diffusivities at once: c is an axis in which nothing is differentiated."""
    c = coordinates("c")
    u = field("u", t, x, c)
    e = exp(-c * pi**2 * t) * sin(pi * x)
    return Problem(
        [Eq(u.diff(t), c * u.diff(x, 2))],
        {t: (0, Rational(1, 2)), x: (0, 1), c: (Rational(1, 2), 1)},
        start(u, e) + data(u, e, x, 0, 1),
        exact=e,
    )


def kilokelvin():
    """A rod of 0.1 m over 280 s with temperatures of a thousand: units far from one."""
    u = field("u", t, x)
    a, k = Rational(1, 10**5), 10 * pi
    e = 1000 * exp(-a * k**2 * t) * sin(k * x) + 300
    return Problem(
        manufactured([u.diff(t) - a * ((1 + u / 1000) * u.diff(x)).diff(x)], {u: e}),
        {t: (0, 280), x: (0, Rational(1, 10))},
        start(u, e) + data(u, e, x, 0, Rational(1, 10)),
        exact=e,
    )


def curved_bar():
    """u_xx u + log u - |u_x| = f in one coordinate: singular at the zero function."""
    from sympy import Abs, log

    u = field("u", x)
    e = sqrt(1 + x) + x**2
    return Problem(
        manufactured([u.diff(x, 2) * u + log(u) - Abs(u.diff(x))], {u: e}), {x: (0, 1)}, data(u, e, x, 0, 1), exact=e
    )


def slow_decay():
    """u_t = u_xx - u^2 + f with one smooth mode: its time steps are limited by their growth, not by their error."""
    u = field("u", t, x)
    e = exp(-t) * sin(pi * x)
    return Problem(
        manufactured([u.diff(t) - u.diff(x, 2) + u**2], {u: e}),
        {t: (0, 1), x: (0, 1)},
        start(u, e) + data(u, e, x, 0, 1),
        exact=e,
    )


def stiff_relaxation():
    """u' = -1000 (1 + u^2) (u - cos t) - sin t, begun on its slow solution: one time step would cross the interval."""
    u = field("u", t)
    e = cos(t)
    return Problem(
        manufactured([u.diff(t) + 1000 * (u - cos(t)) * (1 + u**2)], {u: e}), {t: (0, 3)}, start(u, e), exact=e
    )


def rod_with_reservoir():
    """u(t, x) heated by a(t), which lives in time alone: a_t = -a^2 + f."""
    u, a = field("u", t, x), field("a", t)
    e, g = exp(-t) * sin(pi * x) + t * x, cos(t)
    return Problem(
        manufactured([u.diff(t) - u.diff(x, 2) + a * u, a.diff(t) + a**2], {u: e, a: g}),
        {t: (0, 1), x: (0, 1)},
        start(u, e) + start(a, g) + data(u, e, x, 0, 1),
        exact={u: e, a: g},
    )


def reservoir_beside_a_rod():
    """The same, linear, and with the equation of a(t) first."""
    u, a = field("u", t, x), field("a", t)
    e, g = exp(-t) * sin(pi * x) + t * x, cos(t)
    return Problem(
        manufactured([a.diff(t) + a, u.diff(t) - u.diff(x, 2) + a], {u: e, a: g}),
        {t: (0, 1), x: (0, 1)},
        start(u, e) + start(a, g) + data(u, e, x, 0, 1),
        exact={u: e, a: g},
    )


def fourth_order_in_time():
    """u_tttt + u_xxxx + u^2 = f with ends that move: the fourth derivative of the boundary data is needed."""
    u = field("u", t, x)
    e = exp(-t) * (sin(pi * x) + x)
    return Problem(
        manufactured([u.diff(t, 4) + u.diff(x, 4) + u**2], {u: e}),
        {t: (0, 1), x: (0, 1)},
        start(u, e, velocity=True)
        + [Eq(u.diff(t, k).subs(t, 0), e.diff(t, k).subs(t, 0)) for k in (2, 3)]
        + data(u, e, x, 0, 1)
        + [Eq(u.diff(x, 2).subs(x, p), e.diff(x, 2).subs(x, p)) for p in (0, 1)],
        exact=e,
    )


def two_species() -> Problem:
    """Smooth in space from the first bases on, which then differ in nothing but share their error in time."""
    p, q = field("p", t, x), field("q", t, x)
    exact = {p: 2 + sin(x) * exp(-t), q: 1 + cos(x) * exp(-2 * t) / 2}
    operators = [p.diff(t) - p.diff(x, 2) / 10 - p * (1 - q), q.diff(t) - q.diff(x, 2) / 5 + q * (1 - p)]
    ends = [Eq(a.diff(x, k).subs(x, 0), a.diff(x, k).subs(x, 2 * pi)) for a in exact for k in (0, 1)]
    starts = [one for f, e in exact.items() for one in start(f, e)]
    return Problem(manufactured(operators, exact), {t: (0, 3), x: (0, 2 * pi)}, [*starts, *ends], exact=exact)
