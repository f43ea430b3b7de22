"""Bounds of the likelihood, on models whose likelihood is known, and with the sign that a bound has to have."""

import math

import pytest
import torch
from torch import nn

from pinnflow.errors import NonFinite, WrongShape
from pinnflow.latent.generators.vae import VAE, elbo_terms
from pinnflow.latent.likelihood import (
    Bernoulli,
    Gaussian,
    binarised,
    bounds,
    difference,
    elbo,
    importance_weighted,
    log_weights,
    together,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class LinearGaussian:
    """x = W z + b + s e with W of orthogonal columns, so that the posterior is N(m(x), diag v) in closed form.

    Args:
        error: added to the log variance of the encoder: 0 for the exact posterior.
        shift: added to its mean.
    """

    def __init__(self, error=0.0, shift=0.0, d=3, shape=(1, 2, 4), scale=0.3):
        p = math.prod(shape)
        q = torch.linalg.qr(normal(p, d, seed=1)).Q
        self.W, self.b = q * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), normal(p, seed=2)
        self.scale, self.shape, self.error, self.shift = scale, shape, error, shift
        self.variance = 1 / (1 + self.W.square().sum(dim=0) / scale**2)

    def encode(self, x):
        mean = self.variance * ((x.flatten(1) - self.b) @ self.W) / self.scale**2
        return mean + self.shift, (self.variance.log() + self.error).expand_as(mean)

    def decode(self, z):
        return (z @ self.W.mT + self.b).unflatten(1, self.shape)

    def images(self, n, seed=5):
        x = self.decode(normal(n, self.W.shape[1], seed=seed))
        return x + self.scale * normal(*x.shape, seed=seed + 1)

    def log_likelihood(self, x):
        """log N(x; b, W W^T + s^2 I), exactly."""
        covariance = self.W @ self.W.mT + self.scale**2 * torch.eye(len(self.b), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(self.b, covariance).log_prob(x.flatten(1))

    def divergence(self):
        """KL(q | posterior), the same for all images."""
        ratio = torch.tensor(self.error).exp()
        return float((ratio - 1 - self.error + self.shift**2 / self.variance).sum() / 2)


@pytest.mark.parametrize("samples", [1, 7])
def test_every_bound_is_exact_with_the_exact_posterior(samples):
    """p(x | z) p(z) / q(z | x) = p(x) whatever z is."""
    model = LinearGaussian()
    x = model.images(20)
    found = importance_weighted(model, x, samples, pixels=Gaussian(model.scale))
    torch.testing.assert_close(found.each, model.log_likelihood(x), rtol=1e-12, atol=1e-11)
    assert found.value == pytest.approx(float(model.log_likelihood(x).mean()), rel=1e-12)
    assert found.effective == pytest.approx(samples)


@pytest.mark.parametrize(("error", "shift"), [(0.7, 0.0), (-0.7, 0.0), (0.0, 0.2)])
def test_elbo_lies_below_the_likelihood_by_the_divergence_from_the_posterior(error, shift):
    """log p(x) - ELBO = KL(q(z | x) | p(z | x)) > 0."""
    model = LinearGaussian(error, shift)
    x = model.images(50)
    found = elbo(model, x, pixels=Gaussian(model.scale), draws=200)
    missing = float(model.log_likelihood(x).mean()) - found.value
    assert found.noise < 0.05
    assert missing == pytest.approx(model.divergence(), abs=4 * found.noise)
    assert missing > 4 * found.noise


def test_bound_grows_with_the_number_of_draws_to_the_exact_likelihood():
    model = LinearGaussian(0.5, 0.1)
    x = model.images(100)
    exact = float(model.log_likelihood(x).mean())
    found = bounds(model, x, (1, 4, 16, 256), pixels=Gaussian(model.scale))
    values = [one.value for one in found.values()]
    assert values == sorted(values)
    assert values[0] < exact - 0.1
    # Below the exact value within the error of the draws, and near it: the gap falls like 1/k from k = 16 on.
    assert values[-1] < exact + 4 * found[256].noise
    assert values[-1] > exact - 0.05
    assert all(one.samples == k for k, one in found.items())


def test_noise_is_the_spread_over_seeds():
    model = LinearGaussian(0.6)
    x = model.images(30)
    runs = [importance_weighted(model, x, 64, pixels=Gaussian(model.scale), seed=s) for s in range(60)]
    spread = float(torch.tensor([run.value for run in runs]).std())
    # The standard deviation of 60 numbers is right to about a tenth; the noise is to first order in 1/k.
    assert sum(run.noise for run in runs) / 60 == pytest.approx(spread, rel=0.4)
    one = importance_weighted(model, x, 8, pixels=Gaussian(model.scale), repeats=40)
    few = [importance_weighted(model, x, 8, pixels=Gaussian(model.scale), repeats=5, seed=s).value for s in range(60)]
    assert one.noise == pytest.approx(float(torch.tensor(few).std()) / 8**0.5, rel=0.4)
    assert math.isnan(importance_weighted(model, x, 1, pixels=Gaussian(model.scale)).noise)


def test_error_is_the_standard_error_over_images():
    model = LinearGaussian()
    x = model.images(400)
    found = importance_weighted(model, x, 1, pixels=Gaussian(model.scale))
    assert found.error == pytest.approx(float(model.log_likelihood(x).std()) / 20, rel=1e-9)
    assert math.isnan(importance_weighted(model, x[:1], 1, pixels=Gaussian(model.scale)).error)


def test_difference_on_the_same_images_has_the_smaller_error():
    good, bad = LinearGaussian(), LinearGaussian(0.0, 0.1)
    x = good.images(200)
    first, second = (elbo(model, x, pixels=Gaussian(good.scale)) for model in (good, bad))
    gained, error = difference(first, second)
    assert gained == pytest.approx(bad.divergence(), abs=4 * error)
    assert error < first.error / 2
    with pytest.raises(WrongShape, match="200 and of 10"):
        difference(first, elbo(good, x[:10], pixels=Gaussian(good.scale)))


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return VAE((1, 6, 6), latent_dim=4, width=16)


def test_elbo_of_the_vae_is_minus_the_loss_it_is_trained_by(vae):
    """The divergence is subtracted: with the other sign the value would lie 2 KL higher."""
    with torch.no_grad():
        last = [layer for layer in vae.encoder.modules() if isinstance(layer, nn.Linear)][-1]
        last.bias.add_(1.0)  # an encoder far from the prior, so that the divergence is seen
        x = (normal(40, 1, 6, 6, seed=3) > 0).float()
        terms = [elbo_terms(vae, x, normal(40, 4, seed=s).float()) for s in range(100, 160)]
    reconstruction, divergence = (float(torch.stack(part).mean()) for part in zip(*terms, strict=True))
    found = elbo(vae, x, draws=60)
    assert divergence > 2
    # Both are means over 60 draws of 40 images.
    assert found.value == pytest.approx(-reconstruction - divergence, abs=6 * found.noise)
    assert 6 * found.noise < divergence


def test_bernoulli_probabilities_of_all_images_sum_to_one():
    """Of the 2^4 black and white images of 4 pixels, by an encoder that answers with the prior and many draws."""
    rows = torch.tensor([[(i >> j) & 1 for j in range(4)] for i in range(16)], dtype=torch.float64)
    x = rows.reshape(16, 1, 2, 2)
    W = normal(4, 2, seed=4)
    prior = lambda x: (torch.zeros(len(x), 2, dtype=torch.float64),) * 2  # noqa: E731
    found = importance_weighted((prior, lambda z: (z @ W.mT).reshape(-1, 1, 2, 2)), x, 4000)
    assert float(found.each.exp().sum()) == pytest.approx(1, abs=0.05)
    p = torch.tensor([[0.1, 0.7]], dtype=torch.float64)
    one = Bernoulli().log_likelihood(torch.logit(p), torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    assert float(one) == pytest.approx(math.log(0.9 * 0.7))


def test_bits_for_a_pixel_of_a_fair_coin_are_one():
    nothing = lambda x: (torch.zeros(len(x), 1), torch.zeros(len(x), 1))  # noqa: E731
    found = elbo((nothing, lambda z: torch.zeros(len(z), 1, 3, 3)), torch.ones(5, 1, 3, 3))
    assert found.bits_per_pixel == pytest.approx(1)
    assert "5 images" in str(found)
    assert "ELBO" in str(found)


def test_draws_follow_the_seed_and_not_the_chunks_of_decoding(vae):
    x = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    first = log_weights(vae, x, 3, seed=1)
    assert torch.equal(first, log_weights(vae, x, 3, seed=1))
    assert not torch.equal(first, log_weights(vae, x, 3, seed=2))
    torch.testing.assert_close(log_weights(vae, x, 3, seed=1, chunk=6), first, rtol=1e-5, atol=1e-5)
    assert first.dtype == torch.float64


def test_model_is_asked_in_evaluation_mode():
    model = VAE((1, 4, 4), latent_dim=2, width=8)
    model.encoder.append(nn.Dropout(0.9))
    model.train()
    x = torch.rand(5, 1, 4, 4)
    assert torch.equal(log_weights(model, x, 2), log_weights(model, x, 2))
    assert model.training


def test_binarised_images_have_the_brightness_of_the_grey():
    grey = torch.full((1, 1, 200, 200), 0.3)
    drawn = binarised(grey)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert float(drawn.mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21) / 200)


def test_prior_of_ones_own_counts_and_the_normal_one_is_the_default():
    """With N(m, I) for a prior, and codes given by -m, the likelihood is that of N(0, I) exactly, image by image."""
    model = LinearGaussian(0.3)
    x = model.images(30)
    how = {"pixels": Gaussian(model.scale), "samples": 5}
    usual = importance_weighted(model, x, **how)
    normal_prior = lambda z: -(z.square() + math.log(2 * math.pi)).sum(dim=1) / 2  # noqa: E731
    torch.testing.assert_close(importance_weighted(model, x, prior=normal_prior, **how).each, usual.each)
    m = normal(30, 3, seed=8)
    rows = torch.arange(30)
    encode = lambda x: tuple(a + b for a, b in zip(model.encode(x), (m, 0.0)))  # noqa: E731
    moved = importance_weighted(
        (encode, lambda z, i: model.decode(z - m[i])),
        x,
        prior=lambda z, i: normal_prior(z - m[i]),
        given=rows,
        chunk=4096,
        **how,
    )
    torch.testing.assert_close(moved.each, usual.each, rtol=1e-9, atol=1e-9)


def test_draws_that_the_prior_excludes_count_for_nothing():
    """Of k draws the half with z_0 > 0 is allowed: exactly the weights of these remain."""
    model = LinearGaussian(0.3)
    x = model.images(6)
    usual = log_weights(model, x, 40, pixels=Gaussian(model.scale))
    half = lambda z: torch.where(z[:, 0] > 0, -(z.square() + math.log(2 * math.pi)).sum(dim=1) / 2, -torch.inf)  # noqa: E731
    found = log_weights(model, x, 40, pixels=Gaussian(model.scale), prior=half)
    out = found == -torch.inf
    assert 0 < int(out.sum()) < out.numel()
    torch.testing.assert_close(found[~out], usual[~out])
    with pytest.raises(NonFinite, match="image 0"):
        log_weights(model, x, 4, pixels=Gaussian(model.scale), prior=lambda z: z[:, 0] * torch.nan)
    with pytest.raises(WrongShape, match="the prior answered"):
        log_weights(model, x, 4, pixels=Gaussian(model.scale), prior=lambda z: z)
    with pytest.raises(WrongShape, match="of 3 images; there are 6"):
        log_weights(model, x, 4, pixels=Gaussian(model.scale), given=torch.zeros(3))


def test_bounds_of_independent_images_add_up():
    model = LinearGaussian()
    parts = [importance_weighted(model, model.images(20, seed=s), 4, pixels=Gaussian(model.scale)) for s in (5, 9)]
    both = together(parts)
    assert both.value == pytest.approx(parts[0].value + parts[1].value)
    torch.testing.assert_close(both.each, parts[0].each + parts[1].each)
    assert both.pixels == 2 * parts[0].pixels
    assert both.error == pytest.approx(float(both.each.std()) / 20**0.5)
    with pytest.raises(WrongShape, match="one by one"):
        together([parts[0], elbo(model, model.images(3), pixels=Gaussian(model.scale))])


def test_what_cannot_be_measured_is_refused_in_words(vae):
    x = torch.rand(4, 1, 6, 6)
    with pytest.raises(TypeError, match="no `decode`"):
        elbo(type("Half", (), {"encode": vae.encode})(), x, pixels=Gaussian())
    with pytest.raises(WrongShape, match="decoder answered"):
        elbo((vae.encode, lambda z: vae.logits(z)[..., :3]), x)
    with pytest.raises(WrongShape, match="mean and log variance"):
        elbo((lambda x: (x[:, 0, 0], x[:, 0]), vae.logits), x)
    with pytest.raises(NonFinite, match="image 0"):
        elbo((lambda x: (vae.encode(x)[0], 2e3 + vae.encode(x)[1]), vae.logits), x)
    with pytest.raises(ValueError, match="divide the largest, 8"):
        bounds(vae, x, (3, 8))
    with pytest.raises(ValueError, match="scale"):
        Gaussian(0.0)
    with pytest.raises(WrongShape, match="an image or more"):
        elbo(vae, x[:0])
