"""Fields that are trained as potential flows are, for the same objectives, but obey no equation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pinnflow.latent.baselines.registry import register_baseline
from pinnflow.latent.objectives import Classifier, Objective, Reconstruction, Spread
from pinnflow.latent.potentials import RadialPotentials, StackedNetwork, scale_slopes
from pinnflow.latent.training import TrainedFlow
from pinnflow.latent.traversal import stated_dimension


class LearnedFlow(TrainedFlow):
    """Fields with weights and no equation; a subclass makes the module and the velocity.

    Args:
        generator: maps codes `[n, d]` to images `[n, c, h, w]`.
        latent_dim: d; by default the generator's attribute.
        potentials: K.
        objectives: by default `Classifier()` and `Spread()`, as for `PotentialFlow`.
        seed: of the first weights and of the training.
        hidden: width of networks, or the number of hills of a radial potential.
        **settings: of `TrainedFlow`.
    """

    first_rate = 1e-2
    first_objectives: tuple[type[Objective], ...] = (Classifier, Spread)

    def __init__(
        self,
        generator: Callable[[Tensor], Tensor],
        latent_dim: int | None = None,
        potentials: int = 5,
        *,
        objectives: Sequence[Objective] | None = None,
        seed: int = 0,
        hidden: int = 64,
        **settings,
    ):
        latent_dim = stated_dimension(generator, latent_dim)
        settings = {"rate": self.first_rate, **settings}
        objectives = [one() for one in self.first_objectives] if objectives is None else objectives
        super().__init__(generator, latent_dim, potentials, objectives=objectives, seed=seed, **settings)
        self.field = self.make_field(hidden, torch.Generator().manual_seed(seed))
        self.place_weights()

    def make_field(self, hidden: int, generator: torch.Generator) -> nn.Module:
        """The module that holds the weights."""
        raise NotImplementedError

    def _points(self, z, t):
        t = torch.as_tensor(t, dtype=z.dtype, device=z.device).expand(len(z))[:, None]
        return torch.cat([t, z], dim=1)

    def _gradient(self, module, z, t, k):
        create = torch.is_grad_enabled()
        with torch.enable_grad():
            at = z if z.requires_grad else z.detach().requires_grad_()
            value = module(self._points(at, t), k)
            return torch.autograd.grad(value.sum(), at, create_graph=create)[0]


@register_baseline("linear")
class LearnedDirections(LearnedFlow):
    """v_k = a_k, K directions trained for the same objectives as potentials are."""

    def make_field(self, hidden, generator):
        return _Directions(self.potentials, self.latent_dim, generator)

    def velocity(self, z, t, k=0):
        return self.field.weight[self.index(k, len(z))].expand(len(z), -1)

    @torch.no_grad()
    def scale_velocity(self, factor: float) -> bool:
        """Multiplies the directions by a factor."""
        self.field.weight.mul_(factor)
        return True

    def potential(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """a_k . z, `[n]`."""
        return (z * self.velocity(z, t, k)).sum(dim=1)


@register_baseline("linear-classifier")
class LinearClassifierFlow(LearnedDirections):
    """v_k = a_k, K directions trained for the objective they were published with, `Reconstruction`.

    Source: Voynov & Babenko, Unsupervised Discovery of Interpretable Directions in the GAN Latent Space (ICML 2020).
    """

    first_objectives = (Reconstruction,)


class _Directions(nn.Module):
    def __init__(self, potentials, latent_dim, generator):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(potentials, latent_dim, generator=generator, dtype=torch.float64))


@register_baseline("rbf")
class RadialFlow(LearnedFlow):
    """v_k = grad u_k of K sums of Gaussian hills.

    Source: Tzelepis, Tzimiropoulos & Patras, WarpedGANSpace (ICCV 2021).
    """

    def make_field(self, hidden, generator):
        return RadialPotentials(self.potentials, self.latent_dim, hidden, generator)

    def velocity(self, z, t, k=0):
        return self._gradient(self.field, z, t, self.index(k, len(z)))

    def potential(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """u_k(z), `[n]`."""
        return self.field(self._points(z, t), self.index(k, len(z)))[:, 0]


@register_baseline("free")
class FreeFlow(LearnedFlow):
    """v_k is a network of its own, no gradient of anything."""

    matching_share = 0.3  # with the whole rate its raw walks of 4 steps diverge (warped generator, error 2.1)

    def make_field(self, hidden, generator):
        return StackedNetwork(self.potentials, self.latent_dim + 1, self.latent_dim, hidden, generator, scale=0.1)

    def velocity(self, z, t, k=0):
        return self.field(self._points(z, t), self.index(k, len(z)))


@register_baseline("divergence-free")
class DivergenceFreeFlow(LearnedFlow):
    """v_k = S_k grad psi_k with an antisymmetric S_k: exactly divergence-free, so raw steps preserve volume."""

    def make_field(self, hidden, generator):
        return _Turned(self.potentials, self.latent_dim, hidden, generator)

    def scale_velocity(self, factor: float) -> bool:
        """Multiplies the stream functions by a factor."""
        return scale_slopes(self.field.stream, factor)

    def velocity(self, z, t, k=0):
        k = self.index(k, len(z))
        return self.field.turn(self._gradient(self.field.stream, z, t, k), k)


@register_baseline("helmholtz")
class HelmholtzFlow(LearnedFlow):
    """v_k = grad u_k + S_k grad psi_k: a curl-free and a divergence-free part."""

    def make_field(self, hidden, generator):
        parts = _Turned(self.potentials, self.latent_dim, hidden, generator)
        parts.potential = StackedNetwork(self.potentials, self.latent_dim + 1, 1, hidden, generator)
        return parts

    def scale_velocity(self, factor: float) -> bool:
        """Multiplies both parts by a factor."""
        return scale_slopes(self.field.stream, factor) and scale_slopes(self.field.potential, factor)

    def velocity(self, z, t, k=0):
        k = self.index(k, len(z))
        turned = self.field.turn(self._gradient(self.field.stream, z, t, k), k)
        return turned + self._gradient(self.field.potential, z, t, k)

    def potential(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """u_k(z, t) of the curl-free part, `[n]`."""
        return self.field.potential(self._points(z, t), self.index(k, len(z)))[:, 0]


class _Turned(nn.Module):
    """Stream functions psi_k and the antisymmetric matrices that turn their gradients."""

    def __init__(self, potentials, latent_dim, hidden, generator):
        super().__init__()
        self.stream = StackedNetwork(potentials, latent_dim + 1, 1, hidden, generator)
        draw = torch.randn(potentials, latent_dim, latent_dim, generator=generator, dtype=torch.float64)
        self.matrix = nn.Parameter(draw / latent_dim**0.5)

    def turn(self, gradient: Tensor, k: Tensor) -> Tensor:
        """S_k g by row."""
        matrix = self.matrix[k]
        return torch.matmul(matrix - matrix.mT, gradient[:, :, None])[:, :, 0]
