"""Several transformations at once that nobody names: which act, told by spikes and slabs from sequences alone.

Run from the checkout:

    python -m benchmarks.sparse --data sprites --seeds 0,1,2
    python -m benchmarks.sparse --data mnist.npz --seeds 0,1,2
    python -m benchmarks.sparse --data sprites --sets two            # no sequence along one transformation alone
    python -m benchmarks.sparse --data sprites --sets "names of single ones"
    python -m benchmarks.sparse --table                              # of what the file holds

Models learn from sequences of 16x16 pixels along one transformation or more (each acts with probability 0.3), or always
along two; or from sequences along one each, with its name, before the sets of those along several are inferred. They
are measured on 500 others, from other starts or digits, along two. Speeds are 1 +- 0.2. Data, weights
and batches follow the seed; times are processor time of the training on one thread. The file keeps its other runs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.records import machine, spread, store, stored
from pinnflow.latent.generators.mixed import mixed_images
from pinnflow.latent.generators.moving import moving_images
from pinnflow.latent.sparse import SpikeSlab, set_recovery
from pinnflow.latent.sparse_training import infer_sets
from pinnflow.latent.structured_training import train_structured_vae

FILE = Path(__file__).with_suffix(".json")
STEPS, BEYOND, SIZE = 5, 8, 16
NAMED = "names of single ones"
SETS: dict[str, dict[str, Any]] = {
    "one or more": {"probability": 0.3},
    "two": {"active": 2},
    NAMED: {"probability": 0.3},
}


def measure(
    data: str, sets: str, seed: int, *, potentials: int | None, probability: float, iterations: int
) -> dict[str, Any]:
    """One training and what it tells, as JSON."""
    train, test = (
        moving_images(data, count=count, size=SIZE, part=part, seed=start + seed)
        for count, part, start in ((8000, "train", 0), (500, "test", 1000))
    )
    single = train
    train, test = mixed_images(train, seed=seed, **SETS[sets]), mixed_images(test, active=2, seed=1000 + seed)
    begun = time.process_time()
    how: dict[str, Any] = {"steps": STEPS, "iterations": iterations, "seed": seed, "progress": False}
    if sets == NAMED:
        model = train_structured_vae(single, "hamilton-jacobi", **how)
        model.index = infer_sets(model, train, seed=seed, progress=False)
        probability = model.index.prior.probability
    else:
        how |= {"index": "sparse", "potentials": potentials, "sparsity": SpikeSlab(probability)}
        model = train_structured_vae(train, "hamilton-jacobi", **how)
    processor = time.process_time() - begun
    frames = test.frames(torch.arange(500), BEYOND)
    with torch.no_grad():
        weights = model.index.weights(frames[0], frames[STEPS])
        shown = model.vae.decode(model.path(model.vae.encode(frames[0])[0], weights, BEYOND))
    missed, moved = ((x - frames).abs().flatten(1).sum(dim=1).double() for x in (shown, frames[:1]))
    found = set_recovery(weights != 0, test.acting)
    # Speeds have a unit of their own for each potential: the correlation where it acts, and rightly so.
    pairs = [
        torch.corrcoef(torch.stack([weights[on, k], test.weights[on, j]]))[0, 1]
        for k, j in enumerate(found.matching)
        if j >= 0 and (on := (weights[:, k] != 0) & test.acting[:, j]).sum() > 2
    ]
    return {
        "data": train.name,
        "sets": sets,
        "seed": seed,
        "potentials": model.flow.potentials,
        "probability": probability,
        "iterations": iterations,
        "whole": found.whole,
        "precision": found.precision,
        "recall": found.recall,
        "f1": found.f1,
        "chance": list(found.chance),
        "speed": float(torch.stack(pairs).mean()),
        "error": float(missed[1 : STEPS + 1].sum() / moved[1 : STEPS + 1].sum()),
        "beyond": float(missed[STEPS + 1 :].sum() / moved[STEPS + 1 :].sum()),
        "processor": processor,
        "machine": machine(),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Medians over the seeds in Markdown, with the smallest and the largest."""
    head = ["sequences", "learned from", "potentials", "fits", "whole set", "by chance", "F1", "by chance"]
    head += ["speed", "error", "beyond", "CPU s"]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    for kind in dict.fromkeys((run["data"], run["sets"], run["potentials"], run["probability"]) for run in runs):
        mine = [run for run in runs if kind == (run["data"], run["sets"], run["potentials"], run["probability"])]
        columns = [[run["whole"] for run in mine], [run["chance"][0] for run in mine], [run["f1"] for run in mine]]
        columns += [[run["chance"][1] for run in mine], *([run[key] for run in mine] for key in ("speed", "error"))]
        cells = [spread(values, 2) for values in (*columns, [run["beyond"] for run in mine])]
        cells.append(spread([run["processor"] for run in mine], 0))
        lines.append([kind[0].removeprefix("mixed "), kind[1], str(kind[2]), str(len(mine)), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sprites", help="sprites, digits, or the path of MNIST's .npz file")
    parser.add_argument("--sets", default="one or more", choices=list(SETS))
    parser.add_argument("--potentials", type=int, help="by default two more than transformations")
    parser.add_argument(
        "--probability", type=float, default=0.03, help="that a potential acts, before anything is seen"
    )
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--table", action="store_true", help="print what the file holds")
    asked = parser.parse_args()
    if asked.table:
        print(table(stored(FILE)))
        return
    key = ("data", "sets", "seed", "potentials", "probability")
    for seed in map(int, asked.seeds.split(",")):
        how = {"potentials": asked.potentials, "probability": asked.probability, "iterations": asked.iterations}
        run = measure(asked.data, asked.sets, seed, **how)
        store(FILE, run, key, indent=1)
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in run.items()}, flush=True)


if __name__ == "__main__":
    main()
