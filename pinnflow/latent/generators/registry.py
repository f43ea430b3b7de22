"""`generator(name, **settings)`: generators by name, and those in files by their path.

A new generator is one file in this folder with a function under `@register_generator("name")`; all files of the folder
are looked through when a name is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from pinnflow.errors import UnknownName

GENERATORS: dict[str, Callable[..., Any]] = {}
Make = TypeVar("Make", bound=Callable[..., Any])


def register_generator(name: str) -> Callable[[Make], Make]:
    """Adds a function or class that makes a generator under `name`; used as a decorator."""

    def register(make: Make) -> Make:
        GENERATORS[name] = make
        return make

    return register


def generator_names() -> list[str]:
    """The registered names, sorted."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    return sorted(GENERATORS)


def generator(name: str | PathLike[str], **settings: Any) -> Any:
    """A generator `z [..., d] -> images [..., c, h, w]` in [0, 1] with `latent_dim` and `image_shape`.

    Args:
        name: a registered name (`warped`, `digits-vae`, `digits-gan`, `mnist-vae`, `sprites-vae`, `conv`, ...), or the
            path of a file or folder, see `files.open_generator`. A name wins over a file of the same name; write
            `./name` for the file.
        settings: what the named function takes.

    Raises:
        UnknownName: no such name and no such file; the message lists the names.
        TypeError: a setting that it does not take.
    """
    if str(name) in generator_names():
        return GENERATORS[str(name)](**settings)
    if Path(name).exists():
        from pinnflow.latent.generators.files import open_generator

        return open_generator(name, **settings)
    raise UnknownName("generator", name, [*generator_names(), "PATH of a file"])
