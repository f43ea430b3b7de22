"""What the parameters of an equation may be: checked here once, as sympy expressions, with the parameter's own name.

Decimal fractions become exact (`0.022` is 11/500), so that formulas print as the user wrote them.
"""

from __future__ import annotations

import math
from numbers import Rational as RationalNumber
from numbers import Real

import sympy
from sympy import Expr, Symbol

from pinnflow.errors import DeclarationError


def number(name: str, value: object, *, above: float | None = None) -> Expr:
    """`value` as an exact real sympy number, strictly greater than `above` if that is given."""
    wanted = "a real number" if above is None else "a positive number" if above == 0 else f"a number above {above}"
    problem = f"`{name}` is {value!r}, but {wanted} is expected; write for instance `{name}=2`."
    if isinstance(value, Expr):
        exact = value
    elif isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise DeclarationError(problem)
    elif isinstance(value, RationalNumber):
        exact = sympy.Rational(int(value.numerator), int(value.denominator))
    else:
        exact = sympy.Rational(repr(float(value)))
    if not (exact.is_number and exact.is_real and exact.is_finite) or (above is not None and not exact > above):
        raise DeclarationError(problem)
    return exact


def whole(name: str, value: object) -> int:
    """`value` as a positive integer."""
    exact = number(name, value, above=0)
    if not exact.is_integer:
        raise DeclarationError(f"`{name}` is {value!r}, but a whole number is expected; write for instance `{name}=2`.")
    return int(exact)


def expression(name: str, value: object, *symbols: Symbol) -> Expr:
    """`value` as an expression in `symbols` alone.

    Args:
        name: the parameter, for messages.
        value: an expression, a number, or a function of as many arguments as there are symbols.
        symbols: what may appear; a symbol of the same name with other assumptions is taken for the same.
    """
    allowed = ", ".join(f"`{s}`" for s in symbols)
    if not isinstance(value, Expr | Real) and callable(value):
        value = value(*symbols)
    if isinstance(value, Real):
        return number(name, value)
    if not isinstance(value, Expr):
        raise DeclarationError(
            f"`{name}` is {value!r}, but a sympy expression in {allowed} is expected; "
            f"write for instance `{name}=sympy.cos({symbols[0]})`."
        )
    own = {s.name: s for s in symbols}
    renamed: Expr = value.xreplace({s: own[s.name] for s in value.free_symbols if s.name in own})
    if strangers := renamed.free_symbols - set(symbols):
        found = ", ".join(f"`{s}`" for s in sorted(strangers, key=str))
        raise DeclarationError(f"`{name}` is `{value}`; it contains {found}, but may contain {allowed} only.")
    return renamed


def same_at_ends(name: str, value: Expr, axis: Symbol, low: Expr, high: Expr) -> Expr:
    """`value`, refused unless it is equal at both ends of a periodic axis."""
    ends = [float(value.subs(axis, end)) for end in (low, high)]
    if not math.isclose(*ends, rel_tol=1e-9, abs_tol=1e-9):
        raise DeclarationError(
            f"`{name}` is `{value}`, which is {ends[0]:.6g} at {axis} = {low} and {ends[1]:.6g} at {axis} = {high}; "
            f"the axis `{axis}` is periodic, so both must be equal."
        )
    return value


def zero_at_ends(name: str, value: Expr, axis: Symbol, low: Expr, high: Expr) -> Expr:
    """`value`, refused unless it vanishes at both ends."""
    for end in (low, high):
        found = float(value.subs(axis, end))
        if not math.isclose(found, 0, abs_tol=1e-9):
            raise DeclarationError(
                f"`{name}` is `{value}`, which is {found:.6g} at {axis} = {end}; "
                "the solution vanishes there, so it must too."
            )
    return value
