"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_one_piece(path: Path, write: Callable[[Path], Any]) -> Path:
    """Calls `write` with the name of a part beside `path` and renames it: nobody sees half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
