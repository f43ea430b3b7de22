"""`save` and `load`: a solution to one file and back.

What a file holds is `archive.py`'s subject, the bytes and their digest `container.py`'s, the declaration as data
`declaration.py`'s. `docs/file-format.md` describes all of it for readers of files.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from pinnflow.solution import archive, container
from pinnflow.solution.solution import Estimate, Solution
from pinnflow.trial.registry import restore


def save(solution: Solution, path: str | PathLike[str]) -> Path:
    """Writes `solution` to `path`; the same as `solution.save(path)`."""
    return solution.save(path)


def load(path: str | PathLike[str]) -> Solution:
    """The solution that `Solution.save` wrote to `path`, to the last digit; runs no code of the file's.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: not a file of pinnflow's, truncated, or changed after it was written.
        UnknownFormat: written by a newer pinnflow.
    """
    content = archive.unpack(container.read(path), path)
    content["unknowns"] = {s: Estimate(*numbers) for s, numbers in content["unknowns"].items()}
    if content["error_trial"] is not None:
        content["error_trial"] = restore(content["error_trial"])
    return Solution(content.pop("problem"), restore(content.pop("trial")), **content)
