"""Generators in one HDF5 file: their kind, the settings of their constructor, and the weights. No code, no pickle."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from pinnflow.errors import DamagedFile, DeclarationError, UnknownFormat, UnknownName
from pinnflow.latent.generators.gate import Generator
from pinnflow.latent.generators.training import frozen
from pinnflow.latent.writing import digest, in_one_piece

FORMAT = "pinnflow generator"
VERSION = 2  # since 2 with a digest

KINDS: dict[str, type[Generator]] = {}
Kind = TypeVar("Kind", bound=type[Generator])


def storable(kind: Kind) -> Kind:
    """Registers a class for files: it has a name `kind`, and `settings()` gives its constructor's arguments."""
    KINDS[kind.kind] = kind  # type: ignore[attr-defined]
    return kind


def save_generator(generator: Generator, path: str | PathLike[str]) -> None:
    """Writes a generator of a registered kind.

    Raises:
        DeclarationError: it is of no kind that a file can hold.
    """
    import h5py

    kind = getattr(generator, "kind", None)
    if kind not in KINDS:
        raise DeclarationError(
            f"a {type(generator).__name__} cannot be written: only {', '.join(sorted(KINDS))} can. "
            f"Keep the file or the call that it was made from."
        )
    settings = json.dumps(generator.settings())  # type: ignore[operator]
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in generator.state_dict().items()}

    def write(part: Path) -> None:
        with h5py.File(part, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["version"] = VERSION
            file.attrs["kind"] = kind
            file.attrs["settings"] = settings
            file.attrs["digest"] = digest(f"{kind} {settings}", weights)
            for name, weight in weights.items():
                file.create_dataset(f"weights/{name}", data=weight)

    in_one_piece(Path(path), write)


def load_generator(path: str | PathLike[str], device: torch.device | str | None = None) -> Any:
    """The generator that `save_generator` wrote, frozen, to the last digit.

    Raises:
        FileNotFoundError: there is no such file.
        UnknownFormat: it is an HDF5 file of something else, or of a later release.
        UnknownName: its kind is not known here.
        DamagedFile: it cannot be read or was altered, or weights are missing, of the wrong shape, or not finite.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise UnknownFormat(f"{path}: an HDF5 file, but not of a generator; expected one that `save` wrote.")
            if int(file.attrs.get("version", 0)) > VERSION:
                raise UnknownFormat(f"{path}: written by a later release (format {file.attrs['version']}).")
            kind, settings = str(file.attrs["kind"]), json.loads(file.attrs["settings"])
            weights: dict[str, np.ndarray] = {}
            file["weights"].visititems(
                lambda name, item: weights.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
            written = file.attrs["digest"] if file.attrs["version"] > 1 else None
    except (FileNotFoundError, UnknownFormat):
        raise
    except (OSError, KeyError, ValueError) as error:
        raise DamagedFile(f"{path}: not a readable file of a generator ({error}).") from None
    if kind not in KINDS:
        raise UnknownName("kind of generator", kind, KINDS)
    try:
        generator = KINDS[kind](**settings)
        generator.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        raise DamagedFile(f"{path}: its weights do not fit its settings ({error}).") from None
    broken = [name for name, value in weights.items() if name != "activity" and not np.isfinite(value).all()]
    if broken:
        raise DamagedFile(f"{path}: the weights `{broken[0]}` hold NaN or infinite values.")
    if written is not None and written != digest(f"{kind} {json.dumps(settings)}", weights):
        raise DamagedFile(f"{path}: changed after it was written: its digest is another one than was written with it.")
    return frozen(generator.to(device or "cpu"))
