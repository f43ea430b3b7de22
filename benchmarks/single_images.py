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
import json
import math
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.structured import _spread, machine
from pinnflow.latent import PotentialFlow
from pinnflow.latent.generators.moving import moving_images
from pinnflow.latent.generators.training import Loop, seeded
from pinnflow.latent.generators.vae import VAE
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
    "carried prior, 1 step": {"carried": 1, "iterations": 850},
    "carried prior, 2 steps": {"carried": 2, "iterations": 650},
}


class CarriedPrior:
    """N(0, I) carried to codes by steps z_s = z_{s-1} + grad u(z_s, s) along one viscous Hamilton-Jacobi potential.

    Such a potential is concave, so that z - grad u(z, s) is one to one and its determinant at least 1, whatever the
    weights: the density is exact and has mass 1.
    """

    def __init__(self, latent_dim: int, steps: int, seed: int):
        self.flow = PotentialFlow(
            None, latent_dim, 1, "hamilton-jacobi", objectives=[], steps=steps, features=32, seed=seed, device="cpu"
        )
        self.steps, self.d = steps, latent_dim

    def log_density(self, z: Tensor) -> Tensor:
        """log of the density at codes `[n, d]`, differentiable, `[n]`."""
        z, eye = z.double(), torch.eye(self.d, dtype=torch.float64)
        each, total = eye[:, None].expand(-1, len(z), -1), torch.zeros(len(z), dtype=torch.float64)
        for s in range(self.steps, 0, -1):
            with torch.enable_grad():
                z = z if z.requires_grad else z.detach().requires_grad_()
                v = self.flow.velocity(z, float(s), 0)
                J = torch.autograd.grad(v, z, each, is_grads_batched=True, create_graph=True)[0].transpose(0, 1)
                total = total + torch.linalg.slogdet(eye - J).logabsdet
                z = z - v
        return total - z.square().sum(dim=1) / 2 - self.d / 2 * math.log(2 * math.pi)


def train_carried(train, steps: int, iterations: int, seed: int, rate: float = 4e-3, flow_rate: float = 1e-2):
    """A VAE of single images whose prior is carried by a flow: as `train_structured_vae` trains one without."""
    with seeded(seed):
        vae = VAE(train.image_shape, 12, "mlp", 256)
    prior = CarriedPrior(12, steps, seed)
    parts = [(list(vae.parameters()), rate), (list(prior.flow.field.parameters()), flow_rate)]
    optimiser = torch.optim.Adam([{"params": weights, "rate": r} for weights, r in parts], lr=rate, fused=True)
    frames = torch.cat([train.frames(rows, STEPS) for rows in torch.arange(len(train)).split(256)], dim=1)
    loop = Loop("carried prior", len(train), 32, iterations, seed, None, False)
    for rows in loop:
        for group in optimiser.param_groups:
            group["lr"] = loop.annealed(group["rate"])
        x = torch.bernoulli(frames[:, rows], generator=loop.draw).flatten(0, 1)
        mean, log_variance = vae.encode(x)
        noise = loop.noise(len(x), 12)
        z = mean + torch.exp(0.5 * log_variance) * noise
        missed = nn.functional.binary_cross_entropy_with_logits(vae.logits(z), x, reduction="sum")
        log_q = -0.5 * (noise.square() + log_variance + math.log(2 * math.pi)).sum(dim=1)
        divergence = (log_q - prior.log_density(z)).sum()
        loss = (missed + min(1.0, loop.iteration / (0.3 * iterations)) * divergence) / len(x)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([w for weights, _ in parts for w in weights], 100.0)
        optimiser.step()
    return vae.eval(), lambda z: prior.log_density(z).detach()


def measure(data: str, name: str, count: int, seed: int) -> dict[str, Any]:
    """One training and the bounds of its images, as JSON."""
    size = {"size": 20} if data.endswith(".npz") else {}
    train = moving_images(data, count=count, seed=seed, **size)
    test = moving_images(data, count=ROWS, seed=1000 + seed, part="test", **size)
    how, prior = dict(DESIGNS[name]), None
    begun = time.process_time()
    if "carried" in how:
        vae, prior = train_carried(train, how["carried"], how["iterations"], seed)
    else:
        vae = train_structured_vae(train, **how, steps=STEPS, seed=seed, progress=False).vae
    processor = time.process_time() - begun
    frames = binarised(test.frames(torch.arange(ROWS), STEPS), seed)
    found = [importance_weighted(vae, x, SAMPLES, prior=prior, seed=seed + t) for t, x in enumerate(frames)]
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
                cells = [_spread([g for g, _ in gains], 2) + f" +- {median(e for _, e in gains):.2f}"]
                cells.append(f"{sum(g > 2 * e for g, e in gains)} of {len(gains)}")
            values = [sum(run["each"]) / len(run["each"]) for run in mine]
            lines.append([kind[0], str(kind[1]), name, str(len(mine)), _spread(values, 1), *cells])
            lines[-1].append(_spread([run["processor"] for run in mine], 0))
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
    runs = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
    if asked.table:
        print(table(runs))
        return
    key = ("data", "model", "count", "seed")
    for seed in map(int, asked.seeds.split(",")):
        for name in asked.designs.split(";"):
            run = measure(asked.data, name, asked.count, seed)
            runs = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
            runs = [one for one in runs if [one[k] for k in key] != [run[k] for k in key]] + [run]
            FILE.write_text(json.dumps(runs).replace('{"data"', '\n{"data"') + "\n", encoding="utf-8")
            told = {k: run[k] for k in (*key, "processor", "effective")}
            print(told, round(sum(run["each"]) / len(run["each"]), 2), flush=True)


if __name__ == "__main__":
    main()
