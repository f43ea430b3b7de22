"""The second linear layer of a network by one product for many lines, against one product for each line."""

import pytest
import torch
from torch import nn

from pinnflow.compiler import first_layer
from pinnflow.compiler.derivatives import partial_derivatives
from pinnflow.compiler.lines import Combination

REQUESTS = {
    "laplacian": [Combination(0, tuple((tuple(2 * (i == j) for i in range(4)), 1) for j in range(4)))],
    "with first order": [
        Combination(0, (((0, 0, 0, 2), 1), ((0, 0, 1, 0), -2), ((0, 2, 0, 0), 3))),
        (0, (1, 0, 0, 0)), (0, (0, 0, 0, 0)),
    ],
    "two orders": [Combination(0, (((0, 0, 0, 4), 1), ((0, 0, 2, 0), 1), ((0, 3, 0, 0), 1)))],
    "plate": [Combination(0, (((0, 0, 0, 4), 1), ((0, 0, 2, 2), 2), ((0, 0, 4, 0), 1)))],
    "one by one": [(0, (3, 0, 0, 0)), (0, (1, 1, 0, 0)), (0, (0, 0, 1, 1))],
}  # fmt: skip


class Two(nn.Module):
    """Two layers behind the same function, which is used by itself as well."""

    def __init__(self):
        super().__init__()
        self.first, self.a, self.b, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x):
        h = torch.sin(self.first(x))
        return self.last(torch.tanh(self.a(h)) * self.b(h) + h)


NETWORKS = {
    "tanh": lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)),
    "gelu": lambda: nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 1)),
    "one hidden": lambda: nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, 1)),
    "two": Two,
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("case", REQUESTS)
def test_one_product_gives_the_same(monkeypatch, network, case):
    """Values, gradients, and gradients of gradients, by weights and points."""
    torch.manual_seed(0)
    net, points = NETWORKS[network]().double(), torch.randn(20, 4, dtype=torch.float64, requires_grad=True)
    results, taken = [], []
    plain = first_layer._Chain.apply
    monkeypatch.setattr(first_layer._Chain, "apply", lambda *args: (taken.append(1), plain(*args))[1])
    for many in (2, 10**9):
        monkeypatch.setattr(first_layer, "MANY", many)
        found = partial_derivatives(net, points, REQUESTS[case])
        loss = sum((i + 1) * value.square().sum() for i, value in enumerate(found.values()))
        leaves = [points, *net.parameters()]
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True, allow_unused=True)
        slope = torch.autograd.grad(loss, points, create_graph=True, materialize_grads=True, allow_unused=True)[0]
        again = [torch.zeros(1)]
        if slope.requires_grad:
            again = torch.autograd.grad(slope.square().sum(), leaves, materialize_grads=True, allow_unused=True)
        results.append([*found.values(), *gradients, *again])
    assert len(taken) == 1
    for a, b in zip(*results, strict=True):
        assert float((a - b).detach().abs().max()) <= 1e-11 * float(b.detach().abs().max()) + 1e-14


def test_forward_mode_takes_it_too(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(first_layer, "MANY", 2)
    net, points = NETWORKS["tanh"]().double(), torch.randn(20, 4, dtype=torch.float64)
    weight = net[0].weight.detach()
    (wanted,) = REQUESTS["laplacian"]

    def function(some):
        moved = lambda x: torch.func.functional_call(net, {"0.weight": some}, (x,))  # noqa: E731
        return partial_derivatives(moved, points, [wanted])[wanted]

    some = weight.clone().requires_grad_()
    expected = torch.func.jvp(function, (weight,), (torch.ones_like(weight),))[1]
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(some, torch.ones_like(some))
        found = torch.autograd.forward_ad.unpack_dual(function(dual)).tangent
    assert torch.allclose(found, expected, rtol=1e-11)
