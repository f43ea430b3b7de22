"""What the README and the pages promise is there: commands, code, links, names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sympy import Eq, pi, sin

import pinnflow
from pinnflow.source import find_problem

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SOLVE = "python -m pip install -e . && pinnflow solve wave"
TEST = "python -m pip install -e '.[test]' && python -m pytest"


def code(path, language="python"):
    """The fenced blocks of a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def run(program, directory):
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("command", [SOLVE, TEST])
def test_both_commands_stand_alone_in_a_block_of_their_own(command):
    assert f"```bash\n{command}\n```" in README


def test_ci_runs_the_test_command_word_for_word_after_the_pinned_torch():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert lines.index("python -m pip install torch==2.13.0") < lines.index(TEST)


def test_ci_script_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_distribution_is_never_installed_by_the_import_name():
    for page in [*PAGES, ROOT / ".ci" / "run", ROOT / "Makefile"]:
        assert not re.search(r"pip install ['\"]?pinnflow(?!-pde)", page.read_text(encoding="utf-8")), page.name


def test_readme_program_has_ten_lines_and_does_what_it_says(tmp_path):
    (program,) = code(ROOT / "README.md")
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "error" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wave.h5", "wave.png"]


def test_message_in_the_readme_is_the_one_that_comes():
    t, x = pinnflow.coordinates("t x")
    u = pinnflow.field("u", t, x)
    conditions = [Eq(u.subs(t, 0), sin(pi * x)), Eq(u.subs(t, 0).diff(t), 0), Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)]
    with pytest.raises(pinnflow.DeclarationError) as caught:
        pinnflow.Problem([Eq(u.diff(t, 2), 4 * u.diff(x, 2))], {t: (0, 1), x: (0, 1)}, conditions, name="wave")
    assert f"{caught.value}\n" in code(ROOT / "README.md", "text")


def test_measured_table_has_an_error_and_seconds_in_every_row_and_says_how_to_repeat_it():
    measured = README.split("<!-- measured: begin.")[1].split("<!-- measured: end -->")[0]
    header, rule, *rows = re.findall(r"^\|(.*)\|$", measured, flags=re.M)
    assert [c.strip() for c in header.split("|")] == ["problem", "solved by", "relative L2 error", "seconds"]
    assert set(rule) <= set("-|:") and len(rows) >= 3
    for row in rows:
        *_, error, seconds = (c.strip() for c in row.split("|"))
        assert re.fullmatch(r"\de[-+]\d\d", error) and float(seconds) > 0, row
    assert "python -m benchmarks.peers" in measured and "cores" in measured


def test_five_minutes_can_be_typed_in_as_they_stand(tmp_path):
    done = run("\n".join(code(ROOT / "docs" / "five-minutes.md")), tmp_path)
    assert done.returncode == 0, done.stderr


def test_file_on_the_page_of_the_command_line_is_a_problem_without_errors(tmp_path):
    (program,) = code(ROOT / "docs" / "command-line.md")
    (tmp_path / "beam.py").write_text(program)
    problem, _ = find_problem(str(tmp_path / "beam.py"), ["damping=1/2"])
    assert not problem.check().errors and not problem.check().warnings


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_public_name_is_in_the_reference():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [n for n in pinnflow.__all__ if n != "__version__" and not re.search(rf"pinnflow\.{n}\b", text)]
    assert not missing


def test_every_public_name_says_what_it_is():
    silent = [n for n in pinnflow.__all__ if n != "__version__" and not (getattr(pinnflow, n).__doc__ or "").strip()]
    assert not silent


def test_every_command_and_option_is_on_its_page():
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    program = (ROOT / "pinnflow" / "cli.py").read_text(encoding="utf-8")
    for option in set(re.findall(r'"(--[a-z-]+)"', program)) - {"--help", "--version"}:
        assert option in text, option
    for command in ("list", "show", "solve", "plot", "info"):
        assert f"`pinnflow {command}" in text


def test_versions_agree():
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), flags=re.M)
    assert version == pinnflow.__version__
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
