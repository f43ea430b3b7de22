"""Each equation is what its docstring says: the exact solution satisfies every statement; errors name the parameter."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy
from sympy import Add, Eq, Lambda, Rational, cos, exp, pi, sin, sqrt
from sympy.core.function import AppliedUndef

import pdes
from pinnflow import Problem, coordinates
from pinnflow.errors import DeclarationError

t, x, y = coordinates("t x y")

CLOSED_FORMS = {
    "advection": pdes.advection(),
    "advection, fast": pdes.advection(speed=-80, initial=exp(-20 * (1 - cos(x - 2)))),
    "fokker_planck, Ornstein-Uhlenbeck": pdes.fokker_planck(drift=-x),
    "fokker_planck, shifted": pdes.fokker_planck(drift=lambda z: 1 - 3 * z, diffusion=0.5, mean=-1, deviation=0.25),
    "fokker_planck, constant drift": pdes.fokker_planck(drift=1, diffusion=0.1, duration=1),
    "heat": pdes.heat(),
    "heat, long rod": pdes.heat(diffusivity=2.5, amplitudes=(0, 1, 0, 0, -3), length=pi, duration=0.2),
    "helmholtz": pdes.helmholtz(),
    "helmholtz, short waves": pdes.helmholtz(wavenumber=10, modes=(3, 2)),
    "klein_gordon": pdes.klein_gordon(),
    "klein_gordon, massive": pdes.klein_gordon(mass=2, coupling=-0.5, speed=3, solution=sin(x - 2 * t), duration=0.5),
    "korteweg_de_vries, soliton": pdes.korteweg_de_vries(dispersion=0.1, soliton_speed=0.5),
    "poisson": pdes.poisson(),
    "poisson, peak": pdes.poisson(solution=exp(-100 * ((x - 0.37) ** 2 + (y - 0.61) ** 2))),
    "wave": pdes.wave(),
    "wave, slow": pdes.wave(speed=sqrt(2), amplitudes=(0, 0, 1), length=2, duration=3),
}


def statements(problem: Problem):
    return [
        pytest.param(problem, statement)
        for statement in (*problem.equations, *problem.conditions)
        if isinstance(statement, Eq)
    ]


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_exact_solution_satisfies_each_statement(name):
    """Sampled at 50 points; relative to the magnitude of the terms, or to the solution where all of them vanish."""
    problem = CLOSED_FORMS[name]
    rng = np.random.default_rng(0)
    assert set(problem.exact) == set(problem.fields)
    for statement in (*problem.equations, *problem.conditions):
        axes = problem.coordinates
        terms = [insert_exact(problem, term) for term in Add.make_args(sympy.expand(statement.lhs - statement.rhs))]
        points = [rng.uniform(*map(float, problem.domain[axis]), 50) for axis in axes]
        values = [np.broadcast_to(sympy.lambdify(axes, term, "numpy")(*points), 50) for term in terms]
        scale = max(np.abs(values).max(), largest(problem, points))
        assert np.abs(np.sum(values, axis=0)).max() < 1e-11 * scale, statement


def insert_exact(problem, term):
    solutions = {field.func: Lambda(field.args, solution) for field, solution in problem.exact.items()}
    inserted = term.replace(
        lambda e: isinstance(e, AppliedUndef) and e.func in solutions, lambda e: solutions[e.func](*e.args)
    )
    return inserted.doit()


def largest(problem, points):
    return max(np.abs(sympy.lambdify(problem.coordinates, e, "numpy")(*points)).max() for e in problem.exact.values())


@pytest.mark.parametrize("name", pdes.ALL)
def test_default_problem_passes_its_own_check(name):
    report = pdes.ALL[name]().check()
    assert not report.errors, str(report)
    assert not report.warnings, str(report)


@pytest.mark.parametrize("name", pdes.ALL)
def test_name_stands_in_file_problem_and_list(name):
    function = pdes.ALL[name]
    assert getattr(pdes, name) is function
    assert name in pdes.__all__
    assert function.__module__ == f"pdes.{name}_equation"
    assert function().name == name


def test_each_file_is_registered():
    files = {file.stem.removesuffix("_equation") for file in Path(pdes.__file__).parent.glob("*_equation.py")}
    assert files == set(pdes.ALL)


@pytest.mark.parametrize("name", pdes.ALL)
def test_docstring_has_a_short_title_parameters_and_source(name):
    function = pdes.ALL[name]
    text = inspect.getdoc(function)
    assert len(text.split("\n")[0]) <= 80
    assert "Source: " in text
    assert "Exact solution: " in text or "Reference: " in text
    for parameter in inspect.signature(function).parameters:
        assert f"    {parameter}: " in text


def test_importing_the_equations_does_not_import_torch():
    code = "import pdes, sys; pdes.wave(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            lambda: pdes.wave(speed=-1),
            "`speed` is -1, but a positive number is expected; write for instance `speed=2`.",
        ),
        (lambda: pdes.wave(speed="2"), "`speed` is '2', but a positive number"),
        (lambda: pdes.wave(speed=True), "`speed` is True, but a positive number"),
        (lambda: pdes.heat(diffusivity=float("nan")), "`diffusivity` is nan, but a positive number"),
        (lambda: pdes.wave(amplitudes=(1, None)), "`amplitudes` is None, but a real number is expected"),
        (lambda: pdes.advection(initial=x), "is 0 at x = 0.0 and 6.28319 a full turn further"),
        (lambda: pdes.burgers(initial=cos(pi * x)), "which is -1 at x = -1; the solution vanishes there"),
        (lambda: pdes.allen_cahn(initial=x), "the axis `x` is periodic, so both must be equal"),
        (lambda: pdes.fokker_planck(drift=x * y), "it contains `y`, but may contain `x` only"),
        (lambda: pdes.fokker_planck(interval=(2, 1)), "two increasing numbers are expected; write `interval=(-2, 2)`"),
        (lambda: pdes.fokker_planck(interval=2), "two increasing numbers are expected"),
        (lambda: pdes.hamilton_jacobi(hamiltonian="p**2"), "a sympy expression in `p` is expected"),
        (lambda: pdes.helmholtz(wavenumber=sqrt(2) * pi / 2), "the square resonates"),
        (lambda: pdes.helmholtz(modes=(1, 1.5)), "`modes` is 1.5, but a whole number is expected"),
        (lambda: pdes.helmholtz(modes=(1, 2, 3)), "two whole numbers are expected; write `modes=(1, 4)`"),
    ],
)
def test_wrong_parameter_is_named_with_what_to_write(declare, message):
    with pytest.raises(DeclarationError) as error:
        declare()
    assert message in str(error.value)


def test_decimal_parameters_become_exact():
    assert pdes.korteweg_de_vries(dispersion=0.022).equations == pdes.korteweg_de_vries().equations
    assert pdes.heat(diffusivity=0.1).equations[0].rhs.has(Rational(1, 10))


def test_symbols_without_assumptions_are_taken_for_the_coordinates():
    plain = sympy.Symbol("x")
    assert pdes.fokker_planck(drift=plain - plain**3).equations == pdes.fokker_planck().equations


@pytest.mark.parametrize("hamiltonian", [sqrt(1 + sympy.Symbol("p") ** 2), lambda p: sqrt(1 + p**2)])
def test_hamiltonian_is_an_expression_or_a_function(hamiltonian):
    problem = pdes.hamilton_jacobi(hamiltonian=hamiltonian)
    u = problem.fields[0]
    assert problem.equations[0].lhs == u.diff(t) + sqrt(1 + u.diff(x) ** 2)


def test_resonance_is_found_only_where_there_is_one():
    pdes.helmholtz(wavenumber=pi / 2 * sqrt(3))  # 3 is no sum of two positive squares
    with pytest.raises(DeclarationError, match=r"\(1\^2 \+ 2\^2\)"):
        pdes.helmholtz(wavenumber=pi / 2 * sqrt(5))
