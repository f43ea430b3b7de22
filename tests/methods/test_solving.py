"""Problems that are in no list, solved with no option given: the error is small and the estimate is true."""

import numpy as np
import pytest
from sympy import Eq, exp, pi, sin

from pinnflow import Problem, coordinates, field
from pinnflow.solution.report import true_error
from tests.methods import problems

FLOOR = 1e-11  # errors and estimates below count as this

# name, method that is expected, error that must be met
CASES = [
    ("damped_beam", "exact features", 1e-9),
    ("drift_diffusion", "least squares", 1e-9),
    ("plane_stokes", "exact features", 1e-8),
    ("reaction_diffusion", "evolution", 1e-8),
    ("moving_ends", "evolution", 1e-8),
    ("kink", "evolution", 1e-8),
    ("long_waves", "evolution", 1e-8),
    ("charges", "evolution", 1e-8),
    ("kilokelvin", "evolution", 1e-8),
    ("slow_decay", "evolution", 1e-8),
    ("stiff_relaxation", "evolution", 1e-8),
    ("two_species", "evolution", 1e-8),
    ("rod_with_reservoir", "evolution", 1e-8),
    ("reservoir_beside_a_rod", "least squares", 1e-8),
    ("radiation", "newton", 1e-8),
    ("curved_bar", "newton", 1e-8),
]


@pytest.mark.parametrize(("name", "method", "target"), CASES)
def test_solves_with_no_option_and_says_how_well(name, method, target):
    solution = getattr(problems, name)().fit()
    error = true_error(solution).total
    assert solution.success
    assert solution.method == method
    assert error < target
    ratio = max(solution.error_estimate, FLOOR) / max(error, FLOOR)
    assert 0.1 <= ratio <= 10


def test_boundary_data_may_need_their_fourth_derivative_in_time():
    solution = problems.fourth_order_in_time().fit(method="evolution", time_limit=4)
    assert true_error(solution).total < 1e-3


def test_a_parameter_axis_solves_a_family_at_once():
    solution = problems.family().fit(tolerance=1e-6)
    assert true_error(solution).total < 1e-6


def test_the_same_seed_gives_the_same_digits():
    problem = problems.damped_beam()
    first, second = problem.fit(seed=3), problem.fit(seed=3)
    place = {"t": np.linspace(0, 2, 7), "x": 0.4}
    assert np.array_equal(first(**place), second(**place))
    assert first.error_estimate == second.error_estimate


def test_seeds_differ_in_digits_but_not_in_the_answer():
    problem = problems.drift_diffusion()
    values = [problem.fit(seed=s)(t=0.5, x=0.7) for s in (0, 1)]
    assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_error_is_the_same_in_any_units():
    """x in metres or millimetres, u in volts or kilovolts: the axes and unknowns are scaled inside."""
    found = []
    for length, size in ((1, 1), (1000, 1), (1, 10**6)):
        t, x = coordinates("t x")
        u = field("u", t, x)
        problem = Problem(
            [Eq(u.diff(t), length**2 * u.diff(x, 2) / 10)],
            {t: (0, 1), x: (0, length)},
            [Eq(u.subs(t, 0), size * sin(pi * x / length)), Eq(u.subs(x, 0), 0), Eq(u.subs(x, length), 0)],
        )
        found.append(problem.fit()(t=0.3, x=0.4 * length) / size)
    assert found == pytest.approx([found[0]] * 3, rel=1e-10)


def test_a_field_that_vanishes_beside_another_is_no_false_alarm():
    """b = 0 solves b_t = b_xx - b^2; its rounding noise is not a size."""
    t, x = coordinates("t x")
    a, b = field("a", t, x), field("b", t, x)
    e = exp(-t) * sin(pi * x)
    ends = [Eq(f.subs(x, p), 0) for f in (a, b) for p in (0, 1)]
    problem = Problem(
        [
            Eq(a.diff(t), a.diff(x, 2) - a * b + e.diff(t) - e.diff(x, 2)),
            Eq(b.diff(t), b.diff(x, 2) - b**2),
        ],
        {t: (0, 1), x: (0, 1)},
        [Eq(a.subs(t, 0), e.subs(t, 0)), Eq(b.subs(t, 0), 0), *ends],
        exact={a: e, b: 0},
    )
    solution = problem.fit()
    assert solution.success
    assert solution.error_estimate < 1e-8


def test_what_the_check_warns_of_stands_beside_the_result():
    """Heat with one end missing has many solutions; a small residual does not tell which was meant."""
    t, x = coordinates("t x")
    u = field("u", t, x)
    problem = Problem(
        [Eq(u.diff(t), u.diff(x, 2))], {t: (0, 1), x: (0, 1)}, [Eq(u.subs(t, 0), sin(pi * x)), Eq(u.subs(x, 0), 0)]
    )
    assert "one condition at each end" in problem.fit(time_limit=5).stop
