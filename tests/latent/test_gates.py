"""What a flow is given and what it answers: shapes, numbers from numpy, few potentials, files that were altered."""

import h5py
import numpy as np
import pytest
import torch

from pinnflow.errors import DamagedFile, WrongShape
from pinnflow.latent import Classifier, Movement, PotentialFlow
from tests.latent.simple_flows import Patches


def stripes(z):
    """Colour images 3 x 16 x 24 from three codes, by a plain function."""
    places = torch.linspace(0, 3, 16 * 24).reshape(16, 24)
    phases = z.float()[:, :, None, None]
    return (torch.sin(places + phases) + 1) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("potentials", [1, 2, 3])
def test_few_potentials_train_on_a_plain_function(potentials, dtype):
    """Fewer potentials than branches of a training: no two walks are the same, and nothing is divided by zero."""
    flow = PotentialFlow(stripes, 3, potentials, dtype=dtype, features=8).fit(60, 4)
    assert all(np.isfinite(entry["loss"]) for entry in flow.history)
    walk = flow._walk(4)
    assert len(walk.k) == 4 * min(3, potentials)
    assert flow.traverse(flow.sample(2)).dtype == dtype
    assert flow.render(flow.sample(2)).shape == (2, 3, 16, 24)


def test_numbers_of_numpy_are_numbers():
    flow = PotentialFlow(None, np.int64(3), np.int32(2), features=np.int64(8))
    path = flow.traverse(np.zeros((4, 3)), np.int64(1), np.int64(2), np.float32(0.25))
    assert path.shape == (3, 4, 3)
    assert torch.allclose((path[1] - path[0]).norm(dim=1), torch.tensor(0.25, dtype=torch.float64))
    assert flow.velocity(np.zeros((4, 3)), 1.0, 0).shape == (4, 3)


@pytest.mark.parametrize("method", ["velocity", "potential", "residual"])
def test_wrong_shapes_are_named(method):
    flow = PotentialFlow(None, 3, 2, features=8)
    with pytest.raises(WrongShape, match=r"`t` has shape \(3,\).* 4 codes"):
        getattr(flow, method)(torch.zeros(4, 3), torch.ones(3), 0)
    with pytest.raises(WrongShape, match=r"`z` has shape \(4, 5\).*\[n, 3\]"):
        getattr(flow, method)(torch.zeros(4, 5), 1.0, 0)


def test_no_codes_are_no_walk_but_no_error():
    flow = PotentialFlow(None, 3, 2, features=8)
    nothing = torch.zeros(0, 3)
    assert flow.traverse(nothing).shape == flow.inverse(nothing).shape == (7, 0, 3)
    assert flow.residual(nothing, 1.0).shape == (0,)


def test_objectives_are_a_list_and_training_needs_one():
    with pytest.raises(ValueError, match=r"must be a list such as `\[Classifier\(\), Spread\(\)\]`"):
        PotentialFlow(Patches(), potentials=2, objectives=Classifier())
    with pytest.raises(ValueError, match="has no objectives"):
        PotentialFlow(Patches(), potentials=2, objectives=[]).fit(1)


def test_two_objectives_of_a_kind_count_both():
    flow = PotentialFlow(Patches(), potentials=2, objectives=[Movement(1.0), Movement(2.0)], features=8).fit(1, 4)
    entry = flow.history[-1]
    assert entry["movement 2"] == pytest.approx(2 * entry["movement"])
    assert entry["loss"] == pytest.approx(3 * entry["movement"])


def test_a_file_with_one_altered_byte_is_refused_or_the_same(tmp_path):
    """Every byte of the data of a file counts: 40 files with a flipped byte each."""
    path, bad = tmp_path / "flow.h5", tmp_path / "bad.h5"
    flow = PotentialFlow(None, 3, 2, features=8)
    flow.save(path)
    whole = path.read_bytes()
    z = flow.sample(4)
    refused = 0
    for place in np.random.default_rng(0).integers(len(whole), size=40):
        altered = bytearray(whole)
        altered[place] ^= 0xFF
        bad.write_bytes(bytes(altered))
        try:
            other = PotentialFlow.load(bad)
        except DamagedFile:
            refused += 1
        else:  # in a gap between the data
            assert torch.equal(other.velocity(z, 1.0, 0), flow.velocity(z, 1.0, 0))
    assert refused > 10


def test_altered_weights_are_refused(tmp_path):
    path = tmp_path / "flow.h5"
    PotentialFlow(None, 3, 2, features=8).save(path)
    with h5py.File(path, "r+") as file:
        file["weights/amplitudes"][0, 0] += 1e-12
    with pytest.raises(DamagedFile, match="has been altered"):
        PotentialFlow.load(path)
