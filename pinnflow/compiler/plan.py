"""The set of derivatives a problem needs, where, by which rule and at what cost: `DerivativePlan`.

Needs no torch, so `pinnflow show` can print it. `derivatives.py` carries the rules out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sympy import Expr
from sympy.core.function import AppliedUndef

from pinnflow.compiler.combinations import request_of
from pinnflow.compiler.lines import Combination, Lines, lines_for
from pinnflow.compiler.places import extra_pins
from pinnflow.declare.analysis import Part

Request = tuple[int, tuple[int, ...]] | Combination


@dataclass(frozen=True)
class Pass:
    """All derivatives that are taken on one set of points at once.

    Attributes:
        blocks: names of the blocks that share the points.
        pins: `((column index, value), ...)`: where the points are moved to first, for the other end of a periodic
            condition and for fields that lack a coordinate.
        requests: `(field, orders)` or a `Combination`, sorted.
        rule: name in `RULES`.
        lines: the lines of Taylor mode; empty for other rules.
        cost: predicted, in evaluations of the module, each with the reverse pass of training.
        reverse_cost: the same for nested reverse mode.
    """

    blocks: tuple[str, ...]
    pins: tuple[tuple[int, float], ...]
    requests: tuple[Request, ...]
    rule: str
    lines: Lines
    cost: float
    reverse_cost: float

    @property
    def order(self) -> int:
        return max((sum(orders) for _, orders in expanded(self.requests)), default=0)


@dataclass(frozen=True)
class DerivativePlan:
    """Which derivatives of which fields are taken on which points, by which rule.

    Attributes:
        passes: one per set of points.
        columns: the columns of the points.
        fields: the unknown functions.
    """

    passes: tuple[Pass, ...]
    columns: tuple[Expr, ...]
    fields: tuple[AppliedUndef, ...]

    @property
    def cost(self) -> float:
        """Predicted cost of all passes on one point each, in evaluations of the module."""
        return sum(one.cost for one in self.passes)

    def __str__(self) -> str:
        rows = [("points of", "derivatives", "rule", "along", "order", "cost", "nested reverse")]
        for one in self.passes:
            rows.append(
                (
                    _where(one, self.columns),
                    _short(self._name, one.requests),
                    one.rule,
                    _short((lambda v: _line(v, self.columns)), one.lines.vectors),
                    str(one.order),
                    f"{one.cost:.1f}",
                    f"{one.reverse_cost:.1f}",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines) + "\ncost: predicted, in evaluations of the network"

    def _name(self, request: Request) -> str:
        if isinstance(request, Combination):
            terms = request.terms[:: -1 if len(request.terms) < 5 else 1]
            return _short((lambda term: self._term(request.field, *term)), terms, " ").removeprefix("+ ")
        field, orders = request
        name = self.fields[field].func.__name__
        axes = "".join(str(c) * k for c, k in zip(self.columns, orders, strict=True) if k)
        return f"{name}_{axes}" if axes else name

    def _term(self, field, orders, c):
        """A term of a sum with its sign."""
        factor = "" if abs(c) == 1 else f"{float(abs(c)):.4g} "
        return f"{'- ' if c < 0 else '+ '}{factor}{self._name((field, orders))}"


def expanded(requests: Sequence[Request]) -> list[tuple[int, tuple[int, ...]]]:
    """The single derivatives of `requests`, combinations taken apart."""
    found: dict = {}
    for request in requests:
        if isinstance(request, Combination):
            found.update(dict.fromkeys((request.field, orders) for orders, _ in request.terms))
        else:
            found[request] = None
    return list(found)


def terms_of(request: Request) -> tuple:
    """A request as terms of a combination: `((orders, coefficient), ...)`."""
    return request.terms if isinstance(request, Combination) else ((request[1], 1),)


def make_plan(
    parts: Mapping[str, Sequence[Part]],
    columns: Sequence[Expr],
    fields: Sequence[AppliedUndef],
    bounds: Mapping[Expr, tuple[float, float]],
    scales: Sequence[float],
    point_sets: Mapping[str, object],
) -> DerivativePlan:
    """The plan for the blocks `parts`.

    Args:
        parts: `{block name: its parts}`; their atoms may be `Gathered`.
        columns: the columns of the points.
        fields: the unknown functions, in the order of the module's output.
        bounds: `{column: (low, high)}`.
        scales: a typical length per column.
        point_sets: `{block name: key}`; blocks with equal keys have the same points.
    """
    columns, fields = tuple(columns), tuple(fields)
    together: dict[tuple, tuple[list[str], set[Request]]] = {}
    for block, its_parts in parts.items():
        for part in its_parts:
            for atom in part.atoms:
                pins = extra_pins(atom, part, columns, bounds)
                names, requests = together.setdefault((point_sets[block], pins), ([], set()))
                requests.add(request_of(atom, fields))
                if block not in names:
                    names.append(block)
    return DerivativePlan(
        tuple(_make_pass(names, pins, requests, scales) for (_, pins), (names, requests) in together.items()),
        columns,
        fields,
    )


def _make_pass(names, pins, requests, scales) -> Pass:
    requests = tuple(sorted(requests, key=_order_of))
    lines = lines_for((terms_of(request) for request in requests), scales)
    costs = {rule: cost(requests, lines) for rule, cost in COSTS.items()}
    rule = min((rule for rule in costs if costs[rule] is not None), key=lambda rule: costs[rule])
    if rule != "taylor":
        lines = lines_for((), scales)
    return Pass(tuple(names), pins, requests, rule, lines, costs[rule], nested_reverse_cost(requests))


def _order_of(request):
    return (request.field, ((), request.terms)) if isinstance(request, Combination) else (request[0], (request[1],))


# -- predicted cost ----------------------------------------------------------------------------------------------------
# In units of one evaluation with its gradient by the weights. The constants were fitted to benchmarks/derivatives.py: a
# tanh network of 4 x 64 with 2048 points in float32, eagerly on one CPU core, orders 1 to 4 in 2 and 3 columns. There
# predictions are within 30 %.

COSTS: dict[str, Callable[[Sequence[Request], Lines], float | None]] = {}
"""`{rule: function(requests, lines) -> cost, or None when the rule does not apply}`; the cheapest is taken."""

_BENDING = 0.15  # what each further order adds to a coefficient's pass: longer sums in the functions between layers
_RETURN = 2.5  # the graph of a reverse pass against that of what it differentiates


def cost_of(rule: str):
    """Enters the cost of a rule."""

    def enter(function):
        COSTS[rule] = function
        return function

    return enter


@cost_of("value")
def _value_cost(requests, lines):
    return 1.0 if not any(sum(orders) for _, orders in expanded(requests)) else None


@cost_of("taylor")
def _taylor_cost(requests, lines):
    # Each coefficient that is carried goes through all layers.
    return 1.0 + sum(1.0 + _BENDING * (k - 1) for k in lines.passes)


@cost_of("reverse")
def _reverse_cost(requests, lines):
    # Of first order only: higher ones lose against Taylor mode, or win by little on the CPU and lose within torch.func.
    single = expanded(requests)
    return nested_reverse_cost(requests) if all(sum(orders) <= 1 for _, orders in single) else None


def nested_reverse_cost(requests: Sequence[Request]) -> float:
    """Predicted cost of differentiating again and again, the fall-back of modules without a Taylor rule."""
    # One reverse pass over something gives all its first partial derivatives.
    parents = set()
    for field, orders in expanded(requests):
        lower = list(orders)
        while any(lower):
            axis = max(i for i, order in enumerate(lower) if order)
            lower[axis] -= 1
            parents.add((field, tuple(lower)))
    return 1.0 + sum(_RETURN ** sum(orders) for _, orders in parents)


def _where(one: Pass, columns) -> str:
    text = ", ".join(one.blocks)
    return f"{text} at {', '.join(f'{columns[i]} = {value:g}' for i, value in one.pins)}" if one.pins else text


def _short(name: Callable, items: Sequence, joint: str = ", ") -> str:
    """The names of all items, or of the first and last ones of many."""
    if len(items) <= 8:
        return joint.join(map(name, items))
    return joint.join([*map(name, items[:3]), "...", name(items[-1])])


def _line(vector, columns) -> str:
    """`(1, -1)` as `t - x`."""
    text = ""
    for c, column in zip(vector, columns, strict=True):
        if abs(c) > 1e-12:
            sign = (" - " if c < 0 else " + ") if text else ("-" if c < 0 else "")
            text += f"{sign}{column if abs(c) == 1 else f'{abs(c):.3g} {column}'}"
    return text
