"""Projection on splines in a box: its parts against closed forms, and problems that dense systems leave unsolved."""

import numpy as np
import pytest
from sympy import Eq, Rational, cos, exp, pi, sin, tanh

from pinnflow import Problem, coordinates, field, laplacian
from pinnflow.methods.base import Clock, Task
from pinnflow.methods.bricks import Brick, make_line, read_faces
from pinnflow.methods.galerkin import obstacle
from pinnflow.solution.report import true_error
from pinnflow.trial.features import Spline

x, y, z = coordinates("x y z")
u, v = field("u", x, y, z), field("v", x, y, z)
BOX = dict.fromkeys((x, y, z), (0, 1))


def faces(function, exact, axes=(x, y, z)):
    return [Eq(function.subs(axis, end), exact.subs(axis, end)) for axis in axes for end in (0, 1)]


def task_of(problem, seconds=60):
    return Task(problem, clock=Clock(seconds))


def smooth():
    exact = sin(2 * x) * cos(y) + z * exp(x * y)
    equation = -laplacian(u, x, y, z) + x * u.diff(y) + u**3
    return Problem([Eq(equation, equation.subs(u, exact).doit())], BOX, faces(u, exact), exact=exact)


def even(degree=5, pieces=8):
    return Spline(degree, np.linspace(-1, 1, pieces + 1), False)


def test_eigenfunctions_of_a_line_are_those_of_a_string():
    line = make_line(even(7, 24), [(1.0, 0.0), (1.0, 0.0)])
    k = np.arange(1, 7)
    np.testing.assert_allclose(line.values[:6], (k * np.pi / 2) ** 2, rtol=1e-9)
    np.testing.assert_allclose(line.ends @ line.vectors, 0, atol=1e-9)
    np.testing.assert_allclose(line.ends @ line.lifts, np.eye(2), atol=1e-12)


def test_eigenvalues_with_an_elastic_end():
    """u = 0 at the low end, u + u' = 0 at the high one, length 2: tan(2 k) = -k."""
    line = make_line(even(7, 24), [(1.0, 0.0), (1.0, 1.0)])
    k = np.sqrt(line.values[:5])
    np.testing.assert_allclose(np.sin(2 * k) + k * np.cos(2 * k), 0, atol=1e-6)


def test_the_derivative_is_that_of_the_residual():
    task = task_of(smooth())
    brick = Brick(task, read_faces(task), [even()] * 3)
    rng = np.random.default_rng(0)
    state, change = rng.normal(size=(2, brick.size)) * 1e-2
    step = 1e-5
    difference = brick.residual(state + step * change) - brick.residual(state - step * change)
    brick.residual(state)
    np.testing.assert_allclose(brick.derivative(change), difference / (2 * step), rtol=1e-6, atol=1e-7)


def test_a_function_of_the_space_is_found_again():
    task = task_of(smooth())
    brick = Brick(task, read_faces(task), [even()] * 3)
    state = np.random.default_rng(1).normal(size=brick.size)
    weights = brick.to_splines(state)

    def sample(places, f, wanted):
        return brick.on_grid(weights[f], places, wanted)

    np.testing.assert_allclose(brick.nearest(sample), state, atol=1e-9)
    points = np.random.default_rng(2).uniform(size=(20, 3))
    (found,) = brick.trial(state).derivatives(points, [(0, (1, 0, 2))])
    grid = [[2 * p - 1] for p in points.T]
    one_by_one = [
        brick.on_grid(weights[0], [np.array([g[0][i]]) for g in grid], [(1, 0, 2)])[0].item() for i in range(20)
    ]
    np.testing.assert_allclose(found, one_by_one, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.with_(conditions=p.conditions[1:]), "`u` has no condition where x = 0"),
        (lambda p: p.with_(conditions=[Eq(u.subs(x, 0) + y * u.diff(x).subs(x, 0), 1), *p.conditions[1:]]), "constant"),
        (lambda p: p.with_(conditions=[*p.conditions, Eq(u.diff(x).subs(x, 0), 0)]), "two conditions"),
        (lambda p: p.with_(equations=[Eq(u.diff(x, 2) + u.diff(y, 2), 0)]), "along every axis"),
        (lambda p: p.with_(equations=[Eq(laplacian(u, x, y, z).diff(x), 0)]), "second order"),
    ],
)
def test_what_stands_in_the_way_is_said(change, words):
    assert words in obstacle(task_of(change(smooth())))


def test_nothing_stands_in_the_way():
    assert obstacle(task_of(smooth())) is None


def solved(problem, target, **options):
    solution = problem.fit(progress=False, **options)
    assert solution.method == "galerkin"
    assert solution.success
    error = float(true_error(solution))
    assert error < target
    assert solution.error_estimate > 0.1 * error
    return solution


def test_two_boundary_layers_and_flow():
    """The edge layers have a width of 1/50; dense systems of features leave an error of a half."""
    width = Rational(1, 50)

    def layer(s):
        return s - (exp((s - 1) / width) - exp(-1 / width)) / (1 - exp(-1 / width))

    exact = layer(x) * layer(y) * sin(pi * z)

    def operator(w):
        return -width * laplacian(w, x, y, z) + w.diff(x) + w.diff(y)

    solved(Problem([Eq(operator(u), operator(exact))], BOX, faces(u, exact), exact=exact), 1e-5, tolerance=1e-5)


def test_conditions_of_all_kinds_a_mixed_derivative_and_variable_coefficients():
    exact = exp(-9 * ((x - 0.3) ** 2 + (y - 0.6) ** 2)) * cos(z) + x * y

    def operator(w):
        return (
            -((1 + x**2) * w.diff(x)).diff(x) - w.diff(y, 2) - (2 + cos(z)) * w.diff(z, 2) + w.diff(x).diff(y) / 2 + w
        )

    conditions = [
        Eq(u.subs(x, 0), exact.subs(x, 0)),
        Eq(u.diff(x).subs(x, 1) + 2 * u.subs(x, 1), (exact.diff(x) + 2 * exact).subs(x, 1)),
        Eq(u.diff(y).subs(y, 0), exact.diff(y).subs(y, 0)),
        Eq(u.subs(y, 1), exact.subs(y, 1)),
        Eq(u.diff(z).subs(z, 0), exact.diff(z).subs(z, 0)),
        Eq(3 * u.subs(z, 1) - u.diff(z).subs(z, 1), (3 * exact - exact.diff(z)).subs(z, 1)),
    ]
    problem = Problem([Eq(operator(u), operator(exact))], BOX, conditions, exact=exact)
    solved(problem, 1e-6, tolerance=1e-6)


def test_a_nonlinear_pair_whatever_the_order_of_its_equations():
    first, second = tanh(6 * (x + y - 1)) * cos(z), sin(3 * x * y) + z**2

    def one(a, b):
        return -laplacian(a, x, y, z) + a * b + b.diff(x)

    def other(a, b):
        return -(1 + x) * laplacian(b, x, y, z) + b**3 + a.diff(z)

    problem = Problem(
        [Eq(other(u, v), other(first, second)), Eq(one(u, v), one(first, second))],
        BOX,
        faces(u, first) + faces(v, second),
        exact={u: first, v: second},
    )
    # Both have second derivatives of their own field only, so the order does not say which is whose.
    solution = solved(problem, 1e-4, tolerance=1e-4)
    assert solution["v"].error_estimate < solution["u"].error_estimate


def test_an_axis_may_be_periodic():
    exact = sin(2 * pi * x) * y * cos(3 * z)
    operator = -laplacian(u, x, y, z) + (2 + sin(2 * pi * x)) * u
    conditions = [
        Eq(u.subs(x, 0), u.subs(x, 1)),
        Eq(u.diff(x).subs(x, 0), u.diff(x).subs(x, 1)),
        *faces(u, exact, (y, z)),
    ]
    solved(Problem([Eq(operator, operator.subs(u, exact).doit())], BOX, conditions, exact=exact), 1e-6, tolerance=1e-6)


def test_a_constant_may_be_free():
    """Slopes on all faces fix the solution up to a constant."""
    exact = cos(pi * x) * cos(pi * y) * cos(2 * pi * z)

    def operator(w):
        return ((2 + sin(x)) * w.diff(x)).diff(x) + w.diff(y, 2) + w.diff(z, 2)

    conditions = [Eq(u.diff(axis).subs(axis, end), 0) for axis in (x, y, z) for end in (0, 1)]
    problem = Problem([Eq(operator(u), operator(exact))], BOX, conditions, exact=exact)
    solved(problem, 1e-5, tolerance=1e-5)


def test_four_axes():
    w = coordinates("w")
    f = field("f", x, y, z, w)
    exact = sin(x + y) * cos(z) * exp(w / 2)
    operator = laplacian(f, x, y, z, w) - x * f
    problem = Problem(
        [Eq(operator, operator.subs(f, exact).doit())],
        {**BOX, w: (0, 1)},
        faces(f, exact, (x, y, z, w)),
        exact=exact,
    )
    solved(problem, 1e-5, tolerance=1e-5)


def test_no_solution_is_said_in_words():
    """-Laplace u = 40 exp(u) has none: nothing may come out as one."""
    problem = Problem([Eq(-laplacian(u, x, y, z), 40 * exp(u))], BOX, faces(u, x * 0))
    with pytest.raises(Exception, match="galerkin"):
        problem.fit(method="galerkin", time_limit=4, progress=False)
