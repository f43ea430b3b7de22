"""Families of functions that satisfy an equation identically (to come)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnflow.errors import NotYet

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem


def exact_family(problem: Problem, members: int = 1, features: int = 64):
    """An `nn.Module` that satisfies the equations identically: `[n, coordinates]` in, `[n, members]` out.

    Args:
        problem: a declared problem.
        members: number of functions.
        features: size of the basis of each.

    Raises:
        NotYet: always, in this release.
    """
    raise NotYet(
        f"`exact_family` of {problem.name or 'this problem'} comes with a later release. Use "
        "`pinnflow.compile(problem)` to satisfy the equations in the least-squares sense, or `problem.fit()`."
    )
