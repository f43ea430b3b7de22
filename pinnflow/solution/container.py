"""HDF5 files that prove themselves: a nested dict of arrays and scalars behind a header with a digest.

A file is 512 bytes of header, then an ordinary HDF5 file. The header is one line of ASCII text,

    pinnflow format=1 length=18432 sha256=3b5d...

padded with zero bytes; HDF5 knows such a header as a user block, so `h5py.File(path)` opens the file as it is. The
digest covers the format number, the length and every byte behind the header, and is compared before HDF5 sees any of
them: a damaged file is refused by `DamagedFile`, never by a crash inside a C library.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from pinnflow.errors import DamagedFile, UnknownFormat

FORMAT = 1
HEADER = 512  # the smallest user block that HDF5 allows
LONGEST_ATTRIBUTE = 16_384  # HDF5 keeps attributes in headers of at most 64 kB; longer text becomes a data set


def write(path: str | PathLike[str], content: Mapping[str, Any]) -> str:
    """Writes `content` to `path` and returns the digest of the file.

    The same content gives the same bytes. The file is written beside `path`, flushed to the disk, and renamed: whoever
    reads sees the old file or the new one, also when the process is killed in between.

    Args:
        path: the folder has to exist.
        content: nested dicts of numpy arrays, str, int, float, bool, None, and lists of these.

    Raises:
        FileNotFoundError: the folder does not exist.
        TypeError: a value of another type; the message says where it stands.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder `{path.parent}` of `{path.name}` does not exist. Create it first: `mkdir -p {path.parent}`."
        )
    if path.is_dir():
        raise IsADirectoryError(f"`{path}` is a folder; write a file name, such as `{path / 'solution.h5'}`.")
    body = _to_bytes(content)
    digest = _digest(FORMAT, body)
    # The temporary file lies in the same folder: a rename across file systems is a copy, and can be cut short.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_header(FORMAT, len(body), digest))
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return digest


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """The content that `write` put into `path`, after its digest has been verified.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: not a file of pinnflow's, truncated, or changed after it was written.
        UnknownFormat: a format of a later release.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"`{path}` is a folder, not a file.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file `{path}`.")
    # Read once: what is verified is what is parsed, whoever writes to the path meanwhile.
    body = _verified(path, path.read_bytes())
    import h5py

    try:
        with h5py.File(io.BytesIO(bytes(HEADER) + body), "r") as file:
            return _read_group(file)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise DamagedFile(f"`{path}` has the right digest, but its content cannot be read: {error}.") from None


def _verified(path, data):
    if not data:
        raise DamagedFile(f"`{path}` is empty: it was never written to the end. Use an older copy, or fit again.")
    line = data[:HEADER].split(b"\0", 1)[0]
    match = re.fullmatch(rb"pinnflow format=(\d{1,9}) length=(\d{1,18}) sha256=([0-9a-f]{64})\n", line)
    if match is None:
        if data.startswith(b"pinnflow"):
            raise DamagedFile(f"`{path}` has a damaged header: it was truncated or changed. Use another copy.")
        found = "an HDF5 file of another program" if data.startswith(b"\x89HDF\r\n\x1a\n") else "another kind of file"
        raise DamagedFile(
            f"`{path}` is not a file of pinnflow's, or its first bytes are damaged: it looks like {found}. "
            "`pinnflow.load` reads what `solution.save` wrote."
        )
    number, length, digest = int(match[1]), int(match[2]), match[3].decode()
    body = data[HEADER:]
    if len(data) < HEADER or len(body) < length:
        raise DamagedFile(f"`{path}` is truncated: {len(body):,} of {length:,} bytes are there. Use another copy.")
    if len(body) > length:
        raise DamagedFile(f"`{path}` has {len(body) - length:,} bytes too many: something was appended to it.")
    if data[:HEADER] != _header(number, length, digest) or _digest(number, body) != digest:
        raise DamagedFile(
            f"`{path}` was changed after it was written: its content does not have the digest that the "
            "header states. Use another copy, or fit again."
        )
    if number > FORMAT:
        raise UnknownFormat(
            f"`{path}` has format {number}; this release of pinnflow reads formats up to {FORMAT}. "
            "Install a newer release: `pip install --upgrade pinnflow-pde`."
        )
    return body


def _header(number, length, digest):
    return f"pinnflow format={number} length={length} sha256={digest}\n".encode().ljust(HEADER, b"\0")


def _digest(number, body):
    return hashlib.sha256(f"pinnflow {number} {len(body)}\n".encode() + body).hexdigest()


def _to_bytes(content):
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=HEADER) as file:
        _write_group(file, content, "")
    return buffer.getvalue()[HEADER:]


def _write_group(group, content, where):
    # Sorted: the bytes depend on the content, not on the order in which a dict was filled.
    for key in sorted(content):
        if not isinstance(key, str) or not key:
            raise TypeError(f"`{where}` has the key `{key!r}`; keys are texts.")
        _write(group, _escaped(key), content[key], f"{where}/{key}")


def _write(group, name, value, where):
    import h5py

    if isinstance(value, np.generic) and value.dtype.kind in "bif" and value.dtype.itemsize in (1, 8):
        value = value.item()
    if isinstance(value, Mapping):
        _write_group(group.create_group(name), value, where)
    elif isinstance(value, (list, tuple)):
        inner = group.create_group(name)
        inner.attrs["list"] = np.int64(len(value))
        for i, entry in enumerate(value):
            _write(inner, str(i), entry, f"{where}[{i}]")
    elif isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "biufc":
            raise TypeError(f"`{where}` is an array of {value.dtype}; files hold arrays of numbers.")
        group.create_dataset(name, data=np.asarray(value), track_times=False)
    elif value is None:
        group.attrs[name] = h5py.Empty("f")
    elif isinstance(value, bool):
        group.attrs[name] = np.bool_(value)
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        group.attrs[name] = np.int64(value)
    elif isinstance(value, float):
        group.attrs[name] = np.float64(value)
    elif isinstance(value, str) and "\0" not in value:
        if len(value.encode()) <= LONGEST_ATTRIBUTE:
            group.attrs[name] = value
        else:
            group.create_dataset(name, data=value, dtype=h5py.string_dtype(), track_times=False)
    else:
        shown = f"{value!r:.60}" if isinstance(value, (int, str)) else type(value).__name__
        raise TypeError(f"`{where}` is {shown}; files hold numpy arrays, text, 64-bit numbers, None, dicts and lists.")


def _read_group(group):
    import h5py

    content = {}
    for name, value in group.attrs.items():
        if isinstance(value, h5py.Empty):
            value = None
        elif isinstance(value, np.generic):
            value = value.item()
        content[_unescaped(name)] = value
    for name, node in group.items():
        if isinstance(node, h5py.Group):
            content[_unescaped(name)] = _read_group(node)
        elif h5py.check_string_dtype(node.dtype) is not None:
            content[_unescaped(name)] = node.asstr()[()]
        else:
            content[_unescaped(name)] = np.asarray(node[()])
    if "list" in group.attrs:
        return [content[str(i)] for i in range(content["list"])]
    return content


def _escaped(key):
    # HDF5 splits names at slashes and reads "." as the group itself; `list` marks the groups that are lists.
    name = quote(key, safe=" !\"#$&'()*+,:;<=>?@[]^`{|}~") if "/" in key or "%" in key or not key.isascii() else key
    return {".": "%2E", "..": "%2E%2E", "list": "%6Cist"}.get(name, name)


def _unescaped(name):
    return unquote(name)


def _umask():
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder):
    # Makes the rename itself last; not every system can open a folder.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
