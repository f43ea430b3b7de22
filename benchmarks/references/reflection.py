"""$u_{tt} = c^2 u_{xx}$ on [0, 1] with u = 0 at both ends, at rest, by d'Alembert's formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def wave(
    profile: Callable[[np.ndarray], np.ndarray], speed: float = 2.0
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """u(t, x): half the profile to each side, reflected with the opposite sign at both ends."""

    def reflected(y):  # the odd continuation of period 2
        y = np.mod(y, 2)
        return np.where(y <= 1, profile(y), -profile(2 - y))

    return lambda t, x: (reflected(x - speed * t) + reflected(x + speed * t)) / 2


def pulse() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The wave that starts as exp(-100 (x - 0.37)^2), with speed 2."""
    return wave(lambda y: np.exp(-100 * (y - 0.37) ** 2))
