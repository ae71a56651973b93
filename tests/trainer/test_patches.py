"""A bank's convolution of its images as one product, as GPUs take it."""

import pytest
import torch
import torch.nn.functional as F

from tests.support.trainings import MIXED, losses, small
from trainer import chain, native
from trainer.data import ImageData
from trainer.layers import Convolution
from trainer.patches import convolution_of_images
from trainer.train import train


@pytest.mark.parametrize(("members", "side", "kernel"), [(1, 8, 3), (3, 8, 5), (4, 7, 1)])
def test_it_is_the_grouped_convolution_with_its_gradient(
    members: int, side: int, kernel: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, members, side, side, dtype=torch.float64, generator=generator)
    shape = (members * 5, 1, kernel, kernel)
    weight = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    ours = convolution_of_images(x, weight, members)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    theirs = F.conv2d(x, weight, padding=kernel // 2, groups=members)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    upstream = torch.randn(ours.shape, dtype=torch.float64, generator=generator)
    (our_gradient,) = torch.autograd.grad(ours, weight, upstream)
    (their_gradient,) = torch.autograd.grad(theirs, weight, upstream)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=0, atol=1e-11)


def test_long_sums_of_bf16_gradients_are_taken_in_fp32() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 2, 28, 28, generator=generator).bfloat16().float()
    weight = torch.zeros(8, 1, 3, 3, requires_grad=True)
    upstream = torch.randn(64, 8, 28, 28, generator=generator).bfloat16()
    exact = torch.autograd.grad(
        F.conv2d(x.double(), weight.double(), padding=1, groups=2), weight, upstream.double()
    )[0]
    with torch.autocast("cpu", torch.bfloat16):
        out = convolution_of_images(x, weight, 2)
    (gradient,) = torch.autograd.grad(out, weight, upstream)
    assert ((gradient - exact).norm() / exact.norm()).item() < 4e-3  # bf16 has 8 bits


def test_a_bank_that_takes_it_trains_each_member_as_alone(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [small(**member, epochs=2) for member in MIXED]
    alone = [train([config], digits)[0] for config in configs]

    def as_on_a_gpu(layers: list[torch.nn.Module], x: torch.Tensor, kernels: object) -> object:
        del kernels
        first = layers[0]
        assert isinstance(first, Convolution)
        return convolution_of_images(x, first.weight, first.members), layers[1:]

    monkeypatch.setattr(native, "wanted", lambda _: False)
    monkeypatch.setattr(chain, "_of_images", as_on_a_gpu)
    for fused, single in zip(train(configs, digits), alone, strict=True):
        assert losses(fused) == pytest.approx(losses(single), rel=2e-3)
