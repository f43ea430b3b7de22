"""scimba, PyTorch backend: its energy natural gradient with the default settings, conditions in the loss.

scimba differentiates a problem twice over, once for the loss (`operator`) and once for the metric
(`functional_operator`). The wave is written as a system of first order in time, which is what its class for time
offers. Its default network, six layers of 20, leaves time for few steps a minute on a processor; the networks here did
best among some that were tried: one layer of 64, and for Burgers two of 20.
"""

from __future__ import annotations

import numpy as np
import scimba_torch  # noqa: F401  (sets float64)
import sympy
import torch
from scimba_torch.approximation_space.nn_space import NNxSpace, NNxtSpace
from scimba_torch.domain.meshless_domain.domain_1d import Segment1D
from scimba_torch.domain.meshless_domain.domain_2d import Square2D
from scimba_torch.integration.monte_carlo import DomainSampler, TensorizedSampler
from scimba_torch.integration.monte_carlo_parameters import UniformParametricSampler
from scimba_torch.integration.monte_carlo_time import UniformTimeSampler
from scimba_torch.neural_nets.coordinates_based_nets.mlp import GenericMLP
from scimba_torch.numerical_solvers.elliptic_pde.pinns import NaturalGradientPinnsElliptic
from scimba_torch.numerical_solvers.temporal_pde.pinns import NaturalGradientTemporalPinns
from scimba_torch.physical_models.elliptic_pde.abstract_elliptic_pde import StrongFormEllipticPDE
from scimba_torch.physical_models.temporal_pde.abstract_temporal_pde import FirstOrderTemporalPDE
from scimba_torch.utils.scimba_tensors import LabelTensor
from torch.func import jacrev

from benchmarks.statements import ROWS

CHUNK = 2  # steps between two looks at the clock
VISCOSITY = 0.01 / np.pi


class Burgers(FirstOrderTemporalPDE):
    """u_t + u u_x = nu u_xx, zero at both ends."""

    residual_size = bc_residual_size = ic_residual_size = 1

    def init(self, x, mu):
        return -torch.sin(torch.pi * x.x)

    initial_condition = init

    def rhs(self, w, t, x, mu):
        return torch.zeros_like(x.x)

    def bc_rhs(self, w, t, x, n, mu):
        return torch.zeros_like(x.x)

    def bc_operator(self, w, t, x, n, mu):
        return w.get_components()

    def space_operator(self, w, t, x, mu):
        u = w.get_components()
        u_x = self.grad(u, x)
        return u * u_x - VISCOSITY * self.grad(u_x, x)

    def functional_operator(self, u, t, x, mu, theta):
        place = (t, x, mu, theta)
        u_t, u_x, u_xx = jacrev(u, 0)(*place)[0], jacrev(u, 1)(*place)[0], jacrev(jacrev(u, 1), 1)(*place)[0, 0]
        return u_t + u(*place) * u_x - VISCOSITY * u_xx

    def functional_operator_bc(self, u, t, x, n, mu, theta):
        return u(t, x, mu, theta)


class Wave(FirstOrderTemporalPDE):
    """u_t = v, v_t = 4 u_xx, u zero at both ends."""

    residual_size = ic_residual_size = 2
    bc_residual_size = 1

    def init(self, x, mu):
        return torch.sin(torch.pi * x.x) + torch.sin(4 * torch.pi * x.x) / 2, torch.zeros_like(x.x)

    initial_condition = init

    def rhs(self, w, t, x, mu):
        return torch.zeros_like(x.x), torch.zeros_like(x.x)

    def bc_rhs(self, w, t, x, n, mu):
        return torch.zeros_like(x.x)

    def bc_operator(self, w, t, x, n, mu):
        return w.get_components()[0]

    def space_operator(self, w, t, x, mu):
        u, v = w.get_components()
        return -v, -4 * self.grad(self.grad(u, x), x)

    def functional_operator(self, w, t, x, mu, theta):
        place = (t, x, mu, theta)
        u_xx = jacrev(jacrev(w, 1), 1)(*place)[0, 0, 0]
        return jacrev(w, 0)(*place)[:, 0] + torch.stack([-w(*place)[1], -4 * u_xx])

    def functional_operator_bc(self, w, t, x, n, mu, theta):
        return w(t, x, mu, theta)[:1]


class Poisson(StrongFormEllipticPDE):
    """-(u_xx + u_yy) = f, zero at the edge."""

    def __init__(self, space):
        super().__init__(space, linear=True, residual_size=1, bc_residual_size=1)
        problem = ROWS[11].declare()
        self.source = sympy.lambdify(
            problem.coordinates, problem.equations[0].rhs, [{"sin": torch.sin, "exp": torch.exp}, "math"]
        )

    def rhs(self, w, x, mu):
        return self.source(*x.get_components())

    def bc_rhs(self, w, x, n, mu):
        return torch.zeros_like(x.x[:, :1])

    def operator(self, w, x, mu):
        u_x, u_y = self.grad(w.get_components(), x)
        (u_xx, _), (_, u_yy) = self.grad(u_x, x), self.grad(u_y, x)
        return -u_xx - u_yy

    def bc_operator(self, w, x, n, mu):
        return w.get_components()

    def functional_operator(self, u, x, mu, theta):
        second = jacrev(jacrev(u, 0), 0)(x, mu, theta)[0]
        return -(second[0, 0] + second[1, 1])[None]

    def functional_operator_bc(self, u, x, n, mu, theta):
        return u(x, mu, theta)


def evolution(pde, fields: int, low: float, layers: list[int]):
    place = Segment1D((low, 1.0), is_main_domain=True)
    sampler = TensorizedSampler([UniformTimeSampler((0.0, 1.0)), DomainSampler(place), UniformParametricSampler([])])
    space = NNxtSpace(fields, 0, GenericMLP, place, sampler, layer_sizes=layers)
    solver = NaturalGradientTemporalPinns(pde(space), bc_type="weak", ic_type="weak", one_loss_by_equation=fields > 1)
    return space, solver


def poisson():
    place = Square2D([(0.0, 1.0), (0.0, 1.0)], is_main_domain=True)
    sampler = TensorizedSampler([DomainSampler(place), UniformParametricSampler([])])
    space = NNxSpace(1, 0, GenericMLP, place, sampler, layer_sizes=[64])
    return space, NaturalGradientPinnsElliptic(Poisson(space), bc_type="weak")


PROBLEMS = {
    1: lambda: evolution(Burgers, 1, -1.0, [20, 20]),
    6: lambda: evolution(Wave, 2, 0.0, [64]),
    11: poisson,
}


def solve(row: int, seconds: float, seed: int, now):
    """Steps for `seconds` of the clock `now`; gives the values `[n]` of u at points `[n, 2]`, columns as declared."""
    end = now() + seconds
    torch.manual_seed(seed)
    space, solver = PROBLEMS[row]()
    while now() < end:
        solver.solve(epochs=CHUNK, silent=True)

    def values(points):
        columns = torch.as_tensor(points)
        place = [columns] if row == 11 else [columns[:, :1], columns[:, 1:]]
        fields = space.evaluate(*map(LabelTensor, place), LabelTensor(columns[:, :0])).w
        return fields[:, 0].detach().numpy()

    return values
