"""The progress display: live on a terminal, silent elsewhere, facts to a callable."""

import io
import os
import pty
import subprocess
import sys
import threading

import pytest

from pinnflow.solution.progress import make_progress

PROGRAM = """
import time
from pinnflow.solution.progress import make_progress
with make_progress({argument}) as report:
    for step in range(4):
        facts = dict(fraction=step / 4, score=10.0 ** -step, unknowns={{"nu": 0.1}}, message="round %d" % step)
        report("growing features", **facts)
        time.sleep(0.2)
print("the answer")
"""


def run_on_terminal(argument):
    """stdout and stderr of the program, each a text, with stderr a pseudo-terminal and stdout a pipe."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(argument=argument)],
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(slave)
    chunks = []

    def drain():
        while True:
            try:
                chunk = os.read(master, 4096)
            except OSError:  # the other end is closed
                return
            if not chunk:
                return
            chunks.append(chunk)

    reader = threading.Thread(target=drain)
    reader.start()
    stdout = process.communicate(timeout=60)[0].decode()
    reader.join(timeout=10)
    os.close(master)
    assert process.returncode == 0
    return stdout, b"".join(chunks).decode()


def test_terminal_shows_stage_and_facts_and_stdout_stays_clean():
    stdout, shown = run_on_terminal("None")
    assert stdout == "the answer\n"
    for text in ("growing features", "50 %", "residual 0.01", "nu = 0.1", "round 2"):
        assert text in shown
    assert "\x1b[?25h" in shown, "the cursor is given back"


def test_false_is_silent_even_on_a_terminal():
    assert run_on_terminal("False") == ("the answer\n", "")


def test_nothing_is_written_when_stderr_is_no_terminal():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(argument="None")], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "the answer\n", "")


def test_true_writes_plain_lines_without_control_characters():
    stream = io.StringIO()
    with make_progress(True, stream) as report:
        for step in range(100):
            report("fitting", score=0.5, fraction=step / 100)
        report("polishing")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2, "one line a stage, not one a step"
    assert "fitting" in lines[0] and "residual 0.5" in lines[0] and "polishing" in lines[1]
    assert "\x1b" not in stream.getvalue()


def test_unknowns_are_coefficients_by_name_or_a_number_of_them():
    stream = io.StringIO()
    with make_progress(True, stream) as report:
        report("growth", unknowns=300, estimate=2e-9)
        report("inverse", unknowns={"nu": 0.123456789})
    first, second = stream.getvalue().splitlines()
    assert "error 2e-09 · 300 unknowns" in first and "nu = 0.12346" in second


def test_callable_gets_each_report_as_one_dict():
    seen = []
    report = make_progress(seen.append)
    report("fitting", score=0.25, elapsed=1.0)
    report.close()
    assert seen == [{"stage": "fitting", "score": 0.25, "elapsed": 1.0}]


def test_exception_of_the_callable_passes_through():
    def stop(facts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_progress(stop)("fitting")


def test_anything_else_is_refused_with_the_choices():
    with pytest.raises(TypeError, match=r"`progress` is 'yes'; expected None .*, True, False, or a callable"):
        make_progress("yes")


def test_closing_twice_is_harmless():
    for choice in (None, True, False, print):
        report = make_progress(choice, io.StringIO())
        report.close()
        report.close()
