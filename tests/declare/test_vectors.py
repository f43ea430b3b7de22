"""Vector coordinates and operators: one line at any dimension, and the same as the components written out."""

import pickle

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Derivative, Eq, Function, Symbol, exp, latex

from pinnflow import (
    Condition,
    Problem,
    biharmonic,
    coordinates,
    curl,
    div,
    dot,
    field,
    grad,
    hessian,
    laplacian,
    norm_squared,
    normal_derivative,
)
from pinnflow.declare.analysis import Normaliser
from pinnflow.declare.operators import rank

t, x, y = coordinates("t x y")
z = coordinates("z", 4)
u = field("u", t, x, y)
w = field("w", t, z)


def test_names_make_symbols_tuples_or_a_vector():
    assert coordinates("x") == Symbol("x", real=True)
    assert coordinates("t, x") == (t, x)
    assert coordinates("z", 4) == z != coordinates("z", 5)
    assert z != Symbol("z", real=True)
    assert hash(z) == hash(coordinates("z", 4))
    assert (len(z), z.dimension, z.components[2], z[-1]) == (4, 4, z[2], z[3])
    assert isinstance(z, Symbol)
    assert z.is_real


def test_field_is_sympys_own_function():
    assert field("u", t, x, y) == Function("u")(t, x, y)
    assert w == Function("w")(t, z)


def test_index_outside_the_vector_is_named():
    with pytest.raises(IndexError, match=r"`z\[4\]`: `z` has the components 0 to 3"):
        z[4]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([t, *z]), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_component_derivatives_commute(variables, random):
    """All at once, one by one and in another order give one derivative."""
    shuffled = list(variables)
    random.shuffle(shuffled)
    one_by_one = w
    for variable in variables:
        one_by_one = one_by_one.diff(variable)
    assert w.diff(*variables) == w.diff(*shuffled) == one_by_one == Derivative(w, *variables).doit()
    normaliser = Normaliser((t, *z), (w,))
    normaliser(one_by_one)
    (atom,) = normaliser.atoms.values()
    assert atom.orders == tuple(variables.count(column) for column in (t, *z))


def test_component_obeys_the_product_rule():
    assert (z[0] * w).diff(z[0]) == w + z[0] * w.diff(z[0])
    assert (z[0] * w).diff(z[1]) == z[0] * w.diff(z[1])
    assert exp(w).diff(z[1]) == exp(w) * w.diff(z[1])


@pytest.mark.parametrize(
    ("expression", "orders"),
    [
        (w.subs(z[1], 0), (0, 0, 0, 0, 0)),
        (w.diff(z[1]).subs(z[1], 0), (0, 0, 1, 0, 0)),
        (w.subs(z[1], 0).diff(z[2], 2), (0, 0, 0, 2, 0)),
        (w.diff(z[1]).subs(z[1], 0).diff(z[2]), (0, 0, 1, 1, 0)),
    ],
)
def test_component_is_pinned_like_any_coordinate(expression, orders):
    normaliser = Normaliser((t, *z), (w,))
    normaliser(expression)
    (atom,) = normaliser.atoms.values()
    assert (atom.orders, atom.pins) == (orders, ((z[1], 0),))


def test_pinned_component_derivatives_differ_by_component():
    assert w.diff(z[0]).subs(z[0], 0) != w.diff(z[1]).subs(z[1], 0)
    assert w.subs(z[0], 0).diff(z[0]) == 0


def test_vectors_survive_pickling():
    expression = w.diff(z[0], 2) + norm_squared(z) + laplacian(w, z)
    assert pickle.loads(pickle.dumps(expression)) == expression


IDENTITIES = {
    "laplacian is div grad": (laplacian(w, z), div(grad(w, z), z)),
    "biharmonic is laplacian twice": (biharmonic(w, z), laplacian(laplacian(w, z), z)),
    "laplacian is the trace of the hessian": (laplacian(u, x, y), sympy.trace(hessian(u, x, y).doit())),
    "squared length is a scalar product": (norm_squared(grad(w, z)), dot(grad(w, z), grad(w, z))),
    "product rule": (div(w * grad(w, z), z), norm_squared(grad(w, z)) + w * laplacian(w, z)),
    "drift": (div(z * w, z), 4 * w + dot(z, grad(w, z))),
    "curl of a gradient": (dot(curl(grad(u, t, x, y), t, x, y), [1, x, t]), sympy.S.Zero),
    "sum of gradients": (div(grad(u, x, y) + 2 * grad(u, x, y), x, y), 3 * laplacian(u, x, y)),
    "list of components": (div([u, x * u], x, y), u.diff(x) + x * u.diff(y)),
    "derivative of a node": (laplacian(w, z).diff(t), laplacian(w.diff(t), z)),
    "derivative by a component": (norm_squared(grad(w, z)).diff(z[1]), 2 * dot(grad(w, z), grad(w.diff(z[1]), z))),
    "derivative of the length": (norm_squared(z).diff(z[0]), 2 * z[0]),
    "pinned node": (laplacian(u, x, y).subs(x, 0), u.diff(x, 2).subs(x, 0) + u.diff(y, 2).subs(x, 0)),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_vector_identity(name):
    one, other = IDENTITIES[name]
    columns, fields = ((t, x, y), (u,)) if not sympy.sympify(one).has(z) else ((t, *z), (w,))
    normaliser = Normaliser(columns, fields)
    assert sympy.expand(normaliser(one) - normaliser(other)) == 0


def test_ranks():
    assert [rank(e) for e in (u, laplacian(u, x), grad(u, x, y), 2 * grad(u, x), z, hessian(u, x, y))] == [
        0,
        0,
        1,
        1,
        1,
        2,
    ]


def test_nodes_print_in_one_line_at_any_dimension():
    big = coordinates("z", 512)
    p = field("p", t, big)
    expression = laplacian(p, big) + norm_squared(grad(p, big))
    assert str(expression) == "laplacian(p(t, z), z) + norm_squared(grad(p(t, z), z))"
    assert latex(laplacian(p, big)) == r"\Delta p{\left(t,z \right)}"
    assert latex(dot(big, grad(p, big))) == r"z \cdot \nabla p{\left(t,z \right)}"


def test_vector_problem_has_one_column_per_component_and_two_faces_each():
    problem = Problem(
        [Eq(w.diff(t), laplacian(w, z))],
        {t: (0, 1), z: (-1, 1)},
        [Eq(w.subs(t, 0), norm_squared(z)), Condition(normal_derivative(w), on="boundary")],
    )
    assert problem.coordinates == (t, z)
    assert problem.columns == (t, *z)
    assert problem.bounds[z[2]] == (-1.0, 1.0)
    assert len(problem.blocks[0].parts[0].atoms) == 5
    assert [part.pins for part in problem.blocks[2].parts] == [{c: end} for c in z for end in (-1, 1)]
