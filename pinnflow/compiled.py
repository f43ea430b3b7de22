"""`compile`: the residuals of a problem as torch functions of any module, for a training loop of one's own.

Puts together what `compiler/` computes and `sampling/` draws, with weights and a loss; the solvers of pinnflow do not
use it.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from pinnflow.compiler.derivatives import Module
from pinnflow.compiler.evaluation import Evaluation
from pinnflow.compiler.plan import DerivativePlan
from pinnflow.compiler.recorded import Recorded
from pinnflow.declare.problem import Problem
from pinnflow.errors import NonFinite, UnknownName, WrongShape
from pinnflow.sampling.points import draw_block

BACKENDS = ("auto", "compiled", "eager")
POINTS = 1024


def compile(
    problem: Problem,
    *,
    points: int | Mapping[str, int | Tensor] | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    backend: str = "auto",
) -> Compiled:
    """The residuals of `problem` as differentiable functions of any `nn.Module`.

    ```python
    compiled = pinnflow.compile(problem, points=2048)
    optimizer = torch.optim.Adam([*network.parameters(), *compiled.unknowns.parameters()])
    for step in range(1000):
        optimizer.zero_grad()
        compiled.loss(network).backward()
        optimizer.step()
    ```

    The module maps `[n, D]` to `[n, fields]` in problem units; the D columns are those of `problem.columns` (a vector
    coordinate takes its d columns), the fields those of `problem.fields`. Row i of its result must depend on row i of
    its input only. A field that does not depend on all coordinates, such as p(t) beside u(t, x), is evaluated at the
    low end of the coordinates it lacks, so whatever the module does with them has no influence.

    Args:
        problem: the declaration.
        points: a number for each equation, of which every condition gets an eighth; or `{block: number or tensor}`,
            where blocks that are left out get the default of 1024 or 128. Tensors are `[n, D]` with the pinned columns
            included. Observations stay at their points.
        seed: of the generator that draws the points.
        dtype: of points and results; None takes the module's.
        device: of points and results; None takes the module's.
        backend: `eager` runs torch operations one by one, `compiled` records them once and hands them to
            `torch.compile`, `auto` is eager for now.

    Returns:
        The compiled problem.

    Raises:
        UnknownName: a block or a backend that does not exist.
        WrongShape: points without one column per coordinate.
        UnsupportedOperation: an expression without a torch form.
    """
    if backend not in BACKENDS:
        raise UnknownName("backend", backend, BACKENDS)
    return Compiled(problem, points, seed, dtype, device, backend)


class Compiled:
    """Residuals, terms and the loss of a problem as functions of a module; made by `compile`.

    Attributes:
        problem: the declaration.
        points: `{block: tensor [n, D]}`, in the order of the blocks.
        unknowns: the coefficients to be found, an `nn.ParameterDict` by symbol name in problem units. Bounds are not
            enforced.
        plan: which derivatives are taken where and by which rule; `print(compiled.plan)`.
    """

    def __init__(self, problem, points, seed, dtype, device, backend):
        self.problem = problem
        self._evaluation = Evaluation(problem)
        self._generator = np.random.default_rng(seed)
        self._dtype, self._device, self._backend = dtype, device, backend
        self._counts, self._given = self._read(points)
        self.unknowns = nn.ParameterDict(
            {
                symbol.name: nn.Parameter(
                    torch.tensor(float(getattr(start, "initial", start)), dtype=dtype or torch.float64, device=device)
                )
                for symbol, start in problem.unknowns.items()
            }
        )
        self.points: dict[str, Tensor] = {}
        self.resample()
        self._recorded: dict[str, weakref.WeakKeyDictionary] = {}

    def resample(self) -> None:
        """Draws new points for every block that was asked for by number."""
        drawn: dict[object, tuple[Tensor, list[Tensor]]] = {}
        self._rows: dict[str, list[Tensor]] = {}
        for name, block in self._evaluation.blocks.items():
            if name in self._given:
                self.points[name] = self._given[name]
                continue
            # Equations that are sampled alike share their points, and with them one pass through the module.
            key = (block.parts[0].free, self._counts[name]) if block.kind == "equation" else name
            if key not in drawn:
                array, rows = draw_block(
                    block, self.problem.bounds, self.problem.columns, self._counts[name], self._generator
                )
                tensor = torch.as_tensor(array, dtype=self._dtype or torch.float64, device=self._device)
                drawn[key] = tensor, [torch.as_tensor(index, device=self._device) for index in rows]
            self.points[name], numbers = drawn[key]
            if len(numbers) > 1:
                self._rows[name] = numbers

    def residuals(self, module: Module, points: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The residual of each statement at each of its points, `{block: [n]}`, in problem units.

        Args:
            module: maps `[n, D]` to `[n, fields]`.
            points: `{block: [n, D]}` instead of `compiled.points`; only these blocks are evaluated.

        Raises:
            NonFinite: a value is infinite or NaN (looked for on the CPU only, where looking costs nothing); the message
                names the block, the sub-expression and the point.
        """
        return self._evaluate("values", module, points)

    def terms(self, module: Module, points: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The summands of each residual, `{block: [n, terms]}`: the magnitudes it is to be compared with.

        Arguments and errors as for `residuals`.
        """
        return self._evaluate("terms", module, points)

    def loss(self, module: Module) -> Tensor:
        """Sum over the blocks of weight times mean square residual, 0-d; a weight is 1 unless the problem says else."""
        residuals = self.residuals(module)
        losses = [self._evaluation.blocks[name].weight * value.square().mean() for name, value in residuals.items()]
        return torch.stack(losses).sum()

    @property
    def plan(self) -> DerivativePlan:
        """The derivatives each block needs, by which rule they are taken, and their predicted cost."""
        return self._evaluation.plan(self.points)

    def _evaluate(self, what, module, points):
        own = points is None
        dtype, device = self._where(module)
        points = _converted(self.points if own else points, dtype, device)
        rows = {name: [index.to(device) for index in rows] for name, rows in self._rows.items()} if own else None
        unknowns = {
            symbol: self.unknowns[symbol.name].to(device=device, dtype=dtype) for symbol in self._evaluation.unknowns
        }
        function = getattr(self._evaluation, what)
        if self._backend == "compiled" and own and isinstance(module, nn.Module):
            function = self._record(what, function, module)
        result = function(module, points, unknowns, rows)
        self._refuse_non_finite(result, module, points, unknowns, rows)
        return result

    def _record(self, what, function, module):
        kept = self._recorded.setdefault(what, weakref.WeakKeyDictionary())
        if module not in kept:
            kept[module] = Recorded(function)
        return kept[module]

    def _where(self, module):
        """dtype and device of points and results."""
        like = None
        if isinstance(module, nn.Module):
            like = next((p for p in (*module.parameters(), *module.buffers()) if p.is_floating_point()), None)
        first = next(iter(self.points.values()))
        dtype = self._dtype or (like.dtype if like is not None else first.dtype)
        return dtype, torch.device(self._device or (like.device if like is not None else first.device))

    def _refuse_non_finite(self, result, module, points, unknowns, rows):
        for name, value in result.items():
            if value.device.type != "cpu":
                return
            try:
                finite = bool(torch.isfinite(value.detach()).all())
            except RuntimeError:  # under vmap and in recordings values cannot be looked at
                return
            if not finite:
                sentence = self._evaluation.explain(module, {name: points[name]}, unknowns, rows)
                raise NonFinite(f"{name} is not finite: {sentence or 'a derivative of the network is not finite'}.")

    def _read(self, points):
        """`points` of `compile` as numbers and tensors by block."""
        counts, given = {}, {}
        blocks = self._evaluation.blocks
        asked = points if isinstance(points, Mapping) else {}
        for name in asked:
            if name not in blocks:
                raise UnknownName("block", name, blocks)
        each = POINTS if points is None or isinstance(points, Mapping) else _count("points", points)
        for name, block in blocks.items():
            entry = asked.get(name)
            if block.data is not None and entry is None:
                entry = torch.tensor(block.data[0], dtype=self._dtype or torch.float64, device=self._device)
            if isinstance(entry, Tensor | np.ndarray):
                given[name] = torch.as_tensor(entry)
                if given[name].ndim != 2 or given[name].shape[1] != len(self._evaluation.columns):
                    names = ", ".join(map(str, self._evaluation.columns))
                    raise WrongShape(
                        f"`points` of {name}: found shape {list(given[name].shape)}, expected "
                        f"[n, {len(self._evaluation.columns)}] with columns {names}, pinned ones included."
                    )
            elif entry is not None:
                counts[name] = _count(f"points of {name}", entry)
            else:
                counts[name] = each if block.kind == "equation" else max(1, each // 8)
        return counts, given


def _count(what, number) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise WrongShape(f"`{what}`: expected a positive number of points or a tensor [n, D], found `{number!r}`.")
    return int(number)


def _converted(points: Mapping[str, Tensor], dtype, device) -> dict[str, Tensor]:
    """`points` in the wanted dtype and place; blocks that share a tensor still do."""
    made: dict[int, Tensor] = {}
    return {name: made.setdefault(id(tensor), tensor.to(device=device, dtype=dtype)) for name, tensor in points.items()}
