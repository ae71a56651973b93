"""Norms, activations and pools in few passes, by Triton's interpreter on the CPU and on a GPU."""

import importlib
import math
import sys
from collections.abc import Iterator
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trainer
from tests.support.tails import batch_norm, inputs, of_pytorch
from tests.support.trainings import MIXED, losses, small
from trainer import chain
from trainer.chain import named
from trainer.data import ImageData
from trainer.layers import ChannelNorm, Convolution, activation
from trainer.train import train

triton = pytest.importorskip(
    "triton", reason="triton, which comes with torch for CUDA, is not installed"
)

MODULES = "triton_passes", "triton_activated"
SHAPES = [(3, 40, 7, 5), (1, 3, 2, 9)]
REAL = [(64, 512, 28, 28), (64, 1536, 7, 7)]
POOLINGS = ["max", "avg", None]
NUMBERS = torch.float32, 1e-5  # what the interpreter computes with, and how well
ROUNDED = torch.bfloat16, 2**-7  # the interpreter rounds towards zero, unlike GPUs

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Any]:
    """The module, whose kernels are interpreted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for name in ("sum", "zeros"):  # compiled functions too, decorated when triton was imported
            patch.setattr(triton.language, name, triton.jit(getattr(triton.language, name).fn))
        for name in MODULES:
            patch.delitem(sys.modules, f"trainer.{name}", raising=False)
        yield [importlib.import_module(f"trainer.{name}") for name in MODULES][-1]
        for name in MODULES:
            del sys.modules[f"trainer.{name}"]
            delattr(trainer, name)


def compare(  # noqa: PLR0917
    activated: Any,
    x: Tensor,
    before: str,
    slope: float,
    pooling: str | None,
    tolerance: float,
    *,
    kinks: bool = False,
) -> None:
    """Compare with PyTorch's layers in fp64: values, all gradients, running statistics.

    With `kinks` a number of 10,000 may be another, and a channel's sum of 100: among millions some
    lie so near to a kink of the activation that fp32 puts them on its other side.
    """
    channels, device = x.shape[1], x.device
    norm = batch_norm(channels).to(device) if before == "norm" else None
    bias = torch.linspace(-1, 1, channels, device=device) if before == "bias" else None
    seen = []
    for layers, wide in ((activated, None), (of_pytorch, torch.float64)):
        of = deepcopy(norm).to(dtype=wide) if norm else None
        shift = bias.to(wide or bias.dtype).requires_grad_() if bias is not None else None
        given = x.to(wide or x.dtype).requires_grad_()
        out = layers(given, of, shift, slope, pooling)
        numbers = torch.Generator().manual_seed(2)
        upstream = torch.randn(out.shape, generator=numbers).bfloat16().to(device, out.dtype)
        parameters: list[Tensor] = [] if of is None else [of.weight, of.bias]
        parameters += [] if shift is None else [shift]
        gradients = torch.autograd.grad(out, (given, *parameters), upstream)
        running = (
            [] if of is None else [of.get_buffer(f"running_{name}") for name in ("mean", "var")]
        )
        seen.append([out.detach(), *gradients, *running])
    assert seen[0][0].dtype == seen[0][1].dtype == x.dtype
    for ours, theirs in zip(*seen, strict=True):
        # Sums are of numbers of either sign: precise beside the root of how many they are.
        error = 1e-5, 2e-6 * math.sqrt(x.numel() / channels)
        share = kinks / 100
        if ours.dim() == 4:
            assert ours.is_contiguous(memory_format=torch.channels_last)
            error, share = (tolerance, 1e-5), kinks / 10_000
        close = torch.isclose(ours.double(), theirs, *error)
        assert (~close).double().mean() <= share


@pytest.mark.parametrize("before", ["norm", "bias", "nothing"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_it_is_the_layers_with_their_gradients(
    interpreted: Any, before: str, pooling: str | None
) -> None:
    dtype, tolerance = NUMBERS
    compare(interpreted.activated, inputs(SHAPES[0]).to(dtype), before, 0.1, pooling, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [NUMBERS, ROUNDED], ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (4, 16, 6, 6), (2, 130, 2, 3)])
@pytest.mark.parametrize("before", ["norm", "bias", "nothing"])
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_it_is_the_layers_with_their_gradients_in_all_combinations(  # noqa: PLR0917
    interpreted: Any,
    shape: tuple[int, ...],
    before: str,
    slope: float,
    pooling: str | None,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    compare(interpreted.activated, inputs(shape).to(dtype), before, slope, pooling, tolerance)


@pytest.mark.parametrize("before", ["norm", "bias"])
@pytest.mark.parametrize("pooling", ["max", None])
def test_programs_share_the_work_however_it_is_cut(
    interpreted: Any, monkeypatch: pytest.MonkeyPatch, before: str, pooling: str | None
) -> None:
    monkeypatch.setattr(interpreted, "_TILE", 64)
    monkeypatch.setattr(interpreted, "_COLUMNS", 16)
    for name in ("_PROGRAMS", "_SUMMING"):
        monkeypatch.setattr(interpreted, name, 9)  # 3 x 3 of several tiles each
    x = inputs((7, 40, 5, 6)).float()
    compare(interpreted.activated, x, before, 0.1, pooling, NUMBERS[1])


@pytest.mark.parametrize(("mean", "deviation"), [(0, 1e-3), (-3000, 16), (1e4, 100), (1e-3, 1e3)])
def test_statistics_are_precise_wherever_the_mean_is(
    interpreted: Any, mean: float, deviation: float
) -> None:
    x = torch.randn(16, 16, 7, 7, generator=torch.Generator().manual_seed(0)) * deviation + mean
    x[0, :, 0, 0] = mean + 10 * deviation  # the first value is not like the others
    x = x.bfloat16()
    norm = nn.BatchNorm2d(16, momentum=1.0)  # so that the running ones are this batch's
    exact = deepcopy(norm).double()
    interpreted.activated(x, norm, None, 1.0, None)
    exact(x.double())
    assert norm.running_mean is not None
    assert norm.running_var is not None
    of_mean, of_variance = norm.running_mean.double(), norm.running_var.double()
    torch.testing.assert_close(of_mean, exact.running_mean, rtol=1e-6, atol=1e-6 * deviation)
    torch.testing.assert_close(of_variance, exact.running_var, rtol=1e-5, atol=0)


@pytest.mark.parametrize("before", ["norm", "nothing"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_no_number_stays_to_be_seen(
    interpreted: Any, before: str, pooling: str | None
) -> None:
    x = inputs((2, 16, 4, 4)).float()
    for at in range(4):  # each corner of a window
        x[1, at, at // 2, 2 + at % 2] = math.nan
    norm = batch_norm(16) if before == "norm" else None
    out = interpreted.activated(x, norm, None, 0.1, pooling)
    expected = of_pytorch(x.double(), deepcopy(norm).double() if norm else None, None, 0.1, pooling)
    assert expected.isnan().any()
    assert torch.equal(out.isnan(), expected.isnan())


@pytest.mark.parametrize("normalised", [True, False])
def test_layout_and_type_of_what_comes_in_make_no_difference(
    interpreted: Any, normalised: bool
) -> None:
    seen = []
    for layout, dtype in [
        (torch.channels_last, torch.bfloat16),
        (torch.contiguous_format, torch.float32),
    ]:
        x = inputs((3, 32, 6, 7)).contiguous(memory_format=layout).requires_grad_()
        norm = batch_norm(32) if normalised else None
        out = interpreted.activated(x, norm, None, 0.1, "max")
        direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).bfloat16()
        # By way of a second operation, whose gradient arrives in its own type and layout.
        out.to(dtype).contiguous(memory_format=layout).backward(
            direction.to(dtype).contiguous(memory_format=layout)
        )
        parameters = [] if norm is None else list(norm.parameters())
        seen.append([out, x.grad, *(parameter.grad for parameter in parameters)])
    for first, second in zip(*seen, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_layers_in_sequence_are_what_they_are_one_by_one(
    interpreted: Any, monkeypatch: pytest.MonkeyPatch, normalised: bool, pooling: str | None
) -> None:
    norms = {"norm": ChannelNorm(12)} if normalised else {}
    convolution = Convolution(2, 3, 6, 3, bias=not normalised)
    last = activation("leaky_relu", 2, pooling)
    layers = named(convolution=convolution, **norms, activation=last)
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in convolution.parameters():
            parameter.uniform_(-1, 1, generator=numbers)
    x = torch.randn(3, 6, 6, 6, generator=numbers).requires_grad_()
    upstream = torch.randn(layers(x).shape, generator=numbers)
    kernels = chain._Kernels(interpreted.activated, (torch.float32,), 1, native=False)
    seen = []
    for _ in range(2):
        out = layers(x)
        gradients = torch.autograd.grad(out, (x, *layers.parameters()), upstream)
        seen.append([out.detach(), *gradients])
        monkeypatch.setattr(chain, "_kernels_for", lambda _: kernels)
    assert "fmnist_transformed" in out.grad_fn.name()
    torch.testing.assert_close(*seen, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize(
    ("shape", "before", "pooling", "dtype"),
    [
        *product(REAL, ["norm", "bias", "nothing"], POOLINGS, [torch.bfloat16]),
        ((64, 32, 28, 28), "norm", "max", torch.bfloat16),
        *product(SHAPES[:1], ["norm", "bias"], ["max", "avg"], [torch.float32]),
    ],
    ids=str,
)
def test_on_a_gpu_it_is_the_layers_with_their_gradients(
    shape: tuple[int, ...], before: str, pooling: str | None, dtype: torch.dtype
) -> None:
    from trainer.triton_activated import activated

    x = inputs(shape).to("cuda", dtype)
    tolerance = 2**-7 if dtype == torch.bfloat16 else 1e-4
    compare(activated, x, before, 0.1, pooling, tolerance, kinks=True)


@pytest.mark.gpu
@on_gpu
def test_on_a_gpu_a_tensor_may_have_more_numbers_than_an_int_counts() -> None:
    from trainer.triton_activated import activated

    x = torch.zeros((1100, 2048, 32, 32), dtype=torch.bfloat16, device="cuda")
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.no_grad():
        x[-1].normal_()
    last = x.detach()[-1:].clone().requires_grad_()
    out, expected = activated(x, None, None, 0.5, "max"), of_pytorch(last, None, None, 0.5, "max")
    assert torch.equal(out[-1:], expected)
    out.backward(torch.ones_like(out))
    expected.backward(torch.ones_like(expected))
    assert x.grad is not None
    assert last.grad is not None
    assert torch.equal(x.grad[-1:], last.grad)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("fields", [{}, {"batchnorm": False, "conv_bias": True}], ids=str)
def test_on_a_gpu_a_captured_bank_trains_as_by_pytorchs_operations(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    configs = [small(**{**member, **fields}) for member in MIXED]
    monkeypatch.setattr(chain, "TRITON", False)
    expected = [losses(result) for result in train(configs, digits, device="cuda")]
    monkeypatch.setattr(chain, "TRITON", True)
    for result, theirs in zip(train(configs, digits, device="cuda"), expected, strict=True):
        assert losses(result) == pytest.approx(theirs, rel=5e-3)
