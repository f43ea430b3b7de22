"""Functions that sympy has and torch lacks, or has without a derivative, as plain torch code."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gamma(z: Tensor) -> Tensor:
    """Gamma function of a real argument; infinite or NaN at 0, -1, -2, ..."""
    # exp(log|Gamma|) with the sign, which alternates on the negative axis and starts with minus on (-1, 0).
    sign = torch.where((z < 0) & (torch.remainder(torch.floor(z), 2) == 1), -1.0, 1.0)
    return sign * torch.exp(torch.lgamma(z))


def sinc(z: Tensor) -> Tensor:
    """sin(z)/z, 1 at 0; torch's own carries a factor pi in its argument."""
    return torch.sinc(z / math.pi)


def step(z: Tensor, at_zero: float) -> Tensor:
    """Heaviside step: 0 below zero, 1 above, `at_zero` at zero; its derivative is zero everywhere."""
    return (z > 0).to(z.dtype) + at_zero * (z == 0).to(z.dtype)


def bessel_j0(z: Tensor) -> Tensor:
    """Bessel function J_0, differentiable to any order."""
    return _BesselJ0.apply(z)


def bessel_j1(z: Tensor) -> Tensor:
    """Bessel function J_1, differentiable to any order."""
    return _BesselJ1.apply(z)


def _slope_j1(z: Tensor) -> Tensor:
    """J_1' = J_0 - J_1 / z, which is 1/2 at 0."""
    safe = torch.where(z == 0, 1.0, z)
    return torch.where(z == 0, 0.5, bessel_j0(z) - bessel_j1(safe) / safe)


class _BesselJ0(torch.autograd.Function):
    """torch has the value without a derivative: J_0' = -J_1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z):
        return torch.special.bessel_j0(z)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient * bessel_j1(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx, tangent):
        return -tangent * bessel_j1(ctx.saved_tensors[0])


class _BesselJ1(torch.autograd.Function):
    """As `_BesselJ0`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z):
        return torch.special.bessel_j1(z)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * _slope_j1(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx, tangent):
        return tangent * _slope_j1(ctx.saved_tensors[0])
