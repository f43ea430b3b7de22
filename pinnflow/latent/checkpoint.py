"""States of a training in a file of tensors, numbers and text: no code is read from it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from pinnflow.errors import DamagedFile
from pinnflow.latent.writing import in_one_piece


def write_state(path: str | Path, state: dict[str, Any]) -> None:
    """Writes all at once: a training that is cut off leaves the last whole file."""
    in_one_piece(Path(path), lambda part: torch.save(state, part))


def read_state(path: str | Path) -> dict[str, Any]:
    """What `write_state` wrote.

    Raises:
        DamagedFile: the file is not whole, or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as problem:
        raise DamagedFile(f"`{path}` is no checkpoint of a flow, or is not whole: {problem}") from None
    if not isinstance(state, dict) or "iteration" not in state:
        raise DamagedFile(f"`{path}` is no checkpoint of a flow")
    return state
