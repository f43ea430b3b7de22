"""Orders, linearity, evolution form and type of whole problems."""

import pytest
import sympy
from sympy import Eq, Rational, cos, exp, sin

import pdes
from pinnflow import Condition, Problem, coordinates, field, laplacian
from pinnflow.declare.structure import (
    equation_type,
    evolution_form,
    fields_reached,
    orders_of,
    parameter_axes,
    periodic_axes,
    problem_is_linear,
    time_order,
)

t, x, y = coordinates("t x y")
u, v, p = field("u", t, x), field("v", t, x), field("p", t, x)
BOX = {t: (0, 1), x: (0, 1)}


def plane(equation):
    return Problem([equation], {x: (-1, 1), y: (-1, 1)})


@pytest.mark.parametrize(
    ("name", "linear"),
    [("wave", True), ("heat", True), ("helmholtz", True), ("burgers", False), ("klein_gordon", False)],
)
def test_linearity_of_known_equations(name, linear):
    assert problem_is_linear(pdes.ALL[name]()) is linear


def test_linearity_is_joint_in_all_fields_and_includes_conditions():
    assert problem_is_linear(Problem([u.diff(t) - v, v.diff(t) - sin(x) * u], BOX))
    assert not problem_is_linear(Problem([u.diff(t) - v, v.diff(t) - u * v], BOX))
    assert not problem_is_linear(Problem([u.diff(t) - u.diff(x, 2)], BOX, [Eq(u.subs(x, 0) ** 2, 1)]))
    assert problem_is_linear(Problem([(1 + u) ** 2 - (1 - u) ** 2 - u.diff(t)], BOX))


def test_orders_per_axis():
    problem = Problem([u.diff(t, 2) + u.diff(x, 4) + u.diff(x, x, t) - v, v.diff(x) - u], BOX)
    assert orders_of(problem, u) == {t: 2, x: 4}
    assert orders_of(problem, v) == {t: 0, x: 1}
    assert (time_order(problem, u), time_order(problem, v)) == (2, 0)


def test_axes():
    k = coordinates("k")
    w = field("w", t, x, k)
    problem = Problem([w.diff(t) - k * w.diff(x, 2)], {**BOX, k: (1, 2)}, [Eq(w.subs(x, 0), w.subs(x, 1))])
    assert (parameter_axes(problem), periodic_axes(problem)) == ((k,), (x,))


def test_an_axis_is_periodic_only_if_all_fields_are_and_nothing_else_stands_on_it():
    equations = [u.diff(t) - v.diff(x), v.diff(t) - u.diff(x)]
    tie = [Eq(f.subs(x, 0), f.subs(x, 1)) for f in (u, v)]
    assert periodic_axes(Problem(equations, BOX, tie)) == (x,)
    assert periodic_axes(Problem(equations, BOX, tie[:1])) == ()
    assert periodic_axes(Problem(equations, BOX, [*tie, Eq(u.subs(x, 0), 0)])) == ()


def test_evolution_form_solves_for_the_highest_time_derivatives():
    problem = Problem([u.diff(t, 2) / 4 - (1 + x**2) * u.diff(x, 2) + u**3 + u.diff(t), v.diff(t) + u * v], BOX)
    form = evolution_form(problem)
    value = {a.symbol.name: a.symbol for b in problem.blocks for part in b.parts for a in part.atoms}
    uu, ut, uxx, vv = (value[n] for n in ("u[0,0]", "u[1,0]", "u[0,2]", "v[0,0]"))
    assert [order for order, _ in form.values()] == [2, 1]
    assert sympy.expand(form[u][1] - 4 * ((1 + x**2) * uxx - uu**3 - ut)) == 0
    assert form[v][1] == -uu * vv


def test_evolution_form_of_coupled_rates():
    problem = Problem([u.diff(t) + v.diff(t) - u, u.diff(t) - v.diff(t) - v], BOX)
    form = evolution_form(problem)
    value = {a.symbol.name: a.symbol for b in problem.blocks for part in b.parts for a in part.atoms}
    half = Rational(1, 2)
    assert sympy.expand(form[u][1] - half * (value["u[0,0]"] + value["v[0,0]"])) == 0
    assert sympy.expand(form[v][1] - half * (value["u[0,0]"] - value["v[0,0]"])) == 0


@pytest.mark.parametrize(
    ("equations", "reason"),
    [
        ([u.diff(t) + p.diff(x), u.diff(x)], "no equation differentiates `p(t, x)` in `t`"),
        ([u.diff(t) - u.diff(x, x, t)], "the highest time derivative of `u(t, x)` is also differentiated in space"),
        ([u.diff(t) ** 2 - 1], "an equation is not linear in the highest time derivatives"),
        ([u.diff(t) - u.subs(x, 0)], "`u(t, x)` is related to its values at another place"),
        (
            [u.diff(t) - v.diff(t), u.diff(t) - v.diff(t) + u],
            "the equations do not determine all highest time derivatives",
        ),
        ([u.diff(t) - v.diff(t)], "there are 1 equations for 2 fields"),
    ],
)
def test_evolution_form_says_why_there_is_none(equations, reason):
    assert evolution_form(Problem(equations, BOX)) == reason


def test_evolution_form_needs_time():
    w = field("w", x, y)
    assert evolution_form(plane(laplacian(w, x, y))) == "there is no time coordinate"


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda w: laplacian(w, x, y) - 1, "elliptic"),
        (lambda w: w.diff(x, 2) - w.diff(y, 2), "hyperbolic"),
        (lambda w: w.diff(x, y), "hyperbolic"),
        (lambda w: w.diff(x) - w.diff(y, 2), "parabolic"),
        (lambda w: w.diff(x, 2) + 2 * w.diff(x, y) + w.diff(y, 2), "degenerate"),
        (lambda w: exp(x) * w.diff(x, 2) + (2 + cos(y)) * w.diff(y, 2) + w.diff(x, y) / 9, "elliptic"),
        (lambda w: y * w.diff(x, 2) + w.diff(y, 2), "hyperbolic in 53 %, elliptic in 47 % of the domain"),
        (lambda w: w.diff(x, 4) + w.diff(y, 2), None),
        (lambda w: w * w.diff(x, 2) + w.diff(y, 2), None),
    ],
)
def test_type_of_second_order_equations(make, kind):
    problem = plane(make(field("w", x, y)))
    assert equation_type(problem, problem.blocks[0]) == kind


def test_observations_reach_through_coupled_equations():
    from pinnflow import Observations

    seen = [Observations(u, {t: [0.5], x: [0.5]}, [1.0])]
    problem = Problem([u.diff(t) - v, v.diff(t) - u, p.diff(t) - 1], BOX, [Condition(p, on={t: 0})], observations=seen)
    assert fields_reached(problem) == {u, v}
