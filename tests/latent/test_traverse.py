"""The whole job of `pinnflow traverse`: what it writes, that it goes on to the same digits, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sympy import Eq

from pinnflow import Problem, coordinates, field, laplacian
from pinnflow.errors import DamagedFile, DeclarationError, PinnflowError, UnknownName, UnusableDevice, WrongShape
from pinnflow.latent import PotentialFlow, WarpedGenerator, load_traversal
from pinnflow.latent.generators.storage import load_generator
from pinnflow.latent.traverse import Tour, explore

PICTURES = {"strips.png", "strips.gif", "landscape.png", "landscape.gif", "comparison.png"}
WRITTEN = {*PICTURES, "metrics.md", "flow.h5", "generator.h5", "traversal.h5"}
SHORT = {"quick": True, "potentials": 3, "iterations": 12, "device": "cpu"}


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves out the pictures, which take longer than all the rest."""
    monkeypatch.setattr("pinnflow.latent.archive.redraw", lambda *args, **settings: [])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run on the digits without a break: its folder and what it found."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, explore(Tour(output=folder, **SHORT))


def test_everything_is_written_and_readable(whole):
    folder, found = whole
    assert {path.name for path in folder.iterdir()} == WRITTEN == {path.name for path in found.written}
    held = load_traversal(folder / "traversal.h5")
    assert set(held.pieces) == {"strips", "landscape", "comparison"}
    assert held.notes["asked"]["generator"] == "digits-vae"
    generator = load_generator(folder / "generator.h5")
    flow = PotentialFlow.load(folder / "flow.h5", generator, device="cpu")
    z = torch.from_numpy(held.pieces["strips"].codes[0, 0, held.pieces["strips"].start])
    again = flow.traverse(z, 2)[-1, 0].numpy()
    # Matrix products of one row and of nine are summed in other orders.
    np.testing.assert_allclose(again, held.pieces["strips"].codes[0, 2, -1], atol=1e-13)


def test_table_holds_baselines_and_controls_with_class_kept(whole):
    folder, found = whole
    assert set(found.report.values) >= {"wave", "linear-classifier", "sefa", "random", "attractor"}
    assert all("class_kept" in row and "vp" in row for row in found.report.values.values())
    page = (folder / "metrics.md").read_text()
    assert "| random (control) |" in page and "collapse" in page and "- seed: 0" in page


def test_strips_start_at_digits_of_different_classes(whole):
    """The starts are codes of typical images, which the VAE draws about as they are."""
    from pinnflow.latent.generators.data import digits

    drawn = load_traversal(whole[0] / "traversal.h5").pieces["strips"]
    starts = torch.from_numpy(drawn.images[:, 0, drawn.start])  # [3, 1, 8, 8]
    data = digits()
    nearest = (data.images[None] - starts[:, None]).square().flatten(2).sum(2).argmin(1)
    assert len(set(data.labels[nearest].tolist())) == 3


def test_interrupted_and_resumed_is_uninterrupted_to_the_last_bit(whole, tmp_path, undrawn):
    """Cut off while the flow is trained, and again while the baseline is."""
    tour = Tour(output=tmp_path, checkpoint=tmp_path / "run.ckpt", **SHORT)
    told, stops = [], ["wave: iteration 7 ", "linear-classifier: iteration 7 "]

    def tell(line):
        told.append(line)
        if stops and stops[0] in line:
            stops.pop(0)
            raise KeyboardInterrupt

    while stops:
        with pytest.raises(KeyboardInterrupt):
            explore(replace(tour, resume=bool(told)), tell)
    assert not (tmp_path / "traversal.h5").exists()
    explore(replace(tour, resume=True), tell)
    assert sum("trained in" in line and "digits-vae" in line for line in told) == 1
    assert sum("wave: iteration 1 " in line for line in told) == 1
    assert sum("linear-classifier: iteration 1 " in line for line in told) == 1
    for name in ("traversal.h5", "metrics.md"):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes(), name


def test_checkpoint_of_other_options_is_refused(tmp_path):
    (tmp_path / "run.ckpt.json").write_text(json.dumps({"latent_dim": None, "potentials": 4}))
    with pytest.raises(DeclarationError, match="begun with `potentials` = 4, not 3"):
        explore(Tour(output=tmp_path, checkpoint=tmp_path / "run.ckpt", resume=True, **SHORT))


def test_damaged_note_of_a_checkpoint_is_refused(tmp_path):
    (tmp_path / "run.ckpt.json").write_text("{")
    with pytest.raises(DamagedFile, match=r"run\.ckpt\.json"):
        explore(Tour(output=tmp_path, checkpoint=tmp_path / "run.ckpt", resume=True, **SHORT))


def test_new_run_does_not_go_on_from_an_old_checkpoint(tmp_path):
    """Without `resume` the files of an earlier run are removed, so that a later `resume` cannot mix the two."""
    (tmp_path / "run.ckpt.generator.h5").write_bytes(b"old")

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(Tour(output=tmp_path, checkpoint=tmp_path / "run.ckpt", generator="warped", **SHORT), stop)
    assert not (tmp_path / "run.ckpt.generator.h5").exists()
    assert json.loads((tmp_path / "run.ckpt.json").read_text())["generator"] == "warped"


def test_named_generator_with_factors_and_a_problem_of_ones_own(tmp_path, undrawn):
    """The warped generator has factors and an oracle but no weights to store; the heat equation no exact conditions."""
    t, z = coordinates("t"), coordinates("z", 8)
    u = field("u", t, z)
    problem = Problem([Eq(u.diff(t), laplacian(u, z) / 10)], {t: (0, 6), z: (-3, 3)}, name="warmth")
    found = explore(Tour(output=tmp_path, generator="warped", pde=problem, **SHORT))
    assert {path.name for path in tmp_path.iterdir()} == WRITTEN - PICTURES - {"generator.h5"}
    assert found.report.values["oracle"]["concentration"] > 0.999
    assert "concentration" in found.report.values["warmth"]
    assert isinstance(found.flow.generator, WarpedGenerator)
    assert load_traversal(tmp_path / "traversal.h5").notes["asked"]["pde"] == [str(problem.equations[0])]


def test_an_equation_of_ones_own_says_how_many_latents_a_generator_made_here_has(tmp_path):
    t, z = coordinates("t"), coordinates("z", 6)
    u = field("u", t, z)
    problem = Problem([Eq(u.diff(t), laplacian(u, z) / 10)], {t: (0, 6), z: (-3, 3)}, name="warmth")
    told = []

    def stop(line):
        told.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(Tour(output=tmp_path, generator="warped", pde=problem, **SHORT), stop)
    assert told[0].startswith("warped: 6 latents")
    told.clear()
    with pytest.raises(DeclarationError, match="6 coordinates beside the time, `latent_dim` is 8"):
        explore(Tour(output=tmp_path, generator="warped", pde=problem, latent_dim=8, **SHORT), told.append)
    assert not told


def test_images_of_a_file_are_learned(tmp_path, undrawn):
    """An .npz file in the form of MNIST, made of digits enlarged to 16x16; more potentials than directions of SeFa."""
    from pinnflow.latent.generators.data import digits

    data = digits()
    images = (255 * torch.nn.functional.interpolate(data.images[:300], scale_factor=2)[:, 0]).byte().numpy()
    labels = data.labels[:300].numpy()
    file = tmp_path / "small.npz"
    np.savez(file, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    lines = []
    found = explore(Tour(output=tmp_path, data=str(file), latent_dim=2, **SHORT), lines.append)
    assert found.flow.generator.image_shape == (1, 16, 16) and found.flow.latent_dim == 2
    assert "sefa" not in found.flows and any("no SeFa" in line for line in lines)


def test_torchscript_file_needs_its_latent_dimension(tmp_path):
    class Small(torch.nn.Module):
        def forward(self, z):
            return torch.sigmoid(z[:, :1, None, None] * torch.ones(1, 1, 8, 8))

    torch.jit.save(torch.jit.script(Small()), str(tmp_path / "small.pt"))
    with pytest.raises(DeclarationError, match="latent_dim"):
        explore(Tour(output=tmp_path, generator=str(tmp_path / "small.pt"), **SHORT))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError, match=r"The directory `.*taken` cannot be made"):
        explore(Tour(output=tmp_path / "taken", **SHORT))


def test_images_that_no_picture_can_show_are_refused_before_the_training(tmp_path):
    class FourChannels(torch.nn.Module):
        def forward(self, z):
            return torch.sigmoid(z[:, :1, None, None] * torch.ones(4, 8, 8))

    torch.jit.save(torch.jit.script(FourChannels()), str(tmp_path / "four.pt"))
    lines = []
    with pytest.raises(WrongShape, match="4 channels"):
        explore(Tour(output=tmp_path, generator=str(tmp_path / "four.pt"), latent_dim=3, **SHORT), lines.append)
    assert not any("iteration" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"potentials": 0}, DeclarationError, "`potentials` is 0"),
        ({"iterations": 0}, DeclarationError, "`iterations` is 0"),
        ({"seed": -1}, DeclarationError, "`seed` is -1"),
        ({"pde": "wavy"}, UnknownName, "There is no equation for potentials `wavy`.*wave"),
        ({"data": "faces"}, UnknownName, "There is no data set `faces`.*digits, sprites"),
        ({"data": "absent.npz"}, FileNotFoundError, r"There is no file `absent\.npz`"),
        ({"generator": "magic"}, UnknownName, "There is no generator `magic`.*PATH of a file"),
        ({"generator": "mnist-vae"}, DeclarationError, "trained on a file"),
        ({"generator": "warped", "data": "digits"}, DeclarationError, "`warped` is not trained here"),
        ({"generator": "sprites-vae", "data": "digits"}, DeclarationError, "`sprites-vae` learns sprites"),
        ({"generator": "biggan"}, DeclarationError, "cannot be made by its name alone"),
        ({"resume": True}, DeclarationError, "`resume` needs the file"),
        ({"device": "abacus"}, UnusableDevice, "`abacus` cannot be used"),
    ],
)
def test_bad_options_are_refused_before_anything_is_trained(tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    told = []
    with pytest.raises(error, match=message):
        explore(Tour(output=tmp_path, quick=True, **options), told.append)
    assert not told and not list(tmp_path.iterdir())
    assert issubclass(error, (PinnflowError, OSError))  # what the shell tells in words


def test_programs_on_the_page_run(tmp_path, monkeypatch):
    """docs/latent.md, typed in block by block, with short trainings and few walks."""
    import re
    from pathlib import Path

    from pinnflow.latent import metrics
    from pinnflow.latent.training import TrainedFlow

    fit, evaluate = TrainedFlow.fit, metrics.evaluate
    monkeypatch.setattr(TrainedFlow, "fit", lambda self: fit(self, iterations=2, batch=8))
    monkeypatch.setattr(metrics, "evaluate", lambda flow: evaluate(flow, pairs=100, quick=True))
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[2] / "docs" / "latent.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2 and names["flow"].form == "exact"
    assert (names["back"][-1] - names["start"]).abs().max() < 1e-6
    assert {path.name for path in tmp_path.iterdir()} == {"strips.png", "flow.h5"}


def test_options_on_the_page_are_those_there_are():
    from pathlib import Path

    from pinnflow.latent import generator_names
    from pinnflow.latent.presets import PRESETS
    from pinnflow.latent.traverse import HELP

    page = (Path(__file__).resolve().parents[2] / "docs" / "latent.md").read_text(encoding="utf-8")
    assert all(f"--{name.replace('_', '-')}" in page for name in HELP if name != "output")
    assert all(f"`{name}`" in page for name in PRESETS)
    assert all(f"`{name}`" in page for name in generator_names() if name not in ("biggan", "autoencoder-kl"))
