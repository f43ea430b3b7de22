"""How well flows raise a property, beside the controls without which the numbers mean little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pinnflow.errors import WrongShape
from pinnflow.latent.baselines.linear import LinearFlow, RandomDirections
from pinnflow.latent.metrics.controls import RandomWalk
from pinnflow.latent.metrics.paths import log_density_drift, monotone_walks, path_length
from pinnflow.latent.property import LinearPropertyFlow, finite
from pinnflow.latent.rendering import render
from pinnflow.latent.traversal import Flow, positive

# Directions of the controls that all walks share: their medians and quartiles, instead of the luck of one.
DIRECTIONS = 40

CONTROLS = ("random", "random, one for all", "random axis, one for all", "random walk", "linear")


@dataclass(frozen=True)
class PropertyRow:
    """What the walks of one flow did to a property.

    Attributes:
        name: of the flow.
        gain: mean of f at the end minus f at the start; of several properties the mean of them.
        strict: share of the walks along which f never falls and takes more than two values; of several properties all.
            With a similarity it must never rise either.
        relaxed: share along which f falls by at most a twentieth of its range in a step, and the similarity rises by at
            most 0.1; nearly free.
        side_effect: mean |change| of the other properties, in their own units; NaN where there are none.
        drift: mean change of the log-density of the standard normal, in nats.
        length: mean length of the walks.
        step_length: of every step; None: raw velocities.
        control: whether it is a control.
        gains: of every property.
        quartiles: of the strict success over directions, in the row whose numbers are medians over directions.
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
    gains: tuple[float, ...] = ()
    quartiles: tuple[float, ...] = ()


@dataclass(frozen=True)
class PropertyTable:
    """Rows for flows and controls; `print` shows them as a Markdown table, quartiles over directions in brackets."""

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
            cells = [f"{row.name} (control)" if row.control else row.name, *(f"{x:.3f}" for x in numbers)]
            if row.quartiles:
                cells[2] += f" ({row.quartiles[0]:.2f}..{row.quartiles[1]:.2f})"
            lines.append("| " + " | ".join(cells) + " |")
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
    """Walks of several flows from the same codes, with five controls.

    `random` are straight lines, a random direction for each walk. The two random controls of the published comparison
    are one direction and one signed axis of the latent space that all walks share, `random, one for all` and `random
    axis, one for all`; their success depends on which it is: medians over 40 (or all 2 d axes, if fewer), each asked of
    another part of the walks. `random walk` takes a new direction at every step; `linear` is the line along the
    regression of the property on the code. The share of strict success depends on how far a walk goes: half of all
    straight lines that are short enough raise any property all the way. So the controls walk as far as the first flow,
    unless their step is given.

    Args:
        flows: pairs of a flow and the length of its steps, None for raw velocities. No two of a name.
        property: what is to be raised, of codes `[n, d]`, `[n]`, or several, `[n, P]`, that are to rise together (in
            units in which they count alike: the regression is that of their sum); needs no derivatives.
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
        WrongShape: property, `others` or `similarity` do not answer for each code.
        NonFinite: the property of a code is no number.
    """
    if not all(isinstance(one, (tuple, list)) and len(one) == 2 for one in flows):
        raise ValueError("`flows` must hold pairs of a flow and its step length, e.g. `[(flow, None)]` for raw steps")
    names = [*(flow.name for flow, _ in flows), *CONTROLS]
    if not flows or len(set(names)) < len(names):
        raise ValueError(f"the flows of the table are named {names}; give at least one, and different names")
    positive("walks", walks)
    first, its_length = flows[0]
    z = first.sample(walks, seed)
    sign = 1.0 if maximise else -1.0

    def row(flow, step_length, k, control, direction=1, groups=1):
        path = flow.traverse(z.to(flow.device, flow.dtype), k, steps, step_length, direction)
        with torch.no_grad():
            values = torch.stack([sign * _answers(property, at, "property") for at in path])  # [steps + 1, n, P]
            alike = None if similarity is None else torch.stack([similarity(path[0], at) for at in path])
            moved = None
            if others is not None:
                ends = [_answers(others, at, "others") for at in (path[-1], path[0])]
                moved = (ends[0] - ends[1]).abs().mean(dim=1)
        success = [monotone_walks(one, alike) for one in values.unbind(dim=2)]
        strict, relaxed = (torch.stack(which).all(dim=0) for which in zip(*success))

        def by_group(each):  # the means of every groups-th walk, [groups, ...]
            return torch.stack([each[i::groups].double().mean(dim=0) for i in range(groups)])

        def middle(each):
            return torch.quantile(by_group(each), 0.5, dim=0)

        gains = tuple(middle(values[-1] - values[0]).tolist())
        quartiles = torch.quantile(by_group(strict), torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist()
        return PropertyRow(
            name=flow.name,
            gain=sum(gains) / len(gains),
            strict=float(middle(strict)),
            relaxed=float(middle(relaxed)),
            side_effect=torch.nan if moved is None else float(middle(moved)),
            drift=float(middle(log_density_drift(path))),
            length=float(middle(path_length(path))),
            step_length=step_length,
            control=control,
            gains=gains,
            quartiles=tuple(quartiles) if groups > 1 else (),
        )

    rows = [row(flow, step_length, potential, False) for flow, step_length in flows]
    equal = its_length if its_length is not None else max(rows[0].length / steps, 1e-12)
    step = equal if control_step is None else control_step
    common: dict[str, Any] = {"device": first.device, "dtype": first.dtype}
    # One direction for each walk, of either sign: those of a basis have their largest entry positive.
    random = RandomDirections(None, first.latent_dim, walks, seed=seed + 1, name="random", **common)
    way = 2 * torch.randint(2, (walks,), generator=torch.Generator().manual_seed(seed)) - 1
    groups, axes = (min(count, max(1, walks // 5)) for count in (DIRECTIONS, min(DIRECTIONS, 2 * first.latent_dim)))
    shared = RandomDirections(None, first.latent_dim, groups, seed=seed + 2, name="random, one for all", **common)
    signed = _SignedAxes(None, first.latent_dim, axes, seed=seed + 3, name="random axis, one for all", **common)
    turn, turn_axes = torch.arange(walks) % groups, torch.arange(walks) % axes
    wandering = RandomWalk(None, first.latent_dim, seed=seed + 1, **common)
    together = lambda at: _answers(property, at, "property").sum(dim=1)  # noqa: E731
    linear = LinearPropertyFlow(together, None, first.latent_dim, maximise=maximise, seed=seed + 1, **common)
    rows += [
        row(random, step, torch.arange(walks), True, way),
        row(shared, step, turn, True, way[turn], groups),
        row(signed, step, turn_axes, True, 1, axes),
        row(wandering, step, 0, True),
        row(linear, step, 0, True),
    ]
    return PropertyTable(tuple(rows))


class _SignedAxes(LinearFlow):
    """K of the 2 d unit vectors along the axes, in either direction, by the seed and none twice."""

    orthonormal = False

    def __init__(self, generator, latent_dim, potentials, **settings):
        super().__init__(generator, latent_dim, potentials, **settings)
        d = self.latent_dim
        eye = torch.eye(d, dtype=self.dtype, device=self.device)
        chosen = torch.randperm(2 * d, generator=torch.Generator().manual_seed(self.seed))[: self.potentials]
        self.directions = torch.cat([eye, -eye])[chosen.to(self.device)]


def _answers(function, at, name):
    """What a function says of codes `[n, d]`, as a tensor of real numbers `[n, P]`."""
    answer = torch.as_tensor(function(at))
    if answer.dim() not in (1, 2) or len(answer) != len(at):
        raise WrongShape(
            f"`{name}` answered {list(answer.shape)} to codes {list(at.shape)}; expected [{len(at)}] or [{len(at)}, P]"
        )
    return finite(answer.reshape(len(at), -1).to(at), f"`{name}`")


def image_similarity(generator: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The cosine between the pixels of two images, as `similarity(starts, codes) -> [n]` of their codes."""

    def similarity(starts, codes):
        pixels = (render(generator, z).flatten(1).double() for z in (starts, codes))
        return torch.nn.functional.cosine_similarity(*pixels, dim=1)

    return similarity
