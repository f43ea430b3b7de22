"""Files: everything comes back to the last digit, and no damage gets through."""

import dataclasses
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import sympy
from sympy import Derivative, Eq, Float, Function, Integer, Piecewise, Rational, Symbol, pi, sin, symbols

from pinnflow.declare.operators import div, dot, grad, laplacian, norm_squared
from pinnflow.declare.problem import Problem
from pinnflow.declare.statements import Bounds, Condition, Observations
from pinnflow.declare.symbols import coordinates
from pinnflow.errors import DamagedFile, NotYet, UnknownFormat, UnknownName
from pinnflow.solution import container
from pinnflow.solution.declaration import decode, encode
from pinnflow.solution.solution import Estimate
from pinnflow.solution.storage import load, save

HERE = Path(__file__).parent
t, x, y = symbols("t x y", real=True)
n, q = Symbol("n", integer=True), Symbol("q")
u = Function("u")(t, x)
g = Function("g", real=True)(x)


@pytest.fixture
def file(wave, tmp_path):
    path = tmp_path / "wave.h5"
    wave.save(path)
    return path


def run(code, folder, **options):
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": path}, text=True, **options
    )


def test_everything_comes_back(any_solution, tmp_path):
    facts = {
        "unknowns": {Symbol("a", positive=True): Estimate(1 / 3, 0.01)},
        "settings": {"tolerance": 1e-6, "solved": True, "grid": [1, None]},
        "seed": 2**80,
    }
    before = dataclasses.replace(any_solution, **facts)
    before.save(tmp_path / "file.h5")
    after = load(tmp_path / "file.h5")
    names = ("method", "reason", "stop", "error_estimate", "checks", "history", "unknowns", "settings", "seed")
    for name in (*names, "versions", "success"):
        assert getattr(after, name) == getattr(before, name), name
    for name in ("equations", "conditions", "domain", "coordinates", "fields", "time", "name", "exact"):
        assert getattr(after.problem, name) == getattr(before.problem, name), name
    points = np.random.default_rng(0).random((50, len(before.problem.columns)))
    wanted = [(0, (0,) * points.shape[1]), (0, (1,) + (0,) * (points.shape[1] - 1))]
    for old, new in zip(before.derivatives(points, wanted), after.derivatives(points, wanted), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_state_of_a_trial_comes_back(wave, file):
    state = container.read(file)["trial"]
    assert state.pop("kind") == wave.trial.kind
    np.testing.assert_equal(state, wave.trial.state())
    assert type(state["weights"]["a/b"][2]) is bool
    assert type(state["order"]) is int


def test_the_same_solution_gives_the_same_bytes(wave, file, tmp_path):
    time.sleep(1.1)  # HDF5 counts modification times in seconds
    assert save(wave, tmp_path / "again.h5") == tmp_path / "again.h5"
    load(file).save(tmp_path / "reloaded.h5")
    data = file.read_bytes()
    assert data == (tmp_path / "again.h5").read_bytes() == (tmp_path / "reloaded.h5").read_bytes()
    assert hashlib.sha256(f"pinnflow 1 {len(data) - 512}\n".encode() + data[512:]).hexdigest() in data[:512].decode()


def test_h5py_alone_reads_a_file(file):
    with h5py.File(file, "r") as content:
        assert content.attrs["method"] == "least_squares"
        assert json.loads(content.attrs["checks"])["equation 1"] == 1e-9
        assert content["trial/weights/layers.0.weight"][1, 2] == 5 / 7
        assert "equation 1: Eq(u.diff(t, 2), 4*u.diff(x, 2))" in content.attrs["text"]


def test_a_file_is_read_in_a_process_that_never_saw_the_problem(solution_of, tmp_path):
    """The trial of the tests is the one thing that has to be imported; torch is not loaded."""
    solution_of("plate").save(tmp_path / "plate.h5")
    code = (
        "import conftest, sys; from pinnflow.solution.storage import load; s = load('plate.h5')\n"
        "print(repr(s(t=0.1, x=0.3, y=0.2))); assert 'torch' not in sys.modules"
    )
    child = run(code, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert out.strip() == repr(solution_of("plate")(t=0.1, x=0.3, y=0.2))


def test_every_kind_of_statement_comes_back(solved, tmp_path):
    z, c, d = coordinates("z", 2), Symbol("c"), Symbol("d", positive=True)
    f, h = Function("f")(t, z), Function("h")(t, z)
    rng = np.random.default_rng(0)
    problem = Problem(
        [Eq(f.diff(t), c * laplacian(f, z) + d * dot(grad(h, z), z)), h.diff(t) - div(grad(f, z), z) * z[0]],
        {t: (0, 1), z: (-1, 1)},
        [
            Condition(Eq(f, norm_squared(z)), on={t: 0}, name="start", weight=2.0),
            Condition(Eq(f, 0), on="boundary"),
            Eq(h.subs(t, 0), 0),
            Eq(f.subs(z[0], -1), f.subs(z[0], 1)),
            Eq(f.diff(z[1]).subs(z[1], 1), Rational(1, 3)),
        ],
        unknowns={c: 0.1, d: Bounds(1, 2)},
        observations=[Observations(f**2, {t: rng.random(4), z: rng.random((4, 2))}, rng.random(4), noise=0.1)],
        name="everything",
    )
    before = solved(problem, [t, z[0]], unknowns={c: Estimate(0.2, 0.01), d: Estimate(1.5, 0.1)})
    before.save(tmp_path / "file.h5")
    after = load(tmp_path / "file.h5")
    assert after.problem == problem
    assert after.unknowns == before.unknowns
    assert [block.name for block in after.problem.blocks] == [block.name for block in problem.blocks]
    np.testing.assert_array_equal(after.problem.observations[0].values, problem.observations[0].values)


@pytest.mark.parametrize(
    "expression",
    [
        Integer(7), Rational(-2, 3), Float("0.1"), Float("0.1", 50), Float(-1e-300), Float(0), pi, sympy.I, -sympy.oo,
        sympy.true, Symbol("a", positive=True), n, q, Symbol("w", real=True, zero=False), u, g,
        u.diff(t, 2, x), u.subs(t, 0), u.diff(t).subs(t, 0), u.diff(x).subs({x: 1, t: 0}), u.diff(t).subs(t, 2 * t),
        Eq(u, sin(x)), sympy.Ne(x, 1), x < 1, sympy.And(x > 0, t < x), Piecewise((x, x > 0), (0, True)),
        sympy.Matrix([[u, 1], [x, t]]).as_immutable(), sympy.Integral(u, (x, 0, 1)), Derivative(g, x),
        sympy.besselj(0, x), sympy.erf(x) + sympy.Heaviside(t) * abs(x), sympy.sqrt(x**2 + 1) ** sympy.E,
        sympy.Max(x, t, 0), sympy.atan2(x, t), sympy.Mul(2, x + 1, evaluate=False), 2 ** (x / 3),
        sympy.Add(x, x, evaluate=False), Eq(g, g.subs(x, 1)), sympy.sqrt(2) / 2,
    ],
    ids=str,
)  # fmt: skip
def test_expressions_come_back_equal(expression):
    data = json.loads(json.dumps(encode(expression, {})))
    again = decode(data, {})
    assert again == expression
    assert type(again) is type(expression)
    assert again.args == expression.args
    assert getattr(again, "_prec", None) == getattr(expression, "_prec", None)


@pytest.mark.parametrize(
    "data",
    [
        ["eval", "1"], ["__import__", "os"], ["Lambda", ["Tuple"], 1], ["Pow", 9, ["Pow", 9, 9]], True, {"code": "1"},
        {"record": "Popen", "args": "ls"}, [["Add"], 1], {"python": ["ls"]},
    ],
    ids=str,
)  # fmt: skip
def test_only_listed_types_are_read(data):
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        decode(data, {})


def test_a_function_of_ones_own_class_is_refused_before_a_file_is_there(solved, wave, tmp_path):
    class Ramp(sympy.Function):
        pass

    problem = Problem(wave.problem.equations, wave.problem.domain, [Eq(u.subs(t, 0), Ramp(x))])
    with pytest.raises(NotYet, match=r"`Ramp\(x\)` is of type `Ramp`, which files cannot hold"):
        solved(problem, [x]).save(tmp_path / "ramp.h5")
    assert list(tmp_path.iterdir()) == []


def test_every_truncation_is_refused(file):
    data = file.read_bytes()
    lengths = {0, 1, 7, 8, 50, 511, 512, 513, 520, len(data) // 2, len(data) - 1} | set(range(600, len(data), 997))
    for length in sorted(lengths):
        file.write_bytes(data[:length])
        with pytest.raises(DamagedFile, match=r"empty|truncated|damaged header|first bytes are damaged"):
            load(file)
    file.write_bytes(data + b"\0")
    with pytest.raises(DamagedFile, match="1 bytes too many"):
        load(file)


def test_every_flipped_bit_is_refused(file):
    data = file.read_bytes()
    rng = np.random.default_rng(1)
    for place in sorted({*range(130), 511, 512, *map(int, rng.integers(130, len(data), 200))}):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        with pytest.raises(DamagedFile):
            load(file)


def test_other_files_are_refused_in_words(tmp_path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as content:
        content["a"] = 1
    with pytest.raises(DamagedFile, match="an HDF5 file of another program"):
        load(path)
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(DamagedFile, match="not a file of pinnflow's"):
        load(path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load(tmp_path / "nothing.h5")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load(tmp_path)


def test_a_newer_format_is_refused_by_its_number(file):
    body = file.read_bytes()[container.HEADER :]
    digest = hashlib.sha256(f"pinnflow 9 {len(body)}\n".encode() + body).hexdigest()
    header = f"pinnflow format=9 length={len(body)} sha256={digest}\n".encode().ljust(container.HEADER, b"\0")
    file.write_bytes(header + body)
    with pytest.raises(UnknownFormat, match="has format 9; this release of pinnflow reads formats up to 1"):
        load(file)


def test_a_valid_digest_around_nonsense_is_refused(tmp_path):
    path = tmp_path / "nonsense.h5"
    container.write(path, {"declaration": "{}", "arrays": {}})
    with pytest.raises(DamagedFile, match="cannot be read by this release"):
        load(path)


def test_an_unknown_kind_of_trial_is_named(file):
    content = container.read(file)
    content["trial"]["kind"] = "abacus"
    container.write(file, content)
    with pytest.raises(UnknownName, match=r"There is no kind of trial `abacus`. Choose one of: .*features"):
        load(file)


def test_a_missing_folder_is_named(wave, tmp_path):
    with pytest.raises(FileNotFoundError, match="Create it first: `mkdir -p"):
        wave.save(tmp_path / "no" / "wave.h5")


def test_a_failing_write_leaves_the_old_file(wave, file, monkeypatch):
    old = file.read_bytes()

    def fail(handle):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        wave.save(file)
    assert file.read_bytes() == old
    assert [p.name for p in file.parent.iterdir()] == [file.name]


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_kill_leaves_a_complete_file(tmp_path):
    """A process that saves over and over is killed at random moments; the file is never broken."""
    code = (
        "import numpy as np; from pinnflow.solution import container\n"
        "i = 0\nprint('ready', flush=True)\n"
        "while True:\n"
        "    i += 1; container.write('file.h5', {'a': np.full(300_000, float(i)), 'i': i})\n"
    )
    rng = np.random.default_rng(0)
    container.write(tmp_path / "file.h5", {"a": np.zeros(3), "i": 0})
    for _ in range(4):
        with run(code, tmp_path, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(rng.uniform(0.05, 0.4))
            child.send_signal(signal.SIGKILL)
        content = container.read(tmp_path / "file.h5")
        assert np.all(content["a"] == content["i"])


def test_awkward_keys_and_values_survive(tmp_path):
    content = {
        "a/b": {"..": 1, ".": 2.5, "list": "x", "%41": None, "é ü": True, "k" * 300: -(2**63)},
        "long": "ü" * 40_000,
        "lists": [[], [1, [2.0, "three"]], {"list": []}],
        "arrays": [np.float32(1.5) * np.ones((2, 0), np.float32), np.arange(3, dtype=np.int8), np.array(1 + 2j)],
        "special": [float("nan"), float("-inf"), -0.0],
        "many": {f"n{i}": i for i in range(40)},
    }
    container.write(tmp_path / "file.h5", content)
    again = container.read(tmp_path / "file.h5")
    np.testing.assert_equal(again, content)
    assert again["arrays"][1].dtype == np.int8
    assert again["arrays"][0].dtype == np.float32


@pytest.mark.parametrize(
    ("value", "words"),
    [(2**63, "9223372036854775808"), ({1}, "set"), (np.array(["a"]), "array of <U1"), (io, "module")],
)
def test_what_a_file_cannot_hold_is_named_with_its_place(tmp_path, value, words):
    with pytest.raises(TypeError, match=rf"`/trial/weights\[1\]` is .*{words}"):
        container.write(tmp_path / "file.h5", {"trial": {"weights": [0, value]}})
