"""sympy expressions and their torch form agree in value, derivative, dtype and text."""

import subprocess
import sys

import numpy as np
import pytest
import sympy
import torch
from sympy import (
    Abs,
    And,
    E,
    Eq,
    Float,
    Ge,
    Heaviside,
    Integer,
    Max,
    Min,
    Mod,
    Ne,
    Or,
    Piecewise,
    Rational,
    Symbol,
    acos,
    acosh,
    acot,
    acoth,
    acsc,
    asec,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    besseli,
    besselj,
    ceiling,
    conjugate,
    cos,
    cosh,
    cot,
    coth,
    csc,
    csch,
    digamma,
    erf,
    erfc,
    exp,
    floor,
    gamma,
    im,
    log,
    loggamma,
    pi,
    re,
    sec,
    sech,
    sign,
    sin,
    sinc,
    sinh,
    sqrt,
    tan,
    tanh,
    zoo,
)  # fmt: skip

from pinnflow.compiler.lowering import UnsupportedOperation, lower

x, y = sympy.symbols("x y", real=True)
INSIDE = [0.3, 0.55, 0.8]  # where every function below is smooth
ABOVE = [1.3, 2.4, 3.6]

SMOOTH = [
    sin(x), cos(x), tan(x), asin(x), acos(x), atan(x), sinh(x), cosh(x), tanh(x), asinh(x), atanh(x), exp(x), log(x),
    sqrt(x), x**7, x**-3, x ** Rational(5, 2), x ** Rational(-1, 2), x ** Rational(1, 3), x**y, 2**x, x**2.0, E**x,
    sec(x), csc(x), cot(x), sech(x), csch(x), coth(x), acot(x), erf(x), erfc(x), gamma(x), loggamma(x), digamma(x),
    sinc(x), besselj(0, x), besselj(1, x), besselj(3, x), besseli(1, x), atan2(x, y), Abs(x - 1), log(x, 10),
    x * y - 2 * x * y**2 / 3 + pi, (x + y) / (x - 3) / sqrt(y), sin(x) ** 2 + sin(x) ** 4, Max(x, y, 0.1) * Min(x, 2),
    Piecewise((x**2, x < 0.5), (sin(x), And(x >= 0.5, x < 0.7)), (1 + y, True)), conjugate(x) + re(x), sympy.beta(x, y),
]  # fmt: skip


def tensors(*columns, dtype=torch.float64):
    return [torch.tensor(column, dtype=dtype) for column in columns]


def digits(expression, values):
    return np.array([float(expression.subs(dict(zip((x, y), point, strict=True))).evalf(30)) for point in values])


@pytest.mark.parametrize("expression", SMOOTH, ids=str)
def test_value_and_derivative_agree_with_sympy(expression):
    a, b = tensors(INSIDE, [0.4, 0.9, 0.6])
    points = list(zip(a.tolist(), b.tolist(), strict=True))
    a.requires_grad_()
    (value,) = lower([expression], [x, y])([a, b])
    assert value.detach().numpy() == pytest.approx(digits(expression, points), rel=1e-13)
    slope = sympy.diff(expression, x)
    if not slope.has(sympy.Derivative, Heaviside):
        (gradient,) = torch.autograd.grad(value.sum(), a)
        # torch's polygamma holds nine digits
        accuracy = 1e-9 if slope.has(sympy.polygamma) else 1e-11
        assert gradient.numpy() == pytest.approx(digits(slope, points), rel=accuracy)


@pytest.mark.parametrize("expression", [acosh(x), asec(x), acsc(x), acoth(x), gamma(-x), gamma(x), log(x - 1)], ids=str)
def test_functions_beyond_one(expression):
    (value,) = lower([expression], [x])(tensors(ABOVE))
    assert value.numpy() == pytest.approx(digits(expression, [(v, 0) for v in ABOVE]), rel=1e-13)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (sign(x), [-1, 0, 1]),
        (Heaviside(x), [0, 0.5, 1]),
        (Heaviside(x, 1), [0, 1, 1]),
        (floor(x), [-2, 0, 1]),
        (ceiling(x), [-1, 0, 2]),
        (Mod(x, 1), [0.5, 0, 0.5]),
        (im(x + y), [0, 0, 0]),
        (Piecewise((1, Eq(x, 0)), (2, Or(x > 1, Ge(x, 3))), (3, True)), [3, 1, 2]),
    ],
    ids=str,
)
def test_steps(expression, expected):
    a = torch.tensor([-1.5, 0.0, 1.5], dtype=torch.float64)
    (value,) = lower([expression], [x, y])([a, a])
    assert value.expand(3).tolist() == expected


def test_a_constant_is_a_tensor_without_axes_of_the_arguments_dtype():
    value, third = lower([Integer(3), Rational(1, 3)], [x])([torch.zeros(5, dtype=torch.float32)])
    assert value.shape == () and value.dtype == torch.float32 and third == torch.tensor(1 / 3)


def test_a_rational_is_rounded_once_to_double():
    (value,) = lower([Rational(1, 3) * x], [x])([torch.tensor(1.0, dtype=torch.float64)])
    assert float(value) == 1 / 3
    (value,) = lower([Float("0.1", 40) * x], [x])([torch.tensor(1.0, dtype=torch.float64)])
    assert float(value) == 0.1


def test_arguments_broadcast():
    (value,) = lower([x * y + 1], [x, y])([torch.arange(3.0), torch.tensor(2.0)])
    assert value.tolist() == [1, 3, 5]


def test_equal_parts_are_computed_once():
    source = lower([sin(x * y) + (x * y) ** 2, -3 * x * y, sin(x * y)], [x, y]).source
    assert source.count("a0 * a1") == 1 and source.count("torch.sin") == 1


def test_works_under_vmap_and_jvp():
    function = lower([sin(x) * y**2 + besselj(0, x)], [x, y])
    a, b = torch.rand(4, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    rows = torch.func.vmap(lambda p, q: function([p, q])[0])(a, b)
    assert torch.equal(rows, function([a, b])[0])
    _, tangent = torch.func.jvp(lambda p: function([p, b])[0], (a,), (torch.ones_like(a),))
    expected = torch.cos(a) * b**2 - torch.special.bessel_j1(a)
    assert torch.allclose(tangent, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("expression", "slope_at_zero"),
    [
        (Piecewise((sin(x) / x, Ne(x, 0)), (1, True)), 0.0),
        (Piecewise((x * log(x), x > 0), (0, True)), 0.0),
        (Piecewise((sqrt(x), x > 0), (2 * x, True)), 2.0),
        (Piecewise((x + 1, x <= 0), (exp(-1 / x), True)), 1.0),
        (Piecewise((Piecewise((1 / x, x > 1), (cot(x), True)), x > 0), (3 * x, True)), 3.0),
    ],
    ids=str,
)
def test_gradient_is_finite_where_the_other_branch_is_singular(expression, slope_at_zero):
    a = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (value,) = lower([expression], [x])([a])
    (gradient,) = torch.autograd.grad(value.sum(), a)
    assert float(gradient) == slope_at_zero


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (x + sympy.DiracDelta(x), "smooth it"),
        (sympy.LambertW(x), "`LambertW` is not among the known operations Abs, acos"),
        (sympy.I * x, "two, for the real and the imaginary part"),
        (x + Symbol("q"), "this symbol has no value here; known are x"),
        (sympy.Integral(exp(-x * y**2), y), "integrals and sums are not evaluated here"),
        (x + zoo, "not a real number|zoo"),
        (besselj(x, 2), "only integer orders"),
        (sympy.Derivative(sympy.Function("f")(x), x), "left over"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused_in_words(expression, words):
    with pytest.raises(UnsupportedOperation, match=words):
        lower([expression], [x])


def test_the_first_non_finite_step_is_found():
    trouble = lower([1 + exp(log(x - 1) * y)], [x, y]).first_non_finite(tensors([2.0, 0.5], [1.0, 1.0]))
    assert trouble.node == log(x - 1) and trouble.met == {x: 0.5} and trouble.row == 1


def test_a_branch_that_is_not_taken_may_be_infinite():
    assert lower([Piecewise((1 / x, x > 0), (x, True))], [x]).first_non_finite(tensors([0.0, 1.0])) is None


def test_two_processes_write_the_same_program():
    code = (
        "import sympy; from pinnflow.compiler.lowering import lower; a, b, c = sympy.symbols('a b c');"
        "print(lower([sympy.sin(a*b*c) + a/b - sympy.Max(a, b, c)*(a + b + c)**3], [a, b, c]).source)"
    )
    texts = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
        for environment in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    }
    assert len(texts) == 1 and "torch.sin" in texts.pop()
