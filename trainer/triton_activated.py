"""Batch norm or bias, activation and 2x2 pooling in few passes, on GPUs where triton is there.

PyTorch reads and writes all activations for each of the three, forward and backward. Here they are
read once for the statistics of a norm and once for the result; backward, once for the sums that a
norm's gradient needs and once for the gradient. Only the input is kept: which of four pixels was
the largest is found again, as reading it from memory would not spare reading the pixels.
`trainer.triton_passes` has the kernels; `trainer.native.activated` is the same on CPUs.
"""

from typing import Any

import torch
import triton
from torch import Tensor, nn

from trainer import triton_passes as passes

_COLUMNS = 64  # channels of a tile: 128 bytes in bf16
_TILE = 1024  # its numbers
_WARPS = 4
_PROGRAMS = 2048  # about so many share a pass
_SUMMING = 512  # if they leave sums: as many as an H100 or H200 runs at the same time
_PARTS = 256  # sums that are left of a channel at most
_POOLINGS = {None: 0, "max": 1, "avg": 2}  # as the kernels number them


def activated(
    x: Tensor, norm: nn.BatchNorm2d | None, bias: Tensor | None, slope: float, pooling: str | None
) -> Tensor:
    """Normalise with the statistics of the batch or add a bias, activate and pool, for training.

    Args:
        x: bf16 or fp32 [B, C, H, W]; fast if channels last in memory.
        norm: over the C channels, more than one value in each; its running statistics are updated.
        bias: fp32 [C] or nothing; nothing with a norm, which would cancel it.
        slope: what the activation multiplies negative values with, 0 or more; 1: no activation.
        pooling: of 2x2 pixels: `max`, `avg` or nothing; an odd last row or column is left out.

    Returns:
        [B, C, H', W'] in the type of x, channels last in memory.
    """
    assert x.dtype in {torch.bfloat16, torch.float32}
    assert norm is None or bias is None
    assert pooling is None or min(x.shape[2:]) > 1
    x = x.contiguous(memory_format=torch.channels_last)
    weight, statistics = None, None
    if norm is not None:
        weight, bias = norm.weight, norm.bias
        running = norm.running_mean, norm.running_var
        with torch.no_grad():  # the gradient by way of the statistics is part of `transformed`'s
            statistics = batch_statistics(x, weight, bias, *running, norm.momentum, norm.eps)
    out: Tensor = transformed(x, weight, bias, statistics, slope, _POOLINGS[pooling])
    return out


def _tiles(
    channels: int, count: int, *, summing: bool = False, larger: int = 1
) -> tuple[tuple[int, int], dict[str, int]]:
    """Share pixels or windows among programs: their grid, and what each is told.

    Where a program reads little of each, its tiles are so many times `larger`.
    """
    columns = min(_COLUMNS, max(16, triton.next_power_of_2(channels)))
    across, rows = triton.cdiv(channels, columns), larger * _TILE // columns
    blocks = min(max(1, _SUMMING // across), _PARTS) if summing else max(1, _PROGRAMS // across)
    tiles = triton.cdiv(count, rows * blocks)
    grid = across, triton.cdiv(count, rows * tiles)
    return grid, {"tiles": tiles, "rows": rows, "columns": columns, "num_warps": _WARPS}


def _narrow(channels: int, times: int = 1) -> tuple[tuple[int, int], dict[str, int]]:
    """Share the channels of parts among programs."""
    columns = 16
    return (triton.cdiv(channels, columns), times), {"rows": 128, "columns": columns}


@torch.library.custom_op("fmnist::batch_statistics", mutates_args=("running_mean", "running_var"))
def batch_statistics(  # noqa: PLR0917
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> Tensor:
    """Return mean, 1 / deviation, scale and shift of a norm, fp32 [4, C]; update what runs along.

    x is [B, C, H, W], channels last; the others are fp32 [C].
    """
    channels = x.shape[1]
    pixels = x.numel() // channels
    grid, shape = _tiles(channels, pixels, summing=True, larger=4)
    parts = torch.empty((2, grid[1], channels), device=x.device)
    passes.moments[grid](x, parts, pixels, channels, **shape)
    out = torch.empty((4, channels), device=x.device)
    each = shape["tiles"] * shape["rows"]
    few, narrow = _narrow(channels)
    sizes = pixels, each, grid[1], channels
    tensors = parts, weight, bias, running_mean, running_var, out
    passes.statistics[few](*tensors, momentum, eps, *sizes, **narrow)
    return out


@batch_statistics.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty((4, x.shape[1]), dtype=torch.float32)


@torch.library.custom_op("fmnist::transformed", mutates_args=())
def transformed(  # noqa: PLR0917
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: Tensor | None,
    slope: float,
    pooling: int,
) -> Tensor:
    """Return `activated` by what is known of a norm; its gradient is that of the whole.

    A norm's weight and bias, which the statistics contain, are there for their gradients.
    """
    out = _empty(x, pooling)
    channels, height, width = x.shape[1:]
    windows = out.numel() // channels
    grid, shape = _tiles(channels, windows)
    sizes = windows, height, width, channels
    passes.forward[grid](x, out, statistics, bias, slope, *sizes, pooling=pooling, **shape)
    return out


def _empty(x: Tensor, pooling: int) -> Tensor:
    images, channels, height, width = x.shape
    half = 2 if pooling else 1
    shape = images, channels, height // half, width // half
    layout = torch.channels_last
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


@transformed.register_fake
def _(  # noqa: PLR0917
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: Tensor | None,
    slope: float,
    pooling: int,
) -> Tensor:
    del weight, bias, statistics, slope
    return _empty(x, pooling)


@torch.library.custom_op("fmnist::transformed_backward", mutates_args=())
def transformed_backward(  # noqa: PLR0917
    x: Tensor,
    gradient: Tensor,
    bias: Tensor | None,
    statistics: Tensor | None,
    slope: float,
    pooling: int,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and, fp32 [2, C], of bias and weight; of a bias alone [1, C]."""
    images, channels, height, width = x.shape
    dx, sums, parts = torch.empty_like(x), None, None
    if statistics is not None:
        sums = _norm_sums(x, gradient, statistics, slope, pooling)
    half = 2 if pooling else 1
    down, across = triton.cdiv(height, half), triton.cdiv(width, half)
    alone = statistics is None and bias is not None
    grid, shape = _tiles(channels, images * down * across, summing=alone)
    if alone:
        parts = torch.empty((1, grid[1], channels), device=x.device)
    tensors = x, gradient, dx, statistics, bias, sums, parts
    counts = images * height * width, images * down * across
    sizes = *counts, height, width, down, across, channels
    passes.gradient[grid](*tensors, slope, *sizes, pooling=pooling, **shape)
    if parts is not None:
        sums = _whole(parts)
    return dx, torch.empty(0, device=x.device) if sums is None else sums


def _norm_sums(
    x: Tensor, gradient: Tensor, statistics: Tensor, slope: float, pooling: int
) -> Tensor:
    """Return the gradients of a norm's bias and weight, [2, C]."""
    channels, height, width = x.shape[1:]
    windows = gradient.numel() // channels
    grid, shape = _tiles(channels, windows, summing=True, larger=1 if pooling else 2)
    parts = torch.empty((2, grid[1], channels), device=x.device)
    sizes = windows, height, width, channels
    passes.sums[grid](x, gradient, statistics, parts, slope, *sizes, pooling=pooling, **shape)
    return _whole(parts)


def _whole(parts: Tensor) -> Tensor:
    """Add up parts [n, blocks, C]: [n, C]."""
    times, blocks, channels = parts.shape
    out = torch.empty((times, channels), device=parts.device)
    few, narrow = _narrow(channels, times)
    passes.added[few](parts, out, blocks, channels, **narrow)
    return out


@transformed_backward.register_fake
def _(  # noqa: PLR0917
    x: Tensor,
    gradient: Tensor,
    bias: Tensor | None,
    statistics: Tensor | None,
    slope: float,
    pooling: int,
) -> tuple[Tensor, Tensor]:
    del gradient, slope, pooling
    count = 2 if statistics is not None else 1
    shape = (0,) if bias is None else (count, x.shape[1])
    return torch.empty_like(x), x.new_empty(shape, dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, _, bias, statistics, ctx.slope, ctx.pooling = inputs
    ctx.save_for_backward(x, bias, statistics)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, bias, statistics = ctx.saved_tensors
    gradient = gradient.to(x.dtype).contiguous(memory_format=torch.channels_last)
    known = bias, statistics, ctx.slope, ctx.pooling
    dx, sums = transformed_backward(x, gradient, *known)
    of_bias = None if bias is None else sums[0]
    of_weight = None if statistics is None else sums[1]
    return dx, of_weight, of_bias, None, None, None


transformed.register_autograd(_backward, setup_context=_keep)
