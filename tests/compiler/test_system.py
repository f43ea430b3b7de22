"""The residual system against its own definition: J by jacrev, products with J."""

import pytest
import sympy
import torch
from sympy import Eq, exp, sin
from torch import nn

from pinnflow import Condition, Observations, Problem, coordinates, field
from pinnflow.compiled import compile
from pinnflow.compiler.system import System
from pinnflow.errors import UnknownName

x, y = coordinates("x y")
w = field("w", x, y)
k = sympy.Symbol("k", positive=True)
MANY = Problem(
    [Eq(w.diff(x, 2) + w.diff(y, 2) + k * exp(w), 0)],
    {x: (0, 1), y: (0, 2)},
    [Condition(Eq(w, sin(x)), on="boundary", name="rim", weight=5), Condition(Eq(w.subs({x: 0.5, y: 1}), 1))],
    unknowns={k: 2.0},
    observations=[
        Observations(w.diff(x), {x: [0.1, 0.2, 0.3], y: [0.1, 0.7, 1.5]}, [1.0, 2.0, 3.0], noise=[0.1, 0.2, 0.3])
    ],
)


@pytest.fixture
def system():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    compiled = compile(MANY, points={"equation 1": 12, "rim": 9})
    return System(MANY, net, compiled.points, {k: 2.0}), compiled, net


def test_squared_length_is_the_loss(system):
    system, compiled, net = system
    r = system.r(system.theta)
    assert r.shape == (12 + 9 + 1 + 3,)
    assert torch.allclose(r @ r, compiled.loss(net))


def test_jacobian_and_its_products(system):
    system, _, _ = system
    theta = system.theta
    expected = torch.func.jacrev(system.r)(theta)
    v, z = torch.randn(theta.shape[0], dtype=theta.dtype), torch.randn(expected.shape[0], dtype=theta.dtype)
    assert torch.allclose(system.J(theta), expected, rtol=1e-12, atol=1e-14)
    assert torch.allclose(system.Jv(theta, v), expected @ v, rtol=1e-11)
    assert torch.allclose(system.JTv(theta, z), expected.T @ z, rtol=1e-11)


def test_columns_of_some_parameters_are_those_of_the_whole(system):
    system, _, _net = system
    theta = system.theta
    whole = system.J(theta)
    assert system.last_layer == ("2.weight", "2.bias")
    assert torch.allclose(system.J(theta, system.last_layer), whole[:, 15:21], rtol=1e-12)
    assert torch.allclose(system.J(theta, ["2.bias"]), whole[:, 20:21], rtol=1e-12)  # by forward mode
    assert torch.allclose(system.J(theta, ["0.bias"]), whole[:, 10:15], rtol=1e-12)
    system.module = nn.Tanh()
    with pytest.raises(UnknownName, match=r"no layer `nn.Linear`. Choose one of: Tanh"):
        _ = system.last_layer


def test_loading_changes_the_module_and_returns_the_unknowns(system):
    system, _, net = system
    theta = torch.arange(float(system.theta.shape[0]), dtype=torch.float64) / 10
    assert system.load(theta) == {k: float(theta[-1])}
    assert torch.equal(system.theta, theta) and torch.equal(net[2].bias.detach(), theta[-2:-1])


def test_functions_of_theta_leave_the_module_alone(system):
    system, _, _ = system
    before = system.theta
    system.r(before + 1), system.J(before + 1)
    assert torch.equal(system.theta, before)
