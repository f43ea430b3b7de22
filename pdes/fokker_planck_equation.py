"""The Fokker-Planck equation of a diffusion on the line, cut to an interval."""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Eq, Expr, Rational, exp, pi, sqrt

from pdes.parameters import expression, number
from pdes.registry import pde
from pinnflow import Problem, coordinates, field
from pinnflow.errors import DeclarationError

t, x = coordinates("t x")


@pde
def fokker_planck(
    drift: Expr = x - x**3,
    diffusion: Expr = Rational(3, 10),
    mean=Rational(1, 2),
    deviation=Rational(3, 10),
    interval: Sequence = (-Rational(5, 2), Rational(5, 2)),
    duration=2,
) -> Problem:
    r"""Density of a drifting, diffusing particle: p_t = -(b p)_x + (D p)_xx.

    $$p_t = -(b p)_x + (D p)_{xx}, \qquad x \in (\ell, h), \quad 0 < t < T$$

    the density of $dX = b(X) dt + \sqrt{2 D(X)} dW$ (Itô), with $p(0, x)$ normal and $p = 0$ at both ends. `p` is a
    probability per length, `x` a length. The default drift is that of a double well, $b = -V'$, $V = x^4/4 - x^2/2$.

    Args:
        drift: $b$, length per time: an expression in `x` or a function of it. `-x` is the Ornstein-Uhlenbeck process.
        diffusion: $D$, length squared per time: an expression in `x` or a function of it, positive in the interval.
        mean: mean of the initial density.
        deviation: standard deviation of the initial density; positive.
        interval: $(\ell, h)$; where the density ends, or wide enough for it to be negligible.
        duration: $T$, time; positive.

    Exact solution: for a drift $-\theta (x - m)$ and constant diffusion (Ornstein-Uhlenbeck) the density stays normal,
    with mean $m + (\mu_0 - m) e^{-\theta t}$ and variance $D / \theta + (\sigma_0^2 - D / \theta) e^{-2 \theta t}$; the
    values at both ends are then those of this solution. Else there is a reference,
    `benchmarks/references/fokker_planck.py`.

    Source: Risken, The Fokker-Planck Equation (1989), chapters 4 and 5.
    """
    b, D = expression("drift", drift, x), expression("diffusion", diffusion, x)
    mu, sigma, T = number("mean", mean), number("deviation", deviation, above=0), number("duration", duration, above=0)
    low, high = _ends(interval)
    exact = _ornstein_uhlenbeck(b, D, mu, sigma)

    p = field("p", t, x)
    flux = b * p - (D * p).diff(x)
    return Problem(
        equations=[Eq(p.diff(t), -flux.diff(x).expand())],
        domain={t: (0, T), x: (low, high)},
        conditions=[
            Eq(p.subs(t, 0), _normal(mu, sigma**2)),
            Eq(p.subs(x, low), 0 if exact is None else exact.subs(x, low)),
            Eq(p.subs(x, high), 0 if exact is None else exact.subs(x, high)),
        ],
        exact=exact,
        name="fokker_planck",
    )


def _normal(mean: Expr, variance: Expr) -> Expr:
    return exp(-((x - mean) ** 2) / (2 * variance)) / sqrt(2 * pi * variance)


def _ornstein_uhlenbeck(b: Expr, D: Expr, mu: Expr, sigma: Expr) -> Expr | None:
    theta = -b.diff(x).expand()
    if theta.has(x) or D.has(x):
        return None
    if theta == 0:
        return _normal(mu + b * t, sigma**2 + 2 * D * t)
    m = (b / theta + x).expand()
    return _normal(m + (mu - m) * exp(-theta * t), D / theta + (sigma**2 - D / theta) * exp(-2 * theta * t))


def _ends(interval: Sequence) -> tuple[Expr, Expr]:
    try:
        low, high = (number("interval", end) for end in interval)
    except (TypeError, ValueError):
        low, high = Rational(0), Rational(0)
    if not low < high:
        raise DeclarationError(
            f"`interval` is {interval!r}, but two increasing numbers are expected; write `interval=(-2, 2)`."
        )
    return low, high
