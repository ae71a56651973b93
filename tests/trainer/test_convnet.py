"""What the composable network computes."""

from typing import Any

import pytest
import torch
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
from trainer.layers import Convolution


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
        if step < 2:
            layers.append(nn.MaxPool2d(2) if config.pooling == "max" else nn.AvgPool2d(2))
        channels = width
    side = SIDE >> min(config.depth, 2)
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
