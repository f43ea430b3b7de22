"""The table of latent flows: what potential flows, baselines and controls do on a generator whose factors are known.

Run from the checkout:

    python -m benchmarks.latent --flows wave,linear-classifier --seeds 0,1,2
    python -m benchmarks.latent --table                          # of what the file holds
    python -m benchmarks.latent --pictures docs/images --keep DIR    # best and worst strip of the flows kept there

`linear` are directions trained for the objectives of the potentials, `linear-classifier` for the published one.
Every fit takes the defaults: K = 5 potentials in d = 8 dimensions, 1000 iterations, on `WarpedGenerator(seed=seed)`
with the same seed for generator, flow and report. `wave, orthogonal` and `wave, less orthogonal` add an objective
and are fitted with `--iterations 3000` and `--iterations 1500`. A flow is measured on 4000 walks of six steps of 0.35.
The file keeps its other flows and seeds; the time is processor time of the fit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.records import machine, spread, store, stored
from pinnflow.latent import (
    Attractor,
    Classifier,
    Flow,
    Oracle,
    Orthogonality,
    PotentialFlow,
    Spread,
    WarpedGenerator,
    baseline,
    evaluate,
    plot_traversals,
)

FILE = Path(__file__).with_suffix(".json")
POTENTIALS = 5
STEP = 0.35


def _learned(name: str, **settings: Any) -> Callable[..., Flow]:
    return lambda generator, seed: PotentialFlow(generator, potentials=POTENTIALS, pde=name, seed=seed, **settings)


def _compared(name: str) -> Callable[..., Flow]:
    return lambda generator, seed: baseline(name, generator, potentials=POTENTIALS, seed=seed)


def _orthogonal(weight: float) -> Callable[..., Flow]:
    def make(generator, seed):
        objectives = [Classifier(), Spread(), Orthogonality(weight, rows=24)]
        return PotentialFlow(generator, potentials=POTENTIALS, seed=seed, objectives=objectives)

    return make


# Name in the table: how the flow is made, and the length of its steps (None: as long as its velocity).
FLOWS: dict[str, tuple[Callable[..., Flow], float | None]] = {
    "wave": (_learned("wave"), STEP),
    "wave, orthogonal": (_orthogonal(3.0), STEP),
    "wave, less orthogonal": (_orthogonal(2.0), STEP),
    "hamilton-jacobi": (_learned("hamilton-jacobi"), STEP),
    "fokker-planck": (_learned("fokker-planck"), STEP),
    "heat": (_learned("heat"), STEP),
    "porous-medium": (_learned("porous-medium"), STEP),
    "wave, soft": (_learned("wave", form="soft"), STEP),
    "hamilton-jacobi, soft": (_learned("hamilton-jacobi", form="soft"), STEP),
    "hamilton-jacobi-source": (_learned("hamilton-jacobi-source"), STEP),
    "fokker-planck, soft": (_learned("fokker-planck", form="soft"), STEP),
    "heat, soft": (_learned("heat", form="soft"), STEP),
    "porous-medium, soft": (_learned("porous-medium", form="soft"), STEP),
    "no equation": (_learned("wave", form="none"), STEP),
    "free field": (_compared("free"), STEP),
    "rbf": (_compared("rbf"), STEP),
    "linear-classifier": (_compared("linear-classifier"), STEP),
    "linear": (_compared("linear"), STEP),
    "helmholtz": (_compared("helmholtz"), STEP),
    "divergence-free": (_compared("divergence-free"), STEP),
    "sefa": (_compared("sefa"), STEP),
    "ganspace": (_compared("ganspace"), STEP),
    "local-jacobian": (_compared("local-jacobian"), STEP),
    "random": (_compared("random"), STEP),
    "oracle": (lambda generator, seed: Oracle(generator, POTENTIALS), STEP),
    "attractor, raw steps": (lambda generator, seed: Attractor(generator, potentials=POTENTIALS, seed=seed), None),
}

# Columns of the table: measure, title, digits.
COLUMNS = (
    ("vp", "VP", 3),
    ("concentration", "concentration", 3),
    ("coverage", "coverage", 2),
    ("variance", "endpoint variance", 2),
    ("drift", "drift of log-density", 2),
    ("straightness", "straightness", 3),
    ("residual_norm", "PDE residual, norm", None),
    ("residual", "PDE residual, by point", None),
    ("processor", "fit, CPU s", 0),
)


def measure(name: str, seed: int, warp: float, iterations: int, keep: Path | None) -> dict[str, Any]:
    """One fit and its measures, as JSON."""
    make, step = FLOWS[name]
    generator = WarpedGenerator(warp=warp, seed=seed)
    flow = make(generator, seed)
    begun = time.process_time()
    if hasattr(flow, "objectives"):
        flow.fit(iterations=iterations)
    else:
        flow.fit()
    processor = time.process_time() - begun
    report = evaluate({name: flow}, seed=seed, step_length=step, controls=False)
    if keep is not None and hasattr(flow, "save"):
        keep.mkdir(parents=True, exist_ok=True)
        flow.save(keep / f"{file_name(name)}-{seed}.h5")
    return {
        "flow": name,
        "seed": seed,
        "warp": warp,
        "iterations": iterations,
        "values": {**report.values[name], "processor": processor},
        "movement": report.details[name].get("movement"),
        "variances": report.details[name].get("variances"),
        "flags": list(report.flags[name]),
        "machine": machine(),
    }


def table(found: list[dict[str, Any]], warp: float = 1.0) -> str:
    """Median over the seeds in Markdown, with the smallest and the largest where they differ visibly."""
    head = ["flow", "fits", *(title for _, title, _ in COLUMNS), "flags"]
    lines = [head, ["---", *["---:"] * (len(COLUMNS) + 1), "---"]]
    for name in FLOWS:
        runs = [run for run in found if run["flow"] == name and run["warp"] == warp]
        if not runs:
            continue
        cells = [spread([run["values"][key] for run in runs if key in run["values"]], n) for key, _, n in COLUMNS]
        flags = [flag for run in runs for flag in run["flags"]]
        told = ", ".join(f"{flag} ({flags.count(flag)} of {len(runs)})" for flag in dict.fromkeys(flags)) or "-"
        lines.append([name, str(len(runs)), *cells, told])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw_extremes(found: list[dict[str, Any]], name: str, keep: Path, folder: Path, warp: float = 1.0) -> list[str]:
    """The strips of the potentials that concentrate the most and the least on one factor, over all seeds."""
    runs = [run for run in found if run["flow"] == name and run["warp"] == warp and run["movement"]]
    shares = {
        (run["seed"], k): max(row) / sum(row) for run in runs for k, row in enumerate(run["movement"]) if sum(row) > 0
    }
    order = sorted(shares, key=shares.__getitem__)
    told = []
    for word, (seed, k) in (("best", order[-1]), ("worst", order[0])):
        generator = WarpedGenerator(warp=warp, seed=seed)
        flow = PotentialFlow.load(keep / f"{file_name(name)}-{seed}.h5", generator, device="cpu")
        path = folder / f"latent-{word}.png"
        share = shares[seed, k]
        title = f"{name}, seed {seed}, potential {k}: {100 * share:.0f} % of the movement in one factor"
        plot_traversals(flow, path, potentials=[k], starts=4, smooth=True, title=title, seed=1)
        told.append(f"{path}: seed {seed}, potential {k}, share {share:.3f}")
    return told


def file_name(name: str) -> str:
    """The name of a flow in a file's."""
    return name.replace(", ", "-").replace(" ", "-")


def main() -> None:
    """Measures what is asked for, one fit after the other, and writes after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--flows", default="", help=f"comma-separated; known: {'; '.join(FLOWS)} (use ; for those with a comma)"
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--warp", type=float, default=1.0)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=FILE)
    parser.add_argument("--keep", type=Path, help="folder for the fitted potential flows")
    parser.add_argument("--pictures", type=Path, help="folder for the best and the worst strip of the wave")
    parser.add_argument("--table", action="store_true", help="print the table of what the file holds")
    asked = parser.parse_args()
    names = [name.strip() for name in asked.flows.split(";" if ";" in asked.flows else ",") if name.strip()]
    for name in names:
        if name not in FLOWS:
            parser.error(f"no flow `{name}`; known: {'; '.join(FLOWS)}")
    for seed in [int(seed) for seed in asked.seeds.split(",")]:
        for name in names:
            one = measure(name, seed, asked.warp, asked.iterations, asked.keep)
            store(asked.json, one, ("flow", "seed", "warp"), indent=1)
            shown = {key: round(one["values"][key], 4) for key, _, _ in COLUMNS if key in one["values"]}
            print(f"{name} seed {seed}: {shown} {one['flags']}", flush=True)
    found = stored(asked.json)
    if asked.pictures is not None:
        print("\n".join(draw_extremes(found, "wave", asked.keep, asked.pictures, asked.warp)))
    if asked.table:
        print(table(found, asked.warp))


if __name__ == "__main__":
    main()
