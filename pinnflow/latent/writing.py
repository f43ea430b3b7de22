"""Files that are there as a whole or not at all, and a digest of what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def in_one_piece(path: Path, write: Callable[[Path], Any]) -> Path:
    """Calls `write` with the name of a part beside `path` and renames it: nobody sees half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def digest(text: str, *groups: dict[str, np.ndarray]) -> str:
    """SHA-256 of a text and of all arrays with their names, in hexadecimal."""
    whole = hashlib.sha256(text.encode())
    for group in groups:
        for name in sorted(group):
            array = np.asarray(group[name])
            whole.update(f"{name} {array.dtype} {array.shape}".encode())
            whole.update(array.tobytes())
    return whole.hexdigest()
