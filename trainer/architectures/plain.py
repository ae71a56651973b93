"""Plain chains of layers, as the reference projects wrote them."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from trainer.architectures.parts import channel_norm, dropout, feature_norm, pooled
from trainer.chain import named
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.layers import POOLINGS, Convolution, Flatten, Linear, activation


def lenet(configs: Sequence[TrainConfig], side: int, classes: int, channels: int) -> nn.Sequential:
    """Like LeNet-5 (LeCun et al., 1998), in the size of the LeNet notebook's.

    The seed publishes "a little over 1 million parameters, 4.36 MB", max pooling and dropout, but
    not its layers. These have 1,089,046 parameters, which are 4.36 MB in fp32.
    """
    config, members = configs[0], len(configs)
    side = pooled(side, 2, "architecture = 'lenet'")
    return named(
        conv0=Convolution(members, channels, 32, 5, bias=True),
        activation0=activation(config.activation, members, config.pooling),
        conv1=Convolution(members, 32, 64, 5, bias=True),
        activation1=activation(config.activation, members, config.pooling),
        flatten=Flatten(members),
        dense0=Linear(members, 64 * side * side, 320),
        activation2=activation(config.activation, members),
        dropout0=dropout(configs, "dropout0"),
        dense1=Linear(members, 320, 100),
        activation3=activation(config.activation, members),
        dropout1=dropout(configs, "dropout1"),
        classifier=Linear(members, 100, classes),
    )


def convnet3(
    configs: Sequence[TrainConfig], side: int, classes: int, channels: int
) -> nn.Sequential:
    """The network of plscoggers/fashion-mnist.

    Three steps of [convolution -> activation -> pool -> batch norm] have `width`, 2 and 4 `width`
    channels (64, 128, 256 there); `dropout` is the rate of whole channels after the last one.
    """
    config, members = configs[0], len(configs)
    side = pooled(side, 3, "architecture = 'convnet3'")
    widths = [config.width, 2 * config.width, 4 * config.width]
    steps = nn.Sequential()
    for step, (inputs, outputs) in enumerate(pairwise([channels, *widths])):
        layers = named(
            convolution=Convolution(
                members, inputs, outputs, config.kernel_size, bias=config.conv_bias
            ),
            activation=activation(config.activation, members, config.pooling),
            norm=channel_norm(config, members * outputs),
        )
        steps.add_module(f"step{step}", layers)
    return named(
        steps=steps,
        dropout=dropout(configs, "dropout", channels=True),
        flatten=Flatten(members),
        classifier=Linear(members, widths[-1] * side * side, classes),
    )


def vgg_like(
    configs: Sequence[TrainConfig], side: int, classes: int, channels: int
) -> nn.Sequential:
    """The first network of serge-m/code-training: two blocks of two convolutions, two layers.

    `dropout` is the rate in front of the classifier (0.5 there); each block drops half of that.
    """
    config, members = configs[0], len(configs)
    side = pooled(side, 1, "architecture = 'vgg_like'")

    def step(inputs: int, outputs: int) -> nn.Sequential:
        return named(
            convolution=Convolution(members, inputs, outputs, 3, bias=config.conv_bias),
            activation=activation(config.activation, members),
            norm=channel_norm(config, members * outputs),
        )

    return named(
        step0=step(channels, 32),
        step1=step(32, 32),
        pool=POOLINGS[config.pooling](),
        dropout0=dropout(configs, "dropout0", share=0.5),
        step2=step(32, 64),
        step3=step(64, 64),
        dropout1=dropout(configs, "dropout1", share=0.5),
        flatten=Flatten(members),
        dense=Linear(members, 64 * side * side, 512),
        activation=activation(config.activation, members),
        norm=feature_norm(config, members * 512),
        dropout2=dropout(configs, "dropout2"),
        classifier=Linear(members, 512, classes),
    )


def toy(configs: Sequence[TrainConfig], side: int, classes: int, channels: int) -> nn.Sequential:
    """The first network of shihvictor/LearnPytorchFashionMNIST.

    Two convolutions of one channel, three linear layers. There a softmax follows, and the cross
    entropy takes its own of that; here are the logits.
    """
    config, members = configs[0], len(configs)
    if side < 5:
        raise UserError(f"architecture = 'toy': images of {side} pixels are smaller than 5")
    return named(
        conv0=Convolution(members, channels, 1, 3, bias=True, padding=0),
        activation0=activation(config.activation, members),
        conv1=Convolution(members, 1, 1, 3, bias=True, padding=0),
        activation1=activation(config.activation, members),
        flatten=Flatten(members),
        dense0=Linear(members, (side - 4) ** 2, 64),
        activation2=activation(config.activation, members),
        dense1=Linear(members, 64, 32),
        activation3=activation(config.activation, members),
        classifier=Linear(members, 32, classes),
    )


def conv_pairs(
    configs: Sequence[TrainConfig], side: int, classes: int, channels: int
) -> nn.Sequential:
    """v1_5_5 of shihvictor/LearnPytorchFashionMNIST.

    Three pairs of convolutions without pooling, three linear layers. As there, nothing lies between
    the convolutions of a pair, so that together they are one linear map; batch norm comes in front
    of every activation, and conv biases stay under it. As in `toy`, the softmax in front of the
    loss is left out.
    """
    config, members = configs[0], len(configs)
    bias = config.conv_bias
    pairs = nn.Sequential()
    for pair, (inputs, outputs) in enumerate(pairwise([channels, 32, 64, 128])):
        layers = named(
            conv0=Convolution(members, inputs, outputs, 3, bias=bias),
            conv1=Convolution(members, outputs, outputs, 3, bias=bias),
            norm=channel_norm(config, members * outputs),
            activation=activation(config.activation, members),
        )
        pairs.add_module(f"pair{pair}", layers)
    return named(
        pairs=pairs,
        flatten=Flatten(members),
        dense0=Linear(members, 128 * side * side, 256),
        norm0=feature_norm(config, members * 256),
        activation0=activation(config.activation, members),
        dense1=Linear(members, 256, 64),
        norm1=feature_norm(config, members * 64),
        activation1=activation(config.activation, members),
        classifier=Linear(members, 64, classes),
    )
