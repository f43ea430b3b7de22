"""Products of splines in the plane: their least squares, where their knots go, and what they solve."""

import numpy as np
import pytest
import sympy
import torch
from sympy import Eq, Rational, cos, exp, pi, sin, sqrt, tanh

from pinnflow import Problem, coordinates, field
from pinnflow.methods.base import Task
from pinnflow.methods.placement import placed_splines, spline_points, splines_apply
from pinnflow.methods.rows import linearise
from pinnflow.methods.strips import Order, Strips, local_table, splines_of
from pinnflow.solution.report import true_error
from pinnflow.trial.expansion import FeatureTrial
from pinnflow.trial.features import Product, Spline
from tests.methods.problems import manufactured

x, y = coordinates("x y")
SQUARE = {x: (0, 1), y: (0, 1)}


def edges(u, e):
    return [Eq(u.subs(a, p), e.subs(a, p)) for a in (x, y) for p in (0, 1)]


def poisson(e, reaction=lambda u: 0):
    u = field("u", x, y)
    return Problem(manufactured([-u.diff(x, 2) - u.diff(y, 2) + reaction(u)], {u: e}), SQUARE, edges(u, e), exact=e)


def flow():
    """Stokes with the pressure given at one point: two velocities and a pressure."""
    u, v, p = (field(n, x, y) for n in "uvp")
    psi = sin(pi * x) ** 2 * sin(pi * y) ** 2
    exact = {u: psi.diff(y), v: -psi.diff(x), p: cos(pi * x) * sin(pi * y)}
    equations = [-w.diff(x, 2) - w.diff(y, 2) + p.diff(a) for w, a in ((u, x), (v, y))]
    return Problem(
        manufactured([*equations, u.diff(x) + v.diff(y)], exact),
        SQUARE,
        [*edges(u, exact[u]), *edges(v, exact[v]), Eq(p.subs({x: 0, y: 0}), 0)],
        exact=exact,
    )


def tube():
    """Periodic along y, a flux and a Robin condition at the ends of x, a coefficient that varies."""
    u = field("u", x, y)
    a, e = 1 + x * sin(2 * pi * y) / 2, exp(x) * (2 + cos(2 * pi * y))
    return Problem(
        manufactured([-(a * u.diff(x)).diff(x) - (a * u.diff(y)).diff(y) + u], {u: e}),
        SQUARE,
        [
            Eq(u.diff(x).subs(x, 0), e.diff(x).subs(x, 0)),
            Eq((u.diff(x) + 2 * u).subs(x, 1), (e.diff(x) + 2 * e).subs(x, 1)),
            Eq(u.subs(y, 0), u.subs(y, 1)),
        ],
        exact=e,
    )


def torus():
    """Periodic along both axes, no condition at all."""
    u = field("u", x, y)
    e = exp(sin(2 * pi * x)) * cos(2 * pi * y)
    ends = [Eq(u.subs(a, 0), u.subs(a, 1)) for a in (x, y)]
    return Problem(manufactured([u - u.diff(x, 2) - u.diff(y, 2)], {u: e}), SQUARE, ends, exact=e)


def twisted():
    """The ends of x are joined up to a factor, so no axis is periodic."""
    u = field("u", x, y)
    e = 2**x * sin(pi * y)
    joined = [Eq(2 * u.diff(x, k).subs(x, 0), u.diff(x, k).subs(x, 1)) for k in (0, 1)]
    return Problem(
        manufactured([3 * u - u.diff(x, 2) - u.diff(y, 2)], {u: e}),
        SQUARE,
        [*joined, Eq(u.subs(y, 0), 0), Eq(u.subs(y, 1), 0)],
        exact=e,
    )


PROBLEMS = [poisson(sin(pi * x) * exp(y)), flow(), tube(), torus(), twisted()]


def system(problem, size=256):
    task = Task(problem)
    expansion = placed_splines(task, None, size)
    return task, expansion, linearise(task, expansion, spline_points(task, expansion), None)


def dense(rows):
    """The matrix and the right-hand side of sparse rows."""
    counts = [a.count for a in rows.axes]
    matrices = []
    for pieces, target in zip(rows.terms, rows.targets, strict=True):
        matrix = np.zeros((len(target), len(rows.expansion.bases), *counts))
        at = np.arange(len(target))[:, None, None]
        for piece in pieces:
            matrix[at, piece.field, piece.columns[0][:, :, None], piece.columns[1][:, None, :]] += piece.values
        matrices.append(matrix.reshape(len(target), -1))
    return np.concatenate(matrices), np.concatenate(rows.targets)


@pytest.mark.parametrize("problem", PROBLEMS, ids=["poisson", "flow", "tube", "torus", "twisted"])
def test_strips_in_every_order_solve_what_dense_least_squares_solves(problem):
    _, _, rows = system(problem)
    matrix, target = dense(rows)
    expected = np.linalg.lstsq(matrix, target, rcond=None)[0]
    for axis in (0, 1):
        for folded in (False, True):
            weights, remainder = Strips(rows, Order(axis, folded)).solve()
            assert remainder == pytest.approx(np.linalg.norm(matrix @ expected - target), rel=1e-6, abs=1e-9)
            assert np.linalg.norm(weights.numpy() - expected) < 1e-7 * np.linalg.norm(expected)


@pytest.mark.parametrize("problem", PROBLEMS, ids=["poisson", "flow", "tube", "torus", "twisted"])
def test_splines_solve_smooth_problems(problem):
    """Degree 7 on 16 x 16 splines; what is left of the error is the splines'."""
    task, expansion, rows = system(problem)
    trial = FeatureTrial(expansion, rows.solve()[0])
    points = np.random.default_rng(0).uniform(0, 1, (500, 2))
    for i, f in enumerate(problem.fields):
        exact = sympy.lambdify((x, y), problem.exact[f], "numpy")(*points.T)
        found = trial.derivatives(points, [(i, (0, 0))])[0]
        assert np.linalg.norm(found - exact) < 1e-4 * np.linalg.norm(exact)
    assert splines_apply(task)


def test_rows_that_join_the_ends_are_narrow_when_strips_are_taken_from_both_ends():
    _, _, rows = system(twisted(), 1600)
    assert Order(0, True).cost(rows) < 0.3 * Order(0, False).cost(rows)


def test_an_undetermined_constant_does_no_harm():
    """Only derivatives appear: the constant stays free, the gradient is right."""
    u = field("u", x, y)
    e = cos(pi * x) * cos(pi * y)
    flux = [Eq(u.diff(a).subs(a, p), 0) for a in (x, y) for p in (0, 1)]
    problem = Problem(manufactured([-u.diff(x, 2) - u.diff(y, 2)], {u: e}), SQUARE, flux, exact=e)
    _, expansion, rows = system(problem)
    trial = FeatureTrial(expansion, rows.solve()[0])
    points = np.random.default_rng(0).uniform(0, 1, (200, 2))
    value, slope = trial.derivatives(points, [(0, (0, 0)), (0, (1, 0))])
    exact = -np.pi * np.sin(np.pi * points[:, 0]) * np.cos(np.pi * points[:, 1])
    assert np.linalg.norm(slope - exact) < 1e-5 * np.linalg.norm(exact)
    assert np.abs(value).max() < 10


@pytest.mark.parametrize("periodic", [False, True])
def test_local_tables_are_the_nonzero_part_of_all_splines(periodic):
    spline = Spline(5, np.linspace(-1, 1, 12) ** 3, periodic)
    places = np.linspace(-1, 1, 50)
    tables, columns = local_table(spline, places, 2)
    for order, whole in enumerate(spline.table(torch.as_tensor(places), spline.count, 2)):
        again = np.zeros(whole.shape)
        np.add.at(again, (np.arange(50)[:, None], columns), tables[order])
        np.testing.assert_allclose(again, whole.numpy(), atol=1e-9 * np.abs(whole.numpy()).max())


def test_knots_go_where_the_function_varies():
    """A layer across x at 0.3, nothing along y."""
    task = Task(poisson(tanh(50 * (x - Rational(3, 10)))))

    def layer(points, wanted):
        s = (points[:, 0] - 0.3).requires_grad_(True)
        values = []
        for _, (order, across) in wanted:
            d = torch.tanh(50 * s)
            for _ in range(order):
                d = torch.autograd.grad(d.sum(), s, create_graph=True)[0]
            values.append((d * (across == 0)).detach())
        return values

    first, second = splines_of(placed_splines(task, layer, 1600))
    places = (first.knots + 1) / 2
    assert np.mean(np.abs(places - 0.3) < 0.1) > 0.5
    assert first.count > 2 * second.count


def test_a_complete_product_is_evaluated_one_axis_after_the_other():
    axes = ("chebyshev", Spline(3, np.linspace(-1, 1, 6)), "fourier")
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(8), np.arange(5), indexing="ij"), -1).reshape(-1, 3)
    points = torch.as_tensor(np.random.default_rng(0).uniform(-1, 1, (30, 3)))
    weights = torch.as_tensor(np.random.default_rng(1).normal(size=160))
    orders = [(0, 0, 0), (1, 2, 0), (0, 1, 3)]
    complete = Product(axes, torch.as_tensor(grid))
    mixed = torch.as_tensor(np.random.default_rng(2).permutation(160))
    shuffled = Product(axes, torch.as_tensor(grid)[mixed])
    pairs = zip(complete.combine(points, orders, weights), shuffled.combine(points, orders, weights[mixed]))
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-8)


def test_a_curved_layer_is_found_and_solved():
    """tanh across a circle, width 1/30: dense systems of 3,600 unknowns leave 1e-2."""
    e = tanh(30 * (sqrt((x + Rational(1, 10)) ** 2 + (y + Rational(1, 5)) ** 2) - Rational(7, 10)))
    solution = poisson(e).fit(tolerance=1e-4)
    assert "splines" in solution.reason
    assert true_error(solution).total < 1e-4


def test_a_bump_of_a_nonlinear_equation_is_found_and_solved():
    """-Laplace u + u^3 = f with a bump of width 1/20."""
    e = exp(-200 * ((x - Rational(37, 100)) ** 2 + (y - Rational(61, 100)) ** 2))
    solution = poisson(e, lambda u: u**3).fit(tolerance=1e-3)
    assert solution.method == "newton"
    assert true_error(solution).total < 1e-3
