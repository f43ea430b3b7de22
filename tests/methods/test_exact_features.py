"""The method that fits the conditions only: what it reaches, what it refuses, and that its estimate is true."""

import numpy as np
import pytest
import sympy
from sympy import Eq, Rational, cos, exp, pi, sin, sqrt

import pinnflow
from pinnflow import Problem, coordinates, field, laplacian
from pinnflow.errors import NotApplicable
from pinnflow.methods.base import Task
from pinnflow.methods.exact_features import PROFILES, ExactSearch, applies
from pinnflow.methods.kinks import data_kinks
from pinnflow.methods.least_squares import Candidate

t, x, y, z = coordinates("t x y z")
u, w, r = field("u", t, x), field("w", x, y), field("r", t, x, y)
SQUARE = {x: (0, 1), y: (0, 1)}
STRIP = {t: (0, 1), x: (0, 1)}


def on_ends(f, values, box):
    return [Eq(f.subs(c, end), values.subs(c, end)) for c in box if c != t for end in box[c]]


def posed(equations, exact, box, initial=1, ends=True):
    """Value (and velocity) at the start and values at the ends of a function that solves the equations."""
    f = r if len(box) == 3 else (u if t in box else w)
    conditions = [Eq(f.diff(t, k).subs(t, 0), exact.diff(t, k).subs(t, 0)) for k in range(initial)] if t in box else []
    return Problem(equations, box, conditions + (on_ends(f, exact, box) if ends else []), exact=exact)


def error(problem, solution):
    rng = np.random.default_rng(0)
    place = {c: rng.uniform(*problem.bounds[c], 1000) for c in problem.coordinates}
    missed = size = 0.0
    for f, exact in problem.exact.items():
        expected = np.broadcast_to(sympy.lambdify(problem.coordinates, exact)(*place.values()), 1000)
        missed += np.sum((solution.evaluate(f, place) - expected) ** 2)
        size += np.sum(expected**2)
    return float(np.sqrt(missed / size))


def plane_waves(wave_number):
    k = wave_number
    return sin(k * (x * cos(0.7) + y * sin(0.7))) + cos(k * (x * cos(2.1) + y * sin(2.1))) / 2


PROBLEMS = {
    "Helmholtz, ten waves": lambda: posed(
        [Eq(laplacian(w, x, y) + (21 * pi) ** 2 * w, 0)], plane_waves(21 * pi).subs({0.7: Rational(7, 10)}), SQUARE
    ),
    "Laplace": lambda: posed([Eq(laplacian(w, x, y), 0)], exp(x) * sin(y) + x**3 - 3 * x * y**2, SQUARE),
    "Poisson": lambda: posed(
        [Eq(laplacian(w, x, y), laplacian(x**2 * y * exp(y), x, y).doit())], x**2 * y * exp(y), SQUARE
    ),
    "boundary layer": lambda: posed(
        [Eq(w.diff(x), laplacian(w, x, y) / 50)],
        exp(25 * (1 + sqrt(1 + (pi / 25) ** 2)) * (x - 1)) * sin(pi * y),
        SQUARE,
    ),
    "heat": lambda: posed(
        [Eq(u.diff(t), u.diff(x, 2))], exp(-t) * cos(x) + exp(-4 * t) * sin(2 * x) + x**2 + 2 * t, STRIP
    ),
    "damped wave": lambda: posed(
        [Eq(u.diff(t, 2) + 2 * u.diff(t), u.diff(x, 2))],
        exp(-t) * cos(sqrt(8) * t) * sin(3 * x),
        STRIP,
        initial=2,
    ),
    "wave from outside": lambda: posed(
        [Eq(u.diff(t, 2), 4 * u.diff(x, 2))], exp(-30 * (x - 2 * t + 1) ** 2) + sin(3 * x + 6 * t), STRIP, initial=2
    ),
    "beam": lambda: Problem(
        [Eq(u.diff(t, 2) + u.diff(x, 4), 0)],
        {t: (0, 1), x: (0, pi)},
        [
            Eq(u.subs(t, 0), sin(x)),
            Eq(u.diff(t).subs(t, 0), 0),
            *(Eq(u.diff(x, k).subs(x, end), 0) for end in (0, pi) for k in (0, 2)),
        ],
        exact=sin(x) * cos(t),
    ),
    "wave in the plane": lambda: posed(
        [Eq(r.diff(t, 2), laplacian(r, x, y))],
        sin(pi * x) * sin(2 * pi * y) * cos(sqrt(5) * pi * t),
        {t: (0, 1), **SQUARE},
        initial=2,
    ),
    "oscillator": lambda: _oscillator(),
}


def _oscillator():
    h = field("h", t)
    return Problem(
        [Eq(h.diff(t, 2) + 25 * h, cos(5 * t))],
        {t: (0, 20)},
        [Eq(h.subs(t, 0), 1), Eq(h.diff(t).subs(t, 0), 0)],
        exact=cos(5 * t) + t * sin(5 * t) / 10,
    )


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_smooth_problems_are_solved_to_rounding(name):
    problem = PROBLEMS[name]()
    solution = problem.fit(method="exact features")
    assert error(problem, solution) < 1e-10
    assert solution.error_estimate < 1e-8
    assert solution.checks["equation 1"] < 1e-6  # in the problem's units, which are large for high waves


def test_systems_share_their_weights():
    v = field("v", t, x)
    right, left = exp(-20 * (x - t) ** 2), sin(4 * (x + t))
    problem = Problem(
        [Eq(u.diff(t) + v.diff(x), 0), Eq(v.diff(t) + u.diff(x), 0)],
        STRIP,
        [
            Eq(u.subs(t, 0), (right + left).subs(t, 0)),
            Eq(v.subs(t, 0), (right - left).subs(t, 0)),
            Eq(u.subs(x, 0), (right + left).subs(x, 0)),
            Eq(u.subs(x, 1), (right + left).subs(x, 1)),
        ],
        exact={u: right + left, v: right - left},
    )
    assert error(problem, problem.fit(method="exact features")) < 1e-11


def test_a_jump_is_carried_by_profiles():
    """The pulse is 1e-6 high where the string is held, so d'Alembert's solution jumps along both characteristics."""
    problem = Problem(
        [Eq(u.diff(t, 2), 4 * u.diff(x, 2))],
        STRIP,
        [
            Eq(u.subs(t, 0), exp(-100 * (x - Rational(37, 100)) ** 2)),
            Eq(u.diff(t).subs(t, 0), 0),
            Eq(u.subs(x, 0), 0),
            Eq(u.subs(x, 1), 0),
        ],
    )
    solution = problem.fit(method="exact features")
    assert PROFILES in " ".join(solution.settings["details"]) and solution.error_estimate < 1e-11

    def pulse(s):
        s = (s + 1) % 2 - 1  # the odd continuation of period 2
        return np.sign(s) * np.exp(-100 * (np.abs(s) - 0.37) ** 2)

    rng = np.random.default_rng(0)
    times, places = rng.uniform(0, 1, (2, 2000))
    expected = (pulse(places - 2 * times) + pulse(places + 2 * times)) / 2
    found = solution(t=times, x=places)
    assert np.linalg.norm(found - expected) < 1e-11 * np.linalg.norm(expected)


def test_a_plucked_string_keeps_its_kinks():
    """The kink of the data is found, and travels along both characteristics: straight pieces are exact."""
    shape = sympy.Min(x / Rational(3, 10), (1 - x) / Rational(7, 10))
    problem = Problem(
        [Eq(u.diff(t, 2), u.diff(x, 2))],
        {t: (0, 3), x: (0, 1)},
        [Eq(u.subs(t, 0), shape), Eq(u.diff(t).subs(t, 0), 0), Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)],
    )
    solution = problem.fit(method="exact features")

    def odd(s):
        s = (s + 1) % 2 - 1
        return np.sign(s) * np.minimum(np.abs(s) / 0.3, (1 - np.abs(s)) / 0.7)

    times, places = np.random.default_rng(0).uniform([[0], [0]], [[3], [1]], (2, 2000))
    expected = (odd(places - times) + odd(places + times)) / 2
    assert np.abs(solution(t=times, x=places) - expected).max() < 1e-10


@pytest.mark.parametrize(
    ("data", "places"),
    [
        (sympy.Abs(x - Rational(1, 4)), [0.25]),
        (sympy.Heaviside(x**2 - Rational(1, 2)) + x, [0.5**0.5]),
        (sympy.Piecewise((x, x < Rational(1, 3)), (1, x < Rational(2, 3)), (0, True)), [1 / 3, 2 / 3]),
        (sympy.Max(sin(7 * x), 0), [np.pi / 7, 2 * np.pi / 7, 0.0]),
        (exp(x), []),
    ],
)
def test_kinks_of_data_are_found(data, places):
    problem = Problem([Eq(u.diff(t, 2), u.diff(x, 2))], STRIP, [Eq(u.subs(t, 0), data), Eq(u.diff(t).subs(t, 0), 0)])
    found = data_kinks(Task(problem))
    assert all(point[0] == 0 for point in found)
    assert np.allclose(sorted(point[1] for point in found), sorted(places), atol=1e-12)


def test_free_ends_join_profiles_where_no_condition_does():
    """With u_x = 0 at both ends no condition sees the constants of the reflected profiles."""
    exact = cos(pi * x) * cos(3 * pi * t) + cos(4 * pi * x) * cos(12 * pi * t) / 4
    problem = Problem(
        [Eq(u.diff(t, 2), 9 * u.diff(x, 2))],
        STRIP,
        [
            Eq(u.subs(t, 0), exact.subs(t, 0)),
            Eq(u.diff(t).subs(t, 0), 0),
            Eq(u.diff(x).subs(x, 0), 0),
            Eq(u.diff(x).subs(x, 1), 0),
        ],
        exact=exact,
    )
    search = ExactSearch(Task(problem))
    fitted = search.fit(Candidate(PROFILES, (1.0, 1.0), 500))
    grid = np.random.default_rng(0).uniform(0, 1, (500, 2))
    expected = sympy.lambdify((t, x), exact)(*grid.T)
    assert np.abs(fitted.trial.derivatives(grid, [(0, (0, 0))])[0] - expected).max() < 1e-9


def test_periodic_axes_need_one_lattice_only():
    problem = Problem(
        [Eq(u.diff(t) + 80 * u.diff(x), 0)],
        {t: (0, 1), x: (0, 2 * pi)},
        [Eq(u.subs(t, 0), exp(cos(x))), Eq(u.subs(x, 0), u.subs(x, 2 * pi))],
        exact=exp(cos(x - 80 * t)),
    )
    solution = problem.fit(method="exact features")
    assert error(problem, solution) < 1e-12


def test_a_rough_solution_has_a_true_estimate():
    """r^(3/2) sin(3 phi / 2) at a corner: the residual falls slowly, and the estimate follows the error."""
    exact = (x**2 + y**2) ** Rational(3, 4) * sin(Rational(3, 2) * sympy.atan2(y, x))
    problem = posed([Eq(laplacian(w, x, y), 0)], exact, SQUARE)
    solution = problem.fit(method="exact features", tolerance=1e-5)
    missed = error(problem, solution)
    assert missed < 1e-5 and 0.1 * missed < solution.error_estimate < 30 * missed


def test_files_restore_the_same_function(tmp_path):
    solution = PROBLEMS["Poisson"]().fit(method="exact features")
    solution.save(tmp_path / "poisson.h5")
    again = pinnflow.load(tmp_path / "poisson.h5")
    assert np.array_equal(solution(x=[0.1, 0.7], y=[0.2, 0.9]), again(x=[0.1, 0.7], y=[0.2, 0.9]))


def test_the_same_seed_gives_the_same_digits():
    first, second = (PROBLEMS["Laplace"]().fit(method="exact features", seed=4)(x=0.3, y=0.6) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("equation", "reason"),
    [
        (w.diff(x, 2) + (1 + x) * w.diff(y, 2), "the coefficient `.*` is not constant"),
        (Eq(laplacian(w, x, y), exp(-(x**2))), "no polynomial, exponential, sine or cosine"),
        (Eq(laplacian(w, x, y), w**2), "the problem is not linear"),
    ],
)
def test_other_equations_are_refused_in_words(equation, reason):
    problem = Problem([equation], SQUARE, on_ends(w, sympy.S.Zero, SQUARE))
    with pytest.raises(NotApplicable, match=reason):
        problem.fit(method="exact features")
    assert applies(Task(problem)) is not None


def test_what_applies_is_said_without_solving():
    assert applies(Task(PROBLEMS["heat"]())) is None
