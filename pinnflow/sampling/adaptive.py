"""Points where a residual is large, drawn from candidates."""

from __future__ import annotations

import numpy as np


def draw_by_residual(
    residual: np.ndarray, n: int, rng: np.random.Generator, exponent: float = 1.0, floor: float = 1.0
) -> np.ndarray:
    """Row numbers of `n` candidates, drawn without repetition with p ~ |r|^exponent / mean(|r|^exponent) + floor.

    Args:
        residual: at the candidates, `[m]`, m >= n.
        n: how many to draw.
        rng: the generator; the same state gives the same points.
        exponent: 0 draws uniformly; larger values crowd the points where the residual is large.
        floor: how much of a uniform share remains, so that no place is left alone.

    Source: Wu, Zhu, Tan, Kartha & Lu, A comprehensive study of non-adaptive and residual-based adaptive sampling,
    Comput. Methods Appl. Mech. Engrg. 403 (2023), eq. (2).
    """
    size = np.abs(np.asarray(residual, dtype=float)) ** exponent
    mean = size.mean()
    density = (size / mean if np.isfinite(mean) and mean > 0 else np.ones_like(size)) + floor
    return rng.choice(len(size), size=n, replace=False, p=density / density.sum())
