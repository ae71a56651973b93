"""Native dropout: to the bit what the layers compute."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.networks import needs_kernels
from trainer import native
from trainer.layers import Dropout, Flatten
from trainer.native.dropout import Mask, dropped, flattened
from trainer.streams import derive, threshold

pytestmark = needs_kernels

STEP = 1234


def values(*shape: int) -> Tensor:
    """Return bf16 values, channels last if they are images."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def layer(rate: float, seed: int = 5) -> Dropout:
    dropout = Dropout([rate], [seed], "dropout")
    dropout.step = torch.tensor(STEP, dtype=torch.int32)
    return dropout


def mask(rate: float, seed: int = 5) -> Mask:
    keys = divmod(derive(seed, "dropout"), 1 << 32)
    return Mask(threshold(rate), 1 / (1 - rate), keys, STEP)


def check(x: Tensor, rate: float, flatten: bool, seed: int = 5) -> None:
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    if flatten:
        y = flattened(ours, mask(rate, seed))
        expected = layer(rate, seed)(Flatten(1)(theirs))
        last = torch.contiguous_format
    else:
        y = dropped(ours, mask(rate, seed))
        expected = layer(rate, seed)(theirs)
        last = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    assert y.shape == expected.shape
    assert y.is_contiguous(memory_format=last)
    assert torch.equal(y.view(torch.int16), expected.view(torch.int16))
    gradient = values(*y.shape[::-1]).permute(*reversed(range(y.dim())))  # in whatever order
    y.backward(gradient)
    expected.backward(gradient)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad.view(torch.int16), theirs.grad.view(torch.int16))
    if x.dim() == 4:
        assert ours.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("shape", [(64, 128, 7, 7), (2, 16, 14, 14), (3, 48, 3, 5), (2, 64, 1, 1)])
def test_images(shape: tuple[int, ...], flatten: bool, rate: float) -> None:
    check(values(*shape), rate, flatten)


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(64, 1, 320), (64, 1, 100), (3, 1, 7), (4, 33)])
def test_features(shape: tuple[int, ...], rate: float) -> None:
    x = values(*shape)
    # The layer takes [B, K, F] only.
    y, expected = dropped(x, mask(rate)), layer(rate)(x.view(len(x), 1, -1)).view(shape)
    assert torch.equal(y.view(torch.int16), expected.view(torch.int16))
    if len(shape) == 3:
        check(x, rate, flatten=False)


@given(
    shape=st.tuples(*(st.integers(1, high) for high in (3, 70, 9, 9))),
    flatten=st.booleans(),
    rate=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 1 << 62),
)
def test_any_shape_rate_and_seed(
    shape: tuple[int, ...], flatten: bool, rate: float, seed: int
) -> None:
    check(values(*shape), rate, flatten, seed)


def test_zeros_have_signs_and_what_is_not_finite_stays_so() -> None:
    infinite, nan = float("inf"), float("nan")
    some = [0.0, -0.0, 1.0, -1.0, infinite, -infinite, nan, 3e38, -3e38, 1.2e-38]
    x = torch.tensor(some).bfloat16().repeat(2, 1, 20)
    y, expected = dropped(x, mask(0.5)), layer(0.5)(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
    plain = ~expected.isnan()
    assert torch.equal(y.signbit()[plain], expected.signbit()[plain])


def test_other_memory_formats_are_taken_too() -> None:
    x = values(3, 32, 5, 5)
    expected = flattened(x, mask(0.5))
    assert torch.equal(flattened(x.contiguous(), mask(0.5)), expected)
    assert torch.equal(flattened(x[1:2], mask(0.5)), flattened(x[1:2].clone(), mask(0.5)))
    same = dropped(x.contiguous(), mask(0.5))
    assert torch.equal(same, dropped(x, mask(0.5)))
    assert same.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("channels", [False, True])
def test_the_layers_compute_the_same_with_and_without(
    members: int, channels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropout = Dropout([0.3] * members, [7] * members, "dropout", channels=channels)
    dropout.step = torch.tensor(STEP, dtype=torch.int32)
    both = []
    for wanted in (True, False):
        monkeypatch.setattr(native, "wanted", lambda _, wanted=wanted: wanted)
        x = values(4, 32, 7, 7).requires_grad_()
        y = dropout(Flatten(members)(dropout(x))) if not channels else Flatten(members)(dropout(x))
        y.backward(values(*y.shape))
        both.append((y, x.grad))
    torch.testing.assert_close(both[0], both[1], rtol=0, atol=0)
