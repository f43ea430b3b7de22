"""What Taylor mode saves against nested reverse mode: time of a residual and its gradient by the weights.

A tanh network of 4 x 64 with one output at 2048 points in float32, both ways in turn, median of the runs; processor
time of one thread, which other programs on the machine disturb least.

    python benchmarks/derivatives.py
"""

import itertools
import statistics
import time

import torch
from torch import nn

from pinnflow.compiler.derivatives import partial_derivatives
from pinnflow.compiler.plan import COSTS, nested_reverse_cost
from pinnflow.compiler.reference import nested_reverse

SETS = {
    "wave in x, y": [(2, 0, 0), (0, 2, 0), (0, 0, 2)],
    "wave in x": [(2, 0), (0, 2)],
    "heat": [(1, 0), (0, 2)],
    "transport": [(1, 0), (0, 1)],
    "Korteweg-de Vries": [(0, 0), (1, 0), (0, 1), (0, 3)],
    "beam": [(2, 0), (0, 4)],
    "plate": [(4, 0), (2, 2), (0, 4)],
    "Hessian": [(2, 0), (1, 1), (0, 2)],
    "u_xy": [(1, 1)],
}


def network(columns: int) -> nn.Sequential:
    torch.manual_seed(0)
    sizes = [columns, 64, 64, 64, 64]
    hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*hidden, nn.Linear(64, 1))


def seconds(orders, runs: int = 12) -> tuple[float, float]:
    """Taylor mode and nested reverse mode, interleaved."""
    net, points = network(len(orders[0])), torch.rand(2048, len(orders[0]))
    requests = [(0, a) for a in orders]
    times: dict = {partial_derivatives: [], nested_reverse: []}
    for _ in range(runs):
        for function, taken in times.items():
            start = time.process_time()
            residual = sum(function(net, points, requests).values())
            residual.square().mean().backward()
            taken.append(time.process_time() - start)
    taylor, nested = (statistics.median(taken[2:]) for taken in times.values())
    return taylor, nested


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{'derivatives of':20}{'Taylor':>10}{'nested':>10}{'ratio':>8}{'predicted':>11}")
    for name, orders in SETS.items():
        taylor, nested = seconds(orders)
        requests = [(0, a) for a in orders]
        predicted = nested_reverse_cost(requests) / COSTS["taylor"](requests)
        print(
            f"{name:20}{1e3 * taylor:7.1f} ms{1e3 * nested:7.1f} ms{nested / taylor:8.2f}{predicted:11.2f}", flush=True
        )
