"""Residuals of one part as torch functions of points, atoms and unknown coefficients.

`Residual` is what every solver consumes: it knows nothing of networks or features. Who has the values of the atoms,
from Taylor mode, from features or from a file, gets the residual, its terms, and its derivative by each atom, which are
the coefficients of the linearised (Frechet) operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import sympy
import torch
from sympy import Expr, Symbol
from torch import Tensor

from pinnflow.compiler.lowering import Lowered, lower
from pinnflow.compiler.places import atom_pins
from pinnflow.declare.analysis import Atom, Part


class Residual:
    """The residual F(x, a, c) = 0 of one `Part`: columns x, atoms a, unknown coefficients c.

    All methods take `points [n, D]`, `atoms` (a list of k tensors `[n]` in the order of `part.atoms`) and `unknowns` (a
    list of 0-d tensors in the order of `unknowns`, empty if there are none).

    Args:
        part: the expression with its atoms and pins.
        columns: the columns of the points, in order.
        unknowns: the coefficients to be found, in order.
        bounds: `{column: (low, high)}`; needed where a field does not depend on all columns.
        name: the statement's name, for messages.
    """

    def __init__(
        self,
        part: Part,
        columns: Sequence[Expr],
        unknowns: Sequence[Symbol] = (),
        bounds: Mapping[Expr, tuple[float, float]] | None = None,
        name: str = "residual",
    ):
        self.part, self.columns, self.unknowns, self.name = part, tuple(columns), tuple(unknowns), name
        self.bounds = dict(bounds or {})
        self._symbols = tuple(atom.symbol for atom in part.atoms)
        self._arguments = (*self.columns, *self._symbols, *self.unknowns)

    def value(self, points: Tensor, atoms: Sequence[Tensor], unknowns: Sequence[Tensor] = ()) -> Tensor:
        """F at each row, `[n]`."""
        (value,) = self._lowered_value(self._inputs(points, atoms, unknowns))
        return value.expand(points.shape[0])

    def terms(self, points: Tensor, atoms: Sequence[Tensor], unknowns: Sequence[Tensor] = ()) -> Tensor:
        """The summands of F at each row, `[n, T]`, in the order of `part.terms`."""
        values = self._lowered_terms(self._inputs(points, atoms, unknowns))
        return torch.stack([value.expand(points.shape[0]) for value in values], dim=1)

    def slopes(self, points: Tensor, atoms: Sequence[Tensor], unknowns: Sequence[Tensor] = ()) -> list[Tensor]:
        """dF/da for each atom: k tensors, `[n]`, or 0-d where the slope is constant.

        These are the coefficients of the Frechet derivative `sum_k dF/da_k delta a_k`. Where F is not differentiable
        (at the corner of an `Abs`, the jump of a `sign`) it is the slope of one side; deltas are left out.
        """
        return self._lowered_slopes(self._inputs(points, atoms, unknowns))

    def unknown_slopes(self, points: Tensor, atoms: Sequence[Tensor], unknowns: Sequence[Tensor]) -> list[Tensor]:
        """dF/dc for each unknown coefficient, `[n]` or 0-d."""
        return self._lowered_unknown_slopes(self._inputs(points, atoms, unknowns))

    def place(self, points: Tensor, atom: Atom) -> Tensor:
        """`points` moved to where `atom` is taken: its pinned columns overwritten, `[n, D]`.

        Columns its field does not depend on are set to their low end, so that its value cannot depend on them.
        """
        return place(points, self.columns, atom_pins(atom, self.columns, self.bounds))

    def explain(self, points: Tensor, atoms: Sequence[Tensor], unknowns: Sequence[Tensor] = ()) -> str | None:
        """What produced the first non-finite value, as a sentence; None when all values are finite.

        For instance "log(u) met u = -0.02 at t = 0, x = 0.31 in equation 1".
        """
        trouble = self._lowered_value.first_non_finite(self._inputs(points, atoms, unknowns))
        if trouble is None:
            return None
        names = {atom.symbol: Symbol(atom_text(atom, self.columns)) for atom in self.part.atoms}
        met = [f"{names.get(s, s)} = {v:.6g}" for s, v in trouble.met.items() if s not in self.columns]
        row = points[trouble.row].detach()
        where = ", ".join(f"{column} = {float(value):.6g}" for column, value in zip(self.columns, row, strict=True))
        term = trouble.node.xreplace(names)
        if trouble.node in self._arguments:
            return f"{term} itself is infinite or NaN at {where} in {self.name}"
        return f"{term} met {', '.join(met) or 'this point'} at {where} in {self.name}"

    def _inputs(self, points, atoms, unknowns):
        return [*points.unbind(1), *atoms, *unknowns]

    @cached_property
    def _lowered_value(self) -> Lowered:
        return lower([self.part.expression], self._arguments)

    @cached_property
    def _lowered_terms(self) -> Lowered:
        return lower(self.part.terms, self._arguments)

    @cached_property
    def _lowered_slopes(self) -> Lowered:
        return lower([slope(self.part.expression, symbol) for symbol in self._symbols], self._arguments)

    @cached_property
    def _lowered_unknown_slopes(self) -> Lowered:
        return lower([slope(self.part.expression, symbol) for symbol in self.unknowns], self._arguments)


def slope(expression: Expr, symbol: Symbol) -> Expr:
    """d expression / d symbol almost everywhere: the deltas at jumps are dropped."""
    derivative = sympy.diff(expression, symbol)
    return derivative.replace(sympy.DiracDelta, lambda *_: sympy.S.Zero)


def place(points: Tensor, columns: Sequence[Expr], pins: Mapping[Expr, float]) -> Tensor:
    """`points` with the columns in `pins` overwritten; the same tensor if there are none."""
    if not pins:
        return points
    return torch.stack(
        [
            torch.full_like(column, float(pins[name])) if name in pins else column
            for name, column in zip(columns, points.unbind(1), strict=True)
        ],
        dim=1,
    )


def atom_text(atom: Atom, columns: Sequence[Expr]) -> str:
    """An atom as its user would write it: `u.diff(x, 2).subs(t, 0)`."""
    text = atom.field.func.__name__
    factors = [f"{c}, {k}" if k > 1 else str(c) for c, k in zip(columns, atom.orders, strict=True) if k]
    if factors:
        text += f".diff({', '.join(factors)})"
    if len(atom.pins) == 1:
        text += f".subs({atom.pins[0][0]}, {atom.pins[0][1]})"
    elif atom.pins:
        text += ".subs({" + ", ".join(f"{column}: {value}" for column, value in atom.pins) + "})"
    return text
