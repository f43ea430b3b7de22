"""Laplacians estimated along random lines inside `compile`."""

import math
import warnings

import pytest
import torch
from sympy import Eq
from torch import nn

import pinnflow
from pinnflow import Problem, coordinates, field, grad, laplacian, norm_squared
from pinnflow.compiler.derivatives import SlowDerivatives
from pinnflow.errors import WrongShape

D = 12
t, x = coordinates("t x")
z = coordinates("z", D)
u = field("u", t, z)
BOX = {t: (0, 1), z: (-1, 1)}
START = [Eq(u.subs(t, 0), 0)]


class Module(nn.Module):
    def __init__(self, inputs=D + 1, slow=False, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(inputs, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.slow = slow
        self.to(dtype)

    def forward(self, points):
        y = torch.tanh(self.second(torch.tanh(self.first(points))))
        return self.last(y.cumprod(1) if self.slow else y)


def problem(left, right, conditions=START):
    return Problem([Eq(left, right)], BOX, conditions)


PROBLEMS = {
    "wave": problem(u.diff(t, 2), laplacian(u, z) / 4),
    "heat with reaction": problem(u.diff(t), laplacian(u, z) + u * (1 - u)),
    "coefficient": problem(u.diff(t), (1 + u**2) * laplacian(u, z) + z[0] * u.diff(z[0])),
    "viscous Hamilton-Jacobi": problem(u.diff(t) + norm_squared(grad(u, z)) / 2, laplacian(u, z) / 10),
    "both signs": problem(laplacian(u, z), 2 * u.diff(z[0], 2) + u.diff(t)),
}


def moments(compiled, module, number):
    with torch.no_grad():
        draws = torch.stack([compiled.residuals(module)["equation 1"] for _ in range(number)])
    return draws.mean(0), draws.var(0)


@pytest.mark.parametrize(("name", "slow"), [*((name, False) for name in PROBLEMS), ("coefficient", True)])
def test_the_mean_is_the_exact_residual_and_the_variance_falls_with_the_lines(name, slow):
    """Within four standard errors at each point; the variance of 5 lines is a fifth of that of one."""
    module, number = Module(slow=slow), 60 if slow else 400
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if slow else "error", SlowDerivatives)
        exact = pinnflow.compile(PROBLEMS[name], points=5).residuals(module)["equation 1"].detach()
        variances = {}
        for lines in (1, 5):
            compiled = pinnflow.compile(PROBLEMS[name], points=5, probes=lines)
            mean, variances[lines] = moments(compiled, module, number)
            assert bool(((mean - exact).abs() <= 4 * (variances[lines] / number).sqrt() + 1e-12).all())
    ratio = float(variances[1].mean() / variances[5].mean())
    assert 5 / (2.2 if slow else 1.5) < ratio < 5 * (2.2 if slow else 1.5)


def test_the_variance_is_that_of_the_plan():
    """2/m times the sum of squares of the mixed second derivatives by z."""
    module, lines = Module(), 3
    compiled = pinnflow.compile(problem(u.diff(t), laplacian(u, z)), points=4, probes=lines)
    points = compiled.points["equation 1"]
    hessians = torch.func.vmap(torch.func.hessian(lambda p: module(p[None])[0, 0]))(points)[:, 1:, 1:].detach()
    mixed = (hessians**2).sum((1, 2)) - torch.diagonal(hessians, dim1=1, dim2=2).square().sum(1)
    _, variance = moments(compiled, module, 1500)
    assert torch.allclose(variance, 2 / lines * mixed, rtol=0.25)
    text = str(compiled.plan)
    assert (
        "hutchinson (3 lines)" in text
        and f"{math.sqrt(2 / 3):.3g} times the root" in text
        and "laplacian(u, z)" in text
    )


def test_the_loss_is_unbiased_where_the_square_of_an_estimate_is_not():
    module, lines = Module(), 1
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(2)
    exact = float(pinnflow.compile(PROBLEMS["wave"], points=6).loss(module).detach())
    compiled = pinnflow.compile(PROBLEMS["wave"], points=6, probes=lines)
    with torch.no_grad():
        losses = torch.stack([compiled.loss(module) for _ in range(1500)])
        squares = torch.stack(
            [sum(r.square().mean() for r in compiled.residuals(module).values()) for _ in range(1500)]
        )
    error = float(losses.std()) / 1500**0.5
    assert abs(float(losses.mean()) - exact) < 4 * error
    assert float(squares.mean()) - exact > 4 * float(squares.std()) / 1500**0.5


def test_the_gradient_of_the_loss_is_unbiased():
    module = Module()
    name = "second.weight"
    exact = torch.autograd.grad(
        pinnflow.compile(PROBLEMS["wave"], points=6).loss(module), dict(module.named_parameters())[name]
    )[0]
    compiled = pinnflow.compile(PROBLEMS["wave"], points=6, probes=2)
    draws = torch.stack(
        [torch.autograd.grad(compiled.loss(module), dict(module.named_parameters())[name])[0] for _ in range(400)]
    )
    error = (draws.mean(0) - exact).abs() / (draws.std(0) / 20 + 1e-15)
    assert float(error.max()) < 5 and float(draws.std()) > 0


def test_a_seed_gives_the_same_digits_and_every_call_other_lines():
    module = Module()
    first, second, other = (pinnflow.compile(PROBLEMS["wave"], points=4, probes=2, seed=s) for s in (3, 3, 4))
    other.points = first.points
    one, two = first.residuals(module)["equation 1"], first.residuals(module)["equation 1"]
    assert torch.equal(one, second.residuals(module)["equation 1"]) and not torch.equal(one, two)
    assert not torch.equal(one, other.residuals(module)["equation 1"])
    assert torch.equal(first.loss(module), (second.residuals(module), second.loss(module))[1])


def test_terms_are_one_for_a_laplacian_exact_or_estimated():
    module = Module()
    exact = pinnflow.compile(PROBLEMS["wave"], points=4)
    terms = exact.terms(module)["equation 1"]
    assert terms.shape == (4, 2)
    assert torch.allclose(terms.sum(1), exact.residuals(module)["equation 1"])
    compiled = pinnflow.compile(PROBLEMS["wave"], points=exact.points, probes=4)
    draws = torch.stack([compiled.terms(module)["equation 1"] for _ in range(300)]).detach()
    assert torch.allclose(draws.std(0)[:, 1 - int(draws.std(0)[0].argmax())], torch.zeros(4).double(), atol=1e-14)
    assert bool(((draws.mean(0) - terms).abs() <= 4.5 * draws.std(0) / 300**0.5 + 1e-12).all())
    for name in ("coefficient", "viscous Hamilton-Jacobi", "both signs"):
        some = pinnflow.compile(PROBLEMS[name], points=4)
        assert torch.allclose(some.terms(module)["equation 1"].sum(1), some.residuals(module)["equation 1"])
        assert some.terms(module)["equation 1"].shape[1] < 2 * D


def test_what_is_small_or_nonlinear_stays_exact():
    module = Module()
    for statement in (problem(u.diff(t), laplacian(u, z) ** 2), problem(u.diff(t, 2), u.diff(z[0], 2))):
        exact = pinnflow.compile(statement, points=4)
        compiled = pinnflow.compile(statement, points=exact.points, probes=2)
        assert "hutchinson" not in str(compiled.plan)
        assert torch.equal(exact.residuals(module)["equation 1"], compiled.residuals(module)["equation 1"])
    assert "hutchinson" not in str(pinnflow.compile(PROBLEMS["wave"], probes=D).plan)
    with pytest.raises(WrongShape, match="`probes`: expected a positive number of lines"):
        pinnflow.compile(PROBLEMS["wave"], probes=0)


def test_first_derivatives_beside_an_estimate_take_reverse_mode():
    plan = pinnflow.compile(PROBLEMS["viscous Hamilton-Jacobi"], probes=2).plan
    assert {one.rule for one in plan.passes if "equation 1" in one.blocks} == {"reverse", "hutchinson"}


@pytest.mark.slow
def test_lines_are_drawn_anew_for_a_recorded_loss():
    module = Module()
    eager, fused = (
        pinnflow.compile(PROBLEMS["wave"], points=6, probes=2, backend=backend) for backend in ("eager", "compiled")
    )
    for _ in range(3):
        assert torch.allclose(eager.loss(module), fused.loss(module), rtol=1e-10)
    assert "compiled: the loss" in fused.backend


@pytest.mark.slow
def test_ten_thousand_dimensions():
    d = 10000
    w = coordinates("w", d)
    v = field("v", t, w)
    compiled = pinnflow.compile(
        Problem([Eq(v.diff(t), laplacian(v, w))], {t: (0, 1), w: (-1, 1)}), points=4, probes=2, dtype=torch.float32
    )
    module = Module(d + 1, dtype=torch.float32)
    loss = compiled.loss(module)
    loss.backward()
    assert bool(torch.isfinite(loss)) and compiled.terms(module)["equation 1"].shape == (4, 2)
