"""A differentiable stand-in for a property that can only be evaluated: a network from codes to its values."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from pinnflow.errors import NonFinite, WrongShape
from pinnflow.latent.traversal import positive


class Surrogate(nn.Module):
    """f(z) by a network of two hidden layers, fitted to values of a property; called as `surrogate(z) -> [n]`.

    The answer is in the units of the property. A fifth of the codes is kept from the training.

    Args:
        codes: `[n, d]`.
        values: the property of each, `[n]`.
        hidden: width.
        iterations: steps of Adam with all the codes at once.
        decay: weight decay of Adam.
        seed: of weights and of the codes kept back.

    Attributes:
        determination: R^2 on the codes kept back: 1 for a perfect surrogate, 0 or less for one that knows nothing.

    Raises:
        WrongShape: codes and values do not belong together, or are fewer than ten.
        NonFinite: a code or a value is no number.
        ValueError: all values are the same.
    """

    def __init__(
        self,
        codes: Tensor,
        values: Tensor,
        *,
        hidden: int = 64,
        iterations: int = 400,
        decay: float = 1e-3,
        seed: int = 0,
    ):
        super().__init__()
        z, y = torch.as_tensor(codes).detach().double().cpu(), torch.as_tensor(values).detach().double().cpu()
        if z.dim() != 2 or y.shape != z.shape[:1] or len(z) < 10:
            raise WrongShape(
                f"found codes {list(z.shape)} and values {list(y.shape)}; expected [n, d] and [n], n >= 10"
            )
        for what, numbers in (("code", z), ("value of the property", y[:, None])):
            good = torch.isfinite(numbers).all(dim=1)
            if not bool(good.all()):
                raise NonFinite(f"the {what} in row {int((~good).nonzero()[0])} is not finite")
        if not float(y.max()) > float(y.min()):
            raise ValueError(f"the property is {float(y[0]):.6g} for all codes, so there is nothing to learn")
        positive("hidden", hidden)
        positive("iterations", iterations)
        noise = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(z), generator=noise)
        kept, used = order[: len(z) // 5], order[len(z) // 5 :]
        self.register_buffer("centre", y[used].mean())
        self.register_buffer("scale", y[used].std().clamp(min=1e-300))
        self.centre: Tensor
        self.scale: Tensor
        sizes = (z.shape[1], hidden, hidden, 1)
        layers = [nn.Linear(a, b, dtype=torch.float64) for a, b in pairwise(sizes)]
        with torch.no_grad():
            for layer in layers:
                draw = torch.randn(layer.weight.shape, generator=noise, dtype=torch.float64)
                layer.weight.copy_(draw / layer.in_features**0.5)
                layer.bias.zero_()
        self.layers = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
        self._train(z[used], (y[used] - self.centre) / self.scale, iterations, decay)
        self.eval().requires_grad_(False)
        spread = (y[kept] - y[kept].mean()).square().sum()
        self.determination = float(1 - (self(z[kept]) - y[kept]).square().sum() / spread.clamp(min=1e-300))

    def _train(self, z, y, iterations, decay):
        optimizer = torch.optim.AdamW(self.layers.parameters(), lr=1e-2, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
        with torch.enable_grad():
            for _ in range(iterations):
                loss = (self.layers(z)[:, 0] - y).square().mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()

    def forward(self, z: Tensor) -> Tensor:
        """The property of codes `[n, d]`, `[n]`."""
        d = self.layers[0].in_features
        if z.dim() != 2 or z.shape[1] != d:
            raise WrongShape(f"`z` has the shape {list(z.shape)}; the codes of this surrogate are [n, {d}]")
        z = z.to(self.centre.dtype)
        return self.centre + self.scale * self.layers(z)[:, 0]


def fit_surrogate(
    property: Callable[[Tensor], Tensor], latent_dim: int, *, count: int = 4000, seed: int = 0, **settings
) -> Surrogate:
    """A surrogate of a property at standard normal codes.

    Args:
        property: maps codes `[n, d]` to values `[n]`, or to something that becomes a tensor `[n]`; called once, without
            gradients.
        latent_dim: d.
        count: codes, of which four in five are trained on.
        seed: of codes, weights and of which codes are kept back.
        settings: of `Surrogate`.
    """
    noise = torch.Generator().manual_seed(seed)
    z = torch.randn(positive("count", count), latent_dim, generator=noise, dtype=torch.float64)
    with torch.no_grad():
        values = torch.as_tensor(property(z), dtype=torch.float64)
    return Surrogate(z, values, seed=seed, **settings)
