"""Densities along flows: closed forms, and estimates whose mean is the exact number."""

import math

import pytest
import torch

from pinnflow.latent import baseline
from pinnflow.latent.transport import DEPTH, EXACT, _signs, divergence, log_determinant
from pinnflow.latent.traversal import Flow, standard_normal


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Linear(Flow):
    """v = A z / (1 + t)."""

    def __init__(self, matrix):
        super().__init__(None, len(matrix), 1, device="cpu")
        self.matrix = matrix

    def velocity(self, z, t, k=0):
        return z @ self.matrix.mT / (1 + torch.as_tensor(t, dtype=z.dtype)).reshape(-1, 1)


def uneven(d, size=0.4, seed=0):
    """A matrix without symmetry of spectral norm `size`."""
    A = normal(d, d, seed=seed)
    return size * A / torch.linalg.matrix_norm(A, ord=2)


def test_linear_steps_divide_the_density_by_their_determinant():
    A, z = uneven(5), normal(3, 5)
    log_p = Linear(A).transported_log_density(z, steps=2, step_length=None)
    fall = [torch.linalg.slogdet(torch.eye(5) + A / (1 + i)).logabsdet for i in (1, 2)]
    torch.testing.assert_close(log_p[-1], standard_normal(z) - fall[0] - fall[1], rtol=1e-12, atol=1e-12)


def test_divergence_of_a_rarefaction_integrates_to_the_logarithm_of_its_expansion():
    """u = |z|^2 / (2 (1 + t)) moves z to z (1 + T), so that the density falls by the factor (1 + T)^d."""
    flow, z, d, n = Linear(torch.eye(4, dtype=torch.float64)), normal(6, 4), 4, 400
    total = sum(flow.divergence(z, (i + 0.5) * 2 / n) * 2 / n for i in range(n))
    torch.testing.assert_close(total, torch.full((6,), d * math.log(3.0), dtype=torch.float64), rtol=1e-5, atol=0)


@pytest.fixture(scope="module")
def curved():
    """A field that is no gradient, with derivatives of the order of 1."""
    flow = baseline("free", None, latent_dim=5, potentials=2, objectives=[], device="cpu")
    flow.scale_velocity(12.0)
    return flow


@pytest.mark.parametrize("step_length", [None, 0.35])
def test_two_probes_are_right_on_average(curved, step_length):
    """The mean of 400 estimates is within four standard errors of the exact number, for each code."""
    z, k = normal(4, 5, seed=2), torch.tensor([0, 1, 1, 0])
    many, rows = z.repeat(400, 1), k.repeat(400)
    step = lambda at: curved._field(k if len(at) == 4 else rows, step_length, 1.0)(at, 1.0)  # noqa: E731
    for quantity in (divergence, log_determinant):
        exact = quantity(step, z)
        found = quantity(step, many, probes=2).unflatten(0, (400, 4))
        error = found.std(dim=0) / 20
        assert bool((error > 0).all())
        assert bool(((found.mean(dim=0) - exact).abs() < 4 * error).all())


def test_estimate_of_one_number_is_not_the_exact_number_of_another(curved):
    """The first-order term alone is far from the log-determinant here, so that the test above tells them apart."""
    z = normal(4, 5, seed=2)
    step = lambda at: curved.velocity(at, 1.0, 0)  # noqa: E731
    assert float((divergence(step, z) - log_determinant(step, z)).abs().max()) > 0.1


def test_few_arnoldi_steps_are_enough():
    """For A = U diag U^T with probes of signs the estimate is e^T log(I + A) e to rounding, in 300 dimensions."""
    d = 300
    U = torch.linalg.qr(normal(d, d)).Q
    values = 0.5 * torch.sin(torch.arange(d, dtype=torch.float64))
    A, logarithm = U * values @ U.mT, U * torch.log1p(values) @ U.mT
    assert DEPTH < d > EXACT
    found = log_determinant(lambda z: z @ A.mT, normal(3, d))
    signs = torch.stack([log_determinant(lambda z: z @ A.mT, normal(3, d), probes=p) for p in (1, 2)])
    assert torch.equal(found, signs[1])

    expected = torch.stack([((e @ logarithm) * e).sum(dim=1) for e in _signs(2, normal(3, d), 0)]).mean(dim=0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_many_dimensions_are_estimated_along_walks():
    """A multiple of unity has the same value along every probe: d log(1 + a) exactly."""
    d = EXACT + 1
    z = normal(3, d)
    log_p = Linear(0.2 * torch.eye(d, dtype=torch.float64)).transported_log_density(z, steps=1, step_length=None)
    torch.testing.assert_close(log_p[1], standard_normal(z) - d * math.log(1.1), rtol=1e-12, atol=0)


def test_step_that_does_not_depend_on_the_code_changes_nothing():
    z = normal(3, 4)
    still = lambda at: torch.ones(len(at), 4, dtype=torch.float64)  # noqa: E731
    for probes in (None, 2):
        assert torch.equal(log_determinant(still, z, probes=probes), torch.zeros(3, dtype=torch.float64))
        assert torch.equal(divergence(still, z, probes=probes), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("probes", [0, 1.5, True])
def test_wrong_number_of_probes_is_named(probes):
    with pytest.raises(ValueError, match="`probes` is"):
        Linear(torch.eye(2, dtype=torch.float64)).divergence(normal(1, 2), probes=probes)
