"""Which exact family solves an equation: one recogniser per family.

Each looks at the terms of an equation and returns what makes the module, or says why the equation is not of its form.
A new family is one module class and one function with `@family` here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy
from torch import nn

from pinnflow.trial import families, mixtures, nonlinear_families
from pinnflow.trial.equation import (
    ROUNDING,
    Equation,
    NotThis,
    affine,
    hamilton_jacobi,
    refuse_others,
    symmetric_matrix,
)

FAMILIES: dict[str, Callable[[Equation], Callable[..., nn.Module]]] = {}


def family(name: str):
    """Enters a recogniser under the name of its family; they are asked in the order of the file."""

    def enter(function):
        FAMILIES[name] = function
        return function

    return enter


@family("ridge wave")
def _ridge_waves(equation: Equation):
    """u_tt + 2 g . grad u_t + div(C grad u) = 0 with real speeds in every direction, or u_t + g . grad u = 0."""
    terms, space = equation.constants(), equation.space()
    time = equation.time
    (degree,) = _single({sum(orders) for orders in terms}, "the terms have different orders")
    if degree == 1:
        lead = terms.pop(equation.orders(time), 0.0)
        if lead == 0:
            raise NotThis("nothing is differentiated in time")
        drift, matrix, even = [terms.get(equation.orders(i), 0.0) / lead for i in space], None, False
    elif degree == 2:
        lead = terms.get(equation.orders(time, time), 0.0)
        if lead == 0:
            raise NotThis("there is no second derivative in time")
        drift = [terms.get(equation.orders(time, i), 0.0) / (2 * lead) for i in space]
        matrix = symmetric_matrix(equation, terms, space) / lead
        speeds = np.linalg.eigvalsh(np.outer(drift, drift) - matrix)
        if speeds.min() <= ROUNDING * abs(speeds).max():
            raise NotThis("its speeds are not real and different in all directions")
        even = equation.at_rest and not any(drift)
    else:
        raise NotThis(f"its order is {degree}")
    return lambda members, features, generator: families.RidgeWaves(
        equation.bounds, time, members, features, drift, matrix, even, generator
    )


@family("moving Gaussian")
def _gaussians(equation: Equation):
    """u_t = div(A grad u) - (B z + g) . grad u + c u with numbers A >= 0, B, g and c."""
    space, time = equation.space(), equation.time
    if any(len(key) > 1 for key in equation.terms):
        raise NotThis("the equation is nonlinear")
    if equation.source != 0:
        raise NotThis(f"the equation has the source `{-equation.source}`")
    terms = {key[0]: a for key, a in equation.divided(equation.orders(time)).items()}
    refuse_others(equation, terms, space, 2)
    diffusion = -np.array(
        symmetric_matrix(equation, {o: equation.number(a) for o, a in terms.items() if sum(o) == 2}, space)
    )
    spread = np.linalg.eigvalsh(diffusion)
    if spread.min() < -ROUNDING * abs(spread).max() or spread.max() <= 0:
        raise NotThis("the second derivatives are no diffusion")
    drift, constant = affine(equation, [terms.get(equation.orders(i), sympy.S.Zero) for i in space], space)
    growth = -equation.number(terms.get(equation.orders(), sympy.S.Zero)) + np.trace(drift)
    centre = np.array([sum(equation.bounds[i]) / 2 for i in space])
    constant = drift @ centre + constant
    common = _common_eigenvectors(diffusion, drift)
    if common is None:
        return lambda members, features, generator: mixtures.RotatingMixture(
            equation.bounds, time, members, features, diffusion, drift, constant, growth, generator
        )
    values, rates, rotation = common
    turned = constant if rotation is None else constant @ rotation
    return lambda members, features, generator: mixtures.GaussianMixture(
        equation.bounds, time, members, features, values, rates, turned, rotation, growth, generator
    )


@family("viscous Hamilton-Jacobi")
def _soft_planes(equation: Equation):
    """u_t + kappa grad u . A grad u + g . grad u = div(A grad u) + c with a positive definite A."""
    square, drift, source, diffusion = hamilton_jacobi(equation)
    if not diffusion.any():
        raise NotThis("there is no viscosity")
    if np.linalg.eigvalsh(diffusion).min() <= ROUNDING * abs(diffusion).max():
        raise NotThis("the second derivatives are no diffusion in all directions")
    kappa = (square * diffusion).sum() / (diffusion**2).sum()
    if abs(square - kappa * diffusion).max() > ROUNDING * abs(square).max():
        raise NotThis("the square of the gradient has other coefficients than the second derivatives")
    return lambda members, features, generator: nonlinear_families.SoftPlanes(
        equation.bounds, equation.time, members, features, kappa, diffusion, drift, source, generator
    )


@family("inviscid Hamilton-Jacobi")
def _paraboloids(equation: Equation):
    """u_t + grad u . Q grad u + g . grad u = c with a positive definite Q."""
    square, drift, source, diffusion = hamilton_jacobi(equation)
    if diffusion.any():
        raise NotThis("there are second derivatives")
    values, vectors = np.linalg.eigh(square)
    if values.min() <= ROUNDING * abs(values).max():
        raise NotThis("the square of the gradient is not positive definite")
    root = (vectors / np.sqrt(values)) @ vectors.T
    return lambda members, features, generator: nonlinear_families.Paraboloids(
        equation.bounds, equation.time, members, features, root, drift, source, generator
    )


@family("viscous Burgers")
def _merging_shocks(equation: Equation):
    """u_t + a u u_x + g u_x = nu u_xx in one space dimension."""
    space = equation.space()
    if len(space) != 1:
        raise NotThis(f"there are {len(space)} space dimensions")
    (x,) = space
    value, slope, bend = equation.orders(), equation.orders(x), equation.orders(x, x)
    terms = {key: equation.number(a) for key, a in equation.divided(equation.orders(equation.time)).items()}
    steepening = terms.pop(tuple(sorted((value, slope))), 0.0)
    viscosity = -terms.pop((bend,), 0.0)
    drift = terms.pop((slope,), 0.0)
    if steepening == 0 or viscosity <= 0 or set(terms) != {(equation.orders(equation.time),)}:
        raise NotThis("the equation is not u_t + a u u_x + g u_x = nu u_xx with a positive nu")
    return lambda members, features, generator: nonlinear_families.MergingShocks(
        equation.bounds, equation.time, members, features, steepening, viscosity, drift, generator
    )


@family("porous-medium")
def _barenblatt(equation: Equation):
    """u_t = a div(grad(u^m)) with a whole m of at least 2 and a positive a."""
    space = equation.space()
    value = equation.orders()
    terms = {key: equation.number(a) for key, a in equation.divided(equation.orders(equation.time)).items()}
    power = max(len(key) for key in terms)
    bend = tuple(sorted([value] * (power - 1) + [equation.orders(space[0], space[0])]))
    if power < 2 or terms.get(bend, 0.0) >= 0:
        raise NotThis("the equation is not u_t = a laplacian(u^m) with a positive a and m = 2, 3, ...")
    size = -terms[bend] / power
    expected = {(equation.orders(equation.time),): 1.0}
    for i in space:  # laplacian(u^m) = m u^(m-1) laplacian(u) + m (m-1) u^(m-2) |grad u|^2
        expected[tuple(sorted([value] * (power - 1) + [equation.orders(i, i)]))] = -size * power
        squared = [value] * (power - 2) + [equation.orders(i)] * 2
        expected[tuple(sorted(squared))] = -size * power * (power - 1)
    if expected.keys() != terms.keys() or any(abs(expected[k] - terms[k]) > ROUNDING * abs(terms[k]) for k in terms):
        raise NotThis("the equation is not u_t = a laplacian(u^m) with a positive a and m = 2, 3, ...")
    return lambda members, features, generator: nonlinear_families.Barenblatt(
        equation.bounds, equation.time, members, features, power, size, generator
    )


@family("plane wave")
def _plane_waves(equation: Equation):
    """Any homogeneous linear equation with constant coefficients, solved for the exponent of time or the last axis."""
    terms = equation.constants()
    solvable = [i for i in range(len(equation.columns)) if any(orders[i] for orders in terms)]
    if not solvable or len(equation.columns) < 2:
        raise NotThis("there is nothing to solve for, or one coordinate only")
    axis = equation.time if equation.time in solvable else solvable[-1]
    # What has derivatives of mixed order in this column may have no root for some wave numbers.
    degree = max(orders[axis] for orders in terms)
    if any(orders[axis] == degree and sum(orders) > degree for orders in terms):
        raise NotThis(f"the highest derivative in `{equation.columns[axis]}` is also differentiated otherwise")
    factors = _squarefree(equation, terms, axis)
    return lambda members, features, generator: families.PlaneWaves(
        equation.bounds, axis, members, features, factors, generator
    )


def _single(found, otherwise):
    if len(found) != 1:
        raise NotThis(otherwise)
    return tuple(found)


def _common_eigenvectors(diffusion, drift):
    """(eigenvalues of A, of B, eigenvectors or None for the axes), or None when they have none in common."""
    size = max(abs(diffusion).max(), 1e-300), max(abs(drift).max(), 1e-300)
    if all(abs(m - np.diag(np.diag(m))).max() <= ROUNDING * s for m, s in zip((diffusion, drift), size, strict=True)):
        return np.diag(diffusion).copy(), np.diag(drift).copy(), None
    if abs(drift - drift.T).max() > ROUNDING * size[1]:
        return None
    # A generic combination has simple eigenvalues unless both matrices share the multiple one.
    _, vectors = np.linalg.eigh(diffusion / size[0] + 0.6180339887 * drift / size[1])
    turned = [vectors.T @ m @ vectors for m in (diffusion, drift)]
    if any(abs(m - np.diag(np.diag(m))).max() > ROUNDING * s for m, s in zip(turned, size, strict=True)):
        return None
    return np.diag(turned[0]).copy(), np.diag(turned[1]).copy(), vectors


def _squarefree(equation, terms, axis):
    """[(monomials, multiplicity)] of the squarefree factors of the characteristic polynomial."""
    if not _coincide(terms, axis):
        return [(terms, 1)]
    if len(equation.columns) > 4:
        raise NotThis("its characteristic roots coincide, and there are too many coordinates to factor it")
    symbols = sympy.symbols(f"s:{len(equation.columns)}")
    exact = {orders: sympy.nsimplify(equation.linear[orders], rational=False) for orders in terms}
    polynomial = sympy.Add(*(a * sympy.Mul(*(s**o for s, o in zip(symbols, orders))) for orders, a in exact.items()))
    found = []
    for factor, multiplicity in sympy.factor_list(polynomial, *symbols)[1]:
        monomials = {o: complex(a) for o, a in sympy.Poly(factor, *symbols).as_dict().items()}
        if any(o[axis] for o in monomials):
            found.append((monomials, int(multiplicity)))
    if any(_coincide(monomials, axis) for monomials, _ in found):
        raise NotThis("its characteristic roots coincide")
    return found


def _coincide(terms, axis):
    """Whether two characteristic roots are the same at generic wave numbers."""
    rng = np.random.default_rng(0)
    columns = len(next(iter(terms)))
    wave = 1j * rng.normal(size=columns)
    degree = max(orders[axis] for orders in terms)
    coefficients = np.zeros(degree + 1, dtype=complex)
    for orders, a in terms.items():
        coefficients[degree - orders[axis]] += a * np.prod(
            [w**o for i, (w, o) in enumerate(zip(wave, orders)) if i != axis]
        )
    roots = np.roots(coefficients)
    if len(roots) < 2:
        return False
    apart = abs(roots[:, None] - roots[None, :]) + np.eye(len(roots)) * 1e300
    return bool(apart.min() < 1e-6 * abs(roots).max())
