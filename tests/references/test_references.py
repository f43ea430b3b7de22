"""Each reference is checked three ways: a second resolution, the declared equation, and an independent route if any."""

import numpy as np
import pytest
import sympy

import pdes
from benchmarks.references import (
    allen_cahn,
    cavity,
    cole_hopf,
    composite_plate,
    fokker_planck,
    gray_scott,
    heated_plate,
    korteweg_de_vries,
    kuramoto_sivashinsky,
    limit_cycle,
    reflection,
    schroedinger,
)

UNIT, SYMMETRIC = (0, 1), (-1, 1)


def distance(one, other, bounds, n=2000):
    """Relative L2 distance of two references over all fields, at uniform random points."""
    points = np.random.default_rng(0).uniform(*np.transpose(bounds), (n, len(bounds))).T
    a, b = (np.ravel(np.atleast_2d(f(*points))) for f in (one, other))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# The limits are what was measured, rounded up; the targets of the accuracy table are at least ten times larger.
@pytest.mark.parametrize(
    ("one", "other", "bounds", "limit"),
    [
        pytest.param(cole_hopf.burgers(), cole_hopf.burgers(points=300), (UNIT, SYMMETRIC), 1e-14, id="burgers"),
        pytest.param(
            cole_hopf.hamilton_jacobi(),
            cole_hopf.hamilton_jacobi(points=300),
            (UNIT, SYMMETRIC),
            1e-14,
            id="hamilton_jacobi",
        ),
        pytest.param(
            fokker_planck.reference(),
            fokker_planck.reference(modes=240),
            ((0, 2), (-2.5, 2.5)),
            1e-13,
            id="double well",
        ),
    ],
)
def test_closed_forms_agree_with_a_second_quadrature(one, other, bounds, limit):
    assert distance(one, other, bounds) < limit


# Half the steps and fewer modes than the default, so that the default is at least as good as the limit.
@pytest.mark.parametrize(
    ("make", "coarse", "bounds", "limit"),
    [
        pytest.param(allen_cahn.reference, {"n": 1024, "steps": 2000}, (UNIT, SYMMETRIC), 2e-6, id="allen_cahn"),
        pytest.param(
            korteweg_de_vries.reference, {"n": 384, "steps": 10_000}, (UNIT, SYMMETRIC), 1e-8, id="korteweg_de_vries"
        ),
        pytest.param(
            kuramoto_sivashinsky.reference,
            {"n": 192, "steps": 10_000},
            (UNIT, (0, 2 * np.pi)),
            1e-4,
            id="kuramoto_sivashinsky",
        ),
        pytest.param(
            schroedinger.reference, {"n": 512, "steps": 4000}, ((0, np.pi / 2), (-15, 15)), 1e-8, id="schroedinger"
        ),
        pytest.param(
            limit_cycle.reference, {"n": 64, "steps": 1000}, (UNIT, (-2.5, 2.5), (-2.5, 2.5)), 1e-5, id="limit_cycle"
        ),
        pytest.param(gray_scott.reference, {"n": 48}, ((0, 0.5), SYMMETRIC, SYMMETRIC), 2e-4, id="gray_scott"),
        pytest.param(cavity.reference, {"modes": 24}, (UNIT, UNIT), 1e-6, id="cavity 100"),
        pytest.param(
            lambda **options: cavity.reference(viscosity=1 / 400, **options),
            {"modes": 28},
            (UNIT, UNIT),
            1e-5,
            id="cavity 400",
        ),
    ],
)
def test_default_resolution_agrees_with_a_coarser_one(make, coarse, bounds, limit):
    assert distance(make(**coarse), make(), bounds) < limit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "coarse", "bounds", "limit"),
    [
        pytest.param(composite_plate.reference, {"intervals": 96}, (UNIT, UNIT, UNIT), 1e-5, id="composite_plate"),
        pytest.param(heated_plate.reference, {"nx": 31, "ny": 127}, ((0, 100), UNIT, UNIT), 1e-3, id="heated_plate"),
    ],
)
def test_slow_references_agree_with_a_coarser_one(make, coarse, bounds, limit):
    assert distance(make(**coarse), make(), bounds) < limit


def test_chang_cooper_agrees_with_the_spectral_solution():
    """Finite volumes at two widths, extrapolated; a scheme that shares nothing with the reference."""
    times = np.linspace(0.02, 2, 30)
    points, coarse = fokker_planck.chang_cooper(times, 800)
    _, fine = fokker_planck.chang_cooper(times, 1600)
    exact = fokker_planck.reference()(times[:, None], points[None])
    first, second = (np.linalg.norm(p - exact) / np.linalg.norm(exact) for p in (coarse, fine[:, 1::2]))
    assert first / second == pytest.approx(4, rel=0.05)  # second order
    assert np.linalg.norm((4 * fine[:, 1::2] - coarse) / 3 - exact) < 1e-9 * np.linalg.norm(exact)


def test_probability_is_conserved():
    """The double well holds everything within the interval, to the leak through its ends."""
    z, w = np.polynomial.legendre.leggauss(200)
    p = fokker_planck.reference()(np.array([[0.0], [0.1], [1.0], [2.0]]), 2.5 * z)
    np.testing.assert_allclose(p @ (2.5 * w), 1, atol=1e-9)


def test_split_step_agrees_with_the_breather_of_the_whole_line():
    """They differ by the periodic images, 2 / cosh(15) = 1e-6 at the ends."""
    bounds = ((0, np.pi / 2), (-15, 15))
    assert distance(schroedinger.reference(), schroedinger.breather, bounds) < 2e-6


def test_reflected_pulse_agrees_with_the_standing_waves():
    problem = pdes.wave()
    axes = problem.coordinates
    (exact,) = problem.exact.values()
    start = sympy.lambdify(axes[1], exact.subs(axes[0], 0), "numpy")
    assert distance(reflection.wave(start), sympy.lambdify(axes, exact, "numpy"), (UNIT, UNIT)) < 1e-12


@pytest.mark.parametrize(
    ("problem", "reference", "step", "limit"),
    [
        pytest.param(pdes.burgers(), cole_hopf.burgers(), (1e-3, 1e-4), 1e-5, id="burgers"),
        pytest.param(pdes.hamilton_jacobi(), cole_hopf.hamilton_jacobi(), (1e-3, 1e-3), 1e-5, id="hamilton_jacobi"),
        pytest.param(pdes.fokker_planck(), fokker_planck.reference(), (1e-3, 1e-2), 1e-5, id="fokker_planck"),
        pytest.param(pdes.allen_cahn(), allen_cahn.reference(), (2e-3, 2e-3), 1e-4, id="allen_cahn"),
        pytest.param(
            pdes.korteweg_de_vries(), korteweg_de_vries.reference(), (1e-3, 3e-3), 1e-3, id="korteweg_de_vries"
        ),
        pytest.param(pdes.schroedinger(), schroedinger.reference(), (2e-3, 2e-2), 1e-4, id="schroedinger"),
    ],
)
def test_reference_satisfies_the_declared_problem(problem, reference, step, limit):
    """Equation by differences of order 6 at 200 points, in the mean over them; conditions at their pins.

    The limits are those of the differences and of the rounding they magnify.
    """
    time, place = problem.coordinates
    low, high = (float(v) for v in problem.domain[place])
    end = float(problem.domain[time][1])
    rng = np.random.default_rng(1)
    t, x = rng.uniform(0.1 * end, 0.95 * end, 200), rng.uniform(0.97 * low, 0.97 * high, 200)

    for equation in problem.equations:
        derivatives = sorted(
            (equation.lhs - equation.rhs).atoms(sympy.Derivative, *[f.func for f in problem.fields]), key=str
        )
        values = [difference(problem, reference, d, t, x, step) for d in derivatives]
        names = sympy.symbols(f"d:{len(derivatives)}")
        expression = sympy.expand(equation.lhs - equation.rhs).subs(
            sorted(zip(derivatives, names), key=lambda pair: -len(str(pair[0])))
        )
        terms = [
            np.broadcast_to(sympy.lambdify((time, place, *names), term, "numpy")(t, x, *values), t.shape)
            for term in sympy.Add.make_args(expression)
        ]
        assert rms(np.sum(terms, axis=0)) < limit * rms(np.sum(np.abs(terms), axis=0))

    for f, start in initial_values(problem).items():
        values = field_values(problem, reference, f, 0 * x, x)
        np.testing.assert_allclose(values, sympy.lambdify(place, start, "numpy")(x) + 0 * x, atol=1e-4)


def rms(values):
    return np.sqrt(np.mean(values**2))


def field_values(problem, reference, field, t, x):
    out = reference(t, x)
    return out[problem.fields.index(field)] if isinstance(out, tuple) else out


def difference(problem, reference, term, t, x, step):
    """A field or one of its derivatives by central differences of order 6 or more on a stencil of nine points."""
    offsets = np.arange(-4, 5)
    if not isinstance(term, sympy.Derivative):
        return field_values(problem, reference, term, t, x)
    ((axis, order),) = term.variable_count
    h = step[problem.coordinates.index(axis)]
    weights = np.linalg.solve(np.vander(offsets, increasing=True).T, np.eye(9)[order]) * sympy.factorial(order)
    moved = [(t + h * k, x) if axis == problem.time else (t, x + h * k) for k in offsets]
    values = [field_values(problem, reference, term.expr, *place) for place in moved]
    return np.tensordot(weights.astype(float), values, 1) / h ** int(order)


def initial_values(problem):
    conditions = {c.lhs: c.rhs for c in problem.conditions}
    return {f: conditions[f.subs(problem.time, 0)] for f in problem.fields}
