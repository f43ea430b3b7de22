"""The accuracy table: errors, estimates and times of the rows of `statements.py`, solved with no option given.

Run from the checkout:

    python -m benchmarks.accuracy --rows 1,2,6 --seeds 0,1,2 --json accuracy.json
    python -m benchmarks.accuracy --rows 27 --draws 20    # noisy observations, drawn 20 times
    python -m benchmarks.accuracy --peers    # beside DeepXDE and scimba, see peers.py; needs the extra `bench`

The error is the relative L2 error over all compared fields together on 5,000 fresh points in the domain; where
coefficients are to be found, theirs takes its place (`observed.py`). A file keeps its other rows and seeds.
Errors and estimates below 1e-11 count as 1e-11 in the ratio. The time is from the `Problem` object to the solution.

Where other programs share the machine, wall time says little: with `--processor` the limits that the solver keeps, too,
count the processor time of this process, which with one thread (OMP_NUM_THREADS=1) is the wall time of one core with
nothing else to do. The stored table is made so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.observed import solve_observed
from benchmarks.statements import ROWS, Row
from pinnflow import Problem, Solution
from pinnflow.methods.base import Clock

FLOOR = 1e-11
HEADER = (
    f"{'row':>3}  {'problem':30} {'seed':>4}  {'error':>8} {'target':>7}  {'estimate':>8} {'ratio':>7}  "
    f"{'time':>6} {'limit':>5}  method"
)


def values_error(row: Row, problem: Problem, values: Callable, points: int = 5000, seed: int = 12345) -> float:
    """Relative L2 error over the compared fields on fresh points; `values` of arrays of the coordinates, in order."""
    rng = np.random.default_rng(seed)
    place = [rng.uniform(*problem.bounds[c], points) for c in problem.coordinates]

    def flat(fields):
        fields = fields if isinstance(fields, list | tuple) else [fields]
        return np.concatenate([np.broadcast_to(f, points) for f in fields])

    expected = flat(row.make_reference(problem)(*place))
    return float(np.linalg.norm(flat(values(*place)) - expected) / np.linalg.norm(expected))


def compared(row: Row, problem: Problem) -> list:
    """The fields whose error the row is about."""
    return [f for f in problem.fields if row.compared is None or f.func.__name__ in row.compared]


def relative_error(row: Row, problem: Problem, solution: Solution) -> float:
    """`values_error` of a solution."""
    fields = compared(row, problem)

    def values(*place):
        return [solution.evaluate(f, dict(zip(problem.coordinates, place, strict=True))) for f in fields]

    return values_error(row, problem, values)


def solve_row(row: Row, seed: int, draws: int = 3) -> dict:
    """What one run gives, as JSON; noisy observations are drawn several times."""
    facts = {"row": row.number, "problem": row.title, "seed": seed, "target": row.target, "limit": row.seconds}
    started, busy = time.perf_counter(), time.process_time()
    try:
        if row.observed is not None:
            found = solve_observed(row.declare, row.observed, seed, draws)
            return {**facts, **found, "ratio": max(found["estimate"], FLOOR) / max(found["error"], FLOOR)}
        problem = row.declare()
        started, busy = time.perf_counter(), time.process_time()
        solution = problem.fit(seed=seed)
    except Exception as error:  # one failure must not cost the rest of the table
        return {
            **facts,
            "seconds": time.perf_counter() - started,
            "processor": time.process_time() - busy,
            "failed": f"{type(error).__name__}: {error}",
        }
    seconds, processor = time.perf_counter() - started, time.process_time() - busy
    error = relative_error(row, problem, solution)
    estimate = max(solution[f].error_estimate for f in compared(row, problem))
    return {
        **facts,
        "error": error,
        "estimate": estimate,
        "estimate_of_all_fields": float(solution.error_estimate),
        "ratio": max(estimate, FLOOR) / max(error, FLOOR),
        "seconds": seconds,
        "processor": processor,
        "clock": "processor" if Clock.now is time.process_time else "wall",
        "load": os.getloadavg()[0],
        "method": solution.method,
        "reason": solution.reason,
        "stop": str(solution.stop),
    }


def taken(facts: dict) -> float:
    """Seconds by the clock of the run."""
    return facts["processor" if facts.get("clock") == "processor" else "seconds"]


def line(facts: dict) -> str:
    """One line of the printed table; `!` marks an error above the target, an estimate off by ten, an overrun."""
    head = f"{facts['row']:3}  {facts['problem']:30} {facts['seed']:4}"
    if "failed" in facts:
        return f"{head}  failed after {facts['seconds']:.1f} s: {facts['failed']}"

    def mark(bad):
        return "!" if bad else " "

    return (
        f"{head}  {facts['error']:8.1e}{mark(facts['error'] > facts['target'])}{facts['target']:7.0e}  "
        f"{facts['estimate']:8.1e} {facts['ratio']:7.2g}{mark(not 0.1 <= facts['ratio'] <= 10)} "
        f"{taken(facts):6.1f}{mark(taken(facts) > facts['limit'])}{facts['limit']:5g}  {facts['method']}"
    )


def markdown(results: list[dict], classical: dict[int, dict] | None = None) -> str:
    """The table of the documentation: the worst over the seeds of a row, the ratio that is furthest from 1 for it."""
    lines = [
        "| # | problem | seeds | error | target | estimate / error | seconds | wall | allowed | method |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    if classical is not None:
        lines = [f"{lines[0]} classical solver to that error |", f"{lines[1]}---|"]

    def took(seconds):
        return f"{seconds:.0f}" if seconds >= 9.5 else f"{seconds:.1g}" if seconds < 0.95 else f"{seconds:.1f}"

    for number in sorted({facts["row"] for facts in results}):
        runs = [facts for facts in results if facts["row"] == number]
        head = f"| {number} | {runs[0]['problem']} | {len(runs)} "
        failed = [facts for facts in runs if "failed" in facts]
        if failed:
            lines.append(f"{head}| failed | {failed[0]['target']:.0e} | | | | | {failed[0]['failed']} |")
            continue
        error = max(facts["error"] for facts in runs)
        ratio = max((facts["ratio"] for facts in runs), key=lambda value: abs(np.log(value)))
        cells = [
            f"{error:.0e}",
            f"{runs[0]['target']:.0e}",
            f"{ratio:.2g}",
            took(max(taken(facts) for facts in runs)),
            took(max(facts["seconds"] for facts in runs)),
            f"{runs[0]['limit']:g}",
            ", ".join(dict.fromkeys(facts["method"] for facts in runs)),
        ]
        if classical is not None:
            other = classical.get(number)
            reached = "" if not other or other["reached"] else f" (to {other['error']:.0e})"
            cells.append(f"{took(other['seconds'])} s{reached}, {other['toolkit']}" if other else "")
        lines.append(f"{head}| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios(results: list[dict]) -> str:
    """How far estimates are from the errors: of the problems by the worst of their seeds, and of the runs."""
    runs = [facts for facts in results if "failed" not in facts]
    problems: dict = {}
    for facts in runs:
        low, high = problems.get(facts["problem"], (np.inf, 0.0))
        problems[facts["problem"]] = min(low, facts["ratio"]), max(high, facts["ratio"])
    counted = [("problems", list(problems.values())), ("runs", [(facts["ratio"],) * 2 for facts in runs])]
    return "; ".join(
        f"of {len(pairs)} {what} the estimate is within a factor 10 of the error in "
        f"{sum(low >= 0.1 and high <= 10 for low, high in pairs)}, above ten times it in "
        f"{sum(high > 10 for _, high in pairs)}, below a tenth of it in {sum(low < 0.1 for low, _ in pairs)}"
        for what, pairs in counted
    )


def stored(name: str) -> list[dict]:
    """The results in a file beside this module; none where there is no such file."""
    path = Path(__file__).with_name(name)
    return json.loads(path.read_text())["results"] if path.exists() else []


def surroundings() -> dict:
    """Versions and machine, for the file."""
    packages = ("pinnflow-pde", "torch", "numpy", "scipy", "sympy")
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except ImportError:  # run from a checkout that is not installed
            versions[package] = None
    return {"python": platform.python_version(), **versions, "machine": platform.machine(), "cores": os.cpu_count()}


def merge(path: str, results: list[dict]) -> dict:
    """The content of a file with `results` in it: other rows and seeds stay, with the versions they were made with."""
    now = surroundings()
    kept = []
    if os.path.exists(path):
        with open(path) as file:
            before = json.load(file)
        fresh = {(facts["row"], facts["seed"]) for facts in results}
        kept = [facts for facts in before["results"] if (facts["row"], facts["seed"]) not in fresh]
        if before["surroundings"] != now:
            kept = [{"surroundings": before["surroundings"], **facts} for facts in kept]
    return {"surroundings": now, "results": sorted(kept + results, key=lambda facts: (facts["row"], facts["seed"]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(map(str, sorted(ROWS))), help="numbers, separated by commas")
    parser.add_argument("--seeds", default="0", help="numbers, separated by commas")
    parser.add_argument("--draws", type=int, default=3, help="of noisy observations; 20 in the stored table")
    parser.add_argument("--json", help="file for the results; those of other rows and seeds stay in it")
    parser.add_argument("--processor", action="store_true", help="count processor time, for a machine that is shared")
    parser.add_argument("--show", action="store_true", help="run nothing; print the stored table")
    parser.add_argument("--peers", action="store_true", help="rows 1, 6 and 11 beside other toolkits (extra `bench`)")
    arguments = parser.parse_args()
    if arguments.processor:
        Clock.now = staticmethod(time.process_time)
    if arguments.show:
        results = stored("accuracy.json")
        print(markdown(results, {facts["row"]: facts for facts in stored("classical.json")}))
        print(
            "\n" + ratios(results), "With the invented problems: " + ratios(results + stored("invented.json")), sep="\n"
        )
        return
    if arguments.peers:
        from benchmarks import peers  # which reads this module

        print(peers.table(peers.compare(60, [int(seed) for seed in arguments.seeds.split(",")], arguments.json)))
        return

    chosen = [int(number) for number in arguments.rows.split(",")]
    if missing := sorted(set(chosen) - set(ROWS)):
        parser.error(f"there is no row {missing[0]}; choose from {', '.join(map(str, sorted(ROWS)))}")
    print(HEADER, flush=True)
    results = []
    for number in chosen:
        for seed in map(int, arguments.seeds.split(",")):
            results.append(solve_row(ROWS[number], seed, arguments.draws))
            print(line(results[-1]), flush=True)
            if arguments.json:  # after each run: an interrupted table keeps what it has
                content = merge(arguments.json, results[-1:])
                with open(arguments.json, "w") as file:
                    json.dump(content, file, indent=1)


if __name__ == "__main__":
    main()
