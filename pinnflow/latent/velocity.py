"""A velocity written in sympy, in the fields of a problem over (t, z) and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from sympy import Add, Dummy, Eq, Expr, Mul, S, exp, powsimp
from torch import Tensor, nn

from pinnflow import Problem, coordinates, dot, field, grad
from pinnflow.errors import DeclarationError
from pinnflow.latent.equation import Equation, compiled_for
from pinnflow.latent.expressions import is_plain, plain_function
from pinnflow.latent.potentials import ForRows


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
        compiled = compiled_for(points, self.declared, self._compiled)
        create = torch.is_grad_enabled()
        with torch.enable_grad():
            probe = points.new_zeros(len(points), self.latent_dim, requires_grad=True)
            rows = torch.cat([points, probe], dim=1)
            name = self.declared.blocks[0].name
            seen = ForRows(module, k, points.shape[1], self.outputs)
            scalar = compiled.residuals(seen, {name: rows})[name]
            return torch.autograd.grad(scalar.sum(), probe, create_graph=create)[0]


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
            if not is_plain(inner, set(places.values())):
                return None
            for i, value in enumerate(places.values()):
                if not inner.has(value):
                    continue
                totals[i] = totals.get(i, S.Zero) + factor * inner.diff(value)
        made = {}
        for i, total in totals.items():
            total = powsimp(total)
            if not is_plain(total, {time, *places.values()}):
                return None
            made[i] = plain_function([time, *places.values()], total)
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
