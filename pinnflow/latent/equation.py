"""The equation that potentials obey: a `Problem` over a time and a vector of codes, read for use in a latent space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from sympy import (
    Add,
    Dummy,
    Eq,
    Expr,
    Mul,
    Number,
    NumberSymbol,
    Pow,
    S,
    Symbol,
    exp,
    lambdify,
    log,
    powsimp,
    preorder_traversal,
)
from torch import Tensor, nn

import pinnflow
from pinnflow import Problem, coordinates, dot, field, grad
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
        horizon: the end of the time axis.
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
        self.horizon = float(problem.bounds[problem.time][1])
        equations = [block for block in problem.blocks if block.kind == "equation"]
        self._equations = [block.name for block in equations]
        self.order = max(atom.order for block in equations for part in block.parts for atom in part.atoms)
        self._compiled: dict[tuple, Any] = {}

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

    def residuals(self, module: nn.Module, points: Tensor, k: Tensor) -> dict[str, Tensor]:
        """`{block: [n]}` of the row's own function at each point; conditions at the point moved to their pins."""
        return self._of(points).residuals(ForRows(module, k), dict.fromkeys(self.names, points))

    def relative(self, module: nn.Module, points: Tensor, k: Tensor) -> Tensor:
        """|r| / sqrt(sum of squared terms) of the worst equation, `[n]`; 0 where all terms are zero."""
        worst = torch.zeros(len(points), dtype=points.dtype, device=points.device)
        for terms in self._terms(module, points, k).values():
            size = torch.linalg.vector_norm(terms, dim=1)
            share = terms.sum(dim=1).abs() / torch.where(size > 0, size, 1.0)
            worst = torch.maximum(worst, torch.where(size > 0, share, 0.0))
        return worst

    def disobedience(
        self,
        module: nn.Module,
        points: Tensor,
        k: Tensor,
        *,
        identically: bool = False,
        density: bool = False,
        by_row: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A number without units that is 0 where equations and conditions hold; differentiable by weights and points.

        For every equation the mean square of the residual over that of its terms; for every condition its mean square
        over that of the fields. Equations that hold identically are left out. In more than 256 dimensions the square of
        the residual is the product of two estimates along random lines, because the square of one would be too large by
        its variance; such a number can be below 0.

        Args:
            module, points, k: as for `residuals`.
            identically: whether the equations hold by construction.
            density: whether the first output is a density; the equations are then divided by it, or else they would
                count only where it is high.
            by_row: the share of the mean of each row's own ratio, to which rows with small terms count like those with
                large ones; the rest is the ratio of the means.
            generator: of the random lines.
        """
        total = points.new_zeros(())
        if not identically:
            first = self._terms(module, points, k, generator)
            other = first if generator is None or self.latent_dim <= MANY else self._terms(module, points, k, generator)
            unit = module(points, k)[:, :1] if density else 1.0
            for name in first:
                terms, again = first[name] / unit, other[name] / unit
                square = terms.sum(dim=1) * again.sum(dim=1)
                size = (terms.square() + again.square()).sum(dim=1) / 2
                total = total + (1 - by_row) * square.mean() / size.mean().clamp(min=1e-30)
                if by_row:
                    total = total + by_row * (square / size.clamp(min=1e-30)).mean()
        conditions = [name for name in self.names if name not in self._equations]
        if conditions:
            values = self._of(points).residuals(ForRows(module, k), dict.fromkeys(conditions, points))
            size = module(points, k).square().mean().clamp(min=1e-30)
            total = total + sum(r.square().mean() for r in values.values()) / size
        return total

    def _terms(self, module, points, k, generator=None):
        """Terms of the equations, `{name: [n, terms]}`; with a `generator` estimates, in many dimensions."""
        estimated = generator is not None and self.latent_dim > MANY
        compiled = self._of(points, LINES if estimated else None)
        if estimated:
            compiled.coin.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return compiled.terms(ForRows(module, k), dict.fromkeys(self._equations, points))

    def _of(self, points, lines=None):
        return _compiled_for(points, self.problem, self._compiled, lines)


def _compiled_for(points: Tensor, problem: Problem, made: dict[tuple, Any], lines: int | None = None) -> Any:
    """`problem` compiled for points of this kind, once; `made` keeps it."""
    key = points.dtype, points.device, lines
    if key not in made:
        made[key] = pinnflow.compile(
            problem, points=1, dtype=points.dtype, device=points.device, backend="eager", probes=lines
        )
    return made[key]


def along_probe(problem: Problem, velocity: Expr) -> Problem:
    """The equation `velocity . probe = 0` with a vector of its own, which bears a vector expression as a scalar one."""
    probe = coordinates("probe", len(problem.columns) - 1)
    return Problem([Eq(dot(velocity, probe), 0)], {**problem.domain, probe: (-1, 1)}, time=problem.time)


class StatedVelocity:
    """A velocity written in sympy, evaluated for K stacked functions.

    The scalar velocity . s with a vector s of its own is linear in s, so its gradient by s is the velocity; that
    scalar is an ordinary equation for `pinnflow.compile`, in as many dimensions as there are.

    Args:
        equation: whose fields and coordinates the velocity speaks of.
        velocity: a vector expression.
        logarithmic: whether the module's first output is to be taken as the logarithm of the first field.
    """

    def __init__(self, equation: Equation, velocity: Expr, logarithmic: bool):
        problem, d = equation.problem, equation.latent_dim
        vectors = [c for c in problem.coordinates if c != problem.time]
        if len(vectors) != 1:
            raise DeclarationError("a velocity can be stated for one vector coordinate `coordinates('z', d)` only")
        self.equation, self.latent_dim = equation, d
        fields = problem.fields
        if logarithmic:
            log_first = field(f"log_{fields[0].func}", *fields[0].args)
            velocity, fields = velocity.xreplace({fields[0]: exp(log_first)}), (log_first,)
        self.gradients = _Gradients.read(equation, velocity, fields)
        if self.gradients is not None:
            return
        try:
            declared = along_probe(problem, velocity)
        except DeclarationError as problem_in_it:
            raise DeclarationError(f"the velocity `{velocity}` cannot be read:\n{problem_in_it}") from None
        self.outputs = None
        if not logarithmic and declared.fields != problem.fields:
            strange = [one for one in declared.fields if one not in problem.fields]
            if strange:
                raise DeclarationError(f"the velocity speaks of `{strange[0]}`; the equation has {problem.fields}")
            self.outputs = [problem.fields.index(one) for one in declared.fields]
        self.declared = declared
        self._compiled: dict[tuple, Any] = {}

    def __call__(self, module: nn.Module, points: Tensor, k: Tensor) -> Tensor:
        """The velocity `[n, d]` at rows of points `[n, d + 1]`, differentiable."""
        if self.gradients is not None:
            return self.gradients(ForRows(module, k), points)
        compiled = _compiled_for(points, self.declared, self._compiled)
        create = torch.is_grad_enabled()
        with torch.enable_grad():
            probe = points.new_zeros(len(points), self.latent_dim, requires_grad=True)
            rows = torch.cat([points, probe], dim=1)
            name = self.declared.blocks[0].name
            seen = ForRows(module, k, points.shape[1], self.outputs)
            scalar = compiled.residuals(seen, {name: rows})[name]
            return torch.autograd.grad(scalar.sum(), probe, create_graph=create)[0]


_PLAIN = (Add, Mul, Pow, Number, NumberSymbol, Symbol, exp, log)
"""What a factor of a gradient may be made of: no derivatives, no values at other places."""


def _is_plain(expression: Expr, symbols: set) -> bool:
    nodes = preorder_traversal(expression)
    return expression.free_symbols <= symbols and all(isinstance(node, _PLAIN) for node in nodes)


class _Gradients:
    """A velocity `sum_i a_i(t, u) grad u_i + b(t, u) z`, by one pass of reverse mode for each field.

    Args:
        equation: as for `StatedVelocity`.
        factors: `{place of the field: function (t, *fields) -> [n] or number}` of the gradients.
        outward: the same for z.
    """

    def __init__(self, equation: Equation, factors: dict[int, Callable[..., Any]], outward: Callable[..., Any] | None):
        self.equation, self.factors, self.outward = equation, factors, outward

    @classmethod
    def read(cls, equation: Equation, velocity: Expr, fields: Sequence[Expr]) -> _Gradients | None:
        """The velocity in this form, or None if it has another one."""
        (z,) = [c for c in equation.problem.coordinates if c != equation.problem.time]
        gradient = type(grad(fields[0], z))
        places: dict[Any, Any] = {one: Dummy() for one in fields}
        time = equation.problem.time
        totals: dict[Any, Any] = {}
        for term in Add.make_args(velocity):
            vectors = [one for one in Mul.make_args(term) if one == z or isinstance(one, gradient)]
            if len(vectors) != 1:
                return None
            factor = (term / vectors[0]).xreplace(places)
            if vectors[0] == z:
                totals[None] = totals.get(None, S.Zero) + factor
                continue
            if tuple(vectors[0].args[1:]) != (z,):
                return None
            inner = vectors[0].args[0].xreplace(places)
            if not _is_plain(inner, set(places.values())):
                return None
            for i, value in enumerate(places.values()):
                if not inner.has(value):
                    continue
                totals[i] = totals.get(i, S.Zero) + factor * inner.diff(value)
        made = {}
        for i, total in totals.items():
            total = powsimp(total)
            if not _is_plain(total, {time, *places.values()}):
                return None
            made[i] = lambdify([time, *places.values()], total, modules=[{"exp": torch.exp, "log": torch.log}])
        return cls(equation, {i: one for i, one in made.items() if i is not None}, made.get(None))

    def __call__(self, module: nn.Module, points: Tensor) -> Tensor:
        """The velocity `[n, d]`, differentiable."""
        create, column = torch.is_grad_enabled(), self.equation.time
        without_time = lambda rows: torch.cat([rows[:, :column], rows[:, column + 1 :]], dim=1)  # noqa: E731
        with torch.enable_grad():
            at = points if points.requires_grad else points.detach().requires_grad_()
            values = module(at).unbind(dim=1)
            slopes = {
                i: torch.autograd.grad(values[i].sum(), at, create_graph=create, retain_graph=True)[0]
                for i in self.factors
            }
        t, total = at[:, column], torch.zeros_like(without_time(at))
        rows = lambda factor: torch.as_tensor(factor(t, *values), dtype=at.dtype, device=at.device)  # noqa: E731
        for i, factor in self.factors.items():
            total = total + rows(factor).expand(len(at))[:, None] * without_time(slopes[i])
        if self.outward is not None:
            total = total + rows(self.outward).expand(len(at))[:, None] * without_time(at)
        return total if create else total.detach()
