r"""Flows fitted to sequences whose transformation is not told: each belongs to the field that comes closest to it.

With e_nk the error of field k on sequence n, as in `supervised`, the fields and the belongings r are found together,

$$\min_{v, r} \sum_{n k} r_{nk} e_{nk}, \qquad \sum_k r_{nk} = 1, \quad r_{nk} \propto e^{-e_{nk} / \tau},$$

at a temperature tau that falls. Up to half of the training the fields have to share the sequences of a batch equally
(Sinkhorn's scaling), or else the first one that moves would take them all. Which transformation a field has found is
told by no one: fields and transformations are matched afterwards.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pinnflow.errors import WrongShape
from pinnflow.latent.rendering import images
from pinnflow.latent.supervised import AnySequences, PairMatching, fitted, walked
from pinnflow.latent.traversal import Flow, positive

ROUNDS = 20  # of Sinkhorn's scaling


class UnlabelledMatching(PairMatching):
    """Fits the fields of a flow to sequences along transformations that nobody names.

    ```python
    UnlabelledMatching(sequences).fit(flow, batch=32)
    found = closest_fields(flow, others)
    print(recovery(found, others.labels))
    ```

    An iteration walks every sequence along all K fields, so that it costs K times that of `PairMatching`.

    Args:
        sequences: what is to be reproduced; their labels are not looked at.
        temperatures: of the belongings at the beginning and at the end, in units of the loss.
        shared: part of the training in which the fields share the sequences of a batch equally. It assumes that all
            transformations are about as frequent; 0 for those that are not.
        settings: of `PairMatching`.
    """

    def __init__(
        self,
        sequences: AnySequences,
        *,
        temperatures: tuple[float, float] = (0.3, 0.01),
        shared: float = 0.5,
        **settings: Any,
    ):
        super().__init__(sequences, **settings)
        if not (len(temperatures) == 2 and all(value > 0 for value in temperatures)):
            raise ValueError(f"`temperatures` is {temperatures!r}; it must be two positive numbers, first and last")
        if not 0 <= shared <= 1:
            raise ValueError(f"`shared` is {shared!r}; it must be a part of the training, from 0 to 1")
        self.temperatures, self.shared = temperatures, shared

    def _losses(self, flow, batch, motion, draw, progress):
        rows = torch.randint(len(self.sequences), (batch,), generator=draw)
        at = torch.randint(1, self.sequences.steps + 1, (batch,), generator=draw)
        found = self.sequences.at(rows, at)
        K = flow.potentials
        start = flow.codes(found.codes).repeat_interleave(K, dim=0)
        k = torch.arange(K, device=flow.device).repeat(batch)
        z = walked(flow, start, k, at.repeat_interleave(K))
        drawn = images(flow.generator, z).unflatten(0, (batch, K))
        away = (drawn - found.targets.to(drawn)[:, None]).square().flatten(2).sum(dim=2) / motion
        first, last = self.temperatures
        r = belongings(away.detach(), first * (last / first) ** progress, equal=progress < self.shared)
        parts = {"match": (r * away).sum(dim=1).mean()}
        if self.obedience:
            parts["equation"] = self._disobedience(flow, z, k, draw).to(drawn)
        return parts

    def _check(self, flow):
        fitted(flow)
        if self.obedience and not hasattr(flow, "disobedience"):
            raise ValueError(f"`{flow.name}` has no equation; write `obedience=0`")


def belongings(errors: Tensor, temperature: float, *, equal: bool = False) -> Tensor:
    """r `[n, K]` with rows of sum 1, proportional to exp(-errors / temperature).

    Args:
        errors: `[n, K]`.
        temperature: positive; small ones give each row to its smallest error.
        equal: scale the columns to the same sum, n / K.

    Source: Cuturi, Sinkhorn distances (NeurIPS 2013).
    """
    log_r = -errors.double() / temperature
    n, K = errors.shape
    for _ in range(ROUNDS if equal else 0):
        log_r = log_r - torch.logsumexp(log_r, dim=0, keepdim=True) + math.log(n / K)
        log_r = log_r - torch.logsumexp(log_r, dim=1, keepdim=True)
    return torch.softmax(log_r, dim=1).to(errors)


@torch.no_grad()
def closest_fields(flow: Flow, sequences: AnySequences, *, rows: int | None = None, chunk: int = 64) -> Tensor:
    """For each sequence the field whose walk comes closest to its images, whole numbers `[n]`.

    Args:
        flow: on a generator.
        sequences: their labels are not looked at.
        rows: so many of them, the first; None: all.
        chunk: sequences that are drawn at once.
    """
    count = len(sequences) if rows is None else min(positive("rows", rows), len(sequences))
    answers = []
    for part in torch.arange(count).split(chunk):
        found = sequences.whole(part)
        errors = []
        for k in range(flow.potentials):
            drawn = flow.render(flow.traverse(found.codes, k, sequences.steps, None))
            errors.append((drawn - found.targets.to(drawn)).square().flatten(2).sum(dim=(0, 2)))
        answers.append(torch.stack(errors).argmin(dim=0))
    return torch.cat(answers)


def recovery(found: Tensor, labels: Tensor) -> float:
    """Share of the sequences whose field is the one of their transformation, for the best naming of the fields.

    Raises:
        WrongShape: not two rows of equally many whole numbers.

    Source: Kuhn, The Hungarian method (1955), by `scipy.optimize.linear_sum_assignment`.
    """
    from scipy.optimize import linear_sum_assignment

    found, labels = torch.as_tensor(found).cpu(), torch.as_tensor(labels).cpu()
    for name, one in (("found", found), ("labels", labels)):
        if one.is_floating_point() or (one.numel() and int(one.min()) < 0):
            raise WrongShape(f"`{name}` holds {one.dtype} from {one.min()} on; expected whole numbers from 0 on")
    found, labels = found.long(), labels.long()
    if found.dim() != 1 or found.shape != labels.shape or not len(found):
        raise WrongShape(f"found {list(found.shape)} fields for {list(labels.shape)} labels; expected [n] and [n]")
    size = int(max(found.max(), labels.max())) + 1
    table = torch.zeros(size, size, dtype=torch.long)
    table.index_put_((found, labels), torch.ones_like(found), accumulate=True)
    fields, names = linear_sum_assignment(table.numpy(), maximize=True)
    return float(table[torch.as_tensor(fields), torch.as_tensor(names)].sum() / len(found))
