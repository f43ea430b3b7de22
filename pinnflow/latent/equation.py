"""The equation that potentials obey: a `Problem` over a time and a vector of codes, read for use in a latent space."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from sympy import Eq
from torch import Tensor, nn

import pinnflow
from pinnflow import Problem
from pinnflow.errors import DeclarationError, WrongShape
from pinnflow.latent.potentials import ForRows

MANY = 256
"""Dimensions above which a training estimates Laplacians along random lines instead of taking them exactly."""

LINES = 16  # of each of the two estimates


class Equation:
    """A problem over (t, z) and its residual for K stacked functions.

    Args:
        problem: over one time and one vector coordinate (or d scalar ones); unknown fields depend on all of them.
        latent_dim: d.

    Attributes:
        time: the place of the time among the columns of points.
        begin, horizon: the ends of the time axis.
        equations, conditions: names of the blocks.
        order: of the highest derivative in the equations.

    Raises:
        DeclarationError: the problem is not over a time and d codes.
    """

    def __init__(self, problem: Problem, latent_dim: int):
        self.problem, self.latent_dim = problem, latent_dim
        if problem.time is None:
            raise DeclarationError(
                "the equation of a potential needs a time: write `t = coordinates('t')`, put `t: (0, 6)` into the "
                "domain, or name the coordinate with `time=`"
            )
        others = [c for c in problem.columns if c != problem.time]
        if len(others) != latent_dim:
            raise DeclarationError(
                f"the equation has {len(others)} coordinates beside the time `{problem.time}`, the latent space "
                f"{latent_dim} dimensions; write `z = coordinates('z', {latent_dim})` and "
                f"`u = field('u', {problem.time}, z)`"
            )
        if problem.unknowns or problem.observations:
            raise DeclarationError(
                "the equation of a potential has unknown coefficients or observations; only equations and conditions "
                "in fields can be asked of a potential, with numbers for all coefficients"
            )
        for one in problem.fields:
            if len(one.args) != len(problem.coordinates):
                raise DeclarationError(f"the field `{one}` must depend on all coordinates {problem.coordinates}")
        self.time = problem.columns.index(problem.time)
        self.begin, self.horizon = map(float, problem.bounds[problem.time])
        equations = [block for block in problem.blocks if block.kind == "equation"]
        self.equations = tuple(block.name for block in equations)
        self.order = max(atom.order for block in equations for part in block.parts for atom in part.atoms)
        self.conditions = tuple(name for name in self.names if name not in self.equations)
        if self.order == 0:
            raise DeclarationError(
                f"no derivative stands in `{equations[0].statement}`, so it says nothing of how a potential changes; "
                f"write an equation such as `Eq({problem.fields[0]}.diff({problem.time}), ...)`"
            )
        self._compiled: dict[tuple, Any] = {}
        self._apart: dict[str, tuple[Problem | None, dict[tuple, Any]]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Blocks: equations first, then conditions."""
        return tuple(block.name for block in self.problem.blocks)

    def points(self, z: Tensor, t: float | Tensor) -> Tensor:
        """Rows of columns in the problem's order, `[n, d + 1]`."""
        t = torch.as_tensor(t, dtype=z.dtype, device=z.device)
        if t.dim() > 1 or (t.dim() == 1 and len(t) != len(z)):
            raise WrongShape(f"`t` has shape {tuple(t.shape)}; it must be a number or one for each of {len(z)} codes")
        t = t.expand(len(z))[:, None]
        return torch.cat([z[:, : self.time], t, z[:, self.time :]], dim=1)

    def residuals(
        self, module: nn.Module, points: Tensor, k: Tensor, names: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """`{block: [n]}` of the row's own function at each point; conditions at the point moved to their pins.

        Args:
            module: called as `module(points, k)`.
            points: `[n, d + 1]`.
            k: the function of each row, `[n]`.
            names: of the blocks, all by default.
        """
        asked = self.names if names is None else names
        return self._of(points).residuals(ForRows(module, k), dict.fromkeys(asked, points))

    def relative(self, module: nn.Module, points: Tensor, k: Tensor) -> Tensor:
        """|r| / sqrt(sum of squared terms) of the worst equation, `[n]`; 0 where all terms are zero."""
        worst = torch.zeros(len(points), dtype=points.dtype, device=points.device)
        for terms in self._terms(module, points, k).values():
            size = torch.linalg.vector_norm(terms, dim=1)
            share = terms.sum(dim=1).abs() / torch.where(size > 0, size, 1.0)
            worst = torch.maximum(worst, torch.where(size > 0, share, 0.0))
        return worst

    def norms(
        self, module: nn.Module, points: Tensor, k: Tensor, *, holding: Collection[str] = (), density: bool = False
    ) -> dict[int, float]:
        """||r|| / ||terms|| of the worst statement over the rows of each potential, `{potential: number}`.

        Conditions are measured by the fields: ||r|| / ||fields||.

        Args:
            module, points, k: as for `residuals`.
            holding: conditions that hold by construction; they are left out.
            density: whether the first output is a density, by which the equations are then divided.
        """
        rows = _PerPotential(k)
        unit = module(points, k)[:, :1] if density else 1.0
        worst = points.new_zeros(len(rows.found))
        for terms in self._terms(module, points, k).values():
            size = (terms / unit).square().sum(dim=1)
            worst = torch.maximum(worst, rows.ratios((terms / unit).sum(dim=1).square(), size).sqrt())
        for r, size in self._conditions(module, points, k, holding):
            worst = torch.maximum(worst, rows.ratios(r.square(), size).sqrt())
        return dict(zip(rows.found.tolist(), worst.tolist(), strict=True))

    def disobedience(
        self,
        module: nn.Module,
        points: Tensor,
        k: Tensor,
        *,
        holding: Collection[str] = (),
        density: bool = False,
        by_row: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A number without units that is 0 where equations and conditions hold; differentiable by weights and points.

        For every equation the mean square of the residual over that of its terms; for every condition its mean square
        over that of the fields. Both are taken for each potential by itself, because a large one would else hide what
        the small ones do; the answer is the mean over the potentials. In more than 256 dimensions the square of the
        residual is the product of two estimates along random lines, because the square of one would be too large by its
        variance; such a number can be below 0.

        Args:
            module, points, k: as for `residuals`.
            holding: names of the blocks that hold by construction; they are left out.
            density: whether the first output is a density; the equations are then divided by it, or else they would
                count only where it is high.
            by_row: the share of the mean of each row's own ratio, to which rows with small terms count like those with
                large ones; the rest is the ratio of the means.
            generator: of the random lines.
        """
        total = points.new_zeros(())
        equations = [name for name in self.equations if name not in holding]
        rows = _PerPotential(k)
        if equations:
            first = self._terms(module, points, k, equations, generator)
            again = generator is not None and self.latent_dim > MANY
            other = self._terms(module, points, k, equations, generator) if again else first
            unit = module(points, k)[:, :1] if density else 1.0
            for name in equations:
                terms, twin = first[name] / unit, other[name] / unit
                square = terms.sum(dim=1) * twin.sum(dim=1)
                size = (terms.square() + twin.square()).sum(dim=1) / 2
                total = total + (1 - by_row) * rows.ratios(square, size).mean()
                if by_row:
                    total = total + by_row * (square / size.clamp(min=1e-30)).mean()
        for r, size in self._conditions(module, points, k, holding):
            total = total + rows.ratios(r.square(), size).mean()
        return total

    def _conditions(self, module, points, k, holding):
        """Residuals of the conditions that do not hold by construction, and the squares of the fields, `[n]` each."""
        names = [name for name in self.conditions if name not in holding]
        if not names:
            return []
        values = self.residuals(module, points, k, names)
        size = module(points, k).square().mean(dim=1)
        return [(r, size) for r in values.values()]

    def _terms(self, module, points, k, names=None, generator=None):
        """Terms of the named equations, `{name: [n, terms]}`; estimates with a `generator` and many dimensions."""
        estimated = generator is not None and self.latent_dim > MANY
        compiled = self._of(points, LINES if estimated else None)
        if estimated:
            compiled.coin.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        found = compiled.terms(ForRows(module, k), dict.fromkeys(self.equations if names is None else names, points))
        if not estimated and self.latent_dim <= MANY:
            for name in [name for name, terms in found.items() if terms.shape[1] == 1]:
                found[name] = self._terms_apart(name, found[name], module, points, k)
        return found

    def _terms_apart(self, name, terms, module, points, k):
        """Second derivatives one by one, where a Laplacian stands alone and nothing else could measure it."""
        if name not in self._apart:
            block = next(one for one in self.problem.blocks if one.name == name)
            self._apart[name] = _summands(block, self.problem), {}
        summands, made = self._apart[name]
        if summands is None:
            return terms
        compiled = compiled_for(points, summands, made)
        values = compiled.residuals(
            ForRows(module, k), dict.fromkeys([block.name for block in summands.blocks], points)
        )
        return torch.stack(list(values.values()), dim=1)

    def _of(self, points, lines=None):
        return compiled_for(points, self.problem, self._compiled, lines)


def _summands(block: Any, problem: Problem) -> Problem | None:
    """The summands of an equation as equations of their own, or None where there is one only."""
    if len(block.parts) > 1 or len(block.parts[0].terms) < 2:
        return None
    (part,) = block.parts
    values = {}
    for atom in part.atoms:
        if atom.pins or len(atom.orders) != len(problem.columns):
            return None
        value = atom.field
        for column, order in zip(problem.columns, atom.orders, strict=True):
            value = value.diff(column, order) if order else value
        values[atom.symbol] = value
    apart = [Eq(term.xreplace(values), 0) for term in part.terms]
    return Problem(apart, problem.domain, time=problem.time)


class _PerPotential:
    """Sums over the rows of each potential.

    Args:
        k: of each row, `[n]`.
    """

    def __init__(self, k: Tensor):
        self.found, self.place = torch.unique(k, return_inverse=True)

    def ratios(self, square: Tensor, size: Tensor) -> Tensor:
        """The sum of `square` over that of `size`, for each potential that has rows."""
        of_each = lambda values: values.new_zeros(len(self.found)).index_add(0, self.place, values)  # noqa: E731
        return of_each(square) / of_each(size).clamp(min=1e-30)


def compiled_for(points: Tensor, problem: Problem, made: dict[tuple, Any], lines: int | None = None) -> Any:
    """`problem` compiled for points of this kind, once; `made` keeps it."""
    key = points.dtype, points.device, lines
    if key not in made:
        made[key] = pinnflow.compile(
            problem, points=1, dtype=points.dtype, device=points.device, backend="eager", probes=lines
        )
    return made[key]
