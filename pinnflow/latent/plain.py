"""Operations of generators written out, where torch's own have no derivative by forward mode, or none of that.

The fused kernels for attention have no rule for forward mode; what torch has for a softmax cannot be differentiated
again by reverse mode; group norms want the tangent in plain order, and convolutions return it in other orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


def plain_operations() -> AbstractContextManager[Any]:
    """Inside, generators can be differentiated by forward mode, and the outcome again by reverse mode.

    Attention inside of other composed functions, such as `nn.MultiheadAttention`, by forward mode only.
    """
    stack = ExitStack()
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    stack.enter_context(_Plain())
    return stack


def softmax(x: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Tensor:
    """exp(x) over its sum along `dim`."""
    x = x if dtype is None else x.to(dtype)
    axis = -1 if dim is None else dim
    e = torch.exp(x - x.detach().amax(axis, keepdim=True))
    return e / e.sum(axis, keepdim=True)


def _softmax_of(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    return softmax(x, dim, dtype=dtype)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale query key^T) value, as `scaled_dot_product_attention`; with dropout torch's own."""
    if dropout_p:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if enable_gqa:
        times = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
    scores = (1 / math.sqrt(query.shape[-1]) if scale is None else scale) * query @ key.mT
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return softmax(scores) @ value


def group_norm(x: Tensor, *args: Any, **settings: Any) -> Tensor:
    """torch's own on a copy in plain order."""
    return F.group_norm(x.clone(memory_format=torch.contiguous_format), *args, **settings)


_WRITTEN_OUT: dict[Any, Callable[..., Tensor]] = {
    F.scaled_dot_product_attention: attention,
    torch.ops.aten.scaled_dot_product_attention.default: attention,
    F.softmax: softmax,
    torch.softmax: _softmax_of,
    Tensor.softmax: _softmax_of,
    torch.ops.aten.softmax.int: _softmax_of,
    F.group_norm: group_norm,
    torch.ops.aten.group_norm.default: group_norm,
}


class _Plain(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _WRITTEN_OUT.get(func, func)(*args, **(kwargs or {}))
