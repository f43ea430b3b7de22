"""pinnflow beside DeepXDE and scimba, each with the same wall time, and beside a classical solver.

    python -m pip install -e '.[bench]'
    python -m benchmarks.peers --seconds 60 --seeds 0,1 --json peers.json

Burgers, wave and Poisson are rows 1, 6 and 11 of `statements.py`; two problems with layers in a cube are those of
`boxes.py`, where scimba's and a classical solver's side is not written. pinnflow gets the declaration and takes what it
takes; the peers train until the time is up. Each run is a fresh process that has the machine to itself. Errors are
relative L2 on the 5,000 fresh points of `accuracy.py`. The classical solver's time is that to pinnflow's error.

Where other programs share the machine, wall time says little: `--processor` gives every run one thread and counts the
processor time it gets, which is the wall time of one core with nothing else to do.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from benchmarks.accuracy import FLOOR, surroundings
from benchmarks.boxes import BOXES
from benchmarks.classical import time_to
from benchmarks.statements import ROWS

PROBLEMS = {**{number: ROWS[number] for number in (1, 11, 6)}, **{f"box {n}": BOXES[n] for n in (1, 2)}}
TOOLKITS = {
    "pinnflow": "pinnflow-pde",
    "DeepXDE": "deepxde",
    "DeepXDE, float64": "deepxde",
    "scimba, natural gradient": "scimba",
}


def error_of(
    row: int | str, values: Callable[[np.ndarray], np.ndarray], points: int = 5000, seed: int = 12345
) -> float:
    """Relative L2 error on the points of the accuracy table; `values` of `[n, 2]`, columns as the coordinates."""
    problem = PROBLEMS[row].declare()
    rng = np.random.default_rng(seed)
    place = [rng.uniform(*problem.bounds[c], points) for c in problem.coordinates]
    expected = np.asarray(PROBLEMS[row].make_reference(problem)(*place)).reshape(-1)
    return float(np.linalg.norm(values(np.column_stack(place)) - expected) / np.linalg.norm(expected))


def run(toolkit: str, row: int | str, seconds: float, seed: int, processor: bool) -> dict:
    """One run, in a process of its own; imports are not timed."""
    facts, now = {}, time.process_time if processor else time.perf_counter
    if toolkit == "pinnflow":
        problem = PROBLEMS[row].declare()

        def solve():
            solution = problem.fit(seed=seed, progress=False)
            facts.update(method=solution.method, estimate=float(solution.error_estimate))
            (u,) = problem.fields
            return lambda points: solution.evaluate(u, dict(zip(problem.coordinates, points.T, strict=True)))

    elif toolkit.startswith("DeepXDE"):
        from benchmarks import peer_deepxde

        def solve():
            return peer_deepxde.solve(row, seconds, seed, now, "float64" if "float64" in toolkit else "float32")

    else:
        from benchmarks import peer_scimba

        def solve():
            return peer_scimba.solve(row, seconds, seed, now)

    begin = now()
    with contextlib.redirect_stdout(io.StringIO()):
        values = solve()
    elapsed = now() - begin
    return {"row": row, "toolkit": toolkit, "seed": seed, "error": error_of(row, values), "seconds": elapsed, **facts}


def alone(*arguments) -> dict:
    """`run` in a fresh process: toolkits set threads, precision and random numbers for the whole process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


def compare(
    seconds: float,
    seeds: list[int],
    json_file: str | None = None,
    processor: bool = False,
    rows: Sequence = tuple(PROBLEMS),
) -> list[dict]:
    """All runs, printed as they end; a failed run is a row with `failed`."""
    if processor:  # read by the libraries of the processes to come
        os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    results, versions = [], surroundings()
    for package in ("deepxde", "scimba"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            print(f"{package} is not installed and is left out; python -m pip install -e '.[bench]'")
    facts = {**versions, "clock": "processor, one thread" if processor else "wall", "seconds": seconds, "seeds": seeds}

    def keep(result):
        results.append(result)
        result["load"] = os.getloadavg()[0]
        print(result, flush=True)
        if json_file:
            with open(json_file, "w") as file:
                json.dump({"surroundings": facts, "results": results}, file, indent=1)

    for row in rows:
        for toolkit, package in TOOLKITS.items():
            if not versions.get(package) or (package == "scimba" and row not in ROWS):
                continue
            for seed in seeds:
                try:
                    keep(alone(toolkit, row, seconds, seed, processor))
                except Exception as error:  # one failure must not cost the rest of the table
                    name = f"{type(error).__name__}: {error}"
                    keep({"row": row, "toolkit": toolkit, "seed": seed, "failed": name})
        own = [r["error"] for r in results if r["row"] == row and r["toolkit"] == "pinnflow" and "error" in r]
        if own and row in ROWS:
            target = max(FLOOR, *own)
            found = time_to(row, target, lambda u, row=row: error_of(row, lambda p: u(*p.T)), processor)
            keep({"row": row, "classical": True, **found})
    return results


def table(results: list[dict]) -> str:
    """Markdown: the worst error and the longest time over the seeds."""
    lines = ["| problem | solved by | relative L2 error | seconds |", "|---|---|---|---|"]
    for row in dict.fromkeys(r["row"] for r in results):
        for toolkit in dict.fromkeys(r["toolkit"] for r in results if r["row"] == row):
            runs = [r for r in results if r["row"] == row and r["toolkit"] == toolkit]
            if any("failed" in r for r in runs):
                lines.append(f"| {PROBLEMS[row].title} | {toolkit} | failed | |")
                continue
            error, seconds = max(r["error"] for r in runs), max(r["seconds"] for r in runs)
            took = f"{seconds:.0f}" if seconds >= 9.5 else f"{seconds:.2g}"
            lines.append(f"| {PROBLEMS[row].title} | {toolkit} | {error:.0e} | {took} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="wall time of each peer")
    parser.add_argument("--rows", default=",".join(map(str, PROBLEMS)), help="separated by commas")
    parser.add_argument("--seeds", default="0,1", help="numbers, separated by commas")
    parser.add_argument("--processor", action="store_true", help="count processor time of one thread, not wall time")
    parser.add_argument("--json", help="file for the results")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    rows = [int(row) if row.isdigit() else row for row in arguments.rows.split(",")]
    print(table(compare(arguments.seconds, seeds, arguments.json, arguments.processor, rows)))


if __name__ == "__main__":
    main()
