"""Values of a fitted function: from named coordinate arrays to numbers of any expression in the fields.

`place` is the gate: it resolves names, broadcasts, and refuses what lies outside the domain. `evaluate` finds the
derivatives an expression needs (`declare.analysis.Normaliser`), asks the trial for them chunk by chunk, and leaves the
rest to numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import sympy
from sympy.core.function import AppliedUndef

from pinnflow.declare.analysis import Atom, Normaliser, UnsupportedTerm
from pinnflow.declare.operators import components, rank
from pinnflow.errors import MissingName, NonFinite, OutsideDomain, UnknownName

# Rows that a trial sees at once: keeps a basis of a few thousand functions within some hundred megabytes.
CHUNK = 16_384

# Fraction of an axis by which a coordinate may overshoot its bound: what `linspace` and unit changes round to.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Place:
    """Points given by coordinate arrays that broadcast against each other.

    Attributes:
        shape: the common shape of the coordinates, without the axis of a vector coordinate's components.
        columns: one array per column of the points, each broadcast to `shape` without copying.
    """

    shape: tuple[int, ...]
    columns: tuple[np.ndarray, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def chunks(self) -> Iterator[np.ndarray]:
        """Points `[n, D]` of at most `CHUNK` rows, in C order."""
        for start in range(0, self.size, CHUNK):
            rows = slice(start, min(start + CHUNK, self.size))
            yield np.stack([column.flat[rows] for column in self.columns], axis=-1)


def place(problem, given: Mapping[Any, Any], needed: Iterable[sympy.Symbol]) -> Place:
    """The points that `given` describes; coordinates neither given nor needed are put at the middle of their axis.

    Args:
        problem: the declaration; its `coordinates`, `columns` and `bounds` are used.
        given: `{coordinate or its name: array}`; an array for a vector coordinate is `[..., d]`.
        needed: the coordinates that must be given.

    Raises:
        UnknownName: a name that is no coordinate, or a needed coordinate that is missing.
        OutsideDomain: a value outside the bounds by more than rounding.
        ValueError: NaN, complex or text values, shapes that do not broadcast.
    """
    axes = {axis.name: axis for axis in problem.coordinates}
    arrays: dict[str, np.ndarray] = {}
    for key, value in given.items():
        name = getattr(key, "name", key)
        if name not in axes:
            raise UnknownName("coordinate", key, axes)
        arrays[name] = _numbers(axes[name], value)
    required = {axis.name for axis in needed}
    missing = [name for name in axes if name in required and name not in arrays]
    if missing:
        call = ", ".join(f"{name}=..." for name in axes if name in required)
        raise MissingName(
            f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing; the coordinates are "
            f"{_listed(sorted(axes))}. Write `solution({call})`, or `{{{call.replace('=', ': ')}}}` in `evaluate`.",
            axes,
        )
    shapes = {n: a.shape[:-1] if _components(axes[n]) else a.shape for n, a in arrays.items()}
    try:
        shape = np.broadcast_shapes(*shapes.values())
    except ValueError:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"The coordinate arrays do not broadcast: their shapes are {found}. "
            "For a grid write `t[:, None]` beside `x[None, :]`."
        ) from None
    columns = []
    for name, axis in axes.items():
        components = _components(axis)
        for i, column in enumerate(components or (axis,)):
            low, high = problem.bounds.get(column, (-math.inf, math.inf))
            if name in arrays:
                values = arrays[name][..., i] if components else arrays[name]
                values = _inside(column, values, low, high)
            else:
                values = np.asarray(_middle(low, high))
            columns.append(np.broadcast_to(values, shape))
    return Place(shape, tuple(columns))


def field_values(problem, trial, field: AppliedUndef, given: Mapping[Any, Any]) -> np.ndarray:
    """Values of one field, in the broadcast shape of the coordinates; a numpy float where they are scalars."""
    return values_at(problem, trial, field, place(problem, given, field.args))


def values_at(problem, trial, field: AppliedUndef, where: Place) -> np.ndarray:
    """Values of one field at places that have been checked."""
    wanted = [(problem.fields.index(field), (0,) * len(where.columns))]
    rows = [_ask(problem, trial, points, wanted)[0] for points in where.chunks()]
    return _shaped(rows, where.shape)


def evaluate(problem, trial, unknowns: Mapping[sympy.Symbol, float], expression, given: Mapping[Any, Any]):
    """Values of `expression`, any sympy expression in fields, derivatives, coordinates and unknown coefficients.

    Args:
        problem: the declaration.
        trial: the fitted function.
        unknowns: the values of the coefficients that were found.
        expression: one expression, a vector or matrix of them, or a list or tuple.
        given: `{coordinate or its name: array}`; only coordinates the expression depends on are needed.

    Returns:
        An array in the broadcast shape of the coordinates (`[..., d]` for a vector, `[..., d, d]` for a matrix); a list
        of these for a list or tuple.

    Raises:
        UnknownName: a symbol or function that the problem does not know; a coordinate that is missing.
        OutsideDomain: a coordinate, or a pin such as `u.subs(x, 5)`, outside the domain.
    """
    if isinstance(expression, (list, tuple)):
        return [evaluate(problem, trial, unknowns, entry, given) for entry in expression]
    expression = _adopt(problem, unknowns, sympy.sympify(expression))
    entries, suffix = _entries(expression)
    normaliser = Normaliser(tuple(problem.columns), tuple(problem.fields))
    lowered = [_normalise(problem, normaliser, entry) for entry in entries]
    atoms = [
        a
        for s, a in sorted(normaliser.atoms.items(), key=lambda item: str(item[0]))
        if any(entry.has(s) for entry in lowered)
    ]
    where = place(problem, given, _needed(problem, unknowns, lowered, atoms))
    coefficients = list(unknowns)
    arguments = [*problem.columns, *coefficients, *(a.symbol for a in atoms)]
    function = sympy.lambdify(arguments, lowered, modules=["scipy", "numpy"], cse=True)
    chunks: list[list[np.ndarray]] = [[] for _ in lowered]
    for points in where.chunks():
        values = atom_values(problem, trial, atoms, points)
        results = function(*points.T, *(float(unknowns[s]) for s in coefficients), *values)
        for rows, result in zip(chunks, results, strict=True):
            rows.append(np.broadcast_to(result, len(points)))
    arrays = [_shaped(rows, where.shape) for rows in chunks]
    return np.stack(arrays, axis=-1).reshape(*where.shape, *suffix) if suffix else arrays[0]


def exact_values(problem, field: AppliedUndef, unknowns: Mapping[sympy.Symbol, float], columns) -> np.ndarray | None:
    """The exact solution that the problem states for `field`, None where it states none.

    Evaluated by numpy; where that gives no finite number (a quotient of two that overflow), in fifty digits.

    Args:
        problem: the declaration.
        field: one of its fields.
        unknowns: the values of the coefficients that were found.
        columns: one array per column of the points, all of one shape.
    """
    if problem.exact is None or field not in problem.exact:
        return None
    values = {symbol: sympy.Float(float(value)) for symbol, value in unknowns.items()}
    expression = sympy.sympify(problem.exact[field]).xreplace(values)
    arguments = list(problem.columns)
    if expression.free_symbols - set(arguments):
        return None
    with np.errstate(all="ignore"):
        result = sympy.lambdify(arguments, expression, modules=["scipy", "numpy"], cse=True)(*columns)
    result = np.array(np.broadcast_to(np.real(result), np.shape(columns[0])), dtype=np.float64)
    bad = ~np.isfinite(result)
    if bad.any():
        precise = sympy.lambdify(arguments, expression, modules="mpmath")
        with mpmath.workdps(50):
            result[bad] = [
                float(mpmath.re(precise(*map(mpmath.mpf, row))))
                for row in zip(*(c[bad].tolist() for c in columns), strict=True)
            ]
    return result


def atom_values(problem, trial, atoms: Iterable[Atom], points: np.ndarray) -> list[np.ndarray]:
    """The value of each atom at `points` `[n, D]`, each `[n]`; an atom with pins is taken at its pinned place."""
    atoms = list(atoms)
    columns = list(problem.columns)
    values: dict[Atom, np.ndarray] = {}
    for pins in dict.fromkeys(atom.pins for atom in atoms):
        together = [atom for atom in atoms if atom.pins == pins]
        moved = points.copy() if pins else points
        for column, value in pins:
            low, high = problem.bounds.get(column, (-math.inf, math.inf))
            moved[:, columns.index(column)] = _inside(column, np.asarray(float(value)), low, high)
        wanted = [(problem.fields.index(atom.field), atom.orders) for atom in together]
        values |= zip(together, _ask(problem, trial, moved, wanted), strict=True)
    return [values[atom] for atom in atoms]


def _entries(expression):
    """The scalar expressions of a scalar, vector or matrix, and the shape they make."""
    if not isinstance(expression, sympy.MatrixBase):
        if rank(expression) == 0:
            return [expression], ()
        if rank(expression) == 1:
            entries = components(expression)
            return list(entries), (len(entries),)
        expression = expression.doit()
    rows, columns = expression.shape
    return list(expression), ((rows,) if columns == 1 else (rows, columns))


def _ask(problem, trial, points, wanted):
    values = [np.asarray(v, dtype=np.float64) for v in trial.derivatives(points, wanted)]
    for (index, orders), column in zip(wanted, values, strict=True):
        bad = ~np.isfinite(column)
        if bad.any():
            row = points[int(np.argmax(bad))]
            where = ", ".join(f"{c}={v:.6g}" for c, v in zip(problem.columns, row, strict=True))
            what = (
                f"`{problem.fields[index]}`"
                if not any(orders)
                else (f"the derivative of order {orders} of `{problem.fields[index]}`")
            )
            raise NonFinite(
                f"The solution's value of {what} is not finite at {where}. "
                "Fit again with another seed, or in float64 if it was float32."
            )
    return values


def _adopt(problem, unknowns, expression):
    """`expression` with the problem's own symbols: after loading, `symbols("x")` means the coordinate of that name."""
    own = {s.name: s for s in (*problem.columns, *problem.coordinates, *unknowns) if isinstance(s, sympy.Symbol)}
    foreign = {s: own[s.name] for s in expression.atoms(sympy.Symbol) if s.name in own and s != own[s.name]}
    return expression.xreplace(foreign) if foreign else expression


def _normalise(problem, normaliser, entry):
    try:
        return sympy.sympify(normaliser(entry))
    except UnsupportedTerm as error:
        raise ValueError(
            f"`{entry}` cannot be evaluated: in `{error.term}`, {error.reason}. "
            f"The fields are {', '.join(f'`{f}`' for f in problem.fields)}."
        ) from None


def _needed(problem, unknowns, lowered, atoms):
    """The coordinates that the lowered expressions depend on; refuses symbols and functions of no meaning here."""
    used = set().union(*(entry.free_symbols for entry in lowered))
    strange = used - set(problem.columns) - set(unknowns) - {atom.symbol for atom in atoms}
    if strange:
        known = [str(symbol) for symbol in (*problem.coordinates, *unknowns)]
        raise UnknownName("coordinate or unknown coefficient", min(map(str, strange)), known)
    functions = set().union(*(entry.atoms(AppliedUndef) for entry in lowered))
    if functions:
        raise UnknownName("field", min(map(str, functions)), map(str, problem.fields))
    varying = used & set(problem.columns)
    for atom in atoms:
        pinned = {column for column, _ in atom.pins}
        for axis in atom.field.args:
            varying |= {c for c in (_components(axis) or (axis,)) if c not in pinned}
    return [axis for axis in problem.coordinates if varying & set(_components(axis) or (axis,))]


def _components(axis):
    return getattr(axis, "components", None)


def _numbers(axis, value):
    try:
        array = np.asarray(value)
        if np.iscomplexobj(array):
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"`{axis}` takes real numbers or an array of them, not `{value!r}`.") from None
    if np.isnan(array).any():
        raise ValueError(
            f"`{axis}` has {int(np.isnan(array).sum())} NaN among its {array.size} values; "
            "drop or replace them before evaluating."
        )
    components = _components(axis)
    if components is not None and (array.ndim == 0 or array.shape[-1] != len(components)):
        raise ValueError(
            f"`{axis}` is a vector coordinate with {len(components)} components: its array has shape "
            f"[..., {len(components)}], not {array.shape}."
        )
    return array


def _inside(column, values, low, high):
    """`values` clipped by no more than rounding, or an error that names the bound."""
    length = high - low
    # An endless axis has no length: its finite end, if any, sets the scale of rounding.
    scale = length if math.isfinite(length) else max([1.0, *(abs(b) for b in (low, high) if math.isfinite(b))])
    slack = ROUNDING * scale
    for bound, word, over in ((low, "below", low - values), (high, "above", values - high)):
        worst = float(np.max(over, initial=-math.inf))
        if worst > slack:
            value = float(np.asarray(values).flat[int(np.argmax(over))])
            raise OutsideDomain(
                f"`{column}` = {value!r} is {word} its bound {bound!r}: the solution is known for {column} from "
                f"{low!r} to {high!r} only. Declare a larger domain and fit again to go further."
            )
    return np.clip(values, low, high)


def _middle(low, high):
    if math.isfinite(low) and math.isfinite(high):
        return 0.5 * (low + high)
    return next((b for b in (low, high) if math.isfinite(b)), 0.0)


def _shaped(rows, shape):
    if not rows:
        return np.empty(shape)
    return (rows[0] if len(rows) == 1 else np.concatenate(rows)).reshape(shape).copy()[()]


def _listed(names):
    return ", ".join(f"`{name}`" for name in names)
