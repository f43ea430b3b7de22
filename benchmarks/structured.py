"""The table of structured VAEs: what a flow in the prior does for likelihood, equivariance and the index.

Run from the checkout:

    python -m benchmarks.structured --data sprites --seeds 0,1,2
    python -m benchmarks.structured --data mnist.npz --models "no flow,hamilton-jacobi" --seeds 0
    python -m benchmarks.structured --data mnist.npz --convolutional --seeds 0,1,2      # at 28x28 pixels
    python -m benchmarks.structured --table                      # of what the file holds

Every model has the same encoder and decoder and about the same processor time, which is measured and kept. Data are new
sequences of other digits or other starts than those learned, drawn black and white; the file keeps its other runs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.records import machine, spread, store, stored
from pinnflow.latent import PairMatching, PotentialFlow, Sequences
from pinnflow.latent.generators.moving import MovingImages, moving_images
from pinnflow.latent.index import index_recovery
from pinnflow.latent.likelihood import Likelihood, binarised
from pinnflow.latent.sequences import SequenceError, image_likelihood, sequence_error, sequence_likelihood
from pinnflow.latent.structured import StructuredVAE
from pinnflow.latent.structured_training import train_structured_vae
from pinnflow.latent.transitions import fit_linear_transition

FILE = Path(__file__).with_suffix(".json")
KEY = ("data", "model", "seed")
REFINE = 150  # steps of Adam in the draws of a sequence, for the closer bound
STEPS, BEYOND = 5, 8  # steps that are learned, and of the longest sequences that are measured

# Iterations are such that the processor time is about the same.
MODELS: dict[str, dict[str, Any]] = {
    "no flow": {"transition": "none", "iterations": 2700},
    "beta-VAE": {"transition": "none", "beta": 4.0, "iterations": 2700},
    "linear": {"transition": "linear", "iterations": 2200},
    "hamilton-jacobi": {"transition": "hamilton-jacobi", "iterations": 1800},
    "wave": {"transition": "wave", "iterations": 1700},
    "helmholtz": {"transition": "helmholtz", "iterations": 1400},
    "hamilton-jacobi, 24 latents": {"transition": "hamilton-jacobi", "latent_dim": 24, "iterations": 1800},
    "no equation": {"transition": "potential", "iterations": 1800},
    "hamilton-jacobi, index inferred": {"transition": "hamilton-jacobi", "index": "inferred", "iterations": 1500},
    "hamilton-jacobi, index by Gumbel": {"transition": "hamilton-jacobi", "index": "gumbel", "iterations": 1500},
    # Twice as long.
    "no flow, longer": {"transition": "none", "iterations": 5400},
    "hamilton-jacobi, longer": {"transition": "hamilton-jacobi", "iterations": 3600},
}


def plain(name: str) -> str:
    """The VAE without flow that a model is compared with."""
    return "no flow, longer" if name.endswith(", longer") else "no flow"


# Digits as large as they are, by convolutions: each model with the better of two sizes of its batches, of 8 and 32
# sequences (tried with seed 0 and 60 s).
CONVOLUTIONAL: dict[str, Any] = {"architecture": "conv", "width": 8}
LARGE: dict[str, dict[str, Any]] = {
    "no flow": {"iterations": 6500, "batch": 8},
    "beta-VAE": {"iterations": 6500, "batch": 8},
    "linear": {"iterations": 3700, "later": 1},
    "hamilton-jacobi": {"iterations": 3400, "later": 1},
    "hamilton-jacobi, index inferred": {"iterations": 1700},
}


def measure(
    data: str, name: str, seed: int, *, convolutional: bool = False, rows: int = 200, samples: int = 32
) -> dict[str, Any]:
    """One training and its measures, as JSON."""
    settings, size = MODELS[name], {"size": 20} if data.endswith(".npz") else {}
    if convolutional:
        settings, size = settings | CONVOLUTIONAL | LARGE[name], {"size": 28}
    train = moving_images(data, count=8000, seed=seed, **size)
    test = moving_images(data, count=500, seed=1000 + seed, part="test", **size)
    begun = time.process_time()
    model = train_structured_vae(train, **settings, steps=STEPS, seed=seed, progress=False)
    found: dict[str, Any] = {"data": f"{train.name}, 28x28, convolutions" if convolutional else train.name}
    found |= {
        "model": name,
        "seed": seed,
        "processor": time.process_time() - begun,
        "iterations": settings["iterations"],
    }
    found |= {"rows": rows, "samples": samples, "machine": machine()}
    some = torch.arange(rows)
    frames, labels = binarised(test.frames(some, model.steps), seed), test.labels[:rows]
    if settings.get("index", "known") == "known":
        found["sequence"] = _kept(sequence_likelihood(model, frames, labels, samples, seed=seed))
        found["refined"] = _kept(sequence_likelihood(model, frames, labels, samples, refine=REFINE, seed=seed))
        found["images"] = [_kept(one) for one in image_likelihood(model, frames, labels, samples, seed=seed)]
    matching = None
    if model.index is not None:
        ends = test.frames(torch.arange(len(test)), model.steps)[[0, -1]]
        told = model.index(*ends).argmax(dim=1)
        recovery = index_recovery(told, test.labels, len(test.names))
        found["index"] = {"accuracy": recovery.accuracy, "error": recovery.error, "counts": recovery.counts}
        matching = recovery.matching if "index" in settings else None
    found["errors"] = {}
    for how, flow in _flows(name, model, train, seed).items():
        if how == "linear afterwards":
            # The same encoder and decoder as a model of sequences: does the flow gain by being there in training?
            after = StructuredVAE(model.vae, flow, model.steps)
            for measured, refine in (("sequence", 0), ("refined", REFINE)):
                bound = sequence_likelihood(after, frames, labels, samples, refine=refine, seed=seed)
                found[f"{measured}, {how}"] = _kept(bound)
        error = sequence_error(model, test, steps=BEYOND, flow=flow, matching=matching)
        found["errors"][how] = _error(error)
    return found


def _flows(name: str, model: StructuredVAE, train: MovingImages, seed: int) -> dict[str, Any]:
    """The flow of the model; without one its best controls: to stay, and transitions fitted to its codes afterwards."""
    if model.moves:
        return {"own": model.flow}
    T, rows = model.steps, torch.arange(2000)
    frames, labels = train.frames(rows, T), train.labels[rows]
    with torch.no_grad():
        codes = model.vae.encode(frames)[0]
    found: dict[str, Any] = {"still": model.flow, "linear afterwards": fit_linear_transition(codes, labels, model.vae)}
    if name == plain(name):
        K = len(train.names)
        found["potentials afterwards"] = after = PotentialFlow(
            model.vae, potentials=K, pde="hamilton-jacobi", objectives=[], steps=T, seed=seed
        )
        PairMatching(Sequences(codes[0], frames, labels), seed=seed).fit(after, 400, 64, rate=1e-2)
    return found


def _kept(one: Likelihood) -> dict[str, Any]:
    each = [round(float(value), 2) for value in one.each]
    return {"value": one.value, "error": one.error, "noise": one.noise, "effective": one.effective, "each": each}


def _error(one: SequenceError) -> dict[str, Any]:
    found = {"error": one.error, "beyond": one.beyond, "along": one.along, "each": one.each, "pixel": one.pixel}
    return found | {"floor": one.floor}


def gain(runs: list[dict[str, Any]], run: dict[str, Any], measured: str) -> tuple[float, float] | None:
    """How many nats an image a run is above the VAE without flow, on the same data, and the standard error."""
    same = [one for one in runs if [one[k] for k in KEY] == [run["data"], plain(run["model"]), run["seed"]]]
    kind = measured.partition(",")[0]
    if not same or kind not in same[0]:
        return None
    base = _each(same[0], kind)
    away = torch.tensor(_each(run, measured)) - torch.tensor(base)
    return float(away.mean()), float(away.std() / len(away) ** 0.5)


def _each(run: dict[str, Any], measured: str) -> list[float]:
    """Nats an image, of every sequence."""
    length = STEPS + 1
    if measured != "images":
        return [value / length for value in run[measured]["each"]]
    return [sum(values) / length for values in zip(*(one["each"] for one in run["images"]))]


def table(runs: list[dict[str, Any]], data: str) -> str:
    """Medians over the seeds in Markdown, with the smallest and the largest; controls have rows of their own."""
    head = ["model", "fits", "sequence, nats an image", "gain", "closer bound", "gain", "single image, nats", "gain"]
    head += ["error", "beyond", "floor", "index", "CPU s"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name in MODELS:
        mine = [run for run in runs if run["data"] == data and run["model"] == name]
        for how in mine[0]["errors"] if mine else ():
            own = how in ("own", "still")  # else a control: the same encoder and decoder
            called = {"own": name, "still": f"{name}, to stay"}.get(how, f"{name}, {how}")
            cells = [
                cell
                for kind in ("sequence", "refined")
                for cell in _nats(runs, mine, kind if own else f"{kind}, {how}")
            ]
            cells += _nats(runs, mine, "images") if own else ["-", "-"]
            cells += [spread([run["errors"][how][part] for run in mine], 2) for part in ("error", "beyond")]
            floors = [run["errors"][how]["floor"] for run in mine if "floor" in run["errors"][how]]
            cells.append(spread(floors, 2))
            index = [run["index"]["accuracy"] for run in mine if own and "index" in run]
            cells += [spread(index, 3), spread([run["processor"] for run in mine], 0) if own else "-"]
            lines.append([called, str(len(mine)), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _nats(runs: list[dict[str, Any]], mine: list[dict[str, Any]], measured: str) -> list[str]:
    """Two cells: nats an image, and the gain on the VAE without flow with the median of its standard errors."""
    has = [run for run in mine if measured in run]
    gains = [gain(runs, run, measured) for run in has]
    known = [one for one in gains if one is not None and one != (0.0, 0.0)]
    error = f" +- {median(e for _, e in known):.1f}" if known else ""
    values = [sum(_each(run, measured)) / run["rows"] for run in has]
    return [spread(values, 1), spread([value for value, _ in known], 1) + error]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sprites", help="sprites, digits, or the path of MNIST's .npz file")
    parser.add_argument("--models", default="", help="of the table, separated by semicolons or commas; by default all")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--convolutional", action="store_true", help="digits of 28x28 pixels, by convolutions")
    parser.add_argument("--table", action="store_true", help="print what the file holds")
    options = parser.parse_args()
    if options.table:
        runs = stored(FILE)
        for data in sorted({run["data"] for run in runs}):
            print(f"\n{data}\n\n{table(runs, data)}")
        return
    known = LARGE if options.convolutional else MODELS
    separator = ";" if ";" in options.models or options.models in MODELS else ","
    names = options.models.split(separator) if options.models else list(known)
    if not set(names) <= set(known):
        parser.error(f"there is no model {', '.join(set(names) - set(known))}; choose of: {'; '.join(known)}")
    for seed in map(int, options.seeds.split(",")):
        for name in names:
            run = measure(options.data, name, seed, convolutional=options.convolutional)
            store(FILE, run, KEY)
            told = {key: run[key] for key in ("model", "seed", "processor", "index") if key in run}
            print(told, {how: round(one["error"], 3) for how, one in run["errors"].items()}, flush=True)


if __name__ == "__main__":
    main()
