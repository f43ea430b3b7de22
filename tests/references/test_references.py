"""Each reference is checked three ways: a second resolution, the declared equation, and an independent route if any."""

import math

import numpy as np
import pytest
import sympy
from sympy.core.function import AppliedUndef

import pdes
from benchmarks.observed import cramer_rao
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
    lines,
    reflection,
    schroedinger,
)
from benchmarks.statements import ROWS

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
        pytest.param(allen_cahn.reference, {"n": 1024, "steps": 2000}, (UNIT, SYMMETRIC), 5e-6, id="allen_cahn"),
        pytest.param(
            korteweg_de_vries.reference, {"n": 384, "steps": 10_000}, (UNIT, SYMMETRIC), 1e-8, id="korteweg_de_vries"
        ),
        pytest.param(
            kuramoto_sivashinsky.reference,
            {"n": 384, "steps": 20_000},
            (UNIT, (0, 2 * np.pi)),
            5e-8,
            id="kuramoto_sivashinsky",
        ),
        pytest.param(
            schroedinger.reference, {"n": 512, "steps": 4000}, ((0, np.pi / 2), (-15, 15)), 1e-8, id="schroedinger"
        ),
        pytest.param(
            limit_cycle.reference, {"n": 64, "steps": 1000}, (UNIT, (-2.5, 2.5), (-2.5, 2.5)), 1e-5, id="limit_cycle"
        ),
        pytest.param(lines.brusselator, {"points": 48, "steps": 2000}, ((0, 5), UNIT), 1e-9, id="brusselator"),
        pytest.param(lines.drift_diffusion, {"points": 64}, (UNIT, UNIT), 1e-10, id="drift_diffusion"),
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
        pytest.param(heated_plate.reference, {"nx": 39, "ny": 159}, ((0, 100), UNIT, UNIT), 1e-3, id="heated_plate"),
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


def test_burgers_sensitivities_agree_with_the_mean_and_the_scaling_of_time():
    r"""$u$ is a mean of $g = -\sin \pi y$ with weights $e^{-p A / 2 q}$, so $u_p = -\mathrm{cov}(g, A) / 2 q$.

    It depends on $(p t, q t)$ only, so $t u_t = p u_p + q u_q$.
    """
    p, q = 1.0, 0.01 / np.pi
    t, x = np.random.default_rng(3).uniform((0.05, -1), (1, 1), (100, 2)).T
    found = cole_hopf.burgers_sensitivities(t, x, p, q)
    z, w = np.polynomial.hermite.hermgauss(300)
    y = x[:, None] - np.sqrt(4 * q * t)[:, None] * z
    g, action = -np.sin(np.pi * y), np.cos(np.pi * y) / np.pi
    w = w * np.exp(-p * (action - action.min(axis=1, keepdims=True)) / (2 * q))
    w /= w.sum(axis=1, keepdims=True)
    covariance = np.sum(w * g * action, axis=1) - np.sum(w * g, axis=1) * np.sum(w * action, axis=1)
    np.testing.assert_allclose(found[:, 0], -covariance / (2 * q), atol=1e-6 * np.abs(found[:, 0]).max())
    h = 1e-5
    u_t = (cole_hopf.burgers()(t + h, x) - cole_hopf.burgers()(t - h, x)) / (2 * h)
    np.testing.assert_allclose(found @ [p, q], t * u_t, atol=1e-5 * np.abs(t * u_t).max())


def test_cramer_rao_bound_of_a_straight_line():
    """Slope and intercept from n values at places s: textbook variances."""
    s, noise = np.linspace(0, 3, 50), 0.1
    spread = np.sum((s - s.mean()) ** 2)
    expected = noise * np.sqrt([1 / spread, np.mean(s**2) / spread])
    np.testing.assert_allclose(cramer_rao(np.stack([s, np.ones(50)], axis=1), noise), expected, rtol=1e-12)


def test_reflected_pulse_agrees_with_the_standing_waves():
    problem = pdes.wave()
    axes = problem.coordinates
    (exact,) = problem.exact.values()
    start = sympy.lambdify(axes[1], exact.subs(axes[0], 0), "numpy")
    assert distance(reflection.wave(start), sympy.lambdify(axes, exact, "numpy"), (UNIT, UNIT)) < 1e-12


# Steps of the differences per coordinate, relative to the axis, and the limit these leave: truncation where the
# solution is steep, and rounding (or the error of the reference) times the inverse power of the step.
DECLARED = {
    1: ((1e-3, 5e-5), 1e-5),
    2: ((2e-3, 1e-3), 1e-4),
    3: ((1e-3, 1e-3), 1e-4),
    4: ((2e-4, 3e-3), 1e-3),
    8: ((1e-3, 1e-3), 1e-4),
    13: ((1e-3, 2e-3, 2e-3), 1e-4),
    15: ((1e-4, 1e-3, 1e-3), 1e-2),
    19: ((1e-3, 2e-3), 1e-6),
    20: ((2e-3, 2e-3, 2e-3), 1e-5),
    21: ((1e-3, 1e-3), 1e-6),
    22: ((5e-4, 1e-2, 1e-2), 1e-2),
    28: ((1e-3, 1e-3), 1e-3),  # the initial pulse is 1e-6 at the end, a jump that travels
}


SLOW = (13, 15, 20, 22)


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW), id=ROWS[n].title) for n in DECLARED]
)
def test_reference_satisfies_the_declared_problem(number):
    """Every equation by central differences, every condition at its pins, in the mean over 200 points."""
    problem, reference = ROWS[number].declare(), ROWS[number].make_reference(None)
    steps, limit = DECLARED[number]
    lengths = [float(high - low) for low, high in problem.domain.values()]
    steps = {c: length * step for c, length, step in zip(problem.coordinates, lengths, steps)}
    rng = np.random.default_rng(1)
    place = {
        c: float(low) + length * rng.uniform(0.1 if c == problem.time else 0.02, 0.95, 200)
        for (c, (low, _)), length in zip(problem.domain.items(), lengths)
    }
    for equation in problem.equations:
        terms = terms_at(problem, reference, equation, place, steps)
        assert rms(np.sum(terms, axis=0)) < limit * rms(np.sum(np.abs(terms), axis=0)), equation
    for condition in problem.conditions:
        if not condition.has(sympy.Derivative):
            terms = terms_at(problem, reference, condition, place, steps)
            assert rms(np.sum(terms, axis=0)) < 1e-4 * rms(reference_values(problem, reference, place)), condition


def test_cavity_satisfies_the_vorticity_equation_and_its_lid():
    """Shares with the reference only the velocity: everything else is by differences of the velocity."""
    nu, h = 1 / 100, 4e-3
    flow = cavity.reference(nu)
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0.1, 0.9, (2, 200))

    def along(f, axis, order):
        weights = central(order) / h**order
        return sum(w * f(x_, y_) for w, (x_, y_) in zip(weights, moved(axis)))

    def moved(axis):
        return [(x + h * k, y) if axis == 0 else (x, y + h * k) for k in range(-4, 5)]

    u, v = flow(x, y)
    assert rms(along(lambda a, b: flow(a, b)[0], 0, 1) + along(lambda a, b: flow(a, b)[1], 1, 1)) < 1e-6

    def vorticity(a, b):
        weights = central(1) / h
        v_x = sum(w * flow(a + h * k, b)[1] for w, k in zip(weights, range(-4, 5)))
        return v_x - sum(w * flow(a, b + h * k)[0] for w, k in zip(weights, range(-4, 5)))

    transport = u * along(vorticity, 0, 1) + v * along(vorticity, 1, 1)
    spreading = nu * (along(vorticity, 0, 2) + along(vorticity, 1, 2))
    assert rms(transport - spreading) < 1e-4 * rms(spreading)

    edge = np.linspace(0, 1, 50)
    np.testing.assert_allclose(flow(edge, 1 + 0 * edge)[0], 16 * edge**2 * (1 - edge) ** 2, atol=1e-12)
    for end in (0, 1):
        np.testing.assert_allclose(flow(end + 0 * edge, edge), 0, atol=1e-12)
    np.testing.assert_allclose(flow(edge, 0 * edge), 0, atol=1e-12)


@pytest.mark.parametrize(
    "number",
    [n for n, row in ROWS.items() if row.reference is None and row.observed is None],
    ids=lambda n: ROWS[n].title,
)
def test_exact_solution_of_each_row_satisfies_its_statements(number):
    problem = ROWS[number].declare()
    rng = np.random.default_rng(0)
    points = [rng.uniform(*map(float, bounds), 50) for bounds in problem.domain.values()]
    exact = {f.func: sympy.Lambda(f.args, solution) for f, solution in problem.exact.items()}
    for statement in (*problem.equations, *problem.conditions):
        terms = [
            term.replace(lambda e: e.func in exact, lambda e: exact[e.func](*e.args)).doit()
            for term in sympy.Add.make_args(sympy.expand(statement.lhs - statement.rhs))
        ]
        values = [np.broadcast_to(sympy.lambdify(problem.coordinates, term, "numpy")(*points), 50) for term in terms]
        # Where every term vanishes, as at a zero boundary, the solution (about 1 in all rows) is the measure.
        assert np.abs(np.sum(values, axis=0)).max() < 1e-11 * max(1, np.abs(values).max()), statement


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def reference_values(problem, reference, place):
    out = reference(*(place[c] for c in problem.coordinates))
    return np.array(out if isinstance(out, tuple) else [out])


def terms_at(problem, reference, statement, place, steps):
    """The summands of a statement `[terms, n]` with fields and derivatives taken from the reference."""
    expression = sympy.expand(statement.lhs - statement.rhs)
    functions = {f.func for f in problem.fields}
    derivatives = sorted(expression.atoms(sympy.Derivative), key=str)
    calls = sorted((e for e in expression.atoms(AppliedUndef) if e.func in functions), key=str)
    symbols = sympy.symbols(f"d:{len(derivatives) + len(calls)}")
    named = dict(zip([*derivatives, *calls], symbols))
    values = [value_at(problem, reference, term, place, steps) for term in named]
    # Derivatives first: the calls stand inside them.
    expression = expression.xreplace({d: named[d] for d in derivatives}).xreplace({c: named[c] for c in calls})
    arguments = (*problem.coordinates, *symbols)
    n = len(next(iter(place.values())))
    return [
        np.broadcast_to(sympy.lambdify(arguments, term, "numpy")(*place.values(), *values), n)
        for term in sympy.Add.make_args(expression)
    ]


def value_at(problem, reference, term, place, steps):
    """A field, possibly pinned, or a derivative of it by central differences on nine points."""
    if isinstance(term, sympy.Derivative):
        ((axis, order),) = term.variable_count
        weights = central(int(order)) / steps[axis] ** int(order)
        moved = [{**place, axis: place[axis] + steps[axis] * k} for k in range(-4, 5)]
        values = [value_at(problem, reference, term.expr, p, steps) for p in moved]
        return np.tensordot(weights, values, 1)
    pinned = dict(place)
    for axis, argument in zip(problem.coordinates, term.args):
        if argument != axis:
            pinned[axis] = np.full_like(place[axis], float(argument))
    index = [f.func for f in problem.fields].index(term.func)
    return reference_values(problem, reference, pinned)[index]


def central(order):
    """Weights of the derivative of that order at the middle of nine points at distance 1."""
    return np.linalg.solve(np.vander(np.arange(-4, 5), increasing=True).T, np.eye(9)[order]) * math.factorial(order)
