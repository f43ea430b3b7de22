"""The road from a declaration to a solution: options, limits, interrupts, checkpoints, refusals."""

import time

import numpy as np
import pytest
import torch
from sympy import Eq, cos, exp, pi, sin

import pinnflow
from pinnflow import Problem, coordinates, field
from pinnflow.errors import NotApplicable, UnknownName, UnusableDevice
from pinnflow.solution.report import true_error
from tests.methods import problems


def burgers(viscosity=0.01 / np.pi):
    t, x = coordinates("t x")
    u = field("u", t, x)
    return Problem(
        [Eq(u.diff(t) + u * u.diff(x), viscosity * u.diff(x, 2))],
        {t: (0, 1), x: (-1, 1)},
        [Eq(u.subs(t, 0), -sin(pi * x)), Eq(u.subs(x, -1), 0), Eq(u.subs(x, 1), 0)],
    )


def test_a_tolerance_is_met_and_ends_the_fit():
    solution = problems.moving_ends().fit(tolerance=1e-4)
    assert solution.error_estimate <= 1e-4
    assert true_error(solution).total <= 1e-4
    assert "tolerance" in solution.stop


@pytest.mark.parametrize("limit", [1.0, 3.0])
def test_the_time_limit_is_kept(limit):
    """Allen-Cahn would take half a minute; start-up (compiling the expressions) is allowed a second."""
    import pdes

    problem = pdes.allen_cahn()
    problem.fit(time_limit=0.5)
    began = time.perf_counter()
    solution = problem.fit(time_limit=limit, tolerance=1e-12)
    assert time.perf_counter() - began < 1.1 * limit + 1.5
    assert solution.settings["time_limit"] == limit


def test_a_solution_that_is_not_resolved_says_so():
    def interrupt(entry):  # by the first round, which is too coarse, on any machine
        if entry["stage"] == "round":
            raise KeyboardInterrupt

    solution = burgers().fit(callbacks=[interrupt])
    assert not solution.success
    assert "NOT SOLVED" in solution.stop
    assert solution.error_estimate > 1e-2


def test_an_interrupt_returns_the_best_so_far():
    def interrupt(entry):
        if entry["stage"] == "round" and entry["score"] < 0.5:
            raise KeyboardInterrupt

    solution = burgers(0.05).fit(callbacks=[interrupt])
    assert "interrupted" in solution.stop
    assert np.isfinite(solution(t=0.5, x=0.1))


@pytest.mark.parametrize("method", ["least squares", "newton", "network"])
def test_an_interrupt_before_the_first_estimate_returns_a_solution(method):
    def interrupt(entry):
        if entry["stage"] in ("pilot", "start", "train"):
            raise KeyboardInterrupt

    solution = problems.plane_stokes().fit(method=method, callbacks=[interrupt])
    assert "interrupted" in solution.stop
    assert solution.method == method


def test_no_further_method_begins_when_the_time_is_up():
    """u'' + 4 e^u = 0 has no solution (Bratu), so Newton's method takes all the time there is."""
    x = coordinates("x")
    u = field("u", x)
    problem = Problem([Eq(u.diff(x, 2) + 4 * exp(u), 0)], {x: (0, 1)}, [Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)])
    solution = problem.fit(time_limit=0.1)
    assert not solution.success
    assert solution.method == "newton"


def test_callbacks_see_every_round():
    seen = []
    solution = burgers(0.05).fit(callbacks=[seen.append], tolerance=1e-4)
    assert len(seen) == len(solution.history)
    assert {"stage", "elapsed", "score"} <= seen[0].keys()


def test_progress_goes_to_a_callable():
    stages = []
    problems.damped_beam().fit(progress=lambda facts: stages.append(facts["stage"]))
    assert stages[0] == "decide"
    assert "growth" in stages


def test_a_finished_checkpoint_is_taken_as_it_is(tmp_path):
    path = tmp_path / "beam.h5"
    problem = problems.damped_beam()
    first = problem.fit(checkpoint=path)
    began = time.perf_counter()
    again = problem.fit(checkpoint=path, resume=True)
    assert time.perf_counter() - began < 1.0
    assert again(t=1.0, x=1.0) == first(t=1.0, x=1.0)


def test_an_interrupted_fit_leaves_its_best_in_the_checkpoint(tmp_path):
    path = tmp_path / "burgers.h5"

    def stop(entry):
        if entry["stage"] == "round" and entry["score"] < 0.1:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        burgers(0.05).fit(checkpoint=path, callbacks=[stop])
    left = pinnflow.load(path)
    assert np.isfinite(left(t=0.5, x=0.1))
    resumed = burgers(0.05).fit(checkpoint=path, resume=True, tolerance=1e-6)
    assert resumed.error_estimate <= 1e-6


def test_a_checkpoint_that_is_not_solved_is_gone_on_from(tmp_path):
    path = tmp_path / "burgers.h5"

    def interrupt(entry):
        raise KeyboardInterrupt

    assert not burgers(0.05).fit(checkpoint=path, callbacks=[interrupt]).success
    assert burgers(0.05).fit(checkpoint=path, resume=True).success


def test_a_checkpoint_of_another_problem_is_refused(tmp_path):
    problems.damped_beam().fit(checkpoint=tmp_path / "c.h5")
    with pytest.raises(ValueError, match="another problem"):
        problems.drift_diffusion().fit(checkpoint=tmp_path / "c.h5", resume=True)


def test_resuming_needs_a_checkpoint():
    with pytest.raises(ValueError, match="checkpoint"):
        problems.damped_beam().fit(resume=True)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "magic"}, UnknownName, "least squares"),
        ({"tolerance": -1}, ValueError, "tolerance"),
        ({"time_limit": 0}, ValueError, "time_limit"),
        ({"seed": -1}, ValueError, "`seed` is -1"),
        ({"points": 0}, ValueError, "`points` is 0"),
        ({"points": 1.5}, ValueError, "`points` is 1.5"),
        ({"device": "abacus"}, UnusableDevice, "abacus"),
        ({"method": "evolution"}, NotApplicable, "no time coordinate"),
        ({"network": "oracle"}, UnknownName, "mlp"),
    ],
)
def test_bad_options_are_refused_in_words(options, error, words):
    with pytest.raises(error, match=words):
        problems.plane_stokes().fit(**options)


def test_methods_that_do_not_apply_say_what_would():
    with pytest.raises(NotApplicable, match=r"not linear.*evolution"):
        burgers().fit(method="least squares")


def test_the_reason_names_what_decided():
    assert "linear" in problems.damped_beam().fit().reason.lower()
    assert "evolution" in problems.kink().fit(tolerance=1e-3).reason


def test_blow_up_is_reported():
    """u' = u^2 from 1 has no solution beyond t = 1."""
    t = coordinates("t")
    u = field("u", t)
    problem = Problem([Eq(u.diff(t), u**2)], {t: (0, 2)}, [Eq(u.subs(t, 0), 1)])
    solution = problem.fit(time_limit=8)
    assert not solution.success
    assert "blow up" in solution.stop


def test_a_network_of_ones_own_is_trained():
    x = coordinates("x")
    u = field("u", x)
    problem = Problem(
        [Eq(u.diff(x, 2), -u)], {x: (0, 1)}, [Eq(u.subs(x, 0), 1), Eq(u.diff(x).subs(x, 0), 0)], exact=cos(x)
    )
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
    solution = problem.fit(network=network, time_limit=6)
    error = true_error(solution).total
    assert solution.trial.module is network
    assert error < 1e-2
    assert 0.1 < solution.error_estimate / error < 10


def test_an_equation_violated_over_most_of_the_domain_is_not_solved():
    """Newton bends u' = u^2 to a function that is huge at the end, where alone the residual is small beside it."""
    t = coordinates("t")
    u = field("u", t)
    solution = Problem([Eq(u.diff(t), u**2)], {t: (0, 2)}, [Eq(u.subs(t, 0), 1)]).fit(time_limit=8, method="newton")
    assert not solution.success
    assert solution.error_estimate > 0.1
