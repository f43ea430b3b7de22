"""Generators `z -> images`: with known factors, trained on the spot, or read from files.

`generator(name)` makes one by its name; the classes and adapters are named here too. A name is loaded when it is used.
"""

from __future__ import annotations

from pinnflow.latent.lazy import lazy_names

_HOMES = {
    "registry": ["generator", "generator_names", "register_generator"],
    "gate": ["Generator"],
    "warped": ["WarpedGenerator"],
    "conv": ["ConvGenerator"],
    "data": ["ImageSet", "images_of", "digits", "mnist", "sprites"],
    "moving": ["MovingImages", "moving_images"],
    "mixed": ["MixedImages", "mixed_images"],
    "vae": ["VAE", "train_vae"],
    "gan": ["GAN", "train_gan"],
    "adapters": ["Adapted", "Truncated", "WSpace", "InnerLayer"],
    "files": ["open_generator", "torchscript_generator", "exported_generator"],
    "pretrained": ["biggan", "autoencoder_kl"],
    "storage": ["save_generator", "load_generator"],
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
