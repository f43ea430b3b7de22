"""How does a string move that swings in two of its modes at once?

    u_tt = 4 u_xx  on [0, 1], held at both ends, at rest at t = 0

Takes about 10 s. Run: python examples/wave.py, or: pinnflow solve examples/wave.py
"""

from sympy import Eq, pi, sin

from pinnflow import Problem, coordinates, field

# Declare
t, x = coordinates("t x")
u = field("u", t, x)
problem = Problem(
    equations=[Eq(u.diff(t, 2), 4 * u.diff(x, 2))],
    domain={t: (0, 1), x: (0, 1)},
    conditions=[
        Eq(u.subs(t, 0), sin(pi * x) + sin(4 * pi * x) / 2),
        Eq(u.diff(t).subs(t, 0), 0),
        Eq(u.subs(x, 0), 0),
        Eq(u.subs(x, 1), 0),
    ],
    name="wave",
)

if __name__ == "__main__":
    # Solve
    solution = problem.fit()

    # Look
    energy = u.diff(t) ** 2 + 4 * u.diff(x) ** 2
    print(f"deflection at t = 0.3, x = 0.1, 0.2: {solution(t=0.3, x=[0.1, 0.2])}")
    print(f"energy density there:                {solution.evaluate(energy, {t: 0.3, x: [0.1, 0.2]})}")
    print(f"estimated relative error:            {solution.error_estimate:.1e}, by {solution.method}")

    # Save
    solution.plot("wave.png")
    solution.save("wave.h5")
