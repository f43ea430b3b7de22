"""Initial values that hold by construction: functions of (t, z) that begin as the conditions of a problem say."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sympy import Dummy, Expr, expand, expand_log, factorial, log
from torch import Tensor, nn

from pinnflow import Problem
from pinnflow.latent.expressions import is_plain, plain_function


@dataclass(frozen=True)
class Start:
    """What conditions say of the fields at the first time.

    Attributes:
        time: the place of the time among the columns of points.
        first: the first time.
        values: `{place of a field: (value, first derivative in time, ...)}`, expressions in the other columns.
    """

    time: int
    first: float
    values: dict[int, tuple[Expr, ...]]

    @classmethod
    def read(cls, problem: Problem, density: bool = False) -> Start:
        """The conditions that give a value, or a value and a derivative in time, of one field at the first time.

        Others are left alone: those that relate fields or places, and values that torch cannot compute from the columns
        by arithmetic, exponentials and logarithms.

        Args:
            problem: over a time.
            density: whether the first field is positive; of that one only a value that is no number below or at zero
                can be given.
        """
        columns, first = problem.columns, problem.bounds[problem.time][0]
        found: dict[int, dict[int, Expr]] = {}
        for block in problem.blocks:
            if block.kind != "initial" or len(block.parts) != 1 or len(block.parts[0].atoms) != 1:
                continue
            (part,), (atom,) = block.parts, block.parts[0].atoms
            orders = dict(zip(columns, atom.orders, strict=True)) if len(atom.orders) == len(columns) else {}
            order = orders.pop(problem.time, None)
            expression = expand(part.expression)
            factor = expression.coeff(atom.symbol)
            rest = expression - factor * atom.symbol
            only_time = {column for column, _ in atom.pins} == {problem.time}
            if order is None or any(orders.values()) or not only_time or not (factor.is_number and factor != 0):
                continue
            value, place = -rest / factor, problem.fields.index(atom.field)
            if density and place == 0:
                value = None if value.is_number and not value.is_positive else expand_log(log(value), force=True)
            others = {column for column in columns if column != problem.time}
            if value is not None and is_plain(value, others) and order not in found.get(place, {}):
                found.setdefault(place, {})[order] = value
        values: dict[int, tuple[Expr, ...]] = {}
        for place, by_order in found.items():
            known = next(i for i in range(len(by_order) + 1) if i not in by_order)
            known = min(known, 1) if density and place == 0 else known
            if known:
                values[place] = tuple(by_order[i] for i in range(known))
        return cls(columns.index(problem.time), float(first), values)


class Started(nn.Module):
    r"""$\sum_{i<m} \frac{(t - t_0)^i}{i!} g_i(z) + (t - t_0)^m N(z, t)$: begins as it has to, whatever N is.

    Args:
        module: N, called as `module(points, k)`.
        start: for each output the values g_i; outputs without any are N's own.
        problem: whose columns the points have.
    """

    def __init__(self, module: nn.Module, start: Start, problem: Problem):
        super().__init__()
        self.module, self.start = module, start
        self.at_rest = all(value == 0 for values in start.values.values() for value in values)
        self._shares = {
            place: [None if value == 0 else _Share(value / factorial(i), problem) for i, value in enumerate(values)]
            for place, values in start.values.items()
        }

    def forward(self, points: Tensor, k: Tensor) -> Tensor:
        """`[n, D]` to `[n, outputs]`."""
        free = self.module(points, k)
        since = points[:, self.start.time : self.start.time + 1] - self.start.first
        outputs = []
        for place in range(free.shape[1]):
            output = free[:, place : place + 1]
            for share in reversed(self._shares.get(place, [])):
                output = since * output if share is None else since * output + share(points)
            outputs.append(output)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


class _Share:
    """An expression in the columns of points as a function of the points, `[n, D]` to `[n, 1]` or a number."""

    def __init__(self, expression: Expr, problem: Problem):
        used = [column for column in problem.columns if column in expression.free_symbols]
        names = [Dummy() for _ in used]
        self._columns = [problem.columns.index(column) for column in used]
        self._function = plain_function(names, expression.xreplace(dict(zip(used, names, strict=True))))

    def __call__(self, points: Tensor) -> Tensor | float:
        return self._function(*(points[:, i : i + 1] for i in self._columns))
