"""Bases that satisfy an equation by construction, and the characteristic relation they come from."""

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import I, Rational, Symbol, cos, exp, pi, sin, sqrt

from pinnflow import Problem, biharmonic, coordinates, field, laplacian
from pinnflow.trial.characteristic import NotConstant, Relation, read_operator
from pinnflow.trial.coupled import CoupledExpansion, ExactTrial
from pinnflow.trial.expansion import Frame
from pinnflow.trial.exponentials import draw_waves, join
from pinnflow.trial.features import restore_basis
from pinnflow.trial.particular import NoParticular, particular_solution
from pinnflow.trial.profiles import NoProfiles, find_families, trace_breaks
from pinnflow.trial.registry import restore

t, x, y = coordinates("t x y")
BOX = {t: (0, 2), x: (-1, 3), y: (0, 1)}
u, v = field("u", t, x), field("v", t, x)
w, p, q = (field(name, x, y) for name in "wpq")
quick = settings(max_examples=20, deadline=None)
coefficient = st.integers(-6, 6).map(lambda n: Rational(n, 2))


def declare(*equations):
    used = [c for c in (t, x, y) if any(e.has(c) for e in equations)]
    return Problem(equations, {c: BOX[c] for c in used})


def relation_of(problem):
    frame = Frame.of([problem.bounds[c] for c in problem.columns])
    return Relation(read_operator(problem), frame.half.tolist()), frame


def residuals(problem, expansion, weights, points=200):
    """Per equation the largest residual over the largest sum of magnitudes of terms in any equation."""
    rng = np.random.default_rng(0)
    place = torch.as_tensor(np.column_stack([rng.uniform(*problem.bounds[c], points) for c in problem.columns]))
    found, sizes = [], []
    for equation in read_operator(problem).coefficients:
        wanted = list(equation)
        values = expansion.derivatives(place, wanted, weights)
        terms = torch.stack([float(a) * value for a, value in zip(equation.values(), values, strict=True)])
        found.append(float(terms.sum(dim=0).abs().max()))
        sizes.append(float(terms.abs().sum(dim=0).max()))
    return [value / max([*sizes, 1e-4]) for value in found]  # a constant pressure has no terms at all


EQUATIONS = {
    "wave": [u.diff(t, 2) - 4 * u.diff(x, 2)],
    "heat": [u.diff(t) - u.diff(x, 2) / 7],
    "advection": [u.diff(t) + 3 * u.diff(x)],
    "advection-diffusion": [u.diff(t) + 3 * u.diff(x) - u.diff(x, 2) / 9],
    "damped wave": [u.diff(t, 2) + u.diff(t) - u.diff(x, 2)],
    "Klein-Gordon": [u.diff(t, 2) - u.diff(x, 2) + 5 * u],
    "beam": [u.diff(t, 2) + u.diff(x, 4)],
    "Airy": [u.diff(t) + u.diff(x, 3)],
    "Laplace": [laplacian(w, x, y)],
    "Helmholtz": [laplacian(w, x, y) + 40 * w],
    "plate": [biharmonic(w, x, y)],
    "boundary layer": [w.diff(x) - laplacian(w, x, y) / 200],
    "Schroedinger": [u.diff(t) + v.diff(x, 2), v.diff(t) - u.diff(x, 2)],
    "acoustics": [u.diff(t) + 2 * v.diff(x), v.diff(t) + u.diff(x) / 3],
    "Stokes": [
        q.diff(x) - laplacian(w, x, y),
        q.diff(y) - laplacian(p, x, y),
        w.diff(x) + p.diff(y),
    ],
    "elasticity": [
        3 * w.diff(x, 2) + w.diff(y, 2) + 2 * p.diff(x, y),
        3 * p.diff(y, 2) + p.diff(x, 2) + 2 * w.diff(x, y),
    ],
}


@pytest.mark.parametrize("name", sorted(EQUATIONS))
def test_every_wave_satisfies_the_equation(name):
    problem = declare(*EQUATIONS[name])
    relation, frame = relation_of(problem)
    for axis in [i for i in range(2) if relation.degree(i)]:
        bases = draw_waves(relation, [axis], [2.0, 2.0], [1.0, 1.0], 40)
        expansion = CoupledExpansion(frame, bases)
        assert expansion.size >= 12
        for j in range(expansion.size):
            weights = torch.zeros(expansion.size, dtype=torch.float64)
            weights[j] = 1.0
            assert max(residuals(problem, expansion, weights)) < 1e-10
        assert max(residuals(problem, expansion, torch.ones(expansion.size, dtype=torch.float64))) < 1e-10


@quick
@given(coefficient, coefficient, coefficient, coefficient, coefficient, coefficient)
def test_waves_of_any_second_order_equation_satisfy_it(a, b, c, d, e, f):
    expression = a * w.diff(x, 2) + b * w.diff(x, y) + c * w.diff(y, 2) + d * w.diff(x) + e * w.diff(y) + f * w
    if not expression.has(w.diff(x), w.diff(y)):
        return
    problem = Problem([expression], {x: BOX[x], y: BOX[y]})
    relation, frame = relation_of(problem)
    for axis in [i for i in range(2) if relation.degree(i)]:
        bases = draw_waves(relation, [axis], [2.0, 2.0], [1.0, 1.0], 40)
        if bases[0].size:
            weights = torch.ones(bases[0].size, dtype=torch.float64)
            assert max(residuals(problem, CoupledExpansion(frame, bases), weights)) < 1e-10


def test_waves_in_three_coordinates_satisfy_the_equation():
    r = field("r", t, x, y)
    problem = Problem([r.diff(t, 2) - laplacian(r, x, y) + r.diff(x, y)], BOX)
    relation, frame = relation_of(problem)
    bases = draw_waves(relation, [0, 1, 2], [2.0, 2.0, 2.0], [1.0, 2.0, 1.0], 300)
    weights = torch.ones(bases[0].size, dtype=torch.float64)
    assert 200 < bases[0].size <= 320
    assert max(residuals(problem, CoupledExpansion(frame, bases), weights)) < 1e-10


def test_dispersion_relations_are_the_ones_of_the_textbook():
    k = Symbol("k_x", real=True)

    def found(*equations):
        return set(map(sympy.simplify, read_operator(declare(*equations)).dispersion(t)))

    assert found(*EQUATIONS["wave"]) == {2 * I * k, -2 * I * k}
    assert found(*EQUATIONS["heat"]) == {-(k**2) / 7}
    assert found(*EQUATIONS["Schroedinger"]) == {I * k**2, -I * k**2}
    (first, second) = read_operator(declare(*EQUATIONS["Klein-Gordon"])).dispersion(t)
    assert sympy.simplify(first**2 + k**2 + 5) == 0 and sympy.simplify(first + second) == 0


@pytest.mark.parametrize(
    ("equation", "reason"),
    [
        (u.diff(t) - x * u.diff(x), "coefficient `-x` is not constant"),
        (u.diff(t) + u * u.diff(x), "not linear"),
        (u.diff(t) + sin(u) + u.diff(x), "not linear"),
    ],
)
def test_other_equations_have_no_relation(equation, reason):
    with pytest.raises(NotConstant, match=reason):
        read_operator(declare(equation))


def basis_of(name, profiles=False):
    problem = declare(*EQUATIONS[name])
    relation, frame = relation_of(problem)
    if profiles:
        parts = find_families(relation, problem.columns.index(t) if t in problem.columns else None).draw(40)
        return tuple(join(p) for p in parts), frame
    return draw_waves(relation, [0, 1], [2.0, 2.0], [1.0, 1.0], 60), frame


@pytest.mark.parametrize(("name", "profiles"), [("plate", False), ("heat", False), ("wave", True), ("acoustics", True)])
def test_rows_and_values_agree(name, profiles):
    """`accumulate` times weights is `combine`, with constant and varying coefficients."""
    bases, _ = basis_of(name, profiles)
    points = torch.rand(9, 2, dtype=torch.float64) * 1.9 - 0.95
    for basis in bases:
        weights = torch.randn(basis.size, dtype=torch.float64)
        factor = torch.rand(9, dtype=torch.float64)
        out = torch.zeros(9, basis.size, dtype=torch.float64)
        basis.accumulate(out, points, [(torch.tensor(2.0), (1, 0)), (factor, (0, 2)), (factor, (0, 0))])
        a, b, c = basis.combine(points, [(1, 0), (0, 2), (0, 0)], weights)
        assert torch.allclose(out @ weights, 2 * a + factor * (b + c), rtol=1e-9, atol=1e-9)
        both = basis.combine(points, [(1, 0)], torch.stack([weights, -weights], dim=1))[0]
        assert torch.allclose(both, torch.stack([a, -a], dim=1))


@pytest.mark.parametrize(("name", "profiles"), [("plate", False), ("heat", False), ("wave", True)])
def test_derivatives_are_those_of_the_values(name, profiles):
    """Against central differences of the derivative one order lower."""
    (basis, *_), _ = basis_of(name, profiles)
    points = torch.rand(20, 2, dtype=torch.float64) * 1.8 - 0.9
    weights = torch.randn(basis.size, dtype=torch.float64) / basis.size
    step = 1e-5
    for column, lower in [(0, (0, 0)), (1, (0, 0)), (1, (1, 0)), (0, (1, 0)), (1, (0, 1))]:
        shift = torch.zeros(2, dtype=torch.float64)
        shift[column] = step
        after, before = (basis.combine(points + s * shift, [lower], weights)[0] for s in (1, -1))
        higher = tuple(o + (i == column) for i, o in enumerate(lower))
        exactly = basis.combine(points, [higher], weights)[0]
        assert torch.allclose((after - before) / (2 * step), exactly, rtol=1e-4, atol=1e-4 * float(exactly.abs().max()))


@pytest.mark.parametrize(("name", "profiles"), [("plate", False), ("Schroedinger", False), ("wave", True)])
def test_trials_restore_to_the_last_digit(name, profiles):
    bases, frame = basis_of(name, profiles)
    weights = torch.randn(bases[0].size, dtype=torch.float64)
    trial = ExactTrial(CoupledExpansion(frame, bases), weights)
    again = restore(trial.state())
    points = np.random.default_rng(1).uniform(0.1, 0.9, (7, 2))
    wanted = [(f, (1, 0)) for f in range(len(bases))]
    for one, other in zip(trial.derivatives(points, wanted), again.derivatives(points, wanted), strict=True):
        assert np.array_equal(one, other)
    assert type(restore_basis(bases[0].state())) is type(bases[0])


SOURCES = [
    sympy.Integer(3),
    x**2 * y,
    sin(pi * x) * sin(4 * pi * y),
    x * (1 - x) * y * (1 - y) * exp(x),
    cos(3 * x - y) + exp(-2 * y) * x**3,
    sympy.cosh(x) ** 2,
]


@pytest.mark.parametrize("source", SOURCES, ids=str)
@pytest.mark.parametrize("left", ["Laplace", "Helmholtz", "boundary layer"])
def test_particular_solutions_solve(source, left):
    (operator,) = EQUATIONS[left]
    problem = Problem([sympy.Eq(operator, source)], {x: BOX[x], y: BOX[y]})
    relation, frame = relation_of(problem)
    ends = [problem.ends[c] for c in problem.columns]
    fixed = CoupledExpansion(frame, particular_solution(relation.operator, ends))
    points = torch.as_tensor(np.random.default_rng(0).uniform([-1, 0], [3, 1], (50, 2)))
    (equation,) = relation.operator.coefficients
    values = fixed.derivatives(points, list(equation), torch.ones(1, dtype=torch.float64))
    total = sum(float(a) * value for a, value in zip(equation.values(), values, strict=True))
    expected = np.broadcast_to(sympy.lambdify((x, y), source)(*points.numpy().T), 50)
    assert np.allclose(total.numpy(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_resonant_sources_have_a_solution_that_grows():
    """u_tt + 25 u = cos 5t is solved by t sin(5t) / 10."""
    h = field("h", t)
    problem = Problem([sympy.Eq(h.diff(t, 2) + 25 * h, cos(5 * t))], {t: (0, 2)})
    relation, frame = relation_of(problem)
    fixed = CoupledExpansion(frame, particular_solution(relation.operator, [problem.ends[t]]))
    points = torch.linspace(0.1, 1.9, 20, dtype=torch.float64)[:, None]
    value, bend = fixed.derivatives(points, [(0, (0,)), (0, (2,))], torch.ones(1, dtype=torch.float64))
    assert torch.allclose(bend + 25 * value, torch.cos(5 * points[:, 0]), atol=1e-10)


def test_other_sources_are_refused_in_words():
    problem = Problem([sympy.Eq(laplacian(w, x, y), exp(-(x**2)))], {x: BOX[x], y: BOX[y]})
    with pytest.raises(NoParticular, match="no polynomial, exponential, sine or cosine"):
        particular_solution(read_operator(problem), [problem.ends[c] for c in problem.columns])


def test_breaks_are_reflected_at_the_ends():
    """x - 2t and x + 2t on the unit square: the corners' lines return at t = 1/2."""
    directions = np.array([[-2.0, 1.0], [2.0, 1.0]]) / 3
    for breaks in trace_breaks(directions, 0):
        assert np.allclose(breaks, [-1, -1 / 3, 1 / 3, 1])


def test_profiles_are_exact_solutions_with_jumps_at_breaks_only():
    problem = declare(*EQUATIONS["acoustics"])
    relation, frame = relation_of(problem)
    families = find_families(relation, 0)
    speed = sqrt(Rational(2, 3))
    slopes = sorted(-(n[0] / frame.half[0]) / (n[1] / frame.half[1]) for n in families.directions)
    assert np.allclose(slopes, [-float(speed), float(speed)])
    bases = tuple(join(parts) for parts in families.draw(60))
    weights = torch.randn(bases[0].size, dtype=torch.float64)
    assert max(residuals(problem, CoupledExpansion(frame, bases), weights)) < 1e-12


@pytest.mark.parametrize(
    ("name", "reason"),
    [("heat", "different orders"), ("Laplace", "complex"), ("Klein-Gordon", "different orders")],
)
def test_other_equations_have_no_profiles(name, reason):
    relation, _ = relation_of(declare(*EQUATIONS[name]))
    with pytest.raises(NoProfiles, match=reason):
        find_families(relation, 0)
