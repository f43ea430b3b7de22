"""The set of derivatives a problem needs, where, by which rule and at what cost: `DerivativePlan`.

Needs no torch, so `pinnflow show` can print it. `derivatives.py` carries the rules out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from sympy import Expr
from sympy.core.function import AppliedUndef

from pinnflow.compiler.combinations import Estimated, Gathered, Group, request_of
from pinnflow.compiler.lines import Combination, Lines, lines_for
from pinnflow.compiler.places import extra_pins
from pinnflow.declare.analysis import Atom, Part

Request = tuple[int, tuple[int, ...]] | Combination | Estimated
Recipe = tuple[tuple[tuple[int, int, float], ...], tuple[int, float] | None] | None
"""How a derivative follows from those along lines, as in `Lines.recipes`; None for a value."""


@dataclass(frozen=True)
class Pass:
    """All derivatives that are taken on one set of points at once.

    Attributes:
        blocks: names of the blocks that share the points.
        pins: `((column index, value), ...)`: where the points are moved to first, for the other end of a periodic
            condition and for fields that lack a coordinate.
        requests: `(field, orders)`, a `Combination` or an `Estimated` one, sorted.
        rule: name in `RULES`.
        lines: the lines of Taylor mode; empty for other rules.
        cost: predicted, in evaluations of the module, each with the reverse pass of training.
        reverse_cost: the same for nested reverse mode.
        recipes: how the requests follow from the lines, once for each of several independent estimates.
        random: for estimates, what is drawn: `probes` lines for each entry. They stand in `lines` as columns of their
            own behind those of the points.
        probes: how many.
    """

    blocks: tuple[str, ...]
    pins: tuple[tuple[int, float], ...]
    requests: tuple[Request, ...]
    rule: str
    lines: Lines
    cost: float
    reverse_cost: float
    recipes: Mapping[Request, tuple[Recipe, ...]] = field(default_factory=dict)
    random: tuple[Group, ...] = ()
    probes: int = 0

    @property
    def order(self) -> int:
        single = expanded([r for r in self.requests if not isinstance(r, Estimated)])
        return max([sum(orders) for _, orders in single] + [2] * bool(self.random))


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
            along = partial(_line, columns=_names(self.columns, one))
            rows.append(
                (
                    _where(one, self.columns),
                    _short(self._name, one.requests),
                    f"{one.rule} ({one.probes} lines)" if one.random else one.rule,
                    _short(along, one.lines.vectors),
                    str(one.order),
                    f"{one.cost:.1f}",
                    f"{one.reverse_cost:.1f}",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        lines.append("cost: predicted, in evaluations of the network")
        for one in self.passes:
            lines += [_scatter(one, group, self.columns) for group in dict.fromkeys(one.random)]
        return "\n".join(dict.fromkeys(lines))

    def _name(self, request: Request) -> str:
        if isinstance(request, Combination):
            terms = request.terms[:: -1 if len(request.terms) < 5 else 1]
            return _short((lambda term: self._term(request.field, *term)), terms, " ").removeprefix("+ ")
        if isinstance(request, Estimated):
            sums = [self._sum(request.field, group) for group in request.groups]
            exact = [self._term(request.field, *term) for term in request.exact[:8]]
            return " ".join([*sums, *exact, *(["..."] if len(request.exact) > 8 else [])]).removeprefix("+ ")
        field, orders = request
        name = self.fields[field].func.__name__
        axes = "".join(str(c) * k for c, k in zip(self.columns, orders, strict=True) if k)
        return f"{name}_{axes}" if axes else name

    def _sum(self, field, group):
        """A Laplacian with its sign: `- laplacian(u, z)`."""
        name, size = self.fields[field].func.__name__, group.sizes[0] ** 2
        factor = "" if size == 1 else f"{size:.4g} " if len(set(group.sizes)) == 1 else "weighted "
        return f"{'- ' if group.sign < 0 else '+ '}{factor}laplacian({name}, {_axis(group, self.columns)})"

    def _term(self, field, orders, c):
        """A term of a sum with its sign."""
        factor = "" if abs(c) == 1 else f"{float(abs(c)):.4g} "
        return f"{'- ' if c < 0 else '+ '}{factor}{self._name((field, orders))}"


def expanded(requests: Sequence[Request]) -> list[tuple[int, tuple[int, ...]]]:
    """The single derivatives of `requests`, combinations taken apart; of estimates the exact ones."""
    found: dict = {}
    for request in requests:
        if isinstance(request, Estimated):
            found.update(dict.fromkeys((request.field, orders) for orders, _ in request.exact))
        elif isinstance(request, Combination):
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
    request_of: Callable[[Atom | Gathered, Sequence[AppliedUndef]], Request] = request_of,
    copies: int = 1,
) -> DerivativePlan:
    """The plan for the blocks `parts`.

    Args:
        parts: `{block name: its parts}`; their atoms may be `Gathered`.
        columns: the columns of the points.
        fields: the unknown functions, in the order of the module's output.
        bounds: `{column: (low, high)}`.
        scales: a typical length per column.
        point_sets: `{block name: key}`; blocks with equal keys have the same points.
        request_of: what an atom asks for.
        copies: independent estimates, where something is estimated.
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
    passes = [
        one
        for (_, pins), (names, requests) in together.items()
        for one in _make_passes(names, pins, requests, scales, copies)
    ]
    return DerivativePlan(tuple(passes), columns, fields)


def _make_passes(names, pins, requests, scales, copies) -> list[Pass]:
    """One pass, or two where the first derivatives beside an estimate are cheaper by reverse mode."""
    together = _make_pass(names, pins, requests, scales, copies)
    first = {r for r in requests if not isinstance(r, Estimated) and sum(o for _, a in expanded([r]) for o in a) <= 1}
    if together.random and len(first) > 1:
        apart = [_make_pass(names, pins, some, scales, copies) for some in (first, requests - first)]
        if sum(one.cost for one in apart) < together.cost:
            return apart
    return [together]


def _make_pass(names, pins, requests, scales, copies) -> Pass:
    requests = tuple(sorted(requests, key=_order_of))
    estimates = [request for request in requests if isinstance(request, Estimated)]
    copies = copies if estimates else 1
    # Random lines are unit vectors of columns of their own, which are drawn later.
    random = [group for request in estimates for _ in range(copies) for group in request.groups]
    probes = estimates[0].lines if estimates else 0
    width, terms, used = len(random) * probes, {}, 0
    for request in requests:
        for copy in range(copies):
            if isinstance(request, Estimated):
                terms[request, copy] = tuple(
                    [((*orders, *[0] * width), c) for orders, c in request.exact]
                    + [
                        (_unit(len(scales) + width, len(scales) + used + i), group.sign / probes)
                        for number, group in enumerate(request.groups)
                        for i in range(number * probes, (number + 1) * probes)
                    ]
                )
                used += len(request.groups) * probes
            elif not width:
                terms[request, copy] = terms_of(request)
            else:
                terms[request, copy] = tuple(((*orders, *[0] * width), c) for orders, c in terms_of(request))
    lines = lines_for(terms.values(), [*scales, *[1.0] * width])
    costs = {rule: cost(requests, lines) for rule, cost in COSTS.items()}
    rule = min((rule for rule in costs if costs[rule] is not None), key=lambda rule: costs[rule])
    if rule not in ("taylor", "hutchinson"):
        lines = lines_for((), scales)
    recipes = {
        request: tuple(lines.recipes.get(terms[request, copy]) for copy in range(copies)) for request in requests
    }
    return Pass(
        tuple(names), pins, requests, rule, lines, costs[rule], nested_reverse_cost(requests), recipes, tuple(random),
        probes,
    )  # fmt: skip


def _unit(size, i):
    return (*[0] * i, 2, *[0] * (size - i - 1))


def _order_of(request):
    if isinstance(request, Estimated):
        return request.field, ((), request.exact), request.groups[0].columns[0]
    return (request.field, ((), request.terms)) if isinstance(request, Combination) else (request[0], (request[1],))


# -- predicted cost ----------------------------------------------------------------------------------------------------
# In units of one evaluation with its gradient by the weights. The constants were fitted to benchmarks/derivatives.py: a
# tanh network of 4 x 64 with 2048 points in float32, eagerly on one CPU core, orders 1 to 4 in 2 and 3 columns. There
# predictions of the ratio are within a factor of 1.5.

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
    return None if _has_estimates(requests) or any(sum(a) for _, a in expanded(requests)) else 1.0


@cost_of("taylor")
def _taylor_cost(requests, lines):
    # Each coefficient that is carried goes through all layers.
    return None if _has_estimates(requests) else 1.0 + sum(1.0 + _BENDING * (k - 1) for k in lines.passes)


@cost_of("hutchinson")
def _hutchinson_cost(requests, lines):
    return 1.0 + sum(1.0 + _BENDING * (k - 1) for k in lines.passes) if _has_estimates(requests) else None


def _has_estimates(requests):
    return any(isinstance(request, Estimated) for request in requests)


@cost_of("reverse")
def _reverse_cost(requests, lines):
    # Of first order only: higher ones lose against Taylor mode, or win by little on the CPU and lose within torch.func.
    single = expanded(requests)
    if _has_estimates(requests):
        return None
    return nested_reverse_cost(requests) if all(sum(orders) <= 1 for _, orders in single) else None


def nested_reverse_cost(requests: Sequence[Request]) -> float:
    """Predicted cost of differentiating again and again, the fall-back of modules without a Taylor rule."""
    # One reverse pass over something gives all its first partial derivatives.
    parents = set()
    for column, orders in expanded(requests):
        lower = {i: order for i, order in enumerate(orders) if order}
        while lower:
            axis = max(lower)
            lower[axis] -= 1
            if not lower[axis]:
                del lower[axis]
            parents.add((column, tuple(lower.items())))
    for request in requests:
        if isinstance(request, Estimated):
            parents |= {(request.field, ((i, 1),)) for group in request.groups for i in group.columns}
            parents.add((request.field, ()))
    return 1.0 + sum(_RETURN ** sum(order for _, order in orders) for _, orders in parents)


def _where(one: Pass, columns) -> str:
    text = ", ".join(one.blocks)
    return f"{text} at {', '.join(f'{columns[i]} = {value:g}' for i, value in one.pins)}" if one.pins else text


def _short(name: Callable, items: Sequence, joint: str = ", ") -> str:
    """The names of all items, or of the first and last ones of many."""
    if len(items) <= 8:
        return joint.join(map(name, items))
    return joint.join([*map(name, items[:3]), "...", name(items[-1])])


def _names(columns, one: Pass):
    """Names of the columns of a pass's lines."""
    return [*columns, *(f"random {i + 1}" for i in range(len(one.random) * one.probes))]


def _axis(group: Group, columns) -> str:
    """The coordinates of a Laplacian."""
    axes = dict.fromkeys(str(getattr(columns[i], "axis", columns[i])) for i in group.columns[:4])
    return ", ".join([*axes, "..."] if len(axes) > 3 else axes)


def _scatter(one: Pass, group: Group, columns) -> str:
    """How far an estimate scatters."""
    weights = "" if set(group.sizes) == {1.0} else ", each times the roots of both coefficients"
    return (
        f"hutchinson along {_axis(group, columns)}: {len(group.columns)} terms by {one.probes} lines, unbiased; "
        f"standard deviation {(2 / one.probes) ** 0.5:.3g} times the root of the sum of squares of all mixed second "
        f"derivatives{weights}"
    )


def _line(vector, columns) -> str:
    """`(1, -1)` as `t - x`."""
    text = ""
    for c, column in zip(vector, columns, strict=True):
        if abs(c) > 1e-12:
            sign = (" - " if c < 0 else " + ") if text else ("-" if c < 0 else "")
            text += f"{sign}{column if abs(c) == 1 else f'{abs(c):.3g} {column}'}"
    return text
