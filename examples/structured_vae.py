"""Does a VAE learn more about images that move, when its codes flow along potentials?

    z_0 ~ N(0, I),  z_t = z_{t-1} + grad u_k(z_{t-1}, t),  x_t ~ p(x | z_t)   with an equation for u_k

Sequences of images go along known transformations: sprites that move, grow, turn and change their shape, or digits that
shrink, turn and change colour. Three models of the same size are trained from scratch for about the same time: a VAE
without flow, one whose K potentials obey the viscous Hamilton-Jacobi equation, and the same one without being told
which transformation a sequence goes along. Writes table.json and table.md (bounds of the likelihood with errors, errors
of continued sequences, how often the index was found) and sequences.png (target, flow, control). Takes about 3 minutes
of one processor; `--quick`, which nobody should believe, half a minute.
Run: python examples/structured_vae.py
     python examples/structured_vae.py --data mnist.npz --output mnist
"""

import argparse
import json
import time
from pathlib import Path

import torch

from pinnflow.errors import PinnflowError
from pinnflow.latent.generators.moving import moving_images
from pinnflow.latent.index import index_recovery
from pinnflow.latent.likelihood import binarised, difference
from pinnflow.latent.presets import PRESETS
from pinnflow.latent.sequence_strips import plot_sequences
from pinnflow.latent.sequences import sequence_error, sequence_likelihood
from pinnflow.latent.structured_training import TRANSITIONS, train_structured_vae
from pinnflow.latent.transitions import fit_linear_transition

BEYOND = 8  # steps that are shown; 5 are learned


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sprites", help="sprites, digits, or an .npz file with MNIST's arrays")
    parser.add_argument(
        "--transition",
        default="hamilton-jacobi",
        choices=sorted({*PRESETS, *TRANSITIONS} - {"none"}),
        help="the equation of the potentials, or what moves codes without one",
    )
    parser.add_argument("--output", default="structured", help="the folder that is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="short trainings: to see that it runs")
    return parser


def learn(options):
    """`{name: (model, seconds)}` of the three models, and the sequences to learn from and to measure on."""
    size = {"size": 20} if options.data.endswith(".npz") else {}
    train = moving_images(options.data, count=500 if options.quick else 8000, seed=options.seed, **size)
    test = moving_images(options.data, count=1000, seed=1000 + options.seed, part="test", **size)
    share = 0.05 if options.quick else 1.0
    models = {}
    for name, transition, index, iterations in (
        ("no flow", "none", "known", 2600),
        (options.transition, options.transition, "known", 1800),
        (f"{options.transition}, index inferred", options.transition, "inferred", 1500),
    ):
        begun = time.process_time()
        model = train_structured_vae(
            train, transition, index=index, iterations=int(share * iterations), seed=options.seed
        )
        models[name] = model, time.process_time() - begun
        print(f"{name}: trained in {models[name][1]:.0f} s of processor time")
    return models, train, test


def measure(models, train, test, rows, samples):
    """A row of the table for each model, and the flow that continues its sequences."""
    plain = models["no flow"][0]
    frames, labels = binarised(test.frames(torch.arange(rows), plain.steps)), test.labels[:rows]
    known = train.frames(torch.arange(min(2000, len(train))), plain.steps)
    table, flows, likelihoods = {}, {}, {}
    for name, (model, seconds) in models.items():
        row = {"seconds": seconds}
        potential, matching = torch.arange(len(test.names)), None
        if model.moves:
            ends = test.frames(torch.arange(len(test)), model.steps)[[0, -1]]
            recovery = index_recovery(model.index(*ends).argmax(dim=1), test.labels, len(test.names))
            row |= {"index": recovery.accuracy, "index error": recovery.error}
            if "inferred" in name:
                matching = recovery.matching
                potential = torch.tensor(matching).argsort()
        likelihoods[name] = sequence_likelihood(model, frames, potential[labels], samples)
        gained, error = difference(likelihoods[name], likelihoods["no flow"])
        length = model.steps + 1
        row |= {"log p": likelihoods[name].value / length, "gain": gained / length, "gain error": error / length}
        # Without a flow, the control is the linear transition that fits the codes of this VAE best.
        codes = model.vae.encode(known)[0]
        flow = model.flow if model.moves else fit_linear_transition(codes, train.labels[: len(known[0])], model.vae)
        found = sequence_error(model, test, steps=BEYOND, flow=flow, matching=matching)
        row |= {"error": found.error, "beyond": found.beyond, "along": found.along}
        if not model.moves:
            row["error, still"] = sequence_error(model, test, steps=BEYOND).error
        table[name], flows[name] = row, (model, flow, potential)
    return table, flows


def show(path, flows, test):
    """Target, flow and control of one sequence along every transformation."""
    groups = {}
    for k, name in enumerate(test.names):
        row = (test.labels == k).nonzero()[1]
        target = test.frames(row, BEYOND)
        groups[name] = {"target": target[:, 0]}
        for label, (model, flow, potential) in flows.items():
            path_of_codes = flow.traverse(model.vae.encode(target[0])[0], int(potential[k]), BEYOND, None)
            label = "VAE, then linear" if label == "no flow" else label.replace("hamilton-jacobi", "flow")
            groups[name][label.replace("index ", "")] = model.vae.decode(path_of_codes)[:, 0]
    title = "From the first image on; right of the line: longer than learned"
    plot_sequences(path, groups, trained=5, title=title)


def written(table):
    """The table in Markdown."""
    lines = [
        "| model | log p of an image of a sequence, nats | gain on no flow | error | error beyond | index | CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in table.items():
        index = f"{row['index']:.3f}" if "index" in row else "-"
        gain = "-" if name == "no flow" else f"{row['gain']:.2f} +- {row['gain error']:.2f}"
        lines.append(
            f"| {name} | {row['log p']:.2f} | {gain} | {row['error']:.3f} | {row['beyond']:.3f} | {index} | "
            f"{row['seconds']:.0f} |"
        )
    still = table["no flow"]["error, still"]
    lines += [
        "",
        f"The error is relative to what the transformation changes; staying at the first image has {still:.2f}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = read_options()
    options = parser.parse_args()
    folder = Path(options.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        models, train, test = learn(options)
    except (PinnflowError, OSError) as error:
        parser.error(str(error))
    rows, samples = (30, 8) if options.quick else (200, 64)
    table, flows = measure(models, train, test, rows, samples)
    (folder / "table.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(written(table), encoding="utf-8")
    show(folder / "sequences.png", flows, test)
    print("\n" + written(table))
    print("wrote", ", ".join(str(folder / name) for name in ("table.json", "table.md", "sequences.png")))
