"""Flows and generators in closed form, small enough for tests, and rows of codes for flows with an equation."""

import torch

from pinnflow.latent.traversal import Flow


class Bowls(Flow):
    """u_k(z, t) = (k + 1) (z_0 t - |z|^2 / 4): its gradient pulls to a point that moves along the first axis."""

    def __init__(self, generator=None, latent_dim=3, potentials=2, name="bowls"):
        super().__init__(generator, latent_dim, potentials, name=name, device="cpu")

    def potential(self, z, t, k=0):
        return (self.index(k, len(z)) + 1) * (z[:, 0] * t - (z**2).sum(dim=1) / 4)

    def velocity(self, z, t, k=0):
        pull = -z / 2
        pull[:, 0] = pull[:, 0] + t
        return (self.index(k, len(z)) + 1)[:, None] * pull


class Patches:
    """Images whose four quarters have the brightness sigmoid(z_0), sigmoid(z_1), 1 - sigmoid(z_0), 0."""

    latent_dim = 3
    dtype = torch.float64

    def __init__(self, channels=1, side=4):
        self.channels, self.side = channels, side

    def __call__(self, z):
        p = torch.sigmoid(z)
        corners = torch.stack([p[:, 0], p[:, 1], 1 - p[:, 0], 0 * p[:, 0]], dim=1).reshape(-1, 1, 2, 2)
        grown = corners.repeat_interleave(self.side // 2, dim=2).repeat_interleave(self.side // 2, dim=3)
        weights = torch.linspace(1, 0.5, self.channels, dtype=z.dtype)[:, None, None]
        return grown * weights


def rows(flow, n=24, seed=3):
    """Codes, times along the equation's axis and potentials of n rows."""
    draw = torch.Generator().manual_seed(seed)
    t = flow.equation.horizon * torch.rand(n, generator=draw, dtype=torch.float64)
    return flow.sample(n, seed), t, torch.arange(n) % flow.potentials
