r"""Walks that raise properties: up the gradient, up the gradient with noise, and potentials learned for it.

A property is any differentiable callable of codes, `[n, d] -> [n]`; `ImageProperty` makes one of a callable of images,
`Surrogate` of one that has no derivatives. Field k of a flow belongs to row k of a matrix of weights over the
properties, f_k = sum_j w_kj f_j: one row for each property by default, one row of several for a weighted sum, and
`Chain` for one property after another.

Half of all short straight walks raise a property all the way, and a line along the regression of the property does
nearly as well as its gradient where the property is nearly linear: `metrics.compare_on_property` puts both controls
into every table.

Source: Wei et al., Navigating chemical space with latent flows (NeurIPS 2024), for the task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pinnflow.errors import NonFinite, NotApplicable, UnknownName, WrongShape
from pinnflow.latent.objectives import Objective
from pinnflow.latent.rendering import at_rest, images, own_device, own_dtype
from pinnflow.latent.traversal import Flow, positive, stated_dimension, unit

Property = Callable[[Tensor], Tensor]


class ImageProperty(nn.Module):
    """A property of images as one of codes: z -> f(G(z)), `[n]`.

    Args:
        of_images: f, maps images `[n, c, h, w]` to `[n]`; called in its weights' dtype, if it has weights.
        generator: G.
    """

    def __init__(self, of_images: Property, generator: Callable[[Tensor], Tensor]):
        super().__init__()
        self.of_images, self.generator = of_images, generator

    def forward(self, z: Tensor) -> Tensor:
        return self.of_images(_as_taken(self.of_images, images(self.generator, z)))


class GradientFlow(Flow):
    """v_k(z) = rate grad f_k(z), where f_k = sum_j w_kj f_j: each field climbs a weighted sum of properties.

    With a `step_length` the gradient counts by its direction alone; with `step_length=None` a step is `rate` times the
    gradient, which slows down near the top and so leaves the other properties and the density alone.

    Args:
        properties: one callable or several, each from codes `[n, d]` to `[n]`. Networks are called in evaluation mode
            and with fixed weights, so that what a walk does depends on no other walk of its batch.
        generator: for pictures of the walks; None where only codes are of interest.
        latent_dim: d; by default what the generator states.
        weights: `[K, P]`, a row for each field; by default a field for each property.
        rate: the step in units of the gradient.
        maximise: whether properties are raised; one answer for all or one for each.
        name: what tables call it.

    Raises:
        ValueError: properties, weights, rate or `maximise` make no sense.
        WrongShape: a property does not answer with one number for each code.
        NotApplicable: it answers without torch operations, or with whole numbers, and so has no gradient.
        NonFinite: the gradient of a property is no number; the message says which one.
    """

    def __init__(
        self,
        properties: Property | Sequence[Property],
        generator: Callable[[Tensor], Tensor] | None = None,
        latent_dim: int | None = None,
        *,
        weights: Sequence[Sequence[float]] | Sequence[float] | Tensor | None = None,
        rate: float = 0.1,
        maximise: bool | Sequence[bool] = True,
        name: str = "gradient",
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        self.properties = as_properties(properties)
        table = as_weights(weights, len(self.properties), maximise)
        super().__init__(
            generator, stated_dimension(generator, latent_dim), len(table), name=name, device=device, dtype=dtype
        )
        self.weights = table.to(device=self.device, dtype=self.dtype)
        self.rate = _above_zero("rate", rate)

    def values(self, z: Tensor) -> Tensor:
        """The properties of codes `[..., d]`, `[..., P]`, in the flow's dtype, without gradients."""
        rows = z.reshape(-1, self.latent_dim).to(self.device)
        with torch.no_grad():
            found = [_ask(one, j, rows).to(self.dtype) for j, one in enumerate(self.properties)]
        return torch.stack(found, dim=-1).unflatten(0, z.shape[:-1])

    def potential(self, z: Tensor, t: float | Tensor = 0.0, k: int | Tensor = 0) -> Tensor:
        """f_k(z), `[n]`, negative for what is to fall; the same at all times."""
        weights = self.weights[self.index(k, len(z))]
        # A property that no row asks for is left out: it may be expensive, or undefined here.
        wanted = [j for j in range(len(self.properties)) if bool((weights[:, j] != 0).any())]
        return sum(
            (weights[:, j] * _ask(self.properties[j], j, z).to(z.dtype) for j in wanted),
            start=torch.zeros_like(z[:, 0]),
        )

    def slope(self, z: Tensor, k: int | Tensor = 0) -> Tensor:
        """grad f_k(z), `[n, d]`; differentiable where gradients are enabled."""
        create = torch.is_grad_enabled()
        with torch.enable_grad():
            at = z if z.requires_grad else z.detach().requires_grad_()
            weights = self.weights[self.index(k, len(z))]
            total = torch.zeros_like(z)
            for j, one in enumerate(self.properties):
                if bool((weights[:, j] != 0).any()):
                    total = total + weights[:, j, None] * _gradient(one, j, at, create)
        return total

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """rate grad f_k(z), `[n, d]`."""
        return self.rate * self.slope(z, k)


class LangevinFlow(GradientFlow):
    r"""$z \leftarrow z + a (s \nabla f_k + w \nabla\log N(z; 0, I)) + \sqrt{2 a T}\, n$, with n ~ N(0, I).

    Overdamped Langevin dynamics by Euler-Maruyama: for small a the codes come to be distributed as
    exp((s f_k + w log N) / T). The direction s, 1 or -1, turns the properties alone, neither the prior nor the noise. A
    walk is the same for the same seed, and goes on (`start=...`) as if it had not been interrupted.

    Args:
        temperature: T >= 0 in the units of the property, or a function of the step number i = 1, 2, ... (annealing).
        prior: w >= 0, weight of the log-density of the standard normal, which keeps codes where the generator is good.
        seed: of the noise.
        properties, generator, latent_dim, weights, rate, maximise, name: as for `GradientFlow`; `rate` is a.
    """

    def __init__(
        self,
        properties: Property | Sequence[Property],
        generator: Callable[[Tensor], Tensor] | None = None,
        latent_dim: int | None = None,
        *,
        temperature: float | Callable[[int], float] = 1e-3,
        prior: float = 0.0,
        seed: int = 0,
        name: str = "langevin",
        **settings,
    ):
        super().__init__(properties, generator, latent_dim, name=name, **settings)
        if not callable(temperature):
            _not_negative("temperature", temperature)
        self.temperature, self.prior, self.seed = temperature, _not_negative("prior", prior), seed

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """The drift in direction 1, rate (grad f_k(z) - prior z), `[n, d]`, without noise."""
        return self.rate * (self.slope(z, k) - self.prior * z)

    def temperature_at(self, step: int) -> float:
        """T of step 1, 2, ..."""
        if not callable(self.temperature):
            return float(self.temperature)
        return _not_negative(f"temperature({step})", self.temperature(step))

    def traverse(
        self,
        z: Tensor,
        potential: int | Tensor = 0,
        steps: int = 6,
        step_length: float | None = None,
        direction: int | Tensor = 1,
        *,
        integrator: str = "euler",
        start: int = 0,
    ) -> Tensor:
        """A random walk of `steps` steps, `[steps + 1, n, d]` with z first.

        Args:
            step_length: of every step, drift and noise together, for comparison at the same length of path; None (the
                default here) for the dynamics themselves, the only ones with the stationary law of the class.
            z, potential, steps, direction, start: as for `Flow.traverse`.
            integrator: `euler`, no other.
        """
        if integrator != "euler":
            raise UnknownName("integrator for a walk with noise", integrator, ("euler",))
        z, k, sign = self._read(z, potential, steps, step_length, direction, integrator)
        path = [z]
        with torch.no_grad():
            for i in range(start + 1, start + steps + 1):
                z = path[-1]
                drift = self.rate * (sign * self.slope(z, k) - self.prior * z)
                step = drift + math.sqrt(2 * self.rate * self.temperature_at(i)) * self._noise(i, len(z))
                path.append(z + (step if step_length is None else step_length * unit(step)))
        return self._finite(torch.stack(path))

    def inverse(self, *args, **settings) -> Tensor:
        """Not defined: raises NotApplicable."""
        raise NotApplicable(
            f"a walk of `{self.name}` has noise and cannot be walked back; use `GradientFlow` for its drift alone"
        )

    def transported_log_density(self, *args, **settings) -> Tensor:
        """Not defined: raises NotApplicable."""
        raise NotApplicable(
            f"`{self.name}` has noise, so that a density is smoothed as well as carried along; "
            "use `GradientFlow` for its drift alone, or `log_density` for how usual the codes are"
        )

    def _noise(self, step, rows):
        # By the number of the step, so that a walk that is continued meets the noise it would have met.
        noise = np.random.default_rng((self.seed, step)).standard_normal((rows, self.latent_dim))
        return torch.from_numpy(noise).to(device=self.device, dtype=self.dtype)


class LinearPropertyFlow(GradientFlow):
    """v_k = rate a_k with a_k the regression of f_k on the code, f_k ~ a_k . z + b: a straight line, the control.

    Args:
        count: standard normal codes that the regression is made from.
        seed: of these codes.
        properties, generator, latent_dim, weights, rate, maximise, name: as for `GradientFlow`; the properties need no
            derivatives.
    """

    def __init__(self, properties, generator=None, latent_dim=None, *, count=2000, seed=0, name="linear", **settings):
        super().__init__(properties, generator, latent_dim, name=name, **settings)
        z = self.sample(positive("count", count), seed)
        values = finite(self.values(z), "the property")
        centred = values - values.mean(dim=0)
        slopes = torch.linalg.lstsq(z - z.mean(dim=0), centred).solution  # [d, P]
        self.directions = self.weights @ slopes.mT

    def slope(self, z: Tensor, k: int | Tensor = 0) -> Tensor:
        """a_k, `[n, d]`."""
        return self.directions[self.index(k, len(z))]


class Gain(Objective):
    """Minus what walk k gains of f_k from start to end, in units of the spread of f_k over standard normal codes.

    Trains potentials for a property: `PotentialFlow(generator, potentials=1, objectives=[Gain(f)])`.

    Args:
        properties: one callable or several, from codes `[n, d]` to `[n]`, differentiable.
        weight: as for all.
        weights: `[K, P]`, a row for each potential; by default a potential for each property.
        maximise: whether properties are raised; one answer for all or one for each.
    """

    name = "gain"

    def __init__(
        self,
        properties: Property | Sequence[Property],
        weight: float = 1.0,
        *,
        weights: Sequence[Sequence[float]] | Sequence[float] | Tensor | None = None,
        maximise: bool | Sequence[bool] = True,
    ):
        super().__init__(weight)
        # In a tuple, which is no part of the module: the properties are no weights of the training.
        self.properties = tuple(as_properties(properties))
        self.register_buffer("table", as_weights(weights, len(self.properties), maximise))
        self.table: Tensor

    def prepare(self, flow, generator):
        if len(self.table) != flow.potentials:
            raise ValueError(
                f"`Gain` has weights for {len(self.table)} potentials, and `{flow.name}` has {flow.potentials}; "
                f"give `weights` [{flow.potentials}, {len(self.properties)}], or `potentials={len(self.table)}`"
            )
        z = flow.sample(512, flow.seed)
        for j, one in enumerate(self.properties):
            _gradient(one, j, z[:8].detach().requires_grad_(), False)  # says so where there is none
        with torch.no_grad():
            spread = (finite(self._values(z), "the property") @ self.table.to(z).mT).std(dim=0)
        if not bool((spread > 0).all()):
            raise ValueError(f"property {int((spread <= 0).nonzero()[0])} is the same for all codes")
        self.table = self.table.to(z) / spread[:, None]

    def forward(self, walk):
        gained = self._values(walk.path[-1]) - self._values(walk.path[0])
        return -(walk.sign[:, 0] * (self.table.to(gained)[walk.k] * gained).sum(dim=1)).mean()

    def _values(self, z):
        return torch.stack([_ask(one, j, z).to(z.dtype) for j, one in enumerate(self.properties)], dim=1)


def as_properties(properties: Property | Sequence[Property]) -> list[Property]:
    """One property or several, as a list.

    Raises:
        ValueError: none, or something that cannot be called.
    """
    several = [properties] if callable(properties) else list(properties or ())
    if not several or not all(callable(one) for one in several):
        raise ValueError(
            f"`properties` is {properties!r}; expected a callable from codes [n, d] to [n], or a list of them"
        )
    return several


def as_weights(weights, properties: int, maximise: bool | Sequence[bool]) -> Tensor:
    """The weights `[K, P]` with minus signs for properties that ought to fall.

    Raises:
        ValueError: they are not numbers for each of the properties.
    """
    if isinstance(weights, str):
        raise ValueError(f"`weights` is {weights!r}; each row needs a finite weight for each of the properties")
    table = torch.eye(properties) if weights is None else torch.atleast_2d(torch.as_tensor(weights))
    table = table.to(torch.float64)
    if table.dim() != 2 or table.shape[1] != properties or not bool(torch.isfinite(table).all()):
        raise ValueError(
            f"`weights` has the shape {list(table.shape)}; each row needs a finite weight for each of the "
            f"{properties} properties"
        )
    up = list(maximise) if isinstance(maximise, Sequence) else [maximise] * properties
    if len(up) != properties or not all(isinstance(one, bool) for one in up):
        raise ValueError(f"`maximise` is {maximise!r}; it must be True or False, or one of them for each property")
    return table * torch.tensor([1.0 if one else -1.0 for one in up], dtype=torch.float64)


def _as_taken(function, x):
    """x where the weights of a function are and in their dtype; as it is for one without weights."""
    if isinstance(function, nn.Module) and any(p.is_floating_point() for p in function.parameters()):
        return x.to(device=own_device(function, x.device), dtype=own_dtype(function))
    return x


def _ask(one, j, z):
    """The property of each code, `[n]`."""
    taken = z if isinstance(one, ImageProperty) else _as_taken(one, z)
    try:
        with at_rest(one):
            answer = one(taken)
    except RuntimeError as trouble:
        if "requires grad" in str(trouble):
            raise NotApplicable(
                f"property {j} leaves torch and so has no gradient: {trouble} Write it in torch, or fit a `Surrogate` "
                "to it"
            ) from None
        trouble.add_note(f"It came from property {j}, asked with codes {list(z.shape)} of {z.dtype} on {z.device}.")
        raise
    if isinstance(answer, Tensor) and answer.shape == (len(z), 1):
        answer = answer[:, 0]
    if not isinstance(answer, Tensor) or answer.shape != (len(z),):
        found = list(answer.shape) if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
        raise WrongShape(
            f"property {j} answered {found} to codes {list(z.shape)}; expected a tensor with a number for each, "
            f"[{len(z)}]"
        )
    return answer.to(z.device)


def finite(values: Tensor, what: str) -> Tensor:
    """`values` `[n, ...]` themselves, if all of them are finite numbers.

    Raises:
        NonFinite: some are not; the message says in which row.
    """
    good = torch.isfinite(values.flatten(1) if values.dim() > 1 else values[:, None]).all(dim=1)
    if not bool(good.all()):
        row = int((~good).nonzero()[0])
        raise NonFinite(
            f"{what} is {values[row].tolist()} in row {row}, one of {int((~good).sum())} of {len(values)}; it must be "
            "a finite number for every code"
        )
    return values


def _gradient(one, j, z, create):
    """Gradient of property j by row, `[n, d]`."""
    value = _ask(one, j, z)
    if value.is_complex():
        raise NotApplicable(f"property {j} answers complex numbers, which have no order; take a real part of them")
    if not value.requires_grad:
        raise NotApplicable(
            f"property {j} does not depend on the code through torch operations, so it has no gradient; "
            "write it in torch, or fit a `Surrogate` to it"
        )
    g = torch.autograd.grad(value.sum(), z, create_graph=create)[0]
    if not bool(torch.isfinite(g).all()):
        row = int((~torch.isfinite(g)).any(dim=1).nonzero()[0])
        raise NonFinite(f"the gradient of property {j} is not finite in row {row}, where its value is {value[row]:.6g}")
    return g


def _above_zero(name, value):
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` is {value!r}; it must be a positive number")
    return float(value)


def _not_negative(name, value):
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
        raise ValueError(f"`{name}` is {value!r}; it must be a number >= 0")
    return float(value)
