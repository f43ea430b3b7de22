"""Transitions that are simpler than potentials: codes that stay where they are, and codes that move linearly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pinnflow.errors import NonFinite, WrongShape
from pinnflow.latent.traversal import Flow


class Still(Flow):
    """v_k = 0: nothing moves."""

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """Zeros, `[n, d]`."""
        return torch.zeros_like(z)


class LinearField(nn.Module):
    """Matrices `[K, d, d]` and shifts `[K, d]`, small at first and different, or all K would learn the same."""

    def __init__(self, members: int, latent_dim: int, seed: int):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        shape = (members, latent_dim, latent_dim)
        self.matrices = nn.Parameter(0.03 * torch.randn(shape, generator=draw, dtype=torch.float64))
        self.shifts = nn.Parameter(0.1 * torch.randn(shape[:2], generator=draw, dtype=torch.float64))


class LinearTransition(Flow):
    """v_k(z, t) = A_k z + b_k, the same at all times: z_t = (I + A_k) z_{t-1} + b_k.

    The matrices are general ones: a rotation is possible, which no single step along a gradient is.

    Attributes:
        field: holds `matrices` `[K, d, d]` and `shifts` `[K, d]`, which are trained or set.
    """

    def __init__(
        self,
        generator,
        latent_dim: int,
        potentials: int,
        *,
        seed: int = 0,
        name: str = "linear transition",
        device=None,
    ):
        super().__init__(generator, latent_dim, potentials, name=name, device=device)
        self.field = LinearField(self.potentials, self.latent_dim, seed).to(self.device)

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """A_k z + b_k, `[n, d]`."""
        k = self.index(k, len(z))
        return torch.einsum("nij,nj->ni", self.field.matrices[k], z) + self.field.shifts[k]


def fit_linear_transition(codes: Tensor, labels: Tensor, generator=None, *, ridge: float = 1e-6) -> LinearTransition:
    r"""The linear transition nearest to paths of codes: $\min \sum |z_t - (I + A_k) z_{t-1} - b_k|^2$ for every k.

    Args:
        codes: `[T + 1, n, d]`, of the images x_0, ..., x_T of each sequence.
        labels: k, `[n]`.
        generator: of the flow that is made.
        ridge: keeps A_k small in directions in which the codes do not vary, relative to their mean square.

    Raises:
        WrongShape: not such codes and labels.
        NonFinite: a code is no number.
    """
    if codes.dim() != 3 or len(codes) < 2 or labels.shape != codes.shape[1:2]:
        raise WrongShape(
            f"codes {list(codes.shape)} and labels {list(labels.shape)}; expected [T + 1, n, d] with T >= 1, and [n]"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool or int(labels.min()) < 0:
        raise WrongShape(f"labels of {labels.dtype} from {labels.min()}; expected whole numbers from 0 on")
    if not bool(torch.isfinite(codes).all()):
        raise NonFinite("the codes hold NaN or infinite values; look at the encoder that they come from")
    codes = codes.detach().double()
    d, K = codes.shape[2], int(labels.max()) + 1
    flow = LinearTransition(generator, d, K, device=codes.device)
    for k in range(K):
        mine = codes[:, labels == k]
        before, after = mine[:-1].flatten(0, 1), mine[1:].flatten(0, 1)
        if not len(before):  # a transformation that does not occur: to stay
            before, after = codes.flatten(0, 1), codes.flatten(0, 1)
        known = torch.cat([before, torch.ones_like(before[:, :1])], dim=1)
        normal = known.mT @ known / len(known)
        normal += ridge * torch.diag(normal).mean() * torch.eye(d + 1, dtype=codes.dtype, device=codes.device)
        found = torch.linalg.solve(normal, known.mT @ (after - before) / len(known))  # [d + 1, d]
        with torch.no_grad():
            flow.field.matrices[k], flow.field.shifts[k] = found[:-1].mT, found[-1]
    return flow
