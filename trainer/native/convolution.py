"""3x3 convolutions by Winograd's minimal filtering; see `winograd.c`."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from trainer.native import LANES, kernels


def fits(weight: Tensor, *, stride: int, padding: int, groups: int) -> bool:
    """Whether a convolution with these weights [K, C, k, k] can be computed here."""
    outputs, inputs, *side = weight.shape
    whole = inputs % LANES == 0 and outputs % LANES == 0
    return whole and (*side, stride, padding, groups) == (3, 3, 1, 1, 1) and not _amx()


@cache
def _amx() -> bool:
    # Where the processor multiplies whole tiles, PyTorch's convolutions need no tricks.
    return bool(torch.cpu._is_amx_tile_supported())


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve with stride 1 and same padding.

    Args:
        x: [N, C, H, W], computed with in bf16.
        weight: float32 [K, C, 3, 3]; C and K are multiples of 16.

    Returns:
        bf16 [N, K, H, W], channels last.
    """
    out: Tensor = _Convolution.apply(x, weight)  # type: ignore[no-untyped-call] # torch's base class
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = _bf16(x), weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, len(weight), turned=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = _bf16(gradient)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _convolve(gradient, weight, x.shape[1], turned=True)
        if ctx.needs_input_grad[1]:
            rows, inputs, height, width = x.shape
            of_weight = torch.empty_like(weight)
            addresses = x.data_ptr(), gradient.data_ptr(), of_weight.data_ptr()
            kernels().kernel_gradient(*addresses, rows, height, width, inputs, len(weight))
        return of_x, of_weight


def _bf16(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)


def _convolve(x: Tensor, weight: Tensor, outputs: int, *, turned: bool) -> Tensor:
    rows, inputs, height, width = x.shape
    shape = (rows, outputs, height, width)
    y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    addresses = x.data_ptr(), weight.data_ptr(), y.data_ptr()
    kernels().convolve(*addresses, rows, height, width, inputs, outputs, turned)
    return y
