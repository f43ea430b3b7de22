"""`PotentialFlow`: K potentials in the latent space of a generator, each obeying a declared equation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sympy import Expr
from torch import Tensor, nn

import pinnflow
from pinnflow import NoExactFamily, Problem
from pinnflow.errors import DeclarationError, UnknownName
from pinnflow.latent.equation import Equation
from pinnflow.latent.objectives import Classifier, Obedience, Objective, Spread
from pinnflow.latent.potentials import ACTIVATIONS, Density, LogDensity, StackedNetwork
from pinnflow.latent.presets import make_preset
from pinnflow.latent.starting import Start, Started
from pinnflow.latent.training import TrainedFlow
from pinnflow.latent.traversal import positive, stated_dimension
from pinnflow.latent.velocity import StatedVelocity

FORMS = ("auto", "exact", "soft", "none")
_CALLED = {"exact": "", "soft": ", soft", "none": ", no equation"}


class PotentialFlow(TrainedFlow):
    """K potentials u_k(z, t) in the latent space of a generator, learned so that each changes images in its own way.

    ```python
    flow = PotentialFlow(generator, latent_dim=8, potentials=5, pde="wave")
    flow.fit(iterations=500)
    path = flow.traverse(z, potential=2, steps=6, step_length=0.35)      # [7, n, 8]
    ```

    Every potential obeys the equation: identically, where `pinnflow.exact_family` knows a family of solutions, else in
    the least-squares sense, as a term of the training. A sample moves along the gradient of its potential, or by the
    velocity that a density equation means. A network that sees how the image changed has to tell which potential moved
    it; that keeps the potentials distinct.

    Args:
        generator: any callable that maps codes `[n, d]` to images `[n, c, h, w]`; called in its own dtype.
        latent_dim: d; by default the generator's attribute `latent_dim`.
        potentials: K.
        pde: `wave`, `hamilton-jacobi`, `hamilton-jacobi-source`, `heat`, `fokker-planck`, `porous-medium`, or a
            `Problem` over a time and a vector coordinate of d components. Only its equations and conditions count; a
            soft equation is trained along its time axis, and at the times 1 to `steps` of the walks.
        form: `exact` raises where no family is known, `soft` trains a network for the equation, `none` trains a network
            without it; `auto` is exact where that is possible, else soft.
        velocity: what moves a sample, a vector expression in sympy such as `-grad(log(rho), z)`; by default the
            gradient of the first field, or what a density preset means.
        objectives: what to train for; by default `Classifier()` and `Spread()`, with `Obedience()` for soft equations
            and conditions. See `pinnflow.latent.objectives`.
        seed: of the first weights and of the training.
        device: of codes and potentials; by default a GPU if there is one.
        dtype: of codes and potentials.
        features: terms of each function of an exact family.
        hidden: width of the networks of soft potentials.
        activation: of these networks: `tanh`, `sin`, `softplus`, or `relu` for equations of first order.
        steps, step_length: of the walks in training.
        rate: learning rate of the potentials.
        density: whether the first field is a density, so that a soft one is made positive; by default what the preset
            says, and no for a problem of your own.
        name: what tables call the flow.

    Attributes:
        form: `exact`, `soft` or `none`.
        reason: why, a sentence.
        field: the module that holds the potentials, called as `field(points, k)`.
        equation: the declared equation.
        holding: names of the equations and conditions that hold by construction.
        settings: the numbers given above that a file has to hold.

    Raises:
        UnknownName: no such preset, form or activation.
        DeclarationError: the problem is not over a time and d codes, or has derivatives that the activation lacks.
        NoExactFamily: `form="exact"` and no family is known.

    Source: Song, Keller, Sebe & Welling, Latent Traversals in Generative Models as Potential Flows (ICML 2023).
    """

    def __init__(
        self,
        generator: Callable[[Tensor], Tensor] | None,
        latent_dim: int | None = None,
        potentials: int = 5,
        pde: str | Problem = "wave",
        form: str = "auto",
        velocity: Expr | None = None,
        objectives: Sequence[Objective] | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
        *,
        features: int = 64,
        hidden: int = 64,
        activation: str = "tanh",
        steps: int = 6,
        step_length: float | None = 0.35,
        rate: float = 3e-2,
        density: bool | None = None,
        name: str | None = None,
    ):
        if form not in FORMS:
            raise UnknownName("form", form, FORMS)
        if activation not in ACTIVATIONS:
            raise UnknownName("activation", activation, tuple(ACTIVATIONS))
        latent_dim = positive("latent_dim", stated_dimension(generator, latent_dim))
        potentials, features = positive("potentials", potentials), positive("features", features)
        hidden, steps = positive("hidden", hidden), positive("steps", steps)
        problem, stated, is_density = _declared(pde, latent_dim, steps)
        density = is_density if density is None else density
        self.velocity_expression = stated if velocity is None else velocity
        self.equation = Equation(problem, latent_dim)
        self.settings: dict[str, Any] = {
            "features": features,
            "hidden": hidden,
            "activation": activation,
            "seed": seed,
            "steps": steps,
            "step_length": step_length,
            "rate": rate,
            "density": density,
        }
        field, self.form, self.reason = self._make_field(form, potentials, density)
        self.holding = self._holding(field)
        if objectives is None:
            objectives = [Classifier(), Spread()]
            if self.form != "none" and not self.holding.issuperset(self.equation.names):
                objectives.append(Obedience())
        super().__init__(
            generator,
            latent_dim,
            potentials,
            objectives=objectives,
            seed=seed,
            steps=steps,
            step_length=step_length,
            rate=rate if self.form == "exact" else rate / 3,
            name=name or (problem.name or "potential") + _CALLED[self.form],
            device=device,
            dtype=dtype,
        )
        self.field = field
        self.logarithmic = hasattr(field, "log_density")
        if self.logarithmic:
            self.potential_symbol = r"\log\rho"
        self._stated = None
        if self.velocity_expression is not None:
            self._stated = StatedVelocity(self.equation, self.velocity_expression, self.logarithmic)
        self.place_weights()

    def _make_field(self, form: str, potentials: int, density: bool) -> tuple[nn.Module, str, str]:
        """The module, the form it has, and why."""
        problem, settings = self.equation.problem, self.settings
        reason = "as asked for"
        if form in ("auto", "exact"):
            try:
                family = pinnflow.exact_family(
                    problem, members=potentials, features=settings["features"], seed=settings["seed"]
                )
            except NoExactFamily as why:
                if form == "exact":
                    raise
                reason = f"no family of exact solutions is known ({str(why).splitlines()[0]})"
            else:
                return family, "exact", f"`{type(family).__name__}` satisfies the equation identically"
            form = "soft"
        if form == "soft" and settings["activation"] == "relu" and self.equation.order > 1:
            raise DeclarationError(
                f"`activation='relu'` with an equation of order {self.equation.order}: all second derivatives of such "
                "a network are zero, so that the equation would hold for the wrong reason; write `activation='tanh'`"
            )
        draw = torch.Generator().manual_seed(settings["seed"])
        network = StackedNetwork(
            potentials,
            self.equation.latent_dim + 1,
            len(problem.fields),
            settings["hidden"],
            draw,
            settings["activation"],
        )
        inner: nn.Module = network
        start = Start.read(problem, density) if form == "soft" else None
        if start is not None and start.values:
            inner = Started(network, start, problem)
            self._check_start(inner, density)
            reason += "; the initial values hold by construction"
        return Density(inner) if density else inner, form, reason

    def _check_start(self, module: Started, density: bool) -> None:
        z = torch.randn(64, self.equation.latent_dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        with torch.no_grad():
            values = module(self.equation.points(z, module.start.first), torch.zeros(64, dtype=torch.long))
        for place, one in enumerate(self.equation.problem.fields):
            wrong = ~torch.isfinite(values[:, place])
            if bool(wrong.any()):
                at = ", ".join(f"{x:.3g}" for x in z[wrong][0].tolist()[:8])
                raise DeclarationError(
                    f"the initial value of `{one}` is "
                    + ("not positive, as a density has to be, at" if density and place == 0 else "no number at")
                    + f" the code ({at}{', ...' if z.shape[1] > 8 else ''}); write one that is so at all codes"
                )

    def _holding(self, module: nn.Module) -> frozenset[str]:
        """Names of the blocks that hold whatever the weights are; conditions are tried at random points."""
        if self.form == "none":
            return frozenset()
        equations = self.equation.equations if self.form == "exact" else ()
        if not self.equation.conditions:
            return frozenset(equations)
        draw = torch.Generator().manual_seed(1)
        z = torch.randn(8, self.equation.latent_dim, generator=draw, dtype=torch.float64)
        k = torch.zeros(8, dtype=torch.long)
        with torch.no_grad():
            points = self.equation.points(z, 1.0)
            values = self.equation.residuals(module, points, k, self.equation.conditions)
            size = module(points, k).square().mean().sqrt()
            held = [name for name, r in values.items() if bool(r.abs().max() <= 1e-9 * size)]
        return frozenset([*held, *equations])

    def potential(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """u_k(z, t), `[n]`; of a density its logarithm, which is what can be seen.

        Args:
            z: codes, `[n, d]`.
            t: times, a number or `[n]`.
            k: which potential, a number or `[n]`.
        """
        z = z if isinstance(z, Tensor) and z.requires_grad else self.codes(z)
        points, k = self.equation.points(z, t), self.index(k, len(z))
        return (self.field.log_density(points, k) if self.logarithmic else self.field(points, k))[:, 0]

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """What moves a sample at (z, t), `[n, d]`: the gradient of u_k, or the stated velocity."""
        if not isinstance(z, Tensor) or z.dim() != 2 or z.shape[1] != self.latent_dim:
            z = self.codes(z)
        k = self.index(k, len(z))
        if self._stated is not None:
            module = LogDensity(self.field) if self.logarithmic else self.field
            return self._stated(module, self.equation.points(z, t), k)
        create = torch.is_grad_enabled()
        with torch.enable_grad():
            at = z if z.requires_grad else z.detach().requires_grad_()
            u = self.field(self.equation.points(at, t), k)[:, 0]
            return torch.autograd.grad(u.sum(), at, create_graph=create)[0]

    def residual(self, z: Tensor, t: float | Tensor, k: int | Tensor | None = None) -> Tensor:
        """How far the equation is from holding: |r| / sqrt(sum of squares of its terms), `[n]`; the worst equation.

        From derivatives of the potential itself, also where it holds by construction. 1 where one term stands alone.

        Args:
            z: codes, `[n, d]`.
            t: times, a number or `[n]`.
            k: which potential, a number or `[n]`; None for the worst over all.
        """
        z = self.codes(z)
        t = self.equation.points(z, t)[:, self.equation.time]
        if k is None:
            K = self.potentials
            rows = self.residual(z.repeat_interleave(K, 0), t.repeat_interleave(K), torch.arange(K).repeat(len(z)))
            return rows.unflatten(0, (len(z), K)).amax(dim=1)
        with torch.no_grad():
            return self.equation.relative(self.field, self.equation.points(z, t), self.index(k, len(z)))

    def residual_norms(self, z: Tensor, t: float | Tensor, k: Tensor) -> dict[int, float]:
        """||r|| / ||terms|| over the rows of each potential, `{potential: number}`; the worst equation or condition.

        Unlike the rows' own ratios not ruled by rows where all terms are small, and unlike a norm over all rows not by
        the largest potential. Density equations are divided by the density, so that they count where it is low too.
        Conditions that do not hold by construction are measured by the fields: ||r|| / ||u||.

        Args:
            z, t, k: as for `residual`, k one for each row.
        """
        with torch.no_grad():
            z = self.codes(z)
            return self.equation.norms(
                self.field,
                self.equation.points(z, t),
                self.index(k, len(z)),
                holding=self.holding,
                density=self.logarithmic,
            )

    def disobedience(
        self, z: Tensor, t: Tensor, k: Tensor, generator: torch.Generator | None = None, by_row: float = 0.0
    ) -> Tensor:
        """What `Obedience` makes small, a number that scaling the potential does not change; differentiable.

        With a `generator` Laplacians in more than 256 dimensions are estimated along random lines; `by_row` is the
        share in which every row counts by its own ratio of residual and terms.
        """
        return self.equation.disobedience(
            self.field,
            self.equation.points(z, t),
            k,
            holding=self.holding,
            density=self.logarithmic,
            by_row=by_row,
            generator=generator,
        )

    def save(self, path: str | Path) -> None:
        """Writes the flow without its generator to an HDF5 file: equation, settings, weights, history."""
        from pinnflow.latent.storage import save_flow

        save_flow(self, path)

    @classmethod
    def load(
        cls, path: str | Path, generator: Callable[[Tensor], Tensor] | None = None, *, device=None
    ) -> PotentialFlow:
        """The flow that `save` wrote, on a generator. No code is read from the file.

        Raises:
            DamagedFile: the file is not whole, or holds something else.
        """
        from pinnflow.latent.storage import load_flow

        return load_flow(cls, path, generator, device)


def _declared(pde: Any, latent_dim: int, horizon: float) -> tuple[Problem, Expr | None, bool]:
    if isinstance(pde, str):
        preset = make_preset(pde, latent_dim, horizon)
        return preset.problem, preset.velocity, preset.density
    if not isinstance(pde, Problem):
        raise DeclarationError(f"`pde` is {pde!r}; it must be the name of a preset or a `Problem` over (t, z)")
    return pde, None, False
