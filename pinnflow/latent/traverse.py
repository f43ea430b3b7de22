"""One command's worth of latent traversal: a generator, a flow on it, its pictures, its measures, one file of it all.

`explore(Tour(...))` is what `pinnflow traverse` and `examples/latent_traversal.py` run. In order: train or open the
generator, train the flow, fit the baselines, measure them beside the controls, draw. Into `output` go `strips` and
`landscape` as PNG and GIF, `comparison.png`, `metrics.md`, `flow.h5`, `generator.h5` (of a generator that was trained
here), and `traversal.h5`, from which `redraw` makes every picture again.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnflow.errors import DamagedFile, DeclarationError, UnknownName, UnusableDevice

if TYPE_CHECKING:
    from pinnflow import Problem
    from pinnflow.latent.metrics import Report
    from pinnflow.latent.traversal import Flow

# What every option means; the shell and the example show these words.
HELP = {
    "data": "What the generator learns: digits (the default), sprites, or the path of an .npz file such as mnist.npz.",
    "generator": "A generator by name, or in a file; by default a VAE is trained on the data.",
    "latent_dim": "Dimensions of the latent space; by default what the generator or your own equation has.",
    "pde": "The equation that the potentials obey, by name.",
    "potentials": "How many potentials.",
    "iterations": "Of the training of the flow; by default 500, with --quick 60.",
    "seed": "The same seed gives the same digits.",
    "output": "Where the files go; made if missing.",
    "quick": "Short trainings and few walks: to see that it runs, not to be believed.",
    "device": "cpu, cuda, cuda:1 ...; by default a GPU if there is one.",
    "checkpoint": "A file from which an interrupted training goes on; written every hundredth of it.",
    "resume": "Go on from the checkpoint, to the digits of a run without a break.",
}
STEPS, STEP_LENGTH, STARTS = 6, 0.35, 3
PIXELS = 4000 * 64 * 64  # that the measured images shall not exceed, as long as there are 400 of them
LABELLED = 5000  # images that teach the classes


@dataclass(frozen=True)
class Tour:
    """What to explore; `HELP` says what each entry means. `pde` may be a `Problem` over a time and the codes as well.

    The checkpoint is a family of files: FILE itself (the flow), FILE.generator.h5, FILE.linear (the baseline that is
    trained) and FILE.json, which says what the run was asked for, so that another run does not go on from it.
    """

    data: str | None = None
    generator: str | None = None
    latent_dim: int | None = None
    pde: str | Problem = "wave"
    potentials: int = 6
    iterations: int | None = None
    seed: int = 0
    output: str | os.PathLike[str] = "."
    quick: bool = False
    device: str | None = None
    checkpoint: str | os.PathLike[str] | None = None
    resume: bool = False

    @property
    def length(self) -> int:
        """Iterations of the training of the flow."""
        return self.iterations if self.iterations is not None else 60 if self.quick else 500

    def beside(self, ending: str) -> Path | None:
        """The file of the checkpoint's family with an ending; None without a checkpoint."""
        return None if self.checkpoint is None else Path(f"{os.fspath(self.checkpoint)}{ending}")


@dataclass(frozen=True)
class Found:
    """What an exploration leaves.

    Attributes:
        flow: the trained potential flow.
        flows: all that were walked, by name.
        report: their measures, with controls.
        written: the files.
    """

    flow: Flow
    flows: dict[str, Flow]
    report: Report
    written: tuple[Path, ...]


def explore(tour: Tour, tell: Callable[[str], None] = lambda line: None) -> Found:
    """Trains, measures and draws what `tour` says; see the module.

    Args:
        tour: what to explore.
        tell: called with a line of text whenever something is done.

    Raises:
        PinnflowError: an option makes no sense; nothing was computed.
        OSError: a file cannot be read, or nothing can be written to the folder.
    """
    from pinnflow.latent import PotentialFlow, evaluate
    from pinnflow.latent.strips import drawable

    _check(tour)
    tour = _dimensioned(tour)
    folder = Path(tour.output)
    _make_folder(folder)
    data = _data(tour)
    _begin_checkpoint(tour)
    generator = _generator(tour, tell)
    flow = PotentialFlow(
        generator, tour.latent_dim, tour.potentials, tour.pde, seed=tour.seed, device=tour.device
    )  # fmt: skip
    tell(f"{flow.name}: {flow.form}; {flow.reason}")
    drawable(flow.render(flow.sample(8, tour.seed)), _source(tour))  # before anything is trained in vain
    _train(flow, tour, "", tell)
    flows = {flow.name: flow, **_baselines(tour, flow, tell)}
    begun = time.perf_counter()
    report = evaluate(
        {name: one for name, one in flows.items() if name != "random"},  # a control of every report
        pairs=_pairs(generator, flow, tour.quick),
        steps=STEPS,
        step_length=STEP_LENGTH,
        seed=tour.seed,
        quick=tour.quick,
        labelled=None if data is None else (data.images[:LABELLED], data.labels[:LABELLED]),
        frames=64 if tour.quick else 512,
    )
    tell(f"measured in {time.perf_counter() - begun:.0f} s\n{report}")
    return Found(flow, flows, report, _write(tour, folder, generator, flow, flows, report, data, tell))


def _check(tour: Tour) -> None:
    """The gate: everything that can be wrong before there is a generator."""
    import torch

    from pinnflow.latent.generators.data import DATA_SETS
    from pinnflow.latent.presets import make_preset
    from pinnflow.latent.traversal import positive

    try:
        positive("potentials", tour.potentials)
        positive("iterations", tour.length)
        positive("latent_dim", 1 if tour.latent_dim is None else tour.latent_dim)
    except ValueError as error:
        raise DeclarationError(str(error)) from None
    if not isinstance(tour.seed, int) or tour.seed < 0:
        raise DeclarationError(f"`seed` is {tour.seed!r}; it must be a whole number, 0 or more")
    if isinstance(tour.pde, str):
        make_preset(tour.pde, 2)
    if tour.resume and tour.checkpoint is None:
        raise DeclarationError("`resume` needs the file to go on from: give `checkpoint`")
    if tour.data is not None and tour.data.endswith(".npz") and not Path(tour.data).exists():
        raise FileNotFoundError(f"There is no file `{tour.data}`.")
    named = [name for name in DATA_SETS if name != "mnist"]
    if tour.data is not None and tour.data not in named and not tour.data.endswith(".npz"):
        raise UnknownName("data set", tour.data, [*named, "PATH.npz"])
    if tour.device is not None:
        try:
            torch.zeros(1, device=tour.device)
        except (RuntimeError, AssertionError) as error:
            raise UnusableDevice(
                f"the device `{tour.device}` cannot be used here ({str(error).splitlines()[0]}); "
                f"leave `device` out, or write `cpu`"
            ) from None


def _dimensioned(tour: Tour) -> Tour:
    """The tour with the dimensions of its own equation, where the generator is made here and none are given."""
    from pinnflow.latent.generators.registry import GENERATORS

    if isinstance(tour.pde, str):
        return tour
    dimensions = len(tour.pde.columns) - (tour.pde.time is not None)
    if tour.latent_dim is None and _source(tour) in GENERATORS:
        return replace(tour, latent_dim=dimensions)
    if tour.latent_dim not in (None, dimensions):
        raise DeclarationError(
            f"the equation has {dimensions} coordinates beside the time, `latent_dim` is {tour.latent_dim}; "
            "leave `latent_dim` out, or write as many components"
        )
    return tour


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"The directory `{folder}` cannot be made: {error.strerror}.") from None
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"Nothing can be written to the directory `{folder}`.")


def _source(tour: Tour) -> str:
    """The generator's name or file: a VAE of the data where none is asked for."""
    if tour.generator is not None:
        return tour.generator
    return "mnist-vae" if (tour.data or "").endswith(".npz") else f"{tour.data or 'digits'}-vae"


def _learns(source: str) -> str | None:
    """What the named generator learns from: `digits`, `sprites`, `mnist` (a file); None: nothing that we have."""
    stem = source.rpartition("-")[0]
    return stem if stem in ("digits", "sprites", "mnist") else None


def _data(tour: Tour) -> Any:
    """The labelled images that the generator has learned, or None; their classes are looked for along the walks."""
    from pinnflow.latent.generators.data import digits, mnist, sprites
    from pinnflow.latent.generators.registry import generator_names

    source = _source(tour)
    if source not in generator_names() and not Path(source).exists():
        raise UnknownName("generator", source, [*generator_names(), "PATH of a file"])
    learns = _learns(source)
    if learns == "mnist" and not (tour.data or "").endswith(".npz"):
        raise DeclarationError(f"the generator `{source}` is trained on a file; write `data` as the path of an .npz")
    if learns != "mnist" and tour.data is not None and learns != tour.data:
        raise DeclarationError(
            f"`data` is `{tour.data}`, but the generator `{source}` "
            + (f"learns {learns}" if learns else "is not trained here")
            + "; leave one of the two out"
        )
    if learns == "mnist":
        return mnist(str(tour.data), limit=LABELLED)
    return {"digits": digits, "sprites": lambda: sprites(2000, 32)}[learns]() if learns else None


def _asked(tour: Tour) -> dict[str, Any]:
    """What decides the digits of a run."""
    pde = tour.pde if isinstance(tour.pde, str) else [str(eq) for eq in tour.pde.equations]
    asked = {name: getattr(tour, name) for name in ("latent_dim", "potentials", "seed", "quick", "data")}
    return asked | {"generator": _source(tour), "pde": pde, "iterations": tour.length}


def _begin_checkpoint(tour: Tour) -> None:
    """Writes what the run is asked for, or compares it with what the checkpoint was begun for.

    Raises:
        DeclarationError: the checkpoint belongs to other options; the message names them.
    """
    note, asked = tour.beside(".json"), _asked(tour)
    if note is None:
        return
    if not (tour.resume and note.exists()):
        _make_folder(note.parent)
        for ending in ("", ".generator.h5", ".linear"):
            tour.beside(ending).unlink(missing_ok=True)  # type: ignore[union-attr]
        note.write_text(json.dumps(asked), encoding="utf-8")
        return
    try:
        before = dict(json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DamagedFile(f"`{note}` does not say what the checkpoint was begun for ({error})") from None
    for name, value in asked.items():
        if before.get(name) != value:
            raise DeclarationError(
                f"the checkpoint `{tour.checkpoint}` was begun with `{name}` = {before.get(name)}, not {value}; "
                f"go on with the same options, or give another checkpoint"
            )


def _generator(tour: Tour, tell: Callable[[str], None]) -> Any:
    """The generator, trained here, opened, or as the checkpoint has it."""
    from pinnflow.latent import generator
    from pinnflow.latent.generators.registry import GENERATORS
    from pinnflow.latent.generators.storage import load_generator
    from pinnflow.latent.rendering import usual_device

    kept, source, learns = tour.beside(".generator.h5"), _source(tour), _learns(_source(tour))
    begun = time.perf_counter()
    if tour.resume and kept is not None and kept.exists():
        found = load_generator(kept, usual_device(tour.device))
    else:
        settings: dict[str, Any] = {"device": tour.device} if learns else {}
        if learns == "mnist":
            settings["path"] = tour.data
        if learns and tour.quick:
            settings["iterations"] = 200
        if tour.latent_dim is not None and not (Path(source).is_file() and _is_own(source)):
            settings["latent_dim"] = tour.latent_dim
        if learns or (source in GENERATORS and "seed" in inspect.signature(GENERATORS[source]).parameters):
            settings["seed"] = tour.seed
        try:
            found = generator(source, **settings)
        except TypeError as error:
            raise DeclarationError(f"the generator `{source}` cannot be made by its name alone: {error}") from None
        if kept is not None and learns:
            found.save(kept)
    shape = "x".join(map(str, getattr(found, "image_shape", ()))) or "?"
    made = f", trained in {time.perf_counter() - begun:.0f} s" if getattr(found, "history", None) else ""
    tell(f"{source}: {getattr(found, 'latent_dim', '?')} latents, images {shape}{made}")
    return found


def _is_own(source: str) -> bool:
    from pinnflow.latent.generators.files import HDF5

    with open(source, "rb") as file:
        return file.read(len(HDF5)) == HDF5


def _train(flow: Any, tour: Tour, ending: str, tell: Callable[[str], None]) -> None:
    begun = time.perf_counter()
    due = 0

    def progress(entry: dict[str, Any]) -> None:
        nonlocal due
        if entry["iteration"] >= due or entry["iteration"] == tour.length:
            due = entry["iteration"] + max(1, tour.length // 10)
            told = f", told apart {100 * entry['accuracy']:.0f} %" if "accuracy" in entry else ""
            tell(f"  {flow.name}: iteration {entry['iteration']} of {tour.length}{told}")

    flow.fit(iterations=tour.length, progress=progress, checkpoint=tour.beside(ending), resume=tour.resume)
    tell(f"{flow.name}: trained in {time.perf_counter() - begun:.0f} s")


def _baselines(tour: Tour, flow: Any, tell: Callable[[str], None]) -> dict[str, Flow]:
    """Directions found by a classifier, by SeFa, and at random."""
    from pinnflow.latent import baseline

    shape: dict[str, Any] = {"latent_dim": flow.latent_dim, "potentials": tour.potentials}
    shape |= {"seed": tour.seed, "device": tour.device}
    linear: Any = baseline("linear-classifier", flow.generator, name="linear-classifier", **shape)
    _train(linear, tour, ".linear", tell)
    found: dict[str, Flow] = {"linear-classifier": linear}
    if tour.potentials <= flow.latent_dim:
        found["sefa"] = baseline("sefa", flow.generator, name="sefa", **shape).fit()
    else:
        tell(f"  no SeFa: it has no more than {flow.latent_dim} directions here, not {tour.potentials}")
    found["random"] = baseline("random", flow.generator, name="random", **shape)
    return found


def _pairs(generator: Any, flow: Any, quick: bool) -> int:
    """How many walks to measure: 4000, and fewer where the images are so large that they would fill the memory."""
    pixels = flow.render(flow.sample(1)).numel()
    return 600 if quick else max(400, min(4000, PIXELS // pixels))


def _starts(flow: Any, data: Any, seed: int) -> Any:
    """Codes `[STARTS, d]`: of clear images of different classes where there is an encoder, else drawn."""
    import torch

    from pinnflow.latent.metrics import logistic_classifier

    encode = getattr(flow.generator, "encode", None)
    if data is None or encode is None:
        return flow.sample(STARTS, seed)
    device = next(flow.generator.parameters()).device
    images, labels = data.images[:LABELLED].to(device), data.labels[:LABELLED].to(device)
    with torch.no_grad():
        codes = encode(images)[0]
        told = logistic_classifier(images, labels)(flow.render(codes)).softmax(dim=1)
    present = labels.unique()
    best = []
    for label in present[torch.randperm(len(present), generator=torch.Generator().manual_seed(seed))[:STARTS]]:
        own, right = codes[labels == label], told[labels == label, label]
        # As usual as can be among those that are told for sure, so that everybody recognises it.
        distance = (own - own.mean(dim=0)).norm(dim=1)
        best.append(own[torch.where(right > 0.95, -distance, right - 1e3).argmax()])
    return flow.codes(torch.stack(best))


def _pieces(tour: Tour, flow: Any, flows: dict[str, Flow], report: Report, data: Any) -> dict[str, Any]:
    """What `traversal.h5` holds: strips, the landscape on which walks bend the most, the comparison."""
    from pinnflow.latent.landscape import landscape
    from pinnflow.latent.metrics import straightness
    from pinnflow.latent.sheet import comparison
    from pinnflow.latent.strips import strips

    z = _starts(flow, data, tour.seed)
    walks: dict[str, Any] = {"steps": STEPS, "step_length": STEP_LENGTH}
    pieces: dict[str, Any] = {"strips": strips(flow, z, between=1 if tour.quick else 2, **walks)}
    if flow.latent_dim > 1:
        z0 = flow.sample(256, tour.seed)
        bent = [float(straightness(flow.traverse(z0, k, **walks)).mean()) for k in range(tour.potentials)]
        frames = 7 if tour.quick else 37
        times = [STEPS * i / (frames - 1) for i in range(frames)]
        pieces["landscape"] = landscape(flow, bent.index(min(bent)), times, seed=tour.seed, **walks)
    pieces["comparison"] = comparison(flows, z[0], _shown(report, flows), seed=tour.seed, **walks)
    return pieces


def _shown(report: Report, flows: dict[str, Flow]) -> dict[str, dict[str, float]]:
    """Rows and columns of the comparison."""
    titles = {
        "vp": "VP",
        "class_kept": "class kept",
        "concentration": "concentration",
        "variance": "endpoint variance",
        "drift": "log-density drift",
        "residual": "PDE residual",
    }
    rows = {name: report.values[name] for name in flows}
    return {name: {title: row[key] for key, title in titles.items() if key in row} for name, row in rows.items()}


def _write(
    tour: Tour, folder: Path, generator: Any, flow: Any, flows: dict[str, Flow], report: Report, data: Any, tell
) -> tuple[Path, ...]:
    from pinnflow.latent import load_traversal, redraw, save_traversal

    begun = time.perf_counter()
    flow.save(folder / "flow.h5")
    written = [folder / "flow.h5"]
    if _learns(_source(tour)):
        generator.save(folder / "generator.h5")
        written.append(folder / "generator.h5")
    page = folder / "metrics.md"
    page.write_text(_page(tour, flow, report), encoding="utf-8")
    notes = {"asked": _asked(tour), "report": report.to_dict()}
    file = save_traversal(folder / "traversal.h5", _pieces(tour, flow, flows, report, data), notes)
    written += [page, file, *redraw(load_traversal(file), folder, films=True, smooth=True)]
    tell(f"drawn in {time.perf_counter() - begun:.0f} s")
    return tuple(written)


def _page(tour: Tour, flow: Any, report: Report) -> str:
    """`metrics.md`: what was asked for, and the table with its legend."""
    told = "\n".join(f"- {name}: {value}" for name, value in _asked(tour).items() if value is not None)
    head = f"# {flow.name}, K = {flow.potentials}, d = {flow.latent_dim}"
    return f"{head}\n\n{told}\n- form: {flow.form}; {flow.reason}\n\n{report.to_markdown()}"
