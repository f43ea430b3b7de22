"""`PotentialFlow`: K potentials in the latent space of a generator, each obeying a declared equation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sympy import Expr
from torch import Tensor, nn

import pinnflow
from pinnflow import NoExactFamily, Problem
from pinnflow.errors import DeclarationError, UnknownName
from pinnflow.latent.equation import Equation, StatedVelocity
from pinnflow.latent.objectives import Classifier, Obedience, Objective, Spread
from pinnflow.latent.potentials import ACTIVATIONS, Density, ForRows, StackedNetwork
from pinnflow.latent.presets import make_preset
from pinnflow.latent.traversal import positive
from pinnflow.latent.training import TrainedFlow

FORMS = ("auto", "exact", "soft", "none")


class PotentialFlow(TrainedFlow):
    def __init__(
        self,
        generator,
        latent_dim: int | None = None,
        potentials: int = 5,
        pde: str | Problem = "wave",
        form: str = "auto",
        velocity: Expr | None = None,
        objectives: Sequence[Objective] | None = None,
        seed: int = 0,
        device=None,
        dtype: torch.dtype = torch.float64,
        *,
        features: int = 64,
        hidden: int = 64,
        activation: str = "tanh",
        steps: int = 6,
        step_length: float | None = 0.35,
        name: str | None = None,
        rate=3e-2,
    ):
        if form not in FORMS:
            raise UnknownName("form", form, FORMS)
        if activation not in ACTIVATIONS:
            raise UnknownName("activation", activation, tuple(ACTIVATIONS))
        latent_dim = latent_dim if latent_dim is not None else generator.latent_dim
        positive("latent_dim", latent_dim)
        positive("potentials", potentials)
        density = False
        if isinstance(pde, str):
            preset = make_preset(pde, latent_dim, steps)
            problem, density = preset.problem, preset.density
            velocity = preset.velocity if velocity is None else velocity
        else:
            problem = pde
        self.equation = Equation(problem, latent_dim, velocity)
        draw = torch.Generator().manual_seed(seed)
        self.form = form
        field = None
        if form in ("auto", "exact"):
            try:
                field = pinnflow.exact_family(problem, members=potentials, features=features, seed=seed)
                self.form = "exact"
            except NoExactFamily:
                if form == "exact":
                    raise
                self.form = "soft"
        if field is None:
            field = StackedNetwork(potentials, latent_dim + 1, len(problem.fields), hidden, draw, activation)
            if density:
                field = Density(field)
        if objectives is None:
            objectives = [Classifier(), Spread()]
            if self.form == "soft":
                objectives.append(Obedience())
        super().__init__(
            generator,
            latent_dim,
            potentials,
            objectives=objectives,
            seed=seed,
            steps=steps,
            step_length=step_length,
            name=name or f"{problem.name}",
            device=device,
            dtype=dtype,
            rate=rate,
        )
        self.field = field
        self.logarithmic = hasattr(field, "log_density")
        self._velocity = None if velocity is None else StatedVelocity(self.equation, velocity, self.logarithmic)
        self.place_weights()

    def potential(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        z = self.codes(z) if not isinstance(z, Tensor) else z
        points = self.equation.points(z, t)
        k = self.index(k, len(z))
        return (self.field.log_density(points, k) if self.logarithmic else self.field(points, k))[:, 0]

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        k = self.index(k, len(z))
        if self._velocity is not None:
            module = _Logarithm(self.field) if self.logarithmic else self.field
            return self._velocity(module, self.equation.points(z, t), k)
        create = torch.is_grad_enabled()
        with torch.enable_grad():
            at = z if z.requires_grad else z.detach().requires_grad_()
            u = self.field(self.equation.points(at, t), k)[:, 0]
            return torch.autograd.grad(u.sum(), at, create_graph=create)[0]


class _Logarithm(nn.Module):
    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, points, k):
        return self.field.log_density(points, k)
