"""How well flows raise a property, beside the controls without which the numbers mean little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pinnflow.latent.baselines.linear import RandomDirections
from pinnflow.latent.metrics.paths import log_density_drift, monotone_success, path_length
from pinnflow.latent.property import LinearPropertyFlow
from pinnflow.latent.rendering import render
from pinnflow.latent.traversal import Flow, positive


@dataclass(frozen=True)
class PropertyRow:
    """What the walks of one flow did to a property.

    Attributes:
        name: of the flow.
        gain: mean of f at the end minus f at the start.
        strict: share of the walks along which f never falls and takes more than two values.
        relaxed: share along which f falls by at most a twentieth of its range in a step; nearly free.
        side_effect: mean |change| of the other properties, in their own units; NaN where there are none.
        drift: mean change of the log-density of the standard normal, in nats.
        length: mean length of the walks.
        step_length: of every step; None: raw velocities.
        control: whether it is a control.
    """

    name: str
    gain: float
    strict: float
    relaxed: float
    side_effect: float
    drift: float
    length: float
    step_length: float | None
    control: bool


@dataclass(frozen=True)
class PropertyTable:
    """Rows for flows and controls; `print` shows them as a Markdown table."""

    rows: tuple[PropertyRow, ...]

    @property
    def values(self) -> dict[str, PropertyRow]:
        """The row of each flow by name."""
        return {row.name: row for row in self.rows}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Numbers by flow and column, for JSON."""
        return {row.name: asdict(row) for row in self.rows}

    def __str__(self) -> str:
        lines = ["| flow | gain | strict | relaxed | side effect | log-density | length |", "|---|" + "---:|" * 6]
        for row in self.rows:
            numbers = (row.gain, row.strict, row.relaxed, row.side_effect, row.drift, row.length)
            name = f"{row.name} (control)" if row.control else row.name
            lines.append(f"| {name} | " + " | ".join(f"{x:.3f}" for x in numbers) + " |")
        return "\n".join(lines)


def compare_on_property(
    flows: Sequence[tuple[Flow, float | None]],
    property: Callable[[Tensor], Tensor],
    *,
    others: Callable[[Tensor], Tensor] | None = None,
    similarity: Callable[[Tensor, Tensor], Tensor] | None = None,
    potential: int = 0,
    walks: int = 1000,
    steps: int = 10,
    seed: int = 0,
    maximise: bool = True,
    control_step: float | None = None,
) -> PropertyTable:
    """Walks of several flows from the same codes, with random directions and the regression line as controls.

    The share of strict success depends on how far a walk goes: half of all straight lines that are short enough raise
    any property all the way. So the controls walk as far as the first flow, unless their step is given.

    Args:
        flows: pairs of a flow and the length of its steps, None for raw velocities. No two of a name.
        property: what is to be raised, of codes `[n, d]`, `[n]`; needs no derivatives.
        others: what ought to stay, of codes `[n, d]`, `[n, F]`.
        similarity: of codes `[n, d]` to the starts `[n, d]`, called as `similarity(starts, codes)`, `[n]`: a walk then
            succeeds only if it never comes back towards its start. See `image_similarity`.
        potential: which field of the flows.
        walks, steps: how many, how long.
        seed: of the starts and of the random directions.
        maximise: False for a property that ought to fall.
        control_step: length of the controls' steps; None: what takes them as far as the first flow.

    Raises:
        ValueError: no flow, or two of one name.
    """
    names = [flow.name for flow, _ in flows] + ["random", "linear"]
    if not flows or len(set(names)) < len(names):
        raise ValueError(f"the flows of the table are named {names}; give at least one, and different names")
    positive("walks", walks)
    first, its_length = flows[0]
    z = first.sample(walks, seed)
    sign = 1.0 if maximise else -1.0

    def row(flow, step_length, k, control, direction=1):
        path = flow.traverse(z.to(flow.device, flow.dtype), k, steps, step_length, direction)
        with torch.no_grad():
            values = torch.stack([sign * property(at).reshape(len(at)) for at in path])
            alike = None if similarity is None else torch.stack([similarity(path[0], at) for at in path])
            moved = torch.nan if others is None else float((others(path[-1]) - others(path[0])).abs().mean())
        success = monotone_success(values, alike)
        drift, length = float(log_density_drift(path).mean()), float(path_length(path).mean())
        return PropertyRow(
            flow.name, success.gain, success.strict, success.relaxed, moved, drift, length, step_length, control
        )

    rows = [row(flow, step_length, potential, False) for flow, step_length in flows]
    equal = its_length if its_length is not None else max(rows[0].length / steps, 1e-12)
    step = equal if control_step is None else control_step
    common: dict[str, Any] = {"device": first.device, "dtype": first.dtype}
    # One direction for each walk, of either sign: those of a basis have their largest entry positive.
    random = RandomDirections(None, first.latent_dim, walks, seed=seed + 1, name="random", **common)
    way = 2 * torch.randint(2, (walks,), generator=torch.Generator().manual_seed(seed)) - 1
    linear = LinearPropertyFlow(property, None, first.latent_dim, maximise=maximise, seed=seed + 1, **common)
    rows += [row(random, step, torch.arange(walks), True, way), row(linear, step, 0, True)]
    return PropertyTable(tuple(rows))


def image_similarity(generator: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The cosine between the pixels of two images, as `similarity(starts, codes) -> [n]` of their codes."""

    def similarity(starts, codes):
        pixels = (render(generator, z).flatten(1).double() for z in (starts, codes))
        return torch.nn.functional.cosine_similarity(*pixels, dim=1)

    return similarity
