"""One HDF5 with everything that draws pictures of a flow again: grid values, walks, images, settings, versions.

A file is 512 bytes of header, one line of text with the length and the SHA-256 of what follows, then an ordinary HDF5
file (to HDF5 the header is a user block). The digest is compared before HDF5 sees a byte, so a damaged file is refused
in words. Pieces are `Strips`, `Landscape` and `Comparison`; each is a group whose arrays are data sets and whose other
attributes are one JSON text. Nothing in a file is code.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pinnflow.errors import DamagedFile, UnknownFormat, UnknownName
from pinnflow.latent.animation import film_landscape, film_strips
from pinnflow.latent.canvas import checked_path
from pinnflow.latent.landscape import Landscape, draw_landscape, landscape, whole_steps
from pinnflow.latent.sheet import Comparison, draw_comparison
from pinnflow.latent.strips import Strips, draw_strips, strips
from pinnflow.latent.writing import in_one_piece

Piece = Strips | Landscape | Comparison
KINDS: dict[str, type] = {"strips": Strips, "landscape": Landscape, "comparison": Comparison}
FORMAT = 1
HEADER = 512  # the smallest user block that HDF5 allows
_LINE = re.compile(rb"pinnflow-traversal format=(\d{1,6}) length=(\d{1,15}) sha256=([0-9a-f]{64})\n")


@dataclass(frozen=True)
class Traversal:
    """What a file holds.

    Attributes:
        pieces: by the names of their pictures.
        notes: what the writer added: settings, numbers, words.
        versions: of the libraries that wrote it.
    """

    pieces: dict[str, Piece]
    notes: dict[str, Any]
    versions: dict[str, str]


def record_traversal(
    flow: Any,
    z: Any = None,
    *,
    steps: int = 6,
    step_length: float | None = 0.35,
    potentials: Any = None,
    starts: int = 3,
    span: float = 3.0,
    resolution: int = 60,
    samples: int = 12,
    images: int = 4,
    frames: int | None = None,
    seed: int = 0,
) -> dict[str, Piece]:
    """The strips of a flow and the landscape of each potential: what `save_traversal` writes and `redraw` draws.

    Args: as for `plot_traversals` and `plot_landscape`.
        frames: times of each landscape, for films; None: a few, for pictures.

    Returns:
        `{"strips": Strips, "landscape-0": Landscape, ...}`; no landscapes where the flow has no potential, no strips
        where it has no generator.
    """
    chosen = range(flow.potentials) if potentials is None else [int(k) for k in potentials]
    times = whole_steps(steps) if frames is None else np.linspace(0.0, steps, frames).tolist()
    pieces: dict[str, Piece] = {}
    if getattr(flow, "generator", None) is not None:
        pieces["strips"] = strips(
            flow, z, steps=steps, step_length=step_length, potentials=list(chosen), starts=starts, seed=seed
        )
    if hasattr(flow, "potential") and flow.latent_dim > 1:
        for k in chosen:
            pieces[f"landscape-{k}"] = landscape(
                flow, k, times, span=span, resolution=resolution, samples=samples, steps=steps,
                step_length=step_length, images=images, seed=seed,
            )  # fmt: skip
    return pieces


def save_traversal(
    path: str | PathLike[str], pieces: Mapping[str, Piece], notes: Mapping[str, Any] | None = None
) -> Path:
    """Writes pieces to one HDF5 file; the same pieces give the same bytes.

    Args:
        path: `.h5` or `.hdf5`; the folder has to exist.
        pieces: by name, from `record_traversal`, `strips`, `landscape` or `comparison`.
        notes: anything that JSON holds: settings of the run, metrics.

    Raises:
        TypeError: a piece or a note of another type; the message names it.
        ValueError: another suffix, or a name that no picture can have.
        FileNotFoundError: the folder does not exist.
    """
    path = checked_path(path, (".h5", ".hdf5"), "file of a traversal")
    for name, piece in pieces.items():
        _kind_of(name, piece)
        _check_name(name)
    body = _to_bytes(pieces, _json("notes", dict(notes or {})))
    digest = _digest(FORMAT, body)
    head = f"pinnflow-traversal format={FORMAT} length={len(body)} sha256={digest}\n".encode().ljust(HEADER, b"\0")
    return in_one_piece(path, lambda part: part.write_bytes(head + body))


def load_traversal(path: str | PathLike[str]) -> Traversal:
    """What `save_traversal` wrote, to the last digit.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: another kind of file, truncated, or changed after it was written.
        UnknownFormat: written by a later release.
    """
    import h5py

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file `{path}`.")
    if path.is_dir():
        raise IsADirectoryError(f"`{path}` is a folder, not a file.")
    body = _verified(path, path.read_bytes())
    try:
        with h5py.File(io.BytesIO(bytes(HEADER) + body), "r") as file:
            pieces = {name: _read(group) for name, group in file["pieces"].items()}
            return Traversal(pieces, json.loads(file["notes"].asstr()[()]), json.loads(file.attrs["versions"]))
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise DamagedFile(f"`{path}` has the right digest, but cannot be read as a traversal: {error}.") from None


def redraw(
    source: str | PathLike[str] | Traversal,
    folder: str | PathLike[str],
    *,
    names: Any = None,
    films: bool = False,
    kind: str = "map",
    difference: bool = False,
    smooth: bool = False,
    suffix: str = ".png",
) -> list[Path]:
    """Draws all pieces of a file into a folder, without the flow: `strips.png`, `landscape-0.png`, ...

    Args:
        source: the file, or what `load_traversal` read.
        folder: made if it does not exist.
        names: of the pieces; by default all.
        films: also writes a GIF of every piece that moves.
        kind: of landscapes, `map` or `surface`.
        difference: in strips.
        smooth: in strips and comparisons.
        suffix: of the pictures: `.png`, `.pdf`, `.svg`.

    Returns:
        The files that were written.

    Raises:
        UnknownName: the file has no such piece.
        DamagedFile: as `load_traversal`.
    """
    held = source if isinstance(source, Traversal) else load_traversal(source)
    chosen = list(held.pieces) if names is None else list(names)
    for name in chosen:
        if name not in held.pieces:
            raise UnknownName("piece", name, held.pieces)
        _check_name(name)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in chosen:
        piece, path = held.pieces[name], folder / f"{name}{suffix}"
        if isinstance(piece, Landscape):
            draw_landscape(piece, path, times=_stills(piece), kind=kind)
        elif isinstance(piece, Strips):
            draw_strips(piece, path, difference=difference, smooth=smooth)
        else:
            draw_comparison(piece, path, smooth=smooth)
        written.append(path)
        if films and isinstance(piece, Landscape) and len(piece.times) > 1:
            written.append(film_landscape(piece, path.with_suffix(".gif"), kind=kind))
        elif films and isinstance(piece, Strips):
            written.append(film_strips(piece, path.with_suffix(".gif"), smooth=smooth))
    return written


def _stills(piece):
    """The times of the pictures, of all that the film has."""
    return whole_steps(len(piece.paths) - 1) if len(piece.times) > 8 else None


def _kind_of(name, piece):
    for kind, cls in KINDS.items():
        if isinstance(piece, cls):
            return kind
    raise TypeError(f"`pieces[{name!r}]` is a {type(piece).__name__}; expected one of {', '.join(c.__name__ for c in KINDS.values())}")  # fmt: skip # noqa: E501


def _check_name(name):
    # The name becomes a file's: a file from elsewhere must not write outside of the folder.
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w .+-]*", name):
        raise ValueError(f"`{name}` cannot be the name of a picture; use letters, digits, spaces and - _ . +")


def _to_bytes(pieces, notes):
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=HEADER) as file:
        file.create_dataset("notes", data=notes, dtype=h5py.string_dtype(), track_times=False)  # of any length
        file.attrs["versions"] = json.dumps(_versions())
        group = file.create_group("pieces", track_order=True)
        for name, piece in pieces.items():
            _write(group.create_group(name, track_order=True), name, piece)
    return buffer.getvalue()[HEADER:]


def _write(group, name, piece):
    group.attrs["kind"] = _kind_of(name, piece)
    plain = {}
    for field in fields(piece):
        value = getattr(piece, field.name)
        if isinstance(value, np.ndarray):
            packed = {"compression": "gzip", "shuffle": True} if value.size > 1000 else {}
            group.create_dataset(field.name, data=value, track_times=False, **packed)
        elif isinstance(piece, Comparison) and field.name == "methods":
            inner = group.create_group("methods", track_order=True)
            for i, method in enumerate(value):
                _write(inner.create_group(str(i)), name, method)
        else:
            plain[field.name] = value
    group.attrs["settings"] = _json(name, plain)


def _read(group):
    cls = KINDS[group.attrs["kind"]]
    found = json.loads(group.attrs["settings"])
    for name, node in group.items():
        if name == "methods":
            found[name] = tuple(_read(node[str(i)]) for i in range(len(node)))
        else:
            found[name] = np.asarray(node[()])
    if cls is Strips:
        found["labels"] = tuple(found["labels"])
    return cls(**found)


def _json(name, value):
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise TypeError(f"`{name}` holds something that JSON does not: {error}") from None


def _versions():
    from importlib.metadata import PackageNotFoundError, version

    import pinnflow

    found = {"pinnflow": pinnflow.__version__}
    for library in ("torch", "numpy", "matplotlib", "h5py"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "unknown"
    return found


def _verified(path, data):
    match = _LINE.fullmatch(data[:HEADER].rstrip(b"\0"))
    if match is None:
        raise DamagedFile(
            f"`{path}` is not a file that `save_traversal` wrote, or its first {HEADER} bytes are damaged."
            if data
            else f"`{path}` is empty: it was never written to the end."
        )
    number, length, body = int(match[1]), int(match[2]), data[HEADER:]
    if len(body) != length:
        raise DamagedFile(f"`{path}` has {len(body):,} bytes where {length:,} were written; use another copy.")
    if _digest(number, body) != match[3].decode():
        raise DamagedFile(f"`{path}` was changed after it was written: its digest is not the one in its header.")
    if number > FORMAT:
        raise UnknownFormat(f"`{path}` has format {number}, of a later release; this one reads up to {FORMAT}.")
    return body


def _digest(number, body):
    return hashlib.sha256(f"{number} {len(body)}\n".encode() + body).hexdigest()
