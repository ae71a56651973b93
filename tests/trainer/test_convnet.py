"""What the composable network computes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.networks import (
    ACTIVATIONS,
    CLASSES,
    SIDE,
    assert_same_network,
    batch,
    load_in_order,
    one,
    wear_in,
)
from trainer.architectures.convnet import convolution_step
from trainer.config import TrainConfig
from trainer.layers import Convolution, Linear, SqueezeExcite


def convolution_biases(**fields: Any) -> int:
    layers = one(depth=2, residual=True, **fields).modules()
    return sum(layer.bias is not None for layer in layers if isinstance(layer, Convolution))


def test_a_convolution_has_a_bias_where_asked_for_but_never_under_a_batch_norm() -> None:
    assert convolution_biases(conv_bias=True, batchnorm=False) == 6
    assert convolution_biases(conv_bias=False, batchnorm=False) == 0
    assert convolution_biases(conv_bias=True, batchnorm=True) == 0


def plain(config: TrainConfig, state: dict[str, Tensor]) -> nn.Sequential:
    """The network of a config as a user of PyTorch would write it, with the weights of `state`."""
    layers: list[nn.Module] = []
    channels = 1
    for step in range(config.depth):
        width, kernel = config.width * (step + 1), config.kernel_size
        bias = config.conv_bias and not config.batchnorm
        layers.append(nn.Conv2d(channels, width, kernel, padding="same", bias=bias))
        if config.batchnorm:
            layers.append(nn.BatchNorm2d(width))
        layers.append(ACTIVATIONS[config.activation]())
        if str(step + 1) in config.pool_steps.split("+"):
            layers.append(nn.MaxPool2d(2) if config.pooling == "max" else nn.AvgPool2d(2))
        channels = width
    side = SIDE >> sum(int(step) <= config.depth for step in config.pool_steps.split("+"))
    if config.head == "gap":
        layers.append(nn.AdaptiveAvgPool2d(1))
        side = 1
    layers += [nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(channels * side**2, CLASSES)]
    network = nn.Sequential(*layers)
    load_in_order(network, state)
    return network


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("batchnorm", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_one_member_computes_what_the_plain_network_does(
    pooling: str, batchnorm: bool, activation: str
) -> None:
    config = TrainConfig(
        depth=3,
        width=8,
        pooling=pooling,
        batchnorm=batchnorm,
        activation=activation,
        kernel_size=5,
        conv_bias=True,
    )
    network = one(**config.to_dict())
    wear_in(network)
    assert_same_network(network, plain(config, network.state_dict()), batch())


@pytest.mark.parametrize(
    "fields",
    [{"head": "gap"}, {"pool_steps": "1+3"}, {"pool_steps": "2+3+5", "head": "gap"}],
    ids=str,
)
def test_features_are_pooled_where_asked_for_and_averaged_in_the_head(
    fields: dict[str, Any],
) -> None:
    config = TrainConfig(depth=3, width=4, **fields)
    network = one(**config.to_dict())
    wear_in(network)
    assert_same_network(network, plain(config, network.state_dict()), batch())


def test_a_basic_block_adds_two_steps_of_3x3_to_its_input() -> None:
    network = one(depth=1, width=8, residual=True, block="basic")
    wear_in(network)
    x = network.get_submodule("steps.step0")(batch())
    block = network.get_submodule("steps.residual0")
    layers: list[nn.Module] = []
    for _ in range(2):
        convolution = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(8), nn.LeakyReLU(0.1)]
    branch = nn.Sequential(*layers)
    load_in_order(branch, block.state_dict())
    torch.testing.assert_close(block(x), x + branch.eval()(x), rtol=1e-12, atol=1e-12)


def test_channels_are_excited_by_what_their_means_say() -> None:
    layer = SqueezeExcite(1, 8).to(torch.float64)
    x = torch.randn(3, 8, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=generator)
    inner = F.linear(x.mean((2, 3)), layer.squeeze.weight, layer.squeeze.bias).relu()
    gates = F.linear(inner, layer.excite.weight, layer.excite.bias).sigmoid()  # [3, 8]
    assert inner.shape == (3, 2)
    torch.testing.assert_close(layer(x), x * gates[:, :, None, None], rtol=1e-12, atol=1e-12)


def test_the_branch_of_a_block_is_excited_and_not_its_input() -> None:
    plain, excited = (one(depth=1, residual=True, squeeze_excite=on) for on in (False, True))
    excited.load_state_dict(plain.state_dict(), strict=False)
    gate = excited.get_submodule("steps.residual0.excite.excite")
    assert isinstance(gate, Linear)
    nn.init.constant_(gate.bias, -100)  # gates of 0
    step = excited.get_submodule("steps.step0")
    torch.testing.assert_close(excited.get_submodule("steps")(batch()), step(batch()))
    assert not torch.equal(plain.get_submodule("steps")(batch()), step(batch()))


def test_a_residual_block_adds_its_bottleneck_to_its_input() -> None:
    network = one(depth=1, width=8, residual=True)
    wear_in(network)
    step, block = network.get_submodule("steps.step0"), network.get_submodule("steps.residual0")
    x = step(batch())
    half, full = nn.Conv2d(8, 4, 1, bias=False), nn.Conv2d(4, 8, 3, padding=1, bias=False)
    layers = [
        half,
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.1),
        full,
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.1),
    ]
    bottleneck = nn.Sequential(*layers)
    load_in_order(bottleneck, block.state_dict())
    torch.testing.assert_close(block(x), x + bottleneck.eval()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_an_activation_after_max_pooling_gives_what_it_gives_before(activation: str) -> None:
    config = TrainConfig(activation=activation, pooling="max", batchnorm=False)
    step = convolution_step(config, 1, 1, 8, kernel=3, pooling="max").eval()
    convolution = step.get_submodule("convolution")
    pool, function = step.get_submodule("activation").children()
    assert isinstance(convolution, Convolution)
    assert isinstance(pool, nn.MaxPool2d)
    nn.init.normal_(convolution.weight, generator=torch.Generator().manual_seed(0))
    after = step(batch().float())
    assert torch.equal(pool(function(convolution(batch().float()))), after)
    assert (after < 0).any() == (activation == "leaky_relu")


@pytest.mark.parametrize("activation", ["gelu", "silu", "prelu"])
def test_an_activation_that_also_falls_comes_before_max_pooling(activation: str) -> None:
    config = TrainConfig(activation=activation, pooling="max")
    step = convolution_step(config, 1, 1, 8, kernel=3, pooling="max")
    assert isinstance([*step.get_submodule("activation").children()][-1], nn.MaxPool2d)
