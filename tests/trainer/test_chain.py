"""What layers compute together is what they compute one by one."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.networks import CLASSES, SIDE, needs_kernels
from trainer import native
from trainer.chain import named
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.layers import ChannelNorm
from trainer.models import build

NETWORKS: list[dict[str, Any]] = [
    {"depth": 2},
    {"depth": 4},
    {"depth": 2, "batchnorm": False, "conv_bias": True},
    {"depth": 2, "pooling": "avg", "activation": "relu"},
    {"depth": 2, "activation": "gelu"},
    {"depth": 3, "kernel_size": 5},
    {"depth": 3, "kernel_size": 7},
    {"depth": 2, "residual": True},
    {"depth": 2, "width": 8},
    {"architecture": "lenet", "activation": "relu"},
    {"architecture": "convnet3", "width": 16, "batchnorm": True, "conv_bias": True},
    {"architecture": "convnet3", "width": 32, "pooling": "avg", "batchnorm": False},
    {"architecture": "vgg_like"},
    {"architecture": "resnet_like"},
    {"architecture": "mobilenet_v2"},
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stepped(fields: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """All that a training step computes: logits, gradients and statistics, as one vector."""
    if precision == "PyTorch's bf16":
        monkeypatch.setattr("trainer.native.wanted", lambda _: False)
    network = build([TrainConfig(dropout=0.0, **{"width": 16, **fields})], SIDE, CLASSES)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 1, SIDE, SIDE, generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32"):
        logits = network.train()(x)
    direction = torch.randn(logits.shape, generator=generator)
    (logits.float() * direction).sum().backward()
    statistics = [b for name, b in network.named_buffers() if "running" in name]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(gradients) == len(list(network.parameters()))
    # Each in its own units: large gradients must not hide small ones.
    parts = [logits.detach().float(), *gradients, *statistics]
    return torch.cat([part.flatten() / part.norm().clamp_min(1e-6) for part in parts])


@needs_kernels
@pytest.mark.parametrize("fields", NETWORKS, ids=str)
def test_native_kernels_deviate_from_fp32_hardly_more_than_pytorch_in_bf16(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = stepped(fields, "fp32", monkeypatch)
    own = stepped(fields, "native kernels", monkeypatch)
    theirs = stepped(fields, "PyTorch's bf16", monkeypatch)
    assert (own - exact).norm() < 1.75 * (theirs - exact).norm()


@needs_kernels
@pytest.mark.parametrize(
    ("fields", "kernels"),
    [
        ({"depth": 2}, {"pooled_images", "convolution", "activated"}),
        ({"depth": 2, "kernel_size": 7}, {"activated"}),
        ({"depth": 2, "width": 8}, {"activated"}),  # the second step has 16 channels
        ({"architecture": "toy"}, set()),
    ],
)
def test_which_kernels_a_network_takes(
    fields: dict[str, Any], kernels: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = set()
    for place, name in (
        ("chain", "pooled_images"),
        ("chain", "activated"),
        ("layers", "convolution"),
    ):
        module = __import__(f"trainer.{place}", fromlist=[name])
        known = getattr(module, name)

        def counted(*arguments: Any, known: Any = known, name: str = name) -> Tensor:
            taken.add(name)
            out: Tensor = known(*arguments)
            return out

        monkeypatch.setattr(module, name, counted)
    if torch.cpu._is_amx_tile_supported():
        kernels = kernels - {"convolution"}
    stepped(fields, "native kernels", monkeypatch)
    assert taken == kernels


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_kernels_are_wanted_in_bf16_on_few_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    x = torch.zeros(1)
    assert not native.wanted(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert native.wanted(x) == (threads < 3 and native.missing() is None)


def test_the_environment_leaves_all_work_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for value, expected in (("0", "FMNIST_NATIVE = 0"), ("perhaps", None)):
            monkeypatch.setenv("FMNIST_NATIVE", value)
            native.missing.cache_clear()
            if expected is None:
                with pytest.raises(UserError, match="FMNIST_NATIVE = 'perhaps': choose from 0, 1"):
                    native.missing()
            else:
                assert native.missing() == expected
    finally:
        native.missing.cache_clear()


def test_a_batch_of_one_value_per_channel_is_refused_by_name() -> None:
    layers = named(norm=ChannelNorm(16), activation=nn.ReLU()).train()
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(UserError, match="batch norm needs more than one value"),
    ):
        layers(torch.zeros(1, 16, 1, 1).bfloat16())
