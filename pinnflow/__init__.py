"""Declare a partial differential equation in sympy, fit it, and get a solution that says how far it can be trusted.

Public names are resolved when they are first used, so that importing `pinnflow` loads neither torch nor sympy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pinnflow.compiled import compile
    from pinnflow.declare.domain import Ball, Gaussian, Points
    from pinnflow.declare.operators import (
        biharmonic,
        curl,
        div,
        dot,
        grad,
        hessian,
        laplacian,
        norm_squared,
        normal_derivative,
    )
    from pinnflow.declare.problem import Problem
    from pinnflow.declare.rewrite import manufacture
    from pinnflow.declare.statements import Bounds, Condition, Observations
    from pinnflow.declare.symbols import coordinates, field
    from pinnflow.errors import (
        DamagedFile,
        DeclarationError,
        IllPosedProblem,
        MissingExtra,
        NoExactFamily,
        NonFinite,
        NotYet,
        OutsideDomain,
        PinnflowError,
        UnknownName,
        UnsupportedDeclaration,
    )
    from pinnflow.solution.declaration import decode_problem, encode_problem
    from pinnflow.solution.solution import Solution
    from pinnflow.solution.storage import load
    from pinnflow.trial.exact import exact_family

__version__ = "0.1.0"

_HOMES = {
    "pinnflow.compiled": ["compile"],
    "pinnflow.declare.domain": ["Ball", "Gaussian", "Points"],
    "pinnflow.declare.operators": [
        "biharmonic",
        "curl",
        "div",
        "dot",
        "grad",
        "hessian",
        "laplacian",
        "norm_squared",
        "normal_derivative",
    ],
    "pinnflow.declare.problem": ["Problem"],
    "pinnflow.declare.rewrite": ["manufacture"],
    "pinnflow.declare.statements": ["Bounds", "Condition", "Observations"],
    "pinnflow.declare.symbols": ["coordinates", "field"],
    "pinnflow.errors": [
        "DamagedFile",
        "DeclarationError",
        "IllPosedProblem",
        "MissingExtra",
        "NoExactFamily",
        "NonFinite",
        "NotYet",
        "OutsideDomain",
        "PinnflowError",
        "UnknownName",
        "UnsupportedDeclaration",
    ],
    "pinnflow.solution.solution": ["Solution"],
    "pinnflow.solution.declaration": ["decode_problem", "encode_problem"],
    "pinnflow.solution.storage": ["load"],
    "pinnflow.trial.exact": ["exact_family"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Ball",
    "Bounds",
    "Condition",
    "DamagedFile",
    "DeclarationError",
    "Gaussian",
    "IllPosedProblem",
    "MissingExtra",
    "NoExactFamily",
    "NonFinite",
    "NotYet",
    "Observations",
    "OutsideDomain",
    "PinnflowError",
    "Points",
    "Problem",
    "Solution",
    "UnknownName",
    "UnsupportedDeclaration",
    "biharmonic",
    "compile",
    "coordinates",
    "curl",
    "decode_problem",
    "div",
    "dot",
    "encode_problem",
    "exact_family",
    "field",
    "grad",
    "hessian",
    "laplacian",
    "load",
    "manufacture",
    "norm_squared",
    "normal_derivative",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module `pinnflow` has no attribute `{name}`; public names: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
