"""Residuals of whole problems: from a module and points to one vector per block.

`Evaluation` is the meeting place of the compiler: the plan says which derivatives are taken on which points,
`Differentiator` takes them, `Residual` puts them together. It holds no points and no parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from sympy import Symbol
from torch import Tensor

from pinnflow.compiler.combinations import Gathered, estimated, gather, gather_terms, request_of, slopes_of
from pinnflow.compiler.derivatives import Differentiator, Module
from pinnflow.compiler.places import extra_pins, part_pins
from pinnflow.compiler.plan import DerivativePlan, Request, make_plan
from pinnflow.compiler.residual import Residual, place
from pinnflow.declare.analysis import Block, Part
from pinnflow.errors import UnknownName, WrongShape

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem

Rows = Sequence[Tensor]
"""Row numbers of the points of each part of a block."""


@dataclass(frozen=True)
class _Form:
    """The parts of all blocks in one form, lowered, with where each residual finds its atoms.

    `wiring[block][part]` holds, for each atom, the extra pins of a pass and the request in it.
    """

    parts: dict[str, tuple[Part, ...]]
    residuals: dict[str, tuple[Residual, ...]]
    wiring: dict[str, tuple]


class Evaluation:
    """The residuals of a problem's blocks as functions of a module, points and unknown coefficients.

    Args:
        problem: the declaration.
        probes: estimate sums of more pure second derivatives of one field than this along so many random lines, where
            the residual is linear in them; None for exact ones.

    Attributes:
        blocks: `{name: Block}` in the order of the problem.
        columns: the columns of the points.
        unknowns: the coefficients to be found.
    """

    def __init__(self, problem: Problem, probes: int | None = None):
        self.columns, self.fields = tuple(problem.columns), tuple(problem.fields)
        self.unknowns = tuple(problem.unknowns)
        self.bounds = dict(problem.bounds)
        self.blocks: dict[str, Block] = {block.name: block for block in problem.blocks}
        self._pins = {
            name: tuple(part_pins(part, self.columns, self.bounds) for part in block.parts)
            for name, block in self.blocks.items()
        }
        self._scales = [_half_length(self.bounds[column]) for column in self.columns]
        self.probes = probes
        self._requests: dict[int, tuple[object, Request]] = {}
        self._differentiator = Differentiator(len(self.fields), self._scales)
        self._plans: dict[tuple, DerivativePlan] = {}
        self._measured: dict[tuple, tuple[Tensor, ...]] = {}

    # For the values alone derivatives are gathered into sums; terms and messages take them one by one, except those of
    # one Laplacian.
    @cached_property
    def _gathered(self) -> _Form:
        return self._form(gather)

    @cached_property
    def _by_terms(self) -> _Form:
        return self._form(lambda part: gather_terms(part, self.columns))

    @cached_property
    def _single(self) -> _Form:
        return self._form(lambda part: part)

    def _form(self, rewrite) -> _Form:
        parts = {name: tuple(rewrite(part) for part in block.parts) for name, block in self.blocks.items()}
        residuals, wiring = {}, {}
        for name, its_parts in parts.items():
            residuals[name] = tuple(
                Residual(part, self.columns, self.unknowns, self.bounds, name) for part in its_parts
            )
            for part in its_parts:
                self._find_estimates(part)
            wiring[name] = tuple(
                tuple(
                    (extra_pins(atom, part, self.columns, self.bounds), self._request_of(atom, self.fields))
                    for atom in part.atoms
                )
                for part in its_parts
            )
        return _Form(parts, residuals, wiring)

    def _find_estimates(self, part):
        """Notes which sums of a part are to be estimated: those it is linear in, all together."""
        if self.probes is None:
            return
        found = {}
        for atom in part.atoms:
            request = estimated(atom, self.columns, self.fields, self.probes) if isinstance(atom, Gathered) else None
            if request is not None:
                found[atom.symbol] = atom, request
        slopes = slopes_of(part.expression, set(found))
        for symbol, pair in found.items():
            if not slopes[symbol].free_symbols & set(found):
                self._requests[id(pair[0])] = pair

    def _request_of(self, atom, fields):
        kept = self._requests.get(id(atom))
        return kept[1] if kept is not None else request_of(atom, fields)

    def draw(
        self, points: Mapping[str, Tensor], generator: torch.Generator | None, terms: bool = False, copies: int = 1
    ) -> list[Tensor]:
        """Random signs for the estimates in `values`, `terms` or several `estimates`: +-1, `[probes, columns]` each."""
        if self.probes is None:
            return []
        plan = self.plan(points, self._by_terms if terms else self._gathered, copies)
        return [
            torch.randint(0, 2, (one.probes, len(group.columns)), generator=generator) * 2 - 1
            for one in plan.passes
            for group in one.random
        ]

    def values(
        self,
        module: Module,
        points: Mapping[str, Tensor],
        unknowns: Mapping[Symbol, Tensor],
        rows: Mapping[str, Rows] | None = None,
        signs: Sequence[Tensor] = (),
        with_data: bool = True,
    ) -> dict[str, Tensor]:
        """The residual of each block in `points` at each of its rows, `{block: [n]}`.

        Args:
            module: maps `[n, columns]` to `[n, fields]`.
            points: `{block: [n, columns]}`; blocks with the same tensor share one evaluation.
            unknowns: `{coefficient: 0-d tensor}`.
            rows: `{block: row numbers of each part}` for conditions on several faces; found from the points if missing.
            signs: what `draw` gives for these points, where something is estimated.
            with_data: whether measured values are subtracted and the difference divided by their noise; then the
                points of an observation are all of its points.
        """
        (values,) = self.estimates(module, points, unknowns, rows, signs, with_data=with_data)
        return values

    def estimates(
        self,
        module: Module,
        points: Mapping[str, Tensor],
        unknowns: Mapping[Symbol, Tensor],
        rows: Mapping[str, Rows] | None = None,
        signs: Sequence[Tensor] = (),
        copies: int = 1,
        with_data: bool = True,
    ) -> list[dict[str, Tensor]]:
        """As `values`, several independent estimates of them by one pass; what is exact is the same in all."""
        found = []
        for pieces in self._pieces(module, points, unknowns, rows, Residual.value, self._gathered, signs, copies):
            values = {name: self._joined(pieces[name], points[name].shape[0]) for name in points}
            found.append({n: self._less_data(n, value) for n, value in values.items()} if with_data else values)
        return found

    def noise(self, name: str, like: Tensor) -> Tensor:
        """Standard deviation of an observation's values, `[n]`, 1 where unknown; `like` has n rows."""
        return self._data(name, like)[1]

    def terms(
        self,
        module: Module,
        points: Mapping[str, Tensor],
        unknowns: Mapping[Symbol, Tensor],
        rows: Mapping[str, Rows] | None = None,
        signs: Sequence[Tensor] = (),
    ) -> dict[str, Tensor]:
        """The summands of each residual, `{block: [n, terms]}`; faces with fewer terms are filled with zeros.

        A Laplacian by a vector coordinate is one summand. Those of an observation are its terms and minus the measured
        values.
        """
        (pieces,) = self._pieces(module, points, unknowns, rows, Residual.terms, self._by_terms, signs)
        result = {}
        for name in points:
            width = max(value.shape[1] for _, value in pieces[name])
            wide = [(index, _padded(value, width)) for index, value in pieces[name]]
            terms = self._joined(wide, points[name].shape[0])
            data = self._data(name, terms)
            if data is not None:
                values, noise = data
                terms = torch.cat([terms, -values[:, None]], dim=1) / noise[:, None]
            result[name] = terms
        return result

    def explain(
        self,
        module: Module,
        points: Mapping[str, Tensor],
        unknowns: Mapping[Symbol, Tensor],
        rows: Mapping[str, Rows] | None = None,
    ) -> str | None:
        """What produced the first value that is not finite, as a sentence; None when all are finite."""
        for name in points:
            # One by one only where they are few: what is to be told are values, not which of 10,000 derivatives.
            few = sum(len(part.atoms) for part in self.blocks[name].parts) <= 64
            form, some = self._single if few else self._gathered, {name: points[name]}
            signs = [] if few else self.draw(some, torch.Generator().manual_seed(0))
            (pieces,) = self._pieces(module, some, unknowns, rows, Residual.explain, form, signs)
            for _, sentence in pieces[name]:
                if sentence is not None:
                    return sentence
        return None

    def plan(self, points: Mapping[str, Tensor], form: _Form | None = None, copies: int = 1) -> DerivativePlan:
        """The derivative plan of the values when each block has these points."""
        form = form or self._gathered
        keys = {name: self._key(name, tensor) for name, tensor in points.items()}
        numbers = {key: i for i, key in enumerate(dict.fromkeys(keys.values()))}
        signature = tuple((name, numbers[key]) for name, key in keys.items()), id(form), copies
        if signature not in self._plans:
            self._plans[signature] = make_plan(
                {name: form.parts[name] for name in points}, self.columns, self.fields, self.bounds, self._scales,
                dict(signature[0]), self._request_of, copies,
            )  # fmt: skip
        return self._plans[signature]

    def rows_of(self, name: str, points: Tensor) -> Rows:
        """Row numbers of each part of a block, from where the points lie."""
        if len(self._pins[name]) == 1:
            return [torch.arange(points.shape[0], device=points.device)]
        found, free = [], torch.ones(points.shape[0], dtype=torch.bool, device=points.device)
        for pins in self._pins[name]:
            here = free.clone()
            for column, value in pins.items():
                reach = 1e-6 * _half_length(self.bounds[column])
                here &= (points[:, self.columns.index(column)] - value).abs() <= reach
            found.append(here.nonzero()[:, 0])
            free &= ~here
        if free.any():
            row = int(free.nonzero()[0, 0])
            at = ", ".join(f"{c} = {float(v):g}" for c, v in zip(self.columns, points[row], strict=True))
            raise WrongShape(f"{name}: row {row} of its points ({at}) lies on none of its {len(found)} faces.")
        return found

    # -- the road from points to pieces of residuals -------------------------------------------------------------------

    def _pieces(self, module, points, unknowns, rows, what, form, signs=(), copies=1):
        """`{block: [(row numbers or None for all, what(residual))]}`, once for each of several estimates."""
        self._check(points)
        placed = {name: self._placed(name, tensor) for name, tensor in points.items()}
        atoms = self._atoms(module, placed, self.plan(points, form, copies), signs)
        coefficients = [unknowns[symbol] for symbol in self.unknowns]
        results = []
        for copy in range(copies):
            result = {}
            for name in points:
                residuals = form.residuals[name]
                where = [None] if len(residuals) == 1 else (rows or {}).get(name) or self.rows_of(name, points[name])
                result[name] = [
                    (
                        index,
                        what(
                            residual,
                            _take(placed[name], index),
                            self._inputs(atoms, form, name, part, index, copy),
                            coefficients,
                        ),
                    )
                    for part, (residual, index) in enumerate(zip(residuals, where, strict=True))
                ]
            results.append(result)
        return results

    def _check(self, points):
        for name, tensor in points.items():
            if name not in self.blocks:
                raise UnknownName("block", name, self.blocks)
            if tensor.ndim != 2 or tensor.shape[1] != len(self.columns):
                names = ", ".join(map(str, self.columns))
                raise WrongShape(
                    f"{name}: its points have shape {list(tensor.shape)}, expected [n, {len(self.columns)}] with "
                    f"columns {names}, pinned ones included."
                )

    def _key(self, name, tensor):
        """Blocks with equal keys have the same points once their pinned columns are set."""
        pins = self._pins[name]
        return id(tensor), tuple(pins[0].items()) if len(pins) == 1 else ()

    def _placed(self, name, tensor):
        pins = self._pins[name]
        return (
            place(tensor, self.columns, pins[0]) if len(pins) == 1 else tensor
        )  # else each row is on its face already

    def _atoms(self, module, placed, plan, signs):
        """`{(block, extra pins): {request: [n], or [copies, n]}}`."""
        found, signs = {}, iter(signs)
        for one in plan.passes:
            points = place(placed[one.blocks[0]], self.columns, {self.columns[i]: value for i, value in one.pins})
            values = self._differentiator(module, points, one, [next(signs) for _ in one.random])
            for name in one.blocks:
                found.setdefault((name, one.pins), {}).update(values)
        return found

    def _inputs(self, atoms, form, name, part, index, copy):
        found = [atoms[name, pins][request] for pins, request in form.wiring[name][part]]
        return [_take(value if value.ndim == 1 else value[copy], index) for value in found]

    def _joined(self, pieces, n):
        if pieces[0][0] is None:
            return pieces[0][1]
        # Rows keep the places they have in the points.
        order = torch.cat([index for index, _ in pieces])
        return torch.cat([value for _, value in pieces])[torch.argsort(order)]

    def _less_data(self, name, value):
        data = self._data(name, value)
        return value if data is None else (value - data[0]) / data[1]

    def _data(self, name, like):
        """Measured values and their standard deviations (1 when unknown), `[n]` each, or None."""
        data = self.blocks[name].data
        if data is None:
            return None
        _, values, noise = data
        if len(values) != like.shape[0]:
            raise WrongShape(f"{name}: {like.shape[0]} points, but {len(values)} values were observed.")
        key = name, like.dtype, like.device
        if key not in self._measured:
            with torch.inference_mode(False):  # kept for later calls, which may differentiate
                self._measured[key] = tuple(
                    torch.tensor(np.broadcast_to(1.0 if array is None else array, len(values)).copy()).to(
                        dtype=like.dtype, device=like.device
                    )
                    for array in (values, noise)
                )
        return self._measured[key]


def _take(values: Tensor, index: Tensor | None) -> Tensor:
    return values if index is None else values[index]


def _padded(terms: Tensor, width: int) -> Tensor:
    return terms if terms.shape[1] == width else torch.nn.functional.pad(terms, (0, width - terms.shape[1]))


def _half_length(ends: tuple[float, float]) -> float:
    half = 0.5 * abs(ends[1] - ends[0])
    return half if 0 < half < math.inf else 1.0
