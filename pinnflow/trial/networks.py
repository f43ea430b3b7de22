"""Networks as trial functions: built from a description and a generator, in problem units on the outside.

Each class of `NETWORKS` is an `nn.Module` that maps points `[n, inputs]` to values `[n, outputs]`. Its `config` is a
dict of numbers, strings and lists that describes it completely but for the weights, so `make_network(**config)` builds
it again without any code of the user's. Between the user's units and the network stand a `Frame`, which maps the box to
[-1, 1] and embeds periodic axes, and an affine map of the values. `NetworkTrial` is the form that solutions keep.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pinnflow.compiler.derivatives import Request, partial_derivatives
from pinnflow.compiler.jets import MissingRule
from pinnflow.compiler.reference import nested_reverse
from pinnflow.errors import NotYet, UnknownName
from pinnflow.trial.registry import register_trial

NETWORKS: dict[str, Callable[..., nn.Module]] = {}
"""`{name: class}`."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "sigmoid": torch.sigmoid,
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "softplus": nn.functional.softplus,
}
"""Smooth functions between layers; each has an entry in `compiler/chains.py`."""


def network(name: str):
    """Enters a class into `NETWORKS`."""

    def enter(made):
        NETWORKS[name] = made
        made.name = name
        return made

    return enter


def make_network(name: str, **config) -> nn.Module:
    """The network `name` with the settings `config`, in float64 unless `dtype` says otherwise.

    Common settings are `inputs`, `outputs`, `width`, `depth` (hidden layers), `activation`, `bounds`
    (`[(low, high), ...]` per input: what becomes [-1, 1]), `periodic` (numbers of periodic inputs), `harmonics` (sines
    and cosines per periodic input), `scale` and `shift` (per output: values are scale y + shift), `dtype` (`"float32"`
    or `"float64"`), `factorised` (weights of all but the last layer as products, see `FactorisedLinear`), and
    `generator` or `seed` for the weights.

    Raises:
        UnknownName: there is no such network.
    """
    if name not in NETWORKS:
        raise UnknownName("network", name, NETWORKS)
    return NETWORKS[name](**config)


class Frame(nn.Module):
    """Points in problem units to network inputs: the box to [-1, 1], exactly; periodic axes to sines and cosines.

    An axis x with period L = high - low becomes cos and sin of 2 pi k (x - low)/L, k = 1, ..., harmonics: every
    function of these is periodic with all derivatives.
    """

    centre: Tensor
    half_length: Tensor
    turns: Tensor

    def __init__(self, inputs: int, bounds, periodic: Sequence[int], harmonics: int, dtype: torch.dtype):
        super().__init__()
        bounds = [(-1.0, 1.0)] * inputs if bounds is None else [(float(a), float(b)) for a, b in bounds]
        finite = [(a, b) if b > a and math.isfinite(b - a) else (-1.0, 1.0) for a, b in bounds]
        self.register_buffer("centre", torch.tensor([(a + b) / 2 for a, b in finite], dtype=dtype))
        self.register_buffer("half_length", torch.tensor([(b - a) / 2 for a, b in finite], dtype=dtype))
        # Half a turn per unit of the scaled axis, which is 2 long.
        self.register_buffer("turns", math.pi * torch.arange(1, harmonics + 1, dtype=dtype))
        self.periodic = tuple(periodic)
        self.plain = tuple(i for i in range(inputs) if i not in self.periodic)
        self.width = len(self.plain) + 2 * harmonics * len(self.periodic)

    def forward(self, points: Tensor) -> Tensor:
        """`[n, inputs]` to `[n, width]`."""
        scaled = (points - self.centre) / self.half_length
        if not self.periodic:
            return scaled
        pieces = [scaled[:, i : i + 1] for i in self.plain]
        for i in self.periodic:
            angle = (scaled[:, i : i + 1] + 1) * self.turns
            pieces += [torch.cos(angle), torch.sin(angle)]
        return torch.cat(pieces, dim=-1)


class Network(nn.Module):
    """What all networks share: frame, scaling of the values, description.

    Subclasses build their layers in `build` and compute `[n, frame.width] -> [n, outputs]` in `inner`.
    """

    name: str
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int = 1,
        *,
        width: int = 64,
        depth: int = 4,
        activation: str = "tanh",
        bounds: Sequence[tuple[float, float]] | None = None,
        periodic: Sequence[int] = (),
        harmonics: int = 1,
        scale: Sequence[float] | float = 1.0,
        shift: Sequence[float] | float = 0.0,
        dtype: str | torch.dtype = "float64",
        factorised: bool = False,
        seed: int = 0,
        generator: torch.Generator | None = None,
        **special,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UnknownName("activation", activation, ACTIVATIONS)
        self.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        self.inputs, self.outputs, self.width, self.depth = inputs, outputs, width, depth
        self.activation_name = activation
        self._special = special
        self.frame = Frame(inputs, bounds, periodic, harmonics, self.dtype)
        self.register_buffer("scale", _per_output(scale, outputs, self.dtype))
        self.register_buffer("shift", _per_output(shift, outputs, self.dtype))
        self._bounds = None if bounds is None else [[float(a), float(b)] for a, b in bounds]
        self._harmonics = harmonics
        # The weights come from this generator alone, whatever the global one is.
        generator = generator or torch.Generator().manual_seed(seed)
        self.build(generator, **special)
        self._factorised = factorised
        if factorised:
            _factorise(self, generator)

    @property
    def config(self) -> dict:
        """Everything but the weights: `make_network(**config)` with `load_state_dict` gives the same function."""
        return {
            "name": self.name,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "width": self.width,
            "depth": self.depth,
            "activation": self.activation_name,
            "bounds": self._bounds,
            "periodic": list(self.frame.periodic),
            "harmonics": self._harmonics,
            "scale": self.scale.tolist(),
            "shift": self.shift.tolist(),
            "dtype": str(self.dtype).removeprefix("torch."),
            **({"factorised": True} if self._factorised else {}),
            **self._special,
        }

    def activation(self, z: Tensor) -> Tensor:
        """The function between layers."""
        return ACTIVATIONS[self.activation_name](z)

    def forward(self, points: Tensor) -> Tensor:
        """Values `[n, outputs]` in problem units at points `[n, inputs]` in problem units."""
        return self.inner(self.frame(points)) * self.scale + self.shift

    def build(self, generator: torch.Generator):
        """Makes the layers."""
        raise NotImplementedError

    def inner(self, z: Tensor) -> Tensor:
        """The network proper, on scaled inputs."""
        raise NotImplementedError

    def linear(self, inputs: int, outputs: int, generator: torch.Generator, bound: float | None = None) -> nn.Linear:
        """A layer with Glorot-uniform weights (or uniform in +-bound) and zero bias, from the generator."""
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=self.dtype)
        bound = math.sqrt(6 / (inputs + outputs)) if bound is None else bound
        with torch.no_grad():
            layer.weight.copy_(_uniform(layer.weight.shape, bound, generator))
            layer.bias.zero_()
        return layer

    def stack(self, inputs: int, generator: torch.Generator) -> nn.ModuleList:
        """`depth` hidden layers and the last one."""
        sizes = [inputs, *[self.width] * self.depth, self.outputs]
        return nn.ModuleList(self.linear(a, b, generator) for a, b in itertools.pairwise(sizes))

    def through(self, layers: nn.ModuleList, z: Tensor) -> Tensor:
        """`layers` with the activation between them."""
        for layer in layers[:-1]:
            z = self.activation(layer(z))
        return layers[-1](z)


class FactorisedLinear(nn.Linear):
    """A layer whose weights are diag(exp(s)) V: `s [out_features]` and V, called `weight`, are trained.

    Each neuron learns its own step: the same function lies further from the start in some neurons and nearer in others.

    Source: Wang, Wang, Seidman & Perdikaris, Random weight factorization improves the training of continuous neural
    representations, arXiv:2210.01274, eqs. (3.1) to (3.3) and (5.1): s is normal with mean 1 and deviation 0.1.
    """

    def __init__(self, layer: nn.Linear, generator: torch.Generator, mean: float = 1.0, deviation: float = 0.1):
        """The same function as `layer`."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        draws = torch.randn(layer.out_features, generator=generator, dtype=torch.float64)
        self.s = nn.Parameter((mean + deviation * draws).to(layer.weight.dtype))
        self.weight = nn.Parameter(layer.weight.detach() / self.s.detach().exp()[:, None])
        self.bias = layer.bias

    def forward(self, z: Tensor) -> Tensor:
        """`[n, in_features]` to `[n, out_features]`."""
        return nn.functional.linear(z, torch.exp(self.s)[:, None] * self.weight, self.bias)


@network("mlp")
class MLP(Network):
    """Fully connected layers with an activation between them."""

    def build(self, generator):
        """`depth` hidden layers of `width`."""
        self.layers = self.stack(self.frame.width, generator)

    def inner(self, z):
        """[n, frame.width] -> [n, outputs]."""
        return self.through(self.layers, z)


@network("fourier")
class FourierFeatureMLP(Network):
    """An MLP on cos(B z), sin(B z) with a fixed Gaussian matrix B of `frequencies` rows and spread `spread`.

    `spread` is in radians per half length of an axis: about the largest frequency that is resolved early.

    Source: Tancik et al., Fourier features let networks learn high frequency functions, NeurIPS 2020.
    """

    frequencies: Tensor

    def build(self, generator, frequencies=32, spread=math.pi):
        """B as a buffer, then the layers."""
        self._special = {"frequencies": frequencies, "spread": spread}
        matrix = torch.randn(self.frame.width, frequencies, generator=generator, dtype=torch.float64) * spread
        self.register_buffer("frequencies", matrix.to(self.dtype))
        self.layers = self.stack(2 * frequencies, generator)

    def inner(self, z):
        """[n, frame.width] -> [n, outputs]."""
        angle = z @ self.frequencies
        return self.through(self.layers, torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1))


@network("modified mlp")
class ModifiedMLP(Network):
    """An MLP whose layers mix two encodings of the input: h <- h U + (1 - h) V.

    Source: Wang, Teng & Perdikaris, Understanding and mitigating gradient flow pathologies in physics-informed neural
    networks, SIAM J. Sci. Comput. 43 (2021), eqs. (45) to (49).
    """

    def build(self, generator):
        """Two encoders and the layers."""
        self.first = self.linear(self.frame.width, self.width, generator)
        self.second = self.linear(self.frame.width, self.width, generator)
        self.layers = self.stack(self.frame.width, generator)

    def inner(self, z):
        """[n, frame.width] -> [n, outputs]."""
        u, v = self.activation(self.first(z)), self.activation(self.second(z))
        for layer in self.layers[:-1]:
            z = self.activation(layer(z))
            z = v + z * (u - v)
        return self.layers[-1](z)


@network("siren")
class SIREN(Network):
    """Sine layers sin(frequency (W z + b)) in the first layer, sin(W z + b) after it, with the matching initialisation.

    The usual factor is folded into the weights of the hidden layers, where it only rescales the learning rate.

    Source: Sitzmann et al., Implicit neural representations with periodic activation functions, NeurIPS 2020, sec. 3.2.
    """

    def build(self, generator, frequency=10.0):
        """The first layer uniform in +-frequency/inputs, the others in +-sqrt(6/width)."""
        self._special = {"frequency": frequency}
        self.activation_name = "sin"
        sizes = [self.frame.width, *[self.width] * self.depth, self.outputs]
        bounds = [frequency / sizes[0], *(math.sqrt(6 / size) for size in sizes[1:-1])]
        self.layers = nn.ModuleList(
            self.linear(a, b, generator, bound) for a, b, bound in zip(sizes[:-1], sizes[1:], bounds, strict=True)
        )
        with torch.no_grad():  # phases spread over a turn, or all first-layer sines would be odd
            self.layers[0].bias.copy_(_uniform(self.layers[0].bias.shape, math.pi, generator))

    def inner(self, z):
        """[n, frame.width] -> [n, outputs]."""
        return self.through(self.layers, z)


@network("pirate")
class PirateNet(Network):
    """Residual blocks with a trainable gate that starts closed: the network starts shallow and deepens while training.

    `depth` counts blocks of three layers each.

    Source: Wang, Li, Chen & Perdikaris, PirateNets: physics-informed deep learning with residual adaptive networks,
    JMLR 25 (2024), eqs. (4.1) to (4.7); without the random Fourier embedding; `factorised` adds their weights.
    """

    def build(self, generator):
        """Two encoders, the blocks, their gates, and the last layer."""
        self.first = self.linear(self.frame.width, self.width, generator)
        self.second = self.linear(self.frame.width, self.width, generator)
        self.entry = self.linear(self.frame.width, self.width, generator)
        self.blocks = nn.ModuleList(
            nn.ModuleList(self.linear(self.width, self.width, generator) for _ in range(3)) for _ in range(self.depth)
        )
        self.gates = nn.Parameter(torch.zeros(self.depth, dtype=self.dtype))
        self.last = self.linear(self.width, self.outputs, generator)

    def inner(self, z):
        """[n, frame.width] -> [n, outputs]."""
        u, v = self.activation(self.first(z)), self.activation(self.second(z))
        x = self.activation(self.entry(z))
        for gate, (one, two, three) in zip(self.gates, self.blocks, strict=True):
            f = self.activation(one(x))
            f = v + f * (u - v)
            g = self.activation(two(f))
            g = v + g * (u - v)
            h = self.activation(three(g))
            x = x + gate * (h - x)
        return self.last(x)


@register_trial
class NetworkTrial:
    """A network as a trial function: derivatives by Taylor mode, state as arrays.

    Args:
        module: maps points `[n, D]` to values `[n, fields]` in problem units, row by row. Only those made by
            `make_network` can be saved.
        scales: a typical length per column, for the accuracy of mixed derivatives; 1 if missing.
    """

    kind = "network"
    rows = 4096  # points evaluated at once, which bounds the memory

    def __init__(self, module: nn.Module, scales: Sequence[float] | None = None):
        self.module = module
        self.scales = None if scales is None else [float(scale) for scale in scales]

    def derivatives(self, points: np.ndarray, wanted: Sequence[Request]) -> list[np.ndarray]:
        """The wanted derivatives `(field, orders)` at `points [n, D]`, each `[n]`, float64."""
        like = next((p for p in (*self.module.parameters(), *self.module.buffers()) if p.is_floating_point()), None)
        x = torch.as_tensor(np.asarray(points, dtype=np.float64))
        x = x if like is None else x.to(like)
        with torch.no_grad():
            pieces = [self._some(piece, wanted) for piece in x.split(self.rows)]
        return [torch.cat([piece[i] for piece in pieces]).double().cpu().numpy() for i in range(len(wanted))]

    def _some(self, points, wanted):
        scales = None if self.scales is None else dict(enumerate(self.scales))
        wanted = [(field, tuple(orders)) for field, orders in wanted]
        try:
            values = partial_derivatives(self.module, points, wanted, scales)
        except MissingRule:
            values = nested_reverse(self.module, points, wanted)
        return [values[request] for request in wanted]

    def state(self) -> dict:
        """Description and weights.

        Raises:
            NotYet: the module is the user's own, and a file needs no user code.
        """
        if not isinstance(self.module, Network):
            raise NotYet(
                f"`{type(self.module).__name__}` is a module of your own, which a file cannot describe. Save its "
                f"`state_dict()` with torch, or use one of the networks {', '.join(sorted(NETWORKS))}."
            )
        weights = {name: value.detach().cpu().numpy() for name, value in self.module.state_dict().items()}
        return {"kind": self.kind, "config": self.module.config, "weights": weights, "scales": self.scales}

    @classmethod
    def from_state(cls, state: dict) -> NetworkTrial:
        """The trial whose `state()` this is."""
        module = make_network(**state["config"])
        module.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in state["weights"].items()})
        return cls(module, state["scales"])


def _factorise(module: nn.Module, generator: torch.Generator):
    # The last layer stays linear in its weights: least squares finds the best ones.
    layers = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    for name in layers[:-1]:
        parent, _, own = name.rpartition(".")
        module.get_submodule(parent).register_module(own, FactorisedLinear(module.get_submodule(name), generator))


def _per_output(value, outputs, dtype):
    return torch.as_tensor(value, dtype=dtype).expand(outputs).clone()


def _uniform(shape, bound, generator):
    # Drawn in float64, so float32 and float64 networks of one seed have the same weights up to rounding.
    return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * bound
