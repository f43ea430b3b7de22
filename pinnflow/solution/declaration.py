"""A declaration as data: sympy expressions and problems as JSON, by a list of node types, and back.

A sympy node is a list `[type, argument, ...]`, an integer a JSON integer:

    Eq(u(t, x).diff(t), x**2)   ->   ["Equality", ["Derivative", ["Call", "u", {}, t, x], ["Tuple", t, 1]],
                                     ["Pow", x, 2]]   with   x = ["Symbol", "x", {"real": true}]

Everything that is not a sympy node is an object with one key that says what it is: `{"python": 0.5}`, `{"tuple": []}`,
`{"dict": [[key, value]]}`, `{"array": "0"}` (a data set beside the declaration), `{"record": "Condition", ...}`. Only
the types listed here are read: nothing in a file is evaluated, imported or called by name.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy
from sympy.core.function import AppliedUndef, UndefinedFunction

from pinnflow.errors import NotYet

# Constructors whose arguments are nodes again. Types of pinnflow's own are added by `_own_nodes`.
NODES: dict[str, Any] = {kind.__name__: kind for kind in (
    sympy.Add, sympy.Mul, sympy.Pow, sympy.Mod, sympy.Tuple, sympy.Derivative, sympy.Subs, sympy.Integral, sympy.Sum,
    sympy.Equality, sympy.Unequality, sympy.StrictLessThan, sympy.LessThan, sympy.StrictGreaterThan,
    sympy.GreaterThan, sympy.And, sympy.Or, sympy.Not, sympy.Xor, sympy.ITE, sympy.Piecewise,
    sympy.functions.elementary.piecewise.ExprCondPair, sympy.ImmutableDenseMatrix,
    sympy.exp, sympy.log, sympy.sin, sympy.cos, sympy.tan, sympy.cot, sympy.sec, sympy.csc, sympy.sinc,
    sympy.asin, sympy.acos, sympy.atan, sympy.acot, sympy.asec, sympy.acsc, sympy.atan2,
    sympy.sinh, sympy.cosh, sympy.tanh, sympy.coth, sympy.sech, sympy.csch,
    sympy.asinh, sympy.acosh, sympy.atanh, sympy.acoth, sympy.asech, sympy.acsch,
    sympy.Abs, sympy.sign, sympy.Min, sympy.Max, sympy.floor, sympy.ceiling, sympy.frac,
    sympy.re, sympy.im, sympy.arg, sympy.conjugate, sympy.Heaviside, sympy.DiracDelta, sympy.SingularityFunction,
    sympy.erf, sympy.erfc, sympy.erfi, sympy.erfinv, sympy.erfcinv, sympy.erf2, sympy.expint, sympy.Ei, sympy.Si,
    sympy.Ci, sympy.Shi, sympy.Chi, sympy.li, sympy.fresnels, sympy.fresnelc, sympy.gamma, sympy.loggamma,
    sympy.digamma, sympy.polygamma, sympy.lowergamma, sympy.uppergamma, sympy.beta, sympy.zeta, sympy.LambertW,
    sympy.factorial, sympy.binomial, sympy.besselj, sympy.bessely, sympy.besseli, sympy.besselk, sympy.hankel1,
    sympy.hankel2, sympy.jn, sympy.yn, sympy.airyai, sympy.airybi, sympy.airyaiprime, sympy.airybiprime,
    sympy.elliptic_k, sympy.elliptic_e, sympy.elliptic_f, sympy.hyper, sympy.legendre, sympy.assoc_legendre,
    sympy.chebyshevt, sympy.chebyshevu, sympy.hermite, sympy.laguerre, sympy.assoc_laguerre, sympy.jacobi,
    sympy.gegenbauer, sympy.Ynm, sympy.KroneckerDelta,
)}  # fmt: skip

CONSTANTS: dict[str, Any] = {
    "pi": sympy.pi, "E": sympy.E, "I": sympy.I, "oo": sympy.oo, "-oo": -sympy.oo, "zoo": sympy.zoo, "nan": sympy.nan,
    "true": sympy.true, "false": sympy.false, "EulerGamma": sympy.EulerGamma, "GoldenRatio": sympy.GoldenRatio,
    "Catalan": sympy.Catalan,
}  # fmt: skip

# Enough to tell symbols apart in a few words; anything else is written with all of its assumptions.
_USUAL: tuple[dict[str, bool], ...] = (
    {}, {"real": True}, {"positive": True}, {"nonnegative": True}, {"negative": True}, {"complex": True},
    {"integer": True}, {"integer": True, "positive": True}, {"integer": True, "nonnegative": True},
)  # fmt: skip

# A power of numbers is computed when it is read; larger exponents would be computed digit by digit.
LARGEST_EXPONENT = 10_000

# The arguments of `Problem` in its own order; a file holds all of them.
ARGUMENTS = ("equations", "domain", "conditions", "where", "unknowns", "observations", "time", "exact", "name")


# What may stand in a declaration beside sympy expressions.
RECORDS = frozenset({"Ball", "Bounds", "Condition", "Gaussian", "Observations", "Points"})


def encode_problem(problem: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The declaration of `problem` as JSON data; its arrays are added to `arrays` under the names the data use.

    Raises:
        NotYet: the declaration holds a node that files cannot hold; the message names it.
    """
    return {name: encode(problem.arguments[name], arrays) for name in ARGUMENTS}


def decode_problem(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    """The problem that `encode_problem` wrote, through the same gate that checked the original."""
    from pinnflow.declare.problem import Problem

    arguments = {name: decode(data[name], arrays) for name in ARGUMENTS}
    equations, domain, conditions = (arguments.pop(name) for name in ("equations", "domain", "conditions"))
    return Problem(equations, domain, conditions, **arguments)


def encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON data: a sympy node, a python value, an array, or a record of `pinnflow.declare`."""
    if value is None:
        return None
    if isinstance(value, sympy.MatrixBase):
        value = value.as_immutable()
    if isinstance(value, sympy.Basic):
        return _encode_node(value)
    if isinstance(value, (bool, int, float, str)):
        return {"python": value}
    if isinstance(value, Mapping):
        return {"dict": [[encode(k, arrays), encode(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return {"tuple": [encode(entry, arrays) for entry in value]}
    if isinstance(value, np.generic) and value.dtype.kind in "bif":
        return {"python": value.item()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        name = str(len(arrays))
        arrays[name] = value
        return {"array": name}
    name = type(value).__name__
    if _records().get(name) is type(value):
        # Their attributes are called like the arguments that made them.
        return {
            "record": name,
            **{n: encode(getattr(value, n), arrays) for n in inspect.signature(type(value)).parameters},
        }
    raise NotYet(
        f"`{value!r}` is of type `{type(value).__name__}`, which files cannot hold. "
        "Write it as a sympy expression or a numpy array."
    )


def decode(data: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """What `encode` made `data` from.

    Raises:
        ValueError: a type that is not listed, or arguments that do not fit it.
    """
    if data is None:
        return None
    if isinstance(data, (list, int)):
        return _decode_node(data)
    if "record" in data:
        kind = _records()[data["record"]]
        return kind(**{name: decode(entry, arrays) for name, entry in data.items() if name != "record"})
    ((kind, content),) = data.items()
    if kind == "python" and isinstance(content, (bool, int, float, str)):
        return content
    if kind == "tuple":
        return tuple(decode(entry, arrays) for entry in content)
    if kind == "dict":
        return {decode(k, arrays): decode(v, arrays) for k, v in content}
    if kind == "array":
        return arrays[content]
    raise ValueError(f"`{kind}` is no kind of value")


def _encode_node(node):
    if isinstance(node, sympy.Integer):
        return int(node)
    if isinstance(node, sympy.Rational):
        return ["Rational", int(node.p), int(node.q)]
    if isinstance(node, sympy.Float):
        # Mantissa and exponent: exact at any precision.
        sign, mantissa, exponent, _ = node._mpf_
        return ["Float", int(sign), hex(int(mantissa)), int(exponent), int(node._prec)]
    for name, constant in CONSTANTS.items():
        if node is constant:
            return [name]
    if getattr(node, "components", None) is not None and isinstance(node, sympy.Symbol):
        return ["VectorCoordinate", node.name, len(node.components)]
    if getattr(node, "axis", None) is not None and node in getattr(node.axis, "components", ()):
        return ["Component", _encode_node(node.axis), list(node.axis.components).index(node)]
    if type(node) is sympy.Symbol:
        return ["Symbol", node.name, _assumptions(node, lambda **a: sympy.Symbol(node.name, **a))]
    if type(node) is sympy.Dummy:
        return ["Dummy", node.name, int(node.dummy_index), _some(node.assumptions0)]
    if isinstance(node, AppliedUndef):
        name = node.func.__name__
        given = _some(getattr(node.func, "_kwargs", {}))
        return ["Call", name, given, *map(_encode_node, node.args)]
    name = type(node).__name__
    if NODES.get(name) is not type(node) and _own_nodes().get(name) is not type(node):
        raise NotYet(
            f"`{node}` is of type `{name}`, which files cannot hold yet. Write it with the functions of sympy, "
            "or leave out `exact` if it stands there."
        )
    arguments = [_encode_node(argument) for argument in node.args]
    # A node built with `evaluate=False` is not what its constructor makes of its arguments.
    head = name if node.func(*node.args) == node else f"{name} unevaluated"
    return [head, *arguments]


def _decode_node(data):
    if isinstance(data, bool):
        raise ValueError("a truth value is no node")
    if isinstance(data, int):
        return sympy.Integer(data)
    head, *rest = data
    if head in CONSTANTS and not rest:
        return CONSTANTS[head]
    if head == "Rational":
        return sympy.Rational(int(rest[0]), int(rest[1]))
    if head == "Float":
        sign, mantissa, exponent, precision = rest
        number = int(mantissa, 16)
        if number == 0:  # the constructor makes the integer 0 of an empty mantissa
            return sympy.Float(0, precision=int(precision))
        return sympy.Float((int(sign), number, int(exponent), number.bit_length()), precision=int(precision))
    if head == "Symbol":
        return sympy.Symbol(str(rest[0]), **_some(rest[1]))
    if head == "Dummy":
        return sympy.Dummy(str(rest[0]), dummy_index=int(rest[1]), **_some(rest[2]))
    if head == "Call":
        return UndefinedFunction(str(rest[0]), **_some(rest[1]))(*map(_decode_node, rest[2:]))
    if head == "VectorCoordinate":
        from pinnflow.declare.symbols import coordinates

        return coordinates(str(rest[0]), int(rest[1]))
    if head == "Component":
        return _decode_node(rest[0]).components[int(rest[1])]
    name, _, unevaluated = head.partition(" ")
    kind = NODES.get(name) or _own_nodes().get(name)
    if kind is None or unevaluated not in ("", "unevaluated"):
        raise ValueError(f"`{head}` is no type of node that this release reads")
    arguments = [_decode_node(argument) for argument in rest]
    if kind is sympy.Pow and all(a.is_number for a in arguments) and abs(arguments[1]) > LARGEST_EXPONENT:
        raise ValueError(f"the exponent {arguments[1]} is larger than {LARGEST_EXPONENT}")
    return kind(*arguments, evaluate=False) if unevaluated else kind(*arguments)


def _assumptions(node, make):
    for usual in _USUAL:
        if make(**usual) == node:
            return dict(usual)
    return _some(node.assumptions0)


def _some(assumptions):
    return {str(k): bool(v) for k, v in sorted(assumptions.items()) if v is not None}


@functools.cache
def _own_nodes():
    """The nodes that pinnflow adds to sympy by class name: vector operators, pinned vectors, regions."""
    return {
        name: kind
        for module in _declare_modules()
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, sympy.Basic) and kind.__module__ == module.__name__
    }


@functools.cache
def _records():
    """The classes of `RECORDS` by name."""
    return {
        name: kind
        for module in _declare_modules()
        for name, kind in vars(module).items()
        if name in RECORDS and isinstance(kind, type) and kind.__module__ == module.__name__
    }


def _declare_modules():
    for name in ("symbols", "operators", "domain", "statements", "problem"):
        # Looked up by name: which of these files holds a class is no concern of the format's.
        if importlib.util.find_spec(f"pinnflow.declare.{name}") is not None:
            yield importlib.import_module(f"pinnflow.declare.{name}")
