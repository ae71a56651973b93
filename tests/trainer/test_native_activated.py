"""The fused operation is batch norm or bias, activation and pooling, forward and backward."""

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from tests.support.networks import needs_kernels
from tests.support.tails import batch_norm, inputs, of_pytorch
from trainer import native

pytestmark = needs_kernels

if native.missing() is None:
    from trainer.native.activated import activated

SHAPES = [(4, 16, 6, 6), (3, 48, 7, 5), (2, 32, 2, 9), (64, 64, 3, 3), (5, 80, 14, 15)]
ROUNDING = 2**-8  # of bf16, relative; twice as much as one rounding, for what goes before it


def parameters_of(norm: nn.BatchNorm2d | None, bias: Tensor | None) -> list[Tensor]:
    if norm is not None:
        return [norm.weight, norm.bias]
    return [] if bias is None else [bias]


def with_gradients(
    out: Tensor, x: Tensor, parameters: list[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).bfloat16()
    of_x, *others = torch.autograd.grad(out, (x, *parameters), direction.to(out.dtype))
    return out.detach(), of_x, others


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("before", ["norm", "bias", "nothing"])
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("pooling", ["max", "avg", None])
def test_it_is_the_layers_with_their_gradients(
    shape: tuple[int, ...], before: str, slope: float, pooling: str | None
) -> None:
    x = inputs(shape).requires_grad_()
    exact = x.detach().double().requires_grad_()
    norm = batch_norm(shape[1]) if before == "norm" else None
    exact_norm = deepcopy(norm).double() if norm else None
    bias = torch.linspace(-1, 1, shape[1]).requires_grad_() if before == "bias" else None
    exact_bias = bias.detach().double().requires_grad_() if bias is not None else None

    own = parameters_of(norm, bias)
    out, of_x, others = with_gradients(activated(x, norm, bias, slope, pooling), x, own)
    own = parameters_of(exact_norm, exact_bias)
    theirs = with_gradients(of_pytorch(exact, exact_norm, exact_bias, slope, pooling), exact, own)

    assert out.dtype == of_x.dtype == torch.bfloat16
    for ours, their in zip((out, of_x), theirs[:2], strict=True):
        assert ours.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(ours.double(), their, rtol=ROUNDING, atol=2e-6)
    for ours, their in zip(others, theirs[2], strict=True):
        assert ours.dtype == torch.float32
        # Sums of numbers of either sign: precise beside the root of how many they are.
        error = 2e-6 * math.sqrt(x.numel() / shape[1])
        torch.testing.assert_close(ours.double(), their, rtol=1e-5, atol=error)
    if norm and exact_norm:
        for ours, their in zip(norm.buffers(), exact_norm.buffers(), strict=True):
            torch.testing.assert_close(ours.to(their.dtype), their, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("mean", "deviation"), [(0, 1e-3), (-3000, 16), (1e4, 100), (1e-3, 1e3)])
def test_statistics_are_precise_wherever_the_mean_is(mean: float, deviation: float) -> None:
    x = torch.randn(64, 16, 14, 14, generator=torch.Generator().manual_seed(0)) * deviation + mean
    x[0, :, 0, 0] = mean + 10 * deviation  # the first value is not like the others
    x = x.bfloat16()
    norm = nn.BatchNorm2d(16, momentum=1.0)  # so that the running ones are this batch's
    exact = deepcopy(norm).double()
    activated(x, norm, None, 1.0, None)
    exact(x.double())
    assert norm.running_mean is not None
    assert norm.running_var is not None
    of_mean, of_variance = norm.running_mean.double(), norm.running_var.double()
    torch.testing.assert_close(of_mean, exact.running_mean, rtol=1e-6, atol=1e-6 * deviation)
    torch.testing.assert_close(of_variance, exact.running_var, rtol=1e-5, atol=0)
    assert norm.num_batches_tracked == 1


def test_a_channel_of_one_value_has_no_variance() -> None:
    norm = batch_norm(16)
    out = activated(torch.full((8, 16, 7, 7), 3.3).bfloat16(), norm, None, 1.0, None)
    expected = norm.bias.detach()[:, None, None].expand(out.shape)
    torch.testing.assert_close(out.float(), expected, rtol=ROUNDING, atol=1e-4)


@pytest.mark.parametrize("pooling", ["max", "avg", None])
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_stays_to_be_seen(
    pooling: str | None, slope: float, value: float
) -> None:
    x = inputs((2, 16, 8, 8))
    for at in range(4):  # each corner of a window
        x[1, at, 2 + at // 2, 4 + at % 2] = value
        x[0, 4 + at, 2 + at // 2, 4 + at % 2] = -value
    out = activated(x, None, None, slope, pooling)
    expected = of_pytorch(x.double(), None, None, slope, pooling)
    lost = expected.isnan() if math.isnan(value) else expected.isposinf()
    assert lost.any()
    assert not out[lost].isfinite().any()
    norm = batch_norm(16)
    out = activated(x, norm, None, slope, pooling)
    assert out[:, :8].isnan().all()
    assert out[:, 8:].isfinite().all()


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("pooling", ["max", "avg", None])
def test_layout_and_type_of_what_comes_in_make_no_difference(
    normalised: bool, pooling: str | None
) -> None:
    found = []
    for layout, dtype in [
        (torch.channels_last, torch.bfloat16),
        (torch.contiguous_format, torch.float32),
    ]:
        x = inputs((3, 32, 6, 7)).contiguous(memory_format=layout).requires_grad_()
        norm = batch_norm(32) if normalised else None
        out = activated(x, norm, None, 0.1, pooling)
        direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).bfloat16()
        # By way of a second operation, whose gradient arrives in its own type and layout.
        out.to(dtype).contiguous(memory_format=layout).backward(
            direction.to(dtype).contiguous(memory_format=layout)
        )
        parameters = [] if norm is None else list(norm.parameters())
        found.append([out, x.grad, *(parameter.grad for parameter in parameters)])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
