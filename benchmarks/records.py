"""Files of measured runs, one entry for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def stored(file: Path) -> list[dict[str, Any]]:
    """The runs of a file; none where there is no file yet."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def store(file: Path, run: dict[str, Any], key: Sequence[str], indent: int | None = None) -> None:
    """Puts a run in the place of the one with the same entries `key`, or after the others.

    The file is read again, because another process may have written meanwhile.

    Args:
        file: of the runs.
        run: the entries of one.
        key: what tells runs apart.
        indent: of the JSON; None writes a line for each run.
    """
    runs = [one for one in stored(file) if [one[k] for k in key] != [run[k] for k in key]] + [run]
    text = json.dumps(runs, indent=indent)
    if indent is None:
        text = text.replace('{"data"', '\n{"data"')
    file.write_text(text + "\n", encoding="utf-8")
