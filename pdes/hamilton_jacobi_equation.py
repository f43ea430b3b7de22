"""The viscous Hamilton-Jacobi equation on a circle."""

from __future__ import annotations

from collections.abc import Callable

from sympy import Eq, Expr, Rational, Symbol, cos, pi

from pdes.parameters import expression, number, same_at_ends
from pdes.registry import pde
from pinnflow import Problem, coordinates, field

t, x = coordinates("t x")
p = Symbol("p", real=True)


@pde
def hamilton_jacobi(
    hamiltonian: Expr | Callable[[Expr], Expr] = p**2 / 2,
    viscosity=Rational(1, 50),
    initial: Expr = cos(pi * x),
    duration=1,
) -> Problem:
    r"""Action of a moving front: u_t + H(u_x) = nu u_xx.

    $$u_t + H(u_x) = \nu u_{xx}, \qquad -1 < x < 1 \text{ periodic}, \quad 0 < t < T, \qquad u(0, x) = u_0(x)$$

    `u` is an action (or a height of a growing surface), $p = u_x$ a momentum; everything is dimensionless. As
    $\nu \to 0$ the viscosity solution has corners where characteristics meet.

    Args:
        hamiltonian: $H$, an expression in `p` or a function of the momentum, for instance `lambda p: sqrt(1 + p**2)`.
        viscosity: $\nu$; positive.
        initial: $u_0$, an expression in `x` with equal values at both ends.
        duration: $T$; positive.

    Reference: for $H = p^2 / 2$ the Cole-Hopf transformation by Gauss-Hermite quadrature,
    `benchmarks/references/cole_hopf.py`.

    Source: Crandall & Lions, Trans. AMS 277 (1983) 1; Evans, Partial Differential Equations (2010), section 4.4.
    """
    H = expression("hamiltonian", hamiltonian, p)
    nu, T = number("viscosity", viscosity, above=0), number("duration", duration, above=0)
    start = same_at_ends("initial", expression("initial", initial, x), x, -1, 1)

    u = field("u", t, x)
    return Problem(
        equations=[Eq(u.diff(t) + H.subs(p, u.diff(x)), nu * u.diff(x, 2))],
        domain={t: (0, T), x: (-1, 1)},
        conditions=[Eq(u.subs(t, 0), start), Eq(u.subs(x, -1), u.subs(x, 1))],
        name="hamilton_jacobi",
    )
