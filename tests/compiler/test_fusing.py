"""Graphs in the form that is compiled best compute the same."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pinnflow.compiler import fusing


def test_tanh_by_one_exponential_is_exact_to_three_units():
    z = torch.cat([torch.linspace(-12, 12, 200001), torch.logspace(-38, 0, 2001), torch.tensor([0.0, -3e38, 3e38])])
    expected = torch.tanh(z.double())
    unit = torch.finfo(torch.float32).eps * 2 ** torch.floor(torch.log2(expected.abs().clamp_min(1e-37)))
    assert float(((fusing.tanh(z).double() - expected).abs() / unit).max()) <= 3
    assert torch.isnan(fusing.tanh(torch.tensor([torch.nan]))).all()


def test_a_fusible_graph_computes_the_same():
    """Only tanh in single precision changes, and rows that are joined stand one by one."""

    def function(a, b):
        return torch.cat([torch.tanh(a)[None], b * a, a[None]]), torch.tanh(a.double())

    a, b = torch.randn(3, 4), torch.randn(2, 3, 4)
    graph = make_fx(function)(a, b)
    eased = fusing.fusible(graph)
    joined = next(node for node in eased.graph.nodes if node.target is torch.ops.aten.cat.default)
    assert len(joined.args[0]) == 4
    assert sum(node.target is torch.ops.aten.tanh.default for node in eased.graph.nodes) == 1
    for found, expected in zip(eased(a, b), function(a, b), strict=True):
        assert torch.allclose(found, expected, rtol=4e-7, atol=0)
