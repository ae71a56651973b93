"""Batch norm or bias, activation and 2x2 pooling in one operation, for training in bf16.

PyTorch reads and writes all activations for each of the three, forward and backward, and keeps what
each of them was given. Here they are read once for the statistics and once for the result, and only
the input is kept; `activated.c` says how.
"""

from typing import Any

import torch
from torch import Tensor, nn

from trainer.native import LANES, address, kernels

_POOLINGS = {None: 0, "max": 1, "avg": 2}  # as the kernels number them


def activated(
    x: Tensor, norm: nn.BatchNorm2d | None, bias: Tensor | None, slope: float, pooling: str | None
) -> Tensor:
    """Normalise with the statistics of the batch or add a bias, activate and pool.

    Args:
        x: bf16 [B, C, H, W], C a multiple of 16; fast if channels last in memory.
        norm: over the C channels, more than one value in each; its running statistics are updated.
        bias: [C] or nothing; nothing with a norm, which would cancel it.
        slope: what the activation multiplies negative values with, 0 or more; 1: no activation.
        pooling: of 2x2 pixels: `max`, `avg` or nothing.

    Returns:
        bf16 [B, C, H', W'], channels last in memory.
    """
    assert x.dtype == torch.bfloat16
    assert x.shape[1] % LANES == 0
    assert norm is None or bias is None
    assert slope >= 0
    assert pooling is None or min(x.shape[2:]) > 1
    # The parameters one by one, as a function's gradients are those of its arguments.
    weight, bias = (None, bias) if norm is None else (norm.weight, norm.bias)
    out: Tensor = _Activated.apply(  # type: ignore[no-untyped-call] # torch's base class
        x, weight, bias, norm, slope, _POOLINGS[pooling]
    )
    return out


class _Activated(torch.autograd.Function):
    """(x, weight of a norm, its bias or one alone, norm, slope, pooling) -> `activated`."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        norm: nn.BatchNorm2d | None,
        slope: float,
        pooling: int,
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        images, channels, height, width = x.shape
        shift = torch.zeros(channels) if bias is None else bias.detach()
        assert shift.dtype == torch.float32
        statistics = None
        if norm is not None:
            assert weight is not None
            statistics = _statistics(x, weight, shift, norm)
        half = 2 if pooling else 1
        y = torch.empty(
            (images, channels, height // half, width // half),
            dtype=x.dtype,
            memory_format=torch.channels_last,
        )
        kernels().activate(
            x.data_ptr(), y.data_ptr(), *_layer(x, statistics, shift), slope, pooling
        )
        ctx.save_for_backward(x, statistics, shift)
        ctx.slope, ctx.pooling = slope, pooling
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, statistics, shift = ctx.saved_tensors
        gradient = gradient.to(x.dtype).contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        dweight = None if statistics is None else torch.empty_like(shift)
        dbias = torch.empty_like(shift)
        kernels().activate_backward(
            x.data_ptr(),
            gradient.data_ptr(),
            dx.data_ptr(),
            *_layer(x, statistics, shift),
            ctx.slope,
            ctx.pooling,
            address(dweight),
            dbias.data_ptr(),
        )
        return dx, dweight, dbias if ctx.needs_input_grad[2] else None, None, None, None


def _layer(x: Tensor, statistics: Tensor | None, shift: Tensor) -> tuple[int, ...]:
    images, channels, height, width = x.shape
    return images, height, width, channels, address(statistics), shift.data_ptr()


def _statistics(x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Return what the kernels want to know of a norm, [4, C], and update what runs along."""
    # Each looked up once: a module looks slowly.
    mean, variance, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None
    assert variance is not None
    assert batches is not None
    assert norm.momentum is not None
    channels = x.shape[1]
    statistics = torch.empty(4, channels)
    kernels().batch_statistics(
        x.data_ptr(),
        x.numel() // channels,
        channels,
        weight.data_ptr(),
        bias.data_ptr(),
        mean.data_ptr(),
        variance.data_ptr(),
        norm.momentum,
        norm.eps,
        statistics.data_ptr(),
    )
    batches.add_(1)
    return statistics
