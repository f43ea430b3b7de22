"""Generators out of files: pinnflow's own, TorchScript, `torch.export`; folders of BigGAN and diffusers.

What a file is, is found in its bytes, not in its name. Files that need pickled Python code to be run are refused.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pinnflow.errors import DamagedFile, DeclarationError, UnknownFormat, WrongShape
from pinnflow.latent.generators.adapters import Adapted
from pinnflow.latent.generators.storage import load_generator

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"


def open_generator(path: str | PathLike[str], **settings: Any) -> Any:
    """The generator in a file or folder.

    - HDF5 that `save` wrote: `load_generator(path, device=None)`
    - TorchScript: `torchscript_generator(path, latent_dim, ...)`
    - `torch.export`: `exported_generator(path, ...)`
    - a folder with the `config.json` of BigGAN or of a diffusers `AutoencoderKL`: `biggan`, `autoencoder_kl`

    Args:
        path: the file or folder.
        settings: of the function that reads it.

    Raises:
        FileNotFoundError: there is none.
        UnknownFormat: it is something else; the message says what.
        DamagedFile: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, settings)
    with open(path, "rb") as file:
        head = file.read(8)
    if head == HDF5:
        return load_generator(path, **settings)
    if head.startswith(ZIP):
        names = archive_names(path)
        if is_exported(names):
            return exported_generator(path, **settings)
        if is_torchscript(names):
            return torchscript_generator(path, **settings)
        if any(name.endswith("data.pkl") for name in names):
            raise UnknownFormat(
                f"{path}: written by `torch.save`: weights without a network, or a pickled network, whose code is "
                f"not run. Load the weights into your network and pass that, or write it with `torch.export.save`."
            )
    if head.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise UnknownFormat(
            f"{path}: a pickle; opening one runs the code in it, so it is not opened. Write the network with "
            f"`torch.export.save` or `torch.jit.save`."
        )
    raise UnknownFormat(
        f"{path}: no generator; expected an HDF5 file that `save` wrote, TorchScript, or a `torch.export` archive."
    )


def _open_folder(path: Path, settings: dict[str, Any]) -> Any:
    from pinnflow.latent.generators.pretrained import autoencoder_kl, biggan

    config = path / "config.json"
    if not config.exists():
        raise UnknownFormat(
            f"{path}: a folder without `config.json`; expected that of a BigGAN or of an AutoencoderKL."
        )
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFile(f"{config}: no JSON ({error}).") from None
    if not isinstance(told, dict):
        raise UnknownFormat(f"{config}: holds a {type(told).__name__}; expected the settings of a network by name.")
    if told.get("_class_name") == "AutoencoderKL":
        return autoencoder_kl(path, **settings)
    if {"z_dim", "channel_width", "layers"} <= set(told):
        return biggan(path, **settings)
    raise UnknownFormat(
        f"{config}: describes {told.get('_class_name', 'something else')}; BigGAN and AutoencoderKL can be read."
    )


def archive_names(path: Path) -> list[str]:
    """The entries of a zip archive.

    Raises:
        DamagedFile: it is truncated or altered, or two entries have the same name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
        if broken is not None:  # torch does not look at the checksums
            raise zipfile.BadZipFile(f"`{broken}` has another checksum than when it was written")
    except (zipfile.BadZipFile, OSError) as error:
        raise DamagedFile(f"{path}: a broken archive ({error}).") from None
    if len(set(names)) != len(names):
        raise DamagedFile(f"{path}: an archive with two entries of the same name.")
    return names


def is_torchscript(names: list[str]) -> bool:
    """Whether the entries of an archive are those of TorchScript."""
    return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names)


def is_exported(names: list[str]) -> bool:
    """Whether the entries of an archive are those of `torch.export`, of now or of 2024."""
    last = {name.rsplit("/", 1)[-1] for name in names}
    return "serialized_exported_program.json" in last or ("archive_format" in last and "model.json" in last)


def torchscript_generator(path: str | PathLike[str], latent_dim: int | None = None, **settings: Any) -> Adapted:
    """The generator in a TorchScript file, written by `torch.jit.save`.

    Args:
        path: the file.
        latent_dim: d; TorchScript does not say it, so it must be given.
        settings: of `Adapted`.
    """
    path = Path(path)
    if not path.read_bytes()[:4].startswith(ZIP) or not is_torchscript(archive_names(path)):
        raise UnknownFormat(f"{path}: no TorchScript; expected a file that `torch.jit.save` wrote.")
    if latent_dim is None:
        raise DeclarationError(f"{path}: TorchScript does not say how many latents it takes; write `latent_dim=`.")
    try:
        module = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise DamagedFile(f"{path}: torch cannot read it ({str(error).splitlines()[0]}).") from None
    return Adapted(module, latent_dim, **({"name": path.stem} | settings))


def exported_generator(path: str | PathLike[str], latent_dim: int | None = None, **settings: Any) -> Adapted:
    """The generator in a file of `torch.export.save`, exported with a dynamic batch.

    Args:
        path: the file. Entries that only a pickle with code could restore are refused.
        latent_dim: d; None: what the program says.
        settings: of `Adapted`.

    Raises:
        WrongShape: it takes one size of batch only, or more than one tensor. Rows of latents `[c, h, w]` are flattened.
    """
    path = Path(path)
    if not path.read_bytes()[:4].startswith(ZIP) or not is_exported(archive_names(path)):
        raise UnknownFormat(f"{path}: no exported program; expected a file that `torch.export.save` wrote.")
    refuse_pickled_code(path)
    try:
        program = torch.export.load(str(path))
    except Exception as error:
        raise DamagedFile(f"{path}: torch cannot read it ({str(error).splitlines()[0]}).") from None
    wanted = list(program.graph_signature.user_inputs)
    taken = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    z = taken[wanted[0]] if len(wanted) == 1 else None
    if (
        not isinstance(z, Tensor)
        or not z.is_floating_point()
        or z.ndim < 2
        or not all(isinstance(n, int) for n in z.shape[1:])
    ):
        raise WrongShape(f"{path}: the program takes {wanted}; expected one tensor z [n, d].")
    batch, *sides = z.shape
    if isinstance(batch, int):
        raise WrongShape(
            f"{path}: exported for batches of {batch} only. Export it with a dynamic batch: "
            f'`torch.export.export(module, (z,), dynamic_shapes=({{0: torch.export.Dim("batch")}},))`.'
        )
    bounds = program.range_constraints.get(batch.node.expr)
    images = InBatches(program.module(), sides, *(() if bounds is None else (bounds.lower, bounds.upper)))
    usual: dict[str, Any] = {"name": path.stem, "dtype": z.dtype}
    return Adapted(images, math.prod(sides) if latent_dim is None else latent_dim, **(usual | settings))


class InBatches(nn.Module):
    """A network for so many rows at once, called with any number of them.

    Args:
        network: takes rows `[n, *shape]`.
        shape: of a row; here rows are flat.
        least, most: numbers of rows that it takes; fewer are filled up with copies of the last.
    """

    def __init__(self, network: nn.Module, shape: Sequence[int], least: Any = 0, most: Any = math.inf):
        super().__init__()
        self.network, self.shape = network, tuple(shape)
        self.least = int(least)
        self.most = int(most) if most < 2**31 else 2**31

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([self._part(rows) for rows in z.split(self.most)])

    def _part(self, rows):
        lacking = max(0, self.least - len(rows)) if len(rows) else 0
        filled = torch.cat([rows, rows[-1:].expand(lacking, -1)]) if lacking else rows
        return self.network(filled.unflatten(1, self.shape))[: len(rows)]


def refuse_pickled_code(path: Path) -> None:
    """Looks through an archive of `torch.export` for pickles that are more than tensors.

    Raises:
        UnknownFormat: there is one; torch would run its code.
    """
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("config.json"):
                entries = json.loads(archive.read(name)).get("config", {})
                pickled = [key for key, entry in entries.items() if isinstance(entry, dict) and entry.get("use_pickle")]
                if pickled:
                    raise UnknownFormat(f"{path}: `{pickled[0]}` is stored as a pickle, whose code is not run.")
            elif name.endswith(".pt") and archive.getinfo(name).file_size:
                try:
                    tensors_in(archive.read(name))
                except Exception:
                    raise UnknownFormat(
                        f"{path}: `{name}` is a pickle of more than tensors, whose code is not run."
                    ) from None


def tensors_in(content: bytes) -> Any:
    """Tensors, numbers and their containers in a file of `torch.save`; anything else fails."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file of `torch.save` or of safetensors, without running code.

    Raises:
        FileNotFoundError: there is none.
        DamagedFile: it holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            return load(path.read_bytes())
        found = tensors_in(path.read_bytes())
    except FileNotFoundError:
        raise
    except Exception as error:
        raise DamagedFile(f"{path}: no file of weights ({str(error).splitlines()[0]}).") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DamagedFile(f"{path}: holds a {type(found).__name__}; expected named weights.")
    return found
