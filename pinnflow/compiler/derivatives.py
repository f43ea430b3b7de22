"""Carries out a `DerivativePlan`: each pass by its rule, with nested reverse mode where Taylor mode has no rule."""

from __future__ import annotations

import functools
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pinnflow.compiler.chains import weighted
from pinnflow.compiler.combinations import Estimated
from pinnflow.compiler.jet import is_watched
from pinnflow.compiler.jets import MissingRule, directional_jet
from pinnflow.compiler.lines import Combination, Lines, lines_for
from pinnflow.compiler.plan import Pass, Recipe, expanded, terms_of
from pinnflow.compiler.reference import Request, nested_reverse
from pinnflow.errors import WrongShape

Module = Callable[[Tensor], Tensor]

RULES: dict[str, Callable[[Module, Tensor, Pass, Sequence[float]], dict[Request, Tensor]]] = {}
"""`{name in a plan: function(module, points, pass, scales) -> {request: tensor [n]}}`."""


class SlowDerivatives(UserWarning):
    """A module cannot be differentiated by Taylor mode and takes the slow road."""


class Differentiator:
    """Evaluates passes of a plan for modules, and remembers which modules have no Taylor rule.

    Args:
        fields: the number of columns a module returns.
        scales: a typical length per column of the points; mixed derivatives are taken along lines that move by one such
            length in each column, which keeps their rounding errors small when units differ.
    """

    def __init__(self, fields: int, scales: Sequence[float]):
        self.fields, self.scales = fields, tuple(scales)
        self._without_rule: weakref.WeakSet = weakref.WeakSet()
        self._told: set[tuple[str, str]] = set()

    def __call__(
        self, module: Module, points: Tensor, one: Pass, signs: Sequence[Tensor] = ()
    ) -> dict[Request, Tensor]:
        """The derivatives of one pass at `points` (already moved by its pins): `{request: tensor [n]}`.

        Estimates are taken along `signs`, a tensor for each entry of `one.random`; several are `[copies, n]`.
        """
        rule = one.rule
        checked = _checked(module, self.fields)
        slow = RULES["nested reverse"]
        if rule == "hutchinson":
            rules, slow = (
                functools.partial(_hutchinson, signs=signs),
                functools.partial(_nested_hutchinson, signs=signs),
            )
        else:
            rules = RULES[rule]
        if rule in TAYLOR and self._is_known_slow(module):
            rules = slow
        try:
            return rules(checked, points, one, self.scales)
        except (MissingRule, TypeError, AttributeError) as problem:
            if rule not in TAYLOR or rules is slow:
                raise
            self._tell(module, one, problem)
        # Outside the handler: an error of the module's own shows up here without the first one above it.
        return slow(checked, points, one, self.scales)

    def _is_known_slow(self, module):
        try:
            return module in self._without_rule
        except TypeError:
            return False

    def _tell(self, module, one, problem):
        if isinstance(module, torch.nn.Module):
            self._without_rule.add(module)
        operation = getattr(problem, "operation", None) or str(problem)
        name = getattr(module, "__name__", type(module).__name__)
        if (name, operation) not in self._told:
            self._told.add((name, operation))
            warnings.warn(
                f"Taylor mode has no rule for `{operation}`, used by `{name}`: its derivatives are taken by nested "
                f"reverse mode, predicted {one.reverse_cost / one.cost:.1f} times as costly.",
                SlowDerivatives,
                stacklevel=2,
            )


def _checked(module: Module, fields: int) -> Module:
    """`module`, with a message when its result is not one row per point and one column per field."""

    def call(points):
        result = module(points)
        if tuple(result.shape) != (points.shape[0], fields):
            raise WrongShape(
                f"The module maps points [{points.shape[0]}, {points.shape[1]}] to {list(result.shape)}, expected "
                f"[{points.shape[0]}, {fields}]: one row per point and one column per field. Give its last layer "
                f"{fields} output{'s' if fields > 1 else ''} and keep the rows."
            )
        return result

    return call


def rule(name: str):
    """Enters a function into `RULES`."""

    def enter(function):
        RULES[name] = function
        return function

    return enter


@rule("value")
def _value(module, points, one, scales):
    values = module(points)
    return {request: values[:, request[0]] for request in one.requests}


@rule("reverse")
@rule("nested reverse")
def _nested(module, points, one, scales):
    found = nested_reverse(module, points, expanded(one.requests))
    return {request: _combined(request, found) for request in one.requests}


def _combined(request, found):
    if not isinstance(request, Combination):
        return found[request]
    return sum(float(c) * found[request.field, orders] for orders, c in request.terms)


@rule("taylor")
def _taylor(module, points, one, scales):
    return by_lines(module, points, one.recipes, one.lines)


TAYLOR = ("taylor", "hutchinson")
"""The rules that need a Taylor rule for every operation."""


def _hutchinson(module, points, one, scales, signs):
    """Estimates along `signs`, +-1 `[probes, columns of the group]` for each entry of `one.random`: `[copies, n]` each,
    and `[n]` of what is exact."""
    width, rows = points.shape[1], torch.cat(_random_lines(points, one, signs))
    matrix = torch.as_tensor(one.lines.matrix, dtype=points.dtype, device=points.device)
    return by_lines(module, points, one.recipes, one.lines, matrix[:, :width] + matrix[:, width:] @ rows)


def _random_lines(points, one, signs):
    """`[probes, d]` for each entry of `one.random`."""
    found = []
    for group, some in zip(one.random, signs, strict=True):
        index = torch.tensor(group.columns, device=points.device)
        line = some.to(points) * points.new_tensor(group.sizes)
        found.append(points.new_zeros(one.probes, points.shape[1]).index_copy(1, index, line))
    return found


def _nested_hutchinson(module, points, one, scales, signs):
    """As `_hutchinson`, by reverse mode twice along each line."""
    exact = nested_reverse(module, points, expanded(one.requests))
    lines, copies = iter(_random_lines(points, one, signs)), max(map(len, one.recipes.values()))
    result = {}
    for request in one.requests:
        if not isinstance(request, Estimated):
            found = [_combined(request, exact)] * copies
        else:
            found = [sum(float(c) * exact[request.field, orders] for orders, c in request.exact)] * copies
            for copy in range(copies):
                for group in request.groups:
                    for line in next(lines):
                        second = derivatives_along(module, points, line.expand_as(points), 2)[2][:, request.field]
                        found[copy] = found[copy] + group.sign / one.probes * second
        result[request] = found[0] if copies == 1 else torch.stack(found)
    return result


def by_lines(
    module: Module,
    points: Tensor,
    recipes: Mapping[Request, Sequence[Recipe]],
    lines: Lines,
    vectors: Tensor | None = None,
) -> dict[Request, Tensor]:
    """Partial derivatives and combinations of them from directional jets, `{request: tensor [n]}`.

    Many lines are taken in chunks, each of which is computed again in the reverse pass: the memory is that of one.

    Args:
        module: maps `[n, d]` to `[n, m]`.
        points: `[n, d]`.
        recipes: of each request, as in `Pass.recipes`; with several the result is `[copies, n]`.
        lines: the lines.
        vectors: `[M, d]`, other directions than those of `lines`.
    """
    if vectors is None:
        vectors = torch.as_tensor(lines.matrix, dtype=points.dtype, device=points.device)
    single = [piece for copies in recipes.values() for one in copies if one is not None for piece in one[0]]
    values, slopes, sums = _in_chunks(module, points, vectors, lines, not single)
    result = {}
    for request, copies in recipes.items():
        field = request[0] if isinstance(request, tuple) else request.field
        found = [values[:, field] if one is None else _put_together(one, slopes, sums, field) for one in copies]
        result[request] = found[0] if len(found) == 1 else torch.stack(found)
    return result


def _put_together(recipe, slopes, sums, field):
    single, share = recipe
    pieces = [(slopes[k - 1][index, :, field], weight) for k, index, weight in single]
    if share is not None:
        pieces.append((sums[share[0], :, field], share[1]))
    total = None
    for piece, weight in pieces:
        term = piece if weight == 1 else weight * piece
        total = term if total is None else total + term
    return total


ENTRIES = 2**24
"""Derivatives of one order that a chunk holds per layer, for layers of `WIDTH`: 128 MiB in float64."""

WIDTH = 128


def chunk_size(points: Tensor) -> int:
    """Lines that are taken at once."""
    return max(1, ENTRIES // (WIDTH * max(1, points.shape[0])))


def _in_chunks(module, points, vectors, lines, sums_only=False):
    """`(values [n, m], slopes of each order [M_k, n, m], sums [G, n, m] or None)`."""

    def run(vectors, orders, tops, frame=None):
        found = directional_jet(module, points, vectors, orders, tops, frame, sums_only and tops is not None)
        return found if tops is not None else (*found, None)

    number, size = len(lines.orders), chunk_size(points)
    if number <= size or is_watched():
        values, *slopes, sums = run(vectors, lines.orders, lines.tops, lines.frame)
        if lines.frame is not None:
            slopes[0] = weighted(lines.frame.rows, slopes[0])
        return values, slopes, sums
    size = -(-number // -(-number // size))  # equal chunks, or the last would be small and as costly as its value
    slopes, sums = [[] for _ in range(max(lines.orders))], None
    for start in range(0, number, size):
        arguments = vectors[start : start + size], *lines.part(start, start + size)
        if torch.is_grad_enabled():
            values, *found, more = checkpoint(run, *arguments, use_reentrant=False)
        else:
            values, *found, more = run(*arguments)
        for kept, entry in zip(slopes, found, strict=False):
            kept.append(entry)
        sums = more if sums is None else sums if more is None else sums + more
    return values, [torch.cat(kept) for kept in slopes], sums


def partial_derivatives(
    module: Module, points: Tensor, requests: Sequence[Request], scales: Mapping[int, float] | None = None
) -> dict[Request, Tensor]:
    """Partial derivatives of a module by Taylor mode, outside of any problem.

    Args:
        module: maps `[n, d]` to `[n, m]`.
        points: `[n, d]`.
        requests: `[(field, orders), ...]`, orders per column of the points, or a `Combination`.
        scales: `{column: typical length}`, 1 where missing.

    Returns:
        `{request: tensor [n]}`.

    Raises:
        MissingRule: an operation of the module has no Taylor rule.
    """
    lengths = [(scales or {}).get(i, 1.0) for i in range(points.shape[1])]
    lines = lines_for((terms_of(request) for request in requests), lengths)
    return by_lines(module, points, {request: (lines.recipes.get(terms_of(request)),) for request in requests}, lines)


def derivatives_along(module: Module, points: Tensor, directions: Tensor, order: int = 1) -> tuple[Tensor, ...]:
    """Directional derivatives of any module: f(x), then d^k/ds^k f(x + s v) at s = 0 for k = 1, ..., order.

    By Taylor mode where every operation has a rule, else by forward mode nested `order` times; neither keeps a graph
    from outputs to inputs, so the number of outputs (an image, say) does not matter. Differentiable by the weights, the
    points and the directions.

    Args:
        module: maps `[n, ...]` to values of any shape.
        points: `[n, d]`.
        directions: `[n, d]`, one for each point.
        order: at least 1.

    Returns:
        Tuple of `order + 1` tensors of the shape of `module(points)`.
    """
    try:
        values, *slopes = directional_jet(module, points, directions[None], order)
        return (values, *(entry[0] for entry in slopes))
    except (MissingRule, TypeError, AttributeError):
        pass

    def nested(function, left):
        if not left:
            return lambda s: (function(s),)
        slope = lambda s: torch.func.jvp(function, (s,), (torch.ones_like(s),))[1]  # noqa: E731
        return lambda s: (function(s), *nested(slope, left - 1)(s))

    return nested(lambda s: module(points + s * directions), order)(points.new_zeros(()))
