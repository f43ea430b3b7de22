"""Files of traversals give back every number, draw the same pictures, and say when they are damaged."""

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
from PIL import Image

from pinnflow.errors import DamagedFile, UnknownFormat, UnknownName
from pinnflow.latent import archive
from pinnflow.latent.archive import load_traversal, record_traversal, redraw, save_traversal
from pinnflow.latent.baselines import baseline
from pinnflow.latent.landscape import draw_landscape
from pinnflow.latent.sheet import comparison, draw_comparison
from pinnflow.latent.strips import draw_strips
from tests.latent.simple_flows import Bowls, Patches


@pytest.fixture(scope="module")
def pieces():
    flow = Bowls(Patches(3))
    made = record_traversal(flow, steps=2, starts=2, resolution=9, samples=3)
    made["sheet"] = comparison({"bowls": flow, "again": flow}, values={"bowls": {"VP": 0.5}}, steps=1)
    return made


@pytest.fixture(scope="module")
def file(pieces, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "run.h5"
    return save_traversal(path, pieces, {"seed": 3, "values": [0.1, None]})


def assert_same(a, b):
    assert type(a) is type(b)
    for field in fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
        elif field.name == "methods":
            for one, other in zip(x, y, strict=True):
                assert_same(one, other)
        else:
            assert x == y


def test_a_record_has_the_strips_and_a_landscape_of_each_potential(pieces):
    assert list(pieces) == ["strips", "landscape-0", "landscape-1", "sheet"]
    assert [pieces[f"landscape-{k}"].potential for k in (0, 1)] == [0, 1]
    assert list(pieces["landscape-0"].times) == [1, 2]


def test_a_record_holds_what_the_flow_has():
    assert list(record_traversal(Bowls(), steps=1, resolution=3, samples=1)) == ["landscape-0", "landscape-1"]
    flow = baseline("local-jacobian", Patches(), potentials=2, device="cpu").fit()
    assert list(record_traversal(flow, steps=1)) == ["strips"]
    assert list(record_traversal(Bowls(), steps=1, potentials=[1], resolution=3, samples=1)) == ["landscape-1"]


def test_a_record_for_films_has_times_from_zero(pieces):
    drawn = record_traversal(Bowls(), steps=2, frames=5, potentials=[0], resolution=3, samples=1)["landscape-0"]
    np.testing.assert_allclose(drawn.times, [0, 0.5, 1, 1.5, 2])


def test_every_number_comes_back(pieces, file):
    held = load_traversal(file)
    assert list(held.pieces) == list(pieces)
    for name in pieces:
        assert_same(held.pieces[name], pieces[name])
    assert held.notes == {"seed": 3, "values": [0.1, None]}
    assert set(held.versions) == {"pinnflow", "torch", "numpy", "matplotlib", "h5py"}


def test_raw_velocities_and_a_step_length_are_told_apart(pieces, tmp_path):
    raw = replace(pieces["strips"], step_length=None)
    assert load_traversal(save_traversal(tmp_path / "raw.h5", {"raw": raw})).pieces["raw"].step_length is None


def test_the_same_pieces_give_the_same_bytes(pieces, file, tmp_path):
    again = save_traversal(tmp_path / "again.h5", pieces, {"seed": 3, "values": [0.1, None]})
    assert again.read_bytes() == file.read_bytes()


def test_pictures_drawn_from_the_file_are_the_same(pieces, file, tmp_path):
    written = redraw(file, tmp_path / "pictures")
    assert [path.name for path in written] == ["strips.png", "landscape-0.png", "landscape-1.png", "sheet.png"]
    draw_strips(pieces["strips"], tmp_path / "strips.png")
    draw_landscape(pieces["landscape-0"], tmp_path / "landscape-0.png")
    draw_comparison(pieces["sheet"], tmp_path / "sheet.png")
    for name in ("strips.png", "landscape-0.png", "sheet.png"):
        with Image.open(tmp_path / name) as fresh, Image.open(tmp_path / "pictures" / name) as drawn:
            np.testing.assert_array_equal(np.asarray(fresh), np.asarray(drawn))


def test_redraw_makes_the_films_and_the_pieces_that_are_asked_for(file, tmp_path):
    written = redraw(load_traversal(file), tmp_path, names=["landscape-1"], films=True, kind="surface", suffix=".svg")
    assert [path.name for path in written] == ["landscape-1.svg", "landscape-1.gif"]
    with Image.open(written[1]) as film:
        assert film.n_frames == 2
    with pytest.raises(UnknownName, match=r"piece `map`.*landscape-0"):
        redraw(file, tmp_path, names=["map"])


def test_other_programs_can_read_the_file(file, pieces):
    with h5py.File(file) as held:
        np.testing.assert_array_equal(held["pieces/landscape-1/values"][()], pieces["landscape-1"].values)
        assert held["pieces/strips"].attrs["kind"] == "strips"


@pytest.mark.parametrize("where", [0, 40, 300, 600, -1])
def test_a_changed_byte_is_found(file, tmp_path, where):
    data = bytearray(file.read_bytes())
    data[where] ^= 1
    path = tmp_path / "damaged.h5"
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match=r"damaged\.h5"):
        load_traversal(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: data[:-100], "bytes where"),
        (lambda data: data + b"x", "bytes where"),
        (lambda data: data[:300], "has 0 bytes where"),
        (lambda data: data[:60], "not a file that"),
        (lambda data: b"\x89HDF\r\n\x1a\n" + data, "not a file that `save_traversal` wrote"),
    ],
)
def test_truncated_and_foreign_files_are_refused(file, tmp_path, change, message):
    path = tmp_path / "other.h5"
    path.write_bytes(change(file.read_bytes()))
    with pytest.raises(DamagedFile, match=message):
        load_traversal(path)


def test_a_file_of_a_later_release_says_so(pieces, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FORMAT", 2)
    path = save_traversal(tmp_path / "later.h5", {"strips": pieces["strips"]})
    monkeypatch.undo()
    with pytest.raises(UnknownFormat, match="format 2, of a later release"):
        load_traversal(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file `.*gone\.h5`"):
        load_traversal(tmp_path / "gone.h5")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_traversal(tmp_path)


@pytest.mark.parametrize(
    ("name", "given", "notes", "error", "message"),
    [
        ("run.txt", {}, None, ValueError, r"`run\.txt`.*\.h5"),
        (
            "run.h5",
            {"image": np.zeros(3)},
            None,
            TypeError,
            r"`pieces\['image'\]` is a ndarray; expected one of Strips",
        ),
        ("run.h5", {}, {"flow": object()}, TypeError, "`notes` holds something that JSON does not"),
        ("no/run.h5", {}, None, FileNotFoundError, "`.*no` of `run.h5` does not exist"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, name, given, notes, error, message):
    with pytest.raises(error, match=message):
        save_traversal(tmp_path / name, given, notes)
    assert not list(tmp_path.iterdir())


def test_names_cannot_lead_out_of_the_folder(pieces, tmp_path):
    for name in ("../up", "/abs", "", ".hidden", "a/b"):
        with pytest.raises(ValueError, match="cannot be the name of a picture"):
            save_traversal(tmp_path / "run.h5", {name: pieces["strips"]})
    with pytest.raises(ValueError, match="cannot be the name of a picture"):
        redraw(archive.Traversal({"../up": pieces["strips"]}, {}, {}), tmp_path)
