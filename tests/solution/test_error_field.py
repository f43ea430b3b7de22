"""`solution.error`: the error point by point, where it is known because it was put in or the true solution is known."""

import h5py
import numpy as np
import pytest
import sympy
from sympy import Eq, Rational, cos, exp, pi, sin

import pinnflow
from pinnflow import Observations, Problem, coordinates, field
from pinnflow.errors import MissingName, NoErrorField
from tests.solution.conftest import make_solution

t, x, y = coordinates("t x y")
SQUARE = {x: (0, 1), y: (0, 1)}


def heat():
    u = field("u", t, x)
    e = exp(-t) * sin(pi * x)
    return Problem(
        [Eq(u.diff(t), u.diff(x, 2) / 10 + (pi**2 / 10 - 1) * e)],
        {t: (0, 1), x: (0, 1)},
        [Eq(u.subs(t, 0), e.subs(t, 0)), Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)],
        exact=e,
    )


def peak(power=1):
    """-Laplace u + u^power = f."""
    u = field("u", x, y)
    e = exp(-40 * ((x - Rational(37, 100)) ** 2 + (y - Rational(61, 100)) ** 2))
    source = -e.diff(x, 2) - e.diff(y, 2) + e**power
    edges = [Eq(u.subs(a, p), e.subs(a, p)) for a in (x, y) for p in (0, 1)]
    return Problem([Eq(-u.diff(x, 2) - u.diff(y, 2) + u**power, source)], SQUARE, edges, exact=e)


def compare(solution, name="u"):
    """(estimated, true) error at 2,000 points."""
    problem = solution.problem
    declared = next(f for f in problem.fields if f.func.__name__ == name)
    rng = np.random.default_rng(0)
    place = {c.name: rng.uniform(*problem.bounds[c], 2000) for c in problem.coordinates}
    exact = sympy.lambdify(problem.coordinates, problem.exact[declared], "numpy")(*place.values())
    return solution[name].error(**place), solution[name](**place) - exact


@pytest.mark.parametrize(
    ("problem", "wrong", "accuracy"),
    [
        pytest.param(heat(), t * cos(3 * x) / 1000, 1e-4, id="linear, boundary and initial values wrong too"),
        pytest.param(peak(), x * sin(5 * y) / 1000, 1e-4, id="stationary"),
        pytest.param(peak(3), x * (1 - x) * sin(pi * y) / 1000, 1e-2, id="nonlinear, up to the square of the error"),
    ],
)
def test_an_error_that_was_put_in_is_found(problem, wrong, accuracy):
    (exact,) = problem.exact.values()
    found, true = compare(make_solution(problem, [exact + wrong]))
    assert np.linalg.norm(found - true) < accuracy * np.linalg.norm(true)


@pytest.mark.parametrize("power", [1, 3])
def test_the_error_of_a_fit_is_found_with_its_size_and_place(power):
    solution = peak(power).fit(tolerance=1e-3)
    found, true = compare(solution)
    assert np.linalg.norm(true) > 0
    assert 0.1 < np.linalg.norm(found) / np.linalg.norm(true) < 10
    assert np.corrcoef(found, true)[0, 1] > 0.9


def test_each_field_of_a_system_has_its_error():
    """Both equations are wrong, by different amounts."""
    u, v = field("u", x), field("v", x)
    problem = Problem(
        [Eq(u.diff(x), v), Eq(v.diff(x), -u)],
        {x: (0, 1)},
        [Eq(u.subs(x, 0), 0), Eq(v.subs(x, 0), 1)],
        exact={u: sin(x), v: cos(x)},
    )
    solution = make_solution(problem, [sin(x) + x**2 / 100, cos(x) - x / 1000])
    for name in "uv":
        found, true = compare(solution, name)
        np.testing.assert_allclose(found, true, atol=1e-8)
    with pytest.raises(MissingName, match=r'solution\["u"\]\.error'):
        solution.error(x=0.5)


def test_the_error_is_saved_once_it_was_asked_for(tmp_path):
    solution = heat().fit(method="least squares", tolerance=1e-2)
    plain, full = tmp_path / "plain.h5", tmp_path / "full.h5"
    solution.save(plain)
    expected = solution.error(t=0.4, x=np.linspace(0, 1, 5))
    solution.save(full)
    with h5py.File(plain) as one, h5py.File(full) as other:
        assert "error_trial" not in one
        assert "error_trial" in other
    assert np.array_equal(pinnflow.load(full).error(t=0.4, x=np.linspace(0, 1, 5)), expected)
    assert np.array_equal(pinnflow.load(plain).error(t=0.4, x=np.linspace(0, 1, 5)), expected)


def test_errors_of_rounding_and_of_coefficients_are_refused_in_words():
    problem = peak()
    rough = make_solution(problem, [problem.exact[problem.fields[0]] + sin(3000 * x) * sin(2900 * y) / 10**6])
    with pytest.raises(NoErrorField, match="`error_estimate` and `checks` hold"):
        rough.error(x=0.5, y=0.5)
    k, u = sympy.Symbol("k", real=True), field("u", t)
    decay = Problem(
        [Eq(u.diff(t), -k * u)],
        {t: (0, 1)},
        [Eq(u.subs(t, 0), 1)],
        unknowns={k: 1.0},
        observations=[Observations(u, {t: np.array([0.5])}, np.array([np.exp(-0.5)]))],
    )
    with pytest.raises(NoErrorField, match="coefficients that were found"):
        make_solution(decay, [exp(-t)], unknowns={k: 1.0}).error(t=0.5)
