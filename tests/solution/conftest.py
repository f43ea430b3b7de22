"""A fitted function that is known in closed form, so that everything behind a fit can be tested without one."""

import json

import numpy as np
import pytest
import sympy
from sympy import Eq, Function, Symbol, cos, exp, pi, sin

from pinnflow.declare.problem import Problem
from pinnflow.solution.declaration import decode, encode
from pinnflow.solution.solution import Solution
from pinnflow.trial.registry import register_trial


@register_trial
class ClosedForm:
    """One sympy expression per field; derivatives by sympy."""

    kind = "closed form of the tests"

    def __init__(self, expressions, columns):
        self.expressions, self.columns = tuple(expressions), tuple(columns)
        self.largest = 0  # rows asked for at once

    def derivatives(self, points, wanted):
        self.largest = max(self.largest, len(points))
        out = []
        for index, orders in wanted:
            expression = self.expressions[index]
            for column, order in zip(self.columns, orders, strict=True):
                expression = sympy.diff(expression, column, order) if order else expression
            values = sympy.lambdify(self.columns, expression, "numpy")(*points.T)
            out.append(np.array(np.broadcast_to(values, len(points)), dtype=np.float64))
        return out

    def state(self):
        data = encode((self.expressions, self.columns), {})
        weights = {"layers.0.weight": np.arange(6.0).reshape(2, 3) / 7, "a/b": [1, None, True, 2.5, "ü", np.ones(2)]}
        return {"formula": json.dumps(data), "weights": weights, "order": 3, "empty": {}, "none": [], "list": "x"}

    @classmethod
    def from_state(cls, state):
        return cls(*decode(json.loads(state["formula"]), {}))


def make_solution(problem, expressions=None, **changes):
    """A solution of `problem` that returns `expressions`, by default the exact ones."""
    expressions = expressions or [problem.exact[f] for f in problem.fields]
    facts = {
        "method": "least_squares",
        "reason": "the problem is linear and has two axes",
        "error_estimate": 3e-8,
        "checks": {block.name: 1e-9 for block in problem.blocks},
        "stop": "The estimate no longer falls; use float64 or a larger `time_limit`.",
        "history": [{"elapsed": 0.1, "stage": "solve"}, {"elapsed": np.float64(0.25), "stage": "grow", "score": 1 / 3}],
        "seed": 3,
    }
    return Solution(problem, ClosedForm(expressions, problem.columns), **(facts | changes))


T, X, Y = sympy.symbols("t x y", real=True)


def make_wave():
    u = Function("u")(T, X)
    exact = sin(pi * X) * cos(2 * pi * T)
    return Problem(
        [Eq(u.diff(T, 2), 4 * u.diff(X, 2))],
        {T: (0, 1), X: (0, 1)},
        [Eq(u.subs(T, 0), sin(pi * X)), Eq(u.diff(T).subs(T, 0), 0), Eq(u.subs(X, 0), 0), Eq(u.subs(X, 1), 0)],
        exact={u: exact},
        name="wave",
    )


def make_decay():
    """u' = -u on [0, 2]."""
    u = Function("u")(T)
    return Problem([Eq(u.diff(T), -u)], {T: (0, 2)}, [Eq(u.subs(T, 0), 1)], exact={u: exp(-T)}, name="decay")


def make_poisson():
    u = Function("u")(X, Y)
    exact = sin(pi * X) * sin(2 * pi * Y)
    faces = [Eq(u.subs(X, 0), 0), Eq(u.subs(X, 1), 0), Eq(u.subs(Y, 0), 0), Eq(u.subs(Y, 1), 0)]
    source = 5 * pi**2 * exact
    return Problem([Eq(-u.diff(X, 2) - u.diff(Y, 2), source)], {X: (0, 1), Y: (0, 1)}, faces, exact={u: exact})


def make_acoustics():
    """u_t = v_x, v_t = u_x with a pulse travelling to the left and one to the right."""
    u, v = Function("u")(T, X), Function("v")(T, X)
    left, right = exp(-20 * (X + T) ** 2), exp(-20 * (X - T) ** 2)
    return Problem(
        [Eq(u.diff(T), v.diff(X)), Eq(v.diff(T), u.diff(X))],
        {T: (0, 1), X: (-2, 2)},
        [Eq(u.subs(T, 0), 2 * exp(-20 * X**2)), Eq(v.subs(T, 0), 0), Eq(u.subs(X, -2), 0), Eq(u.subs(X, 2), 0)],
        exact={u: left + right, v: left - right},
        name="acoustics",
    )


def make_plate():
    """Heat in the unit square: two axes and time."""
    u = Function("u")(T, X, Y)
    exact = exp(-(pi**2) * T / 4) * sin(pi * X) * sin(2 * pi * Y)
    faces = [Eq(u.subs(axis, end), 0) for axis in (X, Y) for end in (0, 1)]
    return Problem(
        [Eq(u.diff(T), (u.diff(X, 2) + u.diff(Y, 2)) / 20)],
        {T: (0, 1), X: (0, 1), Y: (0, 1)},
        [Eq(u.subs(T, 0), sin(pi * X) * sin(2 * pi * Y)), *faces],
        exact={u: exact},
        name="plate",
    )


def make_cube():
    """Laplace's equation in three axes, which needs slices to be seen."""
    z = Symbol("z", real=True)
    u = Function("u")(X, Y, z)
    exact = sin(X) * sin(Y) * sympy.sinh(sympy.sqrt(2) * z)
    sides = [Eq(u.subs(axis, end), exact.subs(axis, end)) for axis in (X, Y, z) for end in (0, 1)]
    equation = Eq(u.diff(X, 2) + u.diff(Y, 2) + u.diff(z, 2), 0)
    return Problem([equation], {X: (0, 1), Y: (0, 1), z: (0, 1)}, sides, exact={u: exact}, name="cube")


MAKERS = {
    "decay": make_decay, "wave": make_wave, "poisson": make_poisson, "acoustics": make_acoustics,
    "plate": make_plate, "cube": make_cube,
}  # fmt: skip


@pytest.fixture
def solution_of():
    """The solution of one of the problems above by name."""
    return lambda name, **changes: make_solution(MAKERS[name](), **changes)


@pytest.fixture
def wave():
    return make_solution(make_wave())


@pytest.fixture
def system():
    return make_solution(make_acoustics())


@pytest.fixture
def solved():
    """`make_solution`, for problems made in a test."""
    return make_solution


@pytest.fixture(params=sorted(MAKERS))
def any_solution(request):
    return make_solution(MAKERS[request.param]())
