"""Where there is no compiler, the recorded graph runs as it is."""

import pytest
import torch
from sympy import Eq
from torch import nn

from pinnflow import Problem, coordinates, field
from pinnflow.compiled import compile
from pinnflow.compiler import recorded

t, x = coordinates("t x")
u = field("u", t, x)
HEAT = Problem([Eq(u.diff(t), u.diff(x, 2))], {t: (0, 1), x: (0, 1)}, [Eq(u.subs(t, 0), x), Eq(u.subs(x, 0), 0)])


def test_without_a_compiler_there_is_one_warning_and_the_same_numbers(monkeypatch):
    def broken(graph):
        def call(*inputs):
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(recorded.torch, "compile", broken)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    eager, compiled = compile(HEAT, points=16), compile(HEAT, points=16, backend="compiled")
    with pytest.warns(UserWarning, match="torch.compile failed \\(no C\\+\\+ compiler\\)") as told:
        first = compiled.loss(net)
    assert len(told) == 1 and torch.allclose(first, eager.loss(net), rtol=1e-12)
    compiled.loss(net).backward()
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    eager.loss(net).backward()
    assert all(torch.allclose(a, p.grad, rtol=1e-12) for a, p in zip(found, net.parameters(), strict=True))
