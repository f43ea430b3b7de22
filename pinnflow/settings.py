"""Values typed as text, `speed=1/3`, read by a small grammar: nothing is executed.

Python's own parser makes the tree; only the nodes listed here are turned into values, so a name, a call or an
attribute that is not in the tables is refused with its place in words. Used by the command line only.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sympy

from pinnflow.errors import PinnflowError

CONSTANTS = {"pi": sympy.pi, "E": sympy.E, "I": sympy.I, "oo": sympy.oo}
FUNCTIONS = {
    name: getattr(sympy, name)
    for name in ("sqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan")
    + ("sinh", "cosh", "tanh", "sech", "Abs", "Max", "Min", "Heaviside")
}
OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
LONGEST = 500  # characters; also bounds the depth of the tree
LARGEST_POWER = 10_000  # bits: 9**9**9 would be computed digit by digit


class BadSetting(PinnflowError, ValueError):
    """A `--set name=value` that cannot be read, or whose name the problem does not take."""


def parse_value(text: str, symbols: bool = False) -> Any:
    """The value that `text` writes: an `int`, a `float`, an exact sympy number, or a tuple of these.

    Args:
        text: `2`, `0.5`, `1e-3`, `1/3`, `pi/2`, `sqrt(2)`, `(1, 2)`.
        symbols: whether other names become real symbols, for parameters that are expressions, `drift=x - x**3`.

    Raises:
        BadSetting: anything else.

    >>> parse_value("1/3"), parse_value("2"), parse_value("sqrt(2)/2")
    (1/3, 2, sqrt(2)/2)
    """
    if len(text) > LONGEST:
        raise BadSetting(f"the value has {len(text)} characters; at most {LONGEST} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        value = _value(tree, symbols)
    except (SyntaxError, ValueError, TypeError, ZeroDivisionError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error, BadSetting):
            raise
        raise BadSetting(f"`{text}` is not a value{_expected(symbols)}") from None
    if isinstance(value, sympy.Basic) and value.has(sympy.nan, sympy.zoo):
        raise BadSetting(f"`{text}` is not a finite number")
    return value


def _value(node: ast.expr, symbols: bool) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(item, symbols) for item in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _value(node.operand, symbols)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        # Exact, so that 1/3 stays a third; a float in it makes the result a float.
        left, right = (sympy.sympify(_value(side, symbols)) for side in (node.left, node.right))
        if isinstance(node.op, ast.Pow) and _bits(left) and abs(right) * _bits(left) > LARGEST_POWER:
            raise BadSetting(f"`{ast.unparse(node)}` has too many digits")
        return OPERATIONS[type(node.op)](left, right)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and not node.keywords
    ):
        return FUNCTIONS[node.func.id](*(sympy.sympify(_value(item, symbols)) for item in node.args))
    if isinstance(node, ast.Name):
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        if symbols and node.id not in FUNCTIONS:
            return sympy.Symbol(node.id, real=True)
    raise BadSetting(f"`{ast.unparse(node)}` is not a value{_expected(symbols)}")


def _bits(number: sympy.Expr) -> int:
    """Length of an exact number in binary; 0 for what sympy keeps as a symbol or a float."""
    return max(number.p.bit_length(), number.q.bit_length()) if number.is_Rational else 0


def _expected(symbols: bool) -> str:
    functions = ", ".join(sorted(FUNCTIONS))
    more = ", and the names of the coordinates" if symbols else ""
    return (
        f"; write numbers such as 2, 0.5, 1e-3, 1/3 or pi/2, with + - * / **, {', '.join(CONSTANTS)} "
        f"and the functions {functions}{more}"
    )


def read_settings(pairs: Sequence[str], function: Callable[..., Any], owner: str) -> dict[str, Any]:
    """Keyword arguments for `function` out of `["speed=2", ...]`.

    A parameter whose default is a string takes the text as it is, one whose default is a truth value takes `true` or
    `false`; every other is read by `parse_value`.

    Args:
        pairs: as typed after `--set`.
        function: makes the problem; its parameters are the settings.
        owner: how the user calls it, for messages.

    Raises:
        BadSetting: a pair without `=`, an unknown name (the choices are listed), a value that cannot be read, or a
            parameter without default that is not set.
    """
    parameters = {
        name: p for name, p in inspect.signature(function).parameters.items() if p.kind not in (p.VAR_POSITIONAL,)
    }
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {name: p for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    settings: dict[str, Any] = {}
    for name, text in split_pairs(pairs).items():
        if name not in named and not takes_any:
            raise BadSetting(unknown_setting(name, named, owner))
        settings[name] = _read(name, text, named.get(name))
    missing = [name for name, p in named.items() if p.default is p.empty and name not in settings]
    if missing:
        raise BadSetting(f"{owner} needs " + " and ".join(f"`--set {name}=...`" for name in missing))
    return settings


def split_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """`{name: text}` of `name=text` pairs, the last one of a name counting."""
    result = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise BadSetting(f"`--set {pair}`: expected name=value, for example `--set speed=2`")
        result[name.strip()] = text.strip()
    return result


def unknown_setting(name: str, named: Mapping[str, Any], owner: str) -> str:
    """The message for a setting that `owner` does not take."""
    if not named:
        return f"`--set {name}=...`: {owner} has no settings"
    near = difflib.get_close_matches(name, named, 1)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return f"`--set {name}=...`: {owner} has no setting `{name}`; its settings are {', '.join(sorted(named))}.{hint}"


def _read(name: str, text: str, parameter: inspect.Parameter | None) -> Any:
    default = None if parameter is None else parameter.default
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise BadSetting(f"`--set {name}={text}`: expected true or false")
    try:
        return parse_value(text, symbols=_takes_expressions(parameter))
    except BadSetting as error:
        raise BadSetting(f"`--set {name}={text}`: {error}") from None


def _takes_expressions(parameter: inspect.Parameter | None) -> bool:
    """Whether a parameter is a formula, by its default or its annotation."""
    if parameter is None:
        return False
    formula = isinstance(parameter.default, sympy.Basic) and bool(parameter.default.free_symbols)
    return formula or "Expr" in str(parameter.annotation)
