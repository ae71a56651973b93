"""Winograd's convolutions: those of the definition, up to what rounding to bf16 makes of them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.networks import needs_kernels
from trainer.layers import Convolution
from trainer.native.convolution import convolution, fits

pytestmark = needs_kernels

Case = tuple[Tensor, Tensor, Tensor]  # x, weights, gradient of y


def normal(shape: tuple[int, int, int, int], outputs: int) -> Case:
    rows, inputs, height, width = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5
    return x, weight, torch.randn(rows, outputs, height, width, generator=generator)


def computed(case: Case) -> list[Tensor]:
    x, weight, direction = (
        tensor.clone(memory_format=torch.channels_last).requires_grad_() for tensor in case
    )
    x = x.detach().bfloat16().requires_grad_()
    y = convolution(x, weight)
    y.backward(direction.detach().bfloat16())
    assert x.grad is not None
    assert weight.grad is not None
    assert y.dtype == x.grad.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32
    return [y.detach(), x.grad, weight.grad]


def defined(case: Case) -> list[Tensor]:
    x, weight, direction = (tensor.bfloat16().double().requires_grad_() for tensor in case)
    weight = case[1].double().requires_grad_()
    y = F.conv2d(x, weight, padding=1)
    y.backward(direction.detach())
    assert x.grad is not None
    assert weight.grad is not None
    return [y.detach(), x.grad, weight.grad]


@settings(max_examples=80, deadline=None)
@given(
    rows=st.integers(1, 9),
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    inputs=st.sampled_from([16, 32, 48, 64, 80, 112, 144]),
    outputs=st.sampled_from([16, 32, 48, 64, 96, 128, 176]),
)
def test_no_value_is_wrong_whatever_the_shape(
    rows: int, height: int, width: int, inputs: int, outputs: int
) -> None:
    case = normal((rows, inputs, height, width), outputs)
    # The deviations that values have in whole tiles of 4x4 away from the edges.
    pixels = rows * (-(-height // 4) * 4) * (-(-width // 4) * 4)
    scales = [1.0, (outputs / inputs) ** 0.5, pixels**0.5]
    for own, known, scale in zip(computed(case), defined(case), scales, strict=True):
        # Rounding errors have a deviation of about 1.2 % of these, at the edges of tiles 2 %; none
        # of a million is beyond 7 of those. A wrong value would be off by about the whole scale.
        assert (own.double() - known).abs().max().item() < 0.15 * scale


@pytest.mark.parametrize("side", [28, 14, 7])
@pytest.mark.parametrize("channels", [(32, 64), (96, 128), (128, 256)])
def test_its_error_is_one_percent(side: int, channels: tuple[int, int]) -> None:
    case = normal((16, channels[0], side, side), channels[1])
    for own, known in zip(computed(case), defined(case), strict=True):
        error = ((own.double() - known).norm() / known.norm()).item()
        assert 0.009 < error < 0.013


def test_it_computes_the_same_whatever_came_before() -> None:
    case = normal((3, 32, 9, 9), 48)
    before = computed(case)
    computed(normal((5, 128, 14, 14), 64))  # other sizes in the same memory
    for own, again in zip(before, computed(case), strict=True):
        assert torch.equal(own, again)


def test_a_value_that_is_not_finite_stays_visible() -> None:
    x, weight, direction = normal((2, 16, 6, 6), 16)
    x[1, 3, 2, 2] = float("nan")
    y, of_x, of_weight = computed((x, weight, direction))
    assert y[0].isfinite().all()
    assert not y[1, :, 2, 2].isfinite().any()
    assert of_x.isfinite().all()
    assert not of_weight[:, 3].isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "groups", "expected"),
    [
        (32, 64, 3, 1, 1, True),
        (24, 64, 3, 1, 1, False),
        (32, 40, 3, 1, 1, False),
        (32, 64, 5, 1, 1, False),
        (32, 64, 3, 2, 1, False),
        (32, 64, 3, 1, 2, False),
    ],
)
def test_what_it_takes(  # noqa: PLR0917
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, expected: bool
) -> None:
    amx = torch.cpu._is_amx_tile_supported()  # PyTorch's convolutions are taken there
    weight = torch.empty(outputs, inputs // groups, kernel, kernel)
    assert fits(weight, stride=stride, padding=kernel // 2, groups=groups) is (expected and not amx)


def test_a_layer_uses_it_in_training_only() -> None:
    layer = Convolution(1, 16, 32, 3, bias=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    x = torch.linspace(-1, 1, 2 * 16 * 49).view(2, 16, 7, 7).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            own = layer(x)
            theirs = F.conv2d(x, layer.weight, layer.bias, padding=1)
            assert not torch.equal(own, theirs)
            torch.testing.assert_close(own, theirs, rtol=0.02, atol=0.05)
            assert torch.equal(layer.eval()(x), theirs)
    finally:
        torch.set_num_threads(threads)
