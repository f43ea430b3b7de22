"""`exact_family`: modules that satisfy the equation of a problem identically, recognised from its declaration.

`equation.py` reads the equation as a sum of terms, `recognisers.py` says which family solves it, and `families.py`,
`mixtures.py` and `nonlinear_families.py` hold the modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pinnflow.errors import NoExactFamily
from pinnflow.trial.equation import NotThis, read_equation
from pinnflow.trial.recognisers import FAMILIES

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem


def exact_family(problem: Problem, members: int = 1, features: int = 64, *, seed: int = 0) -> nn.Module:
    """An `nn.Module` that satisfies the equations identically: `[n, coordinates]` in, `[n, members]` out.

    Called as `module(points, member)`, with the number of a member for each row, it gives that member's value alone,
    `[n, 1]`, at a cost that does not depend on how many there are. Densities have `log_density` besides, with the same
    arguments.

    Its parameters are trainable and float64; whatever they are, the residual stays at rounding error. Ridge functions
    for wave and advection equations in any dimension, Gaussian mixtures moved by their own kernel for linear diffusion
    with linear drift, smooth minima of planes for viscous Hamilton-Jacobi equations and their slopes for Burgers'
    equation, rarefactions for inviscid ones, Barenblatt's profile for porous media (these two are one function per
    member, whatever `features` is), and plane waves for every other linear equation with constant coefficients.
    Conditions are not imposed, except that second-order ridge waves vanish at the initial time, or start at rest where
    the problem says so.

    Args:
        problem: one equation in one field; columns of the input are `problem.columns`.
        members: number of functions, in stacked weights.
        features: terms of each.
        seed: of the first weights.

    Raises:
        NoExactFamily: no family is known; the message says why for each.
        ValueError: `members` or `features` is not positive.

    Example:
        >>> from pinnflow import Problem, coordinates, exact_family, field, laplacian
        >>> from sympy import Eq
        >>> t, z = coordinates("t"), coordinates("z", 8)
        >>> u = field("u", t, z)
        >>> wave = Problem([Eq(u.diff(t, 2), laplacian(u, z))], {t: (0, 6), z: (-3, 3)})
        >>> type(exact_family(wave, members=5)).__name__
        'RidgeWaves'
    """
    for name, value in (("members", members), ("features", features)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` is {value!r}; it must be a positive whole number")
    equation = read_equation(problem)
    reasons = []
    for name, recognise in FAMILIES.items():
        try:
            make = recognise(equation)
        except NotThis as reason:
            reasons.append(f"no {name}: {reason}")
            continue
        return make(members, features, torch.Generator().manual_seed(seed))
    raise NoExactFamily(
        f"no family is known that satisfies {problem.name or 'the equation'} identically.\n  "
        + "\n  ".join(reasons)
        + "\n  Use `pinnflow.compile(problem)` to satisfy it in the least-squares sense."
    )
