"""`compile`: the residuals of a problem as torch functions of any module, for a training loop of one's own.

Puts together what `compiler/` computes and `sampling/` draws, with weights and a loss; the solvers of pinnflow do not
use it.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pinnflow.compiler.compilation import LOG
from pinnflow.compiler.derivatives import Module
from pinnflow.compiler.evaluation import Evaluation
from pinnflow.compiler.payoff import Stopwatch
from pinnflow.compiler.plan import DerivativePlan
from pinnflow.compiler.recorded import Program, Unrecordable
from pinnflow.compiler.tiles import divide
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
    probes: int | None = None,
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
            `torch.compile`, `auto` starts eager and compiles the loss with its gradient after as many steps as make
            that pay, by the time they take. What is not a module, takes decisions by values, or is called within
            torch.func runs eagerly in any case; `compiled.backend` says in a sentence what happens.
        probes: None takes every derivative exactly. A number m estimates each sum of more than m pure second
            derivatives of one field (a Laplacian, also with a coefficient, also beside u_tt) by the mean of second
            derivatives along m random lines of +-1, drawn anew at each call of `residuals`, `terms` and `loss`, the
            same for all points, from a generator with this `seed`. An estimate is unbiased; its standard deviation is
            sqrt(2/m) times the root of the sum of squares of the mixed second derivatives. `loss` multiplies two
            independent estimates, which is unbiased too (the square of one is too large by its variance) and can be
            negative; take the product of two calls of `residuals` for losses of your own. Sums that the residual is
            not linear in stay exact. `print(compiled.plan)` shows what is estimated.

    Returns:
        The compiled problem.

    Raises:
        UnknownName: a block or a backend that does not exist.
        WrongShape: points without one column per coordinate, or a number of points or probes that is not positive.
        UnsupportedOperation: an expression without a torch form.
    """
    if backend not in BACKENDS:
        raise UnknownName("backend", backend, BACKENDS)
    if probes is not None:
        probes = _count("probes", probes, "lines")
    return Compiled(problem, points, seed, dtype, device, backend, probes)


class Compiled:
    """Residuals, terms and the loss of a problem as functions of a module; made by `compile`.

    Attributes:
        problem: the declaration.
        points: `{block: tensor [n, D]}`, in the order of the blocks.
        unknowns: the coefficients to be found, an `nn.ParameterDict` by symbol name in problem units. Bounds are not
            enforced.
        plan: which derivatives are taken where and by which rule; `print(compiled.plan)`.
        backend: how the last loss was computed, a sentence.
        coin: the `torch.Generator` of random lines; a training that is to resume to the same digits keeps its state.
    """

    def __init__(self, problem, points, seed, dtype, device, backend, probes=None):
        self.problem = problem
        self._evaluation = Evaluation(problem, probes)
        self._generator, self.coin = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
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
        self._moved: dict[tuple, tuple[Tensor, int, Tensor]] = {}
        self.resample()
        self._programs: dict[str, weakref.WeakKeyDictionary] = {}
        self._watches: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self.backend = {
            "auto": "eager at first, compiled once the steps taken make it pay",
            "compiled": "compiled at the first call",
            "eager": "eager, as asked for",
        }[backend]

    def resample(self) -> None:
        """Draws new points for every block that was asked for by number."""
        self._moved.clear()
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

        A Laplacian by a vector coordinate is one of them.

        Arguments and errors as for `residuals`.
        """
        return self._evaluate("terms", module, points)

    def loss(self, module: Module) -> Tensor:
        """Sum over the blocks of weight times mean square residual, 0-d; a weight is 1 unless the problem says else.

        With `probes` an unbiased estimate of it: the mean product of two independent estimates of the residual.
        """
        if self._use_program(module):
            inputs = self._inputs(module, None, copies=self._copies)
            try:
                value = self._program("loss", self._loss, module)(module, *inputs)
            except Unrecordable as reason:
                self._tell(f"eager: {reason}")
            else:
                self._tell("compiled: the loss with its gradient as one graph")
                self._refuse_non_finite_loss(value, module, inputs)
                return value
        inputs = self._inputs(module, None, copies=self._copies)
        value = self._loss(module, *inputs)
        self._refuse_non_finite_loss(value, module, inputs)
        return value

    @property
    def _copies(self):
        return 1 if self._evaluation.probes is None else 2

    def _loss(self, module, points, unknowns, rows, signs):
        found = self._evaluation.estimates(module, points, unknowns, rows, signs, self._copies)
        weights = {name: self._evaluation.blocks[name].weight for name in points}
        losses = [weights[name] * (found[0][name] * found[-1][name]).mean() for name in points]
        return torch.stack(losses).sum()

    def _use_program(self, module) -> bool:
        """Whether the loss of this module is to be compiled by now."""
        if self._backend == "eager" or not isinstance(module, nn.Module) or not torch.is_grad_enabled():
            return False
        if self._backend == "compiled":
            return True
        watch = self._watches.get(module)
        if watch is None:
            watch = self._watches[module] = Stopwatch()
        watch.tick()
        return watch.pays

    def _tell(self, sentence):
        if sentence != self.backend:
            self.backend = sentence
            LOG.info("%s", sentence)

    @property
    def plan(self) -> DerivativePlan:
        """The derivatives each block needs, by which rule they are taken, their predicted cost, and what an estimate
        scatters; a loss takes two estimates."""
        return self._evaluation.plan(self.points)

    def _evaluate(self, what, module, points):
        inputs = self._inputs(module, points, terms=what == "terms")
        function = getattr(self._evaluation, what)
        result = None
        if self._backend == "compiled" and points is None and isinstance(module, nn.Module):
            try:
                result = self._program(what, function, module)(module, *inputs)
            except Unrecordable as reason:
                self._tell(f"eager: {reason}")
        if result is None:
            result = function(module, *inputs)
        self._refuse_non_finite(result, module, *inputs)
        return result

    def _inputs(self, module, points, terms=False, copies=1):
        """`(points, unknowns, rows, signs)` for `Evaluation`, in the wanted dtype and place."""
        own = points is None
        dtype, device = self._where(module)
        points = {name: self._moved_to(t, dtype, device) if own else t for name, t in (points or self.points).items()}
        points = _converted(points, dtype, device)
        rows = None
        if own:
            rows = {name: [self._moved_to(i, i.dtype, device) for i in self._rows_of(name)] for name in points}
        unknowns = {
            symbol: self.unknowns[symbol.name].to(device=device, dtype=dtype) for symbol in self._evaluation.unknowns
        }
        signs = [one.to(points[next(iter(points))]) for one in self._evaluation.draw(points, self.coin, terms, copies)]
        return points, unknowns, rows, signs

    def _rows_of(self, name):
        if name not in self._rows and len(self._evaluation.blocks[name].parts) > 1:
            self._rows[name] = self._evaluation.rows_of(name, self.points[name])
        return self._rows.get(name, [])

    def _moved_to(self, tensor, dtype, device):
        """`tensor` in another dtype or place; made once, and again when somebody wrote into it."""
        if (tensor.dtype == dtype and tensor.device == device) or tensor.requires_grad:
            return tensor
        key = id(tensor), dtype, device
        kept = self._moved.get(key)
        if kept is None or kept[0] is not tensor or kept[1] != tensor._version:
            with torch.inference_mode(False):
                kept = self._moved[key] = tensor, tensor._version, tensor.to(device=device, dtype=dtype)
        return kept[2]

    def _program(self, what, function, module):
        kept = self._programs.setdefault(what, weakref.WeakKeyDictionary())
        if module not in kept:
            kept[module] = Program(
                function, what == "loss", partial(divide, self._evaluation) if what == "loss" else None
            )
        return kept[module]

    def _where(self, module):
        """dtype and device of points and results."""
        like = None
        if isinstance(module, nn.Module):
            like = next(
                (p for p in itertools.chain(module.parameters(), module.buffers()) if p.is_floating_point()), None
            )
        first = next(iter(self.points.values()))
        dtype = self._dtype or (like.dtype if like is not None else first.dtype)
        return dtype, torch.device(self._device or (like.device if like is not None else first.device))

    def _refuse_non_finite_loss(self, value, module, inputs):
        if value.device.type != "cpu":
            return
        try:
            finite = math.isfinite(value.detach().item())
        except RuntimeError:  # under vmap and in recordings values cannot be looked at
            return
        if not finite:
            with torch.no_grad():
                found = self._evaluation.estimates(module, *inputs, copies=self._copies)
                for values in found:
                    self._refuse_non_finite(values, module, *inputs)

    def _refuse_non_finite(self, result, module, points, unknowns, rows, signs):
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


def _count(what, number, of="points or a tensor [n, D]") -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise WrongShape(f"`{what}`: expected a positive number of {of}, found `{number!r}`.")
    return int(number)


def _converted(points: Mapping[str, Tensor], dtype, device) -> dict[str, Tensor]:
    """`points` in the wanted dtype and place; blocks that share a tensor still do."""
    made: dict[int, Tensor] = {}
    return {name: made.setdefault(id(tensor), tensor.to(device=device, dtype=dtype)) for name, tensor in points.items()}
