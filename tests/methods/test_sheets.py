"""Sparse systems on sheets of splines: the same equations, conditions and answers as the dense ones."""

import numpy as np
import pytest
from sympy import Eq, Rational, cos, exp, pi, sin, tanh

from pinnflow import Problem, coordinates, field
from pinnflow.methods.base import Clock, Task
from pinnflow.methods.form import semidiscrete_form
from pinnflow.methods.sheets import SparseSystem
from pinnflow.methods.spline_products import Sheet
from pinnflow.trial.features import Spline
from tests.methods.problems import data, manufactured, start

t, x, y = coordinates("t x y")
u = field("u", t, x, y)
BOX = {t: (0, Rational(1, 2)), x: (0, 1), y: (0, 2)}


def flux(f, e, axis, *places):
    return [Eq(f.diff(axis).subs(axis, p), e.diff(axis).subs(axis, p)) for p in places]


def moving_faces():
    """Anisotropic heat with values on two faces and fluxes on two, all changing in time."""
    e = sin(3 * t + x) * cos(y) + x * y
    operator = u.diff(t) - u.diff(x, 2) / 3 - ((1 + x / 2) * u.diff(y)).diff(y)
    ends = data(u, e, x, 0, 1) + flux(u, e, y, 0, 2)
    return Problem(manufactured([operator], {u: e}), BOX, start(u, e) + ends, exact=e)


def membrane():
    """Second order in time: the velocity is a state of its own."""
    e = cos(2 * t) * sin(x + y / 2)
    operator = u.diff(t, 2) - u.diff(x, 2) - u.diff(y, 2)
    ends = data(u, e, x, 0, 1) + data(u, e, y, 0, 2)
    return Problem(manufactured([operator], {u: e}), BOX, start(u, e, True) + ends, exact=e)


def front():
    """Nonlinear: the Jacobian changes, the source keeps tanh(x + 2 y - t)."""
    e = tanh(x + 2 * y - t - 2)
    operator = u.diff(t) - (u.diff(x, 2) + u.diff(y, 2)) / 10 - u + u**3
    ends = data(u, e, x, 0, 1) + data(u, e, y, 0, 2)
    return Problem(manufactured([operator], {u: e}), BOX, start(u, e) + ends, exact=e)


def coupled():
    """Two fields, one of them without a time derivative."""
    p = field("p", t, x, y)
    e, g = 1 + exp(-t) * cos(pi * x) / 4, x * (1 - x) * y * cos(t)
    operators = [u.diff(t) - u.diff(x, 2) - u.diff(y, 2) - p.diff(x), p.diff(x, 2) + p.diff(y, 2) + u]
    ends = [c for f, z in ((u, e), (p, g)) for a, b in ((x, 1), (y, 2)) for c in data(f, z, a, 0, b)]
    return Problem(manufactured(operators, {u: e, p: g}), BOX, start(u, e) + ends, exact={u: e, p: g})


def torus():
    """Periodic in both directions."""
    e = sin(2 * pi * x - t) * cos(pi * y)
    operator = u.diff(t) + u.diff(x) - u.diff(y, 2) / 20
    ties = [Eq(u.subs(x, 0), u.subs(x, 1)), Eq(u.subs(y, 0), u.subs(y, 2))]
    return Problem(manufactured([operator], {u: e}), BOX, start(u, e) + ties, exact=e)


def solve(problem, pieces, tolerance=1e-9):
    task = Task(problem, clock=Clock(60))
    axes = tuple(
        None if i == task.time_column else Spline(5, np.linspace(-1, 1, pieces + 1), task.periodic[i])
        for i in range(task.dimension)
    )
    system = SparseSystem(task, semidiscrete_form(task), Sheet(axes))
    trial, path = system.solve(tolerance, lambda: False, lambda t: None, 500)
    assert not path.trouble
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(*problem.bounds[c], 500) for c in problem.columns], axis=1)
    import sympy

    worst = 0.0
    for i, f in enumerate(problem.fields):
        expected = sympy.lambdify(problem.columns, problem.exact[f], "numpy")(*points.T)
        found = trial.derivatives(points, [(i, (0, 0, 0))])[0]
        worst = max(worst, np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return worst


@pytest.mark.parametrize("make", [moving_faces, membrane, front, coupled, torus])
def test_splines_of_degree_five_converge_with_order_five_or_six(make):
    coarse, fine = solve(make(), 6), solve(make(), 12)
    assert fine < 2e-5
    assert fine < coarse / 2**4.5 or fine < 1e-9
