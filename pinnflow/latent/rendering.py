"""Calling a generator, and its derivative: in its own dtype and on its device, in chunks, with its answer checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from pinnflow.errors import NotApplicable, NotYet, WrongShape
from pinnflow.latent.plain import plain_operations


def usual_device(device: torch.device | str | None = None) -> torch.device:
    """The device that was asked for, or else a GPU if there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def own_dtype(generator: Callable[[Tensor], Tensor]) -> torch.dtype:
    """The dtype a generator computes in: its weights', its attribute `dtype`, or float32."""
    declared = getattr(generator, "dtype", None)
    if isinstance(declared, torch.dtype):
        return declared
    if isinstance(generator, nn.Module):
        for tensor in (*generator.parameters(), *generator.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype
    return torch.float32


def own_device(generator: Callable[[Tensor], Tensor], default: torch.device) -> torch.device:
    """Where a generator's weights lie; `default` where it has none."""
    if isinstance(generator, nn.Module):
        for tensor in (*generator.parameters(), *generator.buffers()):
            return tensor.device
    return default


@contextmanager
def at_rest(generator: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """The generator as a fixed function: in evaluation mode, its weights without gradients; as before afterwards."""
    if not isinstance(generator, nn.Module):
        yield
        return
    training = [module for module in generator.modules() if module.training]
    free = [weight for weight in generator.parameters() if weight.requires_grad]
    try:
        for module in training:
            module.training = False
        for weight in free:
            weight.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for weight in free:
            weight.requires_grad_(True)


def images(generator: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """G(z), `[n, c, h, w]`, differentiable; z is cast to the generator's dtype and device.

    What the generator itself raises passes through, with a note of what it was called with.

    Raises:
        TypeError: it cannot be called, or its pixels are no real numbers.
        WrongShape: it did not answer with one image for each code.
        NotApplicable: derivatives are asked for, and it has none.
    """
    if not callable(generator):
        raise TypeError(
            f"a {type(generator).__name__} is no generator: expected a callable that maps codes [n, d] to images "
            f"[n, c, h, w]; `generator('warped')` makes one by its name, or out of a file"
        )
    codes = z.to(dtype=own_dtype(generator), device=own_device(generator, z.device))
    try:
        answer = generator(codes)
    except Exception as error:
        error.add_note(
            f"The generator was called with codes {list(codes.shape)} of {codes.dtype}: `latent_dim` is "
            f"{codes.shape[-1]}. A function without weights computes in float32, unless it has an attribute `dtype`: "
            f"`Adapted(function, latent_dim, dtype=torch.float64)`."
        )
        raise
    if not isinstance(answer, Tensor) or answer.dim() != 4 or len(answer) != len(z):
        found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise WrongShape(
            f"the generator answered {found} to codes of shape {tuple(z.shape)}; "
            f"it must return images [{len(z)}, channels, height, width]"
        )
    if not answer.is_floating_point():
        raise TypeError(f"the generator answered images of {answer.dtype}; expected real numbers, bytes divided by 255")
    if codes.requires_grad and torch.is_grad_enabled() and not answer.requires_grad:
        raise NotApplicable(_NO_DERIVATIVES)
    return answer


_NO_DERIVATIVES = (
    "the images of the generator do not depend on the codes as far as torch can see, so that nothing can be learned "
    "from them: it is constant, or it computes under `torch.no_grad`, with `detach`, or outside of torch"
)


def push_forward(generator: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> Tensor:
    """J(z) v by forward mode, `[n, c * h * w]`, for codes and vectors `[n, d]`; differentiable where gradients are.

    Raises:
        NotYet: an operation of the generator has no forward derivative.
        NotApplicable: it has no derivatives at all.
    """
    with forward_ad.dual_level(), plain_operations():
        try:
            answer = images(generator, forward_ad.make_dual(z, v))
            tangent = forward_ad.unpack_dual(answer).tangent
        except (NotImplementedError, RuntimeError) as error:
            if "forward AD" not in str(error) and "forward mode" not in str(error):
                raise
            raise NotYet(f"The generator cannot be differentiated by forward mode: {error}") from error
    if tangent is None:
        raise NotApplicable(_NO_DERIVATIVES)
    return tangent.flatten(1)


@torch.no_grad()
def render(generator: Callable[[Tensor], Tensor], z: Tensor, *, chunk: int = 256) -> Tensor:
    """Images `[..., c, h, w]` of codes `[..., d]`, without gradients."""
    rows = z.reshape(-1, z.shape[-1])
    with at_rest(generator):
        parts = [images(generator, part) for part in rows.split(chunk)] if len(rows) else [images(generator, rows)]
    return torch.cat(parts).unflatten(0, z.shape[:-1])
