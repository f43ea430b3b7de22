r"""VAEs whose codes flow: one latent-variable model of whole sequences of images, trained from scratch.

**Model.** A sequence x_0, ..., x_T goes along the transformation k. Its first code is standard normal, the next ones
follow from it, and every image is decoded from its own code by the same decoder:

$$z_0 \sim N(0, I), \qquad z_t = f_{k,t}(z_{t-1}) = z_{t-1} + v_k(z_{t-1}, t), \qquad x_t \sim p(x_t | z_t),$$

where $v_k = \nabla u_k$ for a potential. The transitions hold no noise, so $z_t = F_{k,t}(z_0)$ with
$F_{k,t} = f_{k,t} \circ \dots \circ f_{k,1}$, and z_0 is the only latent variable:

$$p(x_0, \dots, x_T | k) = \int N(z_0; 0, I) \prod_{t=0}^T p(x_t | F_{k,t}(z_0)) \, dz_0.$$

**The prior at time t** is the push-forward of the normal distribution. Where F is one to one,

$$\log \rho_{k,t}(z_t) = \log N(z_0; 0, I) - \sum_{s=1}^t \log |\det (I + D v_k(z_{s-1}, s))|, \qquad
  p(x_t | k) = \int \rho_{k,t}(z) \, p(x_t | z) \, dz,$$

so the likelihood of an image at t > 0 is well defined as well. For a potential $D v = \nabla^2 u$. Where
F is not one to one, the right side with one of the codes that lead to z_t is less than the density, and bounds from
below stay bounds. If neither k nor t is known, p(x) is the mean of N = 1 + K T such densities, and a mean is at least
each of its terms divided by N: $\log p(x) \ge \log p(x | k, t) - \log N$.

**Training.** With an encoder $q(z_0 | x_0) = N(m(x_0), \mathrm{diag}\, s^2(x_0))$ Jensen's inequality gives

$$\log p(x_0, \dots, x_T | k) \ge
  E_q \sum_{t=0}^T \log p(x_t | F_{k,t}(z_0)) - KL(q(z_0 | x_0) | N(0, I)).$$

No determinant appears, since the integral is over z_0, whose density is known: the determinants in the prior of z_t and
in the transported q cancel each other. Images at t > 0 need an encoder too when they come alone: q(z_t | x_t) is made
to cover the transported draws, $\max E \log q(F_{k,t}(z_0) | x_t)$, in which only the encoder is trained.

**Unknown index.** With q(k | x_0, x_T) and a uniform prior over k the bound is
$E_{q(k)} [\text{bound for } k] - KL(q(k | x_0, x_T) | 1 / K)$; `structured_training.py` has two ways to raise it.

Sources: Song, Keller, Sebe & Welling, Latent traversals in generative models as potential flows (ICML 2023), and Flow
factorized representation learning (NeurIPS 2023), for the task; Kingma & Welling (2014) for the bound.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pinnflow.errors import WrongShape
from pinnflow.latent.carried import CarriedPrior
from pinnflow.latent.generators.gate import in_range
from pinnflow.latent.index import IndexPosterior
from pinnflow.latent.inversion import nearby_fixed_points
from pinnflow.latent.sparse import SparsePosterior
from pinnflow.latent.transitions import Still
from pinnflow.latent.traversal import Flow, positive, standard_normal


class StructuredVAE(nn.Module):
    """A VAE and the transitions of its codes; see the head of this file for the model.

    Args:
        vae: encoder and decoder.
        flow: K transitions of its codes, walked at their own velocities.
        steps: T, the length that training sees.
        index: q(k | x_0, x_T), or that of several at once, where it was learned.
        prior: of z_0, or of every code where nothing moves; None: N(0, I).

    Attributes:
        history, stop: what training told.
    """

    def __init__(
        self,
        vae: Any,
        flow: Flow,
        steps: int,
        index: IndexPosterior | SparsePosterior | None = None,
        prior: CarriedPrior | None = None,
    ):
        super().__init__()
        if flow.latent_dim != vae.latent_dim:
            raise WrongShape(
                f"`flow` moves codes of {flow.latent_dim} dimensions; those of `vae` have {vae.latent_dim}"
            )
        self.vae, self.flow, self.steps, self.index = vae, flow, positive("steps", steps), index
        self.prior = prior
        self.field = getattr(flow, "field", None)  # so that its weights count as weights of the model
        self.history: list[dict[str, Any]] = []
        self.stop = ""

    @property
    def moves(self) -> bool:
        """Whether the images of a sequence have anything to do with each other."""
        return not isinstance(self.flow, Still)

    def path(self, z: Tensor, k: int | Tensor, steps: int | None = None) -> Tensor:
        """z_0, ..., z_T `[T + 1, n, d]`, differentiable, in the dtype of the flow.

        Args:
            z: z_0, `[n, d]`.
            k: the index, a number or whole numbers `[n]`; or weights `[n, K]` of the velocities.
            steps: T; by default the trained one.

        Raises:
            ValueError: no such index or number of steps.
            WrongShape: weights that are not `[n, K]`.
        """
        steps = self.steps if steps is None else steps
        if not isinstance(steps, Integral) or steps < 0:
            raise ValueError(f"`steps` is {steps!r}; it must be a whole number, 0 or more")
        path = [z.to(self.flow.dtype)]
        for t in range(1, steps + 1):
            path.append(path[-1] + self.velocity(path[-1], float(t), k))
        return torch.stack(path)

    def velocity(self, z: Tensor, t: float, k: int | Tensor) -> Tensor:
        """v_k, or the sum of all velocities with weights `[n, K]`: `[n, d]`."""
        if not (isinstance(k, Tensor) and k.dim() == 2):
            return self.flow.velocity(z, t, k)
        n, K = len(z), self.flow.potentials
        if k.shape != (n, K):
            raise WrongShape(f"weights {list(k.shape)} of the velocities; expected [{n}, {K}], a row for each code")
        every = self.flow.velocity(z.repeat_interleave(K, dim=0), t, torch.arange(K, device=z.device).repeat(n))
        return (k.to(z)[:, :, None] * every.unflatten(0, (n, K))).sum(dim=1)

    def images(self, z: Tensor, k: int | Tensor, steps: int | None = None) -> Tensor:
        """The sequences `[T + 1, n, c, h, w]` that begin at the codes z `[n, d]`: probabilities of light."""
        with torch.no_grad():
            return self.vae.decode(self.path(z, k, steps))

    def continued(self, first: Tensor, k: int | Tensor, steps: int | None = None) -> Tensor:
        """The sequences that go on from first images `[n, c, h, w]` along k: `[T + 1, n, c, h, w]`.

        Raises:
            DeclarationError: pixels that are not numbers in [0, 1].
        """
        in_range(first, self.vae.name)
        with torch.no_grad():
            return self.images(self.vae.encode(first)[0], k, steps)

    def log_prior(self, z: Tensor, k: int | Tensor, t: int) -> Tensor:
        """log of the density rho_{k,t} that the flow carries to codes z `[n, d]` after t steps, `[n]`.

        The steps are walked back by Newton's method and the determinants of all d x d Jacobians taken. -inf where no
        code was found that is carried to z.
        """
        z = self.flow.codes(z)
        k = self.flow.index(k, len(z))
        total, lost = torch.zeros_like(z[:, 0]), torch.zeros_like(z[:, 0], dtype=torch.bool)
        with torch.no_grad():
            for s in range(t, 0, -1):
                came_from = lambda x, end=z, s=s: end - self.flow.velocity(x, float(s), k)  # noqa: E731
                z, off = nearby_fixed_points(came_from, came_from(z))
                lost = lost | ~(off < 1e-6)
                total = total - self.log_determinant(z, k, float(s))
        return torch.where(lost, -torch.inf, self.log_first(z) + total)

    def log_first(self, z: Tensor) -> Tensor:
        """log of the prior density of z_0 `[n, d]`, `[n]`."""
        return standard_normal(z) if self.prior is None else self.prior.log_density(z)

    def log_determinant(self, z: Tensor, k: int | Tensor, t: float) -> Tensor:
        """log |det(I + D v_k(z, t))| of one step from z `[n, d]`, exact, `[n]`."""
        with torch.enable_grad():
            begin = z.detach().requires_grad_()
            end = begin + self.flow.velocity(begin, t, k)
            rows = [torch.autograd.grad(c.sum(), begin, retain_graph=True, allow_unused=True)[0] for c in end.unbind(1)]
        return torch.linalg.slogdet(torch.stack(rows, dim=1)).logabsdet

    def bound_terms(self, frames: Tensor, k: int | Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-log p(x_0, ..., x_T | z) for a draw of q(z_0 | x_0), KL(q | N(0, I)), and the path: nats, sequences `[n]`.

        Args:
            frames: `[T + 1, n, c, h, w]`.
            k: as for `path`.
            noise: of the draw, `[n, d]`.
        """
        z, divergence = self.drawn(frames[0], noise)
        path = self.path(z, k, len(frames) - 1)
        return self.missed(path, frames).sum(dim=0), divergence, path

    def drawn(self, first: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A draw of q(z_0 | x_0) by `noise` `[n, d]`, and KL(q | prior) `[n]`: of another prior than N(0, I) estimated.

        KL(q | prior) = KL(q | N) + E_q [log N - log prior], of which the draw estimates the second part without bias.
        """
        mean, log_variance = self.vae.encode(first)
        z = mean + torch.exp(0.5 * log_variance) * noise
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        if self.prior is not None:
            divergence = divergence + (standard_normal(z.double()) - self.prior.log_density(z)).to(z)
        return z, divergence

    def missed(self, codes: Tensor, images: Tensor) -> Tensor:
        """-log p(x | z) of Bernoulli pixels, `[...]`, for codes `[..., d]` and images `[..., c, h, w]`."""
        logits = self.vae.logits(codes)
        return binary_cross_entropy_with_logits(logits, images.to(logits), reduction="none").flatten(-3).sum(dim=-1)
