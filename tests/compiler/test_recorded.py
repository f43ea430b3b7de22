"""Compiled losses: the same numbers, nothing compiled twice, and a plain road where there is no compiler."""

from collections import OrderedDict

import pytest
import sympy
import torch
from sympy import Eq
from torch import nn

from pinnflow import Condition, Problem, coordinates, field
from pinnflow.compiled import compile
from pinnflow.compiler import compilation, recorded, tiles
from pinnflow.compiler.payoff import Stopwatch
from pinnflow.compiler.recorded import Unrecordable, signature

t, x = coordinates("t x")
u = field("u", t, x)
k = sympy.Symbol("k", positive=True)
HEAT = Problem([Eq(u.diff(t), u.diff(x, 2))], {t: (0, 1), x: (0, 1)}, [Eq(u.subs(t, 0), x), Eq(u.subs(x, 0), 0)])
MANY = Problem(
    [Eq(u.diff(t, 2) + u.diff(x, 2) + k * u**2, 0)], {t: (0, 1), x: (0, 1)},
    [Condition(Eq(u, t * x), on="boundary", name="rim", weight=3), Eq(u.subs(t, 0), 0), Eq(u.diff(t).subs(t, 0), 0)],
    unknowns={k: 2.0},
)  # fmt: skip


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()


class Uncompiled:
    """In the place of both compilers: counts how many graphs it is given, and runs them as they are."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, *inputs, **settings):
        self.graphs += 1
        return graph


@pytest.fixture
def compiler(monkeypatch):
    counter = Uncompiled()
    monkeypatch.setattr(compilation.torch, "compile", counter)
    monkeypatch.setattr(compilation, "compile_step", counter)
    monkeypatch.setattr(compilation, "KNOWN", OrderedDict())
    return counter


def gradients(compiled, net, **settings):
    return torch.autograd.grad(
        compiled.loss(net), [*net.parameters(), *compiled.unknowns.parameters()],
        allow_unused=True, materialize_grads=True, **settings,
    )  # fmt: skip


def test_without_a_compiler_there_is_one_warning_and_the_same_numbers(monkeypatch):
    def broken(graph, inputs, threads):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(compilation, "compile_step", broken)
    monkeypatch.setattr(compilation, "KNOWN", OrderedDict())
    net = small()
    eager, compiled = compile(HEAT, points=16, backend="eager"), compile(HEAT, points=16, backend="compiled")
    with pytest.warns(UserWarning, match="torch.compile failed \\(no C\\+\\+ compiler\\)") as told:
        first = compiled.loss(net)
    assert len(told) == 1 and torch.allclose(first, eager.loss(net), rtol=1e-12)
    for a, b in zip(gradients(compiled, net), gradients(eager, net), strict=True):
        assert torch.allclose(a, b, rtol=1e-12)


def test_loss_gradient_and_second_derivatives_are_those_of_the_single_operations(compiler):
    net, eager, compiled = (
        small(),
        compile(MANY, points=32, backend="eager"),
        compile(MANY, points=32, backend="compiled"),
    )
    assert torch.allclose(compiled.loss(net), eager.loss(net), rtol=1e-13)
    assert "compiled" in compiled.backend
    for settings in ({}, {"create_graph": True}):
        found, expected = gradients(compiled, net, **settings), gradients(eager, net, **settings)
        for a, b in zip(found, expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-11, atol=1e-14)
    twice = [torch.autograd.grad(sum(g.square().sum() for g in some), net[0].weight)[0] for some in (found, expected)]
    assert torch.allclose(*twice, rtol=1e-10)
    assert torch.allclose(compiled.terms(net)["rim"], eager.terms(net)["rim"])


def test_nothing_is_compiled_twice(compiler):
    """New points, new weights, another module of the same shape and another fit all run the same program."""
    compiled, net = compile(MANY, points=32, backend="compiled"), small()
    for _ in range(3):
        compiled.loss(net).backward()
        compiled.resample()
        with torch.no_grad():
            net[0].weight.add_(0.1)
    assert compiler.graphs == 1 and compiled._programs["loss"][net].recordings == 1
    compile(MANY, points=32, backend="compiled").loss(small())
    assert compiler.graphs == 1
    compile(MANY, points=48, backend="compiled").loss(net)
    assert compiler.graphs == 2


class Growing(nn.Module):
    """Reads a number from its own attributes, which may change."""

    def __init__(self):
        super().__init__()
        self.net, self.frequency = small(), 1.0

    def forward(self, points):
        return self.net(self.frequency * points)


def test_a_number_that_changes_is_not_frozen(compiler):
    net, eager, compiled = (
        Growing(),
        compile(HEAT, points=8, backend="eager"),
        compile(HEAT, points=8, backend="compiled"),
    )
    for frequency in (1.0, 2.0, 1.0):
        net.frequency = frequency
        assert torch.allclose(compiled.loss(net), eager.loss(net), rtol=1e-13)
    assert compiler.graphs == 2
    before = signature(net)
    net.extra = [1, {"a": torch.zeros(2)}]
    assert signature(net) != before
    before = signature(net)
    net.extra[1]["a"].add_(1)
    assert signature(net) != before


def test_what_cannot_be_recorded_runs_eagerly(compiler):
    class Choosing(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small()

        def forward(self, points):
            return self.net(points) * (2.0 if float(self.net[0].weight.sum()) > 0 else 3.0)

    net, eager, compiled = (
        Choosing(),
        compile(HEAT, points=8, backend="eager"),
        compile(HEAT, points=8, backend="compiled"),
    )
    assert torch.equal(compiled.loss(net), eager.loss(net))
    assert compiled.backend.startswith("eager: recording failed") and compiler.graphs == 0
    hooked = small()
    hooked.register_forward_hook(lambda *_: None)
    assert torch.equal(compiled.loss(hooked), eager.loss(hooked)) and "hooks" in compiled.backend
    weights = {name: p.detach() for name, p in small().named_parameters()}
    plain = small()

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = plain

        def forward(self):
            return compiled.loss(self.net)

    found = torch.func.grad(lambda w: torch.func.functional_call(Loss(), w, ()))(
        {f"net.{n}": w for n, w in weights.items()}
    )
    eager.loss(plain).backward()
    assert torch.allclose(found["net.0.weight"], plain[0].weight.grad, rtol=1e-12) and "torch.func" in compiled.backend
    with pytest.raises(Unrecordable, match="points require"):
        recorded.refuse(plain, [], [torch.ones(1, requires_grad=True)])


def test_auto_compiles_once_the_steps_taken_make_it_pay(compiler, monkeypatch):
    monkeypatch.setattr(Stopwatch, "cost", 0.0)
    net, compiled = small(), compile(HEAT, points=8)
    for _ in range(20):
        compiled.loss(net)
    assert compiler.graphs == 0 and "eager at first" in compiled.backend
    compiled.loss(net), compiled.loss(net)
    assert compiler.graphs == 1 and compiled.backend.startswith("compiled")
    with torch.no_grad():  # no gradient is wanted, so none is computed
        assert not compiled.loss(net).requires_grad


@pytest.mark.slow
def test_the_compiler_is_called_once(monkeypatch):
    """By its own counter: no recompilation for new points, weights or modules."""
    monkeypatch.setattr(compilation, "KNOWN", OrderedDict())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled, net = compile(HEAT, points=16, backend="compiled"), small()
    for _ in range(3):
        compiled.loss(net).backward()
        compiled.resample()
    compile(HEAT, points=16, backend="compiled").loss(small()).backward()
    assert torch._dynamo.utils.counters["aot_autograd"]["total"] == 1


def loss_and_gradient(compiled, net):
    loss = compiled.loss(net)
    return loss, *torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True, allow_unused=True)


def test_a_loss_taken_tile_by_tile_is_the_loss(compiler, monkeypatch):
    """Equations in tiles of equal size, of which one is recorded; faces, data and few points stay together."""
    monkeypatch.setattr(tiles, "CACHE", 1600), monkeypatch.setattr(tiles, "FEWEST", 5)
    net, points = small(), {"equation 1": 60}
    eager, compiled = compile(MANY, points=points, backend="eager"), compile(MANY, points=points, backend="compiled")
    for a, b in zip(loss_and_gradient(compiled, net), loss_and_gradient(eager, net), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)
    (pieces,) = compiled._programs["loss"][net]._graphs.values()
    assert len(pieces) > 2 and compiler.graphs < len(pieces)
    assert len({id(piece.program) for piece in pieces}) == compiler.graphs
    compiled.resample()
    assert torch.allclose(compiled.loss(net), compile(MANY, points=compiled.points, backend="eager").loss(net))


class Numbered(nn.Module):
    """Something of its own for each row, the same number in all rows to begin with."""

    def __init__(self, rows, by_number):
        super().__init__()
        self.net, self.by_number = small(), by_number
        self.state = nn.Parameter(torch.ones(rows, dtype=torch.float64))

    def forward(self, points):
        state = self.state[torch.arange(len(points))] if self.by_number else self.state
        return self.net(points) * state[:, None]


@pytest.mark.parametrize("by_number", [True, False])
def test_a_module_with_something_for_each_row_is_not_divided(compiler, monkeypatch, by_number):
    monkeypatch.setattr(tiles, "CACHE", 1600), monkeypatch.setattr(tiles, "FEWEST", 16)
    place = torch.rand(64, 2, dtype=torch.float64)
    problem, points = Problem([Eq(u.diff(t), u.diff(x, 2))], {t: (0, 1), x: (0, 1)}), {"equation 1": place}
    net = Numbered(64, by_number)
    eager, compiled = (compile(problem, points=points, backend=how) for how in ("eager", "compiled"))
    assert len(tiles.divide(compiled._evaluation, net, compiled.points)) > 1
    for a, b in zip(loss_and_gradient(compiled, net), loss_and_gradient(eager, net), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)
    assert [len(pieces) for pieces in compiled._programs["loss"][net]._graphs.values()] == [1]


def test_another_number_of_threads_is_another_program(compiler):
    net, compiled, before = small(), compile(HEAT, points=8, backend="compiled"), torch.get_num_threads()
    try:
        for number in (1, 2, 1):
            torch.set_num_threads(number)
            compiled.loss(net)
    finally:
        torch.set_num_threads(before)
    assert compiler.graphs == 2
