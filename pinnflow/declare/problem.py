"""`Problem`: the whole declaration, frozen; the arguments are checked by `gate.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import sympy
from sympy import Expr, Symbol
from sympy.core.function import AppliedUndef

from pinnflow.declare import gate
from pinnflow.declare.analysis import Block
from pinnflow.declare.statements import Bounds, Condition, Observations, _Frozen

if TYPE_CHECKING:
    from pinnflow.declare.check import Report
    from pinnflow.solution.solution import Solution

__all__ = ["Bounds", "Condition", "Observations", "Problem"]


class Problem(_Frozen):
    """Equations for unknown fields on a domain, with conditions: `left - right = 0` in every statement.

    Args:
        equations: `Eq` or expressions meaning `= 0`. All functions of coordinates in them are the unknown fields.
        domain: `{coordinate: (low, high)}`. A coordinate in which nothing is differentiated is a parameter axis.
        conditions: `Eq` whose fields are pinned by numbers, or `Condition`.
        where: relation that cuts a region out of the box (refused in words by this release).
        unknowns: `{Symbol: initial value or Bounds(low, high)}` of coefficients to be found.
        observations: measured values.
        time: the time coordinate; by default the one named `t`.
        exact: the solution, an expression or `{field: expression}`, for tests and plots.
        name: a name for messages and files.

    Attributes:
        coordinates: in the order of `domain`.
        columns: the scalar columns of an array of points: a vector coordinate counts as its components.
        fields: the unknown functions, equation by equation, by name within one.
        domain: `{coordinate: (low, high)}` in sympy numbers.
        bounds: `{column: (low, high)}` in floats.
        ends: `{column: (low, high)}` in sympy numbers.
        blocks: the residual blocks of equations, conditions and observations, in this order.
        snapped: by condition, the pins that were taken for an end of the domain although they differ a little.
        arguments: what was given, so that `Problem(**problem.arguments)` is the same problem.

    Raises:
        DeclarationError: listing every statement that cannot be used.

    Example:
        >>> from pinnflow import Problem, coordinates, field
        >>> from sympy import Eq, pi, sin
        >>> t, x = coordinates("t x")
        >>> u = field("u", t, x)
        >>> Problem([Eq(u.diff(t), u.diff(x, 2))], {t: (0, 1), x: (0, 1)},
        ...         [Eq(u.subs(t, 0), sin(pi * x)), Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), 0)], name="heat")
        Problem 'heat': 1 equation and 3 conditions for u(t, x)
    """

    equations: tuple
    conditions: tuple
    observations: tuple[Observations, ...]
    domain: Mapping[Symbol, tuple[Expr, Expr]]
    coordinates: tuple[Symbol, ...]
    columns: tuple[Symbol, ...]
    ends: Mapping[Symbol, tuple[Expr, Expr]]
    bounds: Mapping[Symbol, tuple[float, float]]
    fields: tuple[AppliedUndef, ...]
    time: Symbol | None
    unknowns: Mapping[Symbol, float | Bounds]
    exact: Mapping[AppliedUndef, Expr] | None
    name: str | None
    blocks: tuple[Block, ...]
    arguments: Mapping[str, Any]
    snapped: Mapping[str, tuple]

    def __init__(
        self,
        equations: Iterable[Any],
        domain: Mapping[Any, Any],
        conditions: Iterable[Any] = (),
        *,
        where: Any = None,
        unknowns: Mapping[Any, Any] | None = None,
        observations: Iterable[Observations] = (),
        time: Symbol | None = None,
        exact: Any = None,
        name: str | None = None,
    ):
        it = gate.read(equations, domain, conditions, where, unknowns, observations, time, exact, name)
        self._store(
            equations=it.equations,
            conditions=it.conditions,
            observations=it.observations,
            domain=MappingProxyType(it.domain),
            coordinates=tuple(it.domain),
            columns=it.columns,
            ends=MappingProxyType(it.ends),
            bounds=MappingProxyType({c: (float(low), float(high)) for c, (low, high) in it.ends.items()}),
            fields=it.fields,
            time=it.time,
            unknowns=MappingProxyType(it.unknowns),
            exact=None if it.exact is None else MappingProxyType(it.exact),
            name=name,
            blocks=it.blocks,
            snapped=MappingProxyType(it.snapped),
        )
        self._store(
            arguments=MappingProxyType(
                {
                    "equations": self.equations,
                    "domain": dict(self.domain),
                    "conditions": self.conditions,
                    "where": None,
                    "unknowns": dict(self.unknowns),
                    "observations": self.observations,
                    "time": time,
                    "exact": None if self.exact is None else dict(self.exact),
                    "name": name,
                }
            )
        )

    def with_(self, **changes: Any) -> Problem:
        """A copy with some arguments replaced, e.g. `problem.with_(domain={...}, name="longer")`.

        Raises:
            TypeError: an argument that `Problem` does not have.
            DeclarationError: the changed declaration cannot be used.
        """
        unknown = sorted(set(changes) - set(self.arguments))
        if unknown:
            choices = ", ".join(sorted(self.arguments))
            raise TypeError(f"`with_` has no argument `{unknown[0]}`; choose from: {choices}.")
        return Problem(**{**self.arguments, **changes})

    def check(self) -> Report:
        """What is missing, surplus or contradictory in the declaration as a whole; never raises."""
        return self._report

    @cached_property
    def _report(self):
        from pinnflow.declare.check import report  # the checks look at finished problems only

        return report(self)

    def fit(
        self,
        method: str = "auto",
        *,
        tolerance: float | None = None,
        time_limit: float | None = None,
        seed: int = 0,
        device: Any = None,
        dtype: Any = None,
        network: Any = None,
        points: Any = None,
        progress: Any = None,
        checkpoint: Any = None,
        resume: bool = False,
        callbacks: Iterable[Any] = (),
    ) -> Solution:
        """The solution, with an estimate of its error.

        Args:
            method: a registered name, or `"auto"`, which looks at the structure and says why.
            tolerance: relative error to reach; None improves until the estimate stalls or a minute has passed.
            time_limit: seconds, kept within 10 % plus start-up.
            seed: of all random numbers; the same seed gives the same digits.
            device: torch device.
            dtype: torch dtype; float64 by default.
            network: an `nn.Module` or a registered name, for the methods that train one.
            points: number of points for each equation.
            progress: None shows progress on a terminal, True always, False never; or a callable that gets a dict.
            checkpoint: file to write intermediate states to.
            resume: continue from `checkpoint`.
            callbacks: callables that get each report.

        Returns:
            A `Solution`; Ctrl-C returns what there is.

        Raises:
            IllPosedProblem: conditions contradict each other, or initial data are missing.
        """
        from pinnflow.fit import fit  # the one import upwards: methods need torch, a declaration does not

        return fit(
            self,
            method,
            tolerance=tolerance,
            time_limit=time_limit,
            seed=seed,
            device=device,
            dtype=dtype,
            network=network,
            points=points,
            progress=progress,
            checkpoint=checkpoint,
            resume=resume,
            callbacks=callbacks,
        )

    def _content(self):
        exact = None if self.exact is None else tuple(self.exact.items())
        return (
            self.equations,
            tuple(self.domain.items()),
            self.conditions,
            tuple(self.unknowns.items()),
            self.observations,
            self.time,
            exact,
            self.name,
        )

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        fields = ", ".join(map(str, self.fields))
        counts = f"{_count(self.equations, 'equation')} and {_count(self.conditions, 'condition')}"
        return f"Problem{name}: {counts} for {fields}"

    def _repr_latex_(self) -> str:
        """All statements, one a line, and the domain."""
        lines = [_latex_of(e) for e in self.equations]
        lines += [_latex_of(c) for c in self.conditions]
        lines += [
            rf"{sympy.latex(c)} &\in \left[{sympy.latex(low)},\, {sympy.latex(high)}\right]"
            + (rf"^{{{c.dimension}}}" if hasattr(c, "dimension") else "")
            for c, (low, high) in self.domain.items()
        ]
        return "$\\displaystyle \\begin{aligned}" + r" \\ ".join(lines) + "\\end{aligned}$"

    def __reduce__(self):
        return _rebuild, (dict(self.arguments),)


def _rebuild(arguments):
    return Problem(**arguments)


def _count(items, noun):
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _latex_of(statement):
    where = ""
    if isinstance(statement, Condition):
        on, statement = statement.on, statement.eq
        if isinstance(on, Mapping):
            where = r" \quad \text{at } " + ",\\ ".join(f"{sympy.latex(c)} = {sympy.latex(v)}" for c, v in on.items())
        elif on is not None:
            where = (
                r" \quad \text{on the boundary}" if isinstance(on, str) else rf" \quad \text{{on }} {sympy.latex(on)}"
            )
    if isinstance(statement, sympy.Eq):
        return f"{sympy.latex(statement.lhs)} &= {sympy.latex(statement.rhs)}{where}"
    return f"{sympy.latex(statement)} &= 0{where}"
