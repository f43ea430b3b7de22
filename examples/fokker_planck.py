"""How does a particle in a double well forget in which well it started?

    p_t = -(b p)_x + D p_xx  with the drift b = x - x^3 of the double well and the diffusion D = 0.3

Takes about 20 s. Run: python examples/fokker_planck.py, or: pinnflow solve examples/fokker_planck.py
"""

import numpy as np

from pdes import fokker_planck
from pinnflow import coordinates

# Declare: any drift and diffusion in x
t, x = coordinates("t x")
problem = fokker_planck(drift=x - x**3, diffusion=0.3, mean=0.5, deviation=0.3, interval=(-2.5, 2.5), duration=2)

if __name__ == "__main__":
    # Solve
    solution = problem.fit()

    # Look: the probability of each well, by Gauss quadrature
    nodes, weights = np.polynomial.legendre.leggauss(60)
    for time in (0, 0.5, 1, 2):
        left, right = (solution(t=time, x=1.25 * nodes + side) @ (1.25 * weights) for side in (-1.25, 1.25))
        print(f"t = {time:3}: left {left:.6f}, right {right:.6f}, together {left + right:.9f}")
    print(f"estimated relative error: {solution.error_estimate:.1e}, by {solution.method}")

    # Save
    solution.plot("fokker_planck.png")
    solution.save("fokker_planck.h5")
