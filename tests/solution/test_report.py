"""The report after a solve, and the true error it states where the exact solution is known."""

import math

import pytest
import sympy
from sympy import Symbol

import pinnflow
from pinnflow.solution.report import error_in_words, report, true_error
from pinnflow.solution.solution import Estimate


def test_the_true_error_is_relative_over_all_fields(solution_of):
    solution = solution_of("acoustics")
    u, v = solution.problem.fields
    exact = solution.problem.exact
    off = type(solution.trial)([exact[u] * (1 + sympy.Float(1e-6)), exact[v]], solution.problem.columns)
    error = true_error(type(solution)(**{**vars(solution), "trial": off}))
    assert error.fields["u"] == pytest.approx(1e-6, rel=1e-6)
    assert error.fields["v"] == pytest.approx(0, abs=1e-15)
    # u and v have the same norm up to the overlap of the pulses.
    assert 0.5e-6 < float(error) < 1e-6
    assert error.points == 5000


def test_a_floating_constant_is_no_error(solution_of):
    wave = solution_of("wave")
    shifted = type(wave.trial)([wave.trial.expressions[0] + 1], wave.problem.columns)
    assert float(true_error(type(wave)(**{**vars(wave), "trial": shifted}))) > 1
    settings = {"floating_fields": ["u"]}
    moved = type(wave)(**{**vars(wave), "trial": shifted, "settings": settings})
    assert float(true_error(moved)) < 1e-14


def test_without_an_exact_solution_there_is_no_true_error(solution_of):
    wave = solution_of("wave")
    plain = type(wave)(**{**vars(wave), "problem": wave.problem.with_(exact=None)})
    assert true_error(plain) is None
    assert "true error" not in report(plain)


def test_the_report_holds_everything_a_reader_asks_for(solution_of):
    wave = solution_of("wave", unknowns={Symbol("c"): Estimate(2.0, 0.01)})
    text = report(wave, elapsed=1.26)
    for words in (
        "wave: u(t, x)",
        "least_squares: the problem is linear",
        "1.3 s",
        "c = 2 (95 %: 1.98",
        "about 3.0e-08 (7 digits)",
        "5,000 fresh points",
        "equation 1",
        "u.diff(t).subs(t, 0) = 0",
        "no longer falls",
    ):
        assert words in text
    assert "NOT SOLVED" not in text
    assert max(map(len, text.splitlines())) < 120
    assert "NOT SOLVED" in report(solution_of("wave", error_estimate=0.3))


def test_fields_have_estimates_of_their_own(solution_of, tmp_path):
    known = solution_of("acoustics", error_estimate=2e-6, settings={"error_estimates": {"u": 3e-8, "v": 2e-6}})
    for solution in (known, pinnflow.load(known.save(tmp_path / "acoustics.h5"))):
        assert [solution[name].error_estimate for name in "uv"] == [3e-8, 2e-6]
        assert "u 3.0e-08, v 2.0e-06" in report(solution)
    unknown = solution_of("acoustics", error_estimate=2e-6)
    assert unknown["u"].error_estimate == 2e-6
    rounding = solution_of("acoustics", error_estimate=2e-15, settings={"error_estimates": {"u": 1e-15, "v": 2e-15}})
    assert "1.0e-15" not in report(rounding)


def test_the_time_comes_from_the_history(solution_of):
    assert "0.2 s" in report(solution_of("wave"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (1e-12, "below 1e-11 (rounding)"),
        (3e-8, "about 3.0e-08 (7 digits)"),
        (0.04, "about 4.0e-02 (1 digit)"),
        (0.1, "about 1.0e-01"),
        (0.8, "about 0.8: no digit is right"),
        (math.inf, "no estimate"),
    ],
)
def test_an_error_in_words(error, words):
    assert error_in_words(error) == words


def test_an_exact_solution_that_overflows_is_evaluated_in_more_digits(solved):
    """sinh(1000 x)/sinh(1000) is finite, its numerator is not."""
    from pinnflow.declare.problem import Problem

    x = Symbol("x", real=True)
    u = sympy.Function("u")(x)
    exact = sympy.sinh(1000 * x) / sympy.sinh(1000)
    problem = Problem(
        [sympy.Eq(u.diff(x, 2), 10**6 * u)],
        {x: (0, 1)},
        [sympy.Eq(u.subs(x, 0), 0), sympy.Eq(u.subs(x, 1), 1)],
        exact=exact,
    )
    error = true_error(solved(problem, [sympy.exp(1000 * (x - 1))]), points=200)
    assert float(error) < 1e-12
