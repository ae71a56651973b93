"""A convolution of the images themselves, its batch norm and 2x2 max pooling, in one operation.

The first layer has one input channel: hardly any arithmetic, and the largest activations of the
network, written and read again by each of the three layers and by their gradients. Here they are
never written:

- The four outputs that a pooled pixel is chosen from see one patch of the image, (k+1) x (k+1)
  pixels. So each is a product of that patch with the kernel, placed at its corner of the patch.
- Batch norm of a linear map needs no look at its outputs: their mean and variance are w'm and w'Sw,
  with mean m and second moments S of the patches, (k+1)**2 numbers squared. So the norm becomes
  part of the kernel, and its gradient flows through these small matrices.
- The gradient of maxima needs to know which of the four was the largest: three bits, not an index.

It is the same function as the three layers', and its gradient the same; the statistics are more
precise in bf16, as they are not taken from rounded outputs.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pooled_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d | None, members: int
) -> Tensor:
    """Convolve, normalise with the statistics of the batch and pool, for training.

    Args:
        x: images [B, K, H, W] without a gradient; H and W are even.
        weight: [K*C, 1, k, k], k odd; stride 1, same padding.
        bias: [K*C] or nothing; nothing in front of a norm, which would cancel it.
        norm: over K*C channels, its running statistics are updated; or nothing.
        members: K.

    Returns:
        [B, K*C, H/2, W/2], in the precision of autocast.
    """
    (rows, _, height, width), device = x.shape, x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    side = weight.shape[2]
    patches = _patches(x.to(dtype), side // 2 + 1)  # [K, N, F]
    kernels = weight.view(members, -1, side * side)  # [K, C, k*k]
    placement = _placement(side, weight.dtype, x.device)
    with torch.autocast(device, enabled=False):
        if norm is None:
            pooled = _pooled(patches, placement, kernels)  # [K, N, C]
            if bias is not None:
                pooled = pooled + bias.to(dtype).view(members, 1, -1)
        else:
            pooled = _normalised(patches, placement, kernels, norm)
    pixels = pooled.view(members, rows, height // 2, width // 2, -1)
    return pixels.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)  # channels last


def _patches(x: Tensor, blocks: int) -> Tensor:
    """Cut the patches of 2x2 outputs out of images [B, K, H, W], padded: [K, N, F].

    A patch is `blocks` squared blocks of 2x2 pixels, which its neighbours share. In bf16 a block is
    moved as one number of 8 bytes.
    """
    rows, members, height, width = x.shape
    x = F.pad(x.transpose(0, 1), (blocks - 1,) * 4).contiguous()
    high, wide = x.shape[2] // 2, x.shape[3] // 2
    if x.dtype == torch.bfloat16:
        pairs = x.view(torch.int32).view(members, rows, high, 2, wide).transpose(3, 4)
        units = pairs.contiguous().view(torch.int64)  # [K, B, high, wide, 1]
    else:
        units = x.view(members, rows, high, 2, wide, 2).transpose(3, 4).flatten(4)
    down, across = height // 2, width // 2
    moved = [
        units[:, :, i : i + down, j : j + across] for i in range(blocks) for j in range(blocks)
    ]
    return torch.stack(moved, dim=4).view(members, rows * down * across, -1).view(x.dtype)


@cache
def _placement(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Say where the weights of a kernel lie when it is at a corner of a patch: 0 or 1, [4, F, k*k].

    F is in the order of `_patches`.
    """
    single = torch.eye(side * side, dtype=dtype).view(-1, side, side)  # each weight alone
    placed = torch.stack([F.pad(single, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)])
    blocks = (side + 1) // 2
    split = placed.view(4, -1, blocks, 2, blocks, 2).permute(0, 2, 4, 3, 5, 1)
    return split.reshape(4, (side + 1) ** 2, -1).to(device)


def _normalised(
    patches: Tensor, placement: Tensor, kernels: Tensor, norm: nn.BatchNorm2d
) -> Tensor:
    """Pool with a batch norm: [K, N, C]. Its gradient flows through the kernels."""
    members = len(kernels)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    with torch.no_grad():
        mean, moments = _statistics(patches.to(kernels.dtype), placement)
    weight, offset = norm.weight.view(members, -1), norm.bias.view(members, -1)
    scaled: Tensor
    shift: Tensor
    scaled, shift, means, variances = _Scaled.apply(  # type: ignore[no-untyped-call]
        kernels, weight, offset, mean, moments, norm.eps
    )
    with torch.no_grad():
        count = 4 * patches.shape[1]
        norm.running_mean.lerp_(means.flatten(), norm.momentum)
        norm.running_var.lerp_(variances.flatten() * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked.add_(1)
    pooled = _pooled(patches, placement, scaled)
    return pooled + shift.to(pooled.dtype)[:, None]


def _statistics(patches: Tensor, placement: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean [K, k*k] and covariance [K, k*k, k*k] of what a kernel sees at all its places."""
    places = placement.flatten(0, 1)  # [4F, k*k]
    moments = _product(patches.mT, patches) / patches.shape[1]  # [K, F, F]
    seen = (moments[:, None] @ placement).flatten(1, 2)  # [K, 4F, k*k]
    average = patches.mean(1) @ placement.mean(0)
    covariance = places.mT @ seen / 4 - average[:, :, None] * average[:, None]
    return average, covariance


class _Scaled(torch.autograd.Function):
    """Batch norm as a part of kernels.

    (kernels [K, C, k*k], weight and bias of the norm [K, C], mean [K, k*k] and covariance
    [K, k*k, k*k] of the inputs) -> (kernels, shift [K, C], mean and variance of the outputs).
    """

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any,
        kernels: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        covariance: Tensor,
        eps: float,
    ) -> tuple[Tensor, ...]:
        spread = kernels @ covariance
        variances = (spread * kernels).sum(2).clamp_min_(0)
        means = (kernels @ mean[:, :, None])[..., 0]
        inverse = (variances + eps).rsqrt_()
        scale = weight * inverse
        ctx.save_for_backward(kernels, weight, mean, spread, means, inverse, scale)
        ctx.mark_non_differentiable(means, variances)
        return kernels * scale[..., None], bias - means * scale, means, variances

    @staticmethod
    def backward(ctx: Any, scaled: Tensor, shift: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        kernels, weight, mean, spread, means, inverse, scale = ctx.saved_tensors
        of_scale = (scaled * kernels).sum(2) - shift * means
        of_variance = -0.5 * of_scale * weight * inverse**3
        of_kernels = scaled * scale[..., None] + (2 * of_variance)[..., None] * spread
        of_kernels -= (shift * scale)[..., None] * mean[:, None]
        return of_kernels, of_scale * inverse, shift, None, None, None


def _pooled(patches: Tensor, placement: Tensor, kernels: Tensor) -> Tensor:
    pooled: Tensor = _Pooled.apply(patches, placement, kernels)  # type: ignore[no-untyped-call]
    return pooled


class _Pooled(torch.autograd.Function):
    """The largest of the four outputs of patches [K, N, F] and kernels [K, C, k*k]: [K, N, C].

    Which one it is, is kept as whole numbers as wide as the operands, 0 or 1: multiplying the bits
    of a gradient with them is exact, twice as fast as multiplying bf16 on CPUs, and many times as
    fast as operations that mix in bool.
    """

    @staticmethod
    def forward(ctx: Any, patches: Tensor, placement: Tensor, kernels: Tensor) -> Tensor:
        placed = (placement @ kernels.mT[:, None]).to(patches.dtype)  # [K, 4, F, C]
        a, b, c, d = (_product(patches, part) for part in placed.unbind(1))
        upper, lower = torch.maximum(a, b), torch.maximum(c, d)
        # Of equal ones the first counts, as in PyTorch's pooling.
        largest = torch.maximum(upper, lower)
        chosen = map(_as_bits, (b.gt_(a), d.gt_(c), lower.gt_(upper)))
        ctx.save_for_backward(patches, placement, *chosen)
        return largest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        patches, placement, in_b, in_d, in_lower = ctx.saved_tensors
        bits = gradient.contiguous().view(in_lower.dtype)
        lower = bits * in_lower
        upper = bits ^ lower  # the others'
        b, d = upper * in_b, lower * in_d
        shares = (upper.bitwise_xor_(b), b, lower.bitwise_xor_(d), d)
        each = [_product(patches.mT, part.view(gradient.dtype)) for part in shares]
        placed = torch.cat(each, dim=1).to(placement.dtype)  # [K, 4F, C]
        return None, None, placed.mT @ placement.flatten(0, 1)


_WHOLE = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes


def _as_bits(truth: Tensor) -> Tensor:
    """Turn 0.0 and 1.0 into the whole numbers 0 and 1, in place."""
    size = truth.element_size()
    # The three highest bits of 1.0 are 001 in every IEEE format.
    return truth.view(_WHOLE[size]).bitwise_right_shift_(8 * size - 3)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply [K, N, M] with [K, M, L]; one matrix goes the faster way of single matrices."""
    if len(a) == 1:
        return (a[0] @ b[0])[None]
    return a @ b
