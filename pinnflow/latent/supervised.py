r"""Flows fitted to known transformations: sequences of images x_0, ..., x_T, each along one transformation k.

The codes z_0 of the first images are known, or come from an encoder. With z_t after t steps of field k,

$$\min_v \sum_{t = 1}^T |G(z_t) - x_t|^2 \Big/ \sum_{t = 1}^T |G(z_0) - x_t|^2,$$

squares summed over the pixels: 0 for a flow that moves as the transformation does, 1 for one that does not move.
Velocities count as they are, because their sizes are to be learned as well. Beyond T nothing was seen, and the error
there says whether the flow has found the transformation or only its beginning.

A training begins with fields that hardly move: random velocities of the size of the transformation would have to be
unlearned first, which some fields (networks with d outputs) do not manage in the time.

Source: Song, Keller, Sebe & Welling, Flow factorized representation learning (NeurIPS 2023), for the task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pinnflow.errors import DamagedFile, NonFinite, UnknownName, WrongShape
from pinnflow.latent.checkpoint import read_state, write_state
from pinnflow.latent.rendering import at_rest, images, own_device, own_dtype, render
from pinnflow.latent.training import Progress, TrainedFlow, share_of_rate
from pinnflow.latent.traversal import Flow, positive

UNITS = ("velocity", "terms")
Encoder = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Batch:
    """Sequences of a training step or a measurement.

    Attributes:
        codes: z_0, `[n, d]`.
        labels: the transformation of each, `[n]`.
        targets: x_t, `[n, c, h, w]` for one t of each row, or `[T + 1, n, c, h, w]`.
    """

    codes: Tensor
    labels: Tensor
    targets: Tensor


class Sequences:
    """Sequences of images along known transformations, held in memory.

    Args:
        codes: of the first images, `[n, d]`; or an encoder, which answers the images `[n, c, h, w]` with codes or with
            a pair of mean and log variance, of which the mean is taken.
        frames: x_0, ..., x_T, `[T + 1, n, c, h, w]`.
        labels: the transformation k of each sequence, whole numbers `[n]`.

    Raises:
        WrongShape: the three do not belong together.
        TypeError: frames are no tensor of real numbers, or codes neither a tensor nor an encoder.
        NonFinite: a frame or a code is no number.
    """

    def __init__(self, codes: Tensor | Encoder, frames: Tensor, labels: Tensor | Sequence[int]):
        if not isinstance(frames, Tensor) or not frames.is_floating_point():
            found = f"a tensor of {frames.dtype}" if isinstance(frames, Tensor) else f"a {type(frames).__name__}"
            raise TypeError(
                f"`frames` is {found}; expected a tensor of real numbers in the units of the generator's images, e.g. "
                "`torch.as_tensor(frames) / 255`"
            )
        if frames.dim() != 5 or len(frames) < 2 or not frames.shape[1]:
            raise WrongShape(
                f"`frames` has the shape {list(frames.shape)}; expected [T + 1, n, c, h, w] with T >= 1 and n >= 1"
            )
        if not isinstance(codes, Tensor) and not callable(codes):
            raise TypeError(f"`codes` is a {type(codes).__name__}; expected a tensor [n, d], or an encoder of images")
        self.frames = frames
        self.codes = codes if isinstance(codes, Tensor) else encoded(codes, frames[0])
        for name, numbers in (("frames", frames), ("codes", self.codes)):
            if not bool(torch.isfinite(numbers).all()):
                raise NonFinite(f"`{name}` hold NaN or infinite values; expected finite numbers")
        self.labels = torch.as_tensor(labels)
        n = frames.shape[1]
        if (
            self.codes.dim() != 2
            or len(self.codes) != n
            or self.labels.shape != (n,)
            or self.labels.is_floating_point()
            or self.labels.dtype == torch.bool
            or int(self.labels.min()) < 0
        ):
            raise WrongShape(
                f"found {n} sequences, codes {list(self.codes.shape)} and labels {list(self.labels.shape)} of "
                f"{self.labels.dtype}; expected codes [{n}, d] and {n} whole numbers from 0 on"
            )

    @property
    def steps(self) -> int:
        """T."""
        return len(self.frames) - 1

    def __len__(self) -> int:
        return self.frames.shape[1]

    def at(self, rows: Tensor, step: Tensor) -> Batch:
        """The sequences `rows` `[m]`, each with its image x_t at its own `step` `[m]`."""
        return Batch(self.codes[rows], self.labels[rows], self.frames[step, rows])

    def whole(self, rows: Tensor) -> Batch:
        """The sequences `rows` `[m]` with all their images."""
        return Batch(self.codes[rows], self.labels[rows], self.frames[:, rows])


class ExactSequences:
    """Sequences of a generator that knows its exact traversals, drawn when they are asked for.

    Every code is the start of K sequences, one along each factor; sequence i starts at code i // K, along factor i % K.

    Args:
        generator: has `oracle(z, k, steps, step_length)`, such as `WarpedGenerator`.
        count: codes, standard normal.
        steps: T.
        step_length: of the steps, in the factor's own coordinate.
        potentials: K; by default all factors.
        seed: of the codes.
    """

    def __init__(
        self,
        generator: Any,
        count: int,
        steps: int = 4,
        step_length: float = 0.35,
        *,
        potentials: int | None = None,
        seed: int = 0,
    ):
        if not hasattr(generator, "oracle"):
            raise ValueError(
                f"{type(generator).__name__} has no `oracle(z, k, steps, step_length)`; "
                "give its images along the transformations as `Sequences(codes, frames, labels)`"
            )
        if not 0 < abs(step_length) < float("inf"):
            raise ValueError(f"`step_length` is {step_length!r}; it must be a finite number other than 0")
        self.generator, self.steps, self.step_length = generator, positive("steps", steps), step_length
        self.potentials = positive("potentials", len(generator.factor_names) if potentials is None else potentials)
        if self.potentials > len(generator.factor_names):
            raise ValueError(
                f"`potentials` is {potentials}; the generator has {len(generator.factor_names)} factors to move along"
            )
        noise = torch.Generator().manual_seed(seed)
        shape = (positive("count", count), generator.latent_dim)
        self.codes = torch.randn(shape, generator=noise, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.codes) * self.potentials

    def at(self, rows: Tensor, step: Tensor) -> Batch:
        """The sequences `rows` `[m]`, each with its image x_t at its own `step` `[m]`."""
        z, k = self.codes[rows // self.potentials], rows % self.potentials
        path = self.generator.oracle(z, k, self.steps, self.step_length)
        return Batch(z, k, render(self.generator, path[step, torch.arange(len(rows))]))

    def whole(self, rows: Tensor) -> Batch:
        """The sequences `rows` `[m]` with all their images."""
        z, k = self.codes[rows // self.potentials], rows % self.potentials
        return Batch(z, k, render(self.generator, self.generator.oracle(z, k, self.steps, self.step_length)))


AnySequences = Sequences | ExactSequences


class PairMatching:
    """Fits the fields of a flow to sequences along known transformations.

    ```python
    flow = PotentialFlow(generator, potentials=5)
    PairMatching(ExactSequences(generator, 20_000)).fit(flow)
    print(equivariance_error(flow, ExactSequences(generator, 500, seed=1)))
    ```

    Args:
        sequences: what is to be reproduced.
        obedience: weight of the flow's equation, `flow.disobedience`, for potentials that do not obey it identically.
        rows: codes at which the equation is asked for in an iteration.
        everywhere: whether these are standard normal codes, so that the equation says something where no sequence is;
            otherwise those the sequences lead through.
        unit: what residuals are measured by: `velocity`, the root mean square of the velocities, or `terms`, those of
            the equation, as in `Obedience`, which says nothing of an equation of one term.
        horizon: the last time at which it is asked for; by default T. A larger one is for walks beyond T.
        start: root mean square of the velocities that an untrained flow begins with, where its weights allow to choose;
            None leaves them.
        seed: of the batches.

    Attributes:
        history: one entry for each hundredth of a training, `{iteration, seconds, loss, ...}`; the flow's has them too.
    """

    def __init__(
        self,
        sequences: AnySequences,
        *,
        obedience: float = 0.0,
        rows: int = 64,
        everywhere: bool = True,
        unit: str = "velocity",
        horizon: float | None = None,
        start: float | None = 0.03,
        seed: int = 0,
    ):
        if not obedience >= 0:
            raise ValueError(f"`obedience` is {obedience!r}; it must be a number >= 0")
        if unit not in UNITS:
            raise UnknownName("unit of residuals", unit, UNITS)
        for name, value in (("horizon", horizon), ("start", start)):
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` is {value!r}; it must be a positive number, or None")
        self.sequences, self.obedience, self.seed = sequences, float(obedience), seed
        self.rows = positive("rows", rows)
        self.everywhere, self.start, self.unit = everywhere, start, unit
        self.horizon = float(sequences.steps if horizon is None else horizon)
        self.history: list[dict[str, float]] = []

    def fit(
        self,
        flow: TrainedFlow,
        iterations: int = 900,
        batch: int = 128,
        *,
        rate: float | None = None,
        time_limit: float | None = None,
        progress: Progress | None = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
    ) -> TrainedFlow:
        """Trains the weights of the flow's fields and returns the flow; the same seed gives the same weights.

        Args:
            flow: on a generator, and with as many fields as there are transformations.
            iterations: of Adam, on a rate that rises for 20 of them and falls like a cosine to a twentieth.
            batch: sequences in an iteration, with the image of one step t of each, drawn anew.
            rate: the largest; by default the flow's own, or the share of it that its class says.
            time_limit: seconds after which it stops.
            progress: called with the latest entry of the history a hundred times.
            checkpoint: a file that holds all it takes to go on, written every hundredth of the training and at the end.
            resume: goes on from the checkpoint if the file exists; the digits are those of a training without a break.

        Raises:
            ValueError: the flow has no generator, no weights or too few fields, or has no equation to obey.
            WrongShape: its images are others than those of the sequences.
            NonFinite: the loss is no number.
            DamagedFile: the checkpoint is not one of this flow.
        """
        self._check(flow)
        positive("iterations", iterations)
        positive("batch", batch)
        if resume and checkpoint is None:
            raise ValueError("`resume=True` needs the file to resume from: `checkpoint='flow.ckpt'`")
        rate = flow.matching_share * flow.rate if rate is None else rate
        if not 0 < rate < float("inf"):
            raise ValueError(f"`rate` is {rate!r}; it must be a positive number")
        draw = torch.Generator().manual_seed(self.seed)
        weights = list(flow.field.parameters())
        optimizer = torch.optim.Adam(weights, lr=rate, betas=(0.9, 0.99))
        found, first = self._measure(flow)
        if self.start is not None and flow.untrained and found > 0:
            flow.scale_velocity(self.start / found)
        run = _Run(flow, optimizer, draw, list(flow.history), first)
        if resume and checkpoint is not None and Path(checkpoint).exists():
            run.restore(read_state(checkpoint), checkpoint)
        begin, every = time.perf_counter(), max(1, iterations // 100)
        with at_rest(flow.generator):
            for i in range(run.iteration, iterations):
                optimizer.param_groups[0]["lr"] = rate * share_of_rate(i, iterations)
                parts = self._losses(flow, batch, run.motion, draw, i / iterations)
                loss = parts["match"] + self.obedience * parts.get("equation", 0.0)
                if not bool(torch.isfinite(loss)):
                    raise NonFinite(f"the loss of `{flow.name}` is {float(loss)} in iteration {i}; lower the `rate`")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, 10.0)
                optimizer.step()
                run.iteration = i + 1
                elapsed = time.perf_counter() - begin
                late = time_limit is not None and elapsed > time_limit
                if i % every == 0 or i == iterations - 1 or late:
                    entry = {"iteration": i + 1, "seconds": elapsed, "loss": float(loss.detach())}
                    run.history.append(entry | {name: float(value.detach()) for name, value in parts.items()})
                    self.history, flow.history = run.history, run.before + run.history
                    if progress is not None:
                        progress(run.history[-1])
                    if checkpoint is not None:
                        write_state(checkpoint, run.state())
                if late:
                    break
        return flow

    def _measure(self, flow):
        """Root mean square of the velocities, and the mean square of G(z_0) - x_t, by which the loss is measured."""
        draw = torch.Generator().manual_seed(self.seed)
        rows = torch.randint(len(self.sequences), (256,), generator=draw)
        t = torch.randint(1, self.sequences.steps + 1, (256,), generator=draw)
        found = self.sequences.at(rows, t)
        z, k = flow.codes(found.codes), torch.arange(256, device=flow.device) % flow.potentials
        still = flow.render(z)
        _same_images(flow, still, found.targets)
        motion = (still - found.targets.to(still)).square().flatten(1).sum(dim=1).mean()
        if not float(motion) > 0:
            raise ValueError("the images of the sequences do not change, so there is no transformation to be matched")
        with torch.no_grad():
            v = flow.velocity(z, t.to(z), k)
        return float(v.square().sum(dim=1).mean().sqrt()), motion

    def _losses(self, flow, batch, motion, draw, progress):
        """Parts of the loss of a batch, `{name: number}`, when `progress` of the training is done."""
        steps = self.sequences.steps
        rows = torch.randint(len(self.sequences), (batch,), generator=draw)
        at = torch.randint(1, steps + 1, (batch,), generator=draw)
        found = self.sequences.at(rows, at)
        z, k = flow.codes(found.codes), flow.index(found.labels, batch)
        z = walked(flow, z, k, at)
        drawn = images(flow.generator, z)
        away = (drawn - found.targets.to(drawn)).square().flatten(1).sum(dim=1)
        parts = {"match": away.mean() / motion}
        if self.obedience:
            parts["equation"] = self._disobedience(flow, z, k, draw).to(drawn)
        return parts

    def _disobedience(self, flow, z, k, draw):
        n = self.rows
        if self.everywhere:
            z = torch.randn(n, flow.latent_dim, generator=draw, dtype=torch.float64).to(z)
            k = torch.randint(flow.potentials, (n,), generator=draw).to(k.device)
        t = self.horizon * torch.rand(n, generator=draw, dtype=torch.float64).to(z)
        z, t, k = z[:n], t[: len(z)], k[:n]
        if self.unit == "terms":
            return flow.disobedience(z, t, k)
        residuals = flow.equation.residuals(flow.field, flow.equation.points(z, t), k)
        speed = flow.velocity(z, t, k).square().sum(dim=1).mean()
        return sum(r.square().mean() for r in residuals.values()) / speed

    def _check(self, flow):
        fitted(flow)
        known = self.sequences
        transformations = known.potentials if isinstance(known, ExactSequences) else int(known.labels.max()) + 1
        if flow.potentials < transformations:
            raise ValueError(
                f"`{flow.name}` has {flow.potentials} fields for {transformations} transformations; "
                f"write `potentials={transformations}`"
            )
        if self.obedience and not hasattr(flow, "disobedience"):
            raise ValueError(f"`{flow.name}` has no equation; write `obedience=0`")


def fitted(flow: Flow) -> None:
    """Says so if a flow has no weights, or no images, to be fitted.

    Raises:
        ValueError: it has not.
    """
    if not isinstance(flow, TrainedFlow):
        raise ValueError(
            f"`{flow.name}` has no weights to be fitted; expected a `PotentialFlow`, or a trained baseline: "
            "`baseline('free', generator, potentials=5, objectives=[])`"
        )
    if flow.generator is None:
        raise ValueError(f"`{flow.name}` has no generator, so its walks have no images to be matched")


def _same_images(flow, drawn, targets):
    if drawn.shape[-3:] != targets.shape[-3:]:
        raise WrongShape(
            f"the generator of `{flow.name}` draws images {list(drawn.shape[-3:])}; those of the sequences are "
            f"{list(targets.shape[-3:])}"
        )


def walked(flow: TrainedFlow, z: Tensor, k: Tensor, at: Tensor) -> Tensor:
    """Codes z `[n, d]` after `at` `[n]` steps of field k `[n]` at raw velocities, with gradients."""
    for i in range(1, int(at.max()) + 1):
        on = (at >= i).nonzero()[:, 0].to(z.device)  # the others have arrived
        z = z.index_add(0, on, flow.velocity(z[on], float(i), k[on]))
    return z


class _Run:
    """What a training has come to, as it is written to a checkpoint."""

    def __init__(self, flow, optimizer, draw, before, motion):
        self.flow, self.optimizer, self.draw, self.before, self.motion = flow, optimizer, draw, before, motion
        self.iteration = 0
        self.history: list[dict[str, float]] = []

    def state(self) -> dict[str, Any]:
        return {
            "matching": True,
            "iteration": self.iteration,
            "field": self.flow.field.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.draw.get_state(),
            "motion": self.motion,
            "before": self.before,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any], path: str | Path) -> None:
        """Goes on from a state.

        Raises:
            DamagedFile: it is one of another flow, or of a training for other objectives.
        """
        if "matching" not in state:
            raise DamagedFile(f"`{path}` is a checkpoint of `{self.flow.name}.fit`, not of a matching of sequences")
        try:
            self.flow.field.load_state_dict(state["field"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as trouble:
            raise DamagedFile(f"`{path}` is a checkpoint of another flow than `{self.flow.name}`: {trouble}") from None
        self.draw.set_state(state["generator"])
        self.iteration, self.history = state["iteration"], state["history"]
        self.before, self.motion = state["before"], state["motion"]


@dataclass(frozen=True)
class Equivariance:
    """How far walks are from the transformations.

    Attributes:
        error: sum over images and steps of |G(z_t) - x_t|, over the same sum for codes that stay at z_0. 0 for a flow
            that moves as the transformation does, 1 for one that does not move.
        squared: the same of |G(z_t) - x_t|^2, which training makes small.
        along: the error of the steps t = 1, 2, ... one by one; those beyond the trained length are extrapolated.
        each: the error of each transformation.
    """

    error: float
    squared: float
    along: tuple[float, ...]
    each: tuple[float, ...]


def equivariance_error(
    flow: Flow, sequences: AnySequences, *, rows: int | None = None, chunk: int = 256
) -> Equivariance:
    """The error of walks at raw velocities from the codes of sequences, whose length may exceed the trained one.

    Args:
        flow: on a generator.
        sequences: other ones than the flow was fitted to.
        rows: so many of them, the first; None: all.
        chunk: sequences that are drawn at once.

    Raises:
        ValueError: nothing moves in the sequences, so that there is nothing to compare with.
        WrongShape: the flow draws other images.
    """
    count = len(sequences) if rows is None else min(positive("rows", rows), len(sequences))
    steps, K = sequences.steps, flow.potentials
    away, still = (torch.zeros(2, steps, K, dtype=torch.float64) for _ in range(2))  # [power, step, transformation]
    for part in torch.arange(count).split(chunk):
        found = sequences.whole(part)
        path = flow.traverse(found.codes, found.labels, steps, None)
        drawn = flow.render(path)
        _same_images(flow, drawn, found.targets)
        targets = found.targets.to(drawn)
        k = found.labels.long()
        for total, shown in ((away, drawn[1:]), (still, drawn[:1])):
            distance = (shown - targets[1:]).abs().flatten(2).double()
            sums = torch.stack([distance.sum(dim=2), distance.square().sum(dim=2)])  # [power, step, n]
            total.index_add_(2, k, sums.cpu())
    if not float(still.sum()) > 0:
        raise ValueError("the images of the sequences do not change, so an error has nothing to be relative to")
    return Equivariance(
        error=float(away[0].sum() / still[0].sum()),
        squared=float(away[1].sum() / still[1].sum()),
        along=tuple((away[0].sum(dim=1) / still[0].sum(dim=1)).tolist()),
        each=tuple((away[0].sum(dim=0) / still[0].sum(dim=0)).tolist()),
    )


@torch.no_grad()
def encoded(encoder: Encoder, first: Tensor, *, chunk: int = 256) -> Tensor:
    """Codes `[n, d]` of images `[n, c, h, w]`; the mean, where the encoder answers with mean and log variance."""
    parts = []
    owner: Any = getattr(encoder, "__self__", encoder)  # of `vae.encode` the VAE
    with at_rest(owner):
        for x in first.split(chunk):
            answer = encoder(x.to(device=own_device(owner, x.device), dtype=own_dtype(owner)))
            parts.append(answer[0] if isinstance(answer, tuple) else answer)
            if parts[-1].dim() != 2 or len(parts[-1]) != len(x):
                raise WrongShape(f"the encoder answered {list(parts[-1].shape)} to {len(x)} images; expected [n, d]")
    return torch.cat(parts)
