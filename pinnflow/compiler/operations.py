"""The table of sympy operations that have a torch form; `lowering.py` walks expressions with it.

One entry per operation: `TORCH[class]` writes the right-hand side of one assignment. A new operation is one new line
of `UNARY` (a function of one argument with a torch function of the same meaning) or one function with `@operation`.
`RISKY` lists the operations that are not finite, or not differentiable, everywhere, with an argument where they are:
branches of a `Piecewise` that are not taken are evaluated there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sympy
import torch
from sympy import Expr
from sympy.core.relational import Relational
from sympy.core.sorting import default_sort_key

from pinnflow.compiler import special

if TYPE_CHECKING:
    from pinnflow.compiler.lowering import Writer

TORCH: dict[type, Callable[[Writer, Any], str]] = {}
"""`{sympy class: function(writer, node) -> source}`."""

NAMESPACE: dict[str, Any] = {"torch": torch, "special": special, "inf": float("inf")}
"""What the written source may refer to."""


def operation(*classes: type):
    """Enters a function `(writer, node) -> source text` into the table for the sympy `classes`."""

    def enter(write):
        for one in classes:
            TORCH[one] = write
        return write

    return enter


def supported() -> list[str]:
    """The names of all operations with an entry, sorted; written into the message about a missing one."""
    return sorted({one.__name__ for one in TORCH if one is not Guard}, key=str.lower)


UNARY = {
    sympy.sin: "torch.sin",
    sympy.cos: "torch.cos",
    sympy.tan: "torch.tan",
    sympy.asin: "torch.asin",
    sympy.acos: "torch.acos",
    sympy.atan: "torch.atan",
    sympy.sinh: "torch.sinh",
    sympy.cosh: "torch.cosh",
    sympy.tanh: "torch.tanh",
    sympy.asinh: "torch.asinh",
    sympy.acosh: "torch.acosh",
    sympy.atanh: "torch.atanh",
    sympy.exp: "torch.exp",
    sympy.log: "torch.log",
    sympy.Abs: "torch.abs",
    sympy.sign: "torch.sign",
    sympy.floor: "torch.floor",
    sympy.ceiling: "torch.ceil",
    sympy.frac: "torch.frac",
    sympy.erf: "torch.erf",
    sympy.erfc: "torch.erfc",
    sympy.erfinv: "torch.erfinv",
    sympy.gamma: "special.gamma",
    sympy.loggamma: "torch.lgamma",
    sympy.digamma: "torch.digamma",
    sympy.sinc: "special.sinc",
    sympy.re: "",  # every value is real
    sympy.conjugate: "",
}


def _unary(source: str):
    return lambda writer, node: f"{source}({writer(node.args[0])})" if source else writer(node.args[0])


for _class, _source in UNARY.items():
    TORCH[_class] = _unary(_source)


REWRITTEN: dict[type, Callable[..., Expr]] = {
    sympy.sec: lambda z: 1 / sympy.cos(z),
    sympy.csc: lambda z: 1 / sympy.sin(z),
    sympy.cot: lambda z: sympy.cos(z) / sympy.sin(z),
    sympy.sech: lambda z: 1 / sympy.cosh(z),
    sympy.csch: lambda z: 1 / sympy.sinh(z),
    sympy.coth: lambda z: 1 / sympy.tanh(z),
    sympy.asec: lambda z: sympy.acos(1 / z),
    sympy.acsc: lambda z: sympy.asin(1 / z),
    sympy.acot: lambda z: sympy.atan(1 / z),
    sympy.asech: lambda z: sympy.acosh(1 / z),
    sympy.acsch: lambda z: sympy.asinh(1 / z),
    sympy.acoth: lambda z: sympy.atanh(1 / z),
    sympy.factorial: lambda z: sympy.gamma(z + 1),
    sympy.binomial: lambda n, k: sympy.gamma(n + 1) / (sympy.gamma(k + 1) * sympy.gamma(n - k + 1)),
    sympy.beta: lambda a, b: sympy.gamma(a) * sympy.gamma(b) / sympy.gamma(a + b),
}
"""Operations that are a short expression in others."""


@operation(*REWRITTEN)
def _rewritten(writer: Writer, node) -> str:
    return writer(REWRITTEN[type(node)](*node.args))


# -- arithmetic --------------------------------------------------------------------------------------------------------


@operation(sympy.Add)
def _add(writer: Writer, node) -> str:
    terms = sorted(node.args, key=default_sort_key)
    # Numbers last, and a sum should not start with a minus sign if it need not: `a - b`, not `-b + a`.
    terms.sort(key=lambda term: (term.is_number, _is_negated(term)))
    source = writer(terms[0])
    for term in terms[1:]:
        source += f" - {writer(-term)}" if _is_negated(term) else f" + {writer(term)}"
    return source


def _is_negated(term: Expr) -> bool:
    return bool(term.as_coeff_Mul()[0].is_negative)


@operation(sympy.Mul)
def _mul(writer: Writer, node) -> str:
    numbers = [factor for factor in node.args if factor.is_number]
    if numbers:
        # The product of the rest is a node of its own, so `2*x*y` and `-x*y` share `x*y`.
        coefficient = sympy.Mul(*numbers)
        rest = node.func(*(factor for factor in node.args if not factor.is_number))
        if isinstance(rest, sympy.Pow) and rest.exp.is_number and rest.exp.is_negative:
            return f"{writer(coefficient)} / {writer(1 / rest)}"
        return f"-{writer(rest)}" if coefficient == -1 else f"{writer(coefficient)} * {writer(rest)}"
    factors = sorted(node.args, key=default_sort_key)
    below = [factor for factor in factors if factor.is_Pow and factor.exp.is_number and factor.exp.is_negative]
    above = [writer(factor) for factor in factors if factor not in below] or ["1.0"]
    return " / ".join([" * ".join(above), *(writer(1 / factor) for factor in below)])


@operation(sympy.Pow)
def _pow(writer: Writer, node) -> str:
    base, exponent = node.args
    if exponent.is_Float and exponent == int(exponent):
        exponent = sympy.Integer(int(exponent))
    if exponent.is_number and exponent.is_negative:
        return f"1.0 / {writer(sympy.Pow(base, -exponent))}"
    if exponent.is_Integer:
        # By multiplication: exact for negative bases, and cheap to differentiate.
        if exponent == 1:
            return writer(base)
        if exponent % 2:
            return f"{writer(base ** (exponent - 1))} * {writer(base)}"
        half = writer(base ** (exponent / 2))
        return f"{half} * {half}"
    if exponent == sympy.S.Half:
        return f"torch.sqrt({writer(base)})"
    if exponent.is_Rational and exponent.q == 2:
        return f"{writer(base ** (exponent - sympy.S.Half))} * {writer(sympy.sqrt(base))}"
    if base == sympy.E:
        return f"torch.exp({writer(exponent)})"
    return f"torch.pow({writer(base)}, {writer(exponent)})"


@operation(sympy.Mod)
def _mod(writer: Writer, node) -> str:
    return f"torch.remainder({', '.join(writer.tensors(node.args))})"


# -- functions of several arguments, steps and branches ----------------------------------------------------------------


@operation(sympy.log)
def _log(writer: Writer, node) -> str:
    if len(node.args) == 2:
        return writer(sympy.log(node.args[0]) / sympy.log(node.args[1]))
    return f"torch.log({writer(node.args[0])})"


@operation(sympy.atan2)
def _atan2(writer: Writer, node) -> str:
    return f"torch.atan2({', '.join(writer.tensors(node.args))})"


@operation(sympy.Max)
def _max(writer: Writer, node) -> str:
    return _fold("torch.maximum", writer, node)


@operation(sympy.Min)
def _min(writer: Writer, node) -> str:
    return _fold("torch.minimum", writer, node)


def _fold(function: str, writer: Writer, node) -> str:
    source, *rest = writer.tensors(sorted(node.args, key=default_sort_key))
    for operand in rest:
        source = f"{function}({source}, {operand})"
    return source


@operation(sympy.im)
def _im(writer: Writer, node) -> str:
    return f"torch.zeros_like({writer(node.args[0])})"


@operation(sympy.Heaviside)
def _heaviside(writer: Writer, node) -> str:
    """Without a second argument sympy's value at the step is 1/2."""
    return f"special.step({writer(node.args[0])}, {writer(node.args[1])})"


@operation(sympy.polygamma)
def _polygamma(writer: Writer, node) -> str:
    order, argument = node.args
    if not (order.is_Integer and order.is_nonnegative):
        writer.refuse(node, "its first argument must be an integer")
    return f"torch.polygamma({int(order)}, {writer(argument)})"


_BESSEL = {
    (sympy.besselj, 0): "special.bessel_j0",
    (sympy.besselj, 1): "special.bessel_j1",
    (sympy.besseli, 0): "torch.special.i0",
    (sympy.besseli, 1): "torch.special.i1",
}


@operation(sympy.besselj, sympy.besseli)
def _bessel(writer: Writer, node) -> str:
    order, argument = node.args
    if not order.is_Integer:
        writer.refuse(node, "only integer orders have a torch form")
    if order.is_negative:
        sign = (-1) ** order if isinstance(node, sympy.besselj) else 1
        return writer(sign * node.func(-order, argument))
    if order > 1:
        # Upward recurrence; it loses digits where the argument is small against the order.
        two_below = node.func(order - 2, argument)
        step = 2 * (order - 1) / argument * node.func(order - 1, argument)
        return writer(step - two_below if isinstance(node, sympy.besselj) else two_below - step)
    return f"{_BESSEL[node.func, int(order)]}({writer(argument)})"


@operation(sympy.Piecewise)
def _piecewise(writer: Writer, node) -> str:
    *pairs, last = node.args
    if last.cond is not sympy.true:
        pairs, last_source = [*pairs, last], writer.tensor(sympy.nan)  # no branch applies: undefined, as in sympy
    else:
        last_source = writer.tensor(guarded(last.expr, sympy.Not(sympy.Or(*(pair.cond for pair in pairs)))))
    source, earlier = last_source, [pair.cond for pair in pairs]
    for pair in reversed(pairs):
        earlier.pop()
        taken = sympy.And(pair.cond, *(sympy.Not(other) for other in earlier))
        source = f"torch.where({writer(pair.cond)}, {writer.tensor(guarded(pair.expr, taken))}, {source})"
    return source


@operation(sympy.And, sympy.Or, sympy.Xor)
def _logical(writer: Writer, node) -> str:
    sign = {sympy.And: " & ", sympy.Or: " | ", sympy.Xor: " ^ "}[node.func]
    return sign.join(writer(argument) for argument in sorted(node.args, key=default_sort_key))


@operation(sympy.Not)
def _not(writer: Writer, node) -> str:
    return f"~{writer(node.args[0])}"


@operation(sympy.ITE)
def _ite(writer: Writer, node) -> str:
    condition, yes, no = (writer(argument) for argument in node.args)
    return f"torch.where({condition}, {yes}, {no})"


_SIGNS = {"==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@operation(sympy.Eq, sympy.Ne, sympy.Lt, sympy.Le, sympy.Gt, sympy.Ge)
def _relation(writer: Writer, node: Relational) -> str:
    left, right = node.args
    return f"{writer.tensor(left) if left.is_number else writer(left)} {_SIGNS[node.rel_op]} {writer(right)}"


# -- branches that are not taken ---------------------------------------------------------------------------------------


class Guard(sympy.Function):
    """`Guard(z, condition, safe)`: z where the condition holds and the number `safe` elsewhere."""

    nargs = 3


@operation(Guard)
def _guard(writer: Writer, node) -> str:
    argument, condition, safe = node.args
    return f"torch.where({writer(condition)}, {writer(argument)}, {writer(safe)})"


RISKY: dict[type, Callable[..., sympy.Number | None]] = {
    sympy.log: lambda *_: sympy.S.One,
    sympy.acosh: lambda *_: sympy.Integer(2),
    sympy.Pow: lambda base, exponent: (
        None if base.is_number or (exponent.is_Integer and exponent.is_positive) else sympy.S.One
    ),
    sympy.gamma: lambda *_: sympy.S.One,
    sympy.loggamma: lambda *_: sympy.S.One,
    sympy.digamma: lambda *_: sympy.S.One,
    **dict.fromkeys([sympy.asin, sympy.acos, sympy.atanh, sympy.tan, sympy.erfinv], lambda *_: sympy.S.Zero),
    **dict.fromkeys([sympy.exp, sympy.sinh, sympy.cosh], lambda *_: sympy.S.Zero),
}
"""`{operation: function(*args) -> a harmless first argument, or None when it needs none}`."""


def guarded(expression: Expr, condition) -> Expr:
    """`expression`, changed only where `condition` is false, so that it is finite there with all derivatives.

    `torch.where` multiplies the gradient of the branch that is not taken by zero, which gives NaN when that gradient is
    infinite: `Piecewise((sin(x)/x, Ne(x, 0)), (1, True))` at x = 0. The first argument of each operation in `RISKY` is
    replaced there. Operations that are not in that table are evaluated as they are.
    """
    if condition is sympy.true or not expression.args:
        return expression
    if isinstance(expression, sympy.Piecewise):
        return sympy.Piecewise(*((guarded(pair.expr, condition), pair.cond) for pair in expression.args))
    arguments = [
        guarded(argument, condition) if isinstance(argument, Expr) else argument for argument in expression.args
    ]
    if isinstance(expression, sympy.Function) and type(expression) in REWRITTEN:
        return guarded(REWRITTEN[type(expression)](*arguments), condition)
    safe = RISKY.get(type(expression), lambda *_: None)(*expression.args)
    if safe is not None and not arguments[0].is_number:
        arguments[0] = Guard(arguments[0], condition, safe)
    return expression.func(*arguments)
