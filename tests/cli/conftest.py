"""The program as a user runs it: another process, a directory of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def environment():
    """The user's environment, with the checkout importable from any directory and no terminal's width."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "Agg", "COLUMNS": "100"}


def run_program(directory, *words, timeout=300):
    """`python -m pinnflow WORDS` in `directory`; returns the finished process with its texts."""
    return subprocess.run(
        [sys.executable, "-m", "pinnflow", *map(str, words)],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def pinnflow(tmp_path):
    """Runs the program in an empty directory: `pinnflow("solve", "wave")`."""
    return lambda *words: run_program(tmp_path, *words)


@pytest.fixture(scope="session")
def solved(tmp_path_factory):
    """`pinnflow solve wave` run once: the finished process and the directory it ran in."""
    directory = tmp_path_factory.mktemp("solved")
    return run_program(directory, "solve", "wave"), directory
