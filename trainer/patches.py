"""A convolution of the images themselves by the members of a bank, as one product, on GPUs.

Grouped, it would be a depthwise convolution (one channel in each group), for which GPUs have slow
kernels, above all for the gradient of the weights. Here the patches are laid out once and every
member multiplies its own with its kernels; the gradient of the weights, a sum over all pixels of
the batch, is taken in parts, image by image, and added up in fp32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def convolution_of_images(x: Tensor, weight: Tensor, members: int) -> Tensor:
    """Convolve each member's images with its own kernels, for training.

    Args:
        x: images [B, K, H, W] without a gradient.
        weight: [K*C, 1, k, k], k odd; stride 1, same padding.
        members: K.

    Returns:
        [B, K*C, H, W], channels last in memory, in the precision of autocast.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    rows, _, height, width = x.shape
    side = weight.shape[2]
    padded = F.pad(x.to(dtype).transpose(0, 1), (side // 2,) * 4)  # [K, B, H+k-1, W+k-1]
    windows = padded.unfold(2, side, 1).unfold(3, side, 1)  # [K, B, H, W, k, k]
    patches = windows.reshape(members, rows, height * width, side * side)
    kernels = weight.to(dtype).view(members, -1, side * side)  # [K, C, k*k]
    with torch.autocast(device, enabled=False):
        product: Tensor = _Product.apply(patches, kernels)  # type: ignore[no-untyped-call]
    pixels = product.view(members, rows, height, width, -1)
    return pixels.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)


class _Product(torch.autograd.Function):
    """Patches [K, B, N, F] times kernels [K, C, F]: [K, B, N, C]."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(patches)
        return (patches.flatten(1, 2) @ kernels.mT).view(*patches.shape[:3], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (patches,) = ctx.saved_tensors
        each = gradient.contiguous().flatten(0, 1).mT @ patches.flatten(0, 1)  # [K*B, C, F]
        whole = each.view(*patches.shape[:2], *each.shape[1:])
        wide = torch.float32 if whole.dtype == torch.bfloat16 else whole.dtype
        return None, whole.sum(1, dtype=wide)
