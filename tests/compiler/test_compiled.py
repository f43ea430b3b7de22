"""`compile`: residuals, terms and loss of any module, and the points they are taken at."""

import warnings

import numpy as np
import pytest
import sympy
import torch
from sympy import Abs, Eq, Function, log, pi, sin
from torch import nn

from pinnflow import Bounds, Condition, Observations, Problem, UnknownName, coordinates, field
from pinnflow.compiled import compile
from pinnflow.compiler.derivatives import SlowDerivatives
from pinnflow.compiler.lowering import UnsupportedOperation
from pinnflow.errors import NonFinite, WrongShape

t, x, y = coordinates("t x y")
u, v = field("u", t, x), field("v", t, x)


def wave(**more):
    return Problem(
        equations=[Eq(u.diff(t, 2), 4 * u.diff(x, 2))],
        domain={t: (0, 1), x: (0, 1)},
        conditions=[
            Eq(u.subs(t, 0), sin(pi * x)),
            Eq(u.diff(t).subs(t, 0), 0),
            Eq(u.subs(x, 0), 0),
            Eq(u.subs(x, 1), 0),
        ],
        **more,
    )


class Wave(nn.Module):
    """The exact solution cos(2 pi t) sin(pi x) plus a parameter times t^2 x."""

    def __init__(self, extra=0.0):
        super().__init__()
        self.extra = nn.Parameter(torch.tensor(extra, dtype=torch.float64))

    def forward(self, points):
        t, x = points[:, :1], points[:, 1:]
        return torch.cos(2 * torch.pi * t) * torch.sin(torch.pi * x) + self.extra * t**2 * x


def network(inputs=2, outputs=1, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 9), nn.Tanh(), nn.Linear(9, outputs)).to(dtype)


def test_residuals_of_the_exact_solution_vanish():
    for name, value in compile(wave(), points=64).residuals(Wave()).items():
        assert float(value.detach().abs().max()) < 1e-13, name


def test_residuals_by_hand():
    """u = exact + a t^2 x: the wave residual is 2 a x, that at the right end a t^2."""
    compiled = compile(wave(), points=64)
    found = compiled.residuals(Wave(3.0))
    assert torch.allclose(found["equation 1"], 6 * compiled.points["equation 1"][:, 1])
    assert torch.allclose(found["condition 4"], 3 * compiled.points["condition 4"][:, 0] ** 2)
    expected = sum(value.square().mean() for value in found.values())
    assert torch.allclose(compiled.loss(Wave(3.0)), expected)


def test_terms_add_up_to_the_residual():
    compiled = compile(wave(), points=64)
    terms, residuals = compiled.terms(network()), compiled.residuals(network())
    for name in residuals:
        assert torch.allclose(terms[name].sum(1), residuals[name], atol=1e-14)
    assert terms["equation 1"].shape == (64, 2)


def test_a_number_of_points_is_for_each_equation_and_an_eighth_for_conditions():
    compiled = compile(wave(), points=100)
    assert {name: tuple(p.shape) for name, p in compiled.points.items()} == {
        "equation 1": (100, 2), **{f"condition {i}": (12, 2) for i in range(1, 5)}
    }  # fmt: skip
    assert (compiled.points["condition 4"][:, 1] == 1).all() and (compiled.points["condition 1"][:, 0] == 0).all()


def test_points_by_block_are_numbers_or_tensors():
    mine = torch.rand(7, 2, dtype=torch.float64)
    compiled = compile(wave(), points={"equation 1": mine, "condition 1": 5})
    assert compiled.points["equation 1"] is mine and compiled.points["condition 1"].shape == (5, 2)
    assert compiled.points["condition 2"].shape == (128, 2)
    compiled.resample()
    assert compiled.points["equation 1"] is mine


def test_only_the_blocks_asked_for_are_evaluated():
    mine = torch.rand(7, 2, dtype=torch.float64)
    found = compile(wave()).residuals(network(), points={"condition 1": mine})
    assert list(found) == ["condition 1"]
    # Pinned columns are set, whatever the rows say.
    placed = torch.stack([torch.zeros(7, dtype=torch.float64), mine[:, 1]], 1)
    assert torch.allclose(found["condition 1"], network()(placed)[:, 0] - torch.sin(torch.pi * mine[:, 1]))


def test_same_seed_same_points_and_resample_draws_others():
    first, second, other = compile(wave(), seed=3), compile(wave(), seed=3), compile(wave(), seed=4)
    assert all(torch.equal(first.points[name], second.points[name]) for name in first.points)
    assert not torch.equal(first.points["equation 1"], other.points["equation 1"])
    before = first.points["equation 1"]
    first.resample(), second.resample()
    assert not torch.equal(before, first.points["equation 1"])
    assert torch.equal(first.points["equation 1"], second.points["equation 1"])


@pytest.mark.parametrize(("asked", "module", "expected"), [
    (None, torch.float32, torch.float32), (None, torch.float64, torch.float64),
    (torch.float64, torch.float64, torch.float64), (torch.float32, torch.float32, torch.float32),
])  # fmt: skip
def test_dtype_is_the_modules_unless_given(asked, module, expected):
    assert compile(wave(), points=16, dtype=asked).residuals(network(dtype=module))["equation 1"].dtype == expected


def test_blocks_with_the_same_points_share_one_pass():
    problem = Problem(
        [Eq(u.diff(t), v), Eq(v.diff(t), u.diff(x, 2))], {t: (0, 1), x: (0, 1)},
        [Eq(u.subs(t, 0), 0), Eq(v.subs(t, 0), 0), Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)],
    )  # fmt: skip
    calls = []
    net = network(outputs=2)

    def counted(points):
        calls.append(points.shape[0])
        return net(points)

    compiled = compile(problem, points=16)
    assert compiled.points["equation 1"] is compiled.points["equation 2"]
    compiled.residuals(counted)
    assert calls == [16, 2, 2, 2, 2]
    calls.clear()
    mine = torch.rand(5, 2, dtype=torch.float64)
    compiled.residuals(counted, points=dict.fromkeys(("equation 1", "equation 2", "condition 1", "condition 2"), mine))
    assert calls == [5, 5]  # the equations on the rows as they are, the conditions at t = 0


def test_a_module_may_hold_state_for_each_row():
    """Row i of a result depends on row i of the input only, and rows are never reordered or cut."""

    class PerRow(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.state = nn.Parameter(torch.arange(1.0, n + 1, dtype=torch.float64))

        def forward(self, points):
            return (self.state[:, None] * points[:, :1] ** 2) * points[:, 1:]

    mine = torch.rand(6, 2, dtype=torch.float64)
    rows = PerRow(6)
    found = compile(wave()).residuals(rows, points={"equation 1": mine, "condition 4": mine})
    state = torch.arange(1.0, 7, dtype=torch.float64)
    assert torch.allclose(found["equation 1"], 2 * state * mine[:, 1])
    assert torch.allclose(found["condition 4"], state * mine[:, 0] ** 2)


def test_a_condition_on_the_whole_boundary_keeps_its_rows():
    w = field("w", x, y)
    problem = Problem([Eq(w.diff(x, 2) + w.diff(y, 2), 0)], {x: (0, 1), y: (0, 2)},
                      [Condition(Eq(w, x * y), on="boundary", name="rim", weight=3)])  # fmt: skip
    compiled = compile(problem, points={"rim": 10})
    assert compiled.points["rim"].shape == (10, 2)
    net = network()
    expected = lambda p: net(p)[:, 0] - p[:, 0] * p[:, 1]  # noqa: E731
    assert torch.allclose(compiled.residuals(net)["rim"], expected(compiled.points["rim"]))
    shuffled = compiled.points["rim"][torch.randperm(10)]
    assert torch.allclose(compiled.residuals(net, points={"rim": shuffled})["rim"], expected(shuffled))
    alone = compile(problem, points={"rim": 10}).residuals(net)
    total = alone["equation 1"].square().mean() + 3 * alone["rim"].square().mean()
    assert torch.allclose(compiled.loss(net), total)
    with pytest.raises(WrongShape, match=r"row 0 of its points \(x = 0.5, y = 0.5\) lies on none of its 4 faces"):
        compiled.residuals(net, points={"rim": torch.tensor([[0.5, 0.5]], dtype=torch.float64)})


def test_a_periodic_condition_compares_both_ends():
    problem = Problem([Eq(u.diff(t), u.diff(x))], {t: (0, 1), x: (0, 2)},
                      [Eq(u.subs(t, 0), 0), Eq(u.subs(x, 0), u.subs(x, 2))])  # fmt: skip
    compiled, net = compile(problem, points=16), network()
    times = compiled.points["condition 2"][:, :1]
    left, right = (net(torch.cat([times, torch.full_like(times, end)], 1))[:, 0] for end in (0.0, 2.0))
    assert torch.allclose(compiled.residuals(net)["condition 2"], left - right)


def test_a_field_of_fewer_coordinates_cannot_depend_on_the_others():
    """p(t) beside u(t, x) is taken at the low end of x."""
    p = Function("p")(t)
    problem = Problem([Eq(u.diff(t), p * u.diff(x, 2)), Eq(p.diff(t), -p)], {t: (0, 1), x: (3, 5)},
                      [Eq(u.subs(t, 0), 0), Eq(p.subs(t, 0), 1), Eq(u.subs(x, 3), 0), Eq(u.subs(x, 5), 0)])  # fmt: skip
    compiled, net = compile(problem, points=16), network(outputs=2)
    index = problem.fields.index(p)
    points = compiled.points["equation 2"].clone()
    first = compiled.residuals(net, points={"equation 2": points})["equation 2"]
    points[:, 1] = 4.2
    assert torch.equal(first, compiled.residuals(net, points={"equation 2": points})["equation 2"])
    points[:, 1] = 3.0
    points.requires_grad_()
    value = net(points)[:, index]
    (slope,) = torch.autograd.grad(value.sum(), points)
    assert torch.allclose(first, slope[:, 0] + value)


def test_unknown_coefficients_are_parameters_in_problem_units():
    c, k = sympy.symbols("c k", positive=True)
    seen = Observations(u, {t: np.zeros(2), x: np.array([0.5, 0.25])}, np.array([2.0, 1.0]), noise=0.5)
    problem = Problem([Eq(u.diff(t, 2), c * u.diff(x, 2) + k)], {t: (0, 1), x: (0, 1)}, wave().conditions,
                      unknowns={c: 4.0, k: Bounds(1, 3)}, observations=[seen])  # fmt: skip
    compiled = compile(problem, points=16)
    assert sorted(compiled.unknowns) == ["c", "k"] and float(compiled.unknowns["k"].detach()) == 2
    compiled.loss(Wave()).backward()
    found = compiled.residuals(Wave())
    assert torch.allclose(found["equation 1"], torch.full((16,), -2.0, dtype=torch.float64))
    assert torch.allclose(compiled.unknowns["k"].grad, torch.tensor(4.0, dtype=torch.float64))
    assert torch.allclose(found["observation 1"], torch.tensor([-2.0, -0.5857864376269049], dtype=torch.float64))


def test_works_with_torch_func():
    class Physics(nn.Module):
        def __init__(self, compiled, net):
            super().__init__()
            self.net, self.compiled = net, compiled

        def forward(self):
            return self.compiled.loss(self.net)

    net, compiled = network(), compile(wave(), points=32)
    physics = Physics(compiled, net)
    weights = {name: p.detach() for name, p in physics.named_parameters()}
    loss = lambda w: torch.func.functional_call(physics, w, ())  # noqa: E731
    found = torch.func.grad(loss)(weights)
    by_function = torch.func.grad(lambda w: compiled.loss(lambda p: torch.func.functional_call(net, w, (p,))))(
        {name: p.detach() for name, p in net.named_parameters()}
    )
    compiled.loss(net).backward()
    for name, parameter in net.named_parameters():
        assert torch.allclose(found[f"net.{name}"], parameter.grad, rtol=1e-12)
        assert torch.allclose(by_function[name], parameter.grad, rtol=1e-12)
    many = torch.func.vmap(loss)({name: torch.stack([w, 2 * w]) for name, w in weights.items()})
    assert torch.allclose(many[0], compiled.loss(net))


class Unruly(nn.Module):
    """cumprod has no Taylor rule."""

    def __init__(self):
        super().__init__()
        self.net = network(2, 3)

    def forward(self, points):
        return torch.cumprod(self.net(points), 1)[:, -1:]


def test_a_module_without_taylor_rule_falls_back_and_says_so_once():
    compiled, module = compile(wave(), points=16), Unruly()
    with pytest.warns(
        SlowDerivatives, match=r"no rule for `cumprod`, used by `Unruly`: .* nested reverse mode"
    ) as told:
        first = compiled.residuals(module)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = compiled.residuals(module)
    (a, b, c) = module.net(compiled.points["equation 1"]).unbind(1)
    assert torch.equal(first["equation 1"], again["equation 1"]) and a.shape == b.shape == c.shape
    # The same module, written with a product that has a rule.
    plain = compiled.residuals(
        lambda p: torch.stack([torch.ones_like(p[:, 0]) * q for q in [_product(module.net(p))]], 1)
    )
    assert torch.allclose(plain["equation 1"], first["equation 1"], rtol=1e-12)
    gradient = torch.func.grad(lambda w: compiled.loss(lambda p: torch.func.functional_call(module, w, (p,))))
    with pytest.warns(SlowDerivatives):
        found = gradient({name: p.detach() for name, p in module.named_parameters()})
    compiled.loss(module).backward()
    for name, parameter in module.named_parameters():
        assert torch.allclose(found[name], parameter.grad, rtol=1e-10)


def _product(values):
    return values[:, 0] * values[:, 1] * values[:, 2]


def test_an_error_of_the_module_itself_comes_through():
    class Broken(nn.Module):
        def forward(self, points):
            raise TypeError("mine")

    with pytest.warns(SlowDerivatives), pytest.raises(TypeError, match="mine"):
        compile(wave(), points=16).residuals(Broken())


@pytest.mark.parametrize("outputs", [2, None])
def test_a_module_of_the_wrong_shape_is_told_what_is_expected(outputs):
    module = network(outputs=outputs) if outputs else lambda p: p[:, 0]
    with pytest.raises(WrongShape, match=r"expected\s+\[16, 1\]: one row per point and one column per field"):
        compile(wave(), points=16).residuals(module)


def test_a_non_finite_value_names_the_term_and_the_point():
    problem = Problem([Eq(u.diff(t), log(u) + u.diff(x, 2))], {t: (0, 1), x: (0, 1)},
                      [Eq(u.subs(t, 0), 1), Eq(u.subs(x, 0), 1), Eq(u.subs(x, 1), 1)])  # fmt: skip

    def half(points):
        return (points[:, 1:] - 0.25) ** 3

    mine = torch.tensor([[0.5, 0.75], [0.25, 0.125]], dtype=torch.float64)
    with pytest.raises(NonFinite, match=r"log\(u\) met u = -0.00195312 at t = 0.25, x = 0.125 in equation 1"):
        compile(problem).residuals(half, points={"equation 1": mine})


def test_a_pinned_derivative_is_named_as_it_was_written():
    problem = wave().with_(
        conditions=[Eq(sympy.sqrt(u.diff(t).subs(t, 0)), 0), *wave().conditions[1:], Eq(u.subs(t, 0), 0)]
    )
    mine = torch.tensor([[0.0, 0.5]], dtype=torch.float64)
    with pytest.raises(NonFinite, match=r"sqrt\(u.diff\(t\).subs\(t, 0\)\) met u.diff\(t\).subs\(t, 0\) = -1 at"):
        compile(problem).residuals(lambda p: -p[:, :1], points={"condition 1": mine})


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({"equation 1": torch.rand(3, 3)}, r"`points` of equation 1: found shape \[3, 3\], expected \[n, 2\] with c"),
        (0, "`points`: expected a positive number of points or a tensor"),
        ({"equation 1": 2.5}, r"`points of equation 1`: expected .* found `2.5`"),
    ],
)  # fmt: skip
def test_wrong_points_are_refused(points, words):
    with pytest.raises(WrongShape, match=words):
        compile(wave(), points=points)


def test_names_that_do_not_exist_list_those_that_do():
    with pytest.raises(UnknownName, match=r"no block `equation 7`. Choose one of: condition 1, .*, equation 1"):
        compile(wave(), points={"equation 7": 3})
    with pytest.raises(UnknownName, match=r"no backend `jit`. Choose one of: auto, compiled, eager"):
        compile(wave(), backend="jit")
    with pytest.raises(UnknownName, match="no block `initial`"):
        compile(wave()).residuals(network(), points={"initial": torch.rand(2, 2)})


def test_an_expression_without_torch_form_names_the_term():
    problem = wave().with_(equations=[Eq(u.diff(t, 2) + sympy.zeta(Abs(u) + 2), 4 * u.diff(x, 2))])
    with pytest.raises(UnsupportedOperation, match="`zeta` is not among the known operations"):
        compile(problem, points=4).residuals(network())


def test_the_plan_is_a_readable_table():
    text = str(compile(wave()).plan)
    assert text.splitlines()[0].split("  ")[0] == "points of"
    assert "equation 1   - 0.25 u_tt + u_xx  taylor  x, t   2      4.2   7.0" in text
    assert "condition 2  u_t                 taylor  t      1      2.0   2.0" in text


@pytest.mark.slow
def test_the_compiled_backend_gives_the_same_numbers():
    net = network()
    eager, compiled = compile(wave(), points=32), compile(wave(), points=32, backend="compiled")
    for name, value in eager.residuals(net).items():
        assert torch.allclose(compiled.residuals(net)[name], value, rtol=1e-12)
    eager.loss(net).backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    compiled.loss(net).backward()
    for p, gradient in zip(net.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, gradient, rtol=1e-10)
