"""Flows fitted to sequences of images along known transformations, on movements that are known exactly."""

import pytest
import torch
from sympy import Eq
from torch import nn

from pinnflow import Problem, coordinates, field, laplacian
from pinnflow.errors import DamagedFile, NonFinite, UnknownName, WrongShape
from pinnflow.latent import PotentialFlow, WarpedGenerator, baseline
from pinnflow.latent.metrics.controls import Oracle
from pinnflow.latent.supervised import ExactSequences, PairMatching, Sequences, encoded, equivariance_error
from pinnflow.latent.traversal import Flow


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Plain(nn.Module):
    """Images that are their codes: `[n, 2] -> [n, 1, 1, 2]`, in float64."""

    latent_dim, dtype = 2, torch.float64

    def forward(self, z):
        return z[:, None, None]


def shifted(n=40, steps=3, length=0.5, seed=0):
    """Codes that move along axis k by `length` in every step."""
    z, k = normal(n, 2, seed=seed), torch.arange(n) % 2
    move = length * torch.eye(2, dtype=torch.float64)[k]
    path = torch.stack([z + t * move for t in range(steps + 1)])
    return Sequences(z, path[:, :, None, None], k)


class Shift(Flow):
    """v_k = speed e_k."""

    def __init__(self, speed):
        super().__init__(Plain(), 2, 2, device="cpu")
        self.speed = speed

    def velocity(self, z, t, k=0):
        return self.speed * torch.eye(2, dtype=z.dtype)[self.index(k, len(z))]


@pytest.mark.parametrize(("speed", "error"), [(0.5, 0.0), (0.0, 1.0), (0.25, 0.5), (-0.5, 2.0)])
def test_equivariance_error_is_relative_to_no_motion(speed, error):
    """With the transformation's speed c and the flow's s the error is |c - s| / c at every step."""
    found = equivariance_error(Shift(speed), shifted())
    assert found.error == pytest.approx(error, abs=1e-14)
    assert found.squared == pytest.approx(error**2, abs=1e-14)
    assert found.along == pytest.approx([error] * 3, abs=1e-14)
    assert found.each == pytest.approx([error] * 2, abs=1e-14)


def test_exact_traversals_have_no_error_whatever_the_length():
    generator = WarpedGenerator(warp=1.0, size=16)
    for steps in (2, 7):
        sequences = ExactSequences(generator, 6, steps, step_length=1.0)
        assert equivariance_error(Oracle(generator, device="cpu"), sequences).error < 1e-6


def test_sequences_of_a_generator_change_one_factor_by_equal_steps():
    generator = WarpedGenerator(warp=1.0, size=16)
    sequences = ExactSequences(generator, 4, 3, 0.5, potentials=2)
    assert len(sequences) == 8
    rows = torch.tensor([5, 2])
    whole = sequences.whole(rows)
    assert whole.labels.tolist() == [1, 0]
    assert torch.equal(whole.codes, sequences.codes[[2, 1]])
    w = generator.warp(whole.codes).clone()
    w[0, 1] += 3 * 0.5
    w[1, 0] += 3 * 0.5
    expected = generator(generator.unwarp(w).float())
    torch.testing.assert_close(whole.targets[3], expected, rtol=0, atol=1e-4)
    alone = sequences.at(rows, torch.tensor([3, 1]))
    assert torch.equal(alone.targets[0], whole.targets[3, 0])
    assert torch.equal(alone.targets[1], whole.targets[1, 1])


def test_linear_flow_finds_shifts_and_goes_on_beyond_what_it_was_shown():
    flow = baseline("linear-classifier", Plain(), potentials=2, objectives=[], device="cpu")
    matching = PairMatching(shifted())
    assert matching.fit(flow, iterations=300, batch=32, rate=5e-2) is flow
    torch.testing.assert_close(flow.field.weight.detach(), 0.5 * torch.eye(2, dtype=torch.float64), rtol=0, atol=0.02)
    assert equivariance_error(flow, shifted(seed=7, steps=9)).error < 0.05
    assert matching.history[-1]["loss"] < 1e-3 < matching.history[0]["loss"]
    assert matching.history[-1]["iteration"] == 300


def test_potential_finds_a_movement_that_is_no_shift():
    """x_t = (1.2)^t z, the flow of u = 0.1 |z|^2 by Euler's steps; shifts cannot do it."""
    z = normal(200, 2)
    frames = torch.stack([1.2**t * z for t in range(4)])[:, :, None, None]
    sequences = Sequences(z, frames, torch.zeros(200, dtype=torch.long))
    errors = []
    for flow in (
        PotentialFlow(Plain(), potentials=1, form="none", objectives=[], hidden=12, device="cpu"),
        baseline("linear-classifier", Plain(), potentials=1, objectives=[], device="cpu"),
    ):
        PairMatching(sequences).fit(flow, iterations=80, batch=24, rate=3e-2)
        errors.append(equivariance_error(flow, sequences).error)
    assert errors[0] < 0.3
    assert errors[1] > 0.8


def test_same_seed_gives_the_same_weights():
    flows = []
    for seed in (0, 0, 1):
        flow = PotentialFlow(Plain(), potentials=2, objectives=[], features=4, device="cpu")
        PairMatching(shifted(), seed=seed).fit(flow, iterations=5, batch=8)
        flows.append(torch.cat([p.detach().flatten() for p in flow.field.parameters()]))
    assert torch.equal(flows[0], flows[1])
    assert not torch.equal(flows[0], flows[2])


@pytest.mark.parametrize("unit", ["velocity", "terms"])
@pytest.mark.parametrize("everywhere", [True, False])
def test_equation_is_obeyed_more_when_it_counts(unit, everywhere):
    z, t, k = normal(64, 2, seed=3), 3 * torch.rand(64, dtype=torch.float64), torch.zeros(64, dtype=torch.long)
    left = []
    for weight in (0.0, 100.0):
        flow = PotentialFlow(Plain(), potentials=2, form="soft", objectives=[], hidden=8, device="cpu")
        matching = PairMatching(shifted(), obedience=weight, rows=32, unit=unit, everywhere=everywhere)
        matching.fit(flow, iterations=100, batch=32, rate=1e-2)
        left.append(float(flow.disobedience(z, t, k).detach()))
        assert ("equation" in matching.history[-1]) is (weight > 0)
    assert left[1] < 0.85 * left[0]


FIELDS = ("linear", "rbf", "free", "divergence-free", "helmholtz")
POTENTIALS = ("wave", "hamilton-jacobi", "heat")


def test_residuals_in_units_of_the_velocity_see_equations_of_one_term():
    """Laplace(u) = 0 for u = 0.1 |z|^2: (4 * 0.1)^2 over the mean of |0.2 z|^2 at standard normal codes."""
    t, z = coordinates("t"), coordinates("z", 2)
    u = field("u", t, z)
    still = Problem([Eq(laplacian(u, z), 0)], {t: (0, 3), z: (-3, 3)})
    flow = PotentialFlow(Plain(), potentials=2, pde=still, form="none", objectives=[], device="cpu")
    flow.field = Bowl()
    matching = PairMatching(shifted(), obedience=1.0, rows=20_000)
    draw = torch.Generator().manual_seed(0)
    found = matching._disobedience(flow, normal(4, 2), torch.zeros(4, dtype=torch.long), draw)
    assert float(found.detach()) == pytest.approx(0.4**2 / (0.2**2 * 2), rel=0.03)


class Bowl(nn.Module):
    """u = 0.1 |z|^2 at points (t, z), for all k."""

    def forward(self, points, k):
        return 0.1 * points[:, 1:].square().sum(dim=1, keepdim=True)


def size_of(flow):
    z, k = flow.sample(256), torch.arange(256) % flow.potentials
    with torch.no_grad():
        return float(flow.velocity(z, 1.0, k).square().sum(dim=1).mean().sqrt())


@pytest.mark.parametrize("name", FIELDS + POTENTIALS + ("none",))
def test_every_field_begins_as_slowly_as_asked_for(name):
    """To the order where velocities are not linear in a weight; the rate is so small that nothing is learned."""
    settings = {"potentials": 2, "objectives": [], "device": "cpu"}
    if name in FIELDS:
        flow = baseline(name, Plain(), **settings)
    else:
        flow = PotentialFlow(
            Plain(), pde="wave" if name == "none" else name, form="none" if name == "none" else "auto", **settings
        )
    assert flow.untrained
    PairMatching(shifted(steps=1), start=0.01).fit(flow, iterations=1, batch=2, rate=1e-9)
    exact = name in FIELDS + ("wave", "none")
    assert size_of(flow) == pytest.approx(0.01, rel=0.25 if exact else 2.0)
    assert not flow.untrained
    before = size_of(flow)
    PairMatching(shifted(steps=1), start=1.0).fit(flow, iterations=1, batch=2, rate=1e-9)
    assert size_of(flow) == pytest.approx(before, rel=1e-4), "what has been learned is not scaled"


def test_start_may_be_left_as_it_is():
    flow = baseline("linear", Plain(), potentials=2, objectives=[], device="cpu")
    before = size_of(flow)
    PairMatching(shifted(), start=None).fit(flow, iterations=1, batch=2, rate=1e-9)
    assert size_of(flow) == pytest.approx(before, rel=1e-6)


def weights_of(flow):
    return torch.cat([p.detach().flatten() for p in flow.field.parameters()])


@pytest.mark.parametrize("obedience", [0.0, 1.0])
def test_training_that_was_cut_off_goes_on_to_the_same_digits(tmp_path, obedience):
    def make():
        return PotentialFlow(Plain(), potentials=2, form="soft", objectives=[], hidden=6, device="cpu")

    matching = lambda: PairMatching(shifted(), obedience=obedience, rows=8)  # noqa: E731
    whole = matching().fit(make(), iterations=12, batch=8)
    file, seen = tmp_path / "matching.ckpt", []

    class Cut(Exception):
        pass

    def cut(entry):
        seen.append(entry["iteration"])
        if entry["iteration"] == 5:
            raise Cut

    with pytest.raises(Cut):
        matching().fit(make(), iterations=12, batch=8, checkpoint=file, progress=cut)
    assert seen == [1, 2, 3, 4, 5]
    again = matching()
    resumed = again.fit(
        make(), iterations=12, batch=8, checkpoint=file, resume=True, progress=lambda e: seen.append(-1)
    )
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert seen.count(-1) in (7, 8)
    drop = lambda history: [{k: v for k, v in entry.items() if k != "seconds"} for entry in history]  # noqa: E731
    assert drop(resumed.history) == drop(whole.history)
    assert [entry["iteration"] for entry in again.history] == list(range(1, 13))
    # Nothing is left to be done.
    assert torch.equal(
        weights_of(matching().fit(make(), iterations=12, batch=8, checkpoint=file, resume=True)), weights_of(whole)
    )


def test_checkpoints_of_something_else_are_refused(tmp_path):
    make = lambda hidden: PotentialFlow(  # noqa: E731
        Plain(), potentials=2, form="none", hidden=hidden, device="cpu"
    )
    file = tmp_path / "matching.ckpt"
    PairMatching(shifted()).fit(make(4), iterations=2, batch=4, checkpoint=file)
    with pytest.raises(DamagedFile, match="another flow"):
        PairMatching(shifted()).fit(make(5), iterations=2, batch=4, checkpoint=file, resume=True)
    other = tmp_path / "flow.ckpt"
    two = PotentialFlow(WarpedGenerator(size=8), potentials=2, features=4, device="cpu")
    two.fit(iterations=1, batch=2, checkpoint=other)
    with pytest.raises(DamagedFile, match="not of a matching"):
        PairMatching(shifted()).fit(make(4), iterations=2, batch=4, checkpoint=other, resume=True)
    with pytest.raises(ValueError, match="needs the file"):
        PairMatching(shifted()).fit(make(4), iterations=2, resume=True)


def test_matched_flow_is_stored_with_its_history_and_goes_on_from_there(tmp_path):
    flow = PotentialFlow(Plain(), potentials=2, form="none", objectives=[], hidden=6, device="cpu")
    PairMatching(shifted()).fit(flow, iterations=3, batch=8)
    flow.save(tmp_path / "flow.h5")
    loaded = PotentialFlow.load(tmp_path / "flow.h5", Plain(), device="cpu")
    assert loaded.history == flow.history
    assert not loaded.untrained
    error = [equivariance_error(one, shifted(seed=4)).error for one in (flow, loaded)]
    assert error[0] == error[1]
    PairMatching(shifted(), seed=1).fit(loaded, iterations=2, batch=8)
    assert [entry["iteration"] for entry in loaded.history] == [1, 2, 3, 1, 2]


def test_codes_may_come_from_an_encoder():
    """The mean of what it answers; a network is asked in evaluation mode."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.scale = nn.Dropout(0.9), nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

        def encode(self, x):
            mean = self.scale * self.drop(x[:, 0, 0])
            return mean, torch.zeros_like(mean)

    known = shifted()
    encoder = Encoder().train()
    sequences = Sequences(encoder.encode, known.frames, known.labels)
    torch.testing.assert_close(sequences.codes, 3 * known.codes)
    assert encoder.training
    torch.testing.assert_close(encoded(lambda x: x[:, 0, 0], known.frames[0].float()), known.codes.float())


def test_what_does_not_fit_together_is_refused_in_words():
    known = shifted()
    with pytest.raises(WrongShape, match=r"expected \[T \+ 1, n, c, h, w\]"):
        Sequences(known.codes, known.frames[0], known.labels)
    with pytest.raises(WrongShape, match="40 sequences"):
        Sequences(known.codes[:3], known.frames, known.labels)
    with pytest.raises(ValueError, match="no `oracle"):
        ExactSequences(Plain(), 3)
    flow = baseline("linear-classifier", Plain(), potentials=1, objectives=[], device="cpu")
    with pytest.raises(ValueError, match="1 fields for 2 transformations"):
        PairMatching(known).fit(flow)
    two = baseline("linear-classifier", Plain(), potentials=2, objectives=[], device="cpu")
    with pytest.raises(ValueError, match="no equation"):
        PairMatching(known, obedience=1.0).fit(two)
    for wrong in ({"obedience": -1.0}, {"start": 0.0}, {"horizon": -2.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PairMatching(known, **wrong)
    with pytest.raises(UnknownName, match="terms, velocity"):
        PairMatching(known, unit="pixels")
    still = Sequences(known.codes, known.frames[:1].expand(3, -1, -1, -1, -1), known.labels)
    with pytest.raises(ValueError, match="do not change"):
        equivariance_error(two, still)
    with pytest.raises(ValueError, match="do not change"):
        PairMatching(still).fit(two)


def test_frames_codes_and_flows_that_cannot_be_matched_are_named():
    known = shifted()
    codes, frames, labels = known.codes, known.frames, known.labels
    for wrong in ((255 * frames).to(torch.uint8), frames.numpy()):
        with pytest.raises(TypeError, match="255"):
            Sequences(codes, wrong, labels)
    with pytest.raises(TypeError, match="an encoder"):
        Sequences("vae", frames, labels)
    with pytest.raises(NonFinite, match="`frames`"):
        Sequences(codes, frames * torch.nan, labels)
    with pytest.raises(NonFinite, match="`codes`"):
        Sequences(codes * torch.nan, frames, labels)
    with pytest.raises(WrongShape, match="n >= 1"):
        Sequences(codes[:0], frames[:, :0], labels[:0])
    for wrong in (labels == 1, labels - 1):
        with pytest.raises(WrongShape, match="whole numbers from 0 on"):
            Sequences(codes, frames, wrong)
    with pytest.raises(WrongShape, match="the encoder answered"):
        Sequences(lambda x: x.mean(), frames, labels)
    # Three channels would be broadcast against one, and the error be that of something else.
    colour = Sequences(codes, frames.expand(-1, -1, 3, -1, -1), labels)
    flow = baseline("linear-classifier", Plain(), potentials=2, objectives=[], device="cpu")
    with pytest.raises(WrongShape, match=r"\[1, 1, 2\]; those of the sequences are \[3, 1, 2\]"):
        PairMatching(colour).fit(flow, 1)
    with pytest.raises(WrongShape, match=r"\[3, 1, 2\]"):
        equivariance_error(Shift(0.5), colour)
    with pytest.raises(ValueError, match="no weights"):
        PairMatching(known).fit(Shift(0.5))
    with pytest.raises(ValueError, match="rate"):
        PairMatching(known).fit(flow, 1, rate=-1.0)
    with pytest.raises(ValueError, match="rows"):
        PairMatching(known, rows=0)
    generator = WarpedGenerator(size=8)
    with pytest.raises(ValueError, match="step_length"):
        ExactSequences(generator, 3, step_length=float("nan"))
    with pytest.raises(ValueError, match="5 factors"):
        ExactSequences(generator, 3, potentials=9)
