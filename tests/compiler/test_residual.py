"""One part as value, terms and slopes."""

import pytest
import sympy
import torch
from sympy import Abs, Eq, Max, Symbol, exp

from pinnflow import Problem, coordinates, field
from pinnflow.compiler.residual import Residual, atom_text

t, x = coordinates("t x")
u = field("u", t, x)
c = Symbol("c", positive=True)


def residual_of(equation, unknowns=(c,)):
    problem = Problem([equation], {t: (0, 1), x: (0, 1)}, [Eq(u.subs(t, 0), 0)], unknowns=dict.fromkeys(unknowns, 1.0))
    return Residual(problem.blocks[0].parts[0], problem.columns, unknowns, problem.bounds, "equation 1")


def inputs(residual):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(6, 2, dtype=torch.float64, generator=generator)
    atoms = [torch.rand(6, dtype=torch.float64, generator=generator) for _ in residual.part.atoms]
    return points, atoms, [torch.tensor(0.7, dtype=torch.float64)]


EQUATIONS = [
    Eq(u.diff(t) + u * u.diff(x), c * u.diff(x, 2)),
    Eq(u.diff(t), exp(c * u.diff(x)) * u**3 + x * t),
    Eq(u.diff(t) / (1 + u.diff(x) ** 2), Abs(u - 2) + c * Max(u, 0.1)),
]


@pytest.mark.parametrize("equation", EQUATIONS, ids=str)
def test_slopes_are_the_derivatives_by_atoms_and_unknowns(equation):
    residual = residual_of(equation)
    points, atoms, unknowns = inputs(residual)
    slopes = [*residual.slopes(points, atoms, unknowns), *residual.unknown_slopes(points, atoms, unknowns)]
    expected = torch.func.jacrev(
        lambda values: residual.value(points, values[:-1], values[-1:])
    )([*atoms, *unknowns])  # fmt: skip
    for slope, full in zip(slopes[:-1], expected[:-1], strict=True):
        assert torch.allclose(slope.expand(6), full.diagonal(), rtol=1e-13)
    assert torch.allclose(slopes[-1].expand(6), expected[-1], rtol=1e-13)


@pytest.mark.parametrize("equation", EQUATIONS, ids=str)
def test_terms_sum_to_the_value(equation):
    residual = residual_of(equation)
    points, atoms, unknowns = inputs(residual)
    terms = residual.terms(points, atoms, unknowns)
    assert torch.allclose(terms.sum(1), residual.value(points, atoms, unknowns), rtol=1e-13)


def test_a_constant_slope_has_no_rows():
    residual = residual_of(EQUATIONS[0])
    shapes = {
        atom.orders: s.shape for atom, s in zip(residual.part.atoms, residual.slopes(*inputs(residual)), strict=True)
    }
    assert shapes[1, 0] == shapes[0, 2] == () and shapes[0, 0] == (6,)


def test_a_jump_has_slope_zero():
    residual = residual_of(Eq(u.diff(t), sympy.sign(u)), ())
    points, atoms, _ = inputs(residual)
    assert [float(s) for s in residual.slopes(points, atoms)] == [0.0, 1.0]


def test_explain_says_nothing_about_finite_values():
    residual = residual_of(EQUATIONS[0])
    assert residual.explain(*inputs(residual)) is None


def test_atoms_are_named_as_written():
    problem = Problem([Eq(u.diff(t), u.diff(t, x, x))], {t: (0, 1), x: (0, 1)}, [Eq(u.diff(x).subs({t: 0, x: 1}), 0)])
    atoms = [*problem.blocks[0].parts[0].atoms, *problem.blocks[1].parts[0].atoms]
    assert {atom_text(atom, problem.columns) for atom in atoms} == {
        "u.diff(t)", "u.diff(t, x, 2)", "u.diff(x).subs({t: 0, x: 1})"
    }  # fmt: skip


def test_a_value_that_comes_in_non_finite_is_named_itself():
    residual = residual_of(EQUATIONS[0])
    points, atoms, unknowns = inputs(residual)
    atoms[1][3] = float("nan")
    name = atom_text(residual.part.atoms[1], residual.columns)
    assert residual.explain(points, atoms, unknowns).startswith(f"{name} itself is infinite or NaN at t = ")
