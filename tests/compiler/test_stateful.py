"""Modules that hold weights for each row, and exact families: Taylor mode without a warning, without copies."""

import warnings

import numpy as np
import pytest
import torch
from sympy import Eq
from torch import nn

import pinnflow
from pinnflow import Problem, coordinates, exact_family, field, laplacian
from pinnflow.compiler.derivatives import ENTRIES, WIDTH, by_lines, chunk_size, partial_derivatives
from pinnflow.compiler.lines import Combination, lines_for
from pinnflow.compiler.plan import terms_of
from pinnflow.compiler.reference import nested_reverse
from pinnflow.trial.families import RidgeWaves
from pinnflow.trial.mixtures import GaussianMixture
from pinnflow.trial.nonlinear_families import Barenblatt, Paraboloids, SoftPlanes

PRODUCTS = {
    "bmm": lambda w, x: torch.bmm(w, x[:, :, None])[:, :, 0],
    "matmul": lambda w, x: torch.matmul(w, x[:, :, None]).squeeze(-1),
    "row times matrix": lambda w, x: (x.unsqueeze(1) @ w.mT)[:, 0],
    "matrix on the left": lambda w, x: (w[0] @ x[:, :, None])[:, :, 0],
    "einsum": lambda w, x: torch.einsum("nhd,nd->nh", w, x),
    "einsum of two results": lambda w, x: torch.einsum("nd,nhd,nd->nh", x, w, torch.cos(x)),
    "products": lambda w, x: (w * x[:, None, :]).sum(-1),
    "baddbmm": lambda w, x: torch.baddbmm(w[:, :, :1], w, x[:, :, None])[:, :, 0],
}


class Stacked(nn.Module):
    """K networks, one of them for each row."""

    def __init__(self, d, rows, product, width=5):
        super().__init__()
        torch.manual_seed(0)
        shapes = {"a": (3, width, d), "b": (3, width), "c": (3, width, width), "e": (3, width), "f": (3, width)}
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(*shape, dtype=torch.float64)))
        self.k, self.product = torch.arange(rows) % 3, PRODUCTS[product]

    def forward(self, x):
        y = torch.tanh(self.product(self.a[self.k], x) + self.b[self.k])
        y = torch.tanh(self.product(self.c[self.k], y) + self.e[self.k])
        return (self.f[self.k] * y).sum(1, keepdim=True)


def wave_terms(d):
    return tuple(sorted((tuple(2 * (i == j) for i in range(d)), 1 if j == 0 else -1) for j in range(d)))


def check(module, points, accuracy=1e-11):
    d = points.shape[1]
    wave = Combination(0, wave_terms(d))
    some = [(0, (0,) * d), (0, (1, *[0] * (d - 1))), (0, (1, 1, *[0] * (d - 2))), (0, (*[0] * (d - 1), 3))]
    expected = nested_reverse(module, points, [*some, *((0, a) for a, _ in wave.terms)])
    expected[wave] = sum(c * expected[0, a] for a, c in wave.terms)
    size = max(float(value.detach().abs().max()) for value in expected.values())
    weights = list(module.parameters())
    for requests in ([wave], some):
        found = partial_derivatives(module, points, requests)
        for request in requests:
            assert float((found[request] - expected[request]).detach().abs().max()) <= accuracy * size, request
    found = partial_derivatives(module, points, [wave])[wave]
    gradients = [
        torch.autograd.grad(v.sum(), weights, retain_graph=True, materialize_grads=True, allow_unused=True)
        for v in (found, expected[wave])
    ]
    size = max(float(g.abs().max()) for g in gradients[1])
    for a, b in zip(*gradients, strict=True):
        assert float((a - b).abs().max()) <= 100 * accuracy * size


@pytest.mark.parametrize("product", PRODUCTS)
def test_stacked_networks_are_differentiated_by_taylor_mode(product):
    points = torch.randn(7, 4, dtype=torch.float64)
    check(Stacked(4, 7, product), points)


FAMILIES = {
    "ridge waves": lambda b, d, g: RidgeWaves(b, 0, 3, 4, np.full(d, 0.3), -np.eye(d), True, g),
    "transport": lambda b, d, g: RidgeWaves(b, 0, 3, 4, np.full(d, 0.3), None, False, g),
    "mixture": lambda b, d, g: GaussianMixture(b, 0, 3, 4, np.ones(d) / 5, np.arange(d) / d, np.ones(d), None, 0.1, g),
    "soft planes": lambda b, d, g: SoftPlanes(b, 0, 3, 4, -0.5, np.eye(d) / 10, np.ones(d), 0.2, g),
    "paraboloids": lambda b, d, g: Paraboloids(b, 0, 3, 1, np.eye(d), np.ones(d), 0.2, g),
    "Barenblatt": lambda b, d, g: Barenblatt(b, 0, 3, 1, 2.0, 1.0, g),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_exact_families_called_with_a_member_for_each_row(name):
    family = FAMILIES[name]([(0, 6), *[(-3, 3)] * 3], 3, torch.Generator().manual_seed(0))

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.family, self.member = family, torch.arange(7) % 3

        def forward(self, points):
            return self.family(points, self.member)

    points = torch.cat([3 + torch.rand(7, 1), torch.randn(7, 3)], 1).double()
    check(Rows(), points, 1e-10)


def test_an_exact_family_has_no_residual_and_no_warning():
    t, z = coordinates("t"), coordinates("z", 6)
    u = field("u", t, z)
    problem = Problem([Eq(u.diff(t, 2), laplacian(u, z))], {t: (0, 6), z: (-3, 3)})
    family, member = exact_family(problem, members=3, features=8), torch.arange(9) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = pinnflow.compile(problem, points=9)
        found = compiled.residuals(lambda x: family(x, member))["equation 1"]
    assert float(found.detach().abs().max()) < 1e-12


def test_many_lines_go_in_chunks_and_give_the_same(monkeypatch):
    import pinnflow.compiler.derivatives as derivatives

    module, points = Stacked(9, 4, "bmm"), torch.randn(4, 9, dtype=torch.float64)
    requests = [Combination(0, wave_terms(9)), (0, (0, 1, *[0] * 7)), (0, (0,) * 9)]
    lines = lines_for(map(terms_of, requests), [1.0] * 9)
    results = []
    for entries in (ENTRIES, WIDTH * 4 * 2):
        monkeypatch.setattr(derivatives, "ENTRIES", entries)
        recipes = {one: (lines.recipes.get(terms_of(one)),) for one in requests}
        found = by_lines(module, points, recipes, lines)
        loss = sum(value.square().sum() for value in found.values())
        results.append([*found.values(), *torch.autograd.grad(loss, module.parameters())])
    assert chunk_size(points) == 2
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13)


def test_a_wave_in_512_dimensions_takes_no_copy_of_the_weights_for_each_line():
    """513 lines of 64 rows: a copy for each would be 8 GB. Counted by what is kept for the reverse pass."""
    points = torch.randn(16, 513, dtype=torch.float64)
    module = Stacked(513, 16, "bmm", width=16)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        wave = Combination(0, wave_terms(513))
        partial_derivatives(module, points, [wave])
    one = 513 * 16 * 16 * 8  # first derivatives behind a layer
    assert sum(kept.values()) < 12 * one


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.clamp(x, -0.3, 0.4).sum(1, keepdim=True),
        lambda x: x.clamp(min=0).sum(1, keepdim=True) * x[:, :1],
        lambda x: torch.maximum(x[:, :1] ** 2, torch.sin(x[:, 1:2])) + torch.minimum(x[:, 2:3], x[:, 3:] ** 3),
        lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x[:, :1],
        lambda x: torch.linalg.norm(x[:, 1:], dim=1, keepdim=True) + x.norm(dim=1, keepdim=True) ** 2,
        lambda x: torch.where(x[:, :1] > 0, x[:, 1:2] ** 3, torch.softmax(x, 1)[:, :1]),
    ],
)
def test_bounds_norms_and_branches(function):
    points = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    requests = [(0, (2, 0, 0, 0)), (0, (0, 1, 1, 0)), (0, (0, 0, 0, 3)), (0, (1, 0, 1, 0))]
    found, expected = partial_derivatives(function, points, requests), nested_reverse(function, points, requests)
    for request in requests:
        assert torch.allclose(found[request], expected[request], rtol=1e-10, atol=1e-12), request
