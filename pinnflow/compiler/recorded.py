"""Recording a computation once and running it through `torch.compile`.

Taylor mode finds its rules operation by operation in Python. Recorded with `make_fx` it is a flat graph of tensor
operations, which the compiler fuses. A loss is recorded together with its gradient, so that the compiler sees both and
nothing is kept in between. What a module reads from its own attributes is frozen into the graph: `signature` looks at
these attributes at every call, and a change is recorded anew.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._device import DeviceContext

from pinnflow.compiler.compilation import Compilation, first_line, program, shapes
from pinnflow.compiler.threads import side_by_side

# What every module has; the rest of its attributes is its own.
_STANDARD = frozenset(nn.Module().__dict__) - {"training"}


class Unrecordable(Exception):
    """A module or a call cannot be recorded; the text says why."""


class Program:
    """`function(network, points, unknowns, rows, signs) -> tensors` for one module, recorded and compiled if it can be.

    Args:
        function: where `network` maps `[n, columns]` to `[n, fields]`; a method of `Evaluation`, or a loss.
        gradient: the function returns a 0-d tensor and its gradient is recorded with it.
        divide: `(module, points) -> tiles` for a loss that is a sum over blocks of means over rows: it is then taken
            tile by tile, each by one thread.
    """

    def __init__(self, function: Callable, gradient: bool = False, divide: Callable | None = None):
        self._function, self._gradient, self._divide = function, gradient, divide
        self._graphs: dict[tuple, list[_Piece] | Unrecordable] = {}
        self.recordings = 0

    def __call__(self, module: nn.Module, points: Mapping[str, Tensor], unknowns: Mapping, rows, signs=()):
        """The function's result.

        Raises:
            Unrecordable: the module takes decisions by values, or the call is within a transformation of torch.func.
        """
        call = _Call(self._function, module, points, unknowns, rows, signs)
        refuse(module, call.tensors, points.values())
        if call.key not in self._graphs:
            try:
                self._graphs[call.key] = self._record(call)
            except Unrecordable as problem:
                self._graphs[call.key] = problem
            self.recordings += 1
        pieces = self._graphs[call.key]
        if isinstance(pieces, Unrecordable):
            raise pieces
        if not self._gradient:
            return pieces[0].program(*call.tensors)
        leaves = [i for i, tensor in enumerate(call.tensors) if tensor.requires_grad]
        return _LossStep.apply(pieces, call, leaves, *(call.tensors[i] for i in leaves))

    def _record(self, call) -> list[_Piece]:
        parts = call.divided(self._divide(call.module, call.given)) if self._divide else None
        programs: dict[tuple, Compilation] = {}
        pieces = []
        for part, places, share in parts or [(call, [(i, None) for i in range(len(call.tensors))], 1.0)]:
            key = part.key, share
            if key not in programs:
                programs[key] = self._record_one(part, share, threads=1 if parts else torch.get_num_threads())
            pieces.append(_Piece(programs[key], places))
        return pieces

    def _record_one(self, call, share, threads):
        inputs = [t.detach() for t in call.tensors]
        leaves = [i for i, t in enumerate(call.tensors) if t.requires_grad]

        def plain(*pieces):
            return call.run(pieces)

        def with_gradient(*pieces):
            def of_leaves(values):
                loss = call.run(_replaced(pieces, leaves, values))
                return loss if share == 1 else share * loss

            gradients, loss = torch.func.grad_and_value(of_leaves)([pieces[i] for i in leaves])
            return [loss, *gradients]

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                graph = make_fx(with_gradient if self._gradient else plain)(*inputs)
        except Exception as problem:
            raise Unrecordable(f"recording failed: {first_line(problem)}") from problem
        return program(graph, call.tensors, self._gradient, threads)


@dataclass(frozen=True)
class _Piece:
    """A graph for some rows of a call, with where its inputs are among those of the call."""

    program: Compilation
    places: list[tuple[int, slice | None]]

    def inputs(self, tensors):
        return [tensors[i] if rows is None else tensors[i][rows] for i, rows in self.places]


class _Call:
    """One call with its inputs as a flat list of tensors: weights, points, coefficients, row numbers, random signs."""

    def __init__(self, function, module, points, unknowns, rows, signs=()):
        self.function, self.module, self.symbols = function, module, tuple(unknowns)
        weights = dict(itertools.chain(module.named_parameters(), module.named_buffers()))
        distinct = list({id(tensor): tensor for tensor in points.values()}.values())
        self.names = tuple(weights)
        self.points = {name: next(i for i, t in enumerate(distinct) if t is tensor) for name, tensor in points.items()}
        self.rows = None if rows is None else {name: len(pieces) for name, pieces in rows.items()}
        numbers = [piece for pieces in (rows or {}).values() for piece in pieces]
        self.tensors = [*weights.values(), *distinct, *unknowns.values(), *numbers, *signs]
        self.given, self._arguments = points, (unknowns, rows, signs)
        self.key = (
            self.names, tuple(self.points.items()), tuple(map(str, self.symbols)), tuple((self.rows or {}).items()),
            shapes(self.tensors), signature(module), torch.get_num_threads(),
        )  # fmt: skip

    def run(self, pieces):
        """The function with other tensors."""
        pieces = iter(pieces)
        weights = dict(zip(self.names, pieces, strict=False))
        moved = list(itertools.islice(pieces, len(set(self.points.values()))))
        values = dict(zip(self.symbols, itertools.islice(pieces, len(self.symbols)), strict=True))
        rows = self.rows and {name: list(itertools.islice(pieces, number)) for name, number in self.rows.items()}

        def network(x):
            return torch.func.functional_call(self.module, weights, (x,))

        return self.function(network, {name: moved[i] for name, i in self.points.items()}, values, rows, list(pieces))

    def divided(self, tiles):
        """`[(call, places of its tensors, share)]` of several calls with this one's sum, or None where it stays whole.

        A module may hold something for each row, which an experiment with other weights shows.
        """
        if len(tiles) < 2:
            return None
        unknowns, rows, signs = self._arguments
        parts, first = [], len(self.names)  # number of the first points
        own = {id(tensor): i for i, tensor in enumerate(self.tensors)}
        for tile in tiles:
            points, places = {}, {}
            for names, cut in tile.cuts:
                i = first + self.points[names[0]]
                some = self.tensors[i] if cut is None else self.tensors[i][cut]
                points |= dict.fromkeys(names, some)
                places[id(some)] = i, cut
            call = _Call(
                self.function, self.module, points, unknowns, rows and {name: rows[name] for name in points}, signs
            )
            parts.append((call, [places.get(id(t)) or (own[id(t)], None) for t in call.tensors], tile.share))
        generator = torch.Generator().manual_seed(0)
        other = [
            t + 0.1 * torch.randn(t.shape, generator=generator).to(t) if t.requires_grad else t for t in self.tensors
        ]
        try:
            with torch.no_grad():
                whole = float(self.run(other))
                total = sum(
                    share * float(call.run(_Piece(None, places).inputs(other))) for call, places, share in parts
                )
        except Exception:  # whatever a module says when it gets other rows than it expects
            return None
        return parts if abs(total - whole) <= 1e-4 * abs(whole) else None


def _replaced(pieces, places, values):
    filled = dict(zip(places, values, strict=True))
    return [filled.get(i, piece) for i, piece in enumerate(pieces)]


class _LossStep(torch.autograd.Function):
    """A loss whose gradient was computed along with it."""

    @staticmethod
    def forward(ctx, pieces, call, leaves, *values):
        tensors = [t.detach() if t.requires_grad else t for t in call.tensors]
        # The first time they are compiled, one after the other.
        threads = None if all(piece.program.is_ready for piece in pieces) else 1
        found = side_by_side([partial(piece.program, *piece.inputs(tensors)) for piece in pieces], threads)
        loss, *gradients = found[0]
        for more, *others in found[1:]:
            loss, gradients = loss + more, torch._foreach_add(gradients, others)
        ctx.call, ctx.leaves = call, leaves
        ctx.save_for_backward(*values, *gradients)
        return loss

    @staticmethod
    def backward(ctx, slope):
        number = len(ctx.leaves)
        values, gradients = ctx.saved_tensors[:number], ctx.saved_tensors[number:]
        if torch.is_grad_enabled():  # somebody differentiates the gradient: by the single operations
            loss = ctx.call.run(_replaced(ctx.call.tensors, ctx.leaves, values))
            gradients = torch.autograd.grad(loss, values, create_graph=True, allow_unused=True, materialize_grads=True)
            return (None, None, None, *(slope * gradient for gradient in gradients))
        return (None, None, None, *torch._foreach_mul(gradients, slope))


def refuse(module: nn.Module, tensors: Iterable[Tensor], points: Iterable[Tensor] = ()) -> None:
    """Raises `Unrecordable` where a recording would not do what the call means."""
    # A default device is a mode as well, of no consequence here: everything is created like an argument.
    modes = [m for m in torch.overrides._get_current_function_mode_stack() if not isinstance(m, DeviceContext)]
    if torch.compiler.is_compiling() or torch.is_autocast_enabled() or modes:
        raise Unrecordable("the call is within another transformation")
    if any(
        torch._C._functorch.is_functorch_wrapped_tensor(t) or type(t) not in (Tensor, nn.Parameter) for t in tensors
    ):
        raise Unrecordable("the call is within a transformation of torch.func")
    if any(point.requires_grad for point in points):
        raise Unrecordable("the points require a gradient")
    for one in module.modules():
        if one._forward_hooks or one._forward_pre_hooks:
            raise Unrecordable("the module has hooks, which act at every call")


def signature(module: nn.Module) -> tuple:
    """What a module's computation may depend on besides its weights: classes, and attributes of every part."""
    return tuple(
        (name, type(one), one.training, *(
            (key, _frozen(value)) for key, value in one.__dict__.items() if key not in _STANDARD
        ))
        for name, one in module.named_modules()
    )  # fmt: skip


def _frozen(value, depth: int = 3):
    """A hashable stand-in that changes when the value does, as far as can be seen from outside."""
    if value is None or isinstance(value, bool | int | float | complex | str | torch.dtype | torch.device):
        return type(value), value
    if isinstance(value, Tensor):
        return id(value), value._version
    if depth and isinstance(value, list | tuple | set | frozenset):
        return type(value), tuple(_frozen(item, depth - 1) for item in value)
    if depth and isinstance(value, Mapping):
        return tuple((str(key), _frozen(item, depth - 1)) for key, item in value.items())
    return id(value)
