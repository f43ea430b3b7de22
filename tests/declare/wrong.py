"""Wrong declarations, each with the reason why it is wrong as its name: the data of `test_messages.py`."""

import numpy as np
import sympy
from sympy import And, Eq, Function, I, Integral, Symbol, oo, pi, sin

from pinnflow import (
    Ball,
    Bounds,
    Condition,
    Gaussian,
    Observations,
    Points,
    Problem,
    coordinates,
    div,
    dot,
    field,
    grad,
    laplacian,
    norm_squared,
    normal_derivative,
)

t, x, y = coordinates("t x y")
z = coordinates("z", 3)
u = field("u", t, x)
v = field("v", t, x)
c = Symbol("c", real=True)
plain = Symbol("x")
WAVE = Eq(u.diff(t, 2), 4 * u.diff(x, 2))
HEAT = Eq(u.diff(t), u.diff(x, 2))
AT_REST = [Eq(u.subs(t, 0), sin(pi * x)), Eq(u.diff(t).subs(t, 0), 0)]
ENDS = [Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)]
BOX = {t: (0, 1), x: (0, 1)}


def wave(*conditions, **changes):
    """The wave equation with an initial value and the given further conditions."""
    return Problem(**{"equations": [WAVE], "domain": BOX, "conditions": [AT_REST[0], *conditions], **changes})


def heat(**changes):
    """The heat equation with all it needs."""
    return Problem(**{"equations": [HEAT], "domain": BOX, "conditions": [AT_REST[0], *ENDS], **changes})


CASES = {
    # conditions that sympy has decided
    "a velocity pinned before it is differentiated": lambda: wave(Eq(u.subs(t, 0).diff(t), 0), *ENDS),
    "a velocity pinned before it is differentiated, with data": lambda: wave(Eq(u.subs(t, 0).diff(t), sin(x)), *ENDS),
    "a wall pinned before it is differentiated, nothing missing": lambda: heat(
        conditions=[AT_REST[0], ENDS[0], Eq(u.subs(x, 1).diff(x), 0)]
    ),
    "a comparison instead of an equation": lambda: wave(u.diff(t).subs(t, 0) == 0, *ENDS),
    "an equation that is an identity": lambda: Problem([Eq(u, u), WAVE], BOX),
    "an inequality": lambda: wave(u.subs(x, 0) > 0),
    "a condition without a field": lambda: wave(Eq(sin(x), 0, evaluate=False)),
    "an equation without a field": lambda: Problem([WAVE, Eq(x, t)], BOX),
    "text": lambda: wave("u(0) = 0"),
    "a list as a condition": lambda: wave([Eq(u.subs(x, 0), 0)]),
    "a condition among the equations": lambda: Problem([WAVE, Condition(ENDS[0])], BOX),
    "text instead of a list": lambda: Problem("u_tt = u_xx", BOX),
    "no equation": lambda: Problem([], BOX),
    "several mistakes at once": lambda: Problem(
        [WAVE, True], {t: (0, 1), x: (1, 0)}, [Eq(u.subs(t, 2), 0), *ENDS], exact=c, name="wave"
    ),
    # symbols and functions
    "an undeclared symbol": lambda: heat(equations=[Eq(u.diff(t), c * u.diff(x, 2))]),
    "a namesake of a coordinate": lambda: heat(conditions=[Eq(u.subs(t, 0), sin(plain)), *ENDS]),
    "a namesake inside a field": lambda: heat(conditions=[Eq(Function("u")(0, plain), 0), *ENDS]),
    "a namesake of a field": lambda: heat(conditions=[Eq(Function("u", real=True)(0, x), 0), *ENDS]),
    "a plain symbol as a coordinate": lambda: Problem([Eq(Function("u")(plain).diff(plain), 1)], {plain: (0, 1)}),
    "an integer coordinate": lambda: Problem([HEAT], {t: (0, 1), x: (0, 1), Symbol("n", integer=True): (0, 3)}),
    "a positive coordinate with a negative interval": lambda: Problem(
        [Eq(Function("u")(Symbol("r", positive=True)).diff(Symbol("r", positive=True)), 1)],
        {Symbol("r", positive=True): (-1, 1)},
    ),
    "two coordinates with one name": lambda: Problem([HEAT], {**BOX, Symbol("x", positive=True): (1, 2)}),
    "arguments in another order": lambda: heat(conditions=[Eq(Function("u")(x, t).subs(t, 0), 0), *ENDS]),
    "arguments in another order, unpinned": lambda: Problem([HEAT, Eq(Function("u")(x, t), 0)], BOX),
    "a field with fewer arguments": lambda: heat(conditions=[Eq(Function("u")(x), 0), *ENDS]),
    "a field that no equation has": lambda: heat(conditions=[Eq(v.subs(t, 0), 0), *ENDS]),
    "a function of a field": lambda: heat(equations=[Eq(u.diff(t), Function("f")(u))]),
    "a coordinate and a field with one name": lambda: Problem([Eq(Function("x")(t, x).diff(t), 0)], BOX),
    "a delayed argument": lambda: heat(equations=[Eq(u.diff(t), Function("u")(t - 1, x))]),
    "a scaled argument": lambda: heat(equations=[Eq(u.diff(t), Function("u")(t, 2 * x).diff(x))]),
    "a moving place": lambda: wave(Eq(u.subs(x, t / 2), 0)),
    # places
    "a pin outside the domain": lambda: heat(conditions=[AT_REST[0], ENDS[0], Eq(u.subs(x, 2), 0)]),
    "no pin": lambda: heat(conditions=[AT_REST[0], Eq(u, 0)]),
    "data that are not pinned": lambda: heat(conditions=[AT_REST[0], ENDS[0], Eq(u.subs(x, 1), x * t)]),
    "a complex pin": lambda: heat(conditions=[AT_REST[0], ENDS[0], Eq(u.subs(x, 1 + I), 0)]),
    "on a curve": lambda: heat(conditions=[AT_REST[0], Condition(Eq(u, 0), on=Eq(x**2 + t**2, 1))]),
    "on a part of a face": lambda: heat(conditions=[AT_REST[0], Condition(Eq(u, 0), on=And(Eq(x, 1), t > 0.5))]),
    "on a misspelt boundary": lambda: heat(conditions=[AT_REST[0], Condition(Eq(u, 0), on="border")]),
    "on a list": lambda: heat(conditions=[AT_REST[0], Condition(Eq(u, 0), on=[x, 1])]),
    "on a coordinate that is none": lambda: heat(conditions=[AT_REST[0], Condition(Eq(u, 0), on={y: 1})]),
    "on a boundary that is not there": lambda: Problem(
        [Eq(field("w", t).diff(t), 1)], {t: (0, 1)}, [Condition(Eq(field("w", t), 0), on="boundary")]
    ),
    "a normal derivative nowhere": lambda: heat(conditions=[AT_REST[0], Eq(normal_derivative(u), 0)]),
    "a normal derivative inside": lambda: heat(
        conditions=[AT_REST[0], Condition(Eq(normal_derivative(u), 0), on={x: 0.5})]
    ),
    "two conditions with one name": lambda: heat(
        conditions=[Condition(AT_REST[0], name="edge"), Condition(ENDS[0], name="edge"), ENDS[1]]
    ),
    "a name of another statement": lambda: heat(conditions=[Condition(AT_REST[0], name="equation 1"), *ENDS]),
    "a negative weight": lambda: heat(conditions=[Condition(AT_REST[0], weight=-1), *ENDS]),
    # numbers
    "the imaginary unit": lambda: heat(equations=[Eq(I * u.diff(t), u.diff(x, 2))]),
    "an infinite coefficient": lambda: heat(equations=[Eq(u.diff(t) + sympy.zoo * u, 0, evaluate=False)]),
    "data that divide by zero": lambda: heat(conditions=[Condition(Eq(u, 1 / x), on={x: 0}), AT_REST[0], ENDS[1]]),
    "an array as data": lambda: heat(conditions=[Eq(u.subs(t, 0), sympy.Array([1, 2])), *ENDS]),
    "an integral": lambda: heat(equations=[Eq(u.diff(t), Integral(u, (x, 0, 1)))]),
    "a symbolic order": lambda: heat(equations=[Eq(u.diff(t), u.diff((x, Symbol("n", integer=True, positive=True))))]),
    # ranks
    "a vector equation": lambda: Problem([Eq(grad(u, x), grad(v, x))], BOX),
    "a vector equals a scalar": lambda: Problem([Eq(grad(u, x), u)], BOX),
    "a scaled gradient plus a scalar": lambda: Problem([Eq(2 * grad(u, x) + u, 0)], BOX),
    "a vector coordinate as a scalar": lambda: Problem(
        [Eq(field("p", t, z).diff(t), sin(z) * laplacian(field("p", t, z), z))], {t: (0, 1), z: (0, 1)}
    ),
    "a matrix equation": lambda: Problem([Eq(sympy.Matrix([u, v]), sympy.Matrix([v, u]))], BOX),
    # domain, unknowns, observations, exact
    "no domain": lambda: Problem([HEAT], {}),
    "a domain that is a list": lambda: Problem([HEAT], [(0, 1), (0, 1)]),
    "a name as a coordinate": lambda: Problem([HEAT], {"t": (0, 1), x: (0, 1)}),
    "an interval of one number": lambda: Problem([HEAT], {t: 1, x: (0, 1)}),
    "an interval of symbols": lambda: Problem([HEAT], {t: (0, c), x: (0, 1)}),
    "an empty interval": lambda: Problem([HEAT], {t: (1, 0), x: (0, 1)}),
    "an interval of no length": lambda: Problem([HEAT], {t: (1, 1), x: (0, 1)}),
    "an unbounded interval": lambda: Problem([HEAT], {t: (0, 1), x: (-oo, oo)}),
    "a ball": lambda: Problem([HEAT], {t: (0, 1), x: Ball(1)}),
    "a distribution": lambda: Problem([HEAT], {t: (0, 1), x: Gaussian(0, 1)}),
    "a cloud of points": lambda: Problem([HEAT], {t: (0, 1), x: Points(np.zeros((3, 1)))}),
    "a region": lambda: heat(where=x**2 + t**2 < 1),
    "a time that is none": lambda: heat(time=y),
    "unknowns without values": lambda: heat(unknowns=[c]),
    "an unknown that is not used": lambda: heat(unknowns={c: 1}),
    "an unknown without a number": lambda: heat(equations=[Eq(u.diff(t), c * u.diff(x, 2))], unknowns={c: "one"}),
    "an unknown that is a field": lambda: heat(unknowns={u: 1}),
    "an unknown that is called like a field": lambda: heat(unknowns={Symbol("u"): 1}),
    "an unknown that is a coordinate": lambda: heat(unknowns={x: 1}),
    "empty bounds": lambda: Bounds(1, 0),
    "infinite bounds": lambda: Bounds(0, float("inf")),
    "bounds that are no numbers": lambda: Bounds(0, c),
    "something else than observations": lambda: heat(observations=[(u, 1)]),
    "observations without a coordinate": lambda: heat(observations=[Observations(u, {t: [0.5]}, [1])]),
    "observations at another coordinate": lambda: heat(observations=[Observations(u, {t: [0.5], x: 0, y: 0}, [1])]),
    "observations of other shapes": lambda: heat(observations=[Observations(u, {t: [0.5, 0.6], x: 0}, [1, 2, 3])]),
    "observations outside": lambda: heat(observations=[Observations(u, {t: [0.5, 1.5], x: 0}, [1, 2])]),
    "observations of no field": lambda: heat(observations=[Observations(x, {x: [0.5]}, [1])]),
    "observations that are not finite": lambda: Observations(u, {t: [0.5], x: [0.5]}, [np.nan]),
    "observations that are no numbers": lambda: Observations(u, {t: ["noon"], x: [0.5]}, [1]),
    "observations without places": lambda: Observations(u, [0.5], [1]),
    "observations with noise zero": lambda: Observations(u, {t: [0.5], x: [0.5]}, [1], noise=0),
    "an exact solution for two fields": lambda: Problem([HEAT, Eq(v.diff(t), u)], BOX, exact=x),
    "an exact solution of another field": lambda: heat(exact={v: x}),
    "an exact solution with a stranger": lambda: heat(exact=c * x),
    "an exact solution that is text": lambda: heat(exact="x"),
    # operators and symbols
    "an operator without axes": lambda: laplacian(u),
    "an operator with a number as axis": lambda: grad(u, 1),
    "an operator with one axis twice": lambda: grad(u, x, x),
    "an operator with mixed axes": lambda: grad(field("p", x, z), x, z),
    "the divergence of a scalar": lambda: div(u, x),
    "the Laplacian of a vector": lambda: laplacian(grad(u, x), x),
    "the product of two scalars as vectors": lambda: dot(u, v),
    "the length of a scalar": lambda: norm_squared(u),
    "vectors of different lengths": lambda: dot([u, v], grad(u, x)),
    "a gradient plus a number": lambda: grad(u, x) + 1,
    "a gradient squared": lambda: grad(u, x) ** 2,
    "a vector squared": lambda: z**2,
    "a vector plus a scalar": lambda: z + x,
    "a scalar minus a vector": lambda: 1 - z,
    "a derivative by a vector": lambda: field("p", z).diff(z),
    "a function of a vector": lambda: sin(z).diff(z[0]),
    "coordinates without a name": lambda: coordinates(""),
    "coordinates with one name twice": lambda: coordinates("x x"),
    "a vector without a dimension": lambda: coordinates("z", 0),
    "a field without coordinates": lambda: field("u"),
}
