"""A solution as a function: names, broadcasting, bounds, expressions; and what it says of itself."""

import copy
import math

import numpy as np
import pytest
from sympy import Eq, Function, Matrix, Rational, Symbol, cos, erf, pi, sin, symbols

from pinnflow.declare.operators import grad, hessian, laplacian, norm_squared
from pinnflow.declare.problem import Problem
from pinnflow.declare.symbols import coordinates
from pinnflow.errors import MissingName, NonFinite, OutsideDomain, UnknownName
from pinnflow.solution import evaluation
from pinnflow.solution.solution import Estimate

t, x = symbols("t x", real=True)
u = Function("u")(t, x)


def exact(t, x):
    return np.sin(np.pi * x) * np.cos(2 * np.pi * t)


def test_scalars_give_a_float(wave):
    value = wave(t=0.3, x=0.1)
    assert isinstance(value, float)
    assert value == pytest.approx(exact(0.3, 0.1), rel=1e-14)


@pytest.mark.parametrize(
    "shapes", [((), (4,)), ((3, 1), (1, 4)), ((2, 3), ()), ((1,), (5,)), ((0,), ()), ((2, 1, 1), (3, 2))]
)
def test_coordinates_broadcast_like_numpy(wave, shapes):
    rng = np.random.default_rng(0)
    a, b = (rng.random(shape) for shape in shapes)
    values = wave(x=b, t=a)
    assert np.shape(values) == np.broadcast_shapes(*shapes)
    np.testing.assert_allclose(values, exact(a, b), rtol=1e-12, atol=1e-15)


def test_lists_integers_and_exact_numbers_are_taken(wave):
    np.testing.assert_allclose(wave(t=1, x=[0, Rational(1, 2), pi / 4]), exact(1, np.array([0, 0.5, np.pi / 4])))


def test_large_inputs_are_evaluated_in_chunks(wave):
    places = np.linspace(0, 1, 3 * evaluation.CHUNK + 1)
    values = wave(t=0.5, x=places)
    assert values.shape == places.shape
    assert wave.trial.largest == evaluation.CHUNK
    np.testing.assert_allclose(wave.evaluate(u**2, {t: 0.5, x: places}), values**2, rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": 0.1}, MissingName, "`t` is missing; the coordinates are `t`, `x`. Write `solution(t=..., x=...)`"),
        ({"t": 0, "x": 0, "y": 0}, UnknownName, "There is no coordinate `y`. Choose one of: t, x."),
        ({"t": 1.5, "x": 0}, OutsideDomain, "`t` = 1.5 is above its bound 1.0"),
        ({"t": 0, "x": [0.5, -0.25]}, OutsideDomain, "`x` = -0.25 is below its bound 0.0"),
        ({"t": [0, 1], "x": [0, 0.5, 1]}, ValueError, "t (2,), x (3,). For a grid write"),
        ({"t": [0, math.nan], "x": 0}, ValueError, "`t` has 1 NaN among its 2 values"),
        ({"t": 1j, "x": 0}, ValueError, "`t` takes real numbers"),
        ({"t": "now", "x": 0}, ValueError, "`t` takes real numbers"),
    ],
)
def test_wrong_coordinates_are_named(wave, arguments, error, words):
    with pytest.raises(error) as caught:
        wave(**arguments)
    assert words in str(caught.value)


def test_rounding_at_a_bound_is_allowed_and_clipped(wave):
    assert wave(t=0, x=1 + 1e-13) == wave(t=0, x=1)
    with pytest.raises(OutsideDomain):
        wave(t=0, x=1 + 1e-9)


def test_a_coordinate_may_be_called_self(solved):
    axis = Symbol("self", real=True)
    f = Function("f")(axis)
    solution = solved(Problem([Eq(f.diff(axis), 1)], {axis: (0, 1)}, [Eq(f.subs(axis, 0), 0)], exact={f: axis}))
    assert solution(self=0.25) == 0.25


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (u, lambda t, x: exact(t, x)),
        (u.diff(x) ** 2 + t, lambda t, x: (np.pi * np.cos(np.pi * x) * np.cos(2 * np.pi * t)) ** 2 + t),
        (u.diff(t, 2) - 4 * u.diff(x, 2), lambda t, x: 0 * x * t),
        (u.subs(x, Rational(1, 2)) * x, lambda t, x: np.cos(2 * np.pi * t) * x),
        (u.diff(x).subs(x, 0) + u.subs(t, 0), lambda t, x: np.pi * np.cos(2 * np.pi * t) + np.sin(np.pi * x)),
        ((u * u.diff(x)).diff(x) - u.diff(x) ** 2 - u * u.diff(x, 2), lambda t, x: 0 * x * t),
        (erf(u), lambda t, x: np.vectorize(math.erf)(exact(t, x))),
        (x * t + 1, lambda t, x: x * t + 1),
    ],
)
def test_any_expression_can_be_evaluated(wave, expression, value):
    a, b = np.linspace(0, 1, 5)[:, None], np.linspace(0, 1, 7)
    np.testing.assert_allclose(wave.evaluate(expression, {t: a, "x": b}), value(a, b), atol=1e-11)


def test_an_expression_needs_only_the_coordinates_it_depends_on(wave):
    np.testing.assert_allclose(wave.evaluate(u.subs(t, 0), {x: [0.5, 0.25]}), [1, np.sqrt(0.5)])
    assert wave.evaluate(u.subs({t: 0, x: Rational(1, 2)}), {}) == pytest.approx(1)
    assert wave.evaluate(2 * pi, {}) == pytest.approx(2 * np.pi)
    with pytest.raises(MissingName, match="`x` is missing"):
        wave.evaluate(u.subs(t, 0), {})


def test_vectors_matrices_and_lists_keep_their_shape(wave):
    at = {t: 0.3, x: np.linspace(0, 1, 4)}
    vector = wave.evaluate(Matrix([u.diff(t), u.diff(x)]), at)
    assert vector.shape == (4, 2)
    np.testing.assert_array_equal(vector[:, 1], wave.evaluate(u.diff(x), at))
    matrix = wave.evaluate(Matrix([[u, 2 * u, 3], [0, x, t]]), at)
    assert matrix.shape == (4, 2, 3)
    np.testing.assert_array_equal(matrix[:, 1, 1], at[x])
    first, second = wave.evaluate([u, x], at)
    np.testing.assert_array_equal(first, matrix[:, 0, 0])
    np.testing.assert_array_equal(second, at[x])


def test_vector_operators_are_evaluated(solution_of):
    poisson = solution_of("poisson")
    y = Symbol("y", real=True)
    w = Function("u")(x, y)
    at = {x: np.linspace(0, 1, 4)[:, None], y: np.linspace(0, 1, 3)}
    slope_x, slope_y = poisson.evaluate([w.diff(x), w.diff(y)], at)
    gradient = poisson.evaluate(grad(w, x, y), at)
    assert gradient.shape == (4, 3, 2)
    np.testing.assert_array_equal(gradient, np.stack([slope_x, slope_y], axis=-1))
    np.testing.assert_allclose(poisson.evaluate(norm_squared(grad(w, x, y)), at), slope_x**2 + slope_y**2)
    trace = np.trace(poisson.evaluate(hessian(w, x, y), at), axis1=-2, axis2=-1)
    np.testing.assert_allclose(poisson.evaluate(laplacian(w, x, y), at), trace)
    np.testing.assert_allclose(trace, -5 * np.pi**2 * poisson(x=at[x], y=at[y]))


def test_vector_coordinates_take_arrays_of_points(solved):
    """u = t + |z|^2 solves u_t = laplacian(u)/6 in three dimensions."""
    z = coordinates("z", 3)
    v = Function("v")(t, z)
    squares = sum(c**2 for c in z.components)
    faces = [Eq(v.subs(t, 0), squares)]
    solution = solved(Problem([Eq(v.diff(t), laplacian(v, z) / 6)], {t: (0, 1), z: (-1, 1)}, faces), [t + squares])
    points = np.random.default_rng(0).uniform(-1, 1, (5, 3))
    times = np.linspace(0, 1, 4)[:, None]
    np.testing.assert_allclose(solution(t=times, z=points), times + np.sum(points**2, axis=-1))
    assert solution(t=0.5, z=[0, 0, 1]) == 1.5
    np.testing.assert_allclose(
        solution.evaluate(grad(v, z), {t: times, z: points}), np.broadcast_to(2 * points, (4, 5, 3))
    )
    np.testing.assert_allclose(solution.evaluate(laplacian(v, z) + z[1], {t: 0, "z": points}), 6 + points[:, 1])
    assert solution.evaluate(v.subs(z[0], 1), {t: 0, z: [0.5, 0, 0]}) == 1
    with pytest.raises(ValueError, match=r"its array has shape \[\.\.\., 3\], not \(2,\)"):
        solution(t=0, z=[0, 1])
    with pytest.raises(OutsideDomain, match=r"`z\[2\]` = 2.0 is above its bound 1.0"):
        solution(t=0, z=[0, 0, 2])


def test_symbols_of_the_same_name_mean_the_same_coordinate(wave):
    other_t, other_x = symbols("t x")
    expression = Function("u")(other_t, other_x).diff(other_x) + other_x
    at = {other_t: 0.3, other_x: 0.2}
    assert wave.evaluate(expression, at) == wave.evaluate(u.diff(x) + x, {t: 0.3, x: 0.2})


@pytest.mark.parametrize(
    ("expression", "error", "words"),
    [
        (u + Symbol("q"), UnknownName, "There is no coordinate or unknown coefficient `q`. Choose one of: t, x."),
        (u.subs(x, 5), OutsideDomain, "`x` = 5.0 is above its bound 1.0"),
        (Function("u")(x, t), ValueError, "`u(x, t)` has `x` in the place of `t`"),
        (Function("v")(x), ValueError, "The fields are `u(t, x)`"),
    ],
)
def test_expressions_without_a_value_are_refused(wave, expression, error, words):
    with pytest.raises(error) as caught:
        wave.evaluate(expression, {t: 0.5, x: 0.5})
    assert words in str(caught.value)


def test_fields_of_a_system_are_called_by_name(system):
    with pytest.raises(MissingName, match=r'write `solution\["u"\]\(t=\.\.\., x=\.\.\.\)`'):
        system(t=0, x=0)
    assert system["u"](t=0, x=0.0) == pytest.approx(2)
    v = system.problem.fields[1]
    assert system[v](t=0.5, x=0.5) == system["v"](t=0.5, x=0.5) == pytest.approx(math.exp(-20) - 1)
    with pytest.raises(UnknownName, match=r"There is no field `w`. Choose one of: u, v\."):
        system["w"]


def test_values_that_are_not_finite_are_refused(solved, wave):
    broken = solved(wave.problem, [1 / (x - Rational(1, 2))])
    with np.errstate(divide="ignore"), pytest.raises(NonFinite, match=r"`u\(t, x\)` is not finite at t=0, x=0.5"):
        broken(t=0, x=0.5)


def test_unknown_coefficients_enter_expressions(solved, wave):
    speed = Symbol("c", real=True)
    known = solved(wave.problem, unknowns={speed: Estimate(4.0, standard_error=0.1)})
    at = {t: 0.3, x: 0.2}
    assert known.evaluate(speed * u + 1, at) == pytest.approx(4 * known(t=0.3, x=0.2) + 1)
    assert float(known.unknowns[speed]) == 4.0
    assert known.unknowns[speed].interval == pytest.approx((4 - 0.196, 4 + 0.196), abs=1e-4)
    assert f"{known.unknowns[speed]:.2f}" == "4.00"
    assert "95 %: 3.804" in str(known)


def test_a_solution_cannot_be_changed(wave):
    with pytest.raises(AttributeError):
        wave.method = "another"
    again = copy.deepcopy(wave)
    assert again(t=0.3, x=0.1) == wave(t=0.3, x=0.1)


def test_the_summary_says_what_how_and_how_well(wave):
    text = repr(wave)
    for words in ("wave", "u(t, x)", "least_squares", "linear", "3.0e-08", "equation 1", "no longer falls"):
        assert words in text
    assert "<table>" in wave._repr_html_()


@pytest.mark.parametrize(
    ("estimate", "settings", "success", "words"),
    [
        (1e-13, {}, True, "below 1e-11"),
        (3e-3, {}, True, "about 3.0e-03 (2 digits)"),
        (0.2, {}, False, "not solved"),
        (0.2, {"solved": True}, True, "about 2.0e-01"),
        (1e-3, {"solved": False}, False, "not solved"),
        (math.nan, {}, False, "no estimate"),
        (math.inf, {}, False, "no estimate"),
    ],
)
def test_success_and_the_words_for_the_error(solved, wave, estimate, settings, success, words):
    solution = solved(wave.problem, error_estimate=estimate, settings=settings)
    assert solution.success is success
    assert words in str(solution)


def test_the_history_is_plain_data(wave):
    assert wave.history[1] == {"elapsed": 0.25, "stage": "grow", "score": 1 / 3}
    assert type(wave.history[1]["elapsed"]) is float


def test_a_field_needs_only_its_own_coordinates(solved):
    k, v = Function("k")(x), Function("v")(t, x)
    problem = Problem(
        [Eq(v.diff(t), k * v.diff(x, 2)), Eq(k.diff(x), 0)],
        {t: (0, 1), x: (0, 1)},
        [Eq(v.subs(t, 0), sin(x)), Eq(v.subs(x, 0), 0), Eq(v.subs(x, 1), 0), Eq(k.subs(x, 0), 1)],
    )
    values = {"k": cos(x), "v": t * x}
    solution = solved(problem, [values[f.func.__name__] for f in problem.fields])
    assert solution["k"](x=0.5) == pytest.approx(math.cos(0.5))
    assert solution.evaluate(k.diff(x), {x: 0.5}) == pytest.approx(-math.sin(0.5))
