"""Sequences without the name of their transformation: belongings, the fields found by them, and their naming."""

import pytest
import torch
from torch import nn

from pinnflow.errors import WrongShape
from pinnflow.latent import baseline
from pinnflow.latent.supervised import Sequences, equivariance_error
from pinnflow.latent.unlabelled import UnlabelledMatching, belongings, closest_fields, recovery


class Plain(nn.Module):
    """Images that are their codes: `[n, 3] -> [n, 1, 1, 3]`, in float64."""

    latent_dim, dtype = 3, torch.float64

    def forward(self, z):
        return z[:, None, None]


def shifted(n=90, steps=3, seed=0):
    """Codes that move along axis k by 0.5 in every step; the labels are hidden behind a constant where asked for."""
    z = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    k = torch.arange(n) % 3
    move = 0.5 * torch.eye(3, dtype=torch.float64)[k]
    return Sequences(z, torch.stack([z + t * move for t in range(steps + 1)])[:, :, None, None], k)


def test_belongings_go_to_the_smallest_error_and_share_equally_where_asked():
    errors = torch.tensor([[0.1, 0.2], [0.1, 0.3], [0.1, 0.9], [0.1, 0.8]], dtype=torch.float64)
    cold = belongings(errors, 1e-3)
    torch.testing.assert_close(cold, torch.tensor([1.0, 0.0], dtype=torch.float64).expand(4, 2))
    fair = belongings(errors, 0.1, equal=True)
    torch.testing.assert_close(fair.sum(dim=1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(fair.sum(dim=0), torch.full((2,), 2.0, dtype=torch.float64), rtol=0.02, atol=0)
    assert float(fair[:2, 1].min()) > 0.8 > 0.2 > float(fair[2:, 1].max())
    warm = belongings(errors, 1.0)
    torch.testing.assert_close(warm, torch.softmax(-errors, dim=1))


@pytest.fixture(scope="module")
def found():
    flow = baseline("linear", Plain(), potentials=3, objectives=[], device="cpu")
    known = shifted()
    hidden = Sequences(known.codes, known.frames, torch.zeros(len(known), dtype=torch.long))
    UnlabelledMatching(hidden).fit(flow, iterations=300, batch=24, rate=3e-2)
    return flow


def test_transformations_are_found_without_their_names(found):
    others = shifted(seed=5)
    k = closest_fields(found, others)
    assert recovery(k, others.labels) == 1.0
    rows = found.field.weight.detach()
    naming = rows.argmax(dim=1)
    assert sorted(naming.tolist()) == [0, 1, 2]
    torch.testing.assert_close(rows[naming.argsort()], 0.5 * torch.eye(3, dtype=torch.float64), rtol=0, atol=0.03)
    named = Sequences(others.codes, others.frames, k)
    assert equivariance_error(found, named).error < 0.06


def test_one_field_for_all_would_have_been_told():
    """Three shifts along one mean direction: the loss such a collapse has is far from that of the fields found."""
    flow = baseline("linear", Plain(), potentials=3, objectives=[], device="cpu")
    with torch.no_grad():
        flow.field.weight.copy_(torch.full((3, 3), 0.5 / 3))
    others = shifted(seed=5)
    assert recovery(closest_fields(flow, others), others.labels) < 0.5


def test_recovery_does_not_depend_on_how_the_fields_are_called():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    assert recovery(torch.tensor([2, 2, 0, 0, 1, 1]), labels) == 1.0
    assert recovery(torch.tensor([2, 2, 0, 0, 0, 1]), labels) == pytest.approx(5 / 6)
    assert recovery(torch.zeros(6, dtype=torch.long), labels) == pytest.approx(1 / 3)
    assert recovery(torch.tensor([4, 4, 0, 0, 3, 3]), labels) == 1.0
    with pytest.raises(WrongShape, match=r"\[2\] fields for \[6\]"):
        recovery(torch.tensor([0, 1]), labels)


def test_what_makes_no_sense_is_named():
    for wrong in ({"temperatures": (0.1, 0.0)}, {"shared": 1.5}, {"obedience": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            UnlabelledMatching(shifted(), **wrong)
    flow = baseline("linear", Plain(), potentials=3, objectives=[], device="cpu")
    with pytest.raises(ValueError, match="no equation"):
        UnlabelledMatching(shifted(), obedience=1.0).fit(flow)
    for wrong in ([0.2, 1.7], [-1, 1]):
        with pytest.raises(WrongShape, match="whole numbers from 0 on"):
            recovery(torch.tensor(wrong), torch.tensor([0, 1]))
