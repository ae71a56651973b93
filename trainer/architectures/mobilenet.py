"""Inverted residuals with depthwise convolutions (Sandler et al., "MobileNetV2", CVPR 2018)."""

from collections.abc import Sequence

from torch import Tensor, nn

from trainer.architectures.parts import dropout
from trainer.chain import named
from trainer.config import TrainConfig
from trainer.layers import ChannelNorm, Convolution, GlobalAverage, Linear

# Expansion, output channels, blocks, stride of the first block, as in serge-m/code-training.
SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
STEM, LAST = 32, 1280  # channels


def mobilenet_v2(
    configs: Sequence[TrainConfig], side: int, classes: int, channels: int
) -> nn.Sequential:
    """serge-m/code-training's reduced MobileNetV2; `dropout` precedes the classifier."""
    members = len(configs)
    network = named(stem=_unit(members, channels, STEM, 3, stride=2))
    inputs = STEM
    for stage, (expansion, outputs, blocks, first_stride) in enumerate(SETTINGS):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            network.add_module(
                f"stage{stage}_block{block}",
                InvertedResidual(members, inputs, outputs, expansion, stride),
            )
            inputs = outputs
    network.add_module("last", _unit(members, inputs, LAST, 1))
    network.add_module("average", GlobalAverage(members))
    network.add_module("dropout", dropout(configs, "dropout"))
    network.add_module("classifier", Linear(members, LAST, classes))
    return network


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, 3x3 depthwise, 1x1 back without an activation.

    [B, K*C, H, W] -> [B, K*D, H', W']; added to the input where the shapes are the same.
    """

    def __init__(
        self, members: int, inputs: int, outputs: int, expansion: int, stride: int
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _unit(members, inputs, hidden, 1) if expansion != 1 else nn.Identity()
        self.depthwise = _unit(members, hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = Convolution(members, hidden, outputs, 1, bias=False)
        self.norm = ChannelNorm(members * outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        out: Tensor = self.norm(self.project(self.depthwise(self.expand(x))))
        return x + out if self.adds else out


def _unit(
    members: int, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return named(
        convolution=Convolution(
            members, inputs, outputs, kernel, stride=stride, groups=groups, bias=False
        ),
        norm=ChannelNorm(members * outputs),
        activation=nn.ReLU6(),
    )
