"""Vector operators as unevaluated sympy nodes: one line at any dimension.

`laplacian(u, z)` stays a node until analysis (or `doit`) writes it in derivatives by components. Every node has a
`rank` (0 scalar, 1 vector, 2 matrix); sums of different ranks, powers of vectors and products of two vectors are
refused with the user's term. Axes are scalar coordinates, `laplacian(u, x, y)`, or one vector coordinate.

To add an operator, write one class with `rank`, `operand_rank` and `expand`, and one public function.
"""

from __future__ import annotations

from collections.abc import Sequence

import sympy
from sympy import Derivative, Eq, Expr, Subs, Symbol, Tuple

from pinnflow.declare.symbols import PinnedVector, VectorCoordinate, components_of
from pinnflow.errors import DeclarationError

RANK_NAMES = {0: "a scalar", 1: "a vector", 2: "a matrix"}


def rank(expression: object) -> int:
    """0 for a scalar, 1 for a vector, 2 for a matrix.

    Raises:
        DeclarationError: the expression adds different ranks, or multiplies or raises vectors.
    """
    if isinstance(expression, (list, tuple, Tuple)):
        return 1 + rank(expression[0]) if len(expression) else 1
    if isinstance(expression, sympy.MatrixBase):
        return 1 if expression.shape[1] == 1 else 2
    if not isinstance(expression, sympy.Basic):
        return 0
    own = getattr(expression, "rank", None)
    if isinstance(own, int):
        return own
    if not expression.args or not expression.has(FieldOperator, VectorCoordinate, PinnedVector):
        return 0
    if isinstance(expression, sympy.Add):
        return _rank_of_sum(expression)
    if isinstance(expression, sympy.Mul):
        ranks = [r for r in map(rank, expression.args) if r]
        if len(ranks) > 1:
            raise DeclarationError(
                f"`{expression}` multiplies {RANK_NAMES[ranks[0]]} by {RANK_NAMES[ranks[1]]}, which is ambiguous. "
                "Write `dot(a, b)` for the scalar product."
            )
        return ranks[0] if ranks else 0
    if isinstance(expression, (Derivative, Subs)):
        return rank(expression.expr)
    if isinstance(expression, sympy.Pow) and rank(expression.base):
        raise DeclarationError(
            f"`{expression}` is undefined, because `{expression.base}` is {RANK_NAMES[rank(expression.base)]}. Write "
            f"`norm_squared({expression.base})`."
        )
    if isinstance(expression, (sympy.core.function.AppliedUndef, Eq)):
        return 0
    for argument in expression.args:
        if rank(argument):
            raise DeclarationError(
                f"`{expression}` is undefined, because `{argument}` is {RANK_NAMES[rank(argument)]}. Write it in "
                "components, or make a scalar of it with `dot` or `norm_squared`."
            )
    return 0


def components(expression: Expr) -> tuple[Expr, ...]:
    """The components of an expression of rank 1, derivatives written out."""
    if isinstance(expression, FieldOperator):
        return tuple(expression.expand())
    if isinstance(expression, (VectorCoordinate, PinnedVector)):
        return expression.components
    if isinstance(expression, sympy.Add):
        return tuple(sympy.Add(*column) for column in zip(*map(components, expression.args), strict=True))
    if isinstance(expression, sympy.Mul):
        vector = next(argument for argument in expression.args if rank(argument))
        factor = expression.func(*(argument for argument in expression.args if argument is not vector))
        return tuple(factor * c for c in components(vector))
    if isinstance(expression, Derivative):
        return tuple(Derivative(c, *expression.variable_count) for c in components(expression.expr))
    if isinstance(expression, Subs):
        return tuple(Subs(c, expression.variables, expression.point) for c in components(expression.expr))
    raise DeclarationError(f"`{expression}` has no components.")


class FieldOperator(Expr):
    """Base of the nodes: arguments are the operand (or two) and then the axes."""

    is_field_operator = True
    is_commutative = True
    _op_priority = 20.0
    rank = 0
    operand_rank: int | None = 0
    operands = 1
    takes_axes = True
    name = ""

    def __new__(cls, *arguments):
        operands = [_vector(argument) for argument in arguments[: cls.operands]]
        axes = _axes(cls, arguments) if cls.takes_axes else []
        for operand in operands:
            found = rank(operand)
            if cls.operand_rank is not None and found != cls.operand_rank:
                raise DeclarationError(
                    f"`{cls.name}({', '.join(map(str, arguments))})`: `{operand}` is {RANK_NAMES[found]}, expected "
                    f"{RANK_NAMES[cls.operand_rank]}. {cls.hint(found)}"
                )
        node = Expr.__new__(cls, *operands, *axes)
        node._check_dimensions()
        return node

    @classmethod
    def hint(cls, found: int) -> str:
        """What to write instead when the operand has rank `found`."""
        return "Write it component by component."

    def expand(self) -> Sequence[Expr] | Expr:
        """The value in derivatives by components: an expression for rank 0, a sequence for rank 1."""
        raise NotImplementedError

    @property
    def axes(self) -> tuple[Symbol, ...]:
        """The axes as given: scalar coordinates, or one vector coordinate."""
        return self.args[self.operands :]

    @property
    def columns(self) -> tuple[Symbol, ...]:
        """The axes as scalar columns."""
        return tuple(column for axis in self.axes for column in components_of(axis))

    def doit(self, **hints):
        """The node in derivatives by components; a vector becomes a `Vector` of them."""
        value = self.expand()
        if self.rank == 1:
            return Vector(*(c.doit(**hints) for c in value))
        if self.rank == 2:
            return sympy.ImmutableMatrix([[entry.doit(**hints) for entry in row] for row in value])
        return value.doit(**hints)

    def _check_dimensions(self):
        pass

    def _eval_derivative(self, symbol):
        # Linear in the operand, with coefficients that do not depend on the point.
        return self.func(Derivative(self.args[0], symbol, evaluate=True), *self.axes)

    def _eval_is_real(self):
        return True

    def _eval_subs(self, old, new):
        if old in self.axes or old in self.columns:
            return Subs(self, old, new)  # as for a derivative: first differentiate, then take the value
        return None

    def __add__(self, other):
        _refuse_sum(self, other)
        return super().__add__(other)

    __radd__ = __add__

    def __sub__(self, other):
        _refuse_sum(self, other)
        return super().__sub__(other)

    def __rsub__(self, other):
        _refuse_sum(self, other)
        return super().__rsub__(other)

    def __pow__(self, exponent):
        if self.rank:
            raise DeclarationError(
                f"`({self})**{exponent}` is undefined, because `{self}` is {RANK_NAMES[self.rank]}. Write "
                f"`norm_squared({self})`."
            )
        return super().__pow__(exponent)

    def __getitem__(self, index):
        if self.rank != 1:
            raise TypeError(f"`{self}` is {RANK_NAMES[self.rank]} and has no components.")
        return tuple(self.expand())[index]

    _iterable = False

    def _sympystr(self, printer):
        return f"{self.name}({', '.join(map(printer._print, self.args))})"

    def _latex(self, printer, exp=None):
        text = self.latex([_bracketed(printer, operand) for operand in self.args[: self.operands]])
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"

    def latex(self, operands: list[str]) -> str:
        """The node around its printed operands."""
        return rf"\operatorname{{{self.name}}}\left({', '.join(operands)}\right)"


class Vector(FieldOperator):
    """A vector given by its components."""

    name, rank, takes_axes = "Vector", 1, False

    def __new__(cls, *entries):
        return Expr.__new__(cls, *map(sympy.sympify, entries))

    @property
    def axes(self):
        return ()

    def expand(self):
        return self.args

    def _eval_derivative(self, symbol):
        return Vector(*(Derivative(entry, symbol, evaluate=True) for entry in self.args))

    def _latex(self, printer, exp=None):
        return r"\begin{pmatrix}" + r" \\ ".join(map(printer._print, self.args)) + r"\end{pmatrix}"


class Grad(FieldOperator):
    """The vector of first derivatives."""

    name, rank = "grad", 1

    @classmethod
    def hint(cls, found):
        return "Write `hessian(u, ...)` for all second derivatives."

    def expand(self):
        return [self.args[0].diff(column) for column in self.columns]

    def latex(self, operands):
        return rf"\nabla {operands[0]}"


class Div(FieldOperator):
    """The sum of the derivatives of each component along its own axis."""

    name, operand_rank = "div", 1

    @classmethod
    def hint(cls, found):
        return "Write `div(grad(u, x, y), x, y)`, or a list of components, `div([u, v], x, y)`."

    def _check_dimensions(self):
        _same_length(self, self.args[0], self.columns)

    def expand(self):
        return sympy.Add(*(c.diff(v) for c, v in zip(components(self.args[0]), self.columns, strict=True)))

    def latex(self, operands):
        return rf"\nabla \cdot {operands[0]}"


class Curl(FieldOperator):
    """The rotation of a vector in three dimensions."""

    name, rank, operand_rank = "curl", 1, 1

    def _check_dimensions(self):
        _same_length(self, self.args[0], self.columns)
        if len(self.columns) != 3:
            raise DeclarationError(
                f"`{self}` has {len(self.columns)} axes, expected 3. In the plane write the scalar "
                "`v.diff(x) - u.diff(y)`."
            )

    def expand(self):
        a, v = components(self.args[0]), self.columns
        return [a[(i + 2) % 3].diff(v[(i + 1) % 3]) - a[(i + 1) % 3].diff(v[(i + 2) % 3]) for i in range(3)]

    def latex(self, operands):
        return rf"\nabla \times {operands[0]}"


class Laplacian(FieldOperator):
    """The sum of the second derivatives along all axes."""

    name = "laplacian"

    @classmethod
    def hint(cls, found):
        return "Write one Laplacian per component."

    def expand(self):
        return sympy.Add(*(self.args[0].diff(column, 2) for column in self.columns))

    def latex(self, operands):
        return rf"\Delta {operands[0]}"


class Biharmonic(FieldOperator):
    """The Laplacian of the Laplacian."""

    name = "biharmonic"

    def expand(self):
        terms = []
        for i, a in enumerate(self.columns):
            second = self.args[0].diff(a, 2)
            terms += [second.diff(a, 2), *(2 * second.diff(b, 2) for b in self.columns[i + 1 :])]
        return sympy.Add(*terms)

    def latex(self, operands):
        return rf"\Delta^{{2}} {operands[0]}"


class Hessian(FieldOperator):
    """The matrix of second derivatives."""

    name, rank = "hessian", 2

    def expand(self):
        return [[self.args[0].diff(a, b) for b in self.columns] for a in self.columns]

    def latex(self, operands):
        return rf"\nabla^{{2}} {operands[0]}"


class Dot(FieldOperator):
    """The scalar product of two vectors."""

    name, operand_rank, operands, takes_axes = "dot", 1, 2, False

    @classmethod
    def hint(cls, found):
        return "Both arguments are vectors: `grad(u, x, y)`, a vector coordinate, or a list of components."

    def _check_dimensions(self):
        _same_length(self, self.args[0], components(self.args[1]))

    def expand(self):
        return sympy.Add(*(a * b for a, b in zip(components(self.args[0]), components(self.args[1]), strict=True)))

    def _eval_derivative(self, symbol):
        if _mixes(self, symbol):
            return self.expand().diff(symbol)
        a, b = self.args
        return Dot(_derived(a, symbol), b) + Dot(a, _derived(b, symbol))

    def latex(self, operands):
        return rf"{operands[0]} \cdot {operands[1]}"


class NormSquared(FieldOperator):
    """The squared Euclidean length of a vector."""

    name, operand_rank, takes_axes = "norm_squared", 1, False

    @classmethod
    def hint(cls, found):
        return "The square of a scalar is `u**2`."

    def expand(self):
        return sympy.Add(*(c**2 for c in components(self.args[0])))

    def _eval_derivative(self, symbol):
        a = self.args[0]
        if _mixes(self, symbol):
            return self.expand().diff(symbol)
        return 2 * Dot(a, _derived(a, symbol))

    def latex(self, operands):
        return rf"\left|{operands[0]}\right|^{{2}}"


class NormalDerivative(FieldOperator):
    """The derivative along the outward normal; a `Condition` says where, and so which direction that is."""

    name, takes_axes = "normal_derivative", False

    def expand(self):
        raise DeclarationError(
            f"`{self}` has no direction by itself. Write it in `Condition(eq, on={{x: 1}})` or "
            '`Condition(eq, on="boundary")`.'
        )

    def latex(self, operands):
        return rf"\partial_{{n}} {operands[0]}"


def grad(expression: Expr, *axes: Symbol) -> Expr:
    """The gradient: the vector of first derivatives along `axes`."""
    return Grad(expression, *axes)


def div(vector: Expr | Sequence[Expr], *axes: Symbol) -> Expr:
    """The divergence of a vector, or of a list of components, along `axes`."""
    return Div(vector, *axes)


def curl(vector: Expr | Sequence[Expr], *axes: Symbol) -> Expr:
    """The rotation of a vector along three `axes`."""
    return Curl(vector, *axes)


def laplacian(expression: Expr, *axes: Symbol) -> Expr:
    """The Laplacian: the sum of second derivatives along `axes`."""
    return Laplacian(expression, *axes)


def biharmonic(expression: Expr, *axes: Symbol) -> Expr:
    """The Laplacian of the Laplacian along `axes`."""
    return Biharmonic(expression, *axes)


def hessian(expression: Expr, *axes: Symbol) -> Expr:
    """The matrix of second derivatives along `axes`."""
    return Hessian(expression, *axes)


def dot(a: Expr | Sequence[Expr], b: Expr | Sequence[Expr]) -> Expr:
    """The scalar product of two vectors."""
    return Dot(a, b)


def norm_squared(vector: Expr | Sequence[Expr]) -> Expr:
    """The squared Euclidean length of a vector."""
    return NormSquared(vector)


def normal_derivative(expression: Expr) -> Expr:
    """The derivative along the outward normal, for `Condition(..., on=...)`."""
    return NormalDerivative(expression)


def _vector(operand):
    if isinstance(operand, (list, tuple)):
        return Vector(*operand)
    if isinstance(operand, sympy.MatrixBase):
        return Vector(*operand) if 1 in operand.shape else operand.as_immutable()
    return sympy.sympify(operand)


def _axes(cls, arguments):
    axes = list(arguments[cls.operands :])
    if len(axes) == 1 and isinstance(axes[0], (list, tuple)):
        axes = list(axes[0])
    call = f"{cls.name}({', '.join(map(str, arguments))})"
    if not axes:
        raise DeclarationError(
            f"`{call}` does not say along which axes. Write `{cls.name}({arguments[0]}, x, y)` or "
            f"`{cls.name}({arguments[0]}, z)`."
        )
    for axis in axes:
        if not isinstance(axis, Symbol):
            raise DeclarationError(f"`{call}`: the axis `{axis}` is no coordinate. Write for example `x, y`.")
    if len(set(axes)) < len(axes):
        raise DeclarationError(f"`{call}` names an axis twice. Name each axis once.")
    if any(isinstance(axis, VectorCoordinate) for axis in axes) and len(axes) > 1:
        raise DeclarationError(f"`{call}` mixes a vector coordinate with other axes. Write one operator for each.")
    return axes


def _same_length(node, vector, columns):
    found = len(components(vector))
    if found != len(columns):
        raise DeclarationError(
            f"`{node}`: one vector has {found} components and the other {len(columns)}. Make their lengths equal."
        )


def _rank_of_sum(expression):
    ranks = [(rank(argument), argument) for argument in expression.args]
    if len({r for r, _ in ranks}) > 1:
        low, high = min(ranks, key=lambda r: r[0]), max(ranks, key=lambda r: r[0])
        raise DeclarationError(
            f"`{expression}` adds `{low[1]}`, which is {RANK_NAMES[low[0]]}, and `{high[1]}`, which is "
            f"{RANK_NAMES[high[0]]}. Add terms of the same rank."
        )
    return ranks[0][0]


def _refuse_sum(node, other):
    other = sympy.sympify(other)
    if other == 0:
        return
    found = rank(other)
    if found != node.rank:
        raise DeclarationError(
            f"`{node}` is {RANK_NAMES[node.rank]} and `{other}` is {RANK_NAMES[found]}, so they cannot be added. Add "
            "terms of the same rank."
        )


def _mixes(node, symbol):
    """Whether `symbol` is a component of a vector coordinate that stands in `node` as a vector."""
    return any(symbol in components_of(v) for v in node.atoms(VectorCoordinate)) and symbol not in node.atoms(Symbol)


def _derived(vector, symbol):
    if isinstance(vector, FieldOperator):
        return vector._eval_derivative(symbol)
    return Vector(*(c.diff(symbol) for c in components(vector)))


def _bracketed(printer, operand):
    text = printer._print(operand)
    return rf"\left({text}\right)" if operand.is_Add or operand.is_Mul else text
