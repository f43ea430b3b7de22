"""Recorded graphs handed to the compiler behind `torch.compile`, each once in a process."""

from __future__ import annotations

import logging
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from pinnflow.compiler.fusing import fusible

LOG = logging.getLogger("pinnflow")

KEPT = 16
"""Compiled graphs that are kept for later calls and later fits of the same shape."""

WARM_UP = 3
"""Calls before a step is captured."""

KNOWN: OrderedDict[tuple, Compilation] = OrderedDict()


def program(graph: torch.fx.GraphModule, inputs, is_step: bool, threads: int) -> Compilation:
    """The compilation of a graph for inputs like these; the same for graphs that do the same."""
    key = (graph.code, _constants(graph), shapes(inputs), is_step, threads)
    if key not in KNOWN:
        KNOWN[key] = Compilation(graph, is_step, threads)
    KNOWN.move_to_end(key)
    while len(KNOWN) > KEPT:
        KNOWN.popitem(last=False)
    return KNOWN[key]


def _constants(graph) -> tuple:
    """The numbers in a graph, so that graphs with equal text are equal; large tensors by identity."""
    found = []
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            value = getattr(graph, node.target)
            small = isinstance(value, Tensor) and value.device.type == "cpu" and value.numel() <= 2**20
            text = value.detach().contiguous().view(torch.uint8).numpy().tobytes() if small and value.ndim else None
            found.append(
                (node.target, str(getattr(value, "dtype", "")), text or (value.item() if small else id(value)))
            )
    return tuple(found)


class Compilation:
    """A graph that is compiled at its first call, and runs as it is where that fails.

    Args:
        graph: the operations.
        is_step: it computes gradients itself, so nobody differentiates it.
        threads: that share an operation.
    """

    def __init__(self, graph, is_step, threads):
        self.graph, self.is_step, self.threads = graph, is_step, threads
        # Static shapes: other shapes are another recording, so nothing is ever compiled anew behind one's back.
        self._compiled = None if is_step else torch.compile(fusible(graph), dynamic=False)
        self._failed = False
        self.seconds = 0.0  # what compiling took
        self._fresh = True

    @property
    def is_ready(self) -> bool:
        """Whether it was called before, and by now runs without the compiler."""
        return not self._fresh

    def __call__(self, *inputs):
        detached = [t.detach() if t.requires_grad else t for t in inputs] if not torch.is_grad_enabled() else inputs
        if self._failed:
            return self.graph(*detached)
        if not self._fresh:
            return self._compiled(*detached)
        self._fresh, start = False, time.perf_counter()
        try:
            if self.is_step:
                self._compiled = compile_step(fusible(self.graph), list(detached), self.threads)
            result = self._compiled(*detached)
        except Exception as problem:
            self._failed = True
            warnings.warn(f"torch.compile failed ({first_line(problem)}): the residuals run uncompiled.", stacklevel=4)
            return self.graph(*detached)
        self.seconds = time.perf_counter() - start
        LOG.info("compiled %d operations in %.0f s", len(self.graph.graph.nodes), self.seconds)
        return result


def compile_step(graph: torch.fx.GraphModule, inputs: list[Tensor], threads: int) -> Callable:
    """`graph` compiled for inputs of these shapes by the compiler behind `torch.compile`.

    Without the guards of that, which look at every input of every call: here shapes are looked up already. And on a CPU
    with the calls of the kernels in C++, on a GPU as one CUDA graph. The first two save about a seventh of a step of
    15 ms.
    """
    from torch._inductor import compile  # takes two seconds

    for node in graph.graph.nodes:  # each operation was recorded in a mode of its own, which the compiler would compare
        node.meta.clear()
    if all(t.device.type == "cpu" for t in inputs):
        try:
            return compile(graph, inputs, options={"cpp_wrapper": True, "cpp.threads": threads})
        except Exception as problem:
            LOG.info("calling the kernels from Python: %s", first_line(problem))
    step = compile(graph, inputs, options={"cpp.threads": threads})
    if all(t.device.type == "cuda" for t in inputs):
        try:
            return Replayed(step, inputs)
        except RuntimeError as problem:
            LOG.info("launching the kernels one by one: %s", first_line(problem))
    return step


class Replayed:
    """A compiled step as one CUDA graph: its kernels are launched together, which a small network gains most from.

    Args:
        step: of tensors on one GPU, without decisions by values.
        inputs: like those of all later calls.

    Raises:
        RuntimeError: the step cannot be captured.
    """

    def __init__(self, step: Callable, inputs: Sequence[Tensor]):
        self._inputs = [t.detach().clone() for t in inputs]  # a graph reads and writes the same places every time
        beside, here = torch.cuda.Stream(), torch.cuda.current_stream()
        beside.wait_stream(here)
        with torch.cuda.stream(beside):  # what is made at the first call stays outside of the graph
            for _ in range(WARM_UP):
                step(*self._inputs)
        here.wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = list(step(*self._inputs))

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        torch._foreach_copy_(self._inputs, list(inputs))
        self._graph.replay()
        return [t.clone() for t in self._outputs]


def shapes(tensors: Iterable[Tensor]) -> tuple:
    """What a compiled graph depends on besides its operations."""
    return tuple((tuple(t.shape), t.dtype, t.device, t.requires_grad) for t in tensors)


def first_line(problem: BaseException) -> str:
    """What an error says, in one line."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]
