"""Residual blocks: the same statement written in several ways is one block, and kinds follow from pins."""

import pickle

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Derivative, Eq, Float, Function, Rational, Subs, Symbol, pi, sin, symbols

from pinnflow import Bounds, Condition, Observations, Problem, coordinates, field, laplacian, normal_derivative
from pinnflow.declare.analysis import Normaliser, periodic_axis
from pinnflow.declare.probe import points_in, values

t, x, y = coordinates("t x y")
u, v = field("u", t, x), field("v", t, x)
HEAT = Eq(u.diff(t), u.diff(x, 2))
BOX = {t: (0, 1), x: (0, pi)}


def part_of(condition, **changes):
    problem = Problem(**{"equations": [HEAT], "domain": BOX, "conditions": [condition], **changes})
    return problem.blocks[-1].parts[0]


SAME = {
    "value": [
        Eq(u.subs(x, 0), t),
        Eq(Function("u")(t, 0), t),
        Eq(Function("u")(t, 0.0), t),
        Eq(Subs(u, x, 0), t),
        Condition(Eq(u, t), on={x: 0}),
        Condition(Eq(u, t), on=Eq(x, 0)),
        Condition(Eq(u, t), on=Eq(2 * x, 0)),
        u.subs(x, 0) - t,
    ],
    "slope at the far end": [
        Eq(u.diff(x).subs(x, pi), 0),
        Eq(u.diff(x).subs(x, 3.14159), 0),
        Eq(u.diff(x).subs(x, Float(pi)), 0),
        Eq(Subs(Derivative(u, x), x, pi), 0),
        Condition(Eq(u.diff(x), 0), on={x: pi}),
        Condition(Eq(normal_derivative(u), 0), on={x: pi}),
    ],
    "second derivative at a corner": [
        Eq(u.diff(x, 2).subs({t: 0, x: pi}), 1),
        Eq(u.diff(x, 2).subs(t, 0).subs(x, pi), 1),
        Eq(u.diff(x, 2).subs(x, pi).subs(t, 0), 1),
        Eq(Function("u")(0, x).diff(x, 2).subs(x, pi), 1),
        Eq(u.diff(x).subs(t, 0).diff(x).subs(x, pi), 1),
    ],
    "mixed derivative": [
        Eq(u.diff(x, t).subs(t, 0), 0),
        Eq(u.diff(t).diff(x).subs(t, 0), 0),
        Eq(u.diff(t).subs(t, 0).diff(x), 0),
    ],
    "inside": [Eq(u.subs(x, 0.5), 0), Eq(u.subs(x, Rational(1, 2)), 0), Condition(u, on={x: 0.5})],
}


@pytest.mark.parametrize(("name", "i"), [(n, i) for n, ways in SAME.items() for i in range(1, len(ways))])
def test_two_ways_of_writing_a_condition_give_the_same_part(name, i):
    assert part_of(SAME[name][0]) == part_of(SAME[name][i])


EQUAL_EQUATIONS = [
    (sympy.Derivative(x * u.diff(x), x), (x * u.diff(x)).diff(x)),
    (Derivative(Derivative(u, x), x), u.diff(x, 2)),
    (Derivative(u**2, x), 2 * u * u.diff(x)),
    (laplacian(u, x), u.diff(x, 2)),
    (sympy.Abs(u).diff(x), sympy.sign(u) * u.diff(x)),
    (sympy.re(u) + sympy.im(u), u),
]


@pytest.mark.parametrize(("one", "other"), EQUAL_EQUATIONS)
def test_two_ways_of_writing_a_term_give_the_same_expression(one, other):
    normaliser = Normaliser((t, x), (u,))
    assert sympy.expand(normaliser(one) - normaliser(other)) == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([t, x, y]), max_size=4),
    # Different places: sympy 1.14 takes u_ttx and u_txx for equal when both axes are pinned at the same number.
    st.dictionaries(st.sampled_from([t, x, y]), st.sampled_from([0, 1, 0.5, pi / 4]), max_size=3).filter(
        lambda pins: len(set(pins.values())) == len(pins)
    ),
    st.permutations([t, x, y]),
)
def test_atoms_do_not_depend_on_the_order_of_differentiation_and_substitution(variables, pins, order):
    w = field("w", t, x, y)
    expression = w.diff(*variables) if variables else w
    at_once = expression.subs(pins)
    one_by_one = expression
    for axis in order:
        if axis in pins:
            one_by_one = one_by_one.subs(axis, pins[axis])
    normaliser = Normaliser((t, x, y), (w,))
    assert normaliser(at_once) == normaliser(one_by_one) == normaliser(expression, pins)
    (atom,) = normaliser.atoms.values()
    assert atom.orders == tuple(variables.count(axis) for axis in (t, x, y))


def test_condition_on_pins_tells_mixed_derivatives_at_one_corner_apart():
    """`Subs` of u_ttx and u_txx at t = x = 0 are equal in sympy; `on=` does not go through `Subs`."""
    corner = {t: 0, x: 0}
    orders = [part_of(Condition(e, on=corner)).atoms[0].orders for e in (u.diff(t, t, x), u.diff(t, x, x))]
    assert orders == [(2, 1), (1, 2)]


KINDS = {
    "initial": Eq(u.subs(t, 0), 0),
    "final": Eq(u.subs(t, 1), 0),
    "boundary": Eq(u.diff(x).subs(x, 0) + 3 * u.subs(x, 0), t),
    "periodic": Eq(u.subs(x, 0), u.subs(x, pi)),
    "point": Eq(u.subs(x, 1), 0),
    "nonlocal": Eq(u.subs(x, 0) + u.subs(x, pi), 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind_follows_from_the_pins(kind):
    problem = Problem([HEAT], BOX, [KINDS[kind]])
    assert problem.blocks[-1].kind == kind


def test_pressure_at_one_place_is_a_point():
    p = field("p", x, y)
    problem = Problem([Eq(laplacian(p, x, y), 1)], {x: (0, 1), y: (0, 1)}, [Eq(p.subs({x: 0, y: 0}), 0)])
    assert problem.blocks[-1].kind == "point"
    assert problem.blocks[-1].parts[0].pins == {x: 0, y: 0}


def test_periodic_axis_is_named():
    assert periodic_axis(part_of(Eq(3 * u.subs(x, 0), 3 * u.subs(x, pi)))) == x
    assert periodic_axis(part_of(Eq(u.diff(x).subs(x, 0), u.diff(x).subs(x, pi)))) == x
    assert periodic_axis(part_of(Eq(u.subs(x, 0), -u.subs(x, pi)))) is None


def test_a_field_of_time_alone_is_sampled_in_time_alone():
    p = field("p", t)
    problem = Problem([HEAT, Eq(p.diff(t), u.subs(x, 0))], BOX, [Eq(p.subs(t, 0), 1)])
    equation, initial = problem.blocks[1].parts[0], problem.blocks[2]
    assert (equation.free, equation.pins) == ((t,), {x: 0})
    assert (initial.kind, initial.parts[0].free, initial.parts[0].pins) == ("initial", (), {t: 0, x: 0})


def test_an_equation_with_a_value_elsewhere_stays_free():
    part = Problem([Eq(u.diff(t), u.diff(x, 2) + u.subs(x, 0))], BOX).blocks[0].parts[0]
    assert part.free == (t, x)
    assert part.pins == {}


def test_boundary_means_every_face_with_the_outward_normal():
    w = field("w", t, x, y)
    problem = Problem(
        [Eq(w.diff(t), laplacian(w, x, y))],
        {t: (0, 1), x: (0, 1), y: (-1, 2)},
        [Condition(Eq(normal_derivative(w), x * y), on="boundary", name="walls", weight=2)],
    )
    block = problem.blocks[-1]
    assert (block.name, block.kind, block.weight) == ("walls", "boundary", 2.0)
    faces = [(p.pins, p.atoms[0].orders, p.expression.coeff(p.atoms[0].symbol)) for p in block.parts]
    assert faces == [
        ({x: 0}, (0, 1, 0), -1),
        ({x: 1}, (0, 1, 0), 1),
        ({y: -1}, (0, 0, 1), -1),
        ({y: 2}, (0, 0, 1), 1),
    ]


def test_boundary_leaves_out_periodic_and_parameter_axes():
    k = coordinates("k")
    w = field("w", t, x, y, k)
    problem = Problem(
        [Eq(w.diff(t), k * laplacian(w, x, y))],
        {t: (0, 1), x: (0, 1), y: (0, 1), k: (1, 2)},
        [Condition(Eq(w, 0), on="boundary"), Eq(w.subs(x, 0), w.subs(x, 1))],
    )
    assert [part.pins for part in problem.blocks[1].parts] == [{y: 0}, {y: 1}]


def test_the_users_own_real_symbols_and_functions_work():
    s, r = symbols("t x", real=True)
    w = Function("u")(s, r)
    assert (s, r, w) == (t, x, u)
    own = Problem([Eq(w.diff(s), w.diff(r, 2))], {s: (0, 1), r: (0, 1)}, [Eq(w.subs(s, 0), sin(r))])
    assert own == Problem([HEAT], {t: (0, 1), x: (0, 1)}, [Eq(u.subs(t, 0), sin(x))])


def test_fields_are_listed_equation_by_equation_and_by_name_within_one():
    a, b, c = (field(name, t, x) for name in "abc")
    problem = Problem([Eq(c.diff(t), b), Eq(a.diff(t), c), Eq(b.diff(t), a)], BOX)
    assert problem.fields == (b, c, a)


def test_an_expression_means_equal_to_zero():
    assert Problem([u.diff(t) - u.diff(x, 2)], BOX).blocks[0].parts == Problem([HEAT], BOX).blocks[0].parts


def test_time_is_the_coordinate_named_t_unless_said_otherwise():
    s = coordinates("s")
    w = field("w", s, x)
    equation = Eq(w.diff(s), w.diff(x, 2))
    assert Problem([HEAT], BOX).time == t
    assert Problem([equation], {s: (0, 1), x: (0, 1)}).time is None
    assert Problem([equation], {s: (0, 1), x: (0, 1)}, time=s).time == s


def test_observations_become_points_and_values():
    problem = Problem(
        [HEAT],
        BOX,
        unknowns={},
        observations=[
            Observations(u, {t: [[0.0], [0.5]], x: [1.0, 2.0, 3.0]}, np.arange(6.0).reshape(2, 3), noise=0.1),
            Observations(u.diff(x).subs(x, 0), {t: [0.25]}, [7.0]),
        ],
    )
    first, second = problem.blocks[-2:]
    points, observed, noise = first.data
    assert (first.kind, first.name) == ("observation", "observation 1")
    assert points.tolist() == [[0, 1], [0, 2], [0, 3], [0.5, 1], [0.5, 2], [0.5, 3]]
    assert observed.tolist() == [0, 1, 2, 3, 4, 5]
    assert noise.tolist() == [0.1] * 6
    assert second.data[0].tolist() == [[0.25, 0.0]]


def test_problem_is_frozen_and_compares_by_content():
    one, other = (Problem([HEAT], BOX, [Eq(u.subs(t, 0), sin(x))], exact=u.subs(t, 0) * 0) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != one.with_(name="heat")
    with pytest.raises(AttributeError, match="cannot be changed"):
        one.name = "heat"


def test_problem_is_rebuilt_from_its_arguments():
    c = Symbol("c", real=True)
    problem = Problem(
        [Eq(u.diff(t), c * u.diff(x, 2))],
        BOX,
        [Condition(Eq(u, 0), on="boundary", name="walls")],
        unknowns={c: Bounds(0, 2)},
        observations=[Observations(u, {t: [0.5], x: [1.0]}, [0.3])],
        exact={Function("u"): sin(x)},
        name="heat",
    )
    assert Problem(**problem.arguments) == problem
    assert pickle.loads(pickle.dumps(problem)) == problem
    assert problem.exact == {u: sin(x)}


def test_with_changes_one_argument_and_refuses_unknown_ones():
    problem = Problem([HEAT], BOX)
    assert problem.with_(domain={t: (0, 2), x: (0, 1)}).bounds == {t: (0.0, 2.0), x: (0.0, 1.0)}
    with pytest.raises(TypeError, match="no argument `colour`; choose from: conditions, domain"):
        problem.with_(colour="red")


def test_latex_shows_every_statement_and_the_domain():
    text = Problem([HEAT], BOX, [Eq(u.subs(t, 0), sin(x)), Condition(Eq(u, 0), on={x: 0})])._repr_latex_()
    for piece in (r"\frac{\partial}{\partial t} u", r"u{\left(0,x \right)}", r"\text{at } x = 0", r"\pi\right]"):
        assert piece in text


def test_points_lie_in_the_domain_and_include_both_corners():
    points = points_in(Problem([HEAT], BOX), 200)
    assert points.shape == (200, 2)
    assert (points >= 0).all()
    assert (points <= [1, np.pi]).all()
    assert points[:2].tolist() == [[0, 0], [1, np.pi]]


def test_values_are_nan_where_an_expression_is_not_real():
    problem = Problem([HEAT], BOX)
    found = values(sympy.sqrt(x - 1), problem, np.array([[0, 0.5], [0, 2.0]]))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1.0)


def test_navier_stokes_is_declared_and_checked_in_a_third_of_a_second():
    """Best of three, so that a busy machine does not decide."""
    import time

    a, b, p = (field(name, t, x, y) for name in "abp")

    def build():
        start = time.perf_counter()
        advect = [w.diff(t) + a * w.diff(x) + b * w.diff(y) - laplacian(w, x, y) / 100 for w in (a, b)]
        Problem(
            [advect[0] + p.diff(x), advect[1] + p.diff(y), a.diff(x) + b.diff(y)],
            {t: (0, 1), x: (0, 1), y: (0, 1)},
            [Eq(a.subs(t, 0), 0), Eq(b.subs(t, 0), 0), Condition(a, on="boundary"), Condition(b, on="boundary")],
        ).check()
        return time.perf_counter() - start

    assert min(build() for _ in range(3)) < 0.3
