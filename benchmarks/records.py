"""Files of measured runs, one entry for each, and what their tables have in common."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch


def stored(file: Path) -> list[dict[str, Any]]:
    """The runs of a file; none where there is no file yet."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def store(file: Path, run: dict[str, Any], key: Sequence[str], indent: int | None = None) -> None:
    """Puts a run in the place of the one with the same entries `key`, or after the others.

    The file is read again, because another process may have written meanwhile.

    Args:
        file: of the runs.
        run: the entries of one.
        key: what tells runs apart; an entry that a run lacks counts as None.
        indent: of the JSON; None writes a line for each run.
    """
    runs = [one for one in stored(file) if [one.get(k) for k in key] != [run.get(k) for k in key]] + [run]
    text = json.dumps(runs, indent=indent)
    if indent is None:
        text = text.replace('{"data"', '\n{"data"')
    file.write_text(text + "\n", encoding="utf-8")


def spread(values: Sequence[float], digits: int | None) -> str:
    """The median, and the smallest and the largest where they differ visibly; `-` for none.

    Args:
        values: of the runs.
        digits: after the point; None for one digit and a power of ten.
    """
    if not values:
        return "-"
    written = [f"{v:.0e}" if digits is None else f"{v:.{digits}f}" for v in (median(values), min(values), max(values))]
    return written[0] if len(set(written)) == 1 else f"{written[0]} ({written[1]}..{written[2]})"


def machine() -> str:
    """What the numbers were made on."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread, "
        f"torch {torch.__version__.split('+')[0]}, pinnflow {version('pinnflow-pde')}"
    )
