"""VP: closed cases, and what must not matter. Pairs are small so that a network learns in a tenth of a second."""

import math

import pytest
import torch

from pinnflow.errors import NonFinite, WrongShape
from pinnflow.latent.metrics.predictability import (
    canonical,
    difference,
    learn,
    logits,
    split,
    start,
    variation_predictability,
)


def pairs(n=600, classes=3, size=(8, 8), channels=1, visible=0.5, hiss=0.0, seed=0):
    """Noise images; walk k brightens the k-th strip of rows by `visible`, under noise of size `hiss`."""
    noise = torch.Generator().manual_seed(seed)
    before = 0.4 * torch.rand(n, channels, *size, generator=noise)
    labels = torch.randint(classes, (n,), generator=noise)
    after = before + hiss * torch.randn(before.shape, generator=noise)
    for k in range(classes):
        rows = slice(k * size[0] // classes, (k + 1) * size[0] // classes)
        after[labels == k, :, rows] += visible
    return before, after, labels


def within_chance(vp):
    """Within 4 standard deviations of guessing on the test pairs of all repeats."""
    tested = vp.pairs * (1 - vp.share)
    return abs(vp.mean - vp.chance) < 4 * math.sqrt(vp.chance * (1 - vp.chance) / tested)


def test_different_walks_are_recognised():
    vp = variation_predictability(*pairs(n=300))
    assert vp.mean > 0.99
    assert vp.chance == pytest.approx(1 / 3)
    assert len(vp.scores) == 3


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 3), ((64, 64), 1), ((100, 130), 3), ((12, 30), 1)])
def test_images_of_any_size_and_one_or_three_channels(size, channels):
    vp = variation_predictability(*pairs(n=300, size=size, channels=channels), repeats=1)
    assert vp.mean > 0.95


def test_identical_images_give_chance():
    before, _, labels = pairs()
    assert within_chance(variation_predictability(before, before.clone(), labels))


def test_labels_that_have_nothing_to_do_with_the_images_give_chance():
    before, after, labels = pairs(n=1200)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    assert within_chance(variation_predictability(before, after, shuffled, epochs=10))


def test_a_change_that_eight_bits_do_not_show_counts_as_none():
    """A normalisation would blow 1e-6 up to a perfect signal."""
    before, _, labels = pairs()
    hidden, shown = (before + size * labels[:, None, None, None] for size in (0.2 * 0.4 / 255, 2 * 0.4 / 255))
    assert within_chance(variation_predictability(before, hidden, labels))
    assert variation_predictability(before, shown, labels).mean > 0.9


@pytest.mark.parametrize("rename", [lambda k: 2 - k, lambda k: 10 * k - 7, lambda k: ["pear", "fig", "nut"][k]])
def test_names_of_labels_do_not_matter(rename):
    before, after, labels = pairs(n=300, visible=0.1, hiss=0.3)
    renamed = [rename(int(k)) for k in labels]
    first, second = (variation_predictability(before, after, k, repeats=2) for k in (labels, renamed))
    assert first.scores == second.scores
    assert 0.4 < first.mean < 0.999  # where a difference would show


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_range_and_type_of_the_images_do_not_matter(dtype):
    """[0, 1] or the [-1, 1] of a tanh: the same eight bits."""
    before, after, labels = pairs(n=300, visible=0.1, hiss=0.3)
    before, after = ((255 * images).round() / 255 for images in (before, after))
    ends = torch.tensor([0.0, 1.0])
    before[0, 0, 0, :2] = after[0, 0, 0, :2] = ends
    first = variation_predictability(before, after, labels, repeats=2)
    second = variation_predictability((2 * before - 1).to(dtype), (2 * after - 1).to(dtype), labels, repeats=2)
    assert second.scores == pytest.approx(first.scores, abs=0.005)


def test_same_seed_same_scores_and_nothing_global_is_touched():
    before, after, labels = pairs(n=300, visible=0.1, hiss=0.3)
    state = torch.get_rng_state()
    first = variation_predictability(before, after, labels, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(7)
    assert variation_predictability(before, after, labels, seed=3) == first
    assert variation_predictability(before, after, labels, seed=4).scores != first.scores
    assert len(set(first.scores)) > 1
    assert first.spread > 0


def test_no_row_knows_the_others():
    """Statistics of a batch of one label would give the label away."""
    change = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    weights = start(change.shape[1:], 4, torch.Generator().manual_seed(1))
    together = logits(weights, change)
    alone = torch.cat([logits(weights, row[None]) for row in change])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert together.std() > 0.1


def test_a_tenth_of_every_label_is_learned_from_and_the_rest_tested():
    k = torch.tensor([0] * 100 + [1] * 50 + [2] * 30)
    learned, tested = split(k, 0.1, torch.Generator().manual_seed(0))
    assert torch.bincount(k[learned]).tolist() == [10, 5, 3]
    assert sorted([*learned.tolist(), *tested.tolist()]) == list(range(180))


def test_the_number_of_epochs_is_fixed_and_counts():
    """One epoch of three updates cannot learn what thirty do: nothing picks the best of many."""
    before, after, labels = pairs(n=300, visible=0.1)
    short, long = (variation_predictability(before, after, labels, epochs=e) for e in (1, 30))
    assert short.mean < long.mean - 0.2
    assert long.epochs == 30


def test_predictions_depend_on_the_pairs_for_learning_alone():
    before, after, labels = pairs(n=90)
    change = difference(before, after)
    predict = learn(change, labels, 3, 20, torch.Generator().manual_seed(0))
    alone = torch.cat([predict(row[None]) for row in change])
    crowd = predict(torch.cat([change, 1e3 * change]))[:90]
    assert torch.equal(alone, crowd)
    assert (alone == labels).double().mean() > 0.95


def test_difference_is_in_steps_of_eight_bits():
    before = torch.tensor([0.0, 1.0, 0.3, 0.4]).reshape(1, 1, 2, 2)
    after = torch.tensor([1 / 255, 1.0, 0.3 + 0.4 / 255, 0.0]).reshape(1, 1, 2, 2)
    assert difference(before, after).flatten().tolist() == [1, 0, 0, -102]
    assert difference(3 * before - 1, 3 * after - 1).flatten().tolist() == [1, 0, 0, -102]


def test_labels_are_counted_as_they_appear():
    k, classes = canonical(["b", "a", "b", "c"], 4)
    assert k.tolist() == [0, 1, 0, 2]
    assert classes == 3


def test_the_report_says_chance_and_protocol():
    text = str(variation_predictability(*pairs(n=90), repeats=2, epochs=2))
    for part in ("K = 3", "chance 0.333", "90 pairs", "10%", "2 epochs", "2 repeats"):
        assert part in text
    alone = str(variation_predictability(*pairs(n=90), repeats=1, epochs=1))
    assert "1 repeat)" in alone
    assert "+-" not in alone  # one repeat has no spread


def test_wrong_input_is_named():
    before, after, labels = pairs(n=60)
    with pytest.raises(WrongShape, match=r"\(60, 1, 8, 8\) and \(59, 1, 8, 8\)"):
        variation_predictability(before, after[:-1], labels)
    with pytest.raises(WrongShape, match="one for each of 60 pairs"):
        variation_predictability(before, after, labels[:-1])
    with pytest.raises(ValueError, match="takes two or more"):
        variation_predictability(before, after, torch.zeros(60))
    with pytest.raises(ValueError, match="only 2 pairs"):
        variation_predictability(before, after, [1, 1, *[0] * 58])
    with pytest.raises(ValueError, match="`share` is 1"):
        variation_predictability(before, after, labels, share=1)
    with pytest.raises(ValueError, match="`repeats` is 0"):
        variation_predictability(before, after, labels, repeats=0)
    with pytest.raises(ValueError, match="`epochs` is 0"):
        variation_predictability(before, after, labels, epochs=0)
    with pytest.raises(NonFinite, match="`after`"):
        variation_predictability(before, after * torch.inf, labels)
