"""Dropout of single values, with the change to channel order in front of it, as one operation."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer.native import kernels

_SAME_ORDER, _TO_CHANNEL_ORDER, _TO_CHANNELS_LAST = range(3)


class Mask(NamedTuple):
    """Which values are dropped: a function of their position in channel order.

    Args:
        drop: those whose number, of 24 bits, is lower; 0: none, and none is scaled.
        scale: of the others.
        keys: of the stream, see `trainer.streams`.
        step: from 0.
    """

    drop: int
    scale: float
    keys: tuple[int, int]
    step: int


NOTHING = Mask(0, 1.0, (0, 0), 0)


def dropped(x: Tensor, mask: Mask) -> Tensor:
    """Multiply every value of `x` by 0 or the scale, both rounded to bf16.

    The result is that of PyTorch's operations to the bit, but for values below the normal range
    (1e-38), which become 0.

    Args:
        x: bf16; [B, C, H, W], best in channels-last memory, or [B, K, F].
        mask: of its values.

    Returns:
        The shape of `x`; images in channels-last memory.
    """
    return x if mask.drop == 0 else _apply(x, mask, _SAME_ORDER)


def flattened(x: Tensor, mask: Mask = NOTHING) -> Tensor:
    """Multiply as `dropped` and order the values by channel: [B, C, H, W] -> [B, 1, C*H*W]."""
    return _apply(x, mask, _TO_CHANNEL_ORDER)


def _apply(x: Tensor, mask: Mask, turn: int) -> Tensor:
    result: Tensor = _Dropped.apply(x, mask, turn)  # type: ignore[no-untyped-call]
    return result


class _Dropped(torch.autograd.Function):
    """The mask is not kept for the gradient, but computed again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Mask, turn: int) -> Tensor:
        ctx.mask, ctx.turn, ctx.shape = mask, turn, x.shape
        flat = (len(x), 1, x.numel() // len(x))
        return _run(x, mask, turn, x.shape, x.shape if turn == _SAME_ORDER else flat)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        turn = _SAME_ORDER if ctx.turn == _SAME_ORDER else _TO_CHANNELS_LAST
        return _run(gradient, ctx.mask, turn, ctx.shape, ctx.shape), None, None


def _run(
    x: Tensor, mask: Mask, turn: int, values: tuple[int, ...], shape: tuple[int, ...]
) -> Tensor:
    """Return `x`, which are `values` of such a shape in whatever order, multiplied, in `shape`."""
    assert x.dtype == torch.bfloat16
    x = x.contiguous(memory_format=_memory(x.shape))
    y = torch.empty(shape, dtype=x.dtype, memory_format=_memory(shape))
    rows, each = values[0], x.numel() // values[0]
    channels = values[1] if len(values) == 4 else each
    kernels().dropout(x.data_ptr(), y.data_ptr(), rows, each // channels, channels, turn, *mask)
    return y


def _memory(shape: tuple[int, ...]) -> torch.memory_format:
    return torch.channels_last if len(shape) == 4 else torch.contiguous_format
