"""Taylor rules of whole layers: normalisation, convolutions, pooling, attention."""

from __future__ import annotations

import math

import torch

from pinnflow.compiler.jet import RULES, Jet, MissingRule, rule
from pinnflow.compiler.rules import whole


@rule("layer_norm")
def _layer_norm(jet, normalized_shape, weight=None, bias=None, eps=1e-5) -> Jet:
    axes, jet = tuple(range(-len(normalized_shape), 0)), whole(jet)
    centred = jet - jet.map(lambda s: s.mean(axes, keepdim=True))
    spread = RULES["square"](centred).map(lambda s: s.mean(axes, keepdim=True))
    result = centred * RULES["rsqrt"](spread + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


@rule("rms_norm")
def _rms_norm(jet, normalized_shape, weight=None, eps=None) -> Jet:
    axes, jet = tuple(range(-len(normalized_shape), 0)), whole(jet)
    eps = torch.finfo(jet.dtype).eps if eps is None else eps
    result = jet * RULES["rsqrt"](RULES["square"](jet).map(lambda s: s.mean(axes, keepdim=True)) + eps)
    return result if weight is None else result * weight


@rule("batch_norm")
def _batch_norm(jet, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5) -> Jet:
    if training or running_mean is None:
        raise MissingRule("batch_norm in training mode, which mixes rows")
    shape = (-1, *[1] * (jet.ndim - 2))
    factor = torch.rsqrt(running_var + eps) if weight is None else weight * torch.rsqrt(running_var + eps)
    result = (jet - running_mean.reshape(shape)) * factor.reshape(shape)
    return result if bias is None else result + bias.reshape(shape)


# -- images: linear maps that take rows first --------------------------------------------------------------------------


def _by_rows(function, jet: Jet, *args, **kwargs) -> list:
    """A linear map of `[rows, ...]` on every slope, its directions and rows taken together."""
    return [
        None if s is None else function(s.flatten(0, 1), *args, **kwargs).unflatten(0, s.shape[:2])
        for s in whole(jet).slopes
    ]


def _convolution(function):
    def apply(jet, weight, bias=None, *args, **kwargs):
        if not isinstance(jet, Jet) or isinstance(weight, Jet):
            raise MissingRule(f"{function.__name__} with weights that depend on the points")
        return jet.like(
            function(jet.value, weight, bias, *args, **kwargs), _by_rows(function, jet, weight, None, *args, **kwargs)
        )

    return apply


for _function in (
    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
):  # fmt: skip
    RULES[_function.__name__] = _convolution(_function)


def _pooling(function):
    def apply(jet, *args, **kwargs):
        return jet.like(function(jet.value, *args, **kwargs), _by_rows(function, jet, *args, **kwargs))

    return apply


for _function in (
    torch.nn.functional.avg_pool1d, torch.nn.functional.avg_pool2d, torch.nn.functional.adaptive_avg_pool2d,
    torch.nn.functional.interpolate, torch.nn.functional.pixel_shuffle,
):  # fmt: skip
    RULES[_function.__name__] = _pooling(_function)


# -- attention ---------------------------------------------------------------------------------------------------------


@rule("softmax")
def _softmax(jet, dim, _stacklevel=3, dtype=None) -> Jet:
    if dtype is not None and dtype != jet.dtype:
        raise MissingRule("softmax in another dtype")
    # Moved by a constant, which changes nothing but keeps exp finite.
    powers = RULES["exp"](jet - jet.value.detach().amax(dim, keepdim=True))
    return powers / powers.map_any(lambda s: s.sum(dim, keepdim=True))


@rule("log_softmax")
def _log_softmax(jet, dim, _stacklevel=3, dtype=None) -> Jet:
    if dtype is not None and dtype != jet.dtype:
        raise MissingRule("log_softmax in another dtype")
    moved = jet - jet.value.detach().amax(dim, keepdim=True)
    return moved - RULES["log"](RULES["exp"](moved).map_any(lambda s: s.sum(dim, keepdim=True)))


@rule("logsumexp")
def _logsumexp(jet, dim, keepdim=False) -> Jet:
    most = jet.value.detach().amax(dim, keepdim=True)
    total = RULES["log"](RULES["exp"](jet - most).map_any(lambda s: s.sum(dim, keepdim=keepdim)))
    return total + (most if keepdim else most.squeeze(dim))


@rule("scaled_dot_product_attention")
def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **rest) -> Jet:
    if dropout_p > 0 or is_causal or rest.get("enable_gqa"):
        raise MissingRule("scaled_dot_product_attention with dropout, a causal mask or grouped queries")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = RULES["mul"](RULES["matmul"](query, key.transpose(-2, -1)), scale)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            raise MissingRule("scaled_dot_product_attention with a mask of truth values")
        scores = scores + attn_mask
    return RULES["matmul"](_softmax(scores, -1) if isinstance(scores, Jet) else torch.softmax(scores, -1), value)
