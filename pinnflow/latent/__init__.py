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

from pinnflow.latent.lazy import lazy_names

_HOMES = {
    "flow": ["PotentialFlow"],
    "traversal": ["Flow"],
    "training": ["TrainedFlow"],
    "composition": ["Chain", "Mixture"],
    "property": ["Gain", "GradientFlow", "ImageProperty", "LangevinFlow", "LinearPropertyFlow"],
    "supervised": ["Equivariance", "ExactSequences", "PairMatching", "Sequences", "equivariance_error"],
    "surrogate": ["Surrogate", "fit_surrogate"],
    "unlabelled": ["UnlabelledMatching", "closest_fields", "recovery"],
    "metrics.properties": ["PropertyTable", "compare_on_property", "image_similarity"],
    "likelihood": ["Likelihood", "elbo", "importance_weighted"],
    "carried": ["CarriedPrior"],
    "structured": ["StructuredVAE"],
    "structured_training": ["train_structured_vae"],
    "sequences": ["SequenceError", "image_likelihood", "sequence_error", "sequence_likelihood"],
    "index": ["IndexRecovery", "index_recovery"],
    "sparse": ["SetRecovery", "SparsePosterior", "SpikeSlab", "set_recovery"],
    "sparse_training": ["infer_sets"],
    "transitions": ["LinearTransition", "fit_linear_transition"],
    "sequence_strips": ["plot_sequences"],
    "presets": ["Preset", "make_preset", "preset"],
    "objectives": ["Classifier", "Movement", "Obedience", "Objective", "Orthogonality", "Reconstruction", "Spread"],
    "baselines": ["baseline", "register_baseline"],
    "generators": [
        "ConvGenerator",
        "Generator",
        "MixedImages",
        "MovingImages",
        "WarpedGenerator",
        "generator",
        "generator_names",
        "mixed_images",
        "moving_images",
        "open_generator",
        "register_generator",
        "train_gan",
        "train_vae",
    ],
    "metrics": [
        "Attractor",
        "Oracle",
        "RandomDirections",
        "RandomWalk",
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

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
