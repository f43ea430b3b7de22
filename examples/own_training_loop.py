"""How do I train a network of my own, with an optimiser of my own, on a declared problem?

    u_t = u_xx + 6 u (1 - u)  (Fisher's equation of an advancing population) with the wave (1 + exp(x - 5 t))^-2

`pinnflow.compile` gives the residuals as torch functions of any module; here torch.func differentiates them with
respect to all weights at once, for a Levenberg-Marquardt method in 20 lines. Takes about 20 s.
Run: python examples/own_training_loop.py
"""

import numpy as np
import torch
from sympy import Eq, exp, lambdify
from torch import nn
from torch.func import functional_call, jacrev

import pinnflow
from pinnflow import Problem, coordinates, field

# Declare
t, x = coordinates("t x")
u = field("u", t, x)
wave = (1 + exp(x - 5 * t)) ** -2
problem = Problem(
    equations=[Eq(u.diff(t), u.diff(x, 2) + 6 * u * (1 - u))],
    domain={t: (0, 1), x: (-4, 8)},
    conditions=[Eq(u.subs(axis, end), wave.subs(axis, end)) for axis, end in ((t, 0), (x, -4), (x, 8))],
    exact=wave,
    name="fisher",
)


class Network(nn.Module):
    """u(t, x) from points `[n, 2]` in problem units: the columns are t, x as in `problem.coordinates`."""

    def __init__(self, width=12):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1), nn.Sigmoid()
        )

    def forward(self, points):
        return self.layers(points * points.new_tensor([2.0, 1 / 3]) - points.new_tensor([1.0, 2 / 3]))


class Residuals(nn.Module):
    """All residuals as one vector whose square is the loss."""

    def __init__(self, compiled, network):
        super().__init__()
        self.compiled, self.network = compiled, network

    def forward(self):
        return torch.cat([r / len(r) ** 0.5 for r in self.compiled.residuals(self.network).values()])


def train(network, compiled, steps=18):
    """Levenberg-Marquardt: steps that solve (J^T J + damping) d = -J^T r, damped more after a step that failed."""
    residuals = Residuals(compiled, network)
    shapes = {name: weight.shape for name, weight in residuals.named_parameters()}
    flat = nn.utils.parameters_to_vector(residuals.parameters()).detach()

    def evaluate(flat):
        parts = flat.split([shape.numel() for shape in shapes.values()])
        weights = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts)}
        return functional_call(residuals, weights, ())

    r, damping = evaluate(flat), 1e-2
    for step in range(steps):
        J = jacrev(evaluate)(flat)  # [residuals, weights]
        for _ in range(8):
            rows = torch.cat([J, damping**0.5 * torch.eye(len(flat), dtype=J.dtype)])
            change = torch.linalg.lstsq(rows, -torch.cat([r, torch.zeros_like(flat)])[:, None]).solution[:, 0]
            trial = evaluate(flat + change)
            if trial.norm() < r.norm():
                flat, r, damping = flat + change, trial, damping / 5
                break
            damping *= 5
        if step % 5 == 0:
            print(f"step {step:2}: loss {float(r @ r):.2e}")
    nn.utils.vector_to_parameters(flat, network.parameters())


if __name__ == "__main__":
    torch.manual_seed(0)
    network = Network().double()
    compiled = pinnflow.compile(problem, points=400)
    print(compiled.plan)

    # Solve
    train(network, compiled)

    # Look
    places = np.random.default_rng(1).uniform((0, -4), (1, 8), (5000, 2))
    with torch.no_grad():
        found = network(torch.as_tensor(places)).numpy()[:, 0]
    exact = lambdify((t, x), wave)(*places.T)
    print(f"relative error: {np.linalg.norm(found - exact) / np.linalg.norm(exact):.1e}")

    # Save
    torch.save(network.state_dict(), "fisher.pt")
