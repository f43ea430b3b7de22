"""Training of networks: the pieces against their definitions, and a whole fit against its own estimate."""

import numpy as np
import pytest
import torch
from sympy import Eq, cos, pi, sin

from pinnflow import Problem, coordinates, field
from pinnflow.compiler import compilation, tiles
from pinnflow.compiler.payoff import Stopwatch
from pinnflow.errors import UnknownName
from pinnflow.methods.balancing import balanced, causal_weights
from pinnflow.methods.base import Clock, Task
from pinnflow.methods.first_order import SOAP, adam, soap
from pinnflow.methods.gauss_newton import damped_step, gauss_newton
from pinnflow.methods.last_layer import last_layer, polish_last_layer
from pinnflow.methods.objective import Objective
from pinnflow.methods.quasi_newton import broyden, lbfgs, update_inverse
from pinnflow.sampling.adaptive import draw_by_residual
from pinnflow.trial.networks import NetworkTrial, make_network
from pinnflow.trial.registry import restore
from pinnflow.trial.sums import SumTrial

t, x = coordinates("t x")


def heat():
    """u_t = u_xx / 10 from sin(pi x)."""
    u = field("u", t, x)
    return Problem(
        [Eq(u.diff(t), u.diff(x, 2) / 10)],
        {t: (0, 1), x: (0, 1)},
        [Eq(u.subs(t, 0), sin(pi * x)), Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)],
    )


def poisson(dimension):
    """Cubic reaction and diffusion, u = cos(pi x_1) + cos(pi x_2) + ..."""
    axes = coordinates(" ".join("abcdef"[:dimension]))
    u, exact = field("u", *axes), sum(cos(pi * a) for a in axes)
    return Problem(
        [Eq(u**3 - sum(u.diff(a, 2) for a in axes), exact**3 + pi**2 * exact)],
        dict.fromkeys(axes, (0, 1)),
        [Eq(u.subs(a, end), exact.subs(a, end)) for a in axes for end in (0, 1)],
    )


def objective(problem, width=8, count=80, depth=2, factorised=False):
    task = Task(problem, clock=Clock(100.0))
    settings = {"width": width, "depth": depth, "bounds": task.bounds, "factorised": factorised, "seed": 1}
    network = make_network("mlp", inputs=task.dimension, outputs=1, **settings)
    return Objective(task, network, 0, count)


def steps(count):
    """An `over` that is true after so many questions."""
    asked = iter(range(count))
    return lambda: next(asked, None) is None


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_damped_step_is_the_least_squares_solution_in_either_form(shape):
    torch.manual_seed(0)
    jacobian, residual = torch.randn(shape, dtype=torch.float64), torch.randn(shape[0], dtype=torch.float64)
    rows = torch.cat([jacobian, 0.1 * torch.eye(shape[1], dtype=torch.float64)])
    right = torch.cat([-residual, torch.zeros(shape[1], dtype=torch.float64)])
    expected = torch.linalg.lstsq(rows, right[:, None]).solution[:, 0]
    assert damped_step(jacobian, residual, 0.01) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_rows_of_the_jacobian_are_gradients_of_the_residuals():
    made = objective(poisson(3))
    theta, v = made.theta, torch.randn(made.size, dtype=torch.float64)
    expected = torch.func.jvp(made.residuals, (theta,), (v,))[1]
    assert made.jacobian(theta) @ v == pytest.approx(expected, rel=1e-9, abs=1e-10)
    span = last_layer(made)
    assert made.jacobian(theta, span) == pytest.approx(made.jacobian(theta)[:, span], rel=1e-12, abs=1e-13)


def test_residuals_are_the_root_of_the_loss():
    made = objective(heat())
    residual = made.residuals(made.theta)
    assert float(residual @ residual) == pytest.approx(float(made.loss().detach()))


@pytest.mark.parametrize("factorised", [False, True])
@pytest.mark.parametrize("training", [adam, broyden, gauss_newton, lbfgs, soap])
def test_every_training_lowers_the_loss(training, factorised):
    made = objective(heat(), factorised=factorised)
    first = float(made.loss().detach())
    done, ended = training(made, steps(150 if training in (adam, soap) else 25), lambda *_: None)
    assert done and ended
    made.draw()
    assert float(made.loss().detach()) < 0.3 * first


def test_self_scaled_update_keeps_the_secant_and_stays_positive():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    hessian = root @ root.T + np.eye(6)
    h = np.eye(6)
    for _ in range(20):
        s = rng.normal(size=6)
        y = hessian @ s
        h = update_inverse(h, s, y, s @ np.linalg.solve(h, s))
        assert h @ y == pytest.approx(s)
        assert np.linalg.eigvalsh(h).min() > 0


def test_soap_is_adam_turned_into_the_eigenbasis():
    """On a quadratic whose axes are turned, both reach the minimum; a vector is treated exactly as by Adam."""
    torch.manual_seed(0)
    target = torch.randn(5, 4, dtype=torch.float64)
    weight = torch.zeros(5, 4, dtype=torch.float64, requires_grad=True)
    optimizer = SOAP([weight], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()
    assert weight.detach() == pytest.approx(target, abs=0.05)


def test_last_layer_is_optimal_after_the_polish():
    """Where the problem is linear, no gradient is left in the last layer."""
    made = objective(heat())
    assert polish_last_layer(made)
    theta = made.theta
    jacobian, residual = made.jacobian(theta, last_layer(made)), made.residuals(theta)
    assert float(torch.linalg.vector_norm(jacobian.T @ residual)) < 1e-8 * float(jacobian.norm() * residual.norm())


def test_points_gather_where_the_residual_is_large():
    residual = np.concatenate([np.zeros(900), np.full(100, 5.0)])
    kept = draw_by_residual(residual, 200, np.random.default_rng(0))
    assert len(set(kept)) == 200
    assert 0.3 < np.mean(kept >= 900) <= 0.5  # a tenth of the candidates, with eleven times the weight


def test_later_times_wait_for_earlier_ones():
    times = torch.linspace(0, 1, 160, dtype=torch.float64)
    weights = causal_weights(times, torch.ones_like(times), (0.0, 1.0), strictness=1.0, chunks=4)
    assert weights[::40] == pytest.approx(np.exp(-np.arange(4.0)))
    assert causal_weights(times, torch.zeros_like(times), (0.0, 1.0), 1.0) == pytest.approx(np.ones(160))


def test_balanced_weights_give_equal_gradients():
    weights, norms = {"a": 1.0, "b": 1.0}, {"a": 100.0, "b": 1.0}
    for _ in range(200):
        weights = balanced(weights, norms)
    assert weights["a"] * norms["a"] == pytest.approx(weights["b"] * norms["b"], rel=1e-3)


def test_a_sum_of_trials_adds_and_survives_a_file():
    one, two = (NetworkTrial(make_network("mlp", inputs=2, width=4, depth=1, seed=i)) for i in range(2))
    whole = restore(SumTrial((one, two)).state())
    points, wanted = np.random.default_rng(0).uniform(size=(7, 2)), [(0, (0, 0)), (0, (1, 2))]
    for found, a, b in zip(*(f.derivatives(points, wanted) for f in (whole, one, two)), strict=True):
        assert found == pytest.approx(a + b)


def test_every_training_is_a_method():
    """The error for a wrong name lists them, sorted."""
    with pytest.raises(UnknownName, match=r"adam, .*broyden, .*gauss_newton, .*lbfgs, .*network, .*soap"):
        heat().fit("oracle")


def test_four_coordinates_go_to_a_network_whose_estimate_is_true():
    problem = poisson(4)
    solution = problem.fit(progress=False, time_limit=12)
    assert solution.method == "network"
    points = np.random.default_rng(1).uniform(size=(4, 2000))
    exact = np.cos(np.pi * points).sum(axis=0)
    error = np.linalg.norm(solution(**dict(zip("abcd", points, strict=True))) - exact) / np.linalg.norm(exact)
    assert error < 1e-2
    assert 0.1 < solution.error_estimate / error < 10


@pytest.mark.parametrize("fewest", [5, 1000])
def test_a_loss_is_recorded_where_that_pays_in_the_time_left(monkeypatch, fewest):
    """The same numbers and gradients, one recording for all points and weights, and none when time is short."""
    monkeypatch.setattr(tiles, "FEWEST", fewest), monkeypatch.setattr(tiles, "CACHE", 2**12)
    monkeypatch.setattr(compilation, "compile_step", lambda graph, inputs, threads: graph)
    monkeypatch.setattr(Stopwatch, "cost", 1e-6)
    one = objective(poisson(2), count=40)
    one.task.clock.limit = 0.0
    for _ in range(30):
        one.loss()
    assert one._program.recordings == 0
    one.task.clock.limit = 100.0
    for _ in range(3):
        one.draw()
        one.weights = {name: 2 * weight for name, weight in one.weights.items()}
        found, expected = one.loss(), sum(one.parts_of_loss().values())
        gradients = [torch.autograd.grad(value, one.parameters) for value in (found, expected)]
        assert torch.allclose(found, expected, rtol=1e-12)
        for a, b in zip(*gradients, strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-12 * float(expected))
    assert one._program.recordings == 1
    (pieces,) = one._program._graphs.values()
    assert (len(pieces) > 1) == (fewest == 5)
    one.strictness = 1.0
    assert torch.equal(one.loss(), sum(one.parts_of_loss().values()))
