"""Exact rewriting: scaled problems, linearised residuals, manufactured solutions."""

import numpy as np
import pytest
import sympy
from sympy import Eq, Rational, cos, exp, pi, sin

import pdes
from pinnflow import Condition, DeclarationError, Problem, coordinates, field, laplacian, manufacture, normal_derivative
from pinnflow.declare.analysis import is_affine
from pinnflow.declare.check_equations import exact_residual
from pinnflow.declare.rewrite import Scale, frechet, residual_of, scale_part

t, x, y = coordinates("t x y")
u, w = field("u", t, x), field("w", x, y)


@pytest.mark.parametrize("name", sorted(pdes.ALL))
def test_manufactured_source_makes_any_function_the_solution(name):
    problem = pdes.ALL[name]()
    a, b = problem.coordinates
    chosen = {f: sin(2 * a + i) * exp(b / 3) + i * a * b for i, f in enumerate(problem.fields)}
    made = manufacture(problem, chosen)
    for block in made.blocks:
        for part in block.parts:
            gap, scale, _ = exact_residual(made, part)
            assert gap <= 1e-9 * max(scale, 1)


def test_manufactured_boundary_data_are_written_face_by_face():
    problem = Problem(
        [Eq(laplacian(w, x, y), 0)], {x: (0, 1), y: (0, 2)}, [Condition(normal_derivative(w) + w, "boundary")]
    )
    made = manufacture(problem, x**2 * y)
    assert [dict(c.on) for c in made.conditions] == [{x: 0}, {x: 1}, {y: 0}, {y: 2}]
    assert [c.eq.rhs for c in made.conditions] == [0, 3 * y, -(x**2), 3 * x**2]
    assert made.check().warnings == ()


def test_manufacture_needs_every_field():
    v = field("v", t, x)
    problem = Problem([u.diff(t) - v, v.diff(t) - u], {t: (0, 1), x: (0, 1)})
    with pytest.raises(DeclarationError, match=r"`manufacture` needs a function for `v\(t, x\)` too"):
        manufacture(problem, {u: x})


def test_scaled_residual_equals_the_residual_of_the_scaled_function():
    r"""With $x = x_0 + L \xi$ and $u = u_0 + U v$ the residual of v in the new part is that of u in the old one."""
    equation = u.diff(t) + x * u * u.diff(x) - u.diff(x, 2) / 7 - t * u.diff(x).subs(x, 1)
    problem = Problem([equation], {t: (0, 5), x: (-3, 1)})
    part = problem.blocks[0].parts[0]
    scales = {t: Scale(1, 4), x: Scale(-1, 2), u: Scale(Rational(1, 3), 10)}
    scaled_function = sin(t) * x**2 + cos(x)  # v in the scaled axes
    in_units = Rational(1, 3) + 10 * scaled_function.subs({t: (t - 1) / 4, x: (x + 1) / 2}, simultaneous=True)
    before = residual_of(part, problem.columns, {u: in_units})
    after = residual_of(scale_part(part, problem.columns, scales), problem.columns, {u: scaled_function})
    for tau, xi in np.random.default_rng(0).uniform(-1, 1, (5, 2)):
        left = float(before.subs({t: 1 + 4 * tau, x: -1 + 2 * xi}))
        assert float(after.subs({t: tau, x: xi})) == pytest.approx(left, rel=1e-10, abs=1e-10)


def test_scaled_pins_move_with_their_axis():
    problem = Problem([u.diff(t)], {t: (0, 5), x: (-3, 1)}, [Eq(u.diff(x).subs(x, 1), t)])
    part = scale_part(problem.blocks[1].parts[0], problem.columns, {x: Scale(-1, 2), t: Scale(0, 5)})
    (atom,) = part.atoms
    assert (part.pins, atom.pins) == ({x: 1}, ((x, 1),))
    assert part.expression == atom.symbol / 2 - 5 * t


def test_frechet_derivative_is_the_limit_of_differences():
    problem = Problem([u.diff(t) + u * u.diff(x) ** 2 - sin(u)], {t: (0, 1), x: (0, 1)})
    part = problem.blocks[0].parts[0]
    here, direction, step = x * exp(t), sin(pi * x) + t, sympy.Symbol("h")
    moved = residual_of(part, problem.columns, {u: here + step * direction})
    slope = sympy.diff(moved, step).subs(step, 0)
    replaced = {a.symbol: residual_of_atom(a, problem, here) for a in part.atoms}
    linear = sum(s.xreplace(replaced) * residual_of_atom(a, problem, direction) for a, s in frechet(part).items())
    assert sympy.expand(slope - linear) == 0


def test_frechet_slopes_of_a_linear_part_hold_no_atoms():
    part = Problem([x * u.diff(t) - u.diff(x, 2)], {t: (0, 1), x: (0, 1)}).blocks[0].parts[0]
    assert is_affine(part.expression, [a.symbol for a in part.atoms])
    assert set(frechet(part).values()) == {x, -1}


def residual_of_atom(atom, problem, function):
    from pinnflow.declare.rewrite import value_of

    return value_of(atom, problem.columns, {atom.field: function})
