r"""A prior of codes that a flow has carried from the normal distribution, with its exact density.

$$e \sim N(0, I), \qquad z_0 = e, \quad z_s = z_{s-1} + \nabla u(z_s, s), \qquad
  \log \rho(z_S) = \log N(z_0; 0, I) + \sum_{s=1}^S \log \det (I - \nabla^2 u(z_s, s)).$$

The potential obeys the viscous Hamilton-Jacobi equation identically, as a smooth minimum of travelling planes, see
`pinnflow.exact_family`. A minimum of planes is concave: I - H is at least I, and z - grad u(z) is one to one and onto,
whatever the weights. So the steps are implicit ones, those of Euler backwards, which need no solving where a density is
asked for, and the density has mass 1.

Source: Huang, Chen, Tsirigotis & Courville, Convex potential flows (ICLR 2021), for densities by convex potentials.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pinnflow.errors import DeclarationError
from pinnflow.latent.flow import PotentialFlow
from pinnflow.latent.inversion import solve_fixed_points
from pinnflow.latent.traversal import positive, standard_normal

FIRST = 0.1  # of the usual momenta: the prior begins near N(0, I)


class CarriedPrior(nn.Module):
    """N(0, I) carried to codes along one viscous Hamilton-Jacobi potential.

    Args:
        latent_dim: d.
        steps: S.
        planes: how many the potential is the smooth minimum of.
        seed: of the first weights.

    Attributes:
        flow: the `PotentialFlow` of the potential.
    """

    def __init__(self, latent_dim: int, steps: int = 1, planes: int = 32, seed: int = 0):
        super().__init__()
        self.steps = positive("steps", steps)
        self.flow = PotentialFlow(
            None,
            latent_dim,
            1,
            "hamilton-jacobi",
            objectives=[],
            steps=steps,
            features=planes,
            seed=seed,
            device="cpu",
            name="carried prior",
        )
        self.field = self.flow.field  # so that its weights count
        if not getattr(self.field, "isotropic", False):
            raise DeclarationError("carried prior: the potential is no smooth minimum of planes; expected one.")

        with torch.no_grad():
            self.field.momenta.mul_(FIRST)

    def log_density(self, z: Tensor) -> Tensor:
        """log rho of codes `[n, d]`, `[n]`, differentiable, in float64."""
        e, determinants = self.origin(z)
        return standard_normal(e) + determinants

    def origin(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The normal codes that were carried to z `[n, d]`, and the sum of the logarithms of all determinants `[n]`."""
        z = z.to(self.flow.dtype)
        total, eye = torch.zeros_like(z[:, 0]), torch.eye(z.shape[1], dtype=z.dtype)
        for s in range(self.steps, 0, -1):
            slope, curvature = self.derivatives(z, float(s))
            # I - H is symmetric and at least I.
            root = torch.linalg.cholesky(eye - curvature)
            total = total + 2 * torch.diagonal(root, dim1=1, dim2=2).log().sum(dim=1)
            z = z - slope
        return z, total

    def derivatives(self, z: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """grad u `[n, d]` and the Hessian `[n, d, d]` of u at codes `[n, d]`, in closed form.

        With the shares w_j = softmax(-kappa plane_j) of the planes, grad u = sum_j w_j p_j is the mean of the momenta,
        and the Hessian is -kappa times their covariance.
        """
        p, kappa = self.field.momenta[0], self.field.kappa  # [f, d]
        height = kappa * self.field.diffusion[0, 0] * p.square().sum(dim=1)
        planes = (z - self.field.center) @ p.mT + self.field.offsets[0] - height * (t - self.field.start)
        w = torch.softmax(-kappa * planes, dim=1)  # [n, f]
        slope = w @ p
        square = (w @ (p[:, :, None] * p[:, None, :]).flatten(1)).unflatten(1, (p.shape[1],) * 2)
        return slope, -kappa * (square - slope[:, :, None] * slope[:, None, :])

    def sample(self, rows: int, seed: int = 0) -> Tensor:
        """Draws `[rows, d]`: every step is solved for."""
        z = self.flow.sample(rows, seed)
        with torch.no_grad():
            for s in range(1, self.steps + 1):
                z = solve_fixed_points(self._backwards(z, float(s)), z)
        return z

    def _backwards(self, start: Tensor, t: float) -> Callable[[Tensor], Tensor]:
        """x -> start + grad u(x, t), whose fixed points are where a step leads to."""
        return lambda x: start + self.derivatives(x, t)[0]
