"""The report about a declaration as a whole: `problem.check()`.

Single statements were checked when the problem was made; here they are looked at together. Nothing raises except
`raise_if_ill_posed`, which a fit calls first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnflow.declare import check_conditions, check_equations  # noqa: F401 - importing them registers the checks
from pinnflow.declare.findings import CHECKS, Finding, Report
from pinnflow.errors import IllPosedProblem

if TYPE_CHECKING:
    from pinnflow.declare.problem import Problem

__all__ = ["Finding", "Report", "raise_if_ill_posed", "report"]

_RANK = {"error": 0, "warning": 1, "note": 2}


def report(problem: Problem) -> Report:
    """All findings about a problem, errors first, in the order of the checks."""
    found = [finding for check in CHECKS.values() for finding in check(problem)]
    return Report(tuple(sorted(found, key=lambda f: _RANK[f.level])), problem.name)


def raise_if_ill_posed(problem: Problem) -> None:
    """Raises when the problem cannot have one solution.

    Raises:
        IllPosedProblem: conditions contradict each other, or initial data are missing of a field that no observation
            reaches; the message lists every error.
    """
    errors = problem.check().errors
    if errors:
        name = f"{problem.name}: " if problem.name else ""
        raise IllPosedProblem(name + "\n".join(f"{e.statement}: {e.message}\n  {e.remedy}" for e in errors))
