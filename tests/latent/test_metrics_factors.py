"""Scores of the movement matrix: exact, permuted and hand-made cases."""

import pytest
import torch

from pinnflow.errors import NonFinite, WrongShape
from pinnflow.latent.generators.warped import WarpedGenerator
from pinnflow.latent.metrics.factors import (
    attribute_correlation,
    concentration,
    coverage,
    gap,
    importance_scores,
    match,
    movement,
    shares,
)

HAND = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 2.0]], dtype=torch.float64)


def starts(n=1000, d=8, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(n=1000, potentials=5):
    return torch.arange(n) % potentials


def walks(make, warp=1.0):
    """Factors along walks from the same starts; `make(generator, z, k)` walks."""
    generator, z, k = WarpedGenerator(warp=warp), starts(), labels()
    return generator.factors(make(generator, z, k)), k


def exact(generator, z, k):
    return generator.oracle(z, k)


def straight(generator, z, k):
    directions = torch.linalg.qr(starts(8, 5, seed=3)).Q.T
    return torch.stack([z + 0.35 * i * directions[k] for i in range(7)])


@pytest.mark.parametrize("warp", [0.0, 1.0])
def test_exact_traversals_move_one_factor_each(warp):
    moved = movement(*walks(exact, warp))
    assert concentration(moved).min() > 0.999
    assert gap(moved).min() > 0.999
    assert coverage(moved) == 1
    assert match(moved).factor == (0, 1, 2, 3, 4)
    assert match(moved).score > 0.999
    assert importance_scores(moved) == pytest.approx((1, 1), abs=1e-6)


def test_the_order_of_the_potentials_is_found():
    order = torch.tensor([2, 0, 4, 1, 3])
    factors, k = walks(lambda generator, z, k: generator.oracle(z, order[k]))
    moved = movement(factors, k)
    assert match(moved).factor == tuple(order.tolist())
    assert match(moved).score > 0.999


def test_straight_walks_in_a_warped_space_stay_near_chance():
    """Equal shares are 0.2; the notes of the benchmark measured 0.24 to 0.29 for random directions."""
    moved = movement(*walks(straight))
    assert 0.2 < concentration(moved).mean() < 0.33
    assert importance_scores(moved)[0] < 0.1


def test_hand_made_matrix():
    """Shares (3/4, 1/4, 0) and (0, 1/2, 1/2)."""
    assert concentration(HAND).tolist() == [0.75, 0.5]
    assert gap(HAND).tolist() == pytest.approx([2 / 3, 0])
    assert coverage(HAND) == 1
    assert match(HAND).score == pytest.approx((0.75 + 0.5) / 2)
    assert match(HAND).factor[0] == 0


def test_match_gives_every_potential_another_factor():
    """Both prefer factor 0; the best pair of shares is 0.5 + 0.6 = 1.1, not 0.6 + 0.3."""
    moved = torch.tensor([[0.6, 0.5, 0.0], [0.6, 0.3, 0.1]])
    found = match(moved)
    assert found.factor == (1, 0)
    assert found.score == pytest.approx((0.5 / 1.1 + 0.6) / 2)
    assert coverage(moved) == 0.5


def test_more_potentials_than_factors():
    moved = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert match(moved).factor == (0, -1, 1)
    assert match(moved).score == 1
    assert coverage(moved) == 1


def test_a_potential_that_moves_nothing_prefers_nothing():
    moved = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert shares(moved)[0].tolist() == pytest.approx([1 / 3] * 3)
    assert gap(moved).tolist() == [0, 1]
    assert coverage(moved) == 0.5


def test_importance_scores_of_closed_cases():
    assert importance_scores(torch.eye(4)) == pytest.approx((1, 1))
    assert importance_scores(torch.ones(4, 3)) == pytest.approx((0, 0), abs=1e-12)
    # Two potentials for one factor: each is clear, but no factor has one potential of its own.
    doubled = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert importance_scores(doubled) == pytest.approx((1, 0))
    assert importance_scores(torch.zeros(2, 2)) == (0, 0)


def test_units_of_the_factors_do_not_matter():
    factors, k = walks(straight)
    scaled = factors * torch.tensor([1.0, 60.0, 1e-3, 5.0, 2.0]) + torch.tensor([0.0, 7.0, 0.0, 0.0, 1e3])
    torch.testing.assert_close(movement(scaled, k), movement(factors, k), rtol=1e-8, atol=1e-10)


def test_movement_is_the_mean_size_in_units_of_the_spread():
    """Starts -1 and 1 (spread 1) go up by 1 and down by 3: mean size 2, not the mean -1."""
    factors = torch.tensor([[[-1.0], [1.0]], [[0.0], [-2.0]]])
    assert movement(factors, [0, 0]).tolist() == [[2.0]]


def test_rounding_is_no_movement():
    factors, k = walks(exact)
    noisy = factors + 1e-9 * torch.randn(factors.shape, generator=torch.Generator().manual_seed(0))
    assert concentration(movement(noisy, k)).min() > 0.999
    assert movement(noisy, k)[0, 1:].max() == 0


def test_correlation_with_the_step_of_closed_cases():
    """Up a line 1, down it -1, a symmetric arch 0."""
    i = torch.arange(5.0)
    one = torch.stack([i, 3 - 2 * i, -((i - 2) ** 2)], dim=1)[:, None]
    factors = torch.cat([one, one + 1], dim=1)
    table = attribute_correlation(factors, [0, 0], normalise=False)
    assert table[0].tolist() == pytest.approx([1, -1, 0], abs=1e-6)
    assert attribute_correlation(factors, [0, 0])[0].tolist() == pytest.approx([0.5, 0.5, 0], abs=1e-6)


def test_correlation_as_published_is_fooled_by_rounding_and_the_guard_is_not():
    factors, k = walks(exact)
    drift = 1e-9 * torch.arange(7.0, dtype=torch.float64)[:, None, None]
    published = attribute_correlation(factors + drift, k, resolution=0)
    guarded = attribute_correlation(factors + drift, k)
    assert published.amax(dim=1).mean() < 0.5
    assert guarded.amax(dim=1).min() > 0.999


def test_wrong_input_is_named():
    factors, k = walks(exact)
    with pytest.raises(WrongShape, match="whole number for each of the n walks"):
        movement(factors, k[:-1])
    with pytest.raises(WrongShape, match="with a step or more"):
        movement(factors[:1], k)
    with pytest.raises(WrongShape, match="float"):
        movement(factors, k.double())
    with pytest.raises(ValueError, match=r"0 to 5.*\[200, 200, 200, 200, 200, 0\]"):
        movement(factors, k, 6)
    with pytest.raises(ValueError, match="0 to 3"):
        movement(factors, k, 4)
    with pytest.raises(NonFinite, match="step 6"):
        movement(torch.cat([factors[:-1], factors[-1:] / 0]), k)
    with pytest.raises(ValueError, match="walk 2 or more steps"):
        attribute_correlation(factors[:2], k)
