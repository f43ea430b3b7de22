"""Compiled steps on a GPU as one graph."""

import contextlib
import types

import pytest
import torch
from torch import nn

from pinnflow.compiler import compilation
from pinnflow.compiler.compilation import Replayed


class Stream:
    def wait_stream(self, other):
        pass


class Capture:
    """In the place of `torch.cuda`: a captured step computes again from its inputs into its outputs, as on a GPU."""

    def __init__(self, step):
        self.step, self.calls = step, 0

    def __call__(self, *inputs):
        self.calls += 1
        self.inputs, self.outputs = inputs, self.step(*inputs)
        return self.outputs

    def replay(self):
        for place, value in zip(self.outputs, self.step(*self.inputs), strict=True):
            place.copy_(value)

    def cuda(self):
        return types.SimpleNamespace(
            Stream=Stream, current_stream=Stream, CUDAGraph=lambda: self,
            stream=lambda one: contextlib.nullcontext(), graph=lambda one: contextlib.nullcontext(),
        )  # fmt: skip


def test_a_replayed_step_reads_new_inputs_and_leaves_earlier_results_alone(monkeypatch):
    capture = Capture(lambda a, b: [a * b, a.sum()])
    monkeypatch.setattr(compilation.torch, "cuda", capture.cuda())
    a, b = torch.ones(3), torch.full((3,), 2.0)
    step = Replayed(capture, [a, b])
    assert capture.calls == compilation.WARM_UP + 1
    first, second = step(a, b), step(a + 1, b)
    assert torch.equal(first[0], torch.full((3,), 2.0)) and float(first[1]) == 3
    assert torch.equal(second[0], torch.full((3,), 4.0)) and float(second[1]) == 6
    assert torch.equal(a, torch.ones(3)) and capture.calls == compilation.WARM_UP + 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_replayed_loss_is_the_loss():
    import pinnflow
    from pdes import wave

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)).cuda()
    eager, compiled = (pinnflow.compile(wave(), points=64, backend=how, device="cuda") for how in ("eager", "compiled"))
    for _ in range(3):
        for one, other in zip(
            *(torch.autograd.grad(c.loss(net), list(net.parameters())) for c in (eager, compiled)), strict=True
        ):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
        eager.resample(), compiled.resample()
