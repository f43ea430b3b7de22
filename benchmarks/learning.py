"""The tables of learning with flows: known transformations, few of them, none named, and properties to be raised.

Run from the checkout:

    python -m benchmarks.learning pairs --warp 1 --seeds 0,1,2          # 20 000 codes, all fields
    python -m benchmarks.learning few --seeds 0,1,2                     # 100 codes, with and without an equation
    python -m benchmarks.learning few --seeds 100,101 --tune            # equations and weights, on other generators
    python -m benchmarks.learning factors --seeds 0,1,2                 # warped generator: what is told of the index
    python -m benchmarks.learning sprites --seeds 0,1,2                 # the same on a VAE of sprites
    python -m benchmarks.learning property --seeds 0,1,2                # every factor of the warped generator
    python -m benchmarks.learning several --seeds 0,1,2                 # two factors at once
    python -m benchmarks.learning langevin --seeds 0,1,2
    python -m benchmarks.learning --table                               # of what the file holds

A seed is that of the generator, of the flow's first weights and of the training codes; test codes have the seed plus
5000 and are met nowhere else. Errors are those of `equivariance_error` over 4 steps, the trained length, and of each of
8 steps. Times are processor time of the fit on one thread. The file keeps its other runs.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from sympy import Eq, Rational
from torch import Tensor, nn

from benchmarks.records import machine, spread, store, stored
from pinnflow import Problem, coordinates, field, grad, laplacian, norm_squared
from pinnflow.latent import (
    ExactSequences,
    Flow,
    Gain,
    GradientFlow,
    LangevinFlow,
    Oracle,
    PairMatching,
    PotentialFlow,
    RandomDirections,
    Sequences,
    UnlabelledMatching,
    WarpedGenerator,
    baseline,
    closest_fields,
    compare_on_property,
    equivariance_error,
    image_similarity,
    make_preset,
    recovery,
    train_vae,
)
from pinnflow.latent.generators.moving import moving_images
from pinnflow.latent.metrics import concentration, coverage, dci, importance_scores, match, movement

FILE = Path(__file__).with_suffix(".json")
KEY = ("section", "flow", "seed", "warp", "codes", "similarity")
TESTED = 5000  # added to the seed: of the test codes
STEPS, LONGER, STEP = 4, 8, 0.35
POTENTIALS = 5

Make = Callable[[Any, int], Any]


# Equations, and flows that are to be fitted to known transformations


def equation(name: str, d: int) -> Problem | str:
    """The equation called `name` in d dimensions: a preset, or one of these."""
    t, z = coordinates("t"), coordinates("z", d)
    u, domain = field("u", t, z), {t: (0, LONGER), z: (-3, 3)}
    if name.startswith("hamilton-jacobi "):
        return make_preset("hamilton-jacobi", d, LONGER, viscosity=Rational(name.split()[1])).problem
    stated = {
        # Potential flow of an incompressible fluid: what the movements of this generator would be if they were
        # gradients, because its warp preserves volume.
        "incompressible": Eq(laplacian(u, z), 0),
        "travelling wave": Eq(u.diff(t, 2), laplacian(u, z)),
        "slow wave": Eq(u.diff(t, 2), laplacian(u, z) / 25),
        "heat of the potential": Eq(u.diff(t), laplacian(u, z) / 5),
        "inviscid hamilton-jacobi": Eq(u.diff(t) + norm_squared(grad(u, z)) / 2, 0),
    }
    return Problem([stated[name]], domain, name=name) if name in stated else name


def potential(name: str, form: str = "auto", **settings) -> Make:
    def make(generator, seed):
        pde = equation(name, generator.latent_dim)
        return PotentialFlow(
            generator,
            potentials=count_of(generator),
            pde=pde,
            form=form,
            objectives=[],
            steps=STEPS,
            seed=seed,
            **settings,
        )

    return make


def other(name: str) -> Make:
    return lambda generator, seed: baseline(name, generator, potentials=count_of(generator), objectives=[], seed=seed)


def count_of(generator) -> int:
    return len(getattr(generator, "factor_names", range(POTENTIALS)))


# Name: how the flow is made, weight of its equation.
FIELDS: dict[str, tuple[Make, float]] = {
    "linear": (other("linear"), 0.0),
    "potential, no equation": (potential("wave", "none"), 0.0),
    "potential, travelling wave, weight 0.1": (potential("travelling wave", "soft"), 0.1),
    "potential, travelling wave, weight 1": (potential("travelling wave", "soft"), 1.0),
    "potential, travelling wave, weight 5": (potential("travelling wave", "soft"), 5.0),
    "potential, inviscid hamilton-jacobi, weight 1": (potential("inviscid hamilton-jacobi", "soft"), 1.0),
    "wave, exact": (potential("wave"), 0.0),
    "travelling wave, exact": (potential("travelling wave"), 0.0),
    "hamilton-jacobi, exact": (potential("hamilton-jacobi"), 0.0),
    "heat, exact": (potential("heat"), 0.0),
    "helmholtz": (other("helmholtz"), 0.0),
    "divergence-free": (other("divergence-free"), 0.0),
    "free": (other("free"), 0.0),
}

SOFT = ("travelling wave", "incompressible", "heat of the potential", "inviscid hamilton-jacobi", "slow wave")
WEIGHTS = (1.0, 5.0, 25.0)

FEW: dict[str, tuple[Make, float]] = {
    "linear": (other("linear"), 0.0),
    "free": (other("free"), 0.0),
    "no equation": (potential("wave", "none"), 0.0),
    "no equation, width 12": (potential("wave", "none", hidden=12), 0.0),
    **{f"{name}, weight {weight:g}": (potential(name, "soft"), weight) for name in SOFT for weight in WEIGHTS},
    "wave, exact": (potential("wave"), 0.0),
    "travelling wave, exact": (potential("travelling wave"), 0.0),
    "heat, exact": (potential("heat"), 0.0),
    **{
        f"hamilton-jacobi, viscosity {nu}, {n} terms, exact": (potential(f"hamilton-jacobi {nu}", features=n), 0.0)
        for nu in ("1/2", "2")
        for n in (8, 16, 64)
    },
}
# What the grid on the generators with seeds 100 and 101 left; see `tuning` in the file.
CHOSEN = ("linear", "no equation", "hamilton-jacobi, viscosity 2, 16 terms, exact", "travelling wave, weight 5")


def measured_pairs(name: str, make: Make, weight: float, seed: int, warp: float, codes: int) -> dict[str, Any]:
    """One fit to `codes` codes, and its errors on others."""
    generator = WarpedGenerator(warp=warp, seed=seed)
    flow = make(generator, seed)
    begun = time.process_time()
    PairMatching(ExactSequences(generator, codes, STEPS, STEP, seed=1000 + seed), obedience=weight, seed=seed).fit(flow)
    processor = time.process_time() - begun
    return errors_of(name, flow, generator, seed) | {
        "warp": warp,
        "codes": codes,
        "weight": weight,
        "form": getattr(flow, "form", ""),
        "processor": processor,
        "loss": flow.history[-1]["loss"],
    }


def errors_of(name: str, flow: Flow, generator: Any, seed: int, tests: int = 300) -> dict[str, Any]:
    """Errors and concentration on new codes."""
    short, long = (ExactSequences(generator, tests, steps, STEP, seed=TESTED + seed) for steps in (STEPS, LONGER))
    error, beyond = equivariance_error(flow, short), equivariance_error(flow, long)
    residual = {}
    if isinstance(flow, PotentialFlow) and flow.form == "soft":
        z = flow.sample(512, TESTED + seed)
        k, t = torch.arange(512) % flow.potentials, STEPS * torch.rand(512, generator=torch.Generator().manual_seed(1))
        residual = {"residual": float(flow.residual(z, t.to(z), k).square().mean().sqrt())}
    return {
        "flow": name,
        "seed": seed,
        "error": error.error,
        "squared": error.squared,
        "along": list(beyond.along),
        "each": list(error.each),
        **disentangled(flow, generator, seed),
        **residual,
        "machine": machine(),
    }


def moved_factors(along: torch.Tensor, k: torch.Tensor, potentials: int) -> dict[str, Any]:
    """What the movement of the factors along paths says, from the first and the last of their points."""
    moved = movement(along[[0, -1]], k, potentials)
    disentanglement, completeness = importance_scores(moved)
    return {
        "concentration": float(concentration(moved).mean()),
        "match": match(moved).score,
        "coverage": coverage(moved),
        "disentanglement": disentanglement,
        "completeness": completeness,
    }


def disentangled(flow: Flow, generator: Any, seed: int, walks: int = 2000, step: float | None = None) -> dict[str, Any]:
    """Share of the movement in one factor, and DCI of the movement and of the potentials as codes."""
    z = flow.sample(walks, TESTED + 1 + seed)
    k = torch.arange(walks) % flow.potentials
    path = flow.traverse(z, k, STEPS, step)
    with torch.no_grad():
        along = generator.factors(path)
    values = moved_factors(along, k, flow.potentials)
    if hasattr(flow, "potential"):
        rows = z[:1000]
        with torch.no_grad():
            heights = [flow.potential(rows, float(STEPS), k).reshape(-1) for k in range(flow.potentials)]
        scores = dci(torch.stack(heights, dim=1), along[0, :1000], seed=seed)
        values |= {"dci_disentanglement": scores.disentanglement, "dci_completeness": scores.completeness}
        values |= {"dci_informativeness": scores.informativeness}
    return values


def pairs(seeds, warps, names, codes) -> Iterator[dict[str, Any]]:
    for seed in seeds:
        for warp in warps:
            for name in names or FIELDS:
                make, weight = FIELDS[name]
                yield measured_pairs(name, make, weight, seed, warp, codes)


def few(seeds, warps, names, codes) -> Iterator[dict[str, Any]]:
    for seed in seeds:
        for warp in warps:
            for name in names or CHOSEN:
                make, weight = FEW[name]
                yield measured_pairs(name, make, weight, seed, warp, codes)


# What is told of the index: all, nothing, or not even sequences


def supervised(make: Make) -> Callable[..., tuple[Flow, dict[str, Any]]]:
    def learn(generator, sequences, seed):
        flow = make(generator, seed)
        PairMatching(sequences, seed=seed).fit(flow)
        return flow, {}

    return learn


def unlabelled(make: Make) -> Callable[..., tuple[Flow, dict[str, Any]]]:
    def learn(generator, sequences, seed):
        flow = make(generator, seed)
        UnlabelledMatching(sequences, seed=seed).fit(flow, batch=48)
        return flow, {}

    return learn


def unsupervised(name: str, form: str = "auto") -> Callable[..., tuple[Flow, dict[str, Any]]]:
    def learn(generator, sequences, seed):
        flow = PotentialFlow(generator, potentials=count_of(generator), pde=name, form=form, seed=seed)
        return flow.fit(iterations=500), {"step": STEP}

    return learn


# Name: how it learns from sequences.
TOLD: dict[str, Callable[..., tuple[Flow, dict[str, Any]]]] = {
    "index known, potential": supervised(potential("wave", "none")),
    "index known, free field": supervised(other("free")),
    "index known, helmholtz": supervised(other("helmholtz")),
    "index known, linear": supervised(other("linear")),
    "index unknown, potential": unlabelled(potential("wave", "none")),
    "index unknown, free field": unlabelled(other("free")),
    "index unknown, linear": unlabelled(other("linear")),
    "no sequences, wave": unsupervised("wave"),
    "no sequences, no equation": unsupervised("wave", "none"),
}


def factors(seeds, warps, names, codes) -> Iterator[dict[str, Any]]:
    """The warped generator."""
    for seed in seeds:
        for warp in warps:
            generator = WarpedGenerator(warp=warp, seed=seed)
            sequences = ExactSequences(generator, codes, STEPS, STEP, seed=1000 + seed)
            test = ExactSequences(generator, 100, STEPS, STEP, seed=TESTED + seed)
            truth = torch.arange(len(test)) % test.potentials
            for name in names or [*TOLD, "random", "oracle"]:
                begun = time.process_time()
                flow, found = learned(name, generator, sequences, seed)
                processor = time.process_time() - begun
                step = found.get("step")
                values = disentangled(flow, generator, seed, step=step)
                if step is None:
                    values["recovered"] = recovery(closest_fields(flow, test), truth)
                yield {"flow": name, "seed": seed, "warp": warp, "codes": codes, **values, "processor": processor}


def learned(name: str, generator: Any, sequences: Any, seed: int) -> tuple[Flow, dict[str, Any]]:
    if name == "random":
        return RandomDirections(generator, potentials=count_of(generator), seed=seed), {"step": STEP}
    if name == "oracle":
        return Oracle(generator, count_of(generator)), {"step": STEP}
    return TOLD[name](generator, sequences, seed)


class SeenSprites:
    """A VAE of sprites that says where x, y, scale, orientation and shape are, as a network sees them in its images."""

    def __init__(self, seed: int):
        self.sequences = moving_images("sprites", count=2500, seed=seed)
        frames = self.sequences.frames(torch.arange(2500), STEPS)
        images, read = frames.flatten(0, 1), self.sequences.factors(torch.arange(2500), STEPS).flatten(0, 1)
        self.vae = train_vae(
            images, latent_dim=8, architecture="mlp", beta=0.3, iterations=1500, rate=3e-3, width=256, seed=seed
        )
        self.latent_dim, self.factor_names = self.vae.latent_dim, self.sequences.names
        self.known = Sequences(self.vae.encode, frames, self.sequences.labels)
        others = moving_images("sprites", count=1000, part="test", seed=seed)
        self.others = Sequences(self.vae.encode, others.frames(torch.arange(1000), STEPS), others.labels)
        self.longer = Sequences(self.vae.encode, others.frames(torch.arange(1000), LONGER), others.labels)
        self.centre, self.spread = read.mean(dim=0), read.std(dim=0)
        self.reader = reader(images, (read - self.centre) / self.spread, seed)
        # How well the factors are seen after encoding and decoding, on sequences that nothing was learned from.
        with torch.no_grad():
            again = torch.cat([self.vae(self.vae.encode(x)[0]) for x in self.others.frames[0].split(500)])
            seen = self.reader(again)
        truth = (others.factors(torch.arange(1000), 0)[0] - self.centre) / self.spread
        self.quality = (1 - (seen - truth).square().mean(dim=0) / truth.var(dim=0, correction=0)).tolist()

    def __call__(self, z: Tensor) -> Tensor:
        return self.vae(z)

    def factors(self, path: Tensor) -> Tensor:
        with torch.no_grad():
            rows = [self.reader(self.vae(z.float())) for z in path.reshape(-1, self.latent_dim).split(1024)]
        return torch.cat(rows).unflatten(0, path.shape[:-1])


def reader(images: Tensor, factors: Tensor, seed: int, iterations: int = 800) -> nn.Module:
    """A network that tells the factors from an image, fitted to rendered ones."""
    torch.manual_seed(seed)
    pixels = images[0].numel()
    network = nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, 256),
        nn.GELU(),
        nn.Linear(256, 256),
        nn.GELU(),
        nn.Linear(256, factors.shape[1]),
    )
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    for _ in range(iterations):
        rows = torch.randint(len(images), (128,))
        # Decoded images are softer than rendered ones.
        x = images[rows] + 0.05 * torch.randn(128, *images.shape[1:])
        loss = (network(x) - factors[rows]).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def sprites(seeds, warps, names, codes) -> Iterator[dict[str, Any]]:
    """A VAE of sprites for each seed, and sequences whose first codes are what it encodes."""
    for seed in seeds:
        begun = time.process_time()
        seen = SeenSprites(seed)
        made = time.process_time() - begun
        for name in names or [*TOLD, "random"]:
            begun = time.process_time()
            flow, found = learned(name, seen, seen.known, seed)
            processor = time.process_time() - begun
            step = found.get("step")
            values = disentangled_sprites(flow, seen, step)
            if step is None:
                k = closest_fields(flow, seen.others)
                values["recovered"] = recovery(k, seen.others.labels)
                if "unknown" not in name:
                    values["error"] = equivariance_error(flow, seen.others).error
                    values["along"] = list(equivariance_error(flow, seen.longer).along)
            yield {
                "flow": name,
                "seed": seed,
                "warp": 0.0,
                "codes": len(seen.known),
                **values,
                "processor": processor,
                "vae": made,
                "seen": seen.quality,
            }


def disentangled_sprites(flow: Flow, seen: SeenSprites, step: float | None) -> dict[str, Any]:
    """As `disentangled`, from the codes of new sprites instead of the prior."""
    z = seen.others.codes
    k = torch.arange(len(z)) % flow.potentials
    along = seen.factors(flow.traverse(z, k, STEPS, step))
    values = moved_factors(along, k, flow.potentials)
    if hasattr(flow, "potential"):
        with torch.no_grad():
            heights = [flow.potential(flow.codes(z), float(STEPS), k).reshape(-1) for k in range(flow.potentials)]
        scores = dci(torch.stack(heights, dim=1), along[0], seed=0)
        values |= {"dci_disentanglement": scores.disentanglement, "dci_completeness": scores.completeness}
        values |= {"dci_informativeness": scores.informativeness}
    return values


# Properties


def property_flows(wanted, generator, seed, learned: bool) -> list[tuple[Flow, float | None]]:
    """The flows of the task and the length of their steps; trained potentials among them where asked for."""
    trained: list[tuple[Flow, float | None]] = []
    for name, form in (("wave", "auto"), ("potential, no equation", "none")) if learned else ():
        flow = PotentialFlow(
            generator,
            potentials=1,
            form=form,
            objectives=[Gain(wanted)],
            steps=10,
            step_length=0.2,
            seed=seed,
            name=name,
        )
        trained.append((flow.fit(iterations=200, batch=32), 0.2))
    cold, warm, hot = (
        LangevinFlow(wanted, generator, rate=0.1, temperature=T, seed=seed, name=f"langevin T = {T:g}")
        for T in (5e-5, 5e-3, 0.5)
    )
    held = LangevinFlow(wanted, generator, rate=0.1, temperature=5e-5, prior=0.1, seed=seed, name="langevin, prior 0.1")
    return [
        (GradientFlow(wanted, generator, rate=0.1, name="gradient, raw 0.1"), None),
        (GradientFlow(wanted, generator, rate=0.5, name="gradient, raw 0.5"), None),
        (GradientFlow(wanted, generator, name="gradient, steps of 0.2"), 0.2),
        (cold, None),
        (held, None),
        (warm, None),
        (hot, None),
        *trained,
    ]


def property(seeds, warps, names, codes, walks: int = 2000) -> Iterator[dict[str, Any]]:
    """Every factor of the warped generator in turn: 10 steps, those of controls 0.2; trained potentials for x alone."""
    for seed in seeds:
        for warp in warps:
            generator = WarpedGenerator(warp=warp, seed=seed)
            alike = image_similarity(generator)
            for j, factor in enumerate(generator.factor_names):
                wanted = lambda z, j=j: generator.factors(z)[:, j]  # noqa: B023, E731
                others = lambda z, j=j: generator.factors(z)[:, [i for i in range(5) if i != j]]  # noqa: B023, E731
                begun = time.process_time()
                flows = property_flows(wanted, generator, seed, learned=j == 0)
                for similarity in (alike, None):
                    table = compare_on_property(
                        flows,
                        wanted,
                        others=others,
                        similarity=similarity,
                        control_step=0.2,
                        walks=walks,
                        seed=TESTED + seed,
                    )
                    yield {
                        "flow": factor,
                        "factor": j,
                        "similarity": similarity is not None,
                        "seed": seed,
                        "warp": warp,
                        "codes": walks,
                        "rows": table.to_dict(),
                        "processor": time.process_time() - begun,
                    }


def several(seeds, warps, names, codes, walks: int = 2000) -> Iterator[dict[str, Any]]:
    """Two factors that are to rise together: success is for walks along which both do."""
    for seed in seeds:
        for warp in warps:
            generator = WarpedGenerator(warp=warp, seed=seed)
            for i, j in ((0, 1), (2, 4)):
                one, two = (lambda z, n=n: generator.factors(z)[:, n] for n in (i, j))  # noqa: B023
                both = lambda z, i=i, j=j: generator.factors(z)[:, [i, j]]  # noqa: B023, E731
                rest = [n for n in range(5) if n not in (i, j)]
                begun = time.process_time()
                flows = [
                    (GradientFlow([one, two], generator, weights=[[1.0, 1.0]], rate=0.1, name="gradient of sum"), None),
                    (GradientFlow(one, generator, rate=0.1, name="gradient of first"), None),
                    (
                        LangevinFlow(
                            [one, two],
                            generator,
                            weights=[[1.0, 1.0]],
                            rate=0.1,
                            temperature=5e-5,
                            prior=0.1,
                            seed=seed,
                            name="langevin of sum, prior 0.1",
                        ),
                        None,
                    ),
                ]
                table = compare_on_property(
                    flows,
                    both,
                    others=lambda z, rest=rest: generator.factors(z)[:, rest],  # noqa: B023
                    similarity=image_similarity(generator),
                    control_step=0.2,
                    walks=walks,
                    seed=TESTED + seed,
                )
                yield {
                    "flow": f"{generator.factor_names[i]} and {generator.factor_names[j]}",
                    "similarity": True,
                    "seed": seed,
                    "warp": warp,
                    "codes": walks,
                    "rows": table.to_dict(),
                    "processor": time.process_time() - begun,
                }


def langevin(seeds, warps, names, codes, n: int = 20_000) -> Iterator[dict[str, Any]]:
    """f = -|z|^2 / 2 by steps of a = 0.1: the stationary variance is 2 T / (2 - a) by coordinate."""
    a = 0.1
    for seed in seeds:
        for T in (1.0, 0.01):
            flow = LangevinFlow(lambda z: -z.square().sum(dim=1) / 2, latent_dim=4, rate=a, temperature=T, seed=seed)
            end = flow.traverse(torch.zeros(n, 4, dtype=torch.float64), steps=100)[-1]
            expected = 2 * T / (2 - a)
            error = expected * math.sqrt(2 / (4 * n))
            found = float(end.square().mean())
            yield {
                "flow": f"T = {T:g}",
                "seed": seed,
                "warp": 0.0,
                "codes": n,
                "variance": found,
                "expected": expected,
                "standard_errors": (found - expected) / error,
            }


SECTIONS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "pairs": pairs,
    "few": few,
    "factors": factors,
    "sprites": sprites,
    "property": property,
    "several": several,
    "langevin": langevin,
}
CODES = {"pairs": 20_000, "few": 100, "factors": 20_000}


# Tables

MEASURED = ("gain", "strict", "relaxed", "side_effect", "drift", "length")


def table(found: list[dict[str, Any]], section: str, warp: float | None = None) -> str:
    """Median over the seeds in Markdown, with the smallest and the largest."""
    runs = [run for run in found if run["section"] == section and warp in (None, run["warp"])]
    if section in ("property", "several"):
        return property_table(runs)
    columns = [
        ("error", "error", 3),
        ("along", "error at step 8", 3),
        ("concentration", "concentration", 3),
        ("disentanglement", "D of movement", 3),
        ("completeness", "C of movement", 3),
        ("dci_disentanglement", "DCI: D", 3),
        ("dci_completeness", "DCI: C", 3),
        ("dci_informativeness", "DCI: I", 3),
        ("recovered", "index recovered", 3),
        ("residual", "residual", 2),
        ("variance", "variance", 5),
        ("standard_errors", "standard errors off", 2),
        ("processor", "CPU s", 0),
    ]
    columns = [one for one in columns if any(one[0] in run for run in runs)]
    lines = [["flow", "seeds", *(title for _, title, _ in columns)], ["---", *["---:"] * (len(columns) + 1)]]
    for name in dict.fromkeys(run["flow"] for run in runs):
        mine = [run for run in runs if run["flow"] == name]
        cells = []
        for key, _, digits in columns:
            values = [run[key][-1] if isinstance(run[key], list) else run[key] for run in mine if key in run]
            cells.append(spread(values, digits))
        lines.append([name, str(len(mine)), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def property_table(runs: list[dict[str, Any]]) -> str:
    lines = [
        ["property", "similarity", "flow", "gain", "strict", "half of the directions", "relaxed", "side effect"],
        ["---", "---", "---", *["---:"] * 7],
    ]
    lines[0] += ["log-density", "length"]
    for name, similar in dict.fromkeys((run["flow"], run["similarity"]) for run in runs):
        mine = [run["rows"] for run in runs if run["flow"] == name and run["similarity"] == similar]
        for row in mine[0]:
            found = [one[row] for one in mine if row in one]
            told = f"{row} (control)" if found[0]["control"] else row
            cells = {key: spread([one[key] for one in found], 2 if key == "drift" else 3) for key in MEASURED}
            quartiles = [one["quartiles"] for one in found if one.get("quartiles")]
            between = " to ".join(f"{median(side):.2f}" for side in zip(*quartiles)) or "-"
            lines.append([name, "yes" if similar else "no", told, cells["gain"], cells["strict"], between])
            lines[-1] += [cells[key] for key in MEASURED[2:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Measures what is asked for, one fit after the other, and writes after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=sorted(SECTIONS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--warp", default="1.0", help="comma-separated")
    parser.add_argument("--flows", default="", help="separated by ;")
    parser.add_argument("--codes", type=int)
    parser.add_argument("--tune", action="store_true", help="the whole grid of `few`, kept apart")
    parser.add_argument("--json", type=Path, default=FILE)
    parser.add_argument("--table", action="store_true", help="print the tables of what the file holds")
    asked = parser.parse_args()
    if asked.section:
        names = [name.strip() for name in asked.flows.split(";") if name.strip()]
        names = names or list(FEW) if asked.tune else names
        seeds = [int(seed) for seed in asked.seeds.split(",")]
        warps = [float(warp) for warp in asked.warp.split(",")]
        codes = asked.codes or CODES.get(asked.section, 0)
        for one in SECTIONS[asked.section](seeds, warps, names, codes):
            store(asked.json, {"section": "tuning" if asked.tune else asked.section, **one}, KEY, indent=1)
            shown = {key: round(value, 4) for key, value in one.items() if isinstance(value, float)}
            print(one["flow"], one["seed"], shown, flush=True)
    if asked.table:
        found = stored(asked.json)
        for section, warp in dict.fromkeys((run["section"], run["warp"]) for run in found):
            print(f"\n{section}, warp {warp:g}\n")
            print(table(found, section, warp))


if __name__ == "__main__":
    main()
