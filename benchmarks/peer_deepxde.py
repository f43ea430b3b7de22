"""DeepXDE, PyTorch backend, as its documentation solves such problems: a tanh network, Adam, then L-BFGS.

Numbers of points, networks and iterations are those of its shipped programs for Burgers, for Poisson on an L-shape and
for the wave on an interval. The last one asks for a multi-scale network and weights that the PyTorch backend does not
have or that the first two do without; here it gets the plain network of the same size. Adam has at most half of the
time, so that L-BFGS has its turn.
"""

from __future__ import annotations

import os

os.environ["DDE_BACKEND"] = "pytorch"

import deepxde as dde
import numpy as np
import sympy
import torch

from benchmarks.boxes import BOXES
from benchmarks.statements import ROWS

RATE = 1e-3  # of Adam
L_BFGS_CHUNK = 20  # iterations between two looks at the clock


def interval_and_time(low: float):
    return dde.geometry.GeometryXTime(dde.geometry.Interval(low, 1), dde.geometry.TimeDomain(0, 1))


def burgers():
    place = interval_and_time(-1)

    def equation(xt, u):
        u_x, u_t = (dde.grad.jacobian(u, xt, i=0, j=j) for j in (0, 1))
        return u_t + u * u_x - 0.01 / np.pi * dde.grad.hessian(u, xt, i=0, j=0)

    ends = dde.icbc.DirichletBC(place, lambda xt: 0, lambda _, here: here)
    start = dde.icbc.IC(place, lambda xt: -np.sin(np.pi * xt[:, :1]), lambda _, here: here)
    data = dde.data.TimePDE(place, equation, [ends, start], num_domain=2540, num_boundary=80, num_initial=160)
    return data, dde.nn.FNN([2] + [20] * 3 + [1], "tanh", "Glorot normal"), 15_000


def wave():
    place = interval_and_time(0)

    def equation(xt, u):
        return dde.grad.hessian(u, xt, i=1, j=1) - 4 * dde.grad.hessian(u, xt, i=0, j=0)

    def shape(xt):
        return np.sin(np.pi * xt[:, :1]) + np.sin(4 * np.pi * xt[:, :1]) / 2

    ends = dde.icbc.DirichletBC(place, lambda xt: 0, lambda _, here: here)
    start = dde.icbc.IC(place, shape, lambda _, here: here)
    rest = dde.icbc.OperatorBC(
        place, lambda xt, u, _: dde.grad.jacobian(u, xt, i=0, j=1), lambda xt, _: dde.utils.isclose(xt[1], 0)
    )
    data = dde.data.TimePDE(place, equation, [ends, start, rest], num_domain=360, num_boundary=360, num_initial=360)
    return data, dde.nn.FNN([2] + [100] * 3 + [1], "tanh", "Glorot uniform"), 10_000


def poisson():

    problem = ROWS[11].declare()
    source = sympy.lambdify(
        problem.coordinates, problem.equations[0].rhs, [{"sin": torch.sin, "exp": torch.exp}, "math"]
    )
    square = dde.geometry.Rectangle([0, 0], [1, 1])

    def equation(xy, u):
        u_xx, u_yy = (dde.grad.hessian(u, xy, i=i, j=i) for i in (0, 1))
        return -u_xx - u_yy - source(xy[:, :1], xy[:, 1:])

    edge = dde.icbc.DirichletBC(square, lambda xy: 0, lambda _, here: here)
    data = dde.data.PDE(square, equation, edge, num_domain=1200, num_boundary=120)
    return data, dde.nn.FNN([2] + [50] * 4 + [1], "tanh", "Glorot uniform"), 50_000


def cube(number: int):
    """A problem of `boxes.py` that is linear with given values on all faces, network and points as for Poisson."""
    problem = BOXES[number].declare()
    (u,) = problem.fields
    equation = (problem.equations[0].lhs.doit() - problem.equations[0].rhs.doit()).expand()
    columns = list(problem.columns)
    # Numbers that stay under a function, such as exp(-50), are evaluated first.
    equation = equation.xreplace({part: part.evalf() for part in equation.atoms(sympy.Function) if part.is_number})
    orders = sorted(equation.atoms(sympy.Derivative), key=str)
    torch_functions = [{name: getattr(torch, name) for name in ("sin", "cos", "exp", "tanh", "sqrt")}, "math"]
    coefficients = [sympy.lambdify(columns, equation.coeff(d), torch_functions) for d in orders]
    rest = equation.xreplace({d: sympy.Integer(0) for d in orders}).xreplace({u: sympy.Integer(0)})
    source = sympy.lambdify(columns, rest, torch_functions)
    exact = sympy.lambdify(columns, problem.exact[u], "numpy")
    place = dde.geometry.Cuboid([0, 0, 0], [1, 1, 1])

    def residual(xyz, values):
        x = [xyz[:, i : i + 1] for i in range(3)]
        total = source(*x)
        for derivative, coefficient in zip(orders, coefficients, strict=True):
            axes = [columns.index(v) for v, count in derivative.variable_count for _ in range(count)]
            if len(axes) == 1:
                found = dde.grad.jacobian(values, xyz, i=0, j=axes[0])
            else:
                found = dde.grad.hessian(values, xyz, i=axes[0], j=axes[1])
            total = total + coefficient(*x) * found
        return total

    faces = dde.icbc.DirichletBC(place, lambda p: exact(*p.T)[:, None], lambda _, here: here)
    data = dde.data.PDE(place, residual, faces, num_domain=4000, num_boundary=1200)
    return data, dde.nn.FNN([3] + [50] * 4 + [1], "tanh", "Glorot uniform"), 50_000


PROBLEMS = {1: burgers, 6: wave, 11: poisson, "box 1": lambda: cube(1), "box 2": lambda: cube(2)}


class Clock(dde.callbacks.Callback):
    """Ends the training at a time of `now`; DeepXDE's own `Timer` knows wall time only."""

    def __init__(self, now, end):
        super().__init__()
        self.now, self.end = now, end

    def on_epoch_end(self):
        self.model.stop_training = self.now() > self.end


def solve(row: int | str, seconds: float, seed: int, now, precision: str = "float32"):
    """Trains for `seconds` of the clock `now`; gives the values `[n]` of u at points `[n, D]`, columns as declared."""
    begin = now()
    dde.config.set_random_seed(seed)
    dde.config.set_default_float(precision)
    data, network, iterations = PROBLEMS[row]()
    model = dde.Model(data, network)
    model.compile("adam", lr=RATE)
    model.train(iterations=iterations, callbacks=[Clock(now, begin + seconds / 2)], verbose=0)
    dde.optimizers.config.LBFGS_options.update(iter_per_step=L_BFGS_CHUNK, fun_per_step=L_BFGS_CHUNK * 5 // 4)
    model.compile("L-BFGS")
    model.train(callbacks=[Clock(now, begin + seconds)], verbose=0)
    order = {1: [1, 0], 6: [1, 0], 11: [0, 1]}.get(row, [0, 1, 2])  # DeepXDE has time last
    return lambda points: model.predict(points[:, order])[:, 0].astype(float)
