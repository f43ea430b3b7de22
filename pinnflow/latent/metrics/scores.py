"""Disentanglement scores of codes against known factors: MIG, SAP and DCI.

They judge a code `[n, m]` that is supposed to hold the factors `[n, F]` in separate coordinates: the latents of a
generator, the projections on K directions, the values of K potentials. For walks see `factors`. MIG and SAP are short
and written out here; DCI takes its regressions from scikit-learn. Every factor is read as a number; for categories,
MIG (which only counts) is the one to use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pinnflow.errors import MissingExtra, NonFinite, UnknownName, WrongShape


def mutual_information_gap(codes, factors, *, bins: int = 20) -> float:
    """MIG: mean over factors of (I_1 - I_2) / H, the two codes with the largest mutual information; in [0, 1].

    Coordinates with more than `bins` different values are cut into bins of equal mass, so that a monotone change of a
    coordinate changes nothing. The estimate is biased upwards by about (bins - 1)^2 / 2n nats for both codes alike.

    Args:
        codes: `[n, m]`, m >= 2.
        factors: `[n, F]`; a constant factor has no entropy and is left out.
        bins: of continuous coordinates.

    Raises:
        WrongShape, NonFinite: codes and factors are not such arrays.
        ValueError: no factor varies.

    Source: Chen et al., Isolating sources of disentanglement in VAEs (NeurIPS 2018).
    """
    if bins < 2:
        raise ValueError(f"`bins` is {bins}; it takes two or more to tell values apart")
    codes, factors = _read(codes, factors)
    cells = [_cells(column, bins) for column in codes.T]
    gaps = []
    for column in factors.T:
        factor = _cells(column, bins)
        entropy = _entropy(factor)
        if entropy > 0:
            first, second = sorted((_mutual_information(code, factor) for code in cells), reverse=True)[:2]
            gaps.append((first - second) / entropy)
    return _mean_of_varying(gaps)


def separated_attribute_predictability(codes, factors) -> float:
    """SAP: mean over factors of the difference of the two largest R^2 of a linear fit on one code; in [0, 1].

    Args:
        codes: `[n, m]`, m >= 2.
        factors: `[n, F]`, numbers; a constant factor is left out.

    Raises: as `mutual_information_gap`.

    Source: Kumar, Sattigeri, Balakrishnan, Variational inference of disentangled latent concepts (ICLR 2018).
    """
    codes, factors = _read(codes, factors)
    x, y = _standard(codes), _standard(factors)
    r2 = ((x.T @ y) / len(x)) ** 2  # [m, F]
    first, second = np.sort(r2, axis=0)[::-1][:2]
    return _mean_of_varying((first - second)[factors.std(axis=0) > 0])


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness.

    Attributes:
        disentanglement: 1 if every code is important for one factor only.
        completeness: 1 if every factor needs one code only.
        informativeness: mean R^2 on the test half, at least 0.
        importance: `[m, F]`, columns of sum 1.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray


def _forest(seed):
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(n_estimators=50, min_samples_leaf=5, max_features=1.0, random_state=seed)


def _boosting(seed):
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(random_state=seed)


def _lasso(seed):
    from sklearn.linear_model import LassoCV

    return LassoCV(cv=5, random_state=seed)


REGRESSORS: dict[str, Callable[[int], Any]] = {"boosting": _boosting, "forest": _forest, "lasso": _lasso}


def dci(codes, factors, *, regressor: str = "forest", seed: int = 0) -> DCI:
    """DCI of regressions from all codes to each factor, fitted on one half and tested on the other.

    Args:
        codes: `[n, m]`, m >= 2.
        factors: `[n, F]`, numbers; a constant factor is left out.
        regressor: `forest` (importance: decrease of variance), `boosting` (the same), or `lasso` (|coefficients|).
        seed: of the split and the regressor.

    Raises:
        UnknownName: no such regressor.
        MissingExtra: scikit-learn is not installed.
        WrongShape, NonFinite, ValueError: as `mutual_information_gap`.

    Source: Eastwood & Williams, A framework for the quantitative evaluation of disentangled representations (2018).
    """
    if regressor not in REGRESSORS:
        raise UnknownName("regressor", regressor, REGRESSORS)
    codes, factors = _read(codes, factors)
    factors = factors[:, factors.std(axis=0) > 0]
    _mean_of_varying(factors)
    x, y = _standard(codes), _standard(factors)
    rows = np.random.default_rng(seed).permutation(len(x))
    learn, test = rows[: len(x) // 2], rows[len(x) // 2 :]
    columns, r2 = [], []
    for target in y.T:
        try:
            model = REGRESSORS[regressor](seed)
        except ImportError as missing:
            raise MissingExtra("scikit-learn", "latent", "DCI") from missing
        model.fit(x[learn], target[learn])
        weight: Any = np.abs(model.coef_ if hasattr(model, "coef_") else model.feature_importances_)
        columns.append(weight / weight.sum() if weight.sum() > 0 else np.full(len(weight), 1 / len(weight)))
        r2.append(max(0.0, model.score(x[test], target[test])))
    importance = np.stack(columns, axis=1)
    return DCI(certainty(importance), certainty(importance.T), float(np.mean(r2)), importance)


def certainty(importance: np.ndarray) -> float:
    """1 - entropy of the rows of a matrix of importances, base the number of columns, weighted by the rows' sums."""
    if importance.shape[1] < 2:
        return 1.0
    total = importance.sum(axis=1, keepdims=True)
    p = importance / np.where(total > 0, total, 1)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1) / np.log(importance.shape[1])
    return float(((1 - entropy) * total[:, 0]).sum() / total.sum()) if total.sum() > 0 else 0.0


def _read(codes, factors):
    arrays = []
    for name, values in (("codes", codes), ("factors", factors)):
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=float)
        if array.ndim != 2:
            raise WrongShape(f"`{name}` has the shape {array.shape}; expected [n, number of {name}]")
        if not np.isfinite(array).all():
            raise NonFinite(f"`{name}` is not finite in row {int(np.argwhere(~np.isfinite(array))[0, 0])}")
        arrays.append(array)
    codes, factors = arrays
    if len(codes) != len(factors) or codes.shape[1] < 2:
        raise WrongShape(
            f"codes {codes.shape} and factors {factors.shape}; expected as many rows, and two codes or more to compare"
        )
    return codes, factors


def _standard(values):
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)


def _mean_of_varying(values):
    if np.size(values) == 0:
        raise ValueError("all factors are constant, so there is nothing that a code could hold")
    return float(np.mean(values))


def _cells(values, bins):
    """Values as whole numbers: themselves if there are few different ones, else bins of equal mass."""
    different, index = np.unique(values, return_inverse=True)
    if len(different) <= bins:
        return index
    return np.searchsorted(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]), values, side="right")


def _entropy(cells):
    p = np.bincount(cells) / len(cells)
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def _mutual_information(a, b):
    return _entropy(a) + _entropy(b) - _entropy(np.unique(a * (b.max() + 1) + b, return_inverse=True)[1])
