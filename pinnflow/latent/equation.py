"""The equation that potentials obey: a `Problem` over a time and a vector of codes, read for use in a latent space."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from sympy import Eq, Expr, exp
from torch import Tensor, nn

import pinnflow
from pinnflow import Problem, coordinates, dot, field
from pinnflow.errors import DeclarationError
from pinnflow.latent.potentials import ForRows


class Equation:
    """A problem over (t, z), its residual for K stacked functions, and the velocity it means.

    Args:
        problem: over one time and one vector coordinate (or d scalar ones); unknown fields depend on all of them.
        latent_dim: d.
        velocity: a vector expression in the fields, or None for the gradient of the first field.
        exact_chunk: the largest d for which Laplacians are exact; above it two random probes estimate them.

    Raises:
        DeclarationError: the problem is not over a time and d codes.
    """

    def __init__(self, problem: Problem, latent_dim: int, velocity: Expr | None = None):
        self.problem, self.latent_dim, self.velocity = problem, latent_dim, velocity
        if problem.time is None:
            raise DeclarationError(
                "the equation of a potential needs a time: write `t = coordinates('t')`, put `t: (0, 6)` into the "
                "domain, or name the coordinate with `time=`"
            )
        others = [c for c in problem.columns if c != problem.time]
        if len(others) != latent_dim:
            raise DeclarationError(
                f"the equation has {len(others)} coordinates beside the time `{problem.time}`, the generator "
                f"{latent_dim} codes; write `z = coordinates('z', {latent_dim})` and `u = field('u', {problem.time}, z)`"
            )
        for one in problem.fields:
            if len(one.args) != len(problem.coordinates):
                raise DeclarationError(f"the field `{one}` must depend on all of {problem.coordinates}")
        self.time = problem.columns.index(problem.time)
        self.horizon = float(problem.bounds[problem.time][1])
        self.order = max(
            (atom.order for b in problem.blocks if b.kind == "equation" for p in b.parts for atom in p.atoms)
        )
        self._compiled: dict[tuple, object] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Blocks: equations first, then conditions."""
        return tuple(block.name for block in self.problem.blocks)

    def points(self, z: Tensor, t: float | Tensor) -> Tensor:
        """Rows of columns in the problem's order, `[n, d + 1]`."""
        t = torch.as_tensor(t, dtype=z.dtype, device=z.device).expand(len(z))[:, None]
        return torch.cat([z[:, : self.time], t, z[:, self.time :]], dim=1)

    def residuals(self, module: nn.Module, points: Tensor, k: Tensor) -> dict[str, Tensor]:
        """`{block: [n]}` of the row's own function at each point; conditions at the point moved to their pins."""
        return self._of(points).residuals(ForRows(module, k), {name: points for name in self.names})

    def terms(self, module: nn.Module, points: Tensor, k: Tensor) -> dict[str, Tensor]:
        """The summands of `residuals`, `{block: [n, terms]}`."""
        return self._of(points).terms(ForRows(module, k), {name: points for name in self.names})

    def _of(self, points):
        key = points.dtype, points.device
        if key not in self._compiled:
            self._compiled[key] = pinnflow.compile(
                self.problem, points=1, dtype=points.dtype, device=points.device, backend="eager"
            )
        return self._compiled[key]


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
        if logarithmic:
            first = problem.fields[0]
            velocity = velocity.xreplace({first: exp(field(f"log_{first.func}", *first.args))})
        probe = coordinates("probe", d)
        try:
            declared = Problem([Eq(dot(velocity, probe), 0)], {**problem.domain, probe: (-1, 1)}, time=problem.time)
        except DeclarationError as problem_in_it:
            raise DeclarationError(f"the velocity `{velocity}` cannot be read:\n{problem_in_it}") from None
        self.fields = len(declared.fields)
        self.declared = declared
        self._compiled: dict[tuple, object] = {}

    def __call__(self, module: nn.Module, points: Tensor, k: Tensor) -> Tensor:
        """The velocity `[n, d]` at rows of points `[n, d + 1]`, differentiable."""
        key = points.dtype, points.device
        if key not in self._compiled:
            self._compiled[key] = pinnflow.compile(
                self.declared, points=1, dtype=points.dtype, device=points.device, backend="eager"
            )
        create = torch.is_grad_enabled()
        with torch.enable_grad():
            probe = points.new_zeros(len(points), self.latent_dim, requires_grad=True)
            rows = torch.cat([points, probe], dim=1)
            name = self.declared.blocks[0].name
            scalar = self._compiled[key].residuals(ForRows(module, k, points.shape[1]), {name: rows})[name]
            return torch.autograd.grad(scalar.sum(), probe, create_graph=create)[0]
