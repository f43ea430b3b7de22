"""Operators in many dimensions: exact in chunks, and estimates by expectation and rate."""

import itertools
import math

import pytest
import torch
from torch import nn

from pinnflow import coordinates, field
from pinnflow.compiler.reference import nested_reverse
from pinnflow.compiler.stochastic import (
    SparseOperator,
    hutchinson_biharmonic,
    hutchinson_laplacian,
    laplacian,
)
from pinnflow.declare.operators import biharmonic as biharmonic_of
from pinnflow.declare.operators import laplacian as laplacian_of
from pinnflow.errors import NotYet


def network(d=4, m=1):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, m)).double()


def points(d=4):
    return torch.rand(5, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def exact(net, x, terms):
    requests = [(0, orders) for orders in terms]
    found = nested_reverse(net, x, requests)
    return sum(c * found[0, orders] for orders, c in terms.items())


def unit(d, **orders):
    return tuple(orders.get(f"c{i}", 0) for i in range(d))


LAPLACIAN = {unit(4, **{f"c{i}": 2}): 1.0 for i in range(4)}
BIHARMONIC = {
    **{unit(4, **{f"c{i}": 4}): 1.0 for i in range(4)},
    **{unit(4, **{f"c{i}": 2, f"c{j}": 2}): 2.0 for i, j in itertools.combinations(range(4), 2)},
}


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_chunks_do_not_change_the_laplacian_or_its_gradient(chunk):
    net, x = network(), points()
    found = laplacian(net, x, chunk=chunk)[:, 0]
    expected = exact(net, x, LAPLACIAN)
    assert torch.allclose(found, expected, rtol=1e-12)
    gradients = [torch.autograd.grad(v.square().sum(), net[0].weight)[0] for v in (found, expected)]
    assert torch.allclose(*gradients, rtol=1e-11)
    assert torch.allclose(laplacian(net, x, columns=[1])[:, 0], exact(net, x, {(0, 2, 0, 0): 1.0}), rtol=1e-12)


def test_all_terms_drawn_is_exact():
    net, x = network(), points()
    for operator, terms in ((SparseOperator.laplacian(4), LAPLACIAN), (SparseOperator.biharmonic(4), BIHARMONIC)):
        assert torch.allclose(operator.estimate(net, x, operator.size), exact(net, x, terms), rtol=1e-10)
        assert "exact" in operator.plan(operator.size)


def test_every_draw_averaged_is_the_operator():
    """Without replacement and one term at a time: the mean over all d draws is the Laplacian itself."""
    net, x = network(), points()
    operator = SparseOperator.laplacian(4)
    family = operator.families[0]
    draws = [[(index, c * 4)] for index, c in map(family.term, range(4))]
    mean = sum(SparseOperator.from_terms(4, dict(one)).estimate(net, x, 1) for one in draws) / 4
    assert torch.allclose(mean, exact(net, x, LAPLACIAN), rtol=1e-12)


MIXED = {((0, 1), (2, 3)): 0.5, ((1, 2),): -2.0, ((3, 1),): 1.0, (): 3.0}
MIXED_DENSE = {(1, 0, 3, 0): 0.5, (0, 2, 0, 0): -2.0, (0, 0, 0, 1): 1.0, (0, 0, 0, 0): 3.0}
ESTIMATES = {
    "sparse laplacian": (lambda n, x, k, g: SparseOperator.laplacian(4).estimate(n, x, k, g), LAPLACIAN),
    "sparse biharmonic": (lambda n, x, k, g: SparseOperator.biharmonic(4).estimate(n, x, k, g), BIHARMONIC),
    "mixed orders": (lambda n, x, k, g: SparseOperator.from_terms(4, MIXED).estimate(n, x, k, g), MIXED_DENSE),
    "random signs": (lambda n, x, k, g: hutchinson_laplacian(n, x, k, g)[:, 0], LAPLACIAN),
    "normal lines": (lambda n, x, k, g: hutchinson_biharmonic(n, x, k, g)[:, 0], BIHARMONIC),
}


@pytest.mark.parametrize("name", sorted(ESTIMATES))
def test_the_mean_of_many_draws_is_the_operator(name):
    """Within five standard errors of the mean, at every point."""
    estimate, terms = ESTIMATES[name]
    net, x, generator = network(), points(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        draws = torch.stack([estimate(net, x, 2, generator) for _ in range(120)])
    error = (draws.mean(0) - exact(net, x, terms)).abs()
    assert bool((error <= 5 * draws.std(0) / math.sqrt(120) + 1e-9).all())


@pytest.mark.parametrize("name", ["random signs", "normal lines"])
def test_the_variance_falls_as_one_over_the_number_of_lines(name):
    """Fourth powers of normal variables scatter widely, so the numbers of lines are not too small."""
    estimate, _ = ESTIMATES[name]
    net, x, generator = network(), points(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        few, many = (torch.stack([estimate(net, x, k, generator) for _ in range(100)]).var(0).mean() for k in (8, 64))
    assert 4 < float(few / many) < 16  # eight, as far as 100 draws tell


def test_the_figure_in_the_plan_is_the_standard_deviation():
    net, x, generator = network(30), points(30), torch.Generator().manual_seed(4)
    operator = SparseOperator.laplacian(30)
    singles = torch.stack([exact(net, x, {unit(30, **{f"c{i}": 2}): 1.0}) for i in range(30)]).detach()
    predicted = operator.families[0].factor(5) * singles.std(0, correction=0)
    with torch.no_grad():
        draws = torch.stack([operator.estimate(net, x, 5, generator) for _ in range(200)])
    assert torch.allclose(draws.std(0), predicted, rtol=0.3)
    assert f"5 of 30 terms: unbiased, standard deviation {operator.families[0].factor(5):.3g} times" in operator.plan(5)
    relative = operator.deviation(net, x, 5, generator, draws=60)
    assert relative == pytest.approx(
        float(predicted.square().mean().sqrt() / singles.sum(0).square().mean().sqrt()), rel=0.3
    )


def test_operators_are_read_from_expressions_without_writing_them_out():
    z = coordinates("z", 10000)
    u = field("u", z)
    operator = SparseOperator.from_expression(3 * laplacian_of(u, z) - u.diff(z[2]) + 2 * u, z.components)
    assert operator.size == 10002 and operator.counts(16)[0] == 16
    assert SparseOperator.from_expression(biharmonic_of(u, z), z.components).size == 10000 + 10000 * 9999 // 2
    z, x = coordinates("z", 4), points()
    u = field("u", z)
    operator = SparseOperator.from_expression(3 * laplacian_of(u, z) - u.diff(z[2], z[1]) + 2 * u, z.components)
    terms = {**dict.fromkeys(LAPLACIAN, 3.0), (0, 1, 1, 0): -1.0, (0, 0, 0, 0): 2.0}
    assert torch.allclose(operator.estimate(network(), x, 100), exact(network(), x, terms), rtol=1e-10)
    with pytest.raises(NotYet, match="is not a number times a derivative"):
        SparseOperator.from_expression(u * u.diff(z[0]), z.components)


def test_estimates_have_a_gradient_by_the_weights():
    net, x = network(), points()
    loss = SparseOperator.biharmonic(4).estimate(net, x, 3, torch.Generator().manual_seed(5)).square().sum()
    weights = [p for name, p in net.named_parameters() if name.endswith("weight")]
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(loss, weights))
