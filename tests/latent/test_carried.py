"""Priors that a flow has carried from the normal distribution: mass one, exact derivatives, draws."""

import math

import pytest
import torch

from pinnflow.latent.carried import CarriedPrior
from pinnflow.latent.generators.vae import VAE
from pinnflow.latent.structured import StructuredVAE
from pinnflow.latent.transitions import Still


def bent(latent_dim, steps, seed=0):
    """A prior whose weights are far from the first ones."""
    prior = CarriedPrior(latent_dim, steps, planes=6, seed=seed)
    with torch.no_grad():
        prior.field.momenta.mul_(30.0 / steps)
    return prior


@pytest.mark.parametrize("steps", [1, 3])
def test_density_has_mass_one(steps):
    """By the trapezoidal rule on a grid of the plane."""
    prior = bent(2, steps)
    side = torch.linspace(-21, 21, 841, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        mass = prior.log_density(grid).exp().sum() * 0.05**2
    assert float(mass) == pytest.approx(1, abs=1e-6)


def test_derivatives_are_those_of_the_potential_that_obeys_the_equation():
    prior = bent(3, 2)
    z = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    slope, curvature = prior.derivatives(z, 2.0)
    torch.testing.assert_close(slope, prior.flow.velocity(z, 2.0, 0))
    rows = [torch.autograd.grad(c.sum(), z, retain_graph=True)[0] for c in slope.unbind(dim=1)]
    torch.testing.assert_close(curvature, torch.stack(rows, dim=1))
    assert float(torch.linalg.eigvalsh(curvature.detach()).max()) < 1e-9
    assert float(prior.flow.residual(z.detach(), torch.full((7,), 2.0).double(), 0).max()) < 1e-8


def test_draws_lead_back_to_normal_codes_and_have_the_mean_of_the_density():
    prior = bent(2, 2, seed=1)
    z = prior.sample(4000, seed=3)
    e, _ = prior.origin(z)
    torch.testing.assert_close(e, prior.flow.sample(4000, 3), atol=1e-6, rtol=0)
    side = torch.linspace(-14, 14, 281, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        weights = prior.log_density(grid).exp() * 0.1**2
    mean = (weights[:, None] * grid).sum(dim=0)
    assert bool(((z.mean(dim=0) - mean).abs() < 4 * z.std(dim=0) / math.sqrt(4000)).all())


def test_model_counts_the_divergence_from_its_own_prior():
    """In the mean over draws log q - log rho is KL(q | rho), here by quadrature in one dimension."""
    prior = bent(1, 1)
    vae = VAE((1, 8, 8), 1, "mlp", 16)
    model = StructuredVAE(vae, Still(vae, 1, 1, device="cpu"), 2, prior=prior)
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _, found = model.drawn(x.expand(20_000, -1, -1, -1), noise)
        mean, log_variance = vae.encode(x)
        z = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
        log_q = -((z - mean) ** 2) / (2 * log_variance.exp()) - (log_variance + math.log(2 * math.pi)) / 2
        expected = (log_q[:, 0].exp() * (log_q[:, 0] - prior.log_density(z))).sum() * 24 / 4000
    assert float(found.mean()) == pytest.approx(float(expected), abs=4 * float(found.std()) / math.sqrt(20_000))
    assert float(found.std()) > 0
