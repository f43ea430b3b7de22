"""How does a growing surface sharpen its valleys?

    u_t + H(u_x) = nu u_xx  with the Hamiltonian H = p^2 / 2 and a small viscosity nu, periodic in x

Takes about 20 s. Run: python examples/hamilton_jacobi.py, or: pinnflow solve examples/hamilton_jacobi.py
"""

import numpy as np
from sympy import cos, pi

from pdes import hamilton_jacobi
from pinnflow import coordinates

# Declare: any Hamiltonian of the momentum p = u_x
t, x = coordinates("t x")
problem = hamilton_jacobi(hamiltonian=lambda p: p**2 / 2, viscosity=0.02, initial=cos(pi * x))

if __name__ == "__main__":
    # Solve
    solution = problem.fit()

    # Look: the slope turns from a cosine into a saw tooth, steepest where the surface bends most
    (u,) = problem.fields
    places = np.linspace(-1, 1, 401)
    for time in (0, 0.25, 0.5, 1):
        slope, bend = (solution.evaluate(u.diff(x, order), {t: time, x: places}) for order in (1, 2))
        print(f"t = {time:4}: steepest slope {np.abs(slope).max():.4f}, sharpest bend {np.abs(bend).max():.2f}")
    print(f"estimated relative error: {solution.error_estimate:.1e}, by {solution.method}")

    # Save
    solution.plot("hamilton_jacobi.png")
    solution.save("hamilton_jacobi.h5")
