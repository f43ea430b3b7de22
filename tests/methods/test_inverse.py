"""Unknown coefficients from observations: values, intervals, and what is said when they are not determined."""

import math

import numpy as np
import pytest
import sympy
from sympy import Eq, Rational, exp, pi, sin, sqrt

from pinnflow import Bounds, Observations, Problem, coordinates, field
from pinnflow.methods.base import Clock, Task
from pinnflow.methods.unknowns import Coefficients, certainty, fixed

t, x = coordinates("t x")
k, a, b = sympy.symbols("k a b", real=True)


def decay(rng, noise=0.02, rate=0.7, known=True, start=True):
    """v' = -k v, v(0) = a: v = 2 exp(-0.7 t), with 40 measured values."""
    v = field("v", t)
    times = np.linspace(0, 3, 40)
    values = 2 * np.exp(-rate * times) + noise * rng.normal(size=40)
    conditions = [Eq(v.subs(t, 0), a)] if start else []
    unknowns = {k: Bounds(0.01, 10), a: 1.0} if start else {k: Bounds(0.01, 10)}
    return Problem(
        [Eq(v.diff(t), -k * v)],
        {t: (0, 3)},
        conditions,
        unknowns=unknowns,
        observations=[Observations(v, {t: times}, values, noise if known else None)],
    )


def heat(coefficient, unknowns, points=60):
    """u_t = 0.3 u_xx from sin(pi x), with `coefficient` written for 0.3."""
    u = field("u", t, x)
    rng = np.random.default_rng(0)
    moments, places = rng.uniform(0, 1, (2, points))
    values = np.exp(-0.3 * np.pi**2 * moments) * np.sin(np.pi * places)
    return Problem(
        [Eq(u.diff(t), coefficient * u.diff(x, 2))],
        {t: (0, 1), x: (0, 1)},
        [Eq(u.subs(t, 0), sin(pi * x)), Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)],
        unknowns=unknowns,
        observations=[Observations(u, {t: moments, x: places}, values)],
    )


def test_exact_values_give_the_coefficient_of_a_heat_equation():
    """u = exp(-0.3 pi^2 t) sin(pi x)."""
    solution = heat(k, {k: 1.0}).fit(progress=False, time_limit=30)
    assert solution.method == "inverse"
    assert float(solution.unknowns[k]) == pytest.approx(0.3, rel=1e-7)
    assert solution.success


def test_standard_errors_are_those_of_the_cramer_rao_bound():
    """The sensitivities of 2 exp(-k t) are known: -2 t exp(-k t) and exp(-k t)."""
    noise, times = 0.02, np.linspace(0, 3, 40)
    jacobian = np.stack([-2 * times * np.exp(-0.7 * times), np.exp(-0.7 * times)], axis=1) / noise
    bound = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))
    rng = np.random.default_rng(1)
    scaled = []
    for _ in range(8):
        solution = decay(rng, noise).fit(progress=False)
        found = [solution.unknowns[k], solution.unknowns[a]]
        assert [f.standard_error for f in found] == pytest.approx(bound, rel=0.1)
        scaled.append((np.array([float(f) for f in found]) - (0.7, 2.0)) / bound)
    # Root mean square of 16 standard normal numbers: within 0.5 and 1.6 in more than 99.9 % of cases.
    assert 0.5 < np.sqrt(np.mean(np.square(scaled))) < 1.6


def test_the_rate_of_a_nonlinear_evolution_is_found_on_a_basis_that_stays():
    """Fisher's wave (1 + exp((x - 5 t / sqrt 6) / sqrt 6))^-2 has rate 1."""
    u, p = field("u", t, x), sympy.symbols("p", real=True)
    exact = (1 + exp((x - 5 * t / sqrt(6)) / sqrt(6))) ** -2
    rng = np.random.default_rng(0)
    place = {t: rng.uniform(0, 1, 30), x: rng.uniform(-2, 2, 30)}
    values = sympy.lambdify((t, x), exact)(*place.values())
    problem = Problem(
        [Eq(u.diff(t), u.diff(x, 2) + p * u * (1 - u))],
        {t: (0, 1), x: (-2, 2)},
        [Eq(u.subs(t, 0), exact.subs(t, 0)), *(Eq(u.subs(x, end), exact.subs(x, end)) for end in (-2, 2))],
        unknowns={p: Rational(1, 2)},
        observations=[Observations(u, place, values)],
    )
    solution = problem.fit(progress=False, time_limit=60)
    assert float(solution.unknowns[p]) == pytest.approx(1, rel=1e-7)
    assert "integration in time" in solution.reason


def test_noise_is_estimated_from_the_residuals_where_it_is_not_given():
    known = decay(np.random.default_rng(2), known=True).fit(progress=False)
    guessed = decay(np.random.default_rng(2), known=False).fit(progress=False)
    assert float(guessed.unknowns[k]) == pytest.approx(float(known.unknowns[k]), rel=1e-4)
    assert guessed.unknowns[k].standard_error == pytest.approx(known.unknowns[k].standard_error, rel=0.4)


def test_a_product_of_two_coefficients_is_reported_as_not_determined():
    solution = heat(a * b, {a: 0.5, b: 0.5}).fit(progress=False, time_limit=30)
    assert float(solution.unknowns[a]) * float(solution.unknowns[b]) == pytest.approx(0.3, rel=1e-6)
    assert math.isinf(solution.unknowns[a].standard_error) and math.isinf(solution.unknowns[b].standard_error)
    assert "do not determine a, b" in solution.stop


def test_a_coefficient_that_ends_at_its_bound_is_named():
    problem = decay(np.random.default_rng(0)).with_(unknowns={k: Bounds(0.8, 2.0), a: 1.0})
    solution = problem.fit(progress=False, time_limit=20, method="inverse")
    assert float(solution.unknowns[k]) == pytest.approx(0.8)
    assert "k ended at its bound" in solution.reason


def test_an_initial_state_need_not_be_declared():
    """v' = -k v with v(0) left out: both follow from exact values."""
    solution = decay(np.random.default_rng(0), noise=0.0, known=False, start=False).fit(progress=False, time_limit=20)
    assert float(solution.unknowns[k]) == pytest.approx(0.7, rel=1e-6)
    assert solution(t=0.0) == pytest.approx(2.0, rel=1e-6)


def test_a_coefficient_that_is_a_function_is_found_as_a_field():
    """(c v')' = f with v = sin(pi x / 2) + x and c = 1 + x^2 / 2, of which c(0) = 1 is given."""
    v, c = field("v", x), field("c", x)
    exact, coefficient = sin(pi * x / 2) + x, 1 + x**2 / 2
    source = sympy.diff(coefficient * sympy.diff(exact, x), x)
    places = np.linspace(0, 1, 60)
    solution = Problem(
        [Eq((c * v.diff(x)).diff(x), source)],
        {x: (0, 1)},
        [Eq(v.subs(x, 0), 0), Eq(v.subs(x, 1), 2), Eq(c.subs(x, 0), 1)],
        observations=[Observations(v, {x: places}, np.sin(np.pi * places / 2) + places)],
    ).fit(progress=False, time_limit=20)
    fresh = np.linspace(0.01, 0.99, 50)
    assert solution["c"](x=fresh) == pytest.approx(1 + fresh**2 / 2, rel=1e-5)


def test_search_variables_return_the_values_they_came_from():
    problem = heat(k * a + b, {k: Bounds(1e-3, 10.0), a: Bounds(-1.0, 3.0), b: 0.25})
    scaled = Coefficients(Task(problem, clock=Clock(1.0)))
    values = scaled.values(scaled.start)
    assert values == pytest.approx([0.1, 1.0, 0.25])  # the middle, in the logarithm where the bounds are wide
    assert [scaled.variable(i, v) for i, v in enumerate(values)] == pytest.approx(list(scaled.start))
    h = 1e-6
    quotient = (scaled.values(scaled.start + h) - scaled.values(scaled.start - h)) / (2 * h)
    assert scaled.slopes(scaled.start) == pytest.approx(quotient, rel=1e-6)


def test_covariance_is_that_of_linear_regression():
    rng = np.random.default_rng(0)
    matrix, residual = rng.normal(size=(30, 3)), rng.normal(size=30)
    known = certainty(matrix, residual, noise_known=False)
    variance = residual @ residual / 27
    assert known.covariance == pytest.approx(variance * np.linalg.inv(matrix.T @ matrix))
    assert not known.lost.any()


def test_fixed_coefficients_leave_an_ordinary_problem():
    problem = heat(k, {k: 1.0})
    forward = fixed(Task(problem, clock=Clock(1.0)), [0.3]).problem
    assert not forward.unknowns and not forward.observations
    u = field("u", t, x)
    assert forward.equations[0] == Eq(u.diff(t), 0.3 * u.diff(x, 2))
