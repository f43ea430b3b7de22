"""Exponential steps on eigenfunctions: their order, their end, and problems with known solutions."""

import numpy as np
import pytest
import torch
from sympy import Eq, Rational, cos, exp, pi, sin

from pinnflow import Problem, coordinates, field
from pinnflow.methods import exponential
from pinnflow.methods.base import Clock, Task
from pinnflow.methods.form import semidiscrete_form
from pinnflow.methods.modes import semilinear
from pinnflow.methods.spaces import Spaces
from pinnflow.trial.evolution import EvolutionTrial, lagrange_table
from pinnflow.trial.features import Combination, Product, Spline
from tests.methods.problems import manufactured, start

t, x, y = coordinates("t x y")
u, v = (field(name, t, x, y) for name in "uv")
BOX = {t: (0, 1), x: (0, 1), y: (0, 2)}
LAPLACE = u.diff(x, 2) + u.diff(y, 2)


def at(flow, moments):
    step = np.clip(np.searchsorted(flow.times, moments) - 1, 0, len(flow.states) - 1)
    share = (moments - flow.times[step]) / np.diff(flow.times)[step]
    return np.einsum("nk,nkr->nr", lagrange_table(exponential.NODES, share, 0), flow.states[step]) @ flow.directions


def pendulum(tolerance):
    """y' = -rate (y - cos t) - sin t for rates up to 1e4: y = cos t from 1, the source not part of the diagonal."""
    rates = np.array([1.0, 30.0, 1e4])
    return exponential.integrate(
        -rates, lambda t, y: rates * np.cos(t) - np.sin(t), (0.0, 6.0), np.ones(3), tolerance, max_steps=5000
    )


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_error_follows_the_tolerance_whatever_the_rates(tolerance):
    moments = np.linspace(0, 6, 301)
    error = np.abs(at(pendulum(tolerance), moments) - np.cos(moments)[:, None]).max()
    assert error < 100 * tolerance


def test_steps_grow_with_the_fourth_root_of_the_tolerance():
    few, many = (pendulum(tol).statistics["steps"] for tol in (1e-4, 1e-8))
    assert 5 < many / few < 20


def test_a_nonlinear_source_keeps_order_four():
    """Logistic growth, y' = y - y^2: closed form."""
    moments = np.linspace(0, 8, 101)
    expected = 0.01 / (0.01 + 0.99 * np.exp(-moments))
    for tolerance in (1e-5, 1e-8):
        flow = exponential.integrate(np.ones(1), lambda t, y: -(y**2), (0.0, 8.0), np.array([0.01]), tolerance)
        assert np.abs(at(flow, moments)[:, 0] - expected).max() < 100 * tolerance


def test_blow_up_is_said():
    flow = exponential.integrate(np.zeros(1), lambda t, y: y**2, (0.0, 2.0), np.ones(1), 1e-6)
    assert flow.reached == pytest.approx(1.0, abs=1e-2)
    assert flow.trouble


def test_many_states_in_few_directions():
    """Two travelling waves on 500 places span four directions."""
    places = np.linspace(0, 2 * np.pi, 500)
    flow = exponential.integrate(
        np.zeros(500),
        lambda t, y: np.cos(places - t) + 2 * np.cos(2 * places + 2 * t),
        (0.0, 5.0),
        np.sin(places),
        1e-8,
    )
    assert len(flow.directions) <= 8
    assert np.abs(at(flow, np.array([5.0]))[0]).max() > 0.1


def test_combinations_are_combinations():
    basis = Product(
        ("chebyshev", Spline(5, np.linspace(-1, 1, 8)), "fourier"),
        torch.cartesian_prod(torch.arange(1), torch.arange(12), torch.arange(5)),
    )
    mixed = Combination(basis, torch.as_tensor(np.random.default_rng(0).normal(size=(3, basis.size))))
    points = torch.as_tensor(np.random.default_rng(1).uniform(-1, 1, (20, 3)))
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (direct,) = basis.combine(points, [(0, 1, 2)], mixed.matrix.T @ weights)
    assert torch.allclose(mixed.combine(points, [(0, 1, 2)], weights)[0], direct)
    out = torch.zeros(20, 3, dtype=torch.float64)
    mixed.accumulate(out, points, [(torch.tensor(2.0, dtype=torch.float64), (0, 1, 2))])
    assert torch.allclose(out @ weights, 2 * direct)


def mixed_faces():
    """Value zero on one side, flux zero on another, a Robin condition and a value: all homogeneous."""
    p = 2.0287578381104342  # p cos p + sin p = 0 with the Robin condition u_x + u = 0 at x = 1
    e = exp(-t / 2) * sin(p * x) * cos(pi * y / 4)
    operator = u.diff(t) - LAPLACE / 5 + u**3 + u * u.diff(x)
    ends = [Eq(u.subs(x, 0), 0), Eq(u.diff(x).subs(x, 1) + u.subs(x, 1), 0)]
    ends += [Eq(u.diff(y).subs(y, 0), 0), Eq(u.subs(y, 2), 0)]
    return Problem(manufactured([operator], {u: e}), BOX, start(u, e) + ends, exact=e)


def predator():
    """Two fields with different faces and diffusions, tied by a product; periodic along y."""
    e, g = cos(t) * sin(pi * x) * (2 + sin(pi * y)), exp(-t) * cos(pi * x) * cos(pi * y)
    operators = [
        u.diff(t) - LAPLACE / 10 - u * (1 - v),
        2 * v.diff(t) - v.diff(x, 2) / 3 - v.diff(y, 2) - u * v,
    ]
    ends = [Eq(u.subs(x, p), 0) for p in (0, 1)] + [Eq(v.diff(x).subs(x, p), 0) for p in (0, 1)]
    ties = [Eq(f.subs(y, 0), f.subs(y, 2)) for f in (u, v)]
    initial = start(u, e) + start(v, g)
    return Problem(manufactured(operators, {u: e, v: g}), BOX, initial + ends + ties, exact={u: e, v: g})


def solve(problem, size, tolerance=1e-9):
    import sympy

    task = Task(problem, clock=Clock(60))
    system = Spaces(task, semidiscrete_form(task), []).system("modes", size)
    trial, flow = system.solve(tolerance, lambda: False, lambda t: None, 1000)
    assert not flow.trouble
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(*problem.bounds[c], 400) for c in problem.columns], axis=1)
    errors = []
    for i, f in enumerate(problem.fields):
        expected = sympy.lambdify(problem.columns, problem.exact[f], "numpy")(*points.T)
        found = trial.derivatives(points, [(i, (0, 0, 0))])[0]
        errors.append(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return max(errors), trial, points


@pytest.mark.parametrize("make", [mixed_faces, predator])
def test_modes_converge_fast(make):
    coarse, fine = solve(make(), 144)[0], solve(make(), 576)[0]
    assert fine < 1e-7
    assert fine < coarse / 30 or coarse < 1e-8


def test_a_trial_on_modes_is_stored_with_its_derivatives():
    _, trial, points = solve(mixed_faces(), 200, 1e-6)
    again = EvolutionTrial.from_state(trial.state())
    wanted = [(0, (0, 0, 0)), (0, (1, 0, 0)), (0, (0, 1, 0)), (0, (0, 0, 2))]
    for one, other in zip(trial.derivatives(points, wanted), again.derivatives(points, wanted), strict=True):
        assert np.array_equal(one, other)
    step = np.zeros((1, 3))
    step[0, 1] = 1e-5
    value, _, slope, _ = trial.derivatives(points * 0.9 + 0.02, wanted)
    moved = trial.derivatives(points * 0.9 + 0.02 + step, wanted)[0]
    assert (moved - value) / 1e-5 == pytest.approx(slope, abs=1e-3)


def test_what_has_no_modes_is_left_to_other_functions():
    """A coefficient that varies, a moving face, second order in time, mixed derivatives, no diffusion along y."""
    zero = [Eq(u.subs(a, p), 0) for a, ends in ((x, (0, 1)), (y, (0, 2))) for p in ends]
    initial = [Eq(u.subs(t, 0), sin(pi * x) * sin(pi * y / 2))]
    moving = [Eq(u.subs(x, 0), sin(t)), *zero[1:]]
    varying = (1 + x) * u.diff(x, 2) + u.diff(y, 2)
    cases = [
        ([Eq(u.diff(t), varying - u**3)], initial + zero),
        ([Eq(u.diff(t), LAPLACE - u**3)], initial + moving),
        ([Eq(u.diff(t, 2), LAPLACE - u**3)], [*initial, Eq(u.diff(t).subs(t, 0), 0), *zero]),
        ([Eq(u.diff(t), LAPLACE + u.diff(x, y) * Rational(1, 2) - u**3)], initial + zero),
        ([Eq(u.diff(t), u.diff(x, 2) - u**3)], initial + zero[:2]),
    ]
    for equations, conditions in cases:
        task = Task(Problem(equations, BOX, conditions), clock=Clock(60))
        assert semilinear(task, semidiscrete_form(task)) is None
    task = Task(Problem([Eq(u.diff(t), LAPLACE - u**3)], BOX, initial + zero), clock=Clock(60))
    assert semilinear(task, semidiscrete_form(task)).diffusion == [{1: 1.0, 2: 1.0}]
