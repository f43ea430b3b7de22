"""Every basis has the derivatives of the functions it names, and comes back from its state."""

import numpy as np
import pytest
import torch

from pinnflow.trial.features import Product, Spline, draw_basis, product_indices, restore_basis

ORDERS = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 3), (2, 2)]
RNG = np.random.default_rng(7)


def bases():
    knots = np.sort(np.concatenate([[-1, 1], RNG.uniform(-0.9, 0.9, 14)]))
    grid = np.stack(np.meshgrid(np.arange(12), np.arange(3), indexing="ij"), -1).reshape(-1, 2)
    return {
        "sin": draw_basis("sin", (3, 2), 40, (False, False), RNG),
        "tanh": draw_basis("tanh", (3, 2), 40, (False, False), RNG),
        "chebyshev": draw_basis("chebyshev", (1, 2), 40, (False, False), RNG),
        "periodic": draw_basis("chebyshev", (1, 1), 40, (True, False), RNG),
        "periodic sin": draw_basis("sin", (3, 2), 40, (True, False), RNG),
        "spline": Product((Spline(7, knots), "chebyshev"), torch.as_tensor(grid)),
        "periodic spline": Product((Spline(7, knots, periodic=True), "chebyshev"), torch.as_tensor(grid)),
    }


def values(basis, points, orders):
    out = torch.zeros(len(points), basis.size, dtype=torch.float64)
    basis.accumulate(out, points, [(torch.ones((), dtype=torch.float64), orders)])
    return out


@pytest.mark.parametrize("name", bases())
@pytest.mark.parametrize("orders", ORDERS[1:])
def test_derivatives_are_those_of_the_functions(name, orders):
    """Central differences of the next lower derivative: error h^2 times two orders more."""
    basis = bases()[name]
    points = torch.as_tensor(RNG.uniform(-0.8, 0.8, size=(50, 2)))
    axis = 0 if orders[0] else 1
    lower = tuple(o - (i == axis) for i, o in enumerate(orders))
    step = torch.zeros(2, dtype=torch.float64)
    step[axis] = 1e-5
    difference = (values(basis, points + step, lower) - values(basis, points - step, lower)) / 2e-5
    found = values(basis, points, orders)
    assert torch.allclose(found, difference, rtol=1e-4, atol=1e-5 * float(found.abs().max()) + 1e-7)


@pytest.mark.parametrize("name", bases())
def test_combine_is_the_design_times_the_weights(name):
    basis = bases()[name]
    points = torch.as_tensor(RNG.uniform(-1, 1, size=(30, 2)))
    weights = torch.as_tensor(RNG.normal(size=basis.size))
    for orders, combined in zip(ORDERS, basis.combine(points, ORDERS, weights), strict=True):
        direct = values(basis, points, orders) @ weights
        assert torch.allclose(combined, direct, rtol=1e-9, atol=1e-9 * float(direct.abs().max() + 1))


@pytest.mark.parametrize("name", bases())
def test_a_basis_comes_back_from_its_state(name):
    basis = bases()[name]
    points = torch.as_tensor(RNG.uniform(-1, 1, size=(10, 2)))
    again = restore_basis(basis.state())
    assert torch.equal(values(again, points, (1, 1)), values(basis, points, (1, 1)))


@pytest.mark.parametrize("name", ["periodic", "periodic sin", "periodic spline"])
def test_periodic_functions_match_at_the_ends_with_derivatives(name):
    basis = bases()[name]
    ends = torch.tensor([[-1.0, 0.3], [1.0, 0.3]], dtype=torch.float64)
    for orders in [(0, 0), (1, 0), (2, 0), (3, 0)]:
        low, high = values(basis, ends, orders)
        assert torch.allclose(low, high, rtol=1e-8, atol=1e-8 * float(low.abs().max() + 1))


@pytest.mark.parametrize("kept", [(True, False), (False, True)])
def test_restricted_functions_do_not_depend_on_the_dropped_column(kept):
    for name in ("sin", "tanh", "chebyshev"):
        basis = bases()[name].restrict(kept)
        points = torch.as_tensor(RNG.uniform(-1, 1, size=(20, 2)))
        moved = points.clone()
        moved[:, kept.index(False)] += 0.1
        assert torch.allclose(values(basis, points, (0, 0)), values(basis, moved, (0, 0)))


@pytest.mark.parametrize(("dimension", "size"), [(1, 30), (2, 300), (3, 500)])
def test_product_indices_meet_the_size_and_contain_the_constant(dimension, size):
    indices = product_indices(np.ones(dimension), size, [False] * dimension)
    assert 0.8 * size <= len(indices) <= size
    assert (indices == 0).all(axis=1).any()


def test_splines_reproduce_polynomials_of_their_degree():
    knots = np.array([-1, -0.4, 0.1, 0.15, 1.0])
    spline = Spline(5, knots)
    x = torch.linspace(-1, 1, 80, dtype=torch.float64)
    table = spline.table(x, spline.count, 0)[0].numpy()
    for power in range(6):
        target = x.numpy() ** power
        fitted = table @ np.linalg.lstsq(table, target, rcond=None)[0]
        assert fitted == pytest.approx(target, abs=1e-12)
