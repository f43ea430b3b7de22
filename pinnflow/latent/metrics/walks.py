"""What every measure is given: the walks of one flow, their images, and the factors along them where known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pinnflow.errors import WrongShape
from pinnflow.latent.traversal import Flow

Reader = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """How walks are made and read; the same for all flows of a report.

    Attributes:
        steps: of every walk.
        integrator: of `Flow.traverse`.
        repeats: of the classifier behind VP.
        seed: of everything that is drawn.
        frames: number of walks of which all frames are drawn, where something looks at them.
        points: number of points at which the equation is checked.
        attributes: maps images `[m, c, h, w]` to attributes `[m, A]`; instead of the factors of the generator.
        classifier: maps images, or codes if `on_codes`, to classes `[m]` or scores `[m, C]`.
        on_codes: what the classifier takes.
        scores: also MIG, SAP and DCI of the potentials as codes.
    """

    steps: int = 6
    integrator: str = "euler"
    repeats: int = 3
    seed: int = 0
    frames: int = 512
    points: int = 512
    attributes: Reader | None = None
    classifier: Reader | None = None
    on_codes: bool = False
    scores: bool = False


@dataclass(frozen=True)
class Walks:
    """The walks of one flow.

    Attributes:
        flow: who walked.
        path: codes, `[steps + 1, n, d]`.
        labels: the potential of each walk, `[n]`.
        before: images of the starts, `[n, c, h, w]`; None without a generator.
        after: images of the ends.
        frames: images of all steps of the first walks, `[steps + 1, m, c, h, w]`; None where nothing looks at them.
        factors: known factors or attributes of the first walks, `[steps + 1, m, F]`; None where there are none.
        plan: how it was done.
    """

    flow: Flow
    path: Tensor
    labels: Tensor
    before: Tensor | None
    after: Tensor | None
    frames: Tensor | None
    factors: Tensor | None
    plan: Plan


def draw_labels(rows: int, potentials: int, seed: int) -> Tensor:
    """A potential for each row `[rows]`: equally often each, in an order drawn by the seed."""
    noise = torch.Generator().manual_seed(seed)
    return torch.randperm(rows, generator=noise) % potentials


def walk(
    flow: Flow, z: Tensor, labels: Tensor, step_length: float | None, plan: Plan, before: Tensor | None = None
) -> Walks:
    """Walks from codes z `[n, d]` along the potentials `labels` `[n]`, with everything that measures look at.

    Args:
        flow: who walks.
        z: starts.
        labels: potentials.
        step_length: of every step; None for raw velocities.
        plan: how it is done.
        before: images of z, if they are known already.
    """
    labels = labels.to(flow.device)
    if plan.attributes is not None and len(labels[: plan.frames].unique()) < flow.potentials:
        raise ValueError(
            f"`frames` is {plan.frames}, too few to see walks of all {flow.potentials} potentials of `{flow.name}`; "
            f"give {10 * flow.potentials} or more, and as many pairs"
        )
    path = flow.traverse(z, labels, plan.steps, step_length, integrator=plan.integrator)
    after = frames = None
    if flow.generator is not None:
        before = flow.render(path[0]) if before is None else before
        after = flow.render(path[-1])
        if plan.attributes is not None or (plan.classifier is not None and not plan.on_codes):
            rows = slice(0, plan.frames)
            between = flow.render(path[1:-1, rows])
            frames = torch.cat([before[None, rows], between, after[None, rows]])
    return Walks(flow, path, labels, before, after, frames, _factors(flow, path, frames, plan), plan)


def _factors(flow, path, frames, plan):
    if plan.attributes is not None and frames is not None:
        with torch.no_grad():
            read = torch.as_tensor(plan.attributes(frames.flatten(0, 1)))
        if read.dim() != 2 or len(read) != frames.shape[0] * frames.shape[1]:
            raise WrongShape(
                f"`attributes` answered {tuple(read.shape)} to {frames.shape[0] * frames.shape[1]} images; "
                "it must return [number of images, number of attributes]"
            )
        return read.unflatten(0, frames.shape[:2])
    known = getattr(flow.generator, "factors", None)
    if not callable(known):
        return None
    with torch.no_grad():
        return known(path)
