"""MIG, SAP and DCI on codes whose score is known."""

import sys

import numpy as np
import pytest

from pinnflow.errors import MissingExtra, NonFinite, UnknownName, WrongShape
from pinnflow.latent.metrics.scores import certainty, dci, mutual_information_gap, separated_attribute_predictability

# All 10 x 10 combinations of two factors: exactly independent.
GRID = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), axis=-1).reshape(-1, 2)
TURNED = GRID @ np.array([[1.0, 1.0], [1.0, -1.0]])


@pytest.mark.parametrize("score", [mutual_information_gap, separated_attribute_predictability])
def test_a_code_for_each_factor_scores_one(score):
    assert score(GRID, GRID) == pytest.approx(1, abs=1e-12)
    assert score(GRID[:, ::-1], GRID) == pytest.approx(1, abs=1e-12)
    assert score(-3 * GRID + 7, GRID) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("score", [mutual_information_gap, separated_attribute_predictability])
def test_every_factor_in_two_codes_scores_nothing(score):
    assert score(np.hstack([GRID, GRID]), GRID) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("score", [mutual_information_gap, separated_attribute_predictability])
def test_codes_turned_by_45_degrees_score_nothing(score):
    assert score(TURNED, GRID) == pytest.approx(0, abs=1e-12)


def test_sap_of_a_noisy_code_is_its_r2():
    """Code 0 is f + g with var g = var f / 3: R^2 = 3/4; code 1 is independent of f."""
    f, g = GRID.T
    codes = np.stack([f + g / np.sqrt(3), g], axis=1)
    assert separated_attribute_predictability(codes, f[:, None]) == pytest.approx(0.75, abs=1e-12)


def test_mig_does_not_see_a_monotone_change():
    draw = np.random.default_rng(0)
    codes = draw.standard_normal((2000, 2))
    factors = codes + 0.3 * draw.standard_normal((2000, 2))
    expected = mutual_information_gap(codes, factors)
    assert 0.2 < expected < 0.8
    assert mutual_information_gap(np.exp(codes), factors**3) == pytest.approx(expected, abs=1e-12)


def test_constant_factors_are_left_out():
    with_constant = np.hstack([GRID, np.ones((100, 1))])
    assert mutual_information_gap(GRID, with_constant) == pytest.approx(1, abs=1e-12)
    assert separated_attribute_predictability(GRID, with_constant) == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="all factors are constant"):
        mutual_information_gap(GRID, np.ones((100, 1)))


def test_certainty_of_closed_cases():
    assert certainty(np.eye(3)) == 1
    assert certainty(np.ones((3, 4))) == pytest.approx(0, abs=1e-12)
    # Row sums 2 and 1 weigh a certain and an even row.
    assert certainty(np.array([[2.0, 0.0], [0.5, 0.5]])) == pytest.approx(2 / 3)
    assert certainty(np.zeros((2, 2))) == 0


@pytest.mark.parametrize("regressor", ["forest", "boosting", "lasso"])
def test_dci_tells_separate_from_mixed_codes(regressor):
    pytest.importorskip("sklearn")
    codes = np.random.default_rng(0).standard_normal((600, 2))
    clear = dci(codes, codes, regressor=regressor)
    mixed = dci(codes @ np.array([[1.0, 1.0], [1.0, -1.0]]), codes, regressor=regressor)
    assert min(clear.disentanglement, clear.completeness, clear.informativeness) > 0.9
    assert max(mixed.disentanglement, mixed.completeness) < 0.3
    assert mixed.informativeness > 0.8
    assert clear.importance.sum(axis=0) == pytest.approx([1, 1])


def test_dci_knows_nothing_from_codes_of_noise():
    pytest.importorskip("sklearn")
    draw = np.random.default_rng(0)
    assert dci(draw.standard_normal((400, 2)), draw.standard_normal((400, 2))).informativeness < 0.1


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingExtra, match=r"DCI needs `scikit-learn`.*\[latent\]"):
        dci(GRID, GRID)


def test_wrong_input_is_named():
    with pytest.raises(UnknownName, match="boosting, forest, lasso"):
        dci(GRID, GRID, regressor="svm")
    with pytest.raises(WrongShape, match=r"codes \(100, 2\) and factors \(99, 2\)"):
        mutual_information_gap(GRID, GRID[1:])
    with pytest.raises(WrongShape, match="two codes or more"):
        separated_attribute_predictability(GRID[:, :1], GRID)
    with pytest.raises(WrongShape, match="`factors` has the shape"):
        mutual_information_gap(GRID, GRID[:, 0])
    with pytest.raises(NonFinite, match="`codes` is not finite in row 1"):
        mutual_information_gap(np.where(np.arange(100)[:, None] == 1, np.nan, GRID), GRID)
    with pytest.raises(ValueError, match="`bins` is 1"):
        mutual_information_gap(GRID, GRID, bins=1)
