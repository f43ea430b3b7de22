"""What a training step costs: pinnflow against other toolkits and against nested reverse mode, in one interleaved run.

A step is the residual with its conditions and the gradient by the weights. Every contender has the same network, the
same points and the same statement; DeepXDE, PINA and TorchPhysics run with their own derivative operators where they
are installed (extra `bench`; TorchPhysics wants numpy below 2, so an environment of its own). Rounds alternate between
the contenders, so that other programs on the machine disturb all of them alike; the table gives medians.

    python benchmarks/derivatives.py [--threads 2] [--rounds 15] [--compiled] [--only wave beam]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import sympy
import torch
from sympy import Eq, pi, sin
from torch import Tensor, nn

import pinnflow
from pinnflow import Condition, Problem, coordinates, field

POINTS, SIDE = 2048, 256
TURN = 4
"""Steps that a contender takes in a row, as in training; the first, which finds other data in the caches and threads of
the contender before still waiting for work, is not counted."""

t, x, y = coordinates("t x y")
u, q, w = field("u", t, x, y), field("q", t, x), field("w", x, y)

WAVE = Problem(
    [Eq(u.diff(t, 2), u.diff(x, 2) + u.diff(y, 2))], {t: (0, 1), x: (0, 1), y: (0, 1)},
    [Eq(u.subs(t, 0), sin(pi * x) * sin(pi * y)), Eq(u.diff(t).subs(t, 0), 0), Condition(Eq(u, 0), on="boundary")],
)  # fmt: skip
BEAM = Problem(
    [Eq(q.diff(t, 2) + q.diff(x, 4), 0)], {t: (0, 1), x: (0, 1)},
    [Eq(q.subs(t, 0), sin(pi * x)), Eq(q.diff(t).subs(t, 0), 0), Eq(q.subs(x, 0), 0), Eq(q.subs(x, 1), 0),
     Eq(q.diff(x, 2).subs(x, 0), 0), Eq(q.diff(x, 2).subs(x, 1), 0)],
)  # fmt: skip
PLATE = Problem(
    [Eq(w.diff(x, 4) + 2 * w.diff(x, 2, y, 2) + w.diff(y, 4), 1)], {x: (0, 1), y: (0, 1)},
    [Condition(Eq(w, 0), on="boundary")],
)  # fmt: skip
CASES = {"wave": WAVE, "beam": BEAM, "plate": PLATE}


def network(columns: int, width: int = 64, depth: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    sizes = [columns, *[width] * depth]
    hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*hidden, nn.Linear(width, 1))


# -- derivatives as each toolkit takes them: (values [n, 1], points [n, d], axes) -> [n, 1] -----------


class Nested:
    """torch.autograd.grad again and again, each gradient taken once."""

    name = "nested reverse"

    def begin(self, points: Tensor) -> Tensor:
        self.kept: dict = {}
        return points.clone().requires_grad_()

    def call(self, net, points):
        return net(points)

    def derivative(self, values: Tensor, points: Tensor, axes: tuple[int, ...]) -> Tensor:
        if not axes:
            return values
        if axes[:-1] not in self.kept:
            inner = self.derivative(values, points, axes[:-1])
            self.kept[axes[:-1]] = self.gradient(inner, points)
        return self.kept[axes[:-1]][:, axes[-1] : axes[-1] + 1]

    def gradient(self, values, points):
        return torch.autograd.grad(values.sum(), points, create_graph=True)[0]


class TorchPhysics(Nested):
    name = "torchphysics"

    def __init__(self):
        from torchphysics.utils import grad

        self.gradient = grad


class DeepXDE(Nested):
    name = "deepxde"

    def __init__(self):
        os.environ["DDE_BACKEND"] = "pytorch"
        import deepxde

        torch.set_default_device("cpu")
        self.toolkit = deepxde.grad

    def begin(self, points):
        self.toolkit.clear()
        return points.clone().requires_grad_()

    def derivative(self, values, points, axes):
        if len(axes) >= 2:
            values = self.derivative(values, points, axes[:-2])
            return self.toolkit.hessian(values, points, i=axes[-2], j=axes[-1])
        return self.toolkit.jacobian(values, points, i=0, j=axes[0]) if axes else values


class PINA(Nested):
    name = "pina-mathlab"

    def __init__(self):
        from pina import LabelTensor
        from pina.operator import fast_grad

        self.label, self.fast = LabelTensor, fast_grad

    def begin(self, points):
        self.kept = {}
        return self.label(points.clone(), [f"x{i}" for i in range(points.shape[1])]).requires_grad_()

    def call(self, net, points):
        return self.label(net(points.tensor) if hasattr(points, "tensor") else net(points), ["u"])

    def gradient(self, values, points):
        return self.fast(values, points, list(values.labels), list(points.labels))

    def derivative(self, values, points, axes):
        if not axes:
            return values
        if axes[:-1] not in self.kept:
            self.kept[axes[:-1]] = self.gradient(self.derivative(values, points, axes[:-1]), points)
        found = self.kept[axes[:-1]]
        return found.extract([found.labels[axes[-1]]])


PEERS = (Nested, TorchPhysics, DeepXDE, PINA)


def step_of(toolkit: Nested, case: str, net: nn.Module, points: dict[str, Tensor]) -> Callable[[], Tensor]:
    """The loss of a case by a toolkit's own derivatives."""

    def parts(name):
        here = toolkit.begin(points[name])
        values = toolkit.call(net, here)
        return lambda *axes: toolkit.derivative(values, here, axes).as_subclass(Tensor).reshape(-1)

    def start(name):
        return torch.sin(torch.pi * points[name][:, 1])

    def wave():
        d = parts("equation 1")
        loss = (d(0, 0) - d(1, 1) - d(2, 2)).square().mean()
        d = parts("condition 1")
        loss = loss + (d() - start("condition 1") * torch.sin(torch.pi * points["condition 1"][:, 2])).square().mean()
        return loss + d(0).square().mean() + parts("condition 3")().square().mean()

    def beam():
        d = parts("equation 1")
        loss = (d(0, 0) + d(1, 1, 1, 1)).square().mean()
        d = parts("condition 1")
        loss = loss + (d() - start("condition 1")).square().mean() + d(0).square().mean()
        for end in ("condition 3", "condition 4"):
            d = parts(end)
            loss = loss + d().square().mean() + d(1, 1).square().mean()
        return loss

    def plate():
        d = parts("equation 1")
        loss = (d(0, 0, 0, 0) + 2 * d(0, 0, 1, 1) + d(1, 1, 1, 1) - 1).square().mean()
        return loss + parts("condition 1")().square().mean()

    return {"wave": wave, "beam": beam, "plate": plate}[case]


def make_points(case: str) -> dict[str, object]:
    """Conditions of the same place share their points, as a user would have them."""
    torch.manual_seed(1)
    if case == "plate":
        return {"equation 1": POINTS, "condition 1": SIDE}
    d = len(CASES[case].columns)
    initial = torch.rand(SIDE, d)
    initial[:, 0] = 0
    shared: dict[str, object] = {"equation 1": POINTS, "condition 1": initial, "condition 2": initial}
    if case == "wave":
        return {**shared, "condition 3": SIDE}
    for end, names in ((0.0, ("condition 3", "condition 5")), (1.0, ("condition 4", "condition 6"))):
        side = torch.rand(SIDE, d)
        side[:, 1] = end
        shared |= dict.fromkeys(names, side)
    return shared


def products(coefficients: int, widths: list[int]) -> Callable[[], None]:
    """The matrix products of a step alone: forward, and both of the reverse pass, between hidden layers."""
    inputs = [torch.rand(coefficients * POINTS, a) for a, _ in itertools.pairwise(widths)]
    weights = [torch.rand(a, b) for a, b in itertools.pairwise(widths)]

    def run():
        for z, matrix in zip(inputs, weights, strict=True):
            g = z @ matrix
            g @ matrix.T
            z.T @ g

    return run


def contenders(case: str, with_compiled: bool) -> dict[str, Callable[[], object]]:
    net, problem = network(len(CASES[case].columns)), CASES[case]
    own = pinnflow.compile(problem, points=make_points(case), backend="eager")
    points = {name: tensor.float() for name, tensor in own.points.items()}
    found: dict[str, Callable] = {}

    def trained(loss):
        def step():
            net.zero_grad()
            value = loss()
            getattr(value, "tensor", value).backward()
            return float(value.detach())

        return step

    for kind in PEERS:
        try:
            found[kind.name] = trained(step_of(kind(), case, net, points))
        except ImportError:
            print(f"{kind.name}: not installed")
    found["pinnflow eager"] = trained(lambda: own.loss(net))
    if with_compiled:
        fused = pinnflow.compile(problem, points=own.points, backend="compiled")
        start = time.perf_counter()
        found["pinnflow compiled"] = trained(lambda: fused.loss(net))
        found["pinnflow compiled"]()
        print(f"first compiled step: {time.perf_counter() - start:.1f} s ({fused.backend})")
    values = {name: step() for name, step in found.items()}
    expected = values["nested reverse"]
    for name, value in values.items():  # all contenders solve the same problem
        if abs(value - expected) > 1e-3 * abs(expected):
            raise AssertionError(f"{name} has the loss {value}, nested reverse mode {expected}")
    passes = next(one for one in own.plan.passes if "equation 1" in one.blocks).lines.passes
    found["its matrix products"] = products(1 + len(passes), [64] * 4)
    return found


def clock_of(threads: int) -> Callable[[], float]:
    """Processor time of one thread, which other programs disturb least; wall-clock time of several."""
    return time.process_time if threads == 1 else time.perf_counter


def compare(case: str, rounds: int, with_compiled: bool) -> None:
    steps = contenders(case, with_compiled)
    times: dict[str, list[float]] = {name: [] for name in steps}
    clock = clock_of(torch.get_num_threads())
    for _ in range(rounds):
        for name, step in steps.items():
            step()
            for _ in range(TURN - 1):
                start = clock()
                step()
                times[name].append(clock() - start)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    best = min(v for name, v in medians.items() if not name.startswith(("pinnflow", "its")))
    limit = medians["its matrix products"]
    print(f"\n{case}: 4 x 64 tanh, {POINTS} points and conditions, float32, medians of {rounds} rounds")
    print(f"{'':22}{'median':>10}{'least':>10}{'best other /':>14}{'/ products':>12}")
    for name, value in medians.items():
        least = min(times[name])
        print(
            f"{name:22}{1e3 * value:7.1f} ms{1e3 * least:7.1f} ms{best / value:14.2f}{value / limit:12.2f}", flush=True
        )


# -- many dimensions; a process for each contender, because a peak of memory is that of a process --------------------


def laplacian_step(how: str, d: int = 100, n: int = 512) -> None:
    from pinnflow.compiler.stochastic import SparseOperator, laplacian

    net, points = network(d, 128), torch.rand(n, d) / d**0.5
    generator = torch.Generator().manual_seed(0)
    times = []
    if how == "compiled":
        z = coordinates("z", d)
        poisson = Problem([Eq(pinnflow.laplacian(field("v", z), z), 0)], {z: (0, 1)})
        fused = pinnflow.compile(poisson, points={"equation 1": points}, backend="compiled")
        fused.loss(net)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = clock_of(torch.get_num_threads())
    for _ in range(6):
        start = clock()
        if how == "compiled":
            value = fused.loss(net).sqrt()  # the loss is the mean square already
        elif how == "collapsed":
            value = laplacian(net, points)[:, 0]
        elif how == "sparse":
            value = SparseOperator.laplacian(d).estimate(net, points, 16, generator)
        else:
            leaf = points.clone().requires_grad_()
            slopes = torch.autograd.grad(net(leaf).sum(), leaf, create_graph=True)[0]
            value = sum(torch.autograd.grad(slopes[:, i].sum(), leaf, create_graph=True)[0][:, i] for i in range(d))
        value.square().mean().backward()
        net.zero_grad()
        times.append(clock() - start)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{how:15} d = {d:6}, {n} points: {1e3 * statistics.median(times[1:]):8.1f} ms, {peak:7.0f} MiB", flush=True)


# -- the plan's prediction ---------------------------------------------------------------------------------------------

SETS = {
    "wave in x, y": (3, {(2, 0, 0): 1, (0, 2, 0): -1, (0, 0, 2): -1}),
    "wave in x": (2, {(2, 0): 1, (0, 2): -1}),
    "heat": (2, {(1, 0): 1, (0, 2): -1}),
    "heat in x, y, z": (4, {(1, 0, 0, 0): 1, (0, 2, 0, 0): -1, (0, 0, 2, 0): -1, (0, 0, 0, 2): -1}),
    "Korteweg-de Vries": (2, {(1, 0): 1, (0, 3): 1}),
    "beam": (2, {(2, 0): 1, (0, 4): 1}),
    "plate": (2, {(4, 0): 1, (2, 2): 2, (0, 4): 1}),
    "Poisson": (2, {(2, 0): 1, (0, 2): 1}),
    "u_xy": (2, {(1, 1): 1}),
    "Kuramoto-Sivashinsky": (2, {(1, 0): 1, (0, 2): 1, (0, 4): 1}),
}


def predictions(rounds: int) -> dict[str, tuple[float, float]]:
    """{operator: (measured, predicted)} cost of nested reverse mode in units of Taylor mode."""
    from pinnflow.compiler.derivatives import partial_derivatives
    from pinnflow.compiler.lines import Combination, lines_for
    from pinnflow.compiler.plan import COSTS, nested_reverse_cost
    from pinnflow.compiler.reference import nested_reverse

    found = {}
    for name, (columns, terms) in SETS.items():
        net, points = network(columns), torch.rand(POINTS, columns)
        wanted = Combination(0, tuple(sorted(terms.items())))
        singles = [(0, a) for a in terms]
        losses = {
            "taylor": lambda net=net, points=points, wanted=wanted: partial_derivatives(net, points, [wanted])[wanted],
            "nested": lambda net=net, points=points, singles=singles: sum(
                nested_reverse(net, points, singles).values()
            ),
        }
        times: dict[str, list[float]] = {"taylor": [], "nested": []}
        for _ in range(rounds + 1):
            for how, function in losses.items():
                start = time.process_time()
                function().square().mean().backward()
                times[how].append(time.process_time() - start)
        measured = statistics.median(times["nested"][1:]) / statistics.median(times["taylor"][1:])
        lines = lines_for([wanted.terms], [1.0] * columns)
        found[name] = measured, nested_reverse_cost([wanted]) / COSTS["taylor"]([wanted], lines)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compiled", action="store_true", help="torch.compile too; takes half a minute a case")
    parser.add_argument("--only", nargs="*", default=[*CASES, "laplacian", "predictions"])
    parser.add_argument("--laplacian", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.laplacian:
        how, d, n = options.laplacian
        laplacian_step(how, int(d), int(n))
        return
    versions = {"python": platform.python_version(), "torch": torch.__version__, "sympy": sympy.__version__}
    for name in ("deepxde", "pina-mathlab", "torchphysics"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    kind = "processor time of one thread" if options.threads == 1 else f"{options.threads} threads, wall-clock time"
    print(f"{kind}, on {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    for case in CASES:
        if case in options.only:
            compare(case, options.rounds, options.compiled)
    if "laplacian" in options.only:
        print("\nLaplacian, 4 x 128 tanh, forward and backward")
        steps = ("nested", 100, 512), ("collapsed", 100, 512), ("compiled", 100, 512), ("sparse", 100, 512)
        for how, d, n in (*steps, ("sparse", 10000, 100)):
            call = [sys.executable, __file__, "--threads", str(options.threads), "--laplacian", how, str(d), str(n)]
            subprocess.run(call, check=True)
    if "predictions" in options.only:
        torch.set_num_threads(1)
        print(f"\n{'nested / Taylor, eager':24}{'measured':>10}{'predicted':>11}{'quotient':>10}")
        for name, (measured, predicted) in predictions(options.rounds).items():
            print(f"{name:24}{measured:10.2f}{predicted:11.2f}{predicted / measured:10.2f}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
