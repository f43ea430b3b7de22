"""`Flow`: K vector fields in the latent space of a generator, and how a sample walks along one of them.

Everything that can be walked (potential flows, linear directions, oracles) is a `Flow` and supplies `velocity` only.
Step i = 1, 2, ... of a walk is taken at time t = i with dt = 1. With a `step_length` the velocity counts by its
direction alone, so that all flows are compared at the same length of path; a zero velocity is a zero step.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from pinnflow.errors import NonFinite, UnknownName, WrongShape
from pinnflow.latent.inversion import solve_fixed_points
from pinnflow.latent.rendering import render, usual_device
from pinnflow.latent.transport import divergence, log_determinant

REMEMBERED = 8  # walks, of which `inverse` knows where they came from

Field = Callable[[Tensor, float], Tensor]


def _euler(field: Field, z: Tensor, t: float) -> Tensor:
    return z + field(z, t)


def _runge_kutta(field: Field, z: Tensor, t: float) -> Tensor:
    a = field(z, t)
    b = field(z + a / 2, t + 0.5)
    c = field(z + b / 2, t + 0.5)
    d = field(z + c, t + 1.0)
    return z + (a + 2 * b + 2 * c + d) / 6


def _midpoint(field: Field, z: Tensor, t: float) -> Tensor:
    """The implicit midpoint rule: the same equation forwards and backwards, hence reversible."""
    return solve_fixed_points(lambda end: z + field((z + end) / 2, t + 0.5), z + field(z, t + 0.5), around=z)


INTEGRATORS: dict[str, Callable[[Field, Tensor, float], Tensor]] = {
    "euler": _euler,
    "runge-kutta": _runge_kutta,
    "midpoint": _midpoint,
}


class Flow:
    """K vector fields v_k(z, t) in a latent space, walked in steps.

    Attributes:
        generator: maps codes `[n, d]` to images `[n, c, h, w]`; None where only codes are of interest.
        latent_dim: d.
        potentials: K, the number of fields.
        name: what tables call it.
        device: of the codes.
        dtype: of the codes.
    """

    def __init__(
        self,
        generator: Callable[[Tensor], Tensor] | None,
        latent_dim: int,
        potentials: int,
        *,
        name: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        self.generator: Any = generator  # None where only codes are of interest
        self.latent_dim = positive("latent_dim", latent_dim)
        self.potentials = positive("potentials", potentials)
        self.name = name or type(self).__name__
        self.device = usual_device(device)
        self.dtype = dtype
        self._walks: deque[Tensor] = deque(maxlen=REMEMBERED)

    def velocity(self, z: Tensor, t: float | Tensor, k: int | Tensor = 0) -> Tensor:
        """v_k(z, t), `[n, d]`; differentiable where gradients are enabled.

        Args:
            z: codes, `[n, d]`.
            t: times, a number or `[n]`.
            k: which field, a number or `[n]`.
        """
        raise NotImplementedError

    def fit(self, *args, **settings) -> Flow:
        """Finds what the fields need to know; nothing, unless a subclass says so."""
        return self

    def traverse(
        self,
        z: Tensor,
        potential: int | Tensor = 0,
        steps: int = 6,
        step_length: float | None = 0.35,
        direction: int | Tensor = 1,
        *,
        integrator: str = "euler",
        start: int = 0,
    ) -> Tensor:
        """Walks `steps` steps from z along one field, `[steps + 1, n, d]` with z first.

        Args:
            z: codes, `[n, d]` or `[d]`.
            potential: which field, a number or one for each row.
            steps: number of steps; step i is taken at t = start + i.
            step_length: of every step in the latent space; None takes the velocity as it is.
            direction: 1, or -1 for a walk against the velocity at the same times; may differ by row.
            integrator: `euler`, `runge-kutta`, or the reversible `midpoint`.
            start: steps taken before, for a walk that goes on from another one.

        Raises:
            WrongShape: z is not `[n, latent_dim]`.
            UnknownName: no such integrator.
            ValueError: no such potential, or `steps`, `step_length` or `direction` makes no sense.
            NonFinite: the walk left the numbers.
        """
        z, k, sign = self._read(z, potential, steps, step_length, direction, integrator)
        step = INTEGRATORS[integrator]
        path = [z]
        with torch.no_grad():
            for i in range(start + 1, start + steps + 1):
                path.append(step(self._field(k, step_length, sign), path[-1], float(i)))
        walk = self._finite(torch.stack(path))
        if walk.numel() <= 2**22:
            self._walks.append(walk)
        return walk

    def inverse(
        self,
        z: Tensor,
        potential: int | Tensor = 0,
        steps: int = 6,
        step_length: float | None = 0.35,
        direction: int | Tensor = 1,
        *,
        integrator: str = "euler",
        start: int = 0,
    ) -> Tensor:
        """Walks the steps of `traverse` back from its end: `[steps + 1, n, d]`, z first and the start last.

        Every step solves for a code that `traverse` moves to the given one. Where a field contracts so much that
        several codes are moved to exactly the same place, as on the ridges of a Hamilton-Jacobi potential, z alone does
        not say which one it was. If z is the end of one of the last walks of this flow, the codes that walk came
        through are returned; else those beside the straight way back. Shorter steps leave fewer such places.

        Args: as for `traverse`, with which they have to agree.

        Raises:
            NotSolved: a step has no inverse to 1e-8; with the `midpoint` integrator, or shorter steps, it has.
        """
        z, k, sign = self._read(z, potential, steps, step_length, direction, integrator)
        path, known = [z], self._remembered(z, steps)
        with torch.no_grad():
            for i in range(start + steps, start, -1):
                field = self._field(k, step_length, sign)
                path.append(self._back(integrator, field, path[-1], float(i), known[i - start - 1]))
        return self._finite(torch.stack(path))

    def _remembered(self, z, steps):
        """The last walks that ended at these codes, `[steps + 1, n, d]`; NaN in rows where none did."""
        found = torch.full((steps + 1, *z.shape), torch.nan, dtype=z.dtype, device=z.device)
        rows = [row.tobytes() for row in z.detach().cpu().numpy()]
        for walk in self._walks:
            if len(walk) == steps + 1:
                ends = {row.tobytes(): j for j, row in enumerate(walk[-1].detach().cpu().numpy())}
                for i, row in enumerate(rows):
                    if row in ends:
                        found[:, i] = walk[:, ends[row]]
        return found

    def _back(self, integrator, field, end, t, origin):
        if integrator == "midpoint":
            came_from = lambda z: end - field((z + end) / 2, t + 0.5)  # noqa: E731
            guess = end - field(end, t + 0.5)
        else:
            step = INTEGRATORS[integrator]
            came_from = lambda z: z + end - step(field, z, t)  # noqa: E731
            guess = end - field(end, t)
        # A remembered code counts only if this very step leads from it to the end.
        known = ~torch.isnan(origin).any(dim=1)
        origin = torch.where(known[:, None], origin, guess)
        rounding = 1e-9 if end.dtype == torch.float64 else 1e-5
        known &= (came_from(origin) - origin).abs().amax(dim=1) <= rounding
        return solve_fixed_points(came_from, torch.where(known[:, None], origin, guess), around=end)

    def log_density(self, path: Tensor) -> Tensor:
        """log of the standard normal density at codes `[..., d]`, `[...]`: how usual a code is for the generator."""
        return standard_normal(path)

    def divergence(
        self, z: Tensor, t: float | Tensor = 1.0, k: int | Tensor = 0, *, probes: int | None = None, seed: int = 0
    ) -> Tensor:
        """div v_k(z, t), `[n]`: at this rate the log-density falls along the continuous flow dz/dt = v.

        Args:
            z: codes, `[n, d]`.
            t: times, a number or `[n]`.
            k: which field, a number or `[n]`.
            probes: of an unbiased estimate; None: exact up to 128 dimensions, two above.
            seed: of the probes.
        """
        z = self.codes(z)
        k = self.index(k, len(z))
        return divergence(lambda at: self.velocity(at, t, k), z, probes=probes, seed=seed)

    def transported_log_density(
        self,
        z: Tensor,
        potential: int | Tensor = 0,
        steps: int = 6,
        step_length: float | None = 0.35,
        direction: int | Tensor = 1,
        *,
        start: int = 0,
        probes: int | None = None,
        seed: int = 0,
    ) -> Tensor:
        """log-density along Euler's walk of codes that are standard normal at its start, `[steps + 1, n]`.

        By the change of variables: log|det(I + Dv)| of every step is subtracted, from the exact d x d matrix or without
        bias from random probes; see `pinnflow.latent.transport`.

        Args:
            probes: None: exact up to 128 dimensions, two probes above.
            seed: of the probes.
            z, potential, steps, step_length, direction, start: as for `traverse`.
        """
        z, k, sign = self._read(z, potential, steps, step_length, direction, "euler")
        values = [self.log_density(z)]
        for i in range(start + 1, start + steps + 1):
            field = self._field(k, step_length, sign)
            step = lambda at, field=field, i=i: field(at, float(i))  # noqa: E731
            values.append(values[-1] - log_determinant(step, z, probes=probes, seed=seed + i))
            with torch.no_grad():
                z = z + step(z)
        return torch.stack(values)

    def render(self, z: Tensor, *, chunk: int = 256) -> Tensor:
        """Images of codes `[..., d]`, `[..., c, h, w]`, in the generator's own dtype, without gradients."""
        if self.generator is None:
            raise ValueError(
                f"the flow `{self.name}` has no generator, so there are no images; give one when it is made"
            )
        return render(self.generator, z.to(self.device), chunk=chunk)

    def plot_landscape(self, path=None, potential: int = 0, **settings):
        """Draws the potential over a plane of codes through time; see `pinnflow.latent.plot_landscape`."""
        from pinnflow.latent.landscape import plot_landscape

        return plot_landscape(self, path, potential, **settings)

    def plot_traversals(self, path=None, z=None, **settings):
        """Draws images along all fields, a row for each; see `pinnflow.latent.plot_traversals`."""
        from pinnflow.latent.strips import plot_traversals

        return plot_traversals(self, path, z, **settings)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Standard normal codes `[count, d]`, the same for a seed on every device."""
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(count, self.latent_dim, generator=generator, dtype=torch.float64)
        return z.to(device=self.device, dtype=self.dtype)

    def _field(self, k, step_length, sign):
        """What one step adds: the velocity, or `step_length` times its direction; zero where it is zero."""

        def field(z, t):
            v = self.velocity(z, t, k)
            return sign * (v if step_length is None else step_length * unit(v))

        return field

    def _read(self, z, potential, steps, step_length, direction, integrator):
        if integrator not in INTEGRATORS:
            raise UnknownName("integrator", integrator, tuple(INTEGRATORS))
        positive("steps", steps)
        if step_length is not None and not (isinstance(step_length, Real) and 0 < step_length < math.inf):
            raise ValueError(
                f"`step_length` is {step_length!r}; it must be a positive number, or None for raw velocities"
            )
        z = self.codes(z)
        k = self.index(potential, len(z))
        sign = torch.as_tensor(direction, dtype=self.dtype, device=self.device)
        if sign.dim() > 1 or (sign.dim() == 1 and len(sign) != len(z)) or not bool((sign.abs() == 1).all()):
            raise ValueError(
                f"`direction` is {direction!r}; it must be 1 or -1, or one of them for each of {len(z)} codes"
            )
        return z, k, (sign[:, None] if sign.dim() else sign)

    def codes(self, z) -> Tensor:
        """z as `[n, d]` on the flow's device and in its dtype."""
        z = torch.as_tensor(z, dtype=self.dtype, device=self.device)
        z = z[None] if z.dim() == 1 else z
        if z.dim() != 2 or z.shape[1] != self.latent_dim:
            raise WrongShape(f"`z` has shape {tuple(z.shape)}; codes of `{self.name}` are [n, {self.latent_dim}]")
        if not bool(torch.isfinite(z).all()):
            row = int((~torch.isfinite(z)).any(dim=1).nonzero()[0])
            raise NonFinite(f"`z` is not finite in row {row}")
        return z

    def index(self, k, rows: int) -> Tensor:
        """k as `[rows]` whole numbers below K."""
        k = torch.as_tensor(k, device=self.device)
        if (
            k.is_floating_point()
            or k.is_complex()
            or k.dtype == torch.bool
            or k.dim() > 1
            or (k.dim() == 1 and len(k) != rows)
        ):
            raise ValueError(
                f"`potential` must be a whole number or one for each of {rows} codes; found {k.dtype}, {tuple(k.shape)}"
            )
        if k.numel() and (int(k.min()) < 0 or int(k.max()) >= self.potentials):
            raise ValueError(
                f"there is no potential {int(k.min()) if int(k.min()) < 0 else int(k.max())}: "
                f"`{self.name}` has {self.potentials}, counted from 0"
            )
        return k.long().expand(rows)

    def _finite(self, path):
        bad = ~torch.isfinite(path).flatten(1).all(dim=1)
        if bool(bad.any()):
            raise NonFinite(
                f"the walk of `{self.name}` left the finite numbers at step {int(bad.nonzero()[0])}; "
                "use a `step_length`, or a shorter one, unless the velocity itself is not finite there"
            )
        return path


def unit(v: Tensor) -> Tensor:
    """v / |v| by row; zero, with a zero derivative, where v is zero."""
    # The largest entry goes first, so that tiny and huge velocities neither underflow nor overflow when squared.
    largest = v.detach().abs().amax(dim=-1, keepdim=True)
    nonzero = largest != 0  # NaN is no zero velocity
    scaled = torch.where(nonzero, v / torch.where(nonzero, largest, 1.0), torch.ones_like(v))
    return torch.where(nonzero, scaled / torch.linalg.vector_norm(scaled, dim=-1, keepdim=True), torch.zeros_like(v))


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) of codes `[..., d]`, `[...]`."""
    return -z.square().sum(dim=-1) / 2 - z.shape[-1] / 2 * math.log(2 * math.pi)


def positive(name: str, value) -> int:
    """`value` as a positive whole number, or an error that names it."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` is {value!r}; it must be a positive whole number")
    return int(value)


def stated_dimension(generator, latent_dim: int | None) -> int:
    """`latent_dim`, or what the generator states; an error where both are missing or contradict each other."""
    stated = getattr(generator, "latent_dim", None)
    if latent_dim is None and stated is None:
        raise ValueError("`latent_dim` is missing: the generator does not state it, so write `latent_dim=...`")
    if latent_dim is not None and stated is not None and latent_dim != stated:
        raise ValueError(f"`latent_dim` is {latent_dim}, but the generator has {stated}")
    return int(stated) if latent_dim is None else latent_dim  # type: ignore[arg-type]
