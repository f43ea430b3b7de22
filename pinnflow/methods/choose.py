"""Which methods are tried, in what order, and why: decided from the structure of the problem alone."""

from __future__ import annotations

from dataclasses import dataclass

from pinnflow.methods import exact_features, galerkin
from pinnflow.methods.base import Task
from pinnflow.methods.form import semidiscrete_form

SMALL_ERROR = 1e-9  # an estimate below it ends the search among methods for linear problems
DENSE_DIMENSION = 3  # axes that one system of features in all of them resolves


@dataclass(frozen=True)
class Choice:
    """Methods in the order they are tried, and the reason as a sentence.

    Attributes:
        methods: names; a later one is tried when an earlier one is not good enough.
        reason: what in the problem decided it.
        good_enough: a later method is not tried when the error estimate is below this.
    """

    methods: tuple[str, ...]
    reason: str
    good_enough: float = 1e-2


def choose(task: Task) -> Choice:
    """The choice for a task without a `method` option."""
    problem = task.problem
    axes = task.dimension
    if task.network is not None:
        return Choice(("network",), "a network was given")
    if problem.unknowns:
        names = ", ".join(sorted(map(str, problem.unknowns)))
        if any(block.kind == "observation" for block in problem.blocks):
            return Choice(
                ("inverse", "network"),
                f"coefficients ({names}) are to be found from observations, so Gauss-Newton on forward solutions",
                0.5,
            )
        return Choice(("network",), f"coefficients ({names}) are to be found, so they are trained with a network")
    form = semidiscrete_form(task)
    evolves = not isinstance(form, str)
    space = axes - 1
    if task.linear:
        return choose_linear(task, evolves)
    if evolves and space <= DENSE_DIMENSION:
        later = ("newton",) if axes <= DENSE_DIMENSION else ("network",)
        return Choice(
            ("evolution", *later),
            f"nonlinear evolution in {space} space dimension{'s' if space != 1 else ''}, so features in space "
            "and implicit integration in time",
        )
    why = f" ({form})" if problem.time is not None and isinstance(form, str) else ""
    if axes <= DENSE_DIMENSION:
        if galerkin.obstacle(task) is None:
            return Choice(
                ("galerkin", "newton", "network"),
                f"nonlinear with {_axes(problem)} and conditions on whole faces, so Newton's method on products of "
                "splines; on features or a network if that fails",
                1e-4,
            )
        return Choice(("newton", "network"), f"nonlinear with {_axes(problem)}{why}, so Newton's method on features")
    return Choice(("network",), f"nonlinear with {axes} coordinates{why}, so a network")


def choose_linear(task: Task, evolves: bool) -> Choice:
    """Exact solutions where the equation has them, then features in all coordinates, then integration in time."""
    problem, axes = task.problem, task.dimension
    what = f"linear in {_fields(problem)} with {_axes(problem)}"
    later: list[str] = []
    if axes <= DENSE_DIMENSION + 1 and galerkin.obstacle(task) is None:
        later.append("galerkin")
    if axes <= DENSE_DIMENSION or (axes == DENSE_DIMENSION + 1 and not evolves):
        later.append("least squares")
    if evolves and axes - 1 <= DENSE_DIMENSION:
        later.append("evolution")
    if axes >= DENSE_DIMENSION and not (evolves and axes == DENSE_DIMENSION):
        later.append("network")
    if axes <= DENSE_DIMENSION + 1 and exact_features.applies(task) is None:
        return Choice(
            ("exact features", *later),
            f"{what} and coefficients that are constant, so features that solve the equation and only the conditions "
            f"are fitted{_otherwise(later)}",
            SMALL_ERROR,
        )
    if later[0] == "galerkin":
        how = "so products of splines with the conditions built in"
    elif later[0] == "least squares":
        how = "so one least-squares solve on features" + (" in space and time" if problem.time is not None else "")
    elif later[0] == "evolution":
        how = "so features in space and integration in time"
    else:
        how = "too many for one dense system of features, so a network"
    return Choice(tuple(later), f"{what}, {how}{_otherwise(later[1:])}", SMALL_ERROR if len(later) > 1 else 1e-2)


def _otherwise(later):
    return f"; {' or '.join(later)} if that is not enough" if later else ""


def _fields(problem):
    return ", ".join(f.func.__name__ for f in problem.fields)


def _axes(problem):
    count = len(problem.columns)
    return f"{count} coordinate{'s' if count != 1 else ''}"
