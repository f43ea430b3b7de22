"""`pinnflow list | show | solve | plot | info`, as a user runs it: what is printed, written and returned."""

import re
import signal
import subprocess
import sys
import time
import tomllib

import pytest

import pdes
from pinnflow import __version__
from tests.cli.conftest import ROOT, environment

# A problem whose `fit` is replaced by a closed form with a given estimate: what the program does with a result.
KNOWN = """
import numpy as np
from sympy import Eq
from pinnflow import Problem, Solution, coordinates, field

x = coordinates("x")
u = field("u", x)


class Line:
    kind = "line of the test"

    def derivatives(self, points, wanted):
        return [points[:, 0] if orders == (0,) else np.full(len(points), float(orders == (1,))) for _, orders in wanted]

    def state(self):
        return {"kind": self.kind}

    @classmethod
    def from_state(cls, state):
        return cls()


class Known(Problem):
    def fit(self, **options):
        ESTIMATE
        return Solution(self, Line(), method="closed form", reason="it is known", error_estimate=estimate, checks={},
                        stop="Nothing was computed.", history=[])


problem = Known([Eq(u.diff(x, 2), 0)], {x: (0, 1)}, [Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 1)], exact=x)
"""


@pytest.fixture
def known(tmp_path):
    """Writes `known.py`, whose `fit` runs `statement` and then uses `estimate`."""

    def write(statement):
        (tmp_path / "known.py").write_text(KNOWN.replace("ESTIMATE", statement))
        return "known.py"

    return write


def test_list_names_every_equation_with_its_settings(pinnflow):
    done = pinnflow("list")
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert names == sorted(pdes.ALL)
    assert "--set speed=2" in done.stdout and "--set drift=" in done.stdout


@pytest.mark.parametrize(("words", "modules"), [(["--help"], "torch sympy numpy"), (["list"], "torch matplotlib h5py")])
def test_quick_commands_do_not_import(words, modules):
    program = (
        f"import sys; sys.argv = ['pinnflow', *{words!r}]\n"
        "from pinnflow.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('LOADED', [m for m in {modules.split()!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stderr


def test_show_prints_statements_latex_check_and_plan(pinnflow):
    done = pinnflow("show", "wave", "--set", "speed=3")
    assert done.returncode == 0, done.stderr
    assert "u.diff(t, 2) = 9*u.diff(x, 2)" in done.stdout
    assert "u.diff(t).subs(t, 0) = 0" in done.stdout
    assert r"\frac{\partial^{2}}{\partial t^{2}}" in done.stdout
    assert re.search(r"^Check$", done.stdout, re.M) and re.search(r"^Derivatives$", done.stdout, re.M)


def test_solve_says_what_was_decided_and_how_large_the_error_is(solved):
    done, _ = solved
    assert done.returncode == 0, done.stderr
    for label in ("method", "error", "true error", "checks", "stop", "wrote"):
        assert re.search(rf"^ +{label}  +\S", done.stdout, re.M), label
    assert re.search(r"wave\.h5, wave\.png$", done.stdout, re.M)


def test_solve_writes_both_files_and_nothing_else(solved):
    _, directory = solved
    assert sorted(p.name for p in directory.iterdir()) == ["wave.h5", "wave.png"]
    assert (directory / "wave.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_solve_is_silent_on_stderr_when_that_is_no_terminal(solved):
    assert solved[0].stderr == ""


def test_estimate_is_within_a_factor_ten_of_the_true_error(solved):
    import pinnflow
    from pinnflow.solution.report import true_error

    solution = pinnflow.load(solved[1] / "wave.h5")
    estimate, truth = (max(value, 1e-11) for value in (solution.error_estimate, float(true_error(solution))))
    assert truth <= 1e-10 and 0.1 <= estimate / truth <= 10


def test_info_tells_what_a_file_holds(solved, pinnflow):
    done = pinnflow("info", solved[1] / "wave.h5")
    assert done.returncode == 0, done.stderr
    for text in ("u.diff(t, 2) = 4*u.diff(x, 2)", "from 0 to 1", "method", "seed", "torch", "pinnflow"):
        assert text in done.stdout


def test_plot_draws_a_saved_solution_into_a_new_directory(solved, pinnflow, tmp_path):
    done = pinnflow("plot", solved[1] / "wave.h5", "--output", "pictures/today")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "pictures" / "today").iterdir()] == ["wave.png"]


def test_users_own_file_is_solved_with_its_settings(pinnflow, tmp_path):
    (tmp_path / "rod.py").write_text(
        "from sympy import Eq, exp\n"
        "from pinnflow import Problem, coordinates, field\n"
        "x = coordinates('x')\n"
        "T = field('T', x)\n"
        "def problem(rate=1):\n"
        "    return Problem([Eq(T.diff(x), rate * T)], {x: (0, 1)}, [Eq(T.subs(x, 0), 1)], exact=exp(rate * x))\n"
    )
    done = pinnflow("solve", "rod.py", "--set", "rate=1/2", "--output", "out", "--time-limit", 20)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["rod.h5", "rod.png"]
    assert "true error" in done.stdout


def test_estimate_above_the_tolerance_ends_with_1_and_writes_the_files(pinnflow, known, tmp_path):
    done = pinnflow("solve", known("estimate = 1e-3"), "--tolerance", "1e-6")
    assert done.returncode == 1
    assert done.stderr == "error: The estimate 0.001 is above the tolerance 1e-06.\n"
    assert {"known.h5", "known.png"} <= {p.name for p in tmp_path.iterdir()}


def test_estimate_below_the_tolerance_ends_with_0(pinnflow, known):
    done = pinnflow("solve", known("estimate = 1e-7"), "--tolerance", "1e-6")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("estimate", ["0.9", "float('inf')", "float('nan')"])
def test_not_solved_ends_with_1_without_any_tolerance(pinnflow, known, estimate):
    done = pinnflow("solve", known(f"estimate = {estimate}"))
    assert done.returncode == 1
    assert "NOT SOLVED" in done.stdout


def test_no_estimate_is_above_every_tolerance(pinnflow, known):
    assert pinnflow("solve", known("estimate = float('nan')"), "--tolerance", "0.1").returncode == 1


def test_infinite_numbers_in_the_computation_end_with_1(pinnflow, known):
    statement = "from pinnflow.errors import NonFinite; raise NonFinite('equation 1: log(x) is infinite')"
    done = pinnflow("solve", known(statement))
    assert (done.returncode, done.stderr) == (1, "error: equation 1: log(x) is infinite\n")


def test_interrupt_before_anything_is_there_says_so(pinnflow, known):
    done = pinnflow("solve", known("raise KeyboardInterrupt"))
    assert (done.returncode, done.stderr) == (130, "error: Interrupted before there was anything to save.\n")


def test_defect_in_the_program_is_not_hidden(pinnflow, known):
    done = pinnflow("solve", known("raise AssertionError('a defect')"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "AssertionError: a defect" in done.stderr


# Tells by a file when a solution may be there: after the second report of the fit.
MARKED = """
from pathlib import Path
from pdes import burgers
from pinnflow import Problem


class Marked(Problem):
    def fit(self, **options):
        seen = []

        def mark(entry):
            seen.append(entry)
            Path(f"seen {len(seen)}").touch()

        return super().fit(callbacks=[mark], **options)


p = burgers()
problem = Marked(p.equations, p.domain, p.conditions)
"""


def test_interrupt_saves_what_there_is(tmp_path):
    (tmp_path / "front.py").write_text(MARKED)
    process = subprocess.Popen(
        [sys.executable, "-m", "pinnflow", "solve", "front.py", "--tolerance", "1e-30", "--time-limit", "200"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "seen 2").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert {"front.h5", "front.png"} <= {p.name for p in tmp_path.iterdir()}
    assert "above the tolerance" in stderr and "Traceback" not in stderr and "method" in stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solve", "wavee"], "There is no equation called `wavee`. The names are advection"),
        (["show", "absent.py"], "There is no file `absent.py`."),
        (["solve", "wave", "--set", "sped=2"], "wave has no setting `sped`; its settings are"),
        (["solve", "wave", "--set", "speed=fast"], "`--set speed=fast`: `fast` is not a value"),
        (["solve", "wave", "--set", "speed=-1"], "speed"),
        (["solve", "wave", "--set", "speed"], "expected name=value"),
        (["solve", "wave", "--tolerance", "-1"], "`--tolerance -1`: expected a positive number."),
        (["solve", "wave", "--time-limit", "nan"], "`--time-limit nan`: expected a positive number."),
        (["solve", "wave", "--method", "magic"], "magic"),
        (["solve", "wave", "--device", "abacus"], "abacus"),
        (["info", "absent.h5"], "There is no file `absent.h5`."),
        (["traverse", "--pde", "wavy"], "There is no equation for potentials `wavy`. Choose one of: fokker-planck"),
        (["traverse", "--pde", "absent.py"], "There is no file `absent.py`."),
        (["traverse", "--generator", "magic"], "There is no generator `magic`. Choose one of: PATH of a file"),
        (["traverse", "--data", "faces"], "There is no data set `faces`."),
        (["traverse", "--device", "abacus"], "the device `abacus` cannot be used here"),
        (["traverse", "--resume"], "`resume` needs the file to go on from"),
    ],
)
def test_bad_input_ends_with_2_and_one_message(pinnflow, tmp_path, words, message):
    done = pinnflow(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".h5", ".png")]


@pytest.mark.parametrize("words", [["solve"], ["solve", "wave", "--points", "many"], ["sovle", "wave"]])
def test_wrong_usage_ends_with_2(pinnflow, words):
    done = pinnflow(*words)
    assert done.returncode == 2
    assert "Usage: pinnflow" in done.stderr and "Traceback" not in done.stderr


def test_damaged_file_ends_with_2(solved, pinnflow, tmp_path):
    content = bytearray((solved[1] / "wave.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "broken.h5").write_bytes(bytes(content))
    for command in ("info", "plot"):
        done = pinnflow(command, "broken.h5")
        assert done.returncode == 2 and "broken.h5" in done.stderr and "Traceback" not in done.stderr


def test_output_that_is_a_file_is_refused_before_any_work(pinnflow, known, tmp_path):
    (tmp_path / "taken").write_text("")
    done = pinnflow("solve", known("raise AssertionError('worked')"), "--output", "taken")
    assert done.returncode == 2 and "taken" in done.stderr and "worked" not in done.stderr


def test_users_exception_ends_with_2_and_is_shown(pinnflow, tmp_path):
    (tmp_path / "mine.py").write_text("import sympy\n1 / 0\n")
    done = pinnflow("solve", "mine.py")
    assert done.returncode == 2
    assert "mine.py failed:" in done.stderr and "ZeroDivisionError" in done.stderr and "line 2" in done.stderr


def test_warnings_of_the_check_are_told_before_solving(pinnflow, tmp_path):
    (tmp_path / "loose.py").write_text(
        KNOWN.replace("ESTIMATE", "estimate = 1e-9").replace(", Eq(u.subs(x, 1), 1)]", "]")
    )
    done = pinnflow("solve", "loose.py")
    assert "warning: " in done.stderr


def test_version_is_that_of_the_package(pinnflow):
    done = pinnflow("--version")
    assert (done.returncode, done.stdout.strip()) == (0, __version__)


def test_script_and_module_are_the_same_program():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"pinnflow": "pinnflow.cli:main"}
    assert "from pinnflow.cli import main" in (ROOT / "pinnflow" / "__main__.py").read_text()


def test_traverse_writes_pictures_measures_and_one_file(pinnflow, tmp_path):
    """The short form, with a declaration of one's own for the equation of the potentials."""
    (tmp_path / "ripple.py").write_text(
        "from sympy import Eq\n"
        "from pinnflow import Problem, coordinates, field, laplacian\n"
        "t, z = coordinates('t'), coordinates('z', 8)\n"
        "u = field('u', t, z)\n"
        "problem = Problem([Eq(u.diff(t, 2), laplacian(u, z) / 9)], {t: (0, 6), z: (-3, 3)}, name='ripple')\n"
    )
    words = ["--pde", "ripple.py", "--potentials", "2", "--iterations", "12", "--quick", "--device", "cpu"]
    done = pinnflow("traverse", *words, "--output", "walks", "--checkpoint", "walks/run.ckpt")
    assert done.returncode == 0, done.stderr
    assert "ripple: exact" in done.stdout and "random (control)" in done.stdout and "wrote" in done.stdout
    written = {path.name for path in (tmp_path / "walks").iterdir()}
    assert written >= {"strips.png", "landscape.gif", "comparison.png", "metrics.md", "traversal.h5", "flow.h5"}
    assert "run.ckpt" in written


def test_traverse_help_names_every_option(pinnflow):
    done = pinnflow("traverse", "--help")
    assert done.returncode == 0
    for option in ("data", "generator", "pde", "potentials", "iterations", "seed", "output", "quick", "device"):
        assert f"--{option} " in done.stdout
    assert "--checkpoint" in done.stdout and "--resume" in done.stdout and "--latent-dim" in done.stdout
