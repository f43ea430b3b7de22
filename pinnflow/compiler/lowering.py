"""sympy expressions to straight-line torch code with shared sub-expressions.

Every distinct sub-expression becomes one assignment of a Python function that is written out and compiled once; the
order of the lines depends on the expressions alone, so two processes compute the same digits. What each operation
becomes stands in `operations.py`. Only names made here (`a0`, `v3`) and numbers occur in the source, never text of the
user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy
import torch
from sympy import Basic, Expr
from torch import Tensor

from pinnflow.compiler.operations import NAMESPACE, TORCH, Guard, supported
from pinnflow.errors import DeclarationError


def lower(expressions: Sequence[Expr], arguments: Sequence[Expr]) -> Lowered:
    """A function of tensors that evaluates all `expressions` of `arguments` in one sweep.

    Args:
        expressions: real scalar expressions in `arguments`; no other symbol may occur.
        arguments: symbols (or any sympy expressions taken as variables), in the order of the function's argument.

    Returns:
        `function(tensors: list of Tensor) -> list of Tensor`: one tensor in per argument (`[n]` or 0-d, any shapes that
        broadcast; float32 or float64), one out per expression. A constant expression gives a 0-d tensor of the
        arguments' dtype and device. Differentiable by autograd and torch.func.

    Raises:
        UnsupportedOperation: a sub-expression has no torch form; the message names it.
    """
    return Lowered(expressions, arguments)


@dataclass(frozen=True)
class Step:
    """One line of the program: `name = source`, the value of `node`."""

    name: str
    source: str
    node: Basic
    operands: tuple[str, ...]


class Lowered:
    """The function made by `lower`, with the source it was made from.

    Attributes:
        arguments: the variables, in order.
        steps: the lines, each with the sub-expression it computes.
        source: the text of the function.
    """

    def __init__(self, expressions: Sequence[Expr], arguments: Sequence[Expr]):
        self.arguments = tuple(arguments)
        writer = Writer(self.arguments)
        self._outputs = [writer.tensor(sympy.sympify(expression)) for expression in expressions]
        self.steps = tuple(writer.steps)
        self.source = self._text()
        namespace = {**NAMESPACE, "constant": _constant}
        exec(compile(self.source, "<lowered>", "exec"), namespace)  # text written by `Writer`, see the module docstring
        self._function, self._namespace = namespace["lowered"], namespace

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return self._function(tensors)

    def first_non_finite(self, tensors: Sequence[Tensor]) -> NonFiniteStep | None:
        """The first sub-expression that is not finite although what it is made of is, or None.

        Only what reaches a non-finite result counts: a branch that is not taken may hold anything.
        """
        values = dict(zip(self._names(), tensors, strict=True))
        values["arguments"] = tensors
        for step in self.steps:
            values[step.name] = eval(step.source, {**self._namespace, **values})  # the same text as in `source`
        made_of = {step.name: step for step in self.steps}
        for output in self._outputs:
            trouble = self._descend(output, values, made_of)
            if trouble is not None:
                return trouble
        return None

    def _descend(self, name, values, made_of, index=None):
        value = values.get(name)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return None
        bad = ~torch.isfinite(value)
        if not (bad.any() if index is None else _at(bad, index)):
            return None
        if index is None:
            index = int(bad.reshape(-1).int().argmax())
        step = made_of.get(name)
        if step is None:
            return NonFiniteStep(self.arguments[self._names().index(name)], {}, index)
        for operand in step.operands:
            deeper = self._descend(operand, values, made_of, index)
            if deeper is not None:
                return deeper
        symbols = sorted(step.node.free_symbols, key=str)
        met = {
            s: float(_at(values[n].detach(), index))
            for s, n in zip(self.arguments, self._names(), strict=True)
            if s in symbols
        }
        return NonFiniteStep(step.node.replace(Guard, lambda argument, *_: argument), met, index)

    def _names(self) -> list[str]:
        return [f"a{i}" for i in range(len(self.arguments))]

    def _text(self) -> str:
        lines = ["def lowered(arguments):"]
        if self.arguments:
            lines.append(f"    [{', '.join(self._names())}] = arguments")
        lines += [f"    {step.name} = {step.source}" for step in self.steps]
        lines.append(f"    return [{', '.join(self._outputs)}]")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class NonFiniteStep:
    """Where a value became infinite or NaN: the sub-expression, the values of its symbols, and the row."""

    node: Basic
    met: dict[Basic, float]
    row: int


class UnsupportedOperation(DeclarationError):
    """A sub-expression without a torch form."""

    def __init__(self, node: Basic, reason: str):
        super().__init__(f"`{node}` cannot be evaluated: {reason}.")
        self.node, self.reason = node, reason


class Writer:
    """Turns expressions into assignments, one per distinct sub-expression.

    Calling it with a node returns what stands for its value in the source: the name of a variable, or a number.
    Sharing is by equal nodes, which numbers values as it goes. `sympy.cse` would also share partial sums; it is not
    used because it takes conditions and branches of `Piecewise` apart and is slow on long right-hand sides.
    """

    def __init__(self, arguments: Sequence[Expr]):
        self.names: dict[Basic, str] = {argument: f"a{i}" for i, argument in enumerate(arguments)}
        self.steps: list[Step] = []
        self._arguments = tuple(arguments)
        self._operands: list[list[str]] = []

    def __call__(self, node: Basic) -> str:
        text = self.names.get(node)
        if text is None:
            text = self.names[node] = self._write(node)
        if self._operands:
            self._operands[-1].append(text)
        return text

    def tensor(self, node: Expr) -> str:
        """As a call, but a number becomes a 0-d tensor."""
        text = self(node)
        return f"constant({text}, arguments)" if node not in self._arguments and node.is_number else text

    def tensors(self, nodes: Sequence[Expr]) -> list[str]:
        return [self.tensor(node) for node in nodes]

    def refuse(self, node: Basic, reason: str):
        raise UnsupportedOperation(node, reason)

    def _write(self, node: Basic) -> str:
        if node in (sympy.true, sympy.false):
            return f"torch.tensor({node})"
        if isinstance(node, Expr) and node.is_number:
            return self._number(node)
        write = TORCH.get(type(node))
        if write is None:
            self.refuse(node, self._why_not(node))
        self._operands.append([])
        source = write(self, node)
        operands = tuple(dict.fromkeys(self._operands.pop()))
        if source.isidentifier():  # an operation that is the identity on real numbers
            return source
        name = f"v{len(self.steps)}"
        self.steps.append(Step(name, source, node, operands))
        return name

    def _number(self, node: Expr) -> str:
        value = node.evalf(25)  # more digits than a double holds, so its rounding is the only one
        if value is sympy.nan:
            return "float('nan')"
        if value in (sympy.oo, -sympy.oo):
            return "inf" if value is sympy.oo else "(-inf)"
        if value.has(sympy.I) or not value.is_Number:
            self.refuse(
                node,
                "it is not a real number; write a complex equation as two, for the real and the imaginary part"
                if value.has(sympy.I)
                else self._why_not(node),
            )
        text = repr(float(value))
        return f"({text})" if text.startswith("-") else text

    def _why_not(self, node: Basic) -> str:
        if isinstance(node, sympy.Symbol):
            known = ", ".join(sorted(map(str, self._arguments)))
            return f"this symbol has no value here; known are {known}"
        if isinstance(node, sympy.DiracDelta):
            return (
                "a delta is not a function of points; smooth it, for instance `exp(-(x/w)**2)/(w*sqrt(pi))`, or turn "
                "the source into a condition at that place"
            )
        if isinstance(node, sympy.Derivative | sympy.Subs):
            return "this derivative is left over after the fields' own derivatives were taken; write it out"
        if isinstance(node, sympy.Integral | sympy.Sum):
            return "integrals and sums are not evaluated here; write out their value"
        return f"`{type(node).__name__}` is not among the known operations {', '.join(supported())}"


def _constant(value: float, arguments: Sequence[Tensor]) -> Tensor:
    like = next(iter(arguments), None)
    if like is None:
        return torch.tensor(value, dtype=torch.float64)
    return torch.full((), value, dtype=like.dtype, device=like.device)


def _at(value: Tensor, row: int):
    """The entry of `value` in `row`; a 0-d tensor has the same value in all rows."""
    return value.reshape(-1)[row if value.ndim else 0]
