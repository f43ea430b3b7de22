"""The command line: `pinnflow list | show | solve | plot | info | traverse`.

A thin layer over the public names: it finds the problem (source.py), calls `fit`, and says what happened. Exit codes:
0 solved, 1 not solved or not to the asked tolerance, 2 bad input. Errors of pinnflow's own are told in words; what a
user's file raises is shown from the user's first line on. Imports stand where they are used, so that `--help` waits for
neither sympy nor torch, and `list` not for torch.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pinnflow import __version__
from pinnflow.errors import NonFinite, NothingToDraw, NotSolved, NotYet, PinnflowError
from pinnflow.latent.traverse import HELP

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem
    from pinnflow.solution.solution import Solution

SOLVED, NOT_SOLVED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Solve a partial differential equation written in sympy, with an estimate of the error.",
)

Source = Annotated[str, typer.Argument(metavar="NAME-or-FILE.py", help="A name of `pinnflow list`, or your own file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the equation: speed=2, length=1/3. Repeatable."),
]
Points = Annotated[int | None, typer.Option(metavar="N", min=1, help="Points for each equation.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go; made if missing.")]
File = Annotated[Path, typer.Argument(metavar="FILE.h5", help="A file that `solve` or `Solution.save` wrote.")]


def main() -> None:
    """Runs the program; the process ends with its exit code."""
    app(prog_name="pinnflow")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit(SOLVED)


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command("list")
def list_equations() -> None:
    """The equations that have a name, with their settings."""
    import inspect

    import pdes

    for name, function in sorted(pdes.ALL.items()):
        title = (inspect.getdoc(function) or "").split("\n", 1)[0]
        settings = [
            p.name if p.default is p.empty else f"{p.name}={_short(p.default)}"
            for p in inspect.signature(function).parameters.values()
        ]
        typer.secho(name, bold=True, nl=False)
        typer.echo(f"  {title}")
        for setting in settings:
            typer.echo(f"    --set {setting}")


@app.command()
def show(source: Source, settings: Settings = None, points: Points = None) -> None:
    """What a problem says, in plain text and LaTeX; what the check finds; which derivatives it needs and how."""
    with _in_words():
        from pinnflow.source import find_problem

        problem, name = find_problem(source, settings or ())
        _heading(problem.name or name)
        for line in _statements(problem):
            typer.echo(line)
        _heading("LaTeX")
        typer.echo(_latex(problem))
        _heading("Check")
        findings = problem.check()
        typer.echo(str(findings))
        if findings.errors:
            raise typer.Exit(BAD_INPUT)
        _heading("Derivatives")
        import pinnflow

        typer.echo(str(pinnflow.compile(problem, points=points).plan))


@app.command()
def solve(
    source: Source,
    settings: Settings = None,
    method: Annotated[str, typer.Option(metavar="NAME", help="The method; `auto` chooses and says why.")] = "auto",
    tolerance: Annotated[
        float | None, typer.Option(metavar="E", help="Relative error to reach; exit code 1 if it is not.")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", help="Longest time to compute.")] = None,
    points: Points = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1 ...")] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The same seed gives the same digits.")] = 0,
    output: Output = Path(),
) -> None:
    """Solve, say what was decided and how large the error is, and write NAME.h5 and NAME.png."""
    with _in_words():
        from pinnflow.solution.report import report
        from pinnflow.source import find_problem

        for option, value in (("--tolerance", tolerance), ("--time-limit", time_limit)):
            if value is not None and not 0 < value < math.inf:
                _refuse(f"`{option} {value:g}`: expected a positive number.")
        problem, name = find_problem(source, settings or ())
        _make_directory(output)  # before the work, not after it
        for warning in problem.check().warnings:
            typer.secho(f"warning: {warning}", fg="yellow", err=True)
        started = time.perf_counter()
        solution = problem.fit(
            method=method, tolerance=tolerance, time_limit=time_limit, points=points, device=device, seed=seed
        )
        elapsed = time.perf_counter() - started
        written = [str(solution.save(output / f"{name}.h5"))]  # first: what is saved survives all that follows
        typer.echo(report(solution, elapsed))
        written += _picture(solution, output / f"{name}.png")
        _fact("wrote", ", ".join(written))
        if tolerance is not None and not solution.error_estimate <= tolerance:
            _complain(f"The estimate {solution.error_estimate:.2g} is above the tolerance {tolerance:g}.")
            raise typer.Exit(NOT_SOLVED)
        if not solution.success:
            raise typer.Exit(NOT_SOLVED)


@app.command()
def plot(
    file: File,
    output: Output = Path(),
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="`surface` draws a landscape.")] = None,
) -> None:
    """Draw a saved solution as NAME.png."""
    with _in_words():
        solution = _load(file)
        _make_directory(output)
        path = output / f"{file.stem}.png"
        solution.plot(path, **({} if kind is None else {"kind": kind}))
        _fact("wrote", str(path))


@app.command()
def info(file: File) -> None:
    """What a file holds: the problem, how it was solved, how far it can be trusted, and by which versions."""
    with _in_words():
        from pinnflow.solution.report import report

        solution = _load(file)
        for line in _statements(solution.problem):
            typer.echo(line)
        typer.echo(report(solution))
        for key, value in solution.settings.items():
            _fact(key, str(value))
        _fact("seed", str(solution.seed))
        _fact("versions", ", ".join(f"{library} {version}" for library, version in solution.versions.items()))


@app.command()
def traverse(
    data: Annotated[str | None, typer.Option(metavar="NAME-or-FILE.npz", help=HELP["data"])] = None,
    generator: Annotated[str | None, typer.Option(metavar="NAME-or-FILE", help=HELP["generator"])] = None,
    latent_dim: Annotated[int | None, typer.Option(metavar="N", min=1, help=HELP["latent_dim"])] = None,
    pde: Annotated[
        str, typer.Option(metavar="NAME-or-FILE.py", help=f"{HELP['pde']} Or your own file, as for `solve`.")
    ] = "wave",
    potentials: Annotated[int, typer.Option(metavar="N", min=1, help=HELP["potentials"])] = 6,
    iterations: Annotated[int | None, typer.Option(metavar="N", min=1, help=HELP["iterations"])] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help=HELP["seed"])] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help=HELP["output"])] = Path(),
    quick: Annotated[bool, typer.Option("--quick", help=HELP["quick"])] = False,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help=HELP["device"])] = None,
    checkpoint: Annotated[Path | None, typer.Option(metavar="FILE", help=HELP["checkpoint"])] = None,
    resume: Annotated[bool, typer.Option("--resume", help=HELP["resume"])] = False,
) -> None:
    """Walk through the latent space of a generator of images, along learned potentials that obey an equation.

    With no option a small VAE learns scikit-learn's digits. Writes strips and landscape as PNG and GIF, the comparison
    with simpler methods, a table of measures, the flow, and traversal.h5, from which all pictures can be drawn again.
    """
    with _in_words():
        from pinnflow.latent.traverse import Tour, explore

        equation: Any = pde
        if pde.endswith(".py"):
            from pinnflow.source import find_problem

            equation, _ = find_problem(pde)
        tour = Tour(
            data,
            generator,
            latent_dim,
            equation,
            potentials,
            iterations,
            seed,
            output,
            quick,
            device,
            checkpoint,
            resume,
        )
        try:
            found = explore(tour, typer.echo)
        except KeyboardInterrupt:
            if checkpoint is None or not checkpoint.exists():
                raise
            _complain(f"Interrupted; the same command with `--resume` goes on from `{checkpoint}`.")
            raise typer.Exit(INTERRUPTED) from None
        _fact("wrote", ", ".join(map(str, found.written)))


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Tells pinnflow's own errors, and those of the file system, without a traceback."""
    try:
        yield
    except (NonFinite, NotSolved) as error:  # trouble in the numbers, not in the input
        _complain(str(error))
        raise typer.Exit(NOT_SOLVED) from None
    except (PinnflowError, OSError) as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        _complain("Interrupted before there was anything to save.")
        raise typer.Exit(INTERRUPTED) from None


def _refuse(message: str) -> NoReturn:
    _complain(message)
    raise typer.Exit(BAD_INPUT)


def _complain(message: str) -> None:
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(message, err=True)


def _heading(text: str) -> None:
    typer.secho(text, bold=True)


def _fact(name: str, value: str) -> None:
    typer.echo(f"  {name:<11} {value}")  # the columns of solution/report.py


def _statements(problem: Problem) -> Iterator[str]:
    """The problem as a person would write it: one line a statement, under the names that messages use."""
    from pinnflow.declare.notation import written

    for block in problem.blocks:
        yield f"  {block.name:<14} {_written(block.statement, problem)}"
    for coordinate, extent in problem.domain.items():
        ends = f"from {extent[0]} to {extent[1]}" if isinstance(extent, tuple) and len(extent) == 2 else str(extent)
        yield f"  {coordinate!s:<14} {ends}"
    for symbol, start in problem.unknowns.items():
        yield f"  {symbol!s:<14} to be found, from {start}"
    for field, exact in (problem.exact or {}).items():
        yield f"  {f'exact {field.func.__name__}':<14} {written(exact, problem.fields)}"


def _written(statement: Any, problem: Problem) -> str:
    import sympy

    from pinnflow.declare.notation import written

    equation = getattr(statement, "eq", statement)
    place = getattr(statement, "on", None)
    if isinstance(equation, sympy.Eq):
        text = f"{written(equation.lhs, problem.fields)} = {written(equation.rhs, problem.fields)}"
    else:
        text = written(equation, problem.fields)
    return text if place is None else f"{text}   on {place}"


def _latex(problem: Problem) -> str:
    """The formula to paste between the dollars of a paper, one statement a line."""
    text = problem._repr_latex_().strip("$ ").removeprefix(r"\displaystyle").strip()
    return text.replace(r" \\ ", " \\\\\n")


def _short(value: Any) -> str:
    """A default as it would be typed after `--set`."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))})"
    return "".join(str(value).split())


def _load(file: Path) -> Solution:
    import pinnflow

    if not file.is_file():
        _refuse(f"There is no file `{file}`.")
    return pinnflow.load(file)


def _make_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        _refuse(f"Nothing can be written to the directory `{path}`.")


def _picture(solution: Solution, path: Path) -> list[str]:
    """The picture's path; a solution that no picture shows is still solved and saved."""
    try:
        solution.plot(path)
    except (NotYet, NothingToDraw) as error:
        _fact("no picture", str(error))
        return []
    return [str(path)]
