r"""Stationary flow in the lid-driven cavity [0, 1]^2, lid $u = 16 x^2 (1 - x)^2$ at y = 1, by its stream function.

With $u = \psi_y$, $v = -\psi_x$ the vorticity equation is
$\nu \Delta^2 \psi = \psi_y \Delta \psi_x - \psi_x \Delta \psi_y$. The basis $P_k - c_k P_{k+2} + d_k P_{k+4}$ vanishes
with its slope at both ends, the lid is lifted by a product with $y^2 (y - 1)$, and Newton's method solves the Galerkin
equations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import legendre


def reference(
    viscosity: float = 0.01, modes: int = 36
) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(u, v)(x, y) at scattered points."""
    nodes, weights = legendre.leggauss(2 * modes + 8)
    axis, weights = (nodes + 1) / 2, weights / 2
    B = [_clamped_basis(axis, modes, d) for d in range(4)]
    W = weights[:, None] * weights[None]

    def lift(x, y, dx, dy):
        return _lid(x, dx) * _bend(y, dy)

    lifted = {(i, j): lift(axis[:, None], axis[None], i, j) for i in range(4) for j in range(4)}

    def at_nodes(c, i, j):
        return B[i] @ c @ B[j].T + lifted[i, j]

    def project(values, i=0, j=0):
        return B[i].T @ (W * values) @ B[j]

    gram = [B[d].T @ (weights[:, None] * B[d]) for d in range(3)]
    mixed = B[0].T @ (weights[:, None] * B[2])
    laplace = np.kron(gram[2], gram[0]) + np.kron(gram[0], gram[2]) + np.kron(mixed, mixed.T) + np.kron(mixed.T, mixed)

    def residual(c):
        psi = {ij: at_nodes(c, *ij) for ij in ((0, 1), (1, 0), (2, 0), (0, 2))}
        vorticity = psi[2, 0] + psi[0, 2]
        # nu (Delta phi, Delta psi) + (Delta psi, psi_y phi_x - psi_x phi_y) = 0: convection in the form that conserves.
        return (
            viscosity * (project(vorticity, 2, 0) + project(vorticity, 0, 2))
            + project(vorticity * psi[0, 1], 1, 0)
            - project(vorticity * psi[1, 0], 0, 1)
        )

    def jacobian(c):
        py, px = at_nodes(c, 0, 1), at_nodes(c, 1, 0)
        vorticity = at_nodes(c, 2, 0) + at_nodes(c, 0, 2)
        J = viscosity * laplace
        for factor, (ti, tj), (si, sj) in (
            (W * py, (1, 0), (2, 0)),
            (W * py, (1, 0), (0, 2)),
            (-W * px, (0, 1), (2, 0)),
            (-W * px, (0, 1), (0, 2)),
            (W * vorticity, (1, 0), (0, 1)),
            (-W * vorticity, (0, 1), (1, 0)),
        ):
            J = J + _weighted(factor, B[ti], B[tj], B[si], B[sj])
        return J

    c = np.zeros((modes, modes))
    for _ in range(20):
        step = np.linalg.solve(jacobian(c), -residual(c).ravel()).reshape(modes, modes)
        c = c + step
        if np.abs(step).max() < 1e-12 * np.abs(c).max():
            break
    else:
        raise ArithmeticError(
            f"Newton's method did not converge at viscosity {viscosity}, last step {np.abs(step).max()}"
        )

    def evaluate(x, y):
        x, y = (np.ravel(a) for a in np.broadcast_arrays(x, y))
        X, Y = ([_clamped_basis(z, modes, d) for d in range(2)] for z in (x, y))
        u = np.einsum("na,ab,nb->n", X[0], c, Y[1], optimize=True) + lift(x, y, 0, 1)
        v = np.einsum("na,ab,nb->n", X[1], c, Y[0], optimize=True) + lift(x, y, 1, 0)
        return u, -v

    return evaluate


def _lid(x, order):
    polynomial = np.polynomial.Polynomial([0, 0, 16, -32, 16])  # 16 x^2 (1 - x)^2
    return polynomial.deriv(order)(x) if order else polynomial(x)


def _bend(y, order):
    polynomial = np.polynomial.Polynomial([0, 0, -1, 1])  # y^2 (y - 1): zero at both ends, slope 0 below and 1 above
    return polynomial.deriv(order)(y) if order else polynomial(y)


def _clamped_basis(x: np.ndarray, modes: int, order: int) -> np.ndarray:
    """The `order`-th derivative `[n, modes]` of polynomials that vanish with their slope at 0 and 1."""
    k = np.arange(modes)
    matrix = np.zeros((modes + 4, modes))
    matrix[k, k] = 1
    matrix[k + 2, k] = -2 * (2 * k + 5) / (2 * k + 7)
    matrix[k + 4, k] = (2 * k + 3) / (2 * k + 7)
    matrix /= np.sqrt(2 * (2 * k + 3) ** 2 * (2 * k + 5))
    for _ in range(order):
        matrix = 2 * legendre.legder(matrix)
    return legendre.legval(2 * x - 1, matrix).T


def _weighted(factor, left, right, trial_left, trial_right):
    """`sum_xy factor left_a right_b trial_c trial_d` as a matrix `[ab, cd]`."""
    n = left.shape[1]
    outer = np.einsum("xa,xc->xac", left, trial_left).reshape(len(left), -1)
    inner = np.einsum("yb,yd->ybd", right, trial_right).reshape(len(right), -1)
    return (outer.T @ factor @ inner).reshape(n, n, n, n).transpose(0, 2, 1, 3).reshape(n * n, n * n)
