"""The Helmholtz equation on a square."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sympy import Eq, pi, sin

from pdes.parameters import number, whole
from pdes.registry import pde
from pinnflow import Problem, coordinates, field
from pinnflow.errors import DeclarationError

x, y = coordinates("x y")


@pde
def helmholtz(wavenumber=1, modes: Sequence[int] = (1, 4)) -> Problem:
    r"""Standing waves of one frequency in a square: u_xx + u_yy + k^2 u = f.

    $$u_{xx} + u_{yy} + k^2 u = f, \qquad (x, y) \in (-1, 1)^2, \qquad u = 0 \text{ on the boundary}$$

    with $f = (k^2 - \pi^2 (m^2 + n^2)) \sin(m \pi x) \sin(n \pi y)$. `u` is a pressure; everything is dimensionless.

    Args:
        wavenumber: $k$, in radians per half side of the square; positive. The problem has no unique solution where
            $k^2$ is an eigenvalue, $\pi^2 (p^2 + q^2) / 4$ with $p, q = 1, 2, \dots$
        modes: $(m, n)$, positive whole numbers.

    Exact solution: $u = \sin(m \pi x) \sin(n \pi y)$.

    Source: manufactured, as in Wang, Teng & Perdikaris, SIAM J. Sci. Comput. 43 (2021) A3055, section 4.1.
    """
    k = number("wavenumber", wavenumber, above=0)
    if len(modes) != 2:
        raise DeclarationError(f"`modes` is {modes!r}, but two whole numbers are expected; write `modes=(1, 4)`.")
    m, n = (whole("modes", mode) for mode in modes)
    _refuse_resonance(float(k))
    solution = sin(m * pi * x) * sin(n * pi * y)

    u = field("u", x, y)
    return Problem(
        equations=[Eq(u.diff(x, 2) + u.diff(y, 2) + k**2 * u, (k**2 - pi**2 * (m**2 + n**2)) * solution)],
        domain={x: (-1, 1), y: (-1, 1)},
        conditions=[Eq(u.subs(axis, end), 0) for axis in (x, y) for end in (-1, 1)],
        exact=solution,
        name="helmholtz",
    )


def _refuse_resonance(k: float) -> None:
    ratio = 4 * k**2 / math.pi**2
    for p in range(1, math.isqrt(int(ratio) + 1) + 1):
        q = round(math.sqrt(max(ratio - p**2, 0)))
        if q and math.isclose(ratio, p**2 + q**2, rel_tol=1e-9):
            raise DeclarationError(
                f"`wavenumber` is {k:.6g}, at which the square resonates: k^2 = pi^2 ({p}^2 + {q}^2) / 4, "
                "so the solution is not unique. Write another one, for instance "
                f"`wavenumber={math.pi / 2 * math.sqrt(ratio + 0.5):.3g}`."
            )
