"""What walks do to the latent space, on walks whose answer is known."""

import math

import pytest
import torch

from pinnflow.errors import WrongShape
from pinnflow.latent.baselines.linear import RandomDirections
from pinnflow.latent.metrics.paths import (
    class_kept,
    endpoint_variance,
    log_density_drift,
    logistic_classifier,
    monotone_success,
    path_length,
    pde_residual,
    standard_normal,
    straightness,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def arc(angle, steps=2000):
    """One walk on the unit circle, `[steps + 1, 1, 2]`."""
    s = torch.linspace(0, angle, steps + 1, dtype=torch.float64)
    return torch.stack([s.cos(), s.sin()], dim=1)[:, None]


def test_variance_of_a_contraction_is_its_square():
    """z -> s_k z + a_k, another s for each potential."""
    z, k = normal(90, 4), torch.arange(90) % 3
    s, a = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64), normal(3, 4, seed=1)
    ratio = endpoint_variance(torch.stack([z, 7 * z, s[k, None] * z + a[k]]), k)
    assert ratio.tolist() == pytest.approx([1, 0.25, 4], rel=1e-12)


def test_variance_of_a_rotation_and_of_one_point():
    z = normal(50, 4)
    turned = z @ torch.linalg.qr(normal(4, 4, seed=2)).Q
    k = torch.zeros(50, dtype=torch.long)
    assert endpoint_variance(torch.stack([z, turned]), k).item() == pytest.approx(1, rel=1e-12)
    assert endpoint_variance(torch.stack([z, torch.ones_like(z)]), k).item() == pytest.approx(0, abs=1e-15)


def test_variance_is_within_a_potential_not_between_them():
    """Two far apart end points, each reached by all walks of one potential: total collapse."""
    z, k = normal(50, 4), torch.arange(50) % 2
    assert endpoint_variance(torch.stack([z, (100.0 * k[:, None]).double().expand(50, 4)]), k).max() < 1e-12


def test_variance_needs_different_starts():
    with pytest.raises(ValueError, match="potential 1 has one start only"):
        endpoint_variance(normal(2, 3, 4), [0, 1, 0])


def test_drift_of_a_known_shift():
    """log N(z + a) - log N(z) = -z.a - |a|^2 / 2."""
    z, a = normal(20, 5), normal(5, seed=1)
    torch.testing.assert_close(log_density_drift(torch.stack([z, z + a])), -(z @ a) - a @ a / 2)
    drift = log_density_drift(torch.stack([z, z + a]), lambda z: 3 * z[:, 0])
    torch.testing.assert_close(drift, (3 * a[0]).expand(20))


def test_standard_normal_is_torch_s():
    z = normal(4, 3)
    torch.testing.assert_close(standard_normal(z), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=-1))


def test_random_directions_lose_half_the_squared_length():
    """E[-z.a - |a|^2 / 2] = -2.1^2 / 2, within 4 sigma = 4 |a| / sqrt(n)."""
    flow = RandomDirections(None, 8, 4, device="cpu")
    z = flow.sample(4000)
    drift = log_density_drift(flow.traverse(z, torch.arange(4000) % 4))
    assert float(drift.mean()) == pytest.approx(-(2.1**2) / 2, abs=4 * 2.1 / math.sqrt(4000))


def test_line_semicircle_and_loop():
    line = torch.stack([i * torch.ones(1, 3, dtype=torch.float64) for i in range(5)])
    assert straightness(line).item() == pytest.approx(1, rel=1e-14)
    assert path_length(line).item() == pytest.approx(4 * math.sqrt(3), rel=1e-14)
    # The inscribed polygon is shorter by pi^2 / (24 steps^2).
    assert straightness(arc(math.pi)).item() == pytest.approx(2 / math.pi, rel=1e-6)
    assert path_length(arc(math.pi)).item() == pytest.approx(math.pi, rel=1e-6)
    assert straightness(arc(2 * math.pi)).item() < 1e-12


def test_a_walk_that_stands_still_is_straight():
    assert straightness(torch.zeros(3, 2, 4)).tolist() == [1, 1]


def test_class_kept_of_walks_over_a_border():
    """Four walks from -1.5, class by sign; two of them cross zero, after one and after three of four steps."""
    path = torch.tensor([[-1.5, -1.5, -1.5, -1.5]]) + torch.arange(5.0)[:, None] * torch.tensor([0.0, 0.1, 2.0, 0.55])
    path = path[..., None]
    kept = class_kept(path, lambda z: (z[:, 0] >= 0).long())
    assert kept.end == 0.5
    assert kept.along == pytest.approx((4 + 4 + 0 + 2) / 16)
    assert kept.chance == 1
    scores = class_kept(path, lambda z: torch.cat([-z, z], dim=1))
    assert (scores.end, scores.along) == (kept.end, kept.along)


def test_chance_of_keeping_a_class_is_the_sum_of_squared_frequencies():
    path = torch.tensor([[0.0, 0.0, 0.0, 1.0]])[..., None].repeat(2, 1, 1)
    assert class_kept(path, lambda z: z[:, 0].long()).chance == pytest.approx(0.75**2 + 0.25**2)


def test_a_classifier_that_answers_something_else_is_refused():
    with pytest.raises(WrongShape, match=r"answered \(6, 1, 1\)"):
        class_kept(torch.zeros(2, 3, 1), lambda z: z[..., None])
    with pytest.raises(WrongShape, match="float32 to 6 frames"):
        class_kept(torch.zeros(2, 3, 1), lambda z: z[:, 0])


def test_logistic_classifier_finds_the_border_of_two_clouds():
    """Clouds around -1 and 1 with unit spread: Bayes' rate is Phi(1) = 0.841, and the border is z_0 = 0."""
    z = normal(4000, 3)
    y = (normal(4000, seed=1) > 0).long()
    z[:, 0] += 2 * y - 1
    classify = logistic_classifier(torch.cat([z, torch.ones(4000, 1)], dim=1), y)
    fresh = torch.cat([normal(2000, 3, seed=2), torch.ones(2000, 1)], dim=1)
    agreement = (classify(fresh).argmax(dim=1) == (fresh[:, 0] > 0)).double().mean()
    assert agreement > 0.97
    accuracy = (classify(torch.cat([z, torch.ones(4000, 1)], dim=1)).argmax(dim=1) == y).double().mean()
    assert float(accuracy) == pytest.approx(0.841, abs=4 * math.sqrt(0.841 * 0.159 / 4000))


def test_logistic_classifier_of_images_with_dead_pixels():
    images = normal(300, 1, 4, 4).float()
    images[:, :, 0] = 0.3
    y = (images[:, 0, 2].mean(dim=1) > 0).long()
    assert (logistic_classifier(images, y)(images).argmax(dim=1) == y).double().mean() > 0.95
    with pytest.raises(WrongShape, match="a class for each input"):
        logistic_classifier(images, y[:-1])


def test_strict_and_relaxed_success():
    """Up; up with a small fall back; up with a large one; two values only; down."""
    walks = [[0, 1, 2, 3], [0, 1, 0.9, 3], [0, 2, 1, 3], [0, 0, 3, 3], [3, 2, 1, 0]]
    values = torch.tensor(walks, dtype=torch.float64).T
    found = monotone_success(values)
    assert found.strict == pytest.approx(1 / 5)
    assert found.relaxed == pytest.approx(3 / 5)
    assert found.gain == pytest.approx((4 * 3 - 3) / 5)
    assert monotone_success(-values).strict == pytest.approx(1 / 5)


def test_success_with_similarity():
    values = torch.arange(4.0)[:, None].expand(4, 3)
    similarity = torch.tensor([[1, 0.8, 0.7, 0.6], [1, 0.8, 0.85, 0.6], [1, 0.5, 0.8, 0.6]]).T
    found = monotone_success(values, similarity)
    assert (found.strict, found.relaxed) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    with pytest.raises(WrongShape, match="similarity"):
        monotone_success(values, similarity[:-1])


def test_residual_is_asked_where_the_walk_asks_for_the_velocity():
    """z_{i-1} goes with t = i, and with the potential of its walk."""
    steps, n = 3, 5
    labels = torch.tensor([0, 1, 2, 1, 0])
    path = torch.stack([torch.stack([labels.double(), torch.full((n,), float(i))], dim=1) for i in range(steps + 1)])
    seen = []

    def residual(z, t, k):
        assert torch.equal(z[:, 0], k.double())
        assert torch.equal(z[:, 1] + 1, t)
        seen.extend(t.tolist())
        return torch.where(t == 3, 0.4, 0.3).double()

    found = pde_residual(residual, path, labels, points=100)
    assert sorted(seen) == [1] * 5 + [2] * 5 + [3] * 5
    assert found.mean == pytest.approx(math.sqrt((2 * 0.09 + 0.16) / 3))
    assert (found.median, found.worst, found.points) == (pytest.approx(0.3), pytest.approx(0.4), 15)
    assert pde_residual(residual, path, labels, points=7).points == 7
