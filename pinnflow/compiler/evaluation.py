"""Residuals of whole problems: from a module and points to one vector per block.

`Evaluation` is the meeting place of the compiler: the plan says which derivatives are taken on which points,
`Differentiator` takes them, `Residual` puts them together. It holds no points and no parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from sympy import Symbol
from torch import Tensor

from pinnflow.compiler.combinations import gather, request_of
from pinnflow.compiler.derivatives import Differentiator, Module
from pinnflow.compiler.places import extra_pins, part_pins
from pinnflow.compiler.plan import DerivativePlan, make_plan
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

    Attributes:
        blocks: `{name: Block}` in the order of the problem.
        columns: the columns of the points.
        unknowns: the coefficients to be found.
    """

    def __init__(self, problem: Problem):
        self.columns, self.fields = tuple(problem.columns), tuple(problem.fields)
        self.unknowns = tuple(problem.unknowns)
        self.bounds = dict(problem.bounds)
        self.blocks: dict[str, Block] = {block.name: block for block in problem.blocks}
        self._pins = {
            name: tuple(part_pins(part, self.columns, self.bounds) for part in block.parts)
            for name, block in self.blocks.items()
        }
        self._scales = [_half_length(self.bounds[column]) for column in self.columns]
        # For the values alone derivatives are gathered into sums; terms and messages take them one by one.
        self._gathered = self._form(gather)
        self._single = self._form(lambda part: part)
        self._differentiator = Differentiator(len(self.fields), self._scales)
        self._plans: dict[tuple, DerivativePlan] = {}
        self._measured: dict[tuple, tuple[Tensor, ...]] = {}

    def _form(self, rewrite) -> _Form:
        parts = {name: tuple(rewrite(part) for part in block.parts) for name, block in self.blocks.items()}
        residuals, wiring = {}, {}
        for name, its_parts in parts.items():
            residuals[name] = tuple(
                Residual(part, self.columns, self.unknowns, self.bounds, name) for part in its_parts
            )
            wiring[name] = tuple(
                tuple(
                    (extra_pins(atom, part, self.columns, self.bounds), request_of(atom, self.fields))
                    for atom in part.atoms
                )
                for part in its_parts
            )
        return _Form(parts, residuals, wiring)

    def values(
        self,
        module: Module,
        points: Mapping[str, Tensor],
        unknowns: Mapping[Symbol, Tensor],
        rows: Mapping[str, Rows] | None = None,
        with_data: bool = True,
    ) -> dict[str, Tensor]:
        """The residual of each block in `points` at each of its rows, `{block: [n]}`.

        Args:
            module: maps `[n, columns]` to `[n, fields]`.
            points: `{block: [n, columns]}`; blocks with the same tensor share one evaluation.
            unknowns: `{coefficient: 0-d tensor}`.
            rows: `{block: row numbers of each part}` for conditions on several faces; found from the points if missing.
            with_data: whether measured values are subtracted and the difference divided by their noise; then the
                points of an observation are all of its points.
        """
        pieces = self._pieces(module, points, unknowns, rows, Residual.value, self._gathered)
        values = {name: self._joined(pieces[name], points[name].shape[0]) for name in points}
        return {name: self._less_data(name, value) for name, value in values.items()} if with_data else values

    def noise(self, name: str, like: Tensor) -> Tensor:
        """Standard deviation of an observation's values, `[n]`, 1 where unknown; `like` has n rows."""
        return self._data(name, like)[1]

    def terms(
        self,
        module: Module,
        points: Mapping[str, Tensor],
        unknowns: Mapping[Symbol, Tensor],
        rows: Mapping[str, Rows] | None = None,
    ) -> dict[str, Tensor]:
        """The summands of each residual, `{block: [n, terms]}`; faces with fewer terms are filled with zeros.

        Those of an observation are its terms and minus the measured values.
        """
        pieces = self._pieces(module, points, unknowns, rows, Residual.terms)
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
            for _, sentence in self._pieces(module, {name: points[name]}, unknowns, rows, Residual.explain)[name]:
                if sentence is not None:
                    return sentence
        return None

    def plan(self, points: Mapping[str, Tensor], form: _Form | None = None) -> DerivativePlan:
        """The derivative plan of the values when each block has these points."""
        form = form or self._gathered
        keys = {name: self._key(name, tensor) for name, tensor in points.items()}
        numbers = {key: i for i, key in enumerate(dict.fromkeys(keys.values()))}
        signature = tuple((name, numbers[key]) for name, key in keys.items())
        if (signature, form is self._gathered) not in self._plans:
            self._plans[signature, form is self._gathered] = make_plan(
                {name: form.parts[name] for name in points}, self.columns, self.fields, self.bounds, self._scales,
                dict(signature),
            )  # fmt: skip
        return self._plans[signature, form is self._gathered]

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

    def _pieces(self, module, points, unknowns, rows, what, form=None):
        """`{block: [(row numbers or None for all, what(residual))]}`."""
        form = form or self._single
        self._check(points)
        placed = {name: self._placed(name, tensor) for name, tensor in points.items()}
        atoms = self._atoms(module, placed, self.plan(points, form))
        coefficients = [unknowns[symbol] for symbol in self.unknowns]
        result = {}
        for name in points:
            residuals = form.residuals[name]
            where = [None] if len(residuals) == 1 else (rows or {}).get(name) or self.rows_of(name, points[name])
            result[name] = [
                (
                    index,
                    what(
                        residual, _take(placed[name], index), self._inputs(atoms, form, name, part, index), coefficients
                    ),
                )
                for part, (residual, index) in enumerate(zip(residuals, where, strict=True))
            ]
        return result

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

    def _atoms(self, module, placed, plan):
        """`{(block, extra pins): {request: [n]}}`."""
        found = {}
        for one in plan.passes:
            points = place(placed[one.blocks[0]], self.columns, {self.columns[i]: value for i, value in one.pins})
            values = self._differentiator(module, points, one)
            found.update({(name, one.pins): values for name in one.blocks})
        return found

    def _inputs(self, atoms, form, name, part, index):
        return [_take(atoms[name, pins][request], index) for pins, request in form.wiring[name][part]]

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
