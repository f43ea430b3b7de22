"""What `fit` returns: a function of named coordinates that says how far it can be trusted.

A `Solution` is immutable data: the declaration, the fitted trial, and what is known about its error. Evaluation lives
in `evaluation.py`, the content of files in `archive.py`, pictures in `plotting.py`, other formats in `export.py`, the
printed report in `report.py`.
"""

from __future__ import annotations

import html
import importlib.metadata
import math
import platform
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy
from sympy.core.function import AppliedUndef

from pinnflow.errors import MissingName, UnknownName
from pinnflow.solution import archive, container, evaluation
from pinnflow.solution.report import WIDTH, digits, error_in_words, errors_by_field
from pinnflow.trial.registry import Trial

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray

# A relative error above this is no solution, whatever the fit was asked for.
SOLVED = 1e-2


@dataclass(frozen=True)
class Estimate:
    """An unknown coefficient that was found.

    Attributes:
        value: the estimate; `float(estimate)` returns it.
        standard_error: its standard deviation, NaN where it is not known.
        interval: `(low, high)` that holds the true value with 95 %; from the standard error unless given.
    """

    value: float
    standard_error: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)

    def __post_init__(self):
        low, high = self.interval
        if math.isnan(low) and math.isnan(high):
            half = 1.959963984540054 * self.standard_error  # 97.5 % point of the normal distribution
            low, high = self.value - half, self.value + half
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "standard_error", float(self.standard_error))
        object.__setattr__(self, "interval", (float(low), float(high)))

    def __float__(self) -> float:
        return self.value

    def __format__(self, specification: str) -> str:
        return format(self.value, specification) if specification else str(self)

    def __str__(self) -> str:
        low, high = self.interval
        if math.isnan(low) or math.isnan(high):
            return f"{self.value:.8g}"
        return f"{self.value:.8g} (95 %: {low:.8g} to {high:.8g})"


@dataclass(frozen=True, repr=False, eq=False)
class Solution:
    """A fitted function with its error: call it with named coordinates.

    >>> solution(t=0.3, x=[0.1, 0.2])            # doctest: +SKIP
    array([-0.095, -0.181])

    Attributes:
        problem: the declaration that was solved.
        trial: the fitted function (`pinnflow.trial.registry.Trial`).
        method: name of the method that was used.
        reason: why it was chosen, a sentence.
        error_estimate: the largest relative L2 error over the fields, estimated on points the fit never saw; NaN or
            infinity where nothing can be said.
        checks: root mean square residual of each equation and condition on fresh points, in problem units.
        stop: why the fit ended and what would take it further, a sentence.
        history: one dict per reported step, numbers and strings.
        unknowns: `{Symbol: Estimate}` for the coefficients that were to be found.
        settings: what the fit was asked for and what it settled on, as JSON data.
        seed: the seed of every random number of the fit.
        versions: of the libraries that made it.
        error_trial: the estimated error as a function, once `error` was asked for.
    """

    problem: Any
    trial: Trial
    method: str = field(kw_only=True)
    reason: str = field(kw_only=True)
    error_estimate: float = field(kw_only=True)
    checks: dict[str, float] = field(kw_only=True)
    stop: str = field(kw_only=True)
    history: Sequence[Mapping[str, Any]] = field(kw_only=True)
    unknowns: dict[sympy.Symbol, Estimate] = field(kw_only=True, default_factory=dict)
    settings: dict[str, Any] = field(kw_only=True, default_factory=dict)
    seed: int = field(kw_only=True, default=0)
    versions: dict[str, str] = field(kw_only=True, default_factory=lambda: versions())
    error_trial: Trial | None = field(kw_only=True, default=None)

    def __post_init__(self):
        found = {s: e if isinstance(e, Estimate) else Estimate(float(e)) for s, e in self.unknowns.items()}
        for name, value in {
            "error_estimate": float(self.error_estimate),
            "checks": {str(name): float(value) for name, value in self.checks.items()},
            "history": tuple(plain(step) for step in self.history),
            "unknowns": found,
            "settings": plain(self.settings),
            "seed": int(self.seed),
        }.items():
            object.__setattr__(self, name, value)

    @property
    def success(self) -> bool:
        """Whether this is a solution at all; the fit's own judgement where it made one, else by the estimate."""
        return bool(self.settings.get("solved", self.error_estimate <= SOLVED))

    @property
    def name(self) -> str:
        """The problem's name, or `problem`."""
        return self.problem.name or "problem"

    def __call__(self, /, **coordinates: Any) -> Any:
        """Values of the field at named coordinates, by numpy broadcasting.

        Args:
            **coordinates: `t=0.3, x=[0.1, 0.2]`; a vector coordinate takes arrays `[..., d]`.

        Returns:
            A float64 array in the broadcast shape; a numpy float where all coordinates are scalars.

        Raises:
            MissingName: there are several fields; write `solution["u"](...)`.
            UnknownName: a coordinate is missing (`MissingName`) or unknown.
            OutsideDomain: a value outside the domain by more than rounding.
        """
        if len(self.problem.fields) > 1:
            names = [f.func.__name__ for f in self.problem.fields]
            given = ", ".join(f"{name}=..." for name in coordinates)
            raise MissingName(
                f"This solution has {len(names)} fields, {', '.join(f'`{n}`' for n in names)}, so a call has to name "
                f'one of them: write `solution["{names[0]}"]({given})`.',
                names,
            )
        return evaluation.field_values(self.problem, self.trial, self.problem.fields[0], coordinates)

    def error(self, /, **coordinates: Any) -> Any:
        """The estimated error at named coordinates: this solution less the true one, in the units of the field.

        The first call solves the linearised equation for the error, which takes up to a minute; a file that is saved
        afterwards holds the result. Take the sign and the place seriously only as far as the size of the error: it is
        an estimate, right to a few tens of percent where the residual is well resolved.

        Args:
            **coordinates: as in a call; several fields: `solution["u"].error(...)`.

        Raises:
            NoErrorField: it cannot be given, and why; `error_estimate` holds all the same.
            MissingName: there are several fields.
        """
        if len(self.problem.fields) > 1:
            names = [f.func.__name__ for f in self.problem.fields]
            raise MissingName(
                f'This solution has {len(names)} fields: write `solution["{names[0]}"].error(...)`.', names
            )
        return self[self.problem.fields[0]].error(**coordinates)

    def __getitem__(self, key: str | AppliedUndef) -> FieldView:
        """One field, by its name or as it was declared: `solution["u"](t=0.3, x=0.1)`."""
        for declared in self.problem.fields:
            if key in (declared.func.__name__, declared, declared.func):
                return FieldView(self, declared)
        raise UnknownName("field", key, (f.func.__name__ for f in self.problem.fields))

    def evaluate(self, expression: Any, coordinates: Mapping[Any, Any]) -> Any:
        """Values of any sympy expression in the fields, their derivatives, the coordinates and the unknowns.

        >>> solution.evaluate(u.diff(x)**2, {t: 0.3, x: np.linspace(0, 1, 100)})     # doctest: +SKIP

        Args:
            expression: also `u.subs(x, 0)`, `laplacian(u, x, y)`, a sympy Matrix, or a list of expressions.
            coordinates: `{coordinate or its name: array}`; only those the expression depends on are needed.
        """
        values = {symbol: float(estimate) for symbol, estimate in self.unknowns.items()}
        return evaluation.evaluate(self.problem, self.trial, values, expression, coordinates)

    def derivatives(self, points: np.ndarray, wanted: Sequence[tuple[int, tuple[int, ...]]]) -> list[np.ndarray]:
        """The wanted derivatives at `points` `[n, D]` as the trial gives them, each `[n]`; nothing is checked."""
        return self.trial.derivatives(np.asarray(points, dtype=np.float64), list(wanted))

    def plot(self, path: str | PathLike[str] | None = None, **options: Any) -> matplotlib.figure.Figure:
        """A picture of the solution, written to `path` if given; see `pinnflow.solution.plotting.plot`."""
        from pinnflow.solution.plotting import plot

        return plot(self, path, **options)

    def animate(self, path: str | PathLike[str], **options: Any) -> Path:
        """A GIF with time as frames, written to `path`; see `pinnflow.solution.animation.animate`."""
        from pinnflow.solution.animation import animate

        return animate(self, path, **options)

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes everything to one HDF5 file that `pinnflow.load` reads back to the last digit.

        The file is complete or not there: it is written beside `path` and renamed. See `docs/file-format.md`.

        Returns:
            The path. The same solution gives the same bytes.

        Raises:
            FileNotFoundError: the folder does not exist.
            NotYet: the declaration holds something that files cannot hold.
        """
        container.write(path, archive.pack(self))
        return Path(path)

    def to_xarray(self, **coordinates: Any) -> xarray.Dataset:
        """The fields on a grid as an `xarray.Dataset`; see `pinnflow.solution.export.to_xarray`."""
        from pinnflow.solution.export import to_xarray

        return to_xarray(self, **coordinates)

    def to_vtk(self, path: str | PathLike[str], **coordinates: Any) -> None:
        """Not there yet; says what to write instead."""
        from pinnflow.solution.export import to_vtk

        to_vtk(self, path, **coordinates)

    def export(self, path: str | PathLike[str], **options: Any) -> None:
        """Not there yet; says what to write instead."""
        from pinnflow.solution.export import export

        export(self, path, **options)

    def __repr__(self) -> str:
        lines = [f"Solution of {self.name}: {_titles(self)}"]
        for label, text in _facts(self):
            first, *rest = textwrap.wrap(text, WIDTH - 12) or [""]
            lines += [f"  {label:<9} {first}", *(f"{'':<12}{line}" for line in rest)]
        return "\n".join(lines)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        rows = "".join(
            f"<tr><th {left}>{html.escape(k)}</th><td {left}>{html.escape(v)}</td></tr>" for k, v in _facts(self)
        )
        return f"<b>Solution of {html.escape(self.name)}</b>: {html.escape(_titles(self))}<table>{rows}</table>"


@dataclass(frozen=True, repr=False)
class FieldView:
    """One field of a solution, with the solution's own way of calling, plotting and tabulating it."""

    solution: Solution
    field: AppliedUndef

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field.func.__name__

    def __call__(self, /, **coordinates: Any) -> Any:
        """Values at named coordinates, as `Solution.__call__`; only the field's own coordinates are needed."""
        return evaluation.field_values(self.solution.problem, self.solution.trial, self.field, coordinates)

    def error(self, /, **coordinates: Any) -> Any:
        """As `Solution.error`, of this field alone."""
        if self.solution.error_trial is None:
            from pinnflow.solution.error import find_error  # torch

            object.__setattr__(self.solution, "error_trial", find_error(self.solution))
        # The trial is the correction: what the true solution has more.
        found = evaluation.field_values(self.solution.problem, self.solution.error_trial, self.field, coordinates)
        return -found

    @property
    def error_estimate(self) -> float:
        """The relative L2 error of this field alone; that of the worst field where no more is known."""
        own = self.solution.settings.get("error_estimates", {})
        return float(own.get(self.name, self.solution.error_estimate))

    def evaluate(self, expression: Any, coordinates: Mapping[Any, Any]) -> Any:
        """As `Solution.evaluate`."""
        return self.solution.evaluate(expression, coordinates)

    def plot(self, path: str | PathLike[str] | None = None, **options: Any) -> matplotlib.figure.Figure:
        """As `Solution.plot`, of this field alone."""
        return self.solution.plot(path, field=self.name, **options)

    def animate(self, path: str | PathLike[str], **options: Any) -> Path:
        """As `Solution.animate`, of this field alone."""
        return self.solution.animate(path, field=self.name, **options)

    def to_xarray(self, **coordinates: Any) -> xarray.DataArray:
        """As `Solution.to_xarray`, of this field alone."""
        return self.solution.to_xarray(**coordinates)[self.name]

    def __repr__(self) -> str:
        return f"{self.field} of {self.solution!r}"


def versions() -> dict[str, str]:
    """Versions of python and of the libraries a solution depends on, without importing any of them."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in ("numpy", "sympy", "torch")},
        "pinnflow": _version("pinnflow-pde"),
    }


def plain(value: Any) -> Any:
    """`value` as JSON data: symbols become their names, numpy scalars and arrays python numbers and lists."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    as_float: Callable[[], float] | None = getattr(value, "__float__", None)
    if as_float is not None and not isinstance(value, (sympy.Symbol, AppliedUndef)):
        try:
            return float(value)
        except TypeError:  # a sympy expression with symbols in it
            return str(value)
    return str(value)


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _titles(solution):
    return ", ".join(str(f) for f in solution.problem.fields)


def _facts(solution):
    yield "method", f"{solution.method}: {solution.reason}" if solution.reason else solution.method
    for i, (symbol, estimate) in enumerate(solution.unknowns.items()):
        yield "unknowns" if i == 0 else "", f"{symbol} = {estimate}"
    words = error_in_words(solution.error_estimate)
    yield "error", words if solution.success else f"{words}: not solved"
    if shares := errors_by_field(solution):
        yield "", shares
    checks = [f"{name} {digits(value)}" for name, value in solution.checks.items()]
    if checks:
        shown = checks if len(checks) <= 8 else [*checks[:7], f"and {len(checks) - 7} more"]
        yield "checks", ", ".join(shown)
    yield "stop", solution.stop
