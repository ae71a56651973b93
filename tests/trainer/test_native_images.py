"""The native first layer: the same function as its layers in float64, and the same gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.networks import needs_kernels
from trainer.native.images import pooled_images

pytestmark = needs_kernels

BF16 = 2**-8  # rounding moves a value by half of this part of it
FP32 = 1e-5


def images(rows: int, height: int, width: int) -> Tensor:
    """Noise beside a plain area, where all four outputs of a pool are equal."""
    x = torch.randn(rows, 1, height, width, generator=torch.Generator().manual_seed(0))
    x[:, :, height // 3 :, width // 2 :] = 0.3
    return x


def layers(
    channels: int, side: int, *, bias: bool, normalised: bool
) -> tuple[nn.Conv2d, nn.BatchNorm2d | None]:
    convolution = nn.Conv2d(1, channels, side, padding=side // 2, bias=bias)
    norm = nn.BatchNorm2d(channels) if normalised else None
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in (convolution, *((norm,) if norm else ())):
            for parameter in layer.parameters():
                parameter.uniform_(-1, 1, generator=generator)  # a norm's weight may be negative
    return convolution, norm


def ours(
    x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, slope: float, pooling: str
) -> Tensor:
    return pooled_images(x, convolution.weight, convolution.bias, norm, slope, pooling)


def theirs(
    x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, slope: float, pooling: str
) -> Tensor:
    out = convolution.double()(x.double())
    if norm is not None:
        out = norm.double()(out)
    out = F.leaky_relu(out, slope)
    return F.max_pool2d(out, 2) if pooling == "max" else F.avg_pool2d(out, 2)


def gradients(out: Tensor, direction: Tensor, *modules: nn.Module | None) -> list[Tensor]:
    parameters = [p for module in modules if module for p in module.parameters()]
    return list(torch.autograd.grad(out, parameters, direction.to(out.dtype)))


def direction_of(out: Tensor) -> Tensor:
    """A gradient that bf16 holds exactly."""
    return torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).bfloat16()


def close(found: Tensor, exact: Tensor, tolerance: float) -> None:
    """Compare, relative to each value and to the largest."""
    most = exact.abs().max().item()
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance * most)


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["plain", "bias", "norm"])
@pytest.mark.parametrize(
    "shape",  # rows, height, width, channels
    [(5, 28, 28, 32), (3, 2, 2, 16), (2, 4, 2, 16), (4, 6, 36, 48), (3, 18, 16, 16)],
)
def test_it_is_its_layers_with_their_gradients(
    shape: tuple[int, int, int, int], kind: str, slope: float, pooling: str, side: int
) -> None:
    *size, channels = shape
    x = images(*size)
    options = {"bias": kind == "bias", "normalised": kind == "norm"}
    convolution, norm = layers(channels, side, **options)
    out = ours(x, convolution, norm, slope, pooling)
    direction = direction_of(out)
    found = gradients(out, direction, convolution, norm)
    exact_convolution, exact_norm = layers(channels, side, **options)
    exact = theirs(x, exact_convolution, exact_norm, slope, pooling)
    expected = gradients(exact, direction, exact_convolution, exact_norm)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.double(), exact, rtol=BF16, atol=FP32)
    for found_one, expected_one in zip(found, expected, strict=True):
        assert found_one.shape == expected_one.shape
        close(found_one, expected_one, FP32)
    if norm is not None:
        assert exact_norm is not None
        for buffer, exact_buffer in zip(norm.buffers(), exact_norm.buffers(), strict=True):
            close(buffer, exact_buffer.double(), FP32)


def test_running_statistics_follow_the_momentum_over_batches() -> None:
    convolution, norm = layers(16, 3, bias=False, normalised=True)
    exact_convolution, exact_norm = layers(16, 3, bias=False, normalised=True)
    assert norm is not None
    assert exact_norm is not None
    norm.momentum = exact_norm.momentum = 0.3
    for step in range(4):
        x = images(3, 8, 8) * (step + 1)
        ours(x, convolution, norm, 0.0, "max")
        theirs(x, exact_convolution, exact_norm, 0.0, "max")
    for buffer, exact_buffer in zip(norm.buffers(), exact_norm.buffers(), strict=True):
        close(buffer, exact_buffer.double(), FP32)


def test_statistics_are_precise_where_images_are_far_from_zero() -> None:
    x = images(64, 28, 28) + 10
    variances = []
    for layer in (ours, theirs):
        convolution, norm = layers(16, 3, bias=False, normalised=True)
        assert norm is not None
        with torch.no_grad():  # edges only: a small part of the images' second moments is left
            convolution.weight -= convolution.weight.mean((2, 3), keepdim=True)
        layer(x, convolution, norm, 0.0, "max")
        assert norm.running_var is not None
        variances.append(norm.running_var.double())
    torch.testing.assert_close(*variances, rtol=FP32, atol=0)


@pytest.mark.parametrize("side", [3, 5])
def test_of_equal_outputs_the_first_counts(side: int) -> None:
    x = images(2, 8, 8)
    found = []
    for layer in (ours, theirs):
        convolution, _ = layers(16, side, bias=True, normalised=False)
        assert convolution.bias is not None
        with torch.no_grad():
            convolution.weight.zero_()
            convolution.bias.fill_(1)
        out = layer(x, convolution, None, 0.0, "max")
        found.append(gradients(out, direction_of(out), convolution)[0])
    close(found[0], found[1], FP32)


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize(
    ("value", "normalised"),  # a norm brings 3e38 back
    [(math.nan, True), (math.inf, True), (math.nan, False), (-math.inf, False), (3e38, False)],
)
def test_what_is_not_finite_does_not_hide_behind_a_maximum(
    value: float, normalised: bool, slope: float, pooling: str
) -> None:
    x = -images(2, 8, 8).abs() * 100
    convolution, norm = layers(32, 3, bias=not normalised, normalised=normalised)
    with torch.no_grad():
        convolution.weight[7, 0, 1, 1] = value
    out = ours(x, convolution, norm, slope, pooling)
    assert out[:, 7].isnan().all()
    assert out[:, :7].isfinite().all()
    assert out[:, 8:].isfinite().all()


def test_an_image_that_is_not_finite_stays_so() -> None:
    x = images(3, 8, 8)
    x[1, 0, 0, 0] = math.nan
    convolution, norm = layers(16, 3, bias=True, normalised=False)
    out = ours(x, convolution, norm, 0.0, "max")
    assert out[1].isnan().all()
    assert out[[0, 2]].isfinite().all()


def test_layouts_and_autocast_change_nothing() -> None:
    x = images(3, 8, 8)
    convolution, norm = layers(16, 3, bias=False, normalised=True)
    out = ours(x, convolution, norm, 0.1, "max")
    direction = direction_of(out)
    expected = [out, *gradients(out, direction, convolution, norm)]
    convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub
    sparse = torch.stack([x, x], dim=-1)[..., 0]
    with torch.autocast("cpu", torch.bfloat16):
        out = ours(sparse, convolution, norm, 0.1, "max")
    found = [out, *gradients(out, direction.contiguous(), convolution, norm)]
    for found_one, expected_one in zip(found, expected, strict=True):
        assert found_one.equal(expected_one)
    out = ours(x, convolution, norm, 0.1, "max")
    constant = gradients(out, torch.ones(1).expand(out.shape), convolution, norm)
    out = ours(x, convolution, norm, 0.1, "max")
    same = gradients(out, torch.ones(out.shape), convolution, norm)
    for found_one, expected_one in zip(constant, same, strict=True):
        assert found_one.equal(expected_one)
