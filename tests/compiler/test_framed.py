"""Coefficients that dependent lines share, against one coefficient for each line."""

import dataclasses

import pytest
import torch
from torch import nn

from pinnflow.compiler import derivatives
from pinnflow.compiler.derivatives import by_lines
from pinnflow.compiler.lines import Combination, lines_for
from pinnflow.compiler.plan import terms_of

PLATE = {(4, 0, 0): 1, (2, 2, 0): 2, (0, 4, 0): 1}
SOLID = {tuple(4 * (i == j) for j in range(3)): 1 for i in range(3)} | {
    tuple(2 * (i != j) for j in range(3)): 2 for i in range(3)
}
HESSIAN = [{tuple((i == k) + (j == k) for k in range(3)): 1} for i in range(3) for j in range(i, 3)]
CASES = {
    "plate": ([PLATE], (2, 3, 2, 1)),
    "plate with u_z": ([PLATE, {(0, 0, 1): 1}], (3, 3, 2, 1)),
    "vibrating plate": ([PLATE | {(0, 0, 2): 1}], (3, 3, 2, 1)),
    "plate and its gradient": ([PLATE, {(1, 0, 0): 1}, {(0, 1, 0): 1}], (2, 3, 2, 1)),
    "solid": ([SOLID], (3, 6, 3, 1)),
    "all second derivatives": (HESSIAN, (3, 6)),
    "third order": ([{(3, 0, 0): 1, (1, 2, 0): 2, (1, 0, 2): 1, (0, 0, 1): 1}], None),
    "sixth order": ([{(6, 0, 0): 1, (4, 2, 0): 3, (2, 4, 0): 3, (0, 6, 0): 1}], None),
}  # fmt: skip


def requests_of(case):
    return [Combination(0, tuple(sorted(terms.items()))) for terms in CASES[case][0]]


class Gated(nn.Module):
    """Products and quotients of jets between functions of one variable; columns of one sort enter late."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 1)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        h = torch.sin(self.b(h)) * torch.sigmoid(h) / (2 + h.square().mean(-1, keepdim=True)) + x[:, :1] ** 2
        return self.c(torch.nn.functional.silu(h)) + (h[:, None, :] @ h[:, :, None])[:, 0]


def plain():
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 1))


def evaluated(module, points, requests, lines):
    recipes = {one: (lines.recipes.get(terms_of(one)),) for one in requests}
    return list(by_lines(module, points, recipes, lines).values())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("make", [plain, Gated])
def test_shared_coefficients_give_the_same_derivatives_of_any_kind(case, make):
    """Values; gradients, and gradients of gradients, by weights and points."""
    torch.manual_seed(0)
    module, requests = make().double(), requests_of(case)
    points = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    lines = lines_for(map(terms_of, requests), [1.0, 2.0, 1.0])
    assert lines.frame is not None
    if CASES[case][1]:
        carried = (*lines.frame.carried, *([lines.tops.count] if lines.tops else []))
        assert carried == CASES[case][1]
    results = []
    for one in (lines, dataclasses.replace(lines, frame=None)):
        found = evaluated(module, points, requests, one)
        loss = sum((i + 1) * value.square().sum() for i, value in enumerate(found))
        leaves = [points, *module.parameters()]
        gradients = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True, allow_unused=True)
        again = torch.autograd.grad(
            sum(g.square().sum() for g in gradients), leaves, materialize_grads=True, allow_unused=True
        )
        results.append([*found, *gradients, *again])
    for a, b in zip(*results, strict=True):
        assert float((a - b).detach().abs().max()) <= 1e-11 * float(b.detach().abs().max()) + 1e-14


@pytest.mark.parametrize("case", ["plate", "vibrating plate", "all second derivatives"])
def test_forward_mode_vmap_and_gradcheck(case):
    torch.manual_seed(1)
    module, requests = Gated().double(), requests_of(case)
    points = torch.rand(2, 3, dtype=torch.float64)
    lines = lines_for(map(terms_of, requests), [1.0] * 3)
    weights = {name: p.detach() for name, p in module.named_parameters()}

    def function(some):
        moved = {**weights, "b.weight": some}
        return torch.stack(
            evaluated(lambda x: torch.func.functional_call(module, moved, (x,)), points, requests, lines)
        )

    some = weights["b.weight"]
    forward, reverse = torch.func.jacfwd(function)(some), torch.func.jacrev(function)(some)
    assert torch.allclose(forward, reverse, rtol=1e-10, atol=1e-10 * float(reverse.abs().max()))
    many = torch.func.vmap(function)(torch.stack([some, 2 * some]))
    assert torch.allclose(many[1], function(2 * some), rtol=1e-11)
    assert torch.autograd.gradcheck(function, (some.clone().requires_grad_(),), atol=1e-4, rtol=1e-4)


def test_chunks_of_lines_share_nothing_and_give_the_same(monkeypatch):
    torch.manual_seed(0)
    module, points, requests = Gated().double(), torch.randn(4, 3, dtype=torch.float64), requests_of("solid")
    lines = lines_for(map(terms_of, requests), [1.0] * 3)
    (whole,) = evaluated(module, points, requests, lines)
    monkeypatch.setattr(derivatives, "ENTRIES", derivatives.WIDTH * 4 * 2)
    (chunks,) = evaluated(module, points, requests, lines)
    assert derivatives.chunk_size(points) == 2
    assert torch.allclose(whole, chunks, rtol=1e-11)


def test_independent_lines_share_nothing():
    assert lines_for([(((2, 0), 1), ((0, 2), 1))], [1.0] * 2).frame is None
    assert lines_for([(((0, 4), 1), ((2, 0), 1))], [1.0] * 2).frame is None


def test_what_is_needed_by_itself_is_carried_by_itself():
    """u_xxx beside the plate: its third derivatives stand line by line, its first ones by the gradient."""
    requests = [*requests_of("plate"), Combination(0, (((3, 0, 0), 1),))]
    lines = lines_for(map(terms_of, requests), [1.0] * 3)
    assert lines.frame is None or not lines.frame.sums
