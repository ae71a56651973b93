"""Convolutions in Triton, run on the CPU by Triton's interpreter, against PyTorch's."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer import convolutions

pytest.importorskip("triton", reason="triton, which comes with torch for CUDA, is not installed")

# Triton's interpreter cannot multiply bf16: what is rounded to bf16 is multiplied in fp32.
SHAPES = [  # groups; channels in and out of each; kernel; images, height, width
    (3, 15, 23, 3, (1, 5, 6)),
    (1, 32, 64, 3, (2, 4, 4)),
    (3, 1, 5, 5, (3, 7, 7)),
    (2, 16, 40, 1, (1, 7, 5)),
]
SLOW = [(1, 23, 15, 5, (3, 8, 8)), (2, 96, 130, 3, (1, 7, 7)), (3, 32, 64, 3, (2, 14, 14))]


@pytest.fixture(scope="module")
def interpreted() -> Iterator[ModuleType]:
    """The module, interpreted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.delitem(sys.modules, "trainer.triton_convolution", raising=False)
        yield importlib.import_module("trainer.triton_convolution")
        del sys.modules["trainer.triton_convolution"]


def numbers(*shape: int) -> Tensor:
    """Random numbers that bf16 has."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).bfloat16().float()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    "shape", [*SHAPES, *(pytest.param(s, marks=pytest.mark.slow) for s in SLOW)]
)
def test_values_and_gradients_are_those_of_pytorch(
    interpreted: ModuleType,
    shape: tuple[int, int, int, int, tuple[int, int, int]],
    layout: torch.memory_format,
) -> None:
    groups, inputs, outputs, kernel, (rows, height, width) = shape
    x = numbers(rows, groups * inputs, height, width).contiguous(memory_format=layout)
    weight = numbers(groups * outputs, inputs, kernel, kernel).contiguous(memory_format=layout)
    upstream = numbers(rows, groups * outputs, height, width)
    x, weight = x.requires_grad_(), weight.requires_grad_()
    out = interpreted.convolution(x, weight, groups, torch.float32)
    assert out.is_contiguous(memory_format=torch.channels_last)
    gradients = torch.autograd.grad(out, (x, weight), upstream)
    exact_x, exact_weight = x.double(), weight.double()
    exact = F.conv2d(exact_x, exact_weight, padding=kernel // 2, groups=groups)
    expected = torch.autograd.grad(exact, (exact_x, exact_weight), upstream.double())
    for ours, theirs in zip((out, *gradients), (exact, *expected), strict=True):
        assert ((ours - theirs).norm() / theirs.norm()).item() < 1e-6
    assert gradients[0].is_contiguous(memory_format=torch.channels_last)
    assert gradients[1].is_contiguous(memory_format=layout)


def test_images_are_taken_in_the_type_in_which_they_come(interpreted: ModuleType) -> None:
    images, weight = numbers(3, 2, 6, 6), numbers(2 * 8, 1, 3, 3)
    expected = F.conv2d(images, weight, padding=1, groups=2)
    out = interpreted.convolution(images.bfloat16(), weight, 2, torch.float32)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_nothing_beyond_the_images_is_read(interpreted: ModuleType, channels: int) -> None:
    shape = 3, 5, 5, 2 * channels
    values = numbers(*shape)
    memory = torch.full((3 * values.numel(),), torch.inf)
    x = memory[values.numel() : -values.numel()].view(shape).copy_(values).permute(0, 3, 1, 2)
    weight = numbers(2 * 8, channels, 3, 3).requires_grad_()
    out = interpreted.convolution(x, weight, 2, torch.float32)  # inf * 0 would be warned of
    (gradient,) = torch.autograd.grad(out, weight, out.detach())
    assert out.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("parts", [1, 3, 9])
def test_a_sum_over_pixels_is_the_same_in_any_number_of_parts(
    interpreted: ModuleType, parts: int
) -> None:
    x, gradient = numbers(2, 16, 7, 7), numbers(2, 16, 7, 7)
    x, gradient = (t.contiguous(memory_format=torch.channels_last) for t in (x, gradient))
    tile = interpreted.Tile(16, 32, 16, 4, 2, parts)
    summed = interpreted.launch_over_pixels(x, gradient, 2, 3, tile)
    assert summed.shape == (parts, 16, 3, 3, 8)
    weight = torch.zeros(16, 8, 3, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(F.conv2d(x, weight, padding=1, groups=2), weight, gradient)
    torch.testing.assert_close(summed.sum(0).permute(0, 3, 1, 2), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "outputs", "side", "taken"),
    [
        (1, 32, 3, True), (1, 32, 5, True), (32, 64, 3, True), (16, 48, 5, True),
        (15, 64, 3, False), (24, 48, 3, False), (32, 15, 3, False), (1, 32, 7, False),
    ],
)  # fmt: skip
def test_only_shapes_that_a_gpu_has_right_are_taken(
    inputs: int, outputs: int, side: int, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.device.has_triton", lambda _: True)
    x = torch.empty(2, 4 * inputs, 14, 14, dtype=torch.bfloat16)
    weight = torch.empty(4 * outputs, inputs, side, side)
    options = {"stride": 1, "padding": side // 2, "groups": 4}
    assert convolutions.in_triton(x, weight, **options) == taken


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("inputs", [1, 16, 32, 96])
@pytest.mark.parametrize(("groups", "side"), [(16, 14), (3, 7), (1, 28)])
def test_on_a_gpu_values_and_gradients_are_those_of_cudnn(
    groups: int, side: int, inputs: int
) -> None:
    from trainer.triton_convolution import convolution

    x = numbers(64, groups * inputs, side, side).cuda().requires_grad_()
    weight = numbers(groups * 64, inputs, 3, 3).cuda().requires_grad_()
    upstream = numbers(64, groups * 64, side, side).cuda()
    exact = F.conv2d(x, weight, padding=1, groups=groups)
    expected = torch.autograd.grad(exact, (x, weight), upstream)
    lying = x.detach().bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    out = convolution(lying, weight, groups, torch.bfloat16)
    gradients, again = (
        torch.autograd.grad(out, (lying, weight), upstream.bfloat16(), retain_graph=True)
        for _ in range(2)
    )
    for ours, theirs in zip((out, *gradients), (exact, *expected), strict=True):
        assert ((ours - theirs).norm() / theirs.norm()).item() < 5e-3
    assert all(torch.equal(first, second) for first, second in zip(gradients, again, strict=True))
