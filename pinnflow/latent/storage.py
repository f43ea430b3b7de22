"""Potential flows in HDF5: the declared equation, settings, weights and history; no code, no pickle, no generator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sympy import Expr
from torch import Tensor

from pinnflow import Problem, decode_problem, encode_problem
from pinnflow.errors import DamagedFile, PinnflowError
from pinnflow.latent.velocity import along_probe
from pinnflow.latent.writing import digest, in_one_piece

if TYPE_CHECKING:
    from pinnflow.latent.flow import PotentialFlow

FORMAT = "pinnflow potential flow 1"


def save_flow(flow: PotentialFlow, path: str | Path) -> None:
    """Writes `flow` to `path`; a file of that name is replaced when all is written."""
    import h5py

    arrays: dict[str, np.ndarray] = {}
    problem = flow.equation.problem
    header = {
        "format": FORMAT,
        "latent_dim": flow.latent_dim,
        "potentials": flow.potentials,
        "form": flow.form,
        "name": flow.name,
        "settings": flow.settings,
        "dtype": str(flow.dtype).removeprefix("torch."),
        "iteration": flow.iteration,
        "history": flow.history,
        "problem": encode_problem(problem, arrays),
        "velocity": _encode_velocity(problem, flow.velocity_expression, arrays),
        "torch": torch.__version__,
    }
    weights = {name: weight.detach().cpu().numpy() for name, weight in flow.field.state_dict().items()}
    text = json.dumps(header)

    def write(part: Path) -> None:
        with h5py.File(part, "w") as file:
            file.attrs["header"] = text
            file.attrs["digest"] = digest(text, arrays, weights)
            for name, array in arrays.items():
                file[f"arrays/{name}"] = array
            for name, weight in weights.items():
                file[f"weights/{name}"] = weight

    in_one_piece(Path(path), write)


def load_flow(
    cls: type[PotentialFlow], path: str | Path, generator: Callable[[Tensor], Tensor] | None, device: Any
) -> PotentialFlow:
    """The flow in `path`; see `PotentialFlow.load`."""
    import h5py

    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file `{path}`")
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs["header"]
            header = json.loads(text)
            if header["format"] != FORMAT:
                raise DamagedFile(f"`{path}` holds `{header['format']}`, not `{FORMAT}`")
            arrays = {name: dataset[()] for name, dataset in file.get("arrays", {}).items()}
            found = {name: dataset[()] for name, dataset in file["weights"].items()}
            if file.attrs["digest"] != digest(text, arrays, found):
                raise DamagedFile(f"`{path}` has been altered: its contents do not have the digest written with them")
        weights = {name: torch.as_tensor(weight) for name, weight in found.items()}
        problem = decode_problem(header["problem"], arrays)
        velocity = _decode_velocity(header["velocity"], arrays)
        dtype = {"float32": torch.float32, "float64": torch.float64}[header["dtype"]]
    except DamagedFile:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, PinnflowError) as trouble:
        raise DamagedFile(f"`{path}` is no potential flow, or is not whole: {trouble}") from None
    flow = cls(
        generator,
        header["latent_dim"],
        header["potentials"],
        problem,
        velocity=velocity,
        device=device,
        dtype=dtype,
        name=header["name"],
        form=header["form"],
        **header["settings"],
    )
    try:
        flow.field.load_state_dict(weights)
    except RuntimeError as trouble:
        raise DamagedFile(f"the weights in `{path}` do not belong to its equation: {trouble}") from None
    flow.iteration, flow.history = header["iteration"], header["history"]
    return flow


def _encode_velocity(problem: Problem, velocity: Expr | None, arrays) -> Any:
    """A vector expression as the problem `velocity . probe = 0`."""
    if velocity is None:
        return None
    return encode_problem(along_probe(problem, velocity), arrays)


def _decode_velocity(data: Any, arrays) -> Expr | None:
    if data is None:
        return None
    product = decode_problem(data, arrays).equations[0].lhs
    return product.args[0]
