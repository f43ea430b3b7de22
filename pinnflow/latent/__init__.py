"""Latent spaces of image generators, explored as flows of learned potentials that obey a declared equation.

```python
from pinnflow.latent import PotentialFlow, WarpedGenerator, evaluate

flow = PotentialFlow(WarpedGenerator(), potentials=5, pde="wave").fit()
flow.plot_traversals("strips.png")
print(evaluate(flow))
```

Names are loaded when they are first used. More is in `pinnflow.latent.generators`, `.metrics`, `.baselines` and
`.objectives`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "flow": ["PotentialFlow"],
    "traversal": ["Flow"],
    "training": ["TrainedFlow"],
    "composition": ["Chain", "Mixture"],
    "property": ["Gain", "GradientFlow", "ImageProperty", "LangevinFlow", "LinearPropertyFlow"],
    "supervised": ["Equivariance", "ExactSequences", "PairMatching", "Sequences", "equivariance_error"],
    "surrogate": ["Surrogate", "fit_surrogate"],
    "metrics.properties": ["PropertyTable", "compare_on_property", "image_similarity"],
    "likelihood": ["Likelihood", "elbo", "importance_weighted"],
    "presets": ["Preset", "make_preset", "preset"],
    "objectives": ["Classifier", "Movement", "Obedience", "Objective", "Orthogonality", "Reconstruction", "Spread"],
    "baselines": ["baseline", "register_baseline"],
    "generators": [
        "ConvGenerator",
        "Generator",
        "WarpedGenerator",
        "generator",
        "generator_names",
        "open_generator",
        "register_generator",
        "train_gan",
        "train_vae",
    ],
    "metrics": [
        "Attractor",
        "Oracle",
        "RandomDirections",
        "Report",
        "evaluate",
        "evaluate_seeds",
        "summarise",
        "variation_predictability",
    ],
    "landscape": ["plot_landscape"],
    "strips": ["plot_traversals"],
    "animation": ["animate_landscape", "animate_traversals"],
    "sheet": ["plot_comparison"],
    "archive": ["load_traversal", "record_traversal", "redraw", "save_traversal"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
