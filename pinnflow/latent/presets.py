"""Equations that potentials obey, by name: each is a `Problem` over (t, z) and the velocity it means.

Potential presets move a sample along the gradient of their field. Density presets move it with the probability flow of
their equation, the velocity that carries the density as the equation does. Another preset is one more function here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sympy import Eq, Expr, Rational, log

from pinnflow import Problem, coordinates, div, field, grad, laplacian, norm_squared
from pinnflow.errors import UnknownName

HORIZON = 6  # steps that a flow is trained for
SPAN = 3  # half the box of codes, in standard deviations


@dataclass(frozen=True)
class Preset:
    """An equation for potentials or densities.

    Attributes:
        problem: over a time t and a vector coordinate z.
        velocity: a vector expression in the fields, or None for the gradient of the first field.
        density: whether the first field is a density, positive everywhere.
    """

    problem: Problem
    velocity: Expr | None = None
    density: bool = False


PRESETS: dict[str, Callable[..., Preset]] = {}


def preset(name: str):
    """Enters a function `(latent_dim, horizon, **numbers) -> Preset` under a name."""

    def enter(function):
        PRESETS[name] = function
        return function

    return enter


def make_preset(name: str, latent_dim: int, horizon: float = HORIZON, **numbers: float) -> Preset:
    """The preset called `name` in `latent_dim` dimensions, for times 0 to `horizon`.

    Raises:
        UnknownName: there is no such preset.
    """
    if name not in PRESETS:
        raise UnknownName("equation for potentials", name, PRESETS)
    return PRESETS[name](latent_dim, horizon, **numbers)


def _axes(latent_dim, horizon, name="u"):
    t, z = coordinates("t"), coordinates("z", latent_dim)
    return t, z, field(name, t, z), {t: (0, horizon), z: (-SPAN, SPAN)}


@preset("wave")
def wave(latent_dim: int, horizon: float, speed: float = Rational(1, 5)) -> Preset:
    """u_tt = c^2 Laplace(u) with u(z, 0) = 0; a wave travels about one standard deviation of the codes in six steps.

    A faster one is an almost constant slope after a few steps (VP on the warped generator, seed 1: 0.88 with c = 1,
    0.89 with 1/2, 0.92 with 1/5 and with 1/10).
    """
    t, z, u, domain = _axes(latent_dim, horizon)
    equation = Eq(u.diff(t, 2), speed**2 * laplacian(u, z))
    return Preset(Problem([equation], domain, [Eq(u.subs(t, 0), 0)], name="wave"))


@preset("hamilton-jacobi")
def hamilton_jacobi(latent_dim: int, horizon: float, viscosity: float = Rational(1, 2)) -> Preset:
    """u_t + |grad u|^2 / 2 = nu Laplace(u): samples that go straight on, and merge softly where they meet."""
    t, z, u, domain = _axes(latent_dim, horizon)
    equation = Eq(u.diff(t) + norm_squared(grad(u, z)) / 2, viscosity * laplacian(u, z))
    return Preset(Problem([equation], domain, name="hamilton-jacobi"))


@preset("hamilton-jacobi-source")
def hamilton_jacobi_source(latent_dim: int, horizon: float) -> Preset:
    """u_t + |grad u|^2 / 2 + f^2 = 0 with a learned source f that vanishes, as grad u does, at t = 0."""
    t, z, u, domain = _axes(latent_dim, horizon)
    f = field("f", t, z)
    equation = Eq(u.diff(t) + norm_squared(grad(u, z)) / 2 + f**2, 0)
    return Preset(
        Problem([equation], domain, [Eq(u.subs(t, 0), 0), Eq(f.subs(t, 0), 0)], name="hamilton-jacobi-source")
    )


@preset("heat")
def heat(latent_dim: int, horizon: float, diffusion: float = Rational(1, 5)) -> Preset:
    """rho_t = D Laplace(rho), moved by -D grad log rho."""
    t, z, rho, domain = _axes(latent_dim, horizon, "rho")
    problem = Problem([Eq(rho.diff(t), diffusion * laplacian(rho, z))], domain, name="heat")
    return Preset(problem, -diffusion * grad(log(rho), z), density=True)


@preset("fokker-planck")
def fokker_planck(
    latent_dim: int, horizon: float, diffusion: float = Rational(1, 12), rate: float = Rational(1, 12)
) -> Preset:
    """rho_t = div(a z rho) + D Laplace(rho), the Ornstein-Uhlenbeck process, moved by -a z - D grad log rho.

    Its equilibrium is the distribution of the codes; diffusion alone spreads by one standard deviation in six steps.
    """
    t, z, rho, domain = _axes(latent_dim, horizon, "rho")
    equation = Eq(rho.diff(t), div(rate * z * rho, z) + diffusion * laplacian(rho, z))
    return Preset(
        Problem([equation], domain, name="fokker-planck"), -rate * z - diffusion * grad(log(rho), z), density=True
    )


@preset("porous-medium")
def porous_medium(latent_dim: int, horizon: float, power: float = 2) -> Preset:
    """rho_t = Laplace(rho^m), moved by -m rho^(m-2) grad rho."""
    t, z, rho, domain = _axes(latent_dim, horizon, "rho")
    equation = Eq(rho.diff(t), laplacian(rho**power, z))
    return Preset(
        Problem([equation], domain, name="porous-medium"),
        -power * rho ** (power - 2) * grad(rho, z),
        density=True,
    )
