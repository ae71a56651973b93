"""The first layer of a network on images of one channel, with all that follows up to its pooling.

`trainer.fused` does the same out of PyTorch's operations, and says how a batch norm becomes part of
the kernel. Here it takes two passes over the images, and nothing of the size of the convolution's
outputs is in memory. Images and weights are taken as they are, in fp32: only the result is rounded
to bf16.
"""

from typing import Any

import torch
from torch import Tensor, nn

from trainer.native import LANES, address, kernels

SIDES = (3, 5)  # of the kernels that there are


def fits(weight: Tensor, x: Tensor) -> bool:
    """Whether there is a kernel for weights [C, 1, k, k] and images [B, K, H, W] of one network."""
    return x.shape[1] == 1 and len(weight) % LANES == 0 and weight.shape[2] in SIDES


def pooled_images(  # noqa: PLR0917
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    norm: nn.BatchNorm2d | None,
    slope: float,
    pooling: str,
) -> Tensor:
    """Convolve, normalise with the statistics of the batch, activate and pool, for training.

    Args:
        x: images [B, 1, H, W] in fp32 without a gradient; H and W are even.
        weight: [C, 1, k, k], k = 3 or 5, C a multiple of 16; stride 1, same padding.
        bias: [C] or nothing; nothing in front of a norm, which would cancel it.
        norm: over C channels, its running statistics are updated; or nothing.
        slope: of the activation where its argument is negative: 0 for ReLU, 1 for none.
        pooling: of 2x2 pixels, `max` or `avg`.

    Returns:
        [B, C, H/2, W/2] in bf16, channels last. Where an output of the convolution could be
        infinite or none, it is NaN.
    """
    _check(x, weight, bias, norm)
    scale = None
    if norm is not None:
        scale, bias = norm.weight, norm.bias
    pooled: Tensor = _PooledImages.apply(  # type: ignore[no-untyped-call]
        x, weight, scale, bias, norm, slope, pooling == "avg"
    )
    return pooled


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d | None) -> None:
    """Refuse what the kernels, which get addresses, would not notice."""
    channels = len(weight)
    assert x.dtype == weight.dtype == torch.float32
    assert weight.shape in [(channels, 1, side, side) for side in SIDES]
    assert x.shape[1] == 1
    assert x.shape[2] % 2 == x.shape[3] % 2 == channels % LANES == 0
    assert bias is None or (norm is None and bias.shape == (channels,))
    assert norm is None or norm.num_features == channels


class _PooledImages(torch.autograd.Function):
    """The arguments of `pooled_images`; the norm's parameters come as `scale` and `bias` also."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
        norm: nn.BatchNorm2d | None,
        slope: float,
        average: bool,
    ) -> Tensor:
        rows, _, height, width = x.shape
        channels, side = weight.shape[0], weight.shape[2]
        ctx.shape = (rows, height, width, channels, side)
        ctx.options = (slope, average)
        x, weight = x.contiguous(), weight.contiguous()
        scaled, shift, statistics = weight, bias, None
        if norm is not None:
            scaled, shift, statistics = _normalise(x, weight, norm)
        size = (rows, channels, height // 2, width // 2)
        y = torch.empty(size, dtype=torch.bfloat16, memory_format=torch.channels_last)
        kept = torch.empty(y.numel() // LANES, dtype=torch.int64)
        kernels().pool_images(
            x.data_ptr(),
            scaled.data_ptr(),
            address(shift),
            y.data_ptr(),
            kept.data_ptr(),
            *ctx.shape,
            *ctx.options,
        )
        ctx.save_for_backward(x, weight, scale, bias, statistics, kept)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, bias, statistics, kept = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_weight = torch.empty_like(weight)
        of_scale = None if scale is None else torch.empty_like(scale)
        of_bias = None if bias is None else torch.empty_like(bias)
        kernels().pool_images_gradient(
            x.data_ptr(),
            kept.data_ptr(),
            gradient.data_ptr(),
            of_weight.data_ptr(),
            address(of_bias),
            *ctx.shape,
            *ctx.options,
        )
        if of_scale is not None:
            assert of_bias is not None
            kernels().normalise_images_gradient(
                weight.data_ptr(),
                scale.data_ptr(),
                statistics.data_ptr(),
                of_weight.data_ptr(),
                of_bias.data_ptr(),
                of_scale.data_ptr(),
                *ctx.shape[3:],
            )
        return None, of_weight, of_scale, of_bias, None, None, None


def _normalise(x: Tensor, weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights and the shift that the norm is part of, and what their gradients need."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    rows, _, height, width = x.shape
    channels, side = weight.shape[0], weight.shape[2]
    scaled, shift = torch.empty_like(weight), torch.empty_like(norm.bias)
    statistics = torch.empty(channels + 1, side**2 + 2)
    kernels().normalise_images(
        x.data_ptr(),
        weight.data_ptr(),
        norm.weight.data_ptr(),
        norm.bias.data_ptr(),
        norm.running_mean.data_ptr(),
        norm.running_var.data_ptr(),
        scaled.data_ptr(),
        shift.data_ptr(),
        statistics.data_ptr(),
        rows,
        height,
        width,
        channels,
        side,
        norm.eps,
        norm.momentum,
    )
    norm.num_batches_tracked.add_(1)
    return scaled, shift, statistics
