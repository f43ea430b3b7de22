"""Can a flow make single images more probable? Designs that were tried, beside the same VAE without a flow.

Run from the checkout:

    python -m benchmarks.single_images --data sprites --count 8000 --seeds 0,1,2
    python -m benchmarks.single_images --data sprites --count 400 --seeds 0,1,2
    python -m benchmarks.single_images --table                       # of what the file holds

All are measured as ordinary VAEs, by the importance-weighted bound of images one by one with 32 draws, knowing neither
the transformation nor the step, on 200 sequences of 6 images that were not learned. `alone w` trains the bound of every
image by itself with weight w and that of the sequence with 1 - w; `alone a to b` goes from a to b. `carried prior` has
no sequences: the normal distribution is carried along one Hamilton-Jacobi potential, whose determinants are exact, and
that is the prior of every code. Iterations are such that the processor time is about the same, which is measured. The
file keeps its other runs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.records import machine, spread, store, stored
from pinnflow.latent.generators.moving import moving_images
from pinnflow.latent.likelihood import binarised, importance_weighted
from pinnflow.latent.structured_training import train_structured_vae

FILE = Path(__file__).with_suffix(".json")
STEPS, SAMPLES, ROWS = 5, 32, 200

DESIGNS: dict[str, dict[str, Any]] = {
    "no flow": {"transition": "none", "iterations": 1200},
    "sequences alone": {"transition": "hamilton-jacobi", "iterations": 850},
    "alone 0.5": {"transition": "hamilton-jacobi", "iterations": 850, "alone": (0.5, 0.5)},
    "alone 0.9": {"transition": "hamilton-jacobi", "iterations": 850, "alone": (0.9, 0.9)},
    "alone 0 to 1": {"transition": "hamilton-jacobi", "iterations": 850, "alone": (0.0, 1.0)},
    "alone 0.5, linear": {"transition": "linear", "iterations": 950, "alone": (0.5, 0.5)},
    "carried prior, 1 step": {"transition": "none", "carried": 1, "iterations": 1100},
    "carried prior, 4 steps": {"transition": "none", "carried": 4, "iterations": 900},
    "carried prior, 2 steps": {"transition": "none", "carried": 2, "iterations": 1020},
}


def measure(data: str, name: str, count: int, seed: int) -> dict[str, Any]:
    """One training and the bounds of its images, as JSON."""
    size = {"size": 20} if data.endswith(".npz") else {}
    train = moving_images(data, count=count, seed=seed, **size)
    test = moving_images(data, count=ROWS, seed=1000 + seed, part="test", **size)
    how = DESIGNS[name]
    begun = time.process_time()
    model = train_structured_vae(train, **how, steps=STEPS, seed=seed, progress=False)
    processor = time.process_time() - begun
    frames = binarised(test.frames(torch.arange(ROWS), STEPS), seed)
    prior = None if model.prior is None else model.log_first
    found = [importance_weighted(model.vae, x, SAMPLES, prior=prior, seed=seed + t) for t, x in enumerate(frames)]
    return {
        "data": train.name,
        "model": name,
        "count": count,
        "seed": seed,
        "iterations": how["iterations"],
        "processor": processor,
        "each": [round(float(value), 3) for value in torch.stack([one.each for one in found]).mean(dim=0)],
        "effective": sum(one.effective for one in found) / len(found),
        "machine": machine(),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Medians over the seeds in Markdown, with the smallest and the largest."""
    lines = [["data", "sequences", "design", "fits", "nats an image", "gain on no flow", "of them beyond 2 errors"]]
    lines[0] += ["CPU s"]
    lines.append(["---", "---:", "---", *["---:"] * 5])
    for kind in sorted({(run["data"], run["count"]) for run in runs}):
        plain = {r["seed"]: torch.tensor(r["each"]) for r in runs if _kind(r) == kind and r["model"] == "no flow"}
        for name in DESIGNS:
            mine = [run for run in runs if _kind(run) == kind and run["model"] == name]
            away = [torch.tensor(run["each"]) - plain[run["seed"]] for run in mine if run["seed"] in plain]
            gains = [(float(one.mean()), float(one.std() / len(one) ** 0.5)) for one in away]
            if not mine:
                continue
            cells = ["-", "-"]
            if name != "no flow" and gains:
                cells = [spread([g for g, _ in gains], 2) + f" +- {median(e for _, e in gains):.2f}"]
                cells.append(f"{sum(g > 2 * e for g, e in gains)} of {len(gains)}")
            values = [sum(run["each"]) / len(run["each"]) for run in mine]
            lines.append([kind[0], str(kind[1]), name, str(len(mine)), spread(values, 1), *cells])
            lines[-1].append(spread([run["processor"] for run in mine], 0))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _kind(run: dict[str, Any]) -> tuple[str, int]:
    return run["data"], run["count"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sprites", help="sprites, digits, or the path of MNIST's .npz file")
    parser.add_argument("--count", type=int, default=8000, help="sequences that are learned from")
    parser.add_argument("--designs", default=";".join(DESIGNS), help="separated by semicolons")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--table", action="store_true", help="print what the file holds")
    asked = parser.parse_args()
    if asked.table:
        print(table(stored(FILE)))
        return
    key = ("data", "model", "count", "seed")
    for seed in map(int, asked.seeds.split(",")):
        for name in asked.designs.split(";"):
            run = measure(asked.data, name, asked.count, seed)
            store(FILE, run, key)
            told = {k: run[k] for k in (*key, "processor", "effective")}
            print(told, round(sum(run["each"]) / len(run["each"]), 2), flush=True)


if __name__ == "__main__":
    main()
