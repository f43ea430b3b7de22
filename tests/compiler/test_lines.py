"""Sums in place of the highest derivatives: which are carried, and that they are right."""

import itertools
import math

import pytest
import sympy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sympy import Eq, exp
from torch import nn

from pinnflow import Problem, coordinates, field
from pinnflow.compiled import compile
from pinnflow.compiler import composition
from pinnflow.compiler.combinations import Gathered, gather
from pinnflow.compiler.derivatives import partial_derivatives
from pinnflow.compiler.jets import directional_jet
from pinnflow.compiler.lines import Combination, Tops, lines_for
from pinnflow.compiler.reference import nested_reverse
from pinnflow.trial.networks import make_network

t, x, y = coordinates("t x y")
u = field("u", t, x, y)
v = field("v", t, x, y)
NU = sympy.Symbol("nu", positive=True)
BOX = {t: (0, 1), x: (0, 1), y: (0, 1)}


def passes(terms, scales=None, others=()):
    d = len(next(iter(terms)))
    some = [tuple(sorted(one.items())) for one in (terms, *others)]
    return len(lines_for(some, scales or [1.0] * d).passes)


@pytest.mark.parametrize(
    ("terms", "carried"),
    [
        ({(2, 0, 0): 1, (0, 2, 0): -1, (0, 0, 2): -1}, 4),  # wave: three first derivatives and one sum
        ({(1, 0): 1, (0, 2): -1}, 2),  # heat: u_x and one sum
        ({(2, 0): 1, (0, 4): 1}, 5),  # beam: u_t, u_x, u_xx, u_xxx and one sum of two orders
        ({(4, 0): 1, (2, 2): 2, (0, 4): 1}, 8),  # plate: gradient, Hessian, gradient of the Laplacian and one sum
        ({(4, 0): 1, (2, 2): 8, (0, 4): 16}, 8),  # the same with another unit on the second axis
        ({(1, 1): 1}, 3),  # two lines, as many as the rank of the form
        ({(2, 0): 1, (1, 1): 1, (0, 2): 1}, 3),
        ({(1, 0): 1, (0, 1): 1}, 1),
        ({tuple(4 * (i == j) for j in range(3)): 1 for i in range(3)}
         | {tuple(2 * (i != j) for j in range(3)): 2 for i in range(3)}, 13),  # six diagonals of the icosahedron
    ],
)  # fmt: skip
def test_a_whole_operator_takes_few_passes(terms, carried):
    assert passes(terms) == carried


def test_a_derivative_that_is_needed_by_itself_is_carried():
    """u_xx beside u_xx + u_yy: both second derivatives are read off, one of them in a sum."""
    laplacian = {(2, 0): 1, (0, 2): 1}
    assert passes(laplacian, others=[{(2, 0): 1}]) == 4
    assert passes(laplacian, others=[{(1, 0): 1}, {(0, 1): 1}]) == 3
    # Two operators that share their lines.
    assert passes(laplacian, others=[{(2, 0): 1, (0, 2): -1}]) == 4
    assert passes({(2, 0, 0): 1, (0, 2, 0): 1, (0, 0, 2): 1}, others=[{(2, 0, 0): 1, (0, 2, 0): 2, (0, 0, 2): 3}]) == 5


LAYERS = [nn.Tanh, nn.SiLU, nn.GELU, nn.Softplus, nn.Sigmoid]


class Gate(nn.Module):
    """Products, quotients and reductions between the layers."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, z):
        return self.a(z) * torch.sigmoid(self.b(z)) / (1 + z.square().mean(-1, keepdim=True))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 3), st.integers(1, 5), st.sampled_from(LAYERS), st.booleans(), st.integers(0, 10**6), st.data())
def test_random_operators_of_random_modules_are_those_of_nested_reverse(d, width, layer, gated, seed, data):
    """Values and gradients by the weights, to 1e-10 of the largest term."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(d, width), layer(), Gate(width) if gated else nn.Linear(width, width), layer(), nn.Linear(width, 1)
    ).double()
    points = torch.randn(3, d, dtype=torch.float64)
    orders = st.lists(st.integers(0, 4), min_size=d, max_size=d).map(tuple).filter(lambda a: 0 < sum(a) <= 4)
    weight = st.floats(0.3, 3).map(lambda c: round(c, 3)) | st.sampled_from([-1.0, 1.0, 2.0])
    terms = data.draw(st.dictionaries(orders, weight, min_size=1, max_size=4))
    operator = Combination(0, tuple(sorted(terms.items())))
    single = [(0, a) for a in data.draw(st.lists(orders, max_size=1))]
    found = partial_derivatives(net, points, [operator, *single], dict(enumerate([0.25, 4.0, 1.0])))
    expected = nested_reverse(net, points, [*((0, a) for a in terms), *single])
    value = sum(c * expected[0, a] for a, c in terms.items())
    # Mixed derivatives are differences of pure ones of the same order, which set the scale of rounding.
    pure = [
        (0, tuple(sum(a) * (i == j) for j in range(d))) for a in [*terms, *(a for _, a in single)] for i in range(d)
    ]
    size = max(1e-9, *(float(e.abs().max()) for e in [*expected.values(), *nested_reverse(net, points, pure).values()]))
    weights = list(net.parameters())
    assert float((found[operator] - value).abs().max()) <= 1e-10 * size
    for request in single:
        assert float((found[request] - expected[request]).abs().max()) <= 1e-10 * size
    a, b = (
        torch.autograd.grad(
            (one.square().sum() + sum(some[r].sum() for r in single)) / size**2, weights,
            allow_unused=True, materialize_grads=True,
        )
        for one, some in ((found[operator], found), (value, expected))
    )  # fmt: skip
    scale = max(1e-6, *(float(g.abs().max()) for g in b))
    assert max(float((p - q).abs().max()) for p, q in zip(a, b, strict=True)) <= 1e-9 * scale


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(LAYERS), st.booleans(), st.integers(0, 10**6), st.data())
def test_random_operators_of_random_modules_pass_gradcheck_by_the_weights(d, width, layer, gated, seed, data):
    """The gradient along random lines of weight space against differences."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(d, width), layer(), Gate(width) if gated else nn.Linear(width, width), layer(), nn.Linear(width, 1)
    ).double()
    points = torch.rand(2, d, dtype=torch.float64)
    orders = st.lists(st.integers(0, 4), min_size=d, max_size=d).map(tuple).filter(lambda a: 0 < sum(a) <= 4)
    terms = data.draw(st.dictionaries(orders, st.sampled_from([-1.0, 0.5, 1.0, 2.0]), min_size=1, max_size=3))
    operator, names = Combination(0, tuple(sorted(terms.items()))), [name for name, _ in net.named_parameters()]

    def function(*weights):
        moved = dict(zip(names, weights, strict=True))
        return partial_derivatives(lambda x: torch.func.functional_call(net, moved, (x,)), points, [operator])[operator]

    weights = tuple(p.detach().requires_grad_() for p in net.parameters())
    assert torch.autograd.gradcheck(function, weights, fast_mode=True, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("order", [2, 3, 5, 8])
def test_sums_are_exact_on_polynomials_up_to_order_eight(order):
    """f = (a.x)^8: the sum of weight (a.v)^k 8!/(8-k)! (a.x)^(8-k)."""
    a = torch.tensor([1.0, -0.5], dtype=torch.float64)
    points = torch.tensor([[1.0, 0.5], [2.0, -1.0]], dtype=torch.float64)
    lines = torch.tensor([[1.0, 1.0], [2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    tops = Tops(((order, 0, ((1.0, -2.0, 3.0),)),), 1)
    jet = directional_jet(lambda z: (z @ a[:, None]) ** 8, points, lines, order - 1, tops)
    slopes = (lines @ a) ** order
    expected = float(slopes @ torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    expected = expected * math.perm(8, order) * (points @ a) ** (8 - order)
    assert torch.allclose(jet[-1][0, :, 0], expected, rtol=1e-13)


def test_gradcheck_of_sums_of_several_orders():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    names, points = [name for name, _ in net.named_parameters()], torch.rand(2, 2, dtype=torch.float64)
    tops = Tops(((3, 0, ((1.0, 2.0), (0.0, 1.0))), (2, 2, ((-1.0,), (3.0,)))), 2)
    lines = torch.randn(3, 2, dtype=torch.float64)

    def function(*weights):
        moved = dict(zip(names, weights, strict=True))
        return directional_jet(lambda z: torch.func.functional_call(net, moved, (z,)), points, lines, [2, 2, 1], tops)[
            -1
        ]

    weights = tuple(p.detach().requires_grad_() for p in net.parameters())
    assert torch.autograd.gradcheck(function, weights)
    assert torch.autograd.gradgradcheck(function, weights, atol=1e-4)
    # Forward mode and many weights at once.
    moved = tuple(w.detach() for w in weights)
    forward, reverse = (jacobian(function, argnums=0)(*moved) for jacobian in (torch.func.jacfwd, torch.func.jacrev))
    assert torch.allclose(forward, reverse, rtol=1e-11)
    many = torch.func.vmap(lambda w: function(w, *moved[1:]))(torch.stack([moved[0], 2 * moved[0]]))
    assert torch.allclose(many[0], function(*moved))


def test_float32_is_as_exact_as_its_rounding():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    points = torch.rand(64, 2)
    plate = Combination(0, (((0, 4), 1), ((2, 2), 2), ((4, 0), 1)))
    found = partial_derivatives(net, points, [plate])[plate]
    expected = partial_derivatives(net.double(), points.double(), [plate])[plate]
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("residual", "kept", "gathered"),
    [
        (u.diff(t, 2) - u.diff(x, 2) - u.diff(y, 2), 0, [3]),
        (u.diff(t) + u * u.diff(x) - u.diff(x, 2) / 100, 2, [2]),
        (u.diff(t) - NU * (u.diff(x, 2) + u.diff(y, 2)), 1, [2]),  # unknown coefficient
        ((1 + u**2) * (u.diff(x, 2) + 2 * u.diff(y, 2)), 1, [2]),
        (exp(u.diff(x, 2) - 3 * u.diff(t)) - 2, 0, [2]),  # nonlinear in the combination
        (u.diff(x) ** 2 + u.diff(y) ** 2 - 1, 2, []),
        (u.diff(x, 2) * u.diff(y, 2) - 1, 2, []),
        (u.diff(x, 2) + v.diff(y, 2), 2, []),  # of different fields
        (u.diff(x, 2) + t * u.diff(y, 2), 2, []),  # the ratio depends on the point
        (t * u.diff(x, 2) + t * u.diff(y, 2), 0, [2]),
        (u + 3, 1, []),
    ],
)  # fmt: skip
def test_what_enters_by_one_combination_is_gathered(residual, kept, gathered):
    problem = Problem([Eq(residual, 0)], BOX, [], unknowns={NU: 1.0} if residual.has(NU) else None)
    (part,) = problem.blocks[0].parts
    found = gather(part)
    assert [len(a.atoms) for a in found.atoms if isinstance(a, Gathered)] == gathered
    assert sum(not isinstance(a, Gathered) for a in found.atoms) == kept


@pytest.mark.parametrize("equations", [
    [u.diff(t, 2) - 4 * u.diff(x, 2) - u.diff(y, 2) + sympy.sin(u)],
    [u.diff(t) + u * u.diff(x) + v * u.diff(y) - u.diff(x, 2) / 10 - u.diff(y, 2) / 10,
     v.diff(t) + u * v.diff(x) + v * v.diff(y) - v.diff(x, 2) / 10 - v.diff(y, 2) / 10],
    [(1 + u**2) * (u.diff(x, 2) + 2 * u.diff(y, 2)) + u.diff(t), v - u.diff(x)],
    [u.diff(x, 4) + 2 * u.diff(x, 2, y, 2) + u.diff(y, 4) + u.diff(t, 2) + u.diff(x, y) - u.diff(x)],
], ids=["wave", "flow", "quasilinear", "plate"])  # fmt: skip
def test_residuals_are_the_sums_of_their_terms(equations):
    """Values take the sums, terms the single derivatives."""
    problem = Problem([Eq(e, 0) for e in equations], {t: (0, 1), x: (-3, 1), y: (0, 0.25)}, [])
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, len(problem.fields))
    ).double()
    compiled = compile(problem, points=11)
    values, terms = compiled.residuals(net), compiled.terms(net)
    for name, value in values.items():
        assert torch.allclose(
            value, terms[name].sum(1), rtol=1e-11, atol=1e-12 * float(terms[name].detach().abs().max())
        )


def test_flow_equations_share_one_sum():
    """u_t - nu (u_xx + u_yy) and the same for v: value, u_x, u_y and one sum for both fields."""
    equations = [f.diff(t) + u * f.diff(x) + v * f.diff(y) - (f.diff(x, 2) + f.diff(y, 2)) / 10 for f in (u, v)]
    plan = compile(Problem([Eq(e, 0) for e in equations], BOX, []), points=4).plan
    (one,) = plan.passes
    assert len(one.lines.passes) == 3 and one.lines.tops.count == 1
    assert "- 10 u_t + u_xx + u_yy" in str(plan).replace("u_yy + u_xx", "u_xx + u_yy")


def test_every_pair_of_second_order_operators_agrees_with_single_derivatives():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    points = torch.rand(4, 3, dtype=torch.float64)
    hessian = [a for a in itertools.product(range(3), repeat=3) if sum(a) == 2]
    single = nested_reverse(net, points, [(0, a) for a in hessian])
    for pair in itertools.combinations(
        [dict(zip(hessian, c, strict=True)) for c in itertools.product((0, 1), repeat=6)][1::7], 2
    ):
        operators = [Combination(0, tuple(sorted((a, c) for a, c in one.items() if c))) for one in pair]
        found = partial_derivatives(net, points, operators)
        for one in operators:
            expected = sum(c * single[0, a] for a, c in one.terms)
            assert torch.allclose(found[one], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, -1, -0.5)])
@pytest.mark.parametrize("layers", [1, 3])
def test_sums_taken_line_by_line_are_those_taken_at_once(monkeypatch, weights, layers):
    """Large layers go through line by line; small ones, and gradients of gradients, at once."""
    torch.manual_seed(0)
    net = make_network("mlp", inputs=3, width=7, depth=layers, dtype="float64")
    points = torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
    wanted = Combination(0, tuple((tuple(2 * (i == j) for i in range(3)), c) for j, c in enumerate(weights)))
    first = [(0, (1, 0, 0)), (0, (0, 0, 0))]
    results = []
    for small in (1, 10**9):
        monkeypatch.setattr(composition, "SMALL", small)
        for requests in ([wanted], [wanted, *first]):
            found = partial_derivatives(net, points, requests)
            loss = sum((i + 1) * value.square().sum() for i, value in enumerate(found.values()))
            leaves = [points, *net.parameters()]
            gradients = torch.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True, allow_unused=True)
            slope = torch.autograd.grad(loss, points, create_graph=True)[0].square().sum()
            again = torch.autograd.grad(slope, leaves, materialize_grads=True, allow_unused=True)
            results.append([*found.values(), *gradients, *again])
    for one, other in (results[::2], results[1::2]):
        for a, b in zip(one, other, strict=True):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)
