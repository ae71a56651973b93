"""Residual networks of basic blocks (He et al., "Deep Residual Learning", CVPR 2016).

Layers have torchvision's names, so that its weights of ResNet-18 fit.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from trainer.chain import named
from trainer.config import TrainConfig
from trainer.layers import ChannelNorm, Convolution, GlobalAverage, Linear, activation


def resnet_like(
    configs: Sequence[TrainConfig], side: int, classes: int, channels: int
) -> nn.Sequential:
    """The networks of serge-m/code-training, of three stages.

    With the 3x3 stem its best one: each stage starts by halving the image, and `conv_bias` gives
    the stem the bias that was left under the batch norm. With the 7x7 stem torchvision's ResNet-18
    without its last stage, whose first one does not halve what the stem has halved twice.
    """
    small = configs[0].stem == "3x3"
    strides = (2, 2, 2) if small else (1, 2, 2)
    bias = configs[0].conv_bias and small
    return _resnet(
        configs, classes, channels, (64, 128, 256), blocks=2, strides=strides, stem_bias=bias
    )


def resnet18(
    configs: Sequence[TrainConfig], side: int, classes: int, channels: int
) -> nn.Sequential:
    """torchvision's ResNet-18, its stem for our images (shihvictor/LearnPytorchFashionMNIST)."""
    as_there = [config.replace(activation="relu", stem="7x7") for config in configs]
    return _resnet(as_there, classes, channels, (64, 128, 256, 512), blocks=2, strides=(1, 2, 2, 2))


def resnet20(
    configs: Sequence[TrainConfig], side: int, classes: int, channels: int
) -> nn.Sequential:
    """Their ResNet-20 for CIFAR-10, with projection shortcuts (option B)."""
    return _resnet(configs, classes, channels, (16, 32, 64), blocks=3, strides=(1, 2, 2))


def resnet32(
    configs: Sequence[TrainConfig], side: int, classes: int, channels: int
) -> nn.Sequential:
    """Their ResNet-32 for CIFAR-10, with projection shortcuts (option B)."""
    return _resnet(configs, classes, channels, (16, 32, 64), blocks=5, strides=(1, 2, 2))


def _resnet(
    configs: Sequence[TrainConfig],
    classes: int,
    channels: int,
    widths: Sequence[int],
    *,
    blocks: int,
    strides: Sequence[int],
    stem_bias: bool = False,
) -> nn.Sequential:
    """Build a stem, one stage per width, and a linear classifier on the channels' means."""
    config, members = configs[0], len(configs)
    large = config.stem == "7x7"
    network = named(
        conv1=Convolution(
            members,
            channels,
            widths[0],
            7 if large else 3,
            stride=2 if large else 1,
            bias=stem_bias,
        ),
        bn1=ChannelNorm(members * widths[0]),
        relu=activation(config.activation, members),
    )
    if large:
        network.add_module("maxpool", nn.MaxPool2d(3, stride=2, padding=1))
    inputs = widths[0]
    for stage, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
        first = BasicBlock(config, members, inputs, width, stride)
        others = [BasicBlock(config, members, width, width, 1) for _ in range(1, blocks)]
        network.add_module(f"layer{stage}", nn.Sequential(first, *others))
        inputs = width
    network.add_module("avgpool", GlobalAverage(members))
    network.add_module("fc", Linear(members, inputs, classes))
    return network


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to their input: [B, K*C, H, W] -> [B, K*D, ...].

    The first one has the stride. Where the shape changes, the input passes a 1x1 projection with
    batch norm.
    """

    def __init__(
        self, config: TrainConfig, members: int, inputs: int, outputs: int, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = Convolution(members, inputs, outputs, 3, stride=stride, bias=False)
        self.bn1 = ChannelNorm(members * outputs)
        self.relu1 = activation(config.activation, members)
        self.conv2 = Convolution(members, outputs, outputs, 3, bias=False)
        self.bn2 = ChannelNorm(members * outputs)
        self.downsample = (
            nn.Sequential(
                Convolution(members, inputs, outputs, 1, stride=stride, bias=False),
                ChannelNorm(members * outputs),
            )
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )
        self.relu2 = activation(config.activation, members)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(residual + self.downsample(x))
        return out
