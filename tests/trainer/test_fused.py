"""The fused first step: the same function as its three layers, and the same gradients."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.networks import batch, one
from trainer.fused import pooled_convolution
from trainer.layers import ChannelNorm, Convolution

CHANNELS = 6


def images(members: int, dtype: torch.dtype) -> Tensor:
    """Noise beside a plain area, where all four outputs of a pool are equal."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, members, 8, 8, dtype=dtype, generator=generator)
    x[:, :, :, :5] = 0.3
    return x


def layers(
    members: int, kernel: int, dtype: torch.dtype, *, bias: bool = False
) -> tuple[Convolution, ChannelNorm]:
    convolution = Convolution(members, 1, CHANNELS, kernel, bias=bias)
    norm = ChannelNorm(members * CHANNELS)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*convolution.parameters(), *norm.parameters()):
            parameter.uniform_(-1, 1, generator=generator)  # a norm's weight may be negative
    return convolution.to(dtype), norm.to(dtype)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_convolution_norm_and_pooling_with_their_gradients(
    members: int, kernel: int, normalised: bool, dtype: torch.dtype
) -> None:
    x = images(members, dtype)
    found = []
    for fused in (True, False):
        convolution, norm = layers(members, kernel, dtype, bias=not normalised)
        weight, bias = convolution.weight, convolution.bias
        if fused:
            out = pooled_convolution(x, weight, bias, norm if normalised else None, members)
        else:
            out = F.conv2d(x, weight, bias, padding=kernel // 2, groups=members)
            out = F.max_pool2d(norm(out) if normalised else out, 2)
        direction = torch.randn(out.shape, dtype=dtype, generator=torch.Generator().manual_seed(2))
        (out * direction).sum().backward()
        gradients = [weight.grad, *((norm.weight.grad, norm.bias.grad) if normalised else ())]
        if bias is not None:
            gradients.append(bias.grad)
        statistics = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
        found.append([out.detach(), *gradients, *statistics])
    tolerance = 1e-11 if dtype == torch.float64 else 2e-4
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_its_output_lies_channels_last() -> None:
    convolution, norm = layers(3, 3, torch.float32)
    out = pooled_convolution(images(3, torch.float32), convolution.weight, None, norm, 3)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_it_computes_in_the_precision_of_autocast_with_statistics_in_float32() -> None:
    x = images(1, torch.float32).bfloat16().float()
    convolution, norm = layers(1, 3, torch.float32)
    exact = pooled_convolution(x, convolution.weight, None, norm, 1)
    precise = norm.running_var
    assert precise is not None
    precise = precise.clone()
    norm.reset_running_stats()
    with torch.autocast("cpu", torch.bfloat16):
        out = pooled_convolution(x, convolution.weight, None, norm, 1)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, rtol=0.03, atol=0.03)
    torch.testing.assert_close(norm.running_var, precise)


@pytest.mark.parametrize(
    ("fields", "fuses"),
    [
        ({}, True),
        ({"batchnorm": False}, True),
        ({"activation": "relu", "kernel_size": 5}, True),
        ({"kernel_size": 7}, False),  # a kernel that large costs more
        ({"batchnorm": False, "kernel_size": 5}, False),
        ({"pooling": "avg"}, False),
        ({"activation": "gelu"}, False),
        ({"architecture": "convnet3"}, True),
        ({"architecture": "resnet20"}, False),
    ],
)
def test_networks_fuse_their_first_step_in_training_only(
    fields: dict[str, Any], fuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*arguments: object) -> Tensor:
        calls.append(arguments)
        return pooled_convolution(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("trainer.chain.pooled_convolution", counted)
    network = one(width=4, dropout=0.0, **fields)
    network(batch())
    assert calls == []
    network.train()
    network(batch())
    assert len(calls) == fuses


def test_images_that_want_a_gradient_get_one() -> None:
    network: nn.Module = one(width=4, dropout=0.0).train()
    x = batch().requires_grad_()
    network(x).sum().backward()
    assert x.grad is not None
