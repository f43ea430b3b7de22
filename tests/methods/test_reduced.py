"""Linear systems in a small space: the answers of the whole system, and a refusal where no small space holds them."""

import numpy as np
import pytest
import scipy.sparse as sparse
from sympy import Eq, Rational, cos, exp, pi, sin

from pinnflow import Problem, coordinates, field
from pinnflow.methods import radau, reduced
from pinnflow.methods.base import Clock, Task
from pinnflow.methods.form import semidiscrete_form
from pinnflow.methods.sheets import SparseSystem
from pinnflow.methods.spline_products import Assembly, Sheet
from pinnflow.trial.features import Spline
from tests.methods.problems import data, manufactured, start

t, x, y = coordinates("t x y")
u = field("u", t, x, y)
BOX = {t: (0, 1), x: (0, 1), y: (0, 2)}


def moving_faces():
    """Values on two faces and fluxes on two, all changing in time, and a source that does too."""
    e = sin(3 * t + x) * cos(y) + x * y
    operator = u.diff(t) - u.diff(x, 2) / 3 - ((1 + x / 2) * u.diff(y)).diff(y)
    fluxes = [Eq(u.diff(y).subs(y, p), e.diff(y).subs(y, p)) for p in (0, 2)]
    return Problem(manufactured([operator], {u: e}), BOX, start(u, e) + data(u, e, x, 0, 1) + fluxes, exact=e)


def swirl():
    """Transport around a centre: far from symmetric."""
    e = exp(-t) * sin(pi * x) * sin(pi * y / 2)
    operator = u.diff(t) + 5 * (y - 1) * u.diff(x) - 5 * (x - Rational(1, 2)) * u.diff(y) - u.diff(x, 2) / 50
    operator -= u.diff(y, 2) / 50
    ends = data(u, e, x, 0, 1) + data(u, e, y, 0, 2)
    return Problem(manufactured([operator], {u: e}), BOX, start(u, e) + ends, exact=e)


def system_of(problem, pieces=16):
    task = Task(problem, clock=Clock(60))
    knots = np.linspace(-1, 1, pieces + 1)
    axes = tuple(None if i == task.time_column else Spline(5, knots) for i in range(task.dimension))
    return SparseSystem(task, semidiscrete_form(task), Sheet(axes))


@pytest.mark.parametrize("make", [moving_faces, swirl])
def test_a_small_space_gives_what_the_whole_system_gives(make):
    system = system_of(make())
    looks = np.linspace(0, 1, 17)
    small = system._solve_reduced(1e-8, lambda: False, lambda t: None)
    whole = radau.integrate(
        system.right_side,
        system.jacobian,
        (0, 1),
        system.initial_state(),
        1e-8,
        mass=system.mass,
        constant_jacobian=True,
    )
    one, other = reduced.at_times(small, looks), reduced.at_times(whole, looks)
    assert small.states.shape[2] == system.size
    assert np.abs(one - other).max() < 1e-6 * np.abs(other).max()


def test_stiff_decay_is_met_at_early_and_late_times():
    """y' = -diag(rates) y, rates up to 1e6: exponentials."""
    rates = np.geomspace(1e-1, 1e6, 400)
    path = reduced.integrate(
        sparse.diags(-rates).tocsc(),
        sparse.identity(400, format="csc"),
        sparse.identity(400, format="csr"),
        lambda times: np.zeros((1, 400)),
        False,
        (0.0, 1.0),
        1 / (1 + rates),
        1e-8,
    )
    looks = np.array([1e-3, 0.03, 1.0])
    expected = np.exp(-np.outer(looks, rates)) / (1 + rates)
    assert np.abs(reduced.at_times(path, looks) - expected).max() < 1e-6


def test_a_source_that_points_everywhere_is_left_to_the_whole_system():
    """A narrow pulse that travels over 200 places has no few directions."""
    places = np.linspace(0, 1, 200)

    def drive(times):
        return np.exp(-(((places - np.asarray(times)[:, None]) / 0.02) ** 2))

    assert reduced.separate(drive, True, (0.0, 1.0), 1e-6) is None


def test_a_source_of_two_directions_is_recognised():
    """cos t and sin t times two vectors."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50))

    def drive(times):
        return np.outer(np.cos(times), a) + np.outer(np.sin(times), b)

    sources = reduced.separate(drive, True, (0.0, 2.0), 1e-10)
    assert len(sources.directions) == 2
    moments = np.linspace(0, 2, 7)
    assert sources.at(moments - 1) @ sources.directions == pytest.approx(drive(moments), abs=1e-9)


def test_matrices_by_sum_factorisation_are_those_of_plain_quadrature():
    axes = (Spline(3, np.array([-1, -0.4, 0.1, 1])), None, Spline(5, np.linspace(-1, 1, 9), periodic=True))
    sheet = Sheet(axes)
    scale = np.array([2.0, 1.0, 0.5])
    assembly = Assembly(sheet, lambda orders: float(np.prod(scale ** np.array(orders))))
    places = [p for p, _ in sheet.nodes]
    weights = np.multiply.outer(sheet.nodes[0][1], sheet.nodes[2][1]).ravel()
    c = np.random.default_rng(1).normal(size=len(weights))
    plain = sheet.at(places, (0, 0, 0)).toarray()
    first = 2 * sheet.at(places, (1, 0, 0)).toarray()
    second = 0.25 * sheet.at(places, (0, 0, 2)).toarray()
    expected = plain.T @ ((weights * c)[:, None] * first + 3 * weights[:, None] * second)
    found = assembly.matrix([(c, (1, 0, 0)), (3.0, (0, 0, 2))]).toarray()
    assert found == pytest.approx(expected, abs=1e-12 * np.abs(expected).max())
    state = np.random.default_rng(2).normal(size=(2, plain.shape[1]))
    assert assembly.values(state, (1, 0, 0)) == pytest.approx(state @ first.T)
    assert assembly.projections(assembly.values(state, (0, 0, 0))) == pytest.approx(
        state @ plain.T @ (weights[:, None] * plain)
    )
