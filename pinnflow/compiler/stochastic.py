"""Operators in many dimensions: exact Laplacians in chunks, and unbiased estimates from a few lines.

An operator of d or d^2 terms is a sum over terms, so a few terms drawn at random, each divided by its probability, have
the right expectation (`SparseOperator`, sparse jets). Second-order operators and the biharmonic are also expectations
of derivatives along random lines (`hutchinson_laplacian`, `hutchinson_biharmonic`). All of them carry one sum of the
highest derivatives (`jets.py`). A squared residual needs the product of two independent estimates to be unbiased: the
square of one is too large by its variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import sympy
import torch
from sympy import Derivative, Expr
from sympy.core.function import AppliedUndef
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pinnflow.compiler.directions import directions_for
from pinnflow.compiler.jets import directional_jet
from pinnflow.compiler.lines import Tops
from pinnflow.declare.operators import Biharmonic, Laplacian
from pinnflow.errors import NotYet

Module = Callable[[Tensor], Tensor]
SparseIndex = tuple[tuple[int, int], ...]
"""A derivative as `((column, order), ...)`, the columns that do not occur left out."""

ENTRIES = 2**24
"""First derivatives that a chunk holds per layer, for layers of `WIDTH`: 64 MiB in float32."""

WIDTH = 128


def laplacian(module: Module, points: Tensor, columns: Iterable[int] | None = None, chunk: int | None = None) -> Tensor:
    """The sum of second derivatives along `columns`, `[n, m]`, exact.

    The lines are taken in chunks. With more than one chunk nothing is kept for the reverse pass but the points, so the
    memory is that of one chunk and each is computed twice when there is a gradient.

    Args:
        module: maps `[n, d]` to `[n, m]`.
        points: `[n, d]`.
        columns: all of them if missing.
        chunk: lines taken at once; by default as many as about 64 MiB per layer hold.
    """
    columns = list(range(points.shape[1]) if columns is None else columns)
    chunk = chunk or max(1, ENTRIES // (WIDTH * max(1, points.shape[0])))
    pieces = [columns[i : i + chunk] for i in range(0, len(columns), chunk)]
    # Chunks of equal size, or the last one would be small and as costly as the value it carries along.
    size = -(-len(columns) // max(1, len(pieces)))
    total = None
    for start in range(0, len(columns), size):
        lines = points.new_zeros(len(columns[start : start + size]), points.shape[1])
        lines[range(len(lines)), columns[start : start + size]] = 1.0
        if len(pieces) == 1 or not torch.is_grad_enabled():
            piece = _second(module, points, lines)
        else:
            piece = checkpoint(_second, module, points, lines, use_reentrant=False)
        total = piece if total is None else total + piece
    return module(points) * 0 if total is None else total


def _second(module, points, lines):
    tops = Tops(((2, 0, ((1.0,) * len(lines),)),), 1)
    return directional_jet(module, points, lines, 1, tops, sums_only=True)[-1][0]


def hutchinson_laplacian(
    module: Module, points: Tensor, count: int, generator: torch.Generator | None = None
) -> Tensor:
    """An unbiased estimate of the Laplacian, `[n, m]`: the mean of v^T H v over `count` random vectors of +-1.

    Its variance is 2/count times the sum of squares of the Hessian's entries off the diagonal; it is exact for a
    function without mixed derivatives.

    Source: Hutchinson, A stochastic estimator of the trace of the influence matrix (1989).
    """
    signs = torch.randint(0, 2, (count, points.shape[1]), generator=generator, device=points.device)
    return _second(module, points, (2 * signs - 1).to(points.dtype)) / count


def hutchinson_biharmonic(
    module: Module, points: Tensor, count: int, generator: torch.Generator | None = None
) -> Tensor:
    """An unbiased estimate of the biharmonic operator, `[n, m]`: a third of the mean fourth derivative along `count`
    normally distributed lines, because E[v_i v_j v_k v_l] pairs the indices in three ways."""
    lines = torch.randn(count, points.shape[1], generator=generator, dtype=points.dtype, device=points.device)
    tops = Tops(((4, 0, ((1 / (3 * count),) * count,)),), 1)
    return directional_jet(module, points, lines, 3, tops, sums_only=True)[-1][0]


@dataclass(frozen=True)
class Family:
    """Terms of an operator that are numbered, not written out.

    Attributes:
        size: how many.
        term: number -> `(derivative, coefficient)`.
        coefficients: of all terms when they differ in magnitude, else None.
    """

    size: int
    term: Callable[[int], tuple[SparseIndex, float]]
    coefficients: tuple[float, ...] | None = None

    def draw(self, count: int, generator) -> list[tuple[SparseIndex, float]]:
        """Terms with coefficients, whose sum has the family's sum as its expectation; all terms if `count` suffices."""
        if count >= self.size:
            return [self.term(i) for i in range(self.size)]
        if self.coefficients is None and self.size <= 10**6:
            chosen = torch.randperm(self.size, generator=generator)[:count]  # each at most once: less variance
            weights = [self.size / count] * count
        elif self.coefficients is None:
            chosen = torch.randint(self.size, (count,), generator=generator)
            weights = [self.size / count] * count
        else:
            share = torch.tensor(self.coefficients, dtype=torch.float64).abs()
            share = share / share.sum()
            chosen = torch.multinomial(share, count, replacement=True, generator=generator)
            weights = (1 / (count * share[chosen])).tolist()
        found = [self.term(int(i)) for i in chosen]
        return [(index, weight * c) for (index, c), weight in zip(found, weights, strict=True)]

    def factor(self, count: int) -> float:
        """Standard deviation of the estimate in units of the spread (standard deviation) of the terms themselves."""
        if count >= self.size:
            return 0.0
        if self.coefficients is None and self.size <= 10**6:
            return self.size * math.sqrt((1 - (count - 1) / (self.size - 1)) / count)
        return self.size / math.sqrt(count)


@dataclass(frozen=True)
class SparseOperator:
    """A linear operator with constant coefficients in d columns, for functions of many variables.

    Source: Hu, Shi, Karniadakis & Kawaguchi, Stochastic Taylor derivative estimator, NeurIPS 2024.

    Attributes:
        columns: d.
        families: its terms.
    """

    columns: int
    families: tuple[Family, ...]

    @classmethod
    def laplacian(cls, columns: int) -> SparseOperator:
        """The sum of all second derivatives."""
        return cls(columns, (_second_derivatives(range(columns)),))

    @classmethod
    def biharmonic(cls, columns: int) -> SparseOperator:
        """The Laplacian of the Laplacian: d fourth derivatives and d (d - 1)/2 mixed ones."""
        return cls(columns, _fourth_derivatives(range(columns)))

    @classmethod
    def from_terms(cls, columns: int, terms: Mapping[SparseIndex, float]) -> SparseOperator:
        """From `{((column, order), ...): coefficient}`."""
        return cls(columns, (_written_out(terms),))

    @classmethod
    def from_expression(cls, expression: Expr, columns: Sequence[Expr]) -> SparseOperator:
        """From a sympy expression linear in derivatives of one field, with numbers as coefficients.

        `laplacian(u, z)` and `biharmonic(u, z)` of a vector coordinate are never written out.

        Raises:
            NotYet: a term is something else.
        """
        place = {column: i for i, column in enumerate(columns)}
        families: list[Family] = []
        single: dict[SparseIndex, float] = {}
        for term in sympy.Add.make_args(sympy.sympify(expression)):
            coefficient, node = term.as_independent(AppliedUndef, Derivative, Laplacian, Biharmonic, as_Add=False)
            if not coefficient.is_number or not isinstance(node, AppliedUndef | Derivative | Laplacian | Biharmonic):
                raise NotYet(
                    f"`{term}` is not a number times a derivative of a field: estimates in many dimensions are made "
                    "for linear operators with constant coefficients. Write the other terms outside of the operator."
                )
            c = float(coefficient)
            if isinstance(node, Laplacian | Biharmonic):
                make = (
                    (lambda some: (_second_derivatives(some),)) if isinstance(node, Laplacian) else _fourth_derivatives
                )
                families += [_scaled(one, c) for one in make([place[column] for column in node.columns])]
            elif isinstance(node, Derivative):
                index = tuple(sorted((place[v], int(k)) for v, k in node.variable_count))
                single[index] = single.get(index, 0.0) + c
            else:
                single[()] = single.get((), 0.0) + c
        return cls(len(place), (*families, *((_written_out(single),) if single else ())))

    @property
    def size(self) -> int:
        return sum(one.size for one in self.families)

    def estimate(
        self, module: Module, points: Tensor, count: int, generator: torch.Generator | None = None, field: int = 0
    ) -> Tensor:
        """An unbiased estimate of the operator applied to a column of `module(points)`, `[n]`.

        The same terms are drawn for all points, so errors of neighbouring points go together.

        Args:
            module: maps `[n, d]` to `[n, m]`.
            points: `[n, d]`.
            count: terms drawn, shared among the families by their size but at least one each.
            generator: torch's, on the CPU.
            field: the column.
        """
        drawn = [
            term for one, n in zip(self.families, self.counts(count), strict=True) for term in one.draw(n, generator)
        ]
        value = sum(c for index, c in drawn if not index)
        drawn = [(index, c) for index, c in drawn if index]
        values, slope = _along_lines(module, points, drawn)
        total = None if slope is None else slope[:, field]
        if value:
            total = value * values[:, field] if total is None else total + value * values[:, field]
        return torch.zeros_like(values[:, field]) if total is None else total

    def counts(self, count: int) -> list[int]:
        """Terms drawn from each family."""
        return [min(one.size, max(1, round(count * one.size / self.size))) for one in self.families]

    def deviation(
        self, module: Module, points: Tensor, count: int, generator: torch.Generator | None = None, draws: int = 8
    ) -> float:
        """Standard deviation of the estimate by its root mean square over the points, from `draws` draws."""
        with torch.no_grad():
            found = torch.stack([self.estimate(module, points, count, generator) for _ in range(draws)])
        return float(found.var(0).mean().sqrt() / found.mean(0).square().mean().sqrt())

    def plan(self, count: int) -> str:
        """What an estimate with `count` terms takes and how far it scatters, a line per family."""
        lines = []
        for one, n in zip(self.families, self.counts(count), strict=True):
            if n >= one.size:
                lines.append(f"all {one.size} terms: exact")
            else:
                lines.append(
                    f"{n} of {one.size} terms: unbiased, standard deviation {one.factor(n):.3g} times the spread of "
                    "the terms among each other"
                )
        return "\n".join(lines)


def _second_derivatives(columns) -> Family:
    columns = list(columns)
    return Family(len(columns), lambda i: (((columns[i], 2),), 1.0))


def _fourth_derivatives(columns) -> tuple[Family, ...]:
    columns = list(columns)
    d = len(columns)

    def mixed(number):
        # The pairs i < j in order of j: number = j (j - 1)/2 + i.
        j = (1 + math.isqrt(1 + 8 * number)) // 2
        i = number - j * (j - 1) // 2
        return tuple(sorted(((columns[i], 2), (columns[j], 2)))), 2.0

    pure = Family(d, lambda i: (((columns[i], 4),), 1.0))
    return (pure, Family(d * (d - 1) // 2, mixed)) if d > 1 else (pure,)


def _written_out(terms: Mapping[SparseIndex, float]) -> Family:
    items = [(tuple(sorted((c, k) for c, k in index if k)), float(value)) for index, value in terms.items()]
    sizes = {abs(value) for _, value in items}
    return Family(len(items), lambda i: items[i], None if len(sizes) <= 1 else tuple(value for _, value in items))


def _scaled(family: Family, factor: float) -> Family:
    def term(i):
        index, c = family.term(i)
        return index, factor * c

    return Family(family.size, term, family.coefficients)


def _along_lines(module, points, drawn):
    """`(values, sum of coefficient times derivative)`, `[n, m]` each, by one jet with one collapsed sum."""
    weights: dict[tuple[tuple[tuple[int, int], ...], int], float] = {}
    for index, c in drawn:
        columns, orders = zip(*index, strict=True)
        found = directions_for([orders])
        for number, weight in found.weights[orders]:
            v = tuple((column, step) for column, step in zip(columns, found.vectors[number], strict=True) if step)
            key = v, sum(orders)
            weights[key] = weights.get(key, 0.0) + c * float(weight)
    if not weights:
        return module(points), None
    # A line that serves two orders is taken once for each: they hardly ever coincide.
    keys = sorted(weights, key=lambda key: -key[1])
    lines = points.new_zeros(len(keys), points.shape[1])
    for row, (v, _) in enumerate(keys):
        for column, step in v:
            lines[row, column] = step
    orders = [k - 1 for _, k in keys]
    parts = []
    for k in sorted(set(orders), reverse=True):
        here = [row for row, order in enumerate(orders) if order == k]
        parts.append((k + 1, here[0], (tuple(weights[keys[row]] for row in here),)))
    values, *slopes = directional_jet(module, points, lines, orders, Tops(tuple(parts), 1), sums_only=True)
    return values, slopes[-1][0]
