"""Dropout in one Triton kernel, run on the CPU by Triton's interpreter, against PyTorch's way."""

import importlib
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from trainer.layers import Dropout

pytest.importorskip("triton", reason="triton, which comes with torch for CUDA, is not installed")

RATES = [0.3, 0.0, 0.7]
# Triton's interpreter does not round to bf16 as GPUs do: there the mask alone is equal to the bit.
TOLERANCE = {torch.float32: 0.0, torch.float64: 0.0, torch.bfloat16: 2**-7}


@pytest.fixture(scope="module")
def dropped() -> Iterator[Callable[..., Tensor]]:
    """The operation, interpreted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.delitem(sys.modules, "trainer.triton_dropout", raising=False)
        yield importlib.import_module("trainer.triton_dropout").dropped
        del sys.modules["trainer.triton_dropout"]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("columns", [33, 700])
def test_values_and_gradients_are_those_of_the_layer(
    dropped: Callable[..., Tensor], dtype: torch.dtype, columns: int
) -> None:
    layer = Dropout(RATES, [1, 2, 2**31 - 1], "dropout")
    layer.step = torch.tensor(5, dtype=torch.int32)
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn((9, 3, columns), generator=numbers, dtype=torch.float64).to(dtype)
    upstream = torch.randn((9, 3, columns), generator=numbers, dtype=torch.float64).to(dtype)
    by_layer = x.clone().requires_grad_()
    # As a bank's linear maps return it: [B, K, F] that lies as [K, B, F].
    in_kernel = x.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    expected = layer(by_layer)
    assert layer.stream is not None
    out = dropped(in_kernel, layer.stream.keys(layer.step), layer.drop, layer.scale.to(dtype))
    out.backward(upstream)
    expected.backward(upstream)
    for ours, theirs in ((out, expected), (in_kernel.grad, by_layer.grad)):
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours.eq(0), theirs.eq(0))
        torch.testing.assert_close(ours, theirs, rtol=TOLERANCE[dtype], atol=0)
    for k, rate in enumerate(RATES):
        assert (out[:, k] == 0).float().mean().item() == pytest.approx(rate, abs=0.07)
