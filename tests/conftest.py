"""What every test starts from: no window, two threads at most, and a directory of its own where files are written."""

import os

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    """The current directory is an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
