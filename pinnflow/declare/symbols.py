"""Coordinates and fields: the symbols a problem is written in.

Everything here is plain sympy: a coordinate is a real `Symbol`, a field is `Function(name)(*coordinates)`. A vector
coordinate is one real `Symbol` whose components are real symbols too, so that `u.diff(z[3])` costs the same in 512
dimensions as in two.
"""

from __future__ import annotations

import sympy
from sympy import Derivative, Expr, Subs, Symbol, Tuple
from sympy.core.function import AppliedUndef

from pinnflow.errors import DeclarationError


def coordinates(names: str, dimension: int | None = None):
    """Real symbols for the axes: one symbol for one name, else a tuple in the order of `names`.

    Args:
        names: names separated by blanks or commas, as in `sympy.symbols`.
        dimension: if given, one vector coordinate with that many components.

    Returns:
        A `Symbol(real=True)`, a tuple of them, or a `VectorCoordinate`.

    Raises:
        DeclarationError: a name is missing or given twice, or the dimension is no positive integer.
    """
    listed = names.replace(",", " ").split() if isinstance(names, str) else []
    if not listed:
        raise DeclarationError(f'`coordinates({names!r})` names nothing; write for example `coordinates("t x")`.')
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise DeclarationError(f"`coordinates({names!r})` names `{twice[0]}` twice; each axis needs a name of its own.")
    if dimension is None:
        return sympy.symbols(names, real=True)
    if len(listed) != 1 or isinstance(dimension, bool) or int(dimension) != dimension or dimension < 1:
        raise DeclarationError(
            f"`coordinates({names!r}, {dimension!r})` is no vector coordinate; expected one name and a dimension of at "
            'least 1, for example `coordinates("z", 8)`.'
        )
    return VectorCoordinate(listed[0], int(dimension))


def field(name: str, *axes: Symbol) -> AppliedUndef:
    """The unknown function `name(*axes)`: the same object as `sympy.Function(name)(*axes)`.

    Raises:
        DeclarationError: no axis is given, or one is not a symbol.
    """
    if not axes or not all(isinstance(axis, Symbol) for axis in axes):
        raise DeclarationError(
            f"`field({', '.join([repr(name), *map(str, axes)])})` needs the coordinates it depends on; write for "
            f'example `field("{name}", t, x)`.'
        )
    return sympy.Function(name)(*axes)


def components_of(axis: Expr) -> tuple[Symbol, ...]:
    """The scalar columns of an axis: its components, or the axis itself when it is scalar."""
    return axis.components if isinstance(axis, VectorCoordinate) else (axis,)


class VectorCoordinate(Symbol):
    """A point of R^d as one real symbol; `z[i]` is its component i, counted from 0.

    Two vector coordinates are equal when name and dimension are. In a field's arguments it stands for all of its
    components: `u(t, z).diff(z[1])` is the partial derivative along component 1.

    Attributes:
        dimension: d.
        components: the d component symbols.
    """

    __slots__ = ("_components", "_free", "dimension")
    _components: tuple[Component, ...] | None
    _free: frozenset[Symbol] | None
    dimension: int
    rank = 1
    # `z[i]` makes Python think that z is a sequence; sympy must go on treating it as one symbol.
    _iterable = False

    def __new__(cls, name: str, dimension: int) -> VectorCoordinate:
        self = Symbol.__xnew__(cls, name, real=True)
        self.dimension = int(dimension)
        self._components = None
        self._free = None
        return self

    def __getnewargs_ex__(self):
        return (self.name, self.dimension), {}

    def __getstate__(self):
        return None

    def _hashable_content(self):
        return (*super()._hashable_content(), self.dimension)

    @property
    def components(self) -> tuple[Component, ...]:
        if self._components is None:
            self._components = tuple(Component(self, i) for i in range(self.dimension))
        return self._components

    @property
    def free_symbols(self):
        # A derivative by a component must not be taken for zero, so the components count as free symbols.
        if self._free is None:
            self._free = frozenset((self, *self.components))
        return set(self._free)

    def __len__(self) -> int:
        return self.dimension

    def __getitem__(self, index: int) -> Component:
        return _component(self, index)

    def __pow__(self, exponent):
        raise _no_power(self)

    def __add__(self, other):
        _refuse_scalar(self, other)
        return super().__add__(other)

    __radd__ = __add__

    def __sub__(self, other):
        _refuse_scalar(self, other)
        return super().__sub__(other)

    def __rsub__(self, other):
        _refuse_scalar(self, other)
        return super().__rsub__(other)

    def _eval_derivative(self, symbol):
        if isinstance(symbol, Component) and symbol.axis == self:
            return _Direction(symbol)
        if symbol == self:
            raise _no_vector_derivative(self)
        return sympy.S.Zero

    def _eval_derivative_n_times(self, symbol, count):
        return sympy.Expr._eval_derivative_n_times(self, symbol, count)

    def _eval_subs(self, old, new):
        if isinstance(old, Component) and old.axis == self:
            return PinnedVector(self, Tuple(old, new))
        return None

    def xreplace(self, rule, hack2=False):
        return self._xreplace(rule)[0]

    def _xreplace(self, rule):
        if self in rule:
            return rule[self], True
        replaced = [Tuple(old, new) for old, new in rule.items() if isinstance(old, Component) and old.axis == self]
        return (PinnedVector(self, *replaced), True) if replaced else (self, False)


class Component(Symbol):
    """Component `index` of a vector coordinate; made by `z[index]`.

    Attributes:
        axis: the vector coordinate.
        index: counted from 0.
    """

    __slots__ = ("axis", "index")

    def __new__(cls, axis, index):
        self = Symbol.__xnew__(cls, f"{axis.name}[{index}]", real=True)
        self.axis, self.index = axis, index
        return self

    def __getnewargs_ex__(self):
        return (self.axis, self.index), {}

    def __getstate__(self):
        return None

    def _hashable_content(self):
        return (*super()._hashable_content(), self.axis.name, self.axis.dimension, self.index)

    def __eq__(self, other):
        # As sympy's, without building what is hashed: components are looked for among d of their kind.
        if self is other:
            return True
        if type(other) is not Component:
            return super().__eq__(other)
        return self.index == other.index and self.axis == other.axis

    __hash__ = Symbol.__hash__

    def _latex(self, printer):
        return f"{printer._print(Symbol(self.axis.name))}_{{{self.index}}}"


class PinnedVector(Expr):
    """A vector coordinate in which some components are replaced, as `u.subs(z[0], 1)` leaves it in `u(t, z)`.

    Args: the vector coordinate and `(component, value)` pairs.
    """

    rank = 1
    _iterable = False

    def __new__(cls, axis, *replaced):
        pairs = sorted((Tuple(*pair) for pair in replaced if pair[0] != pair[1]), key=lambda pair: pair[0].index)
        return Expr.__new__(cls, axis, *pairs) if pairs else axis

    @property
    def axis(self) -> VectorCoordinate:
        return self.args[0]

    @property
    def replaced(self) -> dict[Component, Expr]:
        return dict(tuple(pair) for pair in self.args[1:])

    @property
    def components(self) -> tuple[Expr, ...]:
        replaced = self.replaced
        return tuple(replaced.get(c, c) for c in self.axis.components)

    @property
    def free_symbols(self):
        replaced = self.replaced
        return (self.axis.free_symbols - set(replaced)).union(*(value.free_symbols for value in replaced.values()))

    def __getitem__(self, index: int) -> Expr:
        return self.components[index]

    def _eval_is_real(self):
        return True

    def _eval_derivative(self, symbol):
        if symbol == self.axis:
            raise _no_vector_derivative(self.axis)
        if isinstance(symbol, Component) and symbol.axis == self.axis and symbol not in self.replaced:
            return _Direction(symbol)
        if any(value.has(symbol) for value in self.replaced.values()):
            raise DeclarationError(
                f"`{self}` replaces a component by something that depends on `{symbol}`, so no derivative by it is "
                "defined. Differentiate first and substitute then."
            )
        return sympy.S.Zero

    def _eval_subs(self, old, new):
        return self._xreplace({old: new})[0]

    def _xreplace(self, rule):
        if self in rule:
            return rule[self], True
        if self.axis in rule:
            return rule[self.axis], True
        replaced = {c: value.xreplace(rule) for c, value in self.replaced.items()}
        for old, new in rule.items():
            if isinstance(old, Component) and old.axis == self.axis:
                replaced.setdefault(old, new)
        new = PinnedVector(self.axis, *replaced.items())
        return new, new != self

    def xreplace(self, rule):
        return self._xreplace(rule)[0]

    def _sympystr(self, printer):
        inside = ", ".join(f"{c}={printer._print(value)}" for c, value in self.replaced.items())
        return f"{self.axis}({inside})"

    def _latex(self, printer):
        inside = ",\\,".join(f"{printer._print(c)}={printer._print(value)}" for c, value in self.replaced.items())
        return f"\\left.{printer._print(self.axis)}\\right|_{{{inside}}}"


class _Direction(Expr):
    """The derivative of a vector coordinate by one component, as the chain rule meets it.

    sympy computes `u(t, z).diff(z[i])` as `Derivative(u, z) * z.diff(z[i])`. The second factor is this object, and
    multiplying by it writes the component into the first; it never leaves that product.
    """

    _op_priority = 100.0
    is_commutative = True

    def __new__(cls, component):
        return Expr.__new__(cls, component)

    def _eval_is_zero(self):
        return False

    def __rmul__(self, outer):
        component = self.args[0]
        if isinstance(outer, Derivative) and outer.variables == (component.axis,):
            return Derivative(outer.expr, component)
        if isinstance(outer, Subs) and isinstance(outer.expr, Derivative) and len(outer.point) == 1:
            # u(t, z with a pinned component): sympy differentiates by a dummy and substitutes.
            return Derivative(outer.expr.expr.xreplace({outer.variables[0]: outer.point[0]}), component)
        raise DeclarationError(
            f"`{component.axis}` stands in a function that is no field, so `.diff({component})` is undefined. Write "
            f"the function in the components `{component.axis}[0]`, ... or with `dot` and `norm_squared`."
        )

    __mul__ = __rmul__


def _component(axis, index):
    if (
        isinstance(index, bool)
        or not isinstance(index, (int, sympy.Integer))
        or not -axis.dimension <= index < axis.dimension
    ):
        raise IndexError(f"`{axis}[{index}]`: `{axis}` has the components 0 to {axis.dimension - 1}.")
    return axis.components[int(index)]


def _no_power(axis):
    return DeclarationError(
        f"`{axis}**...` is undefined, because `{axis}` is a vector of dimension {axis.dimension}. Write "
        f"`norm_squared({axis})` for the squared length or `{axis}[0]**2` for one component."
    )


def _no_vector_derivative(axis):
    return DeclarationError(
        f"`.diff({axis})` is undefined, because `{axis}` is a vector of dimension {axis.dimension}. Write "
        f"`.diff({axis}[0])` for one component, `grad(u, {axis})` or `laplacian(u, {axis})` for all of them."
    )


def _refuse_scalar(axis, other):
    other = sympy.sympify(other)
    if isinstance(other, Expr) and not other.is_zero and not _has_vector(other):
        raise DeclarationError(
            f"`{axis}` is a vector of dimension {axis.dimension} and `{other}` is a scalar, so they cannot be added. "
            f"Write `{axis}[0]` for one component or `norm_squared({axis})` for the squared length."
        )


def _has_vector(node):
    if getattr(node, "rank", 0) == 1:
        return True
    return (node.is_Add or node.is_Mul) and any(_has_vector(argument) for argument in node.args)
