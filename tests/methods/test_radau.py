"""The integrator keeps the order it promises, at the steps and between them."""

import numpy as np
import pytest

from pinnflow.methods.radau import integrate, tableau
from pinnflow.trial.evolution import lagrange_table


def oscillator(times, states):
    return np.stack([states[:, 1], -states[:, 0]], axis=1)


def oscillator_jacobian(time, state):
    return np.array([[0.0, 1.0], [-1.0, 0.0]])


def between(path, moments):
    step = np.clip(np.searchsorted(path.times, moments) - 1, 0, len(path.states) - 1)
    share = (moments - path.times[step]) / np.diff(path.times)[step]
    nodes = np.append(0.0, tableau(path.states.shape[1] - 1).nodes)
    return np.einsum("nk,nkd->nd", lagrange_table(nodes, share, 0), path.states[step])


@pytest.mark.parametrize("stages", [3, 5, 7])
def test_collocation_integrates_polynomials_of_its_degree(stages):
    """A c^k = c^(k+1) / (k + 1) for k < s, and b integrates to order 2 s - 1."""
    rule = tableau(stages)
    a = np.linalg.inv(rule.inverse)
    for k in range(stages):
        assert a @ rule.nodes**k == pytest.approx(rule.nodes ** (k + 1) / (k + 1), abs=1e-12)
    for k in range(2 * stages - 1):
        assert a[-1] @ rule.nodes**k == pytest.approx(1 / (k + 1), abs=1e-12)


@pytest.mark.parametrize("tolerance", [1e-5, 1e-8, 1e-11])
def test_error_follows_the_tolerance_between_the_steps(tolerance):
    """y'' = -y: cos t. The output between the steps may be ten times the local tolerance, not more."""
    path = integrate(oscillator, oscillator_jacobian, (0.0, 10.0), np.array([1.0, 0.0]), tolerance)
    moments = np.linspace(0, 10, 501)
    assert np.abs(between(path, moments)[:, 0] - np.cos(moments)).max() < 10 * tolerance


def test_output_between_the_steps_is_of_order_six():
    """Steps grow with the sixth root of the tolerance: 1e-6 times tighter takes about ten times the steps."""
    steps = [
        len(integrate(oscillator, oscillator_jacobian, (0, 20), np.array([1.0, 0.0]), tol).states)
        for tol in (1e-5, 1e-11)
    ]
    assert 6 < steps[1] / steps[0] < 16


def test_stiff_relaxation_takes_few_steps():
    """The van der Pol oscillator, mu = 1000, to t = 2000: the end value is known to 10 digits (Hairer & Wanner)."""
    mu = 1e3

    def f(times, y):
        return np.stack([y[:, 1], mu * (1 - y[:, 0] ** 2) * y[:, 1] - y[:, 0]], axis=1)

    def jacobian(time, y):
        return np.array([[0.0, 1.0], [-2 * mu * y[0] * y[1] - 1, mu * (1 - y[0] ** 2)]])

    path = integrate(f, jacobian, (0, 2000), np.array([2.0, 0.0]), 1e-8, blocks=[slice(0, 1), slice(1, 2)])
    assert path.states[-1, -1, 0] == pytest.approx(1.706167732170469, abs=1e-7)
    assert len(path.states) < 600


def test_singular_mass_keeps_an_algebraic_equation():
    """y' = -z, 0 = z - y: z follows y, y = exp(-t)."""
    mass = np.diag([1.0, 0.0])

    def f(times, y):
        return np.stack([-y[:, 1], y[:, 1] - y[:, 0]], axis=1)

    def jacobian(time, y):
        return np.array([[0.0, -1.0], [-1.0, 1.0]])

    path = integrate(f, jacobian, (0, 3), np.array([1.0, 1.0]), 1e-10, mass=mass)
    assert path.states[-1, -1] == pytest.approx([np.exp(-3)] * 2, rel=1e-8)


def test_blow_up_is_said_not_integrated():
    """y' = y^2 from 1 ends at t = 1."""
    path = integrate(lambda t, y: y**2, lambda t, y: np.array([[2 * y[0]]]), (0, 2), np.array([1.0]), 1e-8)
    assert path.reached == pytest.approx(1.0, abs=1e-3)
    assert path.trouble


def test_it_stops_when_asked():
    calls = iter([False, False, True])
    path = integrate(
        oscillator, oscillator_jacobian, (0, 10), np.array([1.0, 0.0]), 1e-9, should_stop=lambda: next(calls, True)
    )
    assert path.reached < 10
    assert "time limit" in path.trouble


def test_two_tolerances_share_no_step_on_a_smooth_solution():
    """y' = -1000 (y - cos t) - sin t from 1: y = cos t, which one step would cross and call exact."""

    def f(times, y):
        return -1000 * (y - np.cos(times)[:, None]) - np.sin(times)[:, None]

    paths = [
        integrate(f, lambda t, y: np.array([[-1000.0]]), (0, 3), np.array([1.0]), tolerance)
        for tolerance in (1e-4, 1e-5)
    ]
    inner = [path.times[1:-1] for path in paths]
    assert len(inner[0])
    assert not np.isin(inner[0], inner[1]).any()


def test_an_interval_below_zero_is_integrated_to_its_end():
    path = integrate(oscillator, oscillator_jacobian, (-3.0, -1.0), np.array([1.0, 0.0]), 1e-8)
    assert path.reached == pytest.approx(-1.0, abs=1e-12)
    assert not path.trouble


def test_a_start_at_zero_is_driven_by_the_source():
    """y' = -100 (y - sin t) from 0: relative tolerances need a size that is not there yet."""
    path = integrate(
        lambda t, y: -100 * (y - np.sin(t)[:, None]), lambda t, y: np.array([[-100.0]]), (0, 2), np.array([0.0]), 1e-8
    )
    # y = (100^2 sin t - 100 cos t + 100 exp(-100 t)) / (100^2 + 1)
    assert path.states[-1, -1, 0] == pytest.approx((1e4 * np.sin(2) - 1e2 * np.cos(2)) / (1e4 + 1), rel=1e-7)


def test_nothing_stays_nothing():
    path = integrate(lambda t, y: -y, lambda t, y: np.array([[-1.0]]), (0, 1), np.array([0.0]), 1e-8)
    assert path.reached == 1
    assert not path.states.any()
