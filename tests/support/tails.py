"""Norm or bias, activation and pooling, by PyTorch's operations; and what they are given."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def inputs(shape: tuple[int, ...], mean: float = 0.5, deviation: float = 2.0) -> Tensor:
    """Noise, in which bf16 makes many values equal, beside a plain area and one of zeros."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * deviation + mean
    x[:, 1::3, :3, :3] = 0.3
    x[:, 2::3, :3, :3] = 0
    return x.bfloat16().contiguous(memory_format=torch.channels_last)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a norm with negative weights too, and running statistics of an earlier batch."""
    norm = nn.BatchNorm2d(channels, momentum=0.3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert values is not None
            values.uniform_(-1, 1, generator=generator)
    return norm


def of_pytorch(
    x: Tensor, norm: nn.BatchNorm2d | None, bias: Tensor | None, slope: float, pooling: str | None
) -> Tensor:
    """Do one after the other."""
    if norm is not None:
        x = norm(x)
    if bias is not None:
        x = x + bias[:, None, None]
    x = F.relu(x) if slope == 0 else F.leaky_relu(x, slope)
    if pooling is None:
        return x
    return F.max_pool2d(x, 2) if pooling == "max" else F.avg_pool2d(x, 2)
