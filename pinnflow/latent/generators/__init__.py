"""Generators `z -> images`: with known factors, trained on the spot, or read from files.

`generator(name)` makes one by its name; the classes and adapters are named here too. A name is loaded when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "registry": ["generator", "generator_names", "register_generator"],
    "gate": ["Generator"],
    "warped": ["WarpedGenerator"],
    "conv": ["ConvGenerator"],
    "data": ["ImageSet", "images_of", "digits", "mnist", "sprites"],
    "vae": ["VAE", "train_vae"],
    "gan": ["GAN", "train_gan"],
    "adapters": ["Adapted", "Truncated", "WSpace", "InnerLayer"],
    "files": ["open_generator", "torchscript_generator", "exported_generator"],
    "pretrained": ["biggan", "autoencoder_kl"],
    "storage": ["save_generator", "load_generator"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
