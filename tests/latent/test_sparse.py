"""Several transformations at once: spikes and slabs against their exact values, and sets that are told from pairs."""

import itertools
import math

import numpy as np
import pytest
import torch

from pinnflow.errors import DeclarationError, WrongShape
from pinnflow.latent.generators.mixed import MixedImages, mixed_images
from pinnflow.latent.generators.moving import MovingImages, moving_images
from pinnflow.latent.sparse import SparsePosterior, SpikeSlab, set_recovery
from pinnflow.latent.sparse_training import infer_sets
from pinnflow.latent.structured_training import train_structured_vae


def posterior(*shape, seed=0):
    """Log odds, means and log variances."""
    draw = torch.Generator().manual_seed(seed)
    odds, mean, log_variance = torch.randn(3, *shape, generator=draw, dtype=torch.float64)
    return 2 * odds, 1 + 0.3 * mean, log_variance - 2.5


def gauss(count=40):
    """Nodes and weights of E f(g), g ~ N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return torch.from_numpy(nodes), torch.from_numpy(weights / math.sqrt(2 * math.pi))


def log_normal(x, mean, deviation):
    return -((x - mean) ** 2) / (2 * deviation**2) - math.log(deviation) - math.log(2 * math.pi) / 2


def test_divergence_is_the_sum_over_all_sets_and_the_integral_over_all_speeds():
    """E_q [log q - log p] over the 2^3 sets, by quadrature for the speeds of those that act."""
    prior = SpikeSlab(0.2, 0.4)
    odds, mean, log_variance = posterior(1, 3)
    nodes, weights = gauss()
    expected = 0.0
    for acts in itertools.product((0, 1), repeat=3):
        log_q = log_p = slabs = 0.0
        for k, b in enumerate(acts):
            gamma = 1 / (1 + math.exp(-float(odds[0, k])))
            log_q += math.log(gamma if b else 1 - gamma)
            log_p += math.log(0.2 if b else 0.8)
            if b:
                m, r = float(mean[0, k]), math.exp(float(log_variance[0, k]) / 2)
                g = m + r * nodes
                slabs += float((weights * (log_normal(g, m, r) - log_normal(g, 1, 0.4))).sum())
        expected += math.exp(log_q) * (log_q - log_p + slabs)
    assert float(prior.divergence(odds, mean, log_variance)) == pytest.approx(expected, rel=1e-12)


def test_divergence_is_zero_at_the_prior_and_positive_elsewhere():
    prior = SpikeSlab(0.3, 0.25)
    same = torch.full((4, 5), math.log(0.3 / 0.7), dtype=torch.float64)
    at_prior = prior.divergence(same, torch.ones_like(same), torch.full_like(same, 2 * math.log(0.25)))
    torch.testing.assert_close(at_prior, torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)
    assert bool((prior.divergence(*posterior(100, 5)) > 0).all())


def test_bound_is_the_likelihood_at_the_exact_posterior():
    """x ~ N(b g a, s^2): log p(x) = log [(1 - pi) N(x; 0, s^2) + pi N(x; a, s^2 + a^2 sigma^2)]."""
    pi, sigma, a, s = 0.3, 0.4, 1.7, 0.5
    prior = SpikeSlab(pi, sigma)
    x = torch.linspace(-2, 4, 25, dtype=torch.float64)[:, None]
    on = math.log(pi) + log_normal(x, a, math.sqrt(s**2 + a**2 * sigma**2))
    off = math.log(1 - pi) + log_normal(x, 0, s)
    variance = 1 / (1 / sigma**2 + a**2 / s**2)
    mean = variance * (1 / sigma**2 + a * x / s**2)
    odds, log_variance = on - off, torch.full_like(x, math.log(variance))
    nodes, weights = gauss()

    def bound(odds, mean, log_variance):
        gamma, r = torch.sigmoid(odds), torch.exp(log_variance / 2)
        when_on = log_normal(x, a * (mean + r * nodes), s) @ weights
        expected = gamma[:, 0] * when_on + ((1 - gamma) * log_normal(x, 0, s))[:, 0]
        return expected - prior.divergence(odds, mean, log_variance)

    exact = torch.logaddexp(on, off)[:, 0]
    torch.testing.assert_close(bound(odds, mean, log_variance), exact, atol=1e-10, rtol=0)
    for other in ((odds + 1, mean, log_variance), (odds, mean + 0.1, log_variance), (odds, mean, log_variance + 1)):
        assert bool((bound(*other) < exact).all())


def test_draws_act_as_often_as_the_posterior_says_and_as_fast():
    q = SparsePosterior((1, 8, 8), 2)
    n = 20_000
    odds = torch.tensor([-1.0, 2.0]).expand(n, 2)
    mean, log_variance = torch.tensor([0.8, 1.3]).expand(n, 2), torch.full((n, 2), math.log(0.01))
    weights = q.draw((odds, mean, log_variance), 0.0, torch.Generator().manual_seed(0))
    share = (weights != 0).double().mean(dim=0)
    gamma = torch.sigmoid(torch.tensor([-1.0, 2.0], dtype=torch.float64))
    assert bool(((share - gamma).abs() < 4 * (gamma * (1 - gamma) / n).sqrt()).all())
    for k, m in enumerate((0.8, 1.3)):
        speeds = weights[weights[:, k] != 0, k]
        assert float(speeds.mean()) == pytest.approx(m, abs=4 * 0.1 / math.sqrt(len(speeds)))
        assert float(speeds.std()) == pytest.approx(0.1, rel=0.1)


def test_relaxed_draws_have_gradients_and_come_to_whole_ones():
    q = SparsePosterior((1, 8, 8), 3)
    odds, mean, log_variance = (one.requires_grad_() for one in posterior(50, 3))
    parts = (odds, mean, log_variance)
    q.draw(parts, 0.7, torch.Generator().manual_seed(1)).sum().backward()
    assert all(float(one.grad.abs().sum()) > 0 for one in parts)
    cold, whole = (q.draw(parts, T, torch.Generator().manual_seed(1)) for T in (1e-6, 0.0))
    torch.testing.assert_close(cold, whole)


def parts_of_pictures(count, seed):
    """Left half, right half and middle rows of 8x8 pixels get brighter, one, two or all of them at once."""
    draw = torch.Generator().manual_seed(seed)
    start = 0.1 + 0.1 * torch.rand(count, 3, generator=draw)

    def render(factors, rows):
        x = torch.zeros(len(factors), 1, 8, 8)
        x[:, 0, :4, :4], x[:, 0, :4, 4:], x[:, 0, 4:] = (factors[:, i, None, None] for i in range(3))
        return x.clamp(0, 1)

    labels = torch.zeros(count, dtype=torch.long)
    parts = MovingImages("parts", ("left", "right", "below"), start, 0.16 * torch.eye(3), labels, render)
    return mixed_images(parts, probability=0.4, seed=seed)


@pytest.fixture(scope="module")
def told():
    """Whole sets, as told by a model that learned with two potentials more than there are transformations."""
    train, test = parts_of_pictures(2000, 0), parts_of_pictures(400, 1)
    how = {"steps": 4, "latent_dim": 4, "width": 64, "iterations": 1400, "progress": False}
    model = train_structured_vae(train, "linear", index="sparse", **how)
    with torch.no_grad():
        return test, model.index.weights(*test.frames(torch.arange(400), 4)[[0, -1]])


def test_sets_are_told_from_pairs_without_labels(told):
    test, weights = told
    found = set_recovery(weights != 0, test.acting)
    assert weights.shape == (400, 5)
    assert found.f1 > 0.9 > found.chance[1] + 0.2
    assert found.whole > 0.7 > found.chance[0] + 0.3


def test_speeds_are_told_up_to_a_factor(told):
    """Potentials have their own unit of speed; what counts is which sequence is faster."""
    test, weights = told
    for k, j in enumerate(set_recovery(weights != 0, test.acting).matching):
        if j >= 0:
            both = (weights[:, k] != 0) & test.acting[:, j] & (test.acting.sum(dim=1) == 1)
            pair = torch.stack([weights[both, k], test.weights[both, j]])
            assert float(torch.corrcoef(pair)[0, 1]) > 0.4


def test_sets_are_not_inferred_for_codes_that_stay_or_other_images():
    sprites = moving_images("sprites", count=8, size=16)
    how = {"iterations": 1, "width": 8, "latent_dim": 2, "progress": False}
    with pytest.raises(DeclarationError, match="do not move"):
        infer_sets(train_structured_vae(sprites, "none", **how), mixed_images(sprites))
    with pytest.raises(WrongShape, match="expected those of the model"):
        infer_sets(train_structured_vae(sprites, **how), mixed_images(moving_images("sprites", count=8, size=20)))


def test_sets_of_named_transformations_are_inferred_under_their_own_names():
    train, test = parts_of_pictures(2000, 0), parts_of_pictures(400, 1)
    single = MovingImages("one", train.names, train.start, train.rates, torch.arange(2000) % 3, train.draw)
    how = {"steps": 4, "latent_dim": 4, "width": 64, "iterations": 300, "progress": False}
    model = train_structured_vae(single, "linear", **how)
    weights = infer_sets(model, train, iterations=300, progress=False).weights(
        *test.frames(torch.arange(400), 4)[[0, -1]]
    )
    found = set_recovery(weights != 0, test.acting)
    assert found.matching == (0, 1, 2)
    assert found.f1 > 0.8 > found.chance[1] + 0.2


def test_mixed_sequences_move_all_that_act_at_their_speeds():
    base = moving_images("sprites", count=50, size=16)
    pairs = mixed_images(base, active=2, seed=3)
    assert bool((pairs.acting.sum(dim=1) == 2).all())
    factors = pairs.factors(torch.arange(50), 3)
    torch.testing.assert_close(factors[3] - factors[0], 3 * pairs.weights @ pairs.rates)
    assert pairs.frames(torch.arange(4), 2).shape == (3, 4, 1, 16, 16)
    some = mixed_images(base, probability=0.3, seed=4)
    assert int(some.acting.sum(dim=1).min()) >= 1
    speeds = some.weights[some.acting]
    assert 0.4 <= float(speeds.min()) < 1 < float(speeds.max()) <= 1.6


def test_how_often_any_number_of_transformations_acts():
    """At least one: the share of 1 acting of 3 with p = 0.3 is (3 p q^2 + q^3)."""
    base = MovingImages("x", "abc", torch.zeros(20_000, 3), torch.eye(3), torch.zeros(20_000, dtype=torch.long), blank)
    one = (mixed_images(base, probability=0.3, seed=0).acting.sum(dim=1) == 1).double().mean()
    expected = 3 * 0.3 * 0.49 + 0.343
    assert float(one) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 20_000))


def blank(factors, rows):
    return torch.zeros(len(factors), 1, 8, 8)


def test_recovery_of_sets_is_counted_under_the_best_permutation_and_beside_chance():
    truth = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1]] * 50, dtype=torch.bool)
    found = set_recovery(truth[:, [2, 0, 1]], truth)
    assert (found.whole, found.precision, found.recall, found.f1, found.matching) == (1.0, 1.0, 1.0, 1.0, (2, 0, 1))
    assert found.chance[0] < 0.5
    told = truth.clone()
    told[0, 0] = False  # of 300 that act one is missed
    found = set_recovery(told, truth)
    assert found.whole == pytest.approx(1 - 1 / 200)
    assert (found.precision, found.recall) == pytest.approx((1.0, 1 - 1 / 300))
    assert found.f1 == pytest.approx(2 * 299 / (299 + 300))


def test_potential_that_is_left_over_is_wrong_where_it_acts():
    truth = torch.tensor([[1, 0], [0, 1], [1, 1], [1, 0]] * 25, dtype=torch.bool)
    never = torch.cat([torch.zeros(100, 1, dtype=torch.bool), truth], dim=1)
    found = set_recovery(never, truth)
    assert (found.whole, found.f1, found.matching) == (1.0, 1.0, (-1, 0, 1))
    never[:10, 0] = True
    found = set_recovery(never, truth)
    assert (found.whole, found.recall) == (0.9, 1.0)
    assert found.precision == pytest.approx(125 / 135)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: SpikeSlab(0.0), DeclarationError),
        (lambda: SpikeSlab(0.3, -1.0), DeclarationError),
        (lambda: set_recovery(torch.ones(3, 2), torch.ones(3, 4)), WrongShape),
        (lambda: mixed_images(moving_images("sprites", count=3, size=16), active=6), DeclarationError),
        (lambda: mixed_images(moving_images("sprites", count=3, size=16), probability=0), DeclarationError),
        (
            lambda: MixedImages("x", "ab", torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 3), blank),
            WrongShape,
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(make, error):
    with pytest.raises(error, match="expected"):
        make()
