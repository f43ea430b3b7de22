"""What `check()` finds in wrong problems, word for word, and that it is silent about right ones."""

import numpy as np
import pytest
from sympy import Eq, Max, Piecewise, Rational, Symbol, cos, exp, log, pi, sech, sin, sqrt

import pdes
from pinnflow import (
    Bounds,
    Condition,
    IllPosedProblem,
    Observations,
    Problem,
    coordinates,
    div,
    field,
    laplacian,
    normal_derivative,
)
from pinnflow.declare.check import raise_if_ill_posed

t, x, y, k = coordinates("t x y k")
c = Symbol("c", real=True)
u, w = field("u", t, x), field("w", x, y)
WAVE, HEAT = Eq(u.diff(t, 2), 4 * u.diff(x, 2)), Eq(u.diff(t), u.diff(x, 2))
BOX, SQUARE = {t: (0, 1), x: (0, 1)}, {x: (0, 1), y: (0, 1)}
START, REST = Eq(u.subs(t, 0), sin(pi * x)), Eq(u.diff(t).subs(t, 0), 0)
LEFT, RIGHT = Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)


def heat(*conditions, equation=HEAT, **more):
    return Problem([equation], more.pop("domain", BOX), conditions or (START, LEFT, RIGHT), **more)


def wave(*conditions, **more):
    return Problem([WAVE], BOX, conditions, **more)


FINDINGS = {
    "no initial velocity": (
        lambda: wave(START, LEFT, RIGHT),
        "error: u: the equations are of order 2 in `t`, so `u(t, x)` needs 2 conditions in `t`, but there is 1; the "
        "initial velocity is missing.\n  Add `Eq(u.diff(t).subs(t, 0), ...)`.",
    ),
    "no initial data": (
        lambda: wave(LEFT, RIGHT),
        "error: u: the equations are of order 2 in `t`, so `u(t, x)` needs 2 conditions in `t`, but there are none; "
        "the initial value and initial velocity are missing.\n"
        "  Add `Eq(u.subs(t, 0), ...)` and `Eq(u.diff(t).subs(t, 0), ...)`.",
    ),
    "a velocity given twice instead of a value": (
        lambda: wave(REST, REST, LEFT, RIGHT, exact=None),
        "error: u: the equations are of order 2 in `t`, so `u(t, x)` needs 2 conditions in `t`, but there is 1; the "
        "initial value is missing.\n  Add `Eq(u.subs(t, 0), ...)`.",
    ),
    "contradicting conditions": (
        lambda: heat(START, LEFT, RIGHT, Eq(u.subs(x, 1.0), t)),
        "error: condition 3 and condition 4: they prescribe different values of `u.subs(x, 1)`: 0 and 1 at t = 1.\n"
        "  Keep the one that is meant.",
    ),
    "contradicting conditions, one face among all": (
        lambda: Problem([laplacian(w, x, y) + 1], SQUARE, [Condition(w, on="boundary"), Eq(w.subs(x, 1), 2)]),
        "error: condition 1 and condition 2: they prescribe different values of `w.subs(x, 1)`: 0 and 2 at y = 0.\n"
        "  Keep the one that is meant.",
    ),
    "a repeated condition": (
        lambda: heat(START, LEFT, RIGHT, Condition(Eq(2 * u, 0), on={x: 1}, name="wall")),
        "warning: wall: it repeats condition 3: both prescribe `u.subs(x, 1)` with the same values.\n"
        "  Leave one of them out.",
    ),
    "a velocity for the heat equation": (
        lambda: heat(START, Eq(u.diff(t).subs(t, 0), -(pi**2) * sin(pi * x)), LEFT, RIGHT),
        "warning: u: the equations are of order 1 in `t`, so `u(t, x)` takes one condition in `t`, but 2 are given.\n"
        "  Leave out what follows from the others; a surplus condition is met in the least-squares sense only.",
    ),
    "one end without data": (
        lambda: heat(START, LEFT),
        "warning: u: the equations are of order 2 in `x`, so `u(t, x)` along `x` needs one condition at each end, but "
        "there are too few at `x = 1`.\n  Add for example `Eq(u.subs(x, 1), ...)`, or make the axis periodic: "
        "`Eq(u.subs(x, 0), u.subs(x, 1))`.",
    ),
    "value and slope at one end beside the other": (
        lambda: heat(START, LEFT, RIGHT, Eq(u.diff(x).subs(x, 0), pi)),
        "warning: u: the equations are of order 2 in `x`, so `u(t, x)` takes "
        "2 conditions on this axis, but 3 are given.\n"
        "  Leave out what follows from the others; a surplus condition is met in the least-squares sense only.",
    ),
    "no inflow": (
        lambda: heat(START, equation=Eq(u.diff(t) + u.diff(x), 0)),
        "warning: u: the equations are of order 1 in `x`, so `u(t, x)` along `x` needs one condition, but there is "
        "none.\n  Add one at the end where `u` enters, for example `Eq(u.subs(x, 0), ...)`.",
    ),
    "both ends of an advection": (
        lambda: heat(START, LEFT, RIGHT, equation=Eq(u.diff(t) + u.diff(x), 0)),
        "warning: u: the equations are of order 1 in `x`, so `u(t, x)` takes "
        "one condition on this axis, but 2 are given.\n"
        "  Leave out what follows from the others; a surplus condition is met in the least-squares sense only.",
    ),
    "a time that is not called so": (
        lambda: Problem(
            [Eq(w.diff(y, 2), w.diff(x, 2))],
            SQUARE,
            [Eq(w.subs(y, 0), sin(pi * x)), Eq(w.diff(y).subs(y, 0), 0), Eq(w.subs(x, 0), 0), Eq(w.subs(x, 1), 0)],
        ),
        "warning: y: all 2 conditions on `y` stand at `y = 0`, as for a time.\n"
        "  If `y` is the time, say so: `Problem(..., time=y)`.",
    ),
    "a corner that does not fit": (
        lambda: heat(Eq(u.subs(t, 0), cos(x)), LEFT, Eq(u.subs(x, 1), cos(1))),
        "warning: condition 1 and condition 2: the initial data miss condition 2 by 1 at t = 0, x = 0.\n"
        "  The solution has a jump or a kink there, which limits accuracy near it. Make the data meet if they should.",
    ),
    "a velocity that does not fit a moving wall": (
        lambda: wave(START, REST, LEFT, Eq(u.subs(x, 1), sin(t) / 2)),
        "warning: condition 2 and condition 4: the rates of the initial data miss condition 4 by 0.5 at t = 0, x = 1.\n"
        "  The solution has a jump or a kink there, which limits accuracy near it. Make the data meet if they should.",
    ),
    "a pin next to the end": (
        lambda: Problem([HEAT], {t: (0, 1), x: (0, pi)}, [Eq(u.subs(t, 0), sin(x)), LEFT, Eq(u.subs(x, 3.14159), 0)]),
        "note: condition 3: `x = 3.14159` is taken as the end `x = pi`.",
    ),
    "the zero function": (
        lambda: Problem([Eq(laplacian(w, x, y), -3 * w)], SQUARE, [Condition(w, on="boundary")]),
        "warning: problem: `w = 0` satisfies every equation and condition.\n  If another solution is meant, add what "
        "sets it apart: a source, data that do not vanish, or a scale.",
    ),
    "too few equations": (
        lambda: Problem([Eq(u.diff(t), field("v", t, x))], BOX, [START]),
        "warning: equations: there is one equation for 2 fields (`u(t, x)`, `v(t, x)`).\n"
        "  Add an equation for each field, or observations of it.",
    ),
    "an unknown nobody observes": (
        lambda: heat(equation=Eq(u.diff(t), c * u.diff(x, 2)), unknowns={c: 1}),
        "warning: c: no observation bears on `c`, so any value of it may fit.\n"
        "  Add `observations=[Observations(...)]` of a field in the same statement as `c`.",
    ),
    "a backward heat equation": (
        lambda: heat(equation=Eq(u.diff(t), -u.diff(x, 2))),
        "warning: u: the coefficient of `u.diff(x, 2)` has the wrong sign: short waves along `x` grow without bound "
        "forward in `t`.\n  Check the sign, or give the data at the final time.",
    ),
    "a division that vanishes inside": (
        lambda: heat(equation=Eq(u.diff(t), u.diff(x, 2) + u / (3 * x - 1))),
        "warning: equation 1: the denominator `3*x - 1` vanishes at x = 0.3333.\n"
        "  Multiply the equation by it, or leave that place out of the domain.",
    ),
    "a division that vanishes at the end": (
        lambda: heat(equation=Eq(u.diff(t), u.diff(x, 2) + u.diff(x) / x)),
        "warning: equation 1: the denominator `x` vanishes at x = 0.\n"
        "  Multiply the equation by it, or leave that place out of the domain.",
    ),
    "the root of a negative number": (
        lambda: heat(equation=Eq(u.diff(t), u.diff(x, 2) + sqrt(x - 2))),
        "warning: equation 1: `x - 2` is negative at x = 0, where its root is not real.\n"
        "  Multiply the equation by it, or leave that place out of the domain.",
    ),
    "a wrong exact solution": (
        lambda: heat(exact=exp(-t) * sin(pi * x)),
        "warning: equation 1: `exact` misses it by",
    ),
    "an idle coordinate": (
        lambda: heat(domain={**BOX, k: (0, 1)}),
        "warning: k: nothing depends on `k`.\n  Leave it out of the domain.",
    ),
    "a changing type": (
        lambda: Problem([y * w.diff(x, 2) + w.diff(y, 2) + 1], {x: (0, 1), y: (-1, 1)}, [Condition(w, on="boundary")]),
        "warning: equation 1: it is hyperbolic in 53 %, elliptic in 47 % of the domain.",
    ),
    "redundant beside a periodic axis": (
        lambda: heat(
            Eq(u.subs(t, 0), sin(2 * pi * x)),
            Eq(u.subs(x, 0), u.subs(x, 1)),
            Eq(u.diff(x).subs(x, 0), u.diff(x).subs(x, 1)),
        ),
        "note: condition 3: `x` is periodic with all derivatives already, by the condition for the values.",
    ),
    "fixed up to a constant": (
        lambda: Problem(
            [Eq(laplacian(w, x, y), 2)], SQUARE, [Condition(normal_derivative(w) - Rational(1, 2), "boundary")]
        ),
        "note: w: only derivatives of `w(x, y)` appear, so it is fixed up to a constant.\n"
        "  Add its value at one point if the constant matters.",
    ),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_finding(name):
    make, expected = FINDINGS[name]
    findings = [str(finding) for finding in make().check().findings]
    assert any(finding == expected or finding.startswith(expected) for finding in findings), findings


def kovasznay(whole_boundary):
    """Kovasznay, Proc. Camb. Phil. Soc. 44 (1948) 58: the closed form of a stationary flow behind a grid."""
    a, b, p = field("a", x, y), field("b", x, y), field("p", x, y)
    nu = Rational(1, 40)
    rate = 1 / (2 * nu) - sqrt(1 / (4 * nu**2) + 4 * pi**2)
    exact = {
        a: 1 - exp(rate * x) * cos(2 * pi * y),
        b: rate / (2 * pi) * exp(rate * x) * sin(2 * pi * y),
        p: (1 - exp(2 * rate * x)) / 2,
    }
    equations = [
        a * a.diff(x) + b * a.diff(y) + p.diff(x) - nu * laplacian(a, x, y),
        a * b.diff(x) + b * b.diff(y) + p.diff(y) - nu * laplacian(b, x, y),
        a.diff(x) + b.diff(y),
    ]
    walls = (
        [Condition(Eq(f, exact[f]), on="boundary") for f in (a, b)]
        if whole_boundary
        else [
            Eq(f.subs(s, end), exact[f].subs(s, end))
            for f in (a, b)
            for s, ends in ((x, (-0.5, 1)), (y, (-0.5, 1.5)))
            for end in ends
        ]
    )
    pressure = Eq(p.subs({x: 0, y: 0}), exact[p].subs(x, 0))
    return Problem(equations, {x: (-0.5, 1), y: (-0.5, 1.5)}, [*walls, pressure], exact=exact)


def elasticity():
    a, b = field("a", x, y), field("b", x, y)
    exact = {a: sin(pi * x) * cos(pi * y), b: x**2 * y + sin(pi * y)}

    def stress(p, q):
        spread = p.diff(x) + q.diff(y)
        return spread + 2 * p.diff(x), p.diff(y) + q.diff(x), spread + 2 * q.diff(y)

    (xx, xy, yy), (xx0, xy0, yy0) = stress(a, b), stress(exact[a], exact[b])
    held = [Eq(f.subs(s, end), exact[f].subs(s, end)) for f in (a, b) for s, end in ((x, 0), (y, 0), (y, 1))]
    return Problem(
        [
            Eq(xx.diff(x) + xy.diff(y), xx0.diff(x) + xy0.diff(y)),
            Eq(xy.diff(x) + yy.diff(y), xy0.diff(x) + yy0.diff(y)),
        ],
        SQUARE,
        [*held, Eq(xx.subs(x, 1), xx0.subs(x, 1)), Eq(xy.subs(x, 1), xy0.subs(x, 1))],
        exact=exact,
    )


def taylor_green():
    a, b, p = (field(name, t, x, y) for name in "abp")
    return Problem(
        [
            a.diff(t) + a * a.diff(x) + b * a.diff(y) + p.diff(x) - laplacian(a, x, y) / 10,
            b.diff(t) + a * b.diff(x) + b * b.diff(y) + p.diff(y) - laplacian(b, x, y) / 10,
            a.diff(x) + b.diff(y),
        ],
        {t: (0, 1), x: (0, 2 * pi), y: (0, 2 * pi)},
        [
            Eq(a.subs(t, 0), -cos(x) * sin(y)),
            Eq(b.subs(t, 0), sin(x) * cos(y)),
            Eq(p.subs({x: 0, y: 0}), 0),
            *(Eq(f.subs(s, 0), f.subs(s, 2 * pi)) for f in (a, b, p) for s in (x, y)),
        ],
    )


def fokker_planck_plane():
    p, r2 = field("p", t, x, y), x**2 + y**2
    drift = [(x - y - x * r2) * p, (x + y - y * r2) * p]
    return Problem(
        [Eq(p.diff(t), -div(drift, x, y) + 0.1 * laplacian(p, x, y))],
        {t: (0, 1), x: (-2.5, 2.5), y: (-2.5, 2.5)},
        [Eq(p.subs(t, 0), 8 / pi * exp(-8 * ((x - 1) ** 2 + y**2))), Condition(p, on="boundary")],
    )


def schroedinger():
    a, b = field("a", t, x), field("b", t, x)
    density = a**2 + b**2
    return Problem(
        [Eq(b.diff(t), a.diff(x, 2) / 2 + density * a), Eq(a.diff(t), -b.diff(x, 2) / 2 - density * b)],
        {t: (0, pi / 2), x: (-15, 15)},
        [Eq(a.subs(t, 0), 2 * sech(x)), Eq(b.subs(t, 0), 0)]
        + [Eq(f.subs(x, -15), f.subs(x, 15)) for f in (a, b)]
        + [Eq(f.diff(x).subs(x, -15), f.diff(x).subs(x, 15)) for f in (a, b)],
    )


def option_price():
    """Black and Scholes: at S = 0 the diffusion vanishes, and no condition belongs there."""
    tau, price = coordinates("tau S")
    v = field("V", tau, price)
    return Problem(
        [Eq(v.diff(tau), price**2 * v.diff(price, 2) / 50 + price * v.diff(price) / 20 - v / 20)],
        {tau: (0, 1), price: (0, 200)},
        [Eq(v.subs(tau, 0), Max(price - 100, 0)), Eq(v.subs(price, 200), 200 - 100 * exp(-tau / 20))],
        time=tau,
    )


e, h, f, g, m = field("E", t, x), field("H", t, x), field("f", t), field("g", x), field("m", t, x, k)
RIGHT_PROBLEMS = {
    **pdes.ALL,
    "kovasznay": lambda: kovasznay(False),
    "kovasznay on the whole boundary": lambda: kovasznay(True),
    "elasticity with traction": elasticity,
    "taylor green": taylor_green,
    "fokker planck in the plane": fokker_planck_plane,
    "schroedinger with redundant slopes": schroedinger,
    "black scholes": option_price,
    "beam": lambda: Problem(
        [u.diff(t, 2) + u.diff(x, 4)],
        {t: (0, 1), x: (0, pi)},
        [Eq(u.subs(t, 0), sin(x) + sin(3 * x) / 4), REST]
        + [Eq(q.subs(x, end), 0) for q in (u, u.diff(x, 2)) for end in (0, pi)],
        exact=cos(t) * sin(x) + cos(9 * t) * sin(3 * x) / 4,
    ),
    "oscillator": lambda: Problem(
        [f.diff(t, 2) + f], {t: (0, 5)}, [Eq(f.subs(t, 0), 1), Eq(f.diff(t).subs(t, 0), 0)], exact=cos(t)
    ),
    "boundary-value problem": lambda: Problem(
        [-0.01 * g.diff(x, 2) + g.diff(x) - 1], {x: (0, 1)}, [Eq(g.subs(x, 0), 0), Eq(g.subs(x, 1), 0)]
    ),
    "initial-value problem in x": lambda: Problem(
        [g.diff(x, 2) + g], {x: (0, 1)}, [Eq(g.subs(x, 0), 1), Eq(g.diff(x).subs(x, 0), 0)], exact=cos(x)
    ),
    "family of heat equations": lambda: Problem(
        [m.diff(t) - k * m.diff(x, 2)],
        {**BOX, k: (0.1, 1)},
        [Eq(m.subs(t, 0), sin(pi * x)), Eq(m.subs(x, 0), 0), Eq(m.subs(x, 1), 0)],
        exact=exp(-k * pi**2 * t) * sin(pi * x),
    ),
    "maxwell": lambda: Problem(
        [Eq(e.diff(t), h.diff(x)), Eq(h.diff(t), e.diff(x))],
        BOX,
        [Eq(e.subs(t, 0), sin(pi * x)), Eq(h.subs(t, 0), 0), Eq(e.subs(x, 0), 0), Eq(e.subs(x, 1), 0)],
    ),
    "free ends": lambda: wave(
        Eq(u.subs(t, 0), cos(pi * x)), REST, Eq(u.diff(x).subs(x, 0), 0), Eq(u.diff(x).subs(x, 1), 0)
    ),
    "robin ends": lambda: heat(
        Eq(u.subs(t, 0), x**2),
        Eq(u.diff(x).subs(x, 0) - u.subs(x, 0), 0),
        Eq(u.diff(x).subs(x, 1) - 2 * u.subs(x, 1), 0),
    ),
    "backward in time from final data": lambda: heat(
        Eq(u.subs(t, 1), sin(pi * x)), LEFT, RIGHT, equation=Eq(u.diff(t), -u.diff(x, 2))
    ),
    "elliptic in a coordinate called t": lambda: heat(
        START, Eq(u.subs(t, 1), 0), LEFT, RIGHT, equation=Eq(u.diff(t, 2) + u.diff(x, 2), 0)
    ),
    "time-periodic": lambda: heat(
        Eq(u.subs(t, 0), u.subs(t, 1)), LEFT, RIGHT, equation=Eq(u.diff(t), u.diff(x, 2) + sin(2 * pi * t))
    ),
    "coefficient from observations": lambda: heat(
        START,
        LEFT,
        RIGHT,
        equation=Eq(u.diff(t), c * u.diff(x, 2)),
        unknowns={c: Bounds(0, 1)},
        observations=[Observations(u, {t: np.linspace(0, 1, 5), x: 0.5}, np.ones(5))],
    ),
    "coefficient field from observations": lambda: Problem(
        [Eq(u.diff(t), g * u.diff(x, 2))],
        BOX,
        [START, LEFT, RIGHT],
        observations=[Observations(u, {t: np.linspace(0, 1, 5), x: 0.5}, np.ones(5))],
    ),
}


@pytest.mark.parametrize("name", RIGHT_PROBLEMS)
def test_right_problem_raises_no_false_alarm(name):
    report = RIGHT_PROBLEMS[name]().check()
    assert report.errors == (), str(report)
    assert report.warnings == (), str(report)


def test_initial_data_are_not_missing_when_an_observation_reaches_the_field():
    observed = [Observations(u, {t: [0.5], x: [0.5]}, [1.0])]
    assert wave(START, LEFT, RIGHT).check().errors
    assert not wave(START, LEFT, RIGHT, observations=observed).check().errors


def test_ill_posed_problem_lists_every_error_and_nothing_else():
    problem = wave(START, LEFT, RIGHT, Eq(u.subs(x, 1), 1), name="wave")
    with pytest.raises(IllPosedProblem) as caught:
        raise_if_ill_posed(problem)
    assert str(caught.value) == (
        "wave: u: the equations are of order 2 in `t`, so `u(t, x)` needs 2 conditions in `t`, but there is 1; the "
        "initial velocity is missing.\n  Add `Eq(u.diff(t).subs(t, 0), ...)`.\n"
        "condition 3 and condition 4: they prescribe different values of `u.subs(x, 1)`: 0 and 1 at t = 0.\n"
        "  Keep the one that is meant."
    )
    raise_if_ill_posed(heat(START, LEFT))


def test_report_prints_errors_first_and_counts_them():
    report = heat(START, LEFT, LEFT.func(u.subs(x, 0), 1)).check()
    assert str(report).splitlines()[0] == "1 error, 2 warnings."
    assert [finding.level for finding in report.findings] == ["error", "warning", "warning"]
    assert str(heat(name="heat").check()) == "heat: nothing to report."
    assert not heat().check()


def test_logarithm_of_a_negative_coefficient_is_found():
    (finding,) = heat(equation=Eq(u.diff(t), u.diff(x, 2) + log(x - 3))).check().warnings
    assert finding.code == "not real"


def test_messages_do_not_depend_on_the_names_of_the_user():
    s, q = coordinates("s q")
    phi = field("phi", s, q)
    problem = Problem([phi.diff(s, 2) - phi.diff(q, 2)], {s: (0, 1), q: (0, 1)}, [Eq(phi.subs(s, 0), q)], time=s)
    (finding,) = problem.check().errors
    assert finding.remedy == "Add `Eq(phi.diff(s).subs(s, 0), ...)`."


def test_a_logarithm_of_the_field_is_no_zero_solution():
    """log(0) is not a number of sympy's printers: the check must pass over it, not fail."""
    x = coordinates("x")
    u = field("u", x)
    problem = Problem([Eq(u * u.diff(x, 2) + log(u), 0)], {x: (0, 1)}, [Eq(u.subs(x, 0), 1), Eq(u.subs(x, 1), 2)])
    assert not [f for f in problem.check().findings if f.code == "zero solution"]


def test_a_jump_in_the_leading_coefficient_is_warned_of():
    """sympy differentiates a step to zero, so the flux condition at the jump is lost without a word."""
    x = coordinates("x")
    u = field("u", x)
    ends = [Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)]

    def codes(k):
        problem = Problem([Eq((k * u.diff(x)).diff(x), -1)], {x: (0, 1)}, ends)
        return [f.code for f in problem.check().findings]

    assert codes(Piecewise((1, x < Rational(1, 2)), (10, True))) == ["jump"]
    assert codes(Piecewise((1 + x, x < Rational(1, 2)), (2 - x, True))) == []
