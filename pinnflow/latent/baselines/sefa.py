"""SeFa: the directions along which a generator, or its first layer, amplifies codes the most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pinnflow.errors import NotApplicable, UnknownName
from pinnflow.latent.baselines.jacobian import leading_eigenvectors, leading_pullback, mean_pullback
from pinnflow.latent.baselines.linear import LinearFlow, needed
from pinnflow.latent.baselines.registry import register_baseline
from pinnflow.latent.rendering import images

FORMS = ("auto", "weights", "jacobian", "randomised")
LARGEST_EXACT = 256  # dimensions up to which the d x d matrix is formed


@register_baseline("sefa")
class SeFa(LinearFlow):
    """Leading eigenvectors of A^T A (A: the weights of the first layer), or of the mean of J^T J.

    | form | matrix |
    |---|---|
    | `weights` | A^T A of the layer that takes the code in: `nn.Linear` or `nn.ConvTranspose2d` |
    | `jacobian` | mean of J(z)^T J(z) over codes, by forward mode: needs no layer, any callable will do |
    | `randomised` | the same by subspace iteration, for hundreds of dimensions |
    | `auto` | `weights` where there is such a layer, else `jacobian` up to 256 dimensions, else `randomised` |

    Args: as for `LinearFlow`.
        form: one of the above; `form_used` says what `auto` became.
        layers: names of modules whose weights are stacked to A, instead of the first layer.
        samples: codes over which the mean is taken; by default 1024, and in many dimensions fewer (32 from 512 on).

    Raises:
        UnknownName: no such form or layer.

    Source: Shen & Zhou, Closed-form factorization of latent semantics in GANs, CVPR 2021 (the form `weights`).
    """

    def __init__(
        self,
        generator: Callable[[Tensor], Tensor],
        latent_dim: int | None = None,
        potentials: int = 5,
        *,
        form: str = "auto",
        layers: Sequence[str] | None = None,
        samples: int | None = None,
        **settings,
    ):
        super().__init__(generator, latent_dim, potentials, **settings)
        if form not in FORMS:
            raise UnknownName("form of SeFa", form, FORMS)
        self.form, self.layers = form, layers
        # A code costs d derivatives of an image, and each tells about d directions.
        self.samples = samples or min(1024, max(32, 16_384 // self.latent_dim))
        self.form_used: str | None = None

    def fit(self, **settings) -> SeFa:
        """Finds the directions, the strongest first."""
        generator = needed(self.generator, self.name)
        weights = self._weights() if self.form in ("auto", "weights") else None
        if weights is not None:
            self.form_used = "weights"
            rows = leading_eigenvectors(weights.T @ weights, self.potentials)
        elif self.form == "weights":
            raise NotApplicable(
                f"the generator of `{self.name}` has no linear layer that takes codes of {self.latent_dim} numbers in; "
                'write `form="jacobian"`, or name the `layers`'
            )
        elif self.form == "jacobian" or (self.form == "auto" and self.latent_dim <= LARGEST_EXACT):
            self.form_used = "jacobian"
            z = self.sample(self.samples, self.seed)
            rows = leading_eigenvectors(mean_pullback(generator, z), self.potentials)
        else:
            self.form_used = "randomised"
            z = self.sample(self.samples, self.seed)
            noise = torch.Generator().manual_seed(self.seed)
            rows = leading_pullback(generator, z, self.potentials, noise)
        self._keep(rows)
        return self

    def _weights(self):
        """A as `[outputs, d]` in float64, None where no layer takes the code in."""
        if not isinstance(self.generator, nn.Module):
            return None
        modules = dict(self.generator.named_modules())
        if self.layers is not None:
            matrices = [self._named(modules, name) for name in self.layers]
        else:
            first = _first_layer(self.generator, modules.values(), self.sample(2, self.seed))
            matrices = [] if first is None else [_matrix(first)]
        return torch.cat(matrices).to(self.device) if matrices else None

    def _named(self, modules, name):
        usable = [n for n, m in modules.items() if _inputs(m) == self.latent_dim]
        if name not in usable:
            raise UnknownName(f"layer that takes {self.latent_dim} numbers in", name, usable)
        return _matrix(modules[name])


def _inputs(module):
    if isinstance(module, nn.Linear):
        return module.in_features
    return module.in_channels if isinstance(module, nn.ConvTranspose2d) and module.groups == 1 else None


def _matrix(module):
    """Weights as `[outputs, inputs]`."""
    weight = module.weight.detach().double()
    return weight if isinstance(module, nn.Linear) else weight.flatten(1).T


def _first_layer(generator, modules, z):
    """The first layer that is called with the d numbers of each code, in the order of the calculation."""
    called = []

    def note(module, arguments):
        if arguments and arguments[0].numel() == z.numel():
            called.append(module)

    handles = [m.register_forward_pre_hook(note) for m in modules if _inputs(m) == z.shape[1]]
    try:
        with torch.no_grad():
            images(generator, z)
    finally:
        for handle in handles:
            handle.remove()
    return called[0] if called else None
