"""Expressions in fields rewritten into expressions in atoms: one symbol for each value or derivative that is needed.

sympy writes the same pinned derivative in several ways; here they become one, whatever the user typed. `analysis.py`
builds residual blocks from the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import sympy
from sympy import Derivative, Expr, Subs, Symbol
from sympy.core.function import AppliedUndef

from pinnflow.declare.operators import Laplacian
from pinnflow.declare.symbols import Component, PinnedVector, VectorCoordinate

# A pin this close to an end of the domain, relative to its length, means the end: 3.14159 means pi.
SNAP = 1e-5


@dataclass(frozen=True)
class Atom:
    """The value of one derivative of one field, at the row's point or with some axes pinned elsewhere.

    Attributes:
        field: the field as declared, `u(t, x)`.
        orders: order of differentiation per column of the points, e.g. `(0, 2)` for `u_xx` with columns `t, x`.
        pins: `((column, value), ...)`, sorted by column; empty for the row's own point.
        symbol: the real symbol that stands for this value in `Part.expression`; its name is unique and stable.
    """

    field: AppliedUndef
    orders: tuple[int, ...]
    pins: tuple[tuple[Expr, Expr], ...] = ()

    @cached_property
    def symbol(self) -> Symbol:
        orders = ",".join(map(str, self.orders))
        pins = "".join(f"@{column}={value}" for column, value in self.pins)
        return Symbol(f"{self.field.func.__name__}[{orders}]{pins}", real=True)

    @property
    def order(self) -> int:
        return sum(self.orders)


class UnsupportedTerm(ValueError):
    """A sub-expression that no residual can be made of; `problem.py` turns it into a `DeclarationError`.

    Attributes:
        term: the sub-expression.
        reason: what is wrong with it.
        remedy: what to write instead.
        code: name of the kind of mistake.
        unsupported: meaningful, but not solved by this release.
    """

    def __init__(self, term, reason, remedy="", code="term", unsupported=False):
        super().__init__(reason)
        self.term, self.reason, self.remedy, self.code, self.unsupported = term, reason, remedy, code, unsupported


class Normaliser:
    """Rewrites expressions in fields into expressions in atoms.

    sympy writes the same pinned derivative in several ways: `u(0, x)`, `Subs(Derivative(u(t, x), t), t, 0)`, the mixed
    `Subs(Derivative(u(x, 0), (x, 2)), x, 1)`. All become one `Atom`. Derivatives of products that sympy left
    unevaluated and vector operators are expanded on the way.

    Args:
        columns: scalar columns of the points.
        fields: the declared fields.
        domain: `{column: (low, high)}`; pins next to an end become that end. Without it pins stay as written.

    Attributes:
        atoms: `{symbol: Atom}` of everything met so far.
        snapped: `{(column, value as written): end}` for pins that were moved by more than rounding.
        outside: `[(column, value)]` of pins outside the domain.
    """

    def __init__(
        self,
        columns: Sequence[Expr],
        fields: Sequence[AppliedUndef],
        domain: Mapping[Expr, tuple[Expr, Expr]] | None = None,
    ):
        self.columns = tuple(columns)
        self.fields = {f.func: f for f in fields}
        self.domain = domain or {}
        self.atoms: dict[Symbol, Atom] = {}
        self.snapped: dict[tuple[Expr, Expr], Expr] = {}
        self.outside: list[tuple[Expr, Expr]] = []
        self._place = {column: i for i, column in enumerate(self.columns)}
        self._axes = {column: getattr(column, "axis", column) for column in self.columns}

    def __call__(self, expression: Expr, pins: Mapping[Expr, Expr] | None = None) -> Expr:
        """`expression` with an atom symbol for every field value; `pins` are substituted everywhere.

        Raises:
            UnsupportedTerm: a sub-expression has no meaning as a residual.
        """
        env = {column: self._number(column, value) for column, value in (pins or {}).items()}
        return self._walk(sympy.sympify(expression), env)

    def _walk(self, node, env):
        if isinstance(node, Symbol):
            return env.get(node, node)
        if not node.args:
            if isinstance(node, sympy.core.numbers.ImaginaryUnit):
                raise UnsupportedTerm(
                    node,
                    "the imaginary unit `I` stands here, and fields are real",
                    "Write the real and the imaginary part as two fields with one equation each.",
                    "imaginary",
                )
            return node
        if isinstance(node, AppliedUndef):
            return self._atom(node, (), env)
        if isinstance(node, Derivative):
            return self._derivative(node, env)
        if isinstance(node, Subs):
            inner = dict(env)
            for variable, point in zip(node.variables, node.point, strict=True):
                inner[variable] = self._walk(point, env)
            return self._walk(node.expr, inner)
        if isinstance(node, Laplacian) and self._is_field(node.args[0], node.columns):
            # In one step: sympy's derivatives look at all d components of a vector for each of them.
            return sympy.Add(*(self._atom(node.args[0], ((column, 2),), env) for column in node.columns))
        if getattr(node, "is_field_operator", False):
            return self._walk(node.doit(), env)
        if isinstance(node, sympy.Integral):
            raise UnsupportedTerm(
                node,
                "integrals are not solved by this release",
                "Add a field for the integral: its derivative is the integrand, its value at the lower end is 0.",
                "integral",
                unsupported=True,
            )
        if isinstance(node, (sympy.re, sympy.conjugate)) and node.args[0].has(AppliedUndef, Derivative):
            return self._walk(node.args[0], env)  # fields are real
        if isinstance(node, sympy.im) and node.args[0].has(AppliedUndef, Derivative):
            return sympy.S.Zero
        rank = getattr(node, "rank", 0)
        if rank:
            raise UnsupportedTerm(
                node,
                f"{_rank_name(rank)} stands where a scalar is needed",
                "Write one equation per component, or make a scalar of it with `div`, `dot` or `norm_squared`.",
                "rank",
            )
        walked = [self._walk(argument, env) for argument in node.args]
        return node if all(a is b for a, b in zip(walked, node.args, strict=True)) else node.func(*walked)

    def _derivative(self, node, env):
        inner, counts = node.expr, node.variable_count
        while isinstance(inner, Derivative):
            inner, counts = inner.expr, (*inner.variable_count, *counts)
        if isinstance(inner, (sympy.re, sympy.conjugate)):
            return self._walk(Derivative(inner.args[0], *counts), env)
        if isinstance(inner, sympy.im):
            return sympy.S.Zero
        if not all(n.is_Integer for _, n in counts):
            raise UnsupportedTerm(
                node, "the order of differentiation is not a number", "Write an integer order.", "order"
            )
        for variable, _ in counts:
            if isinstance(variable, VectorCoordinate):
                raise UnsupportedTerm(
                    node,
                    f"`{variable}` is a vector, so the derivative by it is no scalar",
                    f"Write `{variable}[0]` for one component, or `grad`, `div`, `laplacian` for all.",
                    "rank",
                )
        if isinstance(inner, AppliedUndef):
            if inner.func in self.fields and all(self._is_argument(v, inner) for v, _ in counts):
                return self._atom(inner, counts, env)
            done = node.doit()
            if done != node:
                return self._walk(done, env)
            raise UnsupportedTerm(node, *self._why_no_argument(inner, counts))
        done = Derivative(inner, *counts).doit()
        if isinstance(done, Derivative):
            raise UnsupportedTerm(
                node,
                f"`{inner}` cannot be differentiated by rule",
                "Write the derivative in fields and elementary functions.",
            )
        return self._walk(done, env)

    def _is_field(self, node, variables):
        """Whether a node is a declared field that depends on all of the variables."""
        return (
            isinstance(node, AppliedUndef)
            and node.func in self.fields
            and all(self._is_argument(variable, node) for variable in variables)
        )

    def _is_argument(self, variable, call):
        return variable in call.args or any(_is_component(variable, argument) for argument in call.args)

    def _why_no_argument(self, call, counts):
        declared = self.fields.get(call.func)
        if declared is None:
            return _not_a_field(call)
        wrong = next(v for v, _ in counts if not self._is_argument(v, call))
        return (
            f"`{call}` is differentiated by `{wrong}`, which is none of its arguments",
            f"Differentiate `{declared}` and substitute then: `{declared}.diff(...).subs(...)`.",
            "argument",
        )

    def _atom(self, call, counts, env):
        declared = self.fields.get(call.func)
        if declared is None:
            raise UnsupportedTerm(call, *_not_a_field(call))
        if len(declared.args) != len(call.args):
            raise UnsupportedTerm(
                call,
                f"`{call}` has {len(call.args)} arguments, but `{declared}` has {len(declared.args)}",
                f"Write `{declared}` everywhere.",
                "signature",
            )
        orders = [0] * len(self.columns)
        pins = {}
        # sympy's argument at each place; inside a `Subs` it may be a bound variable instead of the axis itself.
        for axis, argument in zip(declared.args, call.args, strict=True):
            if isinstance(axis, VectorCoordinate):
                self._vector_argument(call, axis, argument, counts, env, orders, pins)
                continue
            for variable, n in counts:
                if variable == argument:
                    orders[self._place[axis]] += int(n)
            target = argument.xreplace(env) if env else argument
            if target != axis:
                pins[axis] = self._pin(call, env, axis, target)
        atom = Atom(declared, tuple(orders), tuple(sorted(pins.items(), key=lambda pin: self._place[pin[0]])))
        self.atoms[atom.symbol] = atom
        return atom.symbol

    def _vector_argument(self, call, axis, argument, counts, env, orders, pins):
        if not (argument == axis or (isinstance(argument, PinnedVector) and argument.axis == axis)):
            raise UnsupportedTerm(
                call,
                f"the argument `{argument}` is not the vector coordinate `{axis}`",
                f"Write `{axis}` and pin components by `.subs({axis}[0], value)`.",
                "argument",
            )
        for variable, n in counts:
            if _is_component(variable, argument):
                orders[self._place[variable]] += int(n)
        touched = argument.replaced if isinstance(argument, PinnedVector) else {}
        for component in axis.components if (touched or env) else ():
            target = touched.get(component, component).xreplace(env)
            if target != component:
                pins[component] = self._pin(call, env, component, target)

    def _pin(self, call, env, axis, target):
        if target.is_number:
            return self._number(axis, target)
        declared, shown = self.fields[call.func], call.xreplace(env)
        if target in self._axes.values():
            raise UnsupportedTerm(
                shown,
                f"`{shown}` has `{target}` in the place of `{axis}`; the field is `{declared}`",
                f"Write `{declared}` everywhere.",
                "signature",
            )
        if axis in target.free_symbols:
            raise UnsupportedTerm(
                shown,
                f"`{shown}` is taken at `{target}` instead of `{axis}`; delayed, scaled and reflected arguments are "
                "not solved by this release",
                f"Write `{declared}`, or add a field for the function at `{target}`.",
                "argument",
                unsupported=True,
            )
        raise UnsupportedTerm(
            shown,
            f"the argument `{target}` of `{shown}` is neither `{axis}` nor a number",
            f"Write `{declared}`, or pin `{axis}` by a number: `.subs({axis}, value)`.",
            "argument",
        )

    def _number(self, column, value):
        number, end, moved = snap(value, self.domain.get(column))
        if moved:
            self.snapped[column, sympy.sympify(value)] = number
        if not end and column in self.domain and self._is_outside(column, number):
            self.outside.append((column, number))
        return number

    def _is_outside(self, column, number):
        low, high = self.domain[column]
        return bool(number < low) or bool(number > high)


def _is_component(variable, argument) -> bool:
    """Whether a vector argument, pinned or not, still contains `variable`."""
    if isinstance(argument, PinnedVector):
        return variable in argument.components
    return isinstance(variable, Component) and variable.axis == argument


def snap(value: object, ends: tuple[Expr, Expr] | None = None) -> tuple[Expr, bool, bool]:
    """The number a pin means: `(number, it is an end, it was moved by more than rounding)`.

    Args:
        value: a number of any kind; short decimal floats become the rational that was written.
        ends: `(low, high)` of the axis; a value within `SNAP` of the length from one of them means it.

    Raises:
        UnsupportedTerm: the value is no finite real number.
    """
    number = rational(sympy.sympify(value))
    if not number.is_number or number.is_extended_real is False or number.is_finite is False:
        raise UnsupportedTerm(
            number, f"`{number}` is no finite real number", "Pin a coordinate by a number in its domain.", "pin"
        )
    if ends is None:
        return number, False, False
    for end in ends:
        if number == end:
            return end, True, False
    low, high = (float(end) for end in ends)
    here = float(number)
    for end, place in zip(ends, (low, high), strict=True):
        distance = abs(here - place)
        if distance <= SNAP * (high - low):
            return end, True, distance > 1e-12 * max(abs(place), high - low)
    return number, False, False


def rational(number: Expr) -> Expr:
    """A short decimal float as the fraction that was written, so that 0.5 and 1/2 are the same place."""
    if not isinstance(number, sympy.Float) or not number.is_finite:
        return number
    fraction = sympy.Rational(repr(float(number)))
    return fraction if fraction.q <= 10**6 else number


def _not_a_field(call):
    return (
        f"`{call}` is a function of something else than the coordinates, so it is no field",
        "Write a function known to sympy, or an unknown function of coordinates.",
        "function",
    )


def _rank_name(rank):
    return {1: "a vector", 2: "a matrix"}.get(rank, f"a tensor of rank {rank}")
