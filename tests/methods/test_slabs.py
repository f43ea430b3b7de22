"""Time in slabs: the parts fit together, and do better where one set of features is too few."""

import numpy as np
import pytest
from sympy import Eq, cos, exp, pi, sin

from pinnflow import Problem, coordinates, field
from pinnflow.methods import slabs
from pinnflow.methods.base import Clock, Task
from pinnflow.methods.least_squares import grow
from pinnflow.methods.newton import NewtonSearch
from pinnflow.methods.rows import as_function
from pinnflow.trial.registry import restore
from pinnflow.trial.slabs import SlabTrial

t, x = coordinates("t x")
u = field("u", t, x)


def oscillation(order=1):
    """A nonlinear problem with many periods, first or second order in time."""
    exact = sin(pi * x) * (cos(9 * t) + 2) + x * exp(-t)
    left = u.diff(t, order) - u.diff(x, 2) / 20 + u**3
    conditions = [Eq(u.subs(t, 0), exact.subs(t, 0)), *(Eq(u.subs(x, e), exact.subs(x, e)) for e in (0, 1))]
    if order == 2:
        conditions.append(Eq(u.diff(t).subs(t, 0), exact.diff(t).subs(t, 0)))
    return Problem([Eq(left, left.subs(u, exact).doit())], {t: (0, 2), x: (0, 1)}, conditions, exact=exact)


def error_of(problem, trial):
    points = np.random.default_rng(3).uniform(size=(1000, 2)) * [2, 1]
    exact = np.asarray(pinnflow_values(problem, points))
    (values,) = trial.derivatives(points, [(0, (0, 0))])
    return np.linalg.norm(values - exact) / np.linalg.norm(exact)


def pinnflow_values(problem, points):
    import sympy

    return sympy.lambdify((t, x), problem.exact[u], "numpy")(*points.T)


@pytest.mark.parametrize("order", [1, 2])
def test_slabs_are_better_than_too_few_features_for_all_of_time(order):
    problem = oscillation(order)
    task = Task(problem, clock=Clock(60))
    assert slabs.apply(task)
    search = NewtonSearch(task)
    search.largest = search.pilot = 90
    search.first_solution()
    search.pilots()
    coarse = grow(task, search, until_hopeless=False)
    fine = slabs.improve(task, search, coarse)
    assert isinstance(fine.trial, SlabTrial)
    before, after = error_of(problem, coarse.trial), error_of(problem, fine.trial)
    assert after < 0.1 * before
    assert 0.1 * after < fine.error_estimate < 30 * after
    inside = fine.trial.breaks[1:-1]
    gaps = [
        np.subtract(*(as_function(part)(_at(time), [(0, (0, 0))])[0].numpy() for part in pair)).max()
        for time, pair in zip(inside, zip(fine.trial.parts[:-1], fine.trial.parts[1:], strict=True), strict=True)
    ]
    assert np.abs(gaps).max() < 10 * after


def _at(time):
    import torch

    places = torch.linspace(0, 1, 21, dtype=torch.float64)
    return torch.stack([torch.full_like(places, float(time)), places], dim=1)


class Constant:
    kind = "constant"

    def __init__(self, value):
        self.value = value

    def derivatives(self, points, wanted):
        return [np.full(len(points), self.value if not any(o) else 0.0) for _, o in wanted]


def test_a_slab_holds_up_to_its_end():
    trial = SlabTrial(0, np.array([0.0, 1.0, 3.0]), (Constant(1.0), Constant(2.0)))
    times = np.array([-1e-12, 0.0, 0.5, 1.0, 1.5, 3.0, 3.1])
    (values,) = trial.derivatives(np.stack([times, times], axis=1), [(0, (0, 0))])
    np.testing.assert_array_equal(values, [1, 1, 1, 1, 2, 2, 2])


def test_slabs_are_restored_to_the_last_digit():
    solution = oscillation().fit(method="newton", time_limit=4, progress=False)
    part = solution.trial if not isinstance(solution.trial, SlabTrial) else solution.trial.parts[0]
    trial = SlabTrial(0, np.array([0.0, 0.7, 2.0]), (part, part))
    points = np.random.default_rng(0).uniform(size=(50, 2))
    again = restore(trial.state())
    for one, other in zip(
        trial.derivatives(points, [(0, (1, 0))]), again.derivatives(points, [(0, (1, 0))]), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "change",
    [
        lambda q: q.with_(conditions=[*q.conditions[1:], Eq(u.subs(t, 2), 0)]),
        lambda q: q.with_(conditions=[*q.conditions[1:], Eq(u.subs(t, 0) + u.diff(x).subs(t, 0), 0)]),
        lambda q: q.with_(conditions=q.conditions[1:]),
    ],
)
def test_not_everything_can_be_cut(change):
    assert not slabs.apply(Task(change(oscillation()), clock=Clock(1)))
