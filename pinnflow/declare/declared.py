"""What the gate passes around while it reads a declaration, and how one wrong statement is reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Symbol
from sympy.core.function import AppliedUndef

from pinnflow.declare.analysis import Block
from pinnflow.declare.statements import Condition, Observations


@dataclass
class Declared:
    """What the gate has read; `Problem` keeps these as attributes."""

    domain: dict[Symbol, tuple[Expr, Expr]]
    columns: tuple[Symbol, ...]
    ends: dict[Symbol, tuple[Expr, Expr]]
    time: Symbol | None
    equations: tuple
    conditions: tuple
    unknowns: dict[Symbol, object]
    observations: tuple[Observations, ...]
    fields: tuple[AppliedUndef, ...] = ()
    exact: dict[AppliedUndef, Expr] | None = None
    blocks: tuple[Block, ...] = ()
    snapped: dict[str, tuple] = field(default_factory=dict)


class Wrong(Exception):
    """One mistake of the statement at hand; `read` adds the name of the statement."""

    def __init__(self, message, remedy, code, unsupported=False):
        super().__init__(message)
        self.arguments = (message, remedy, code, unsupported)


def calls_in(statement) -> list[AppliedUndef]:
    """The undefined functions in a statement, in the order in which sympy prints them."""
    if isinstance(statement, Condition):
        statement = statement.eq
    if isinstance(statement, Observations):
        statement = statement.expression
    if not isinstance(statement, sympy.Basic):
        return []
    calls = statement.atoms(AppliedUndef)
    return [node for node in sympy.preorder_traversal(statement) if node in calls] if len(calls) > 1 else list(calls)


def stranger(it: Declared, symbol: Symbol, where: str) -> tuple[str, str, str]:
    """Message, remedy and code for a symbol that is neither coordinate nor unknown, or a namesake of one."""
    known = {s.name: s for s in (*it.columns, *it.domain, *it.unknowns)}
    other = known.get(symbol.name)
    if other is not None:
        return (
            f"{where} uses the symbol `{sympy.srepr(symbol)}`, but the declared one is `{sympy.srepr(other)}`; sympy "
            "takes symbols with the same name and other assumptions for different ones.",
            f'Make the symbol once, `{symbol.name} = coordinates("{symbol.name}")`, and use it everywhere.',
            "namesake",
        )
    return (
        f"{where} uses the symbol `{symbol}`, which is neither a coordinate nor an unknown.",
        f"Substitute a number, or declare it: `unknowns={{{symbol}: 1.0}}` to find it, `domain={{..., {symbol}: (low, "
        "high)}` for a parameter axis.",
        "undeclared",
    )


def real(value: Any) -> float | None:
    """The finite real number a value stands for, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None
