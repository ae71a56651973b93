"""Dropout in one Triton kernel, on GPUs where triton is there: hash, mask and product in registers.

PyTorch's operations, which do the same to the bit, write and read the hash a dozen times. Nothing
is kept for the gradient but the keys. Triton comes with builds of torch for CUDA; it is no
dependency, and nothing of it is loaded on a CPU.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from trainer.streams import BITS, MULTIPLY_1, MULTIPLY_2

_BLOCK = 1024
_M1 = tl.constexpr(MULTIPLY_1)
_M2 = tl.constexpr(MULTIPLY_2 & 0xFFFFFFFF)
_SHIFT = tl.constexpr(32 - BITS)


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def] # noqa: PLR0917
    x, out, keys, drop, scale,
    size, members, each, s_row, s_member, s_each,
    wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * block + tl.arange(0, block)  # in `out`, [B, K, each]
    inside = place < size
    column = place % each
    member = place // each % members
    row = place // (each * members)
    first = tl.load(keys + 2 * member, mask=inside).to(tl.uint32, bitcast=True)
    second = tl.load(keys + 2 * member + 1, mask=inside).to(tl.uint32, bitcast=True)
    number = (row * each + column).to(tl.uint32) + first
    number = (number ^ (number >> 16)) * tl.full((1,), _M1, tl.uint32) ^ second
    number = (number ^ (number >> 15)) * tl.full((1,), _M2, tl.uint32)
    kept = (number >> _SHIFT).to(tl.int32) >= tl.load(drop + member, mask=inside)
    factor = tl.load(scale + member, mask=inside)
    value = tl.load(x + row * s_row + member * s_member + column * s_each, mask=inside)
    if wide:  # as PyTorch multiplies: in fp32, rounded once
        product = value.to(tl.float32) * tl.where(kept, factor.to(tl.float32), 0.0)
    else:
        product = value * tl.where(kept, factor, 0.0)
    tl.store(out + place, product.to(value.dtype), mask=inside)


@torch.library.custom_op("fmnist::dropped", mutates_args=())
def dropped(x: Tensor, keys: Tensor, drop: Tensor, scale: Tensor) -> Tensor:
    """Zero values by their member's rate and scale the others up.

    Args:
        x: [B, K, F].
        keys: of the step, int32 [K, 2].
        drop: thresholds of the hash, int32 [K, 1].
        scale: of what is kept, [K, 1], in the type of x.

    Returns:
        [B, K, F], contiguous.
    """
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    members, each = x.shape[1:]
    grid = (triton.cdiv(out.numel(), _BLOCK),)
    sizes = out.numel(), members, each, *x.stride()
    wide = x.dtype == torch.bfloat16
    _kernel[grid](x, out, keys, drop, scale, *sizes, wide=wide, block=_BLOCK)
    return out


@dropped.register_fake
def _(x: Tensor, keys: Tensor, drop: Tensor, scale: Tensor) -> Tensor:
    del keys, drop, scale
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs[1:])


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return dropped(gradient, *ctx.saved_tensors), None, None, None


dropped.register_autograd(_backward, setup_context=_keep)
