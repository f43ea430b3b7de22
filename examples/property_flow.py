"""Which way through the codes of an image generator makes a digit bolder, or lean more, and what else does it change?

    dz/dt = grad f(z)    or    dz = grad f(z) dt + sqrt(2 T) dW    or    dz/dt = grad u(z, t), u_tt = c^2 Laplace(u)

Properties f of images (how much ink, how slanted, how wide) are climbed in the latent space of a small VAE that learns
scikit-learn's 1797 digits first: up the gradient, up the gradient with noise, and along potentials that are trained to
raise the property and obey the wave equation. Writes a table with the controls (straight lines in random directions,
random walks, the line along the regression), strips, and property_flow.json. Takes about half a minute; `--quick`,
which nobody should believe, 6 s.
Run: python examples/property_flow.py
     python examples/property_flow.py --generator warped --output warped     # known factors, no training of a VAE
"""

import argparse
import json
import time
from pathlib import Path

import torch

from pinnflow.latent import (
    Gain,
    GradientFlow,
    ImageProperty,
    LangevinFlow,
    PotentialFlow,
    compare_on_property,
    generator,
    image_similarity,
    plot_traversals,
)

STEPS, STEP = 10, 0.2


# Declare: properties of images [n, 1, h, w], each to [n], in torch so that they have gradients
def places(x):
    """Ink `[n]` and its centred places: columns and rows `[n, h, w]`, upwards, in halves of the picture."""
    light = x.mean(dim=1)
    light = light / light.sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    side = torch.linspace(-1, 1, light.shape[-1], dtype=x.dtype)
    column, row = side.expand_as(light), -side[:, None].expand_as(light)
    middle = lambda place: (light * place).sum(dim=(1, 2), keepdim=True)  # noqa: E731
    return light, column - middle(column), row - middle(row)


def ink(x):
    """Mean brightness."""
    return x.flatten(1).mean(dim=1)


def slant(x):
    """How far the top leans to the right of the bottom: the slope of columns by rows."""
    light, column, row = places(x)
    return (light * column * row).sum(dim=(1, 2)) / (light * row**2).sum(dim=(1, 2)).clamp(min=1e-6)


def width(x):
    """Standard deviation of the columns of the ink."""
    light, column, _ = places(x)
    return (light * column**2).sum(dim=(1, 2)).clamp(min=1e-6).sqrt()


PROPERTIES = {"ink": ink, "slant": slant, "width": width}


def standardised(of_images, G, seed):
    """The property of codes in units of its spread over the prior, so that one rate suits all."""
    raw = ImageProperty(of_images, G)
    z = torch.randn(2000, G.latent_dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        spread = float(raw(z).std())
    return lambda z: raw(z) / spread


def flows_for(f, G, seed, iterations):
    """Flows that raise f, with the length of their steps (None: as long as their velocity)."""
    learned = PotentialFlow(
        G,
        potentials=1,
        pde="wave",
        objectives=[Gain(f)],
        steps=STEPS,
        step_length=STEP,
        seed=seed,
        name="wave potential",
    )
    learned.fit(iterations=iterations, batch=32)
    return [
        (GradientFlow(f, G, rate=0.05, name="gradient"), None),
        (GradientFlow(f, G, name="gradient, steps of 0.2"), STEP),
        (LangevinFlow(f, G, rate=0.05, temperature=1e-4, prior=0.05, seed=seed, name="langevin, T = 1e-4"), None),
        (LangevinFlow(f, G, rate=0.05, temperature=0.05, prior=0.05, seed=seed, name="langevin, T = 0.05"), None),
        (learned, STEP),
    ]


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="digits-vae", choices=["digits-vae", "sprites-vae", "warped"])
    parser.add_argument("--output", type=Path, default=Path("property-flow"), help="folder for what is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="short trainings and few walks: to see that it runs")
    return parser


if __name__ == "__main__":
    asked = read_options().parse_args()
    begun = time.process_time()
    asked.output.mkdir(parents=True, exist_ok=True)
    settings = {} if asked.generator == "warped" else {"seed": asked.seed, "progress": False}
    if asked.quick and asked.generator != "warped":
        settings["iterations"] = 150
    G = generator(asked.generator, **settings)
    walks, iterations = (100, 10) if asked.quick else (1000, 150)
    print(f"{asked.generator}: {G.latent_dim} codes, {time.process_time() - begun:.0f} s")

    # Solve: one property after the other
    properties = {name: standardised(f, G, asked.seed) for name, f in PROPERTIES.items()}
    alike, found = image_similarity(G), {}
    for name, f in properties.items():
        rest = [g for other, g in properties.items() if other != name]
        table = compare_on_property(
            flows_for(f, G, asked.seed, iterations),
            f,
            others=lambda z, rest=rest: torch.stack([g(z) for g in rest], dim=1),
            similarity=alike,
            control_step=STEP,
            walks=walks,
            steps=STEPS,
            seed=asked.seed + 1,
        )
        found[name] = table.to_dict()
        print(f"\n{name}, in units of its spread over the prior\n\n{table}")

    # Several at once: success is for walks along which both rise
    both = [properties["ink"], properties["slant"]]
    together = GradientFlow(both, G, weights=[[1.0, 1.0]], rate=0.05, name="gradient of the sum")
    one = GradientFlow(both[0], G, rate=0.05, name="gradient of ink alone")
    table = compare_on_property(
        [(together, None), (one, None)],
        lambda z: torch.stack([g(z) for g in both], dim=1),
        others=properties["width"],
        similarity=alike,
        control_step=STEP,
        walks=walks,
        steps=STEPS,
        seed=asked.seed + 1,
    )
    found["ink and slant"] = table.to_dict()
    print(f"\nink and slant together\n\n{table}")

    # Look: each property up and down from three starts; sums and differences
    climbs = GradientFlow(list(properties.values()), G, name="gradient")
    plot_traversals(
        climbs,
        asked.output / "properties.png",
        climbs.sample(3, asked.seed + 2),
        labels=list(properties),
        steps=6,
        step_length=0.3,
        smooth=True,
        title="Down and up the gradient of a property",
    )
    pair = GradientFlow(both, G, weights=[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]], name="sums")
    plot_traversals(
        pair,
        asked.output / "several.png",
        pair.sample(3, asked.seed + 2),
        labels=["ink", "slant", "both", "ink, not slant"],
        steps=6,
        step_length=0.3,
        smooth=True,
        title="Two properties, their sum and their difference",
    )

    # Save
    facts = {"generator": asked.generator, "seed": asked.seed, "walks": walks, "steps": STEPS, "step": STEP}
    facts["seconds"] = time.process_time() - begun
    (asked.output / "property_flow.json").write_text(json.dumps(facts | {"properties": found}, indent=1) + "\n")
    print(f"\nwrote {asked.output}/ after {facts['seconds']:.0f} s of processor time")
