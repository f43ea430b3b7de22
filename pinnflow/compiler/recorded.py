"""Recording a computation once and running it through `torch.compile`.

Taylor mode finds its rules operation by operation in Python. Recorded with `make_fx` it is a flat graph of tensor
operations, which the compiler fuses. Numbers that a module reads from its own attributes are frozen into the graph; it
is recorded anew when shapes, dtypes, names of weights or the training flag change.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx


class Recorded:
    """`function(module, points, unknowns, rows) -> {name: tensor}` as a compiled graph for one module.

    Where there is no working compiler the recorded graph runs operation by operation, after one warning.

    Args:
        function: such a function, a method of `Evaluation`.
    """

    def __init__(self, function: Callable[..., dict[str, Tensor]]):
        self._function = function
        self._graphs: dict[tuple, _Guarded] = {}

    def __call__(self, module: nn.Module, points: Mapping[str, Tensor], unknowns: Mapping, rows) -> dict[str, Tensor]:
        weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        distinct = list({id(tensor): tensor for tensor in points.values()}.values())
        coefficients = {symbol.name: value for symbol, value in unknowns.items()}
        inputs = (weights, distinct, coefficients)
        key = (module.training, *_signature(weights), *_signature(dict(enumerate(distinct))))
        if key not in self._graphs:
            places = {name: next(i for i, t in enumerate(distinct) if t is tensor) for name, tensor in points.items()}

            def run(weights, tensors, coefficients):
                def network(x):
                    return torch.func.functional_call(module, weights, (x,))

                named = {symbol: coefficients[symbol.name] for symbol in unknowns}
                return self._function(network, {name: tensors[i] for name, i in places.items()}, named, rows)

            self._graphs[key] = _Guarded(make_fx(run)(*inputs))
        return self._graphs[key](*inputs)


class _Guarded:
    """A graph that is compiled at its first call, and runs as it is where that fails."""

    def __init__(self, graph):
        self._graph, self._compiled = graph, torch.compile(graph)

    def __call__(self, *inputs):
        if self._compiled is not None:
            try:
                return self._compiled(*inputs)
            except Exception as problem:
                self._compiled = None
                reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
                warnings.warn(f"torch.compile failed ({reason}): the residuals run uncompiled.", stacklevel=4)
        return self._graph(*inputs)


def _signature(tensors: Mapping) -> tuple:
    return tuple((name, tuple(t.shape), t.dtype, t.device) for name, t in tensors.items())
