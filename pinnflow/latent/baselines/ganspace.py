"""GANSpace: principal components of what a generator computes, and the directions of codes that move along them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pinnflow.errors import NonFinite, UnknownName
from pinnflow.latent.baselines.linear import LinearFlow, needed
from pinnflow.latent.baselines.registry import register_baseline
from pinnflow.latent.rendering import images


@register_baseline("ganspace")
class GANSpace(LinearFlow):
    """Directions n_k = sum_i s_ik z_i / |...|, s_ik the score of sample i on the k-th principal component.

    Components are those of the images, or with `layer` of a module's output; codes are regressed on the scores, as
    the method does for generators whose intermediate layers cannot be moved directly. The directions are unit vectors,
    but not orthogonal. A component that is an even function of every code has a direction of noise.

    Args: as for `LinearFlow`.
        layer: name of a module of the generator; None takes the images.
        samples: codes that are rendered. Their outputs are held in memory together.

    Raises:
        UnknownName: the generator has no such layer.

    Source: Harkonen, Hertzmann, Lehtinen & Paris, GANSpace, NeurIPS 2020.
    """

    orthonormal = False

    def __init__(
        self,
        generator: Callable[[Tensor], Tensor],
        latent_dim: int | None = None,
        potentials: int = 5,
        *,
        layer: str | None = None,
        samples: int = 1000,
        **settings,
    ):
        super().__init__(generator, latent_dim, potentials, **settings)
        self.layer, self.samples = layer, max(samples, 2 * potentials)

    def fit(self, **settings) -> GANSpace:
        """Finds the directions."""
        z = self.sample(self.samples, self.seed)
        outputs = self._outputs(z)
        if not bool(torch.isfinite(outputs).all()):
            raise NonFinite(f"the outputs of {self.layer or 'the generator'} are not finite")
        scores = principal_scores(outputs, self.potentials)
        self._keep(scores.T @ (z - z.mean(dim=0)).to(scores))
        return self

    def _outputs(self, z):
        """What is analysed, `[n, m]`."""
        generator = needed(self.generator, self.name)
        if self.layer is None:
            with torch.no_grad():
                return torch.cat([images(generator, part).flatten(1) for part in z.split(256)])
        modules = dict(generator.named_modules()) if isinstance(generator, nn.Module) else {}
        if self.layer not in modules:
            raise UnknownName("layer of the generator", self.layer, [name for name in modules if name])
        caught = []
        handle = modules[self.layer].register_forward_hook(lambda module, given, out: caught.append(out.flatten(1)))
        try:
            with torch.no_grad():
                for part in z.split(256):
                    images(generator, part)
        finally:
            handle.remove()
        return torch.cat(caught)


def principal_scores(samples: Tensor, count: int) -> Tensor:
    """Scores of samples `[n, m]` on their `count` leading principal components, `[n, count]` with columns of norm 1.

    From the smaller of the matrices n x n and m x m, in float64.
    """
    centred = samples.double() - samples.double().mean(dim=0)
    n, m = centred.shape
    if n <= m:
        return torch.linalg.eigh(centred @ centred.T).eigenvectors.flip(1)[:, :count]
    scores = centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :count]
    return scores / torch.linalg.vector_norm(scores, dim=0).clamp_min(torch.finfo(scores.dtype).tiny)
