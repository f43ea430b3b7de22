"""Which methods are tried, in what order, and why: decided from the structure of the problem alone."""

from __future__ import annotations

from dataclasses import dataclass

from pinnflow.methods.base import Task
from pinnflow.methods.form import semidiscrete_form

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
        if axes <= DENSE_DIMENSION:
            if evolves:
                return Choice(
                    ("least squares", "evolution"),
                    f"linear in {_fields(problem)} with {_axes(problem)}, so one least-squares solve on "
                    "features in space and time; integration in time if that is not enough",
                    1e-9,
                )
            return Choice(
                ("least squares",) if axes < DENSE_DIMENSION else ("least squares", "network"),
                f"linear in {_fields(problem)} with {_axes(problem)}, so one least-squares solve on features",
            )
        if evolves and space <= DENSE_DIMENSION:
            return Choice(
                ("evolution", "network"),
                f"linear evolution in {space} space dimensions, so features in space and integration in time",
            )
        if axes <= DENSE_DIMENSION + 1:
            return Choice(("least squares", "network"), f"linear with {_axes(problem)}")
        return Choice(("network",), f"{axes} coordinates are too many for one dense system of features")
    if evolves and space <= DENSE_DIMENSION:
        later = ("newton",) if axes <= DENSE_DIMENSION else ("network",)
        return Choice(
            ("evolution", *later),
            f"nonlinear evolution in {space} space dimension{'s' if space != 1 else ''}, so features in space "
            "and implicit integration in time",
        )
    why = f" ({form})" if problem.time is not None and isinstance(form, str) else ""
    if axes <= DENSE_DIMENSION:
        return Choice(("newton", "network"), f"nonlinear with {_axes(problem)}{why}, so Newton's method on features")
    return Choice(("network",), f"nonlinear with {axes} coordinates{why}, so a network")


def _fields(problem):
    return ", ".join(f.func.__name__ for f in problem.fields)


def _axes(problem):
    count = len(problem.columns)
    return f"{count} coordinate{'s' if count != 1 else ''}"
