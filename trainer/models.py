"""The architectures, each built as a bank of K members: [B, K, H, W] -> logits [B, K, classes]."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.layers import (
    ACTIVATIONS,
    INCREASING,
    Convolution,
    Dropout,
    Linear,
    flatten_members,
    initialise,
)
from trainer.streams import generator


def build(configs: Sequence[TrainConfig], side: int, classes: int) -> nn.Module:
    """Build and initialise the network of a bank.

    Args:
        configs: the members; all have the same `fusion_key`.
        side: height and width of the images, pixels.
        classes: number of classes.

    Raises:
        UserError: the images are too small for the network.
    """
    network = ARCHITECTURES[configs[0].architecture](configs, side, classes)
    seeds = [config.seed for config in configs]
    initialise(network, lambda layer: [generator(seed, "init", layer) for seed in seeds])
    return network


def parameter_count(network: nn.Module, members: int) -> int:
    """Number of trained parameters of one member."""
    return sum(parameter.numel() for parameter in network.parameters()) // members


class ConvNet(nn.Module):
    """The composable network; the family of seed 003 is one point of it.

    `depth` steps of [convolution -> batch norm -> activation -> pool], step s with `width * s`
    channels; only the first two steps pool; optionally a residual block after each step; dropout
    on the features; one linear classifier.
    """

    def __init__(self, configs: Sequence[TrainConfig], side: int, classes: int) -> None:
        super().__init__()
        config = configs[0]
        self.members = members = len(configs)
        widths = [config.width * (step + 1) for step in range(config.depth)]
        for step in range(min(config.depth, 2)):
            if side >> step < 2:
                raise UserError(
                    f"depth = {config.depth}: images of {side} pixels cannot pool so often"
                )
        self.steps = nn.Sequential()
        # Named by step, so that a step starts from the same weights with and without residuals.
        for step, (inputs, outputs) in enumerate(zip([1, *widths], widths, strict=False)):
            pooling = config.pooling if step < 2 else "none"
            self.steps.add_module(
                f"step{step}",
                Step(config, members, inputs, outputs, kernel=config.kernel_size, pooling=pooling),
            )
            if config.residual:
                self.steps.add_module(f"residual{step}", Residual(config, members, outputs))
        side >>= min(config.depth, 2)
        self.dropout = Dropout([c.dropout for c in configs], [c.seed for c in configs], "dropout")
        self.classifier = Linear(members, widths[-1] * side * side, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        features = flatten_members(self.steps(x), self.members)
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


class Step(nn.Module):
    """Convolution, batch norm, activation, pool: [B, K*C, H, W] -> [B, K*D, H', W']."""

    def __init__(
        self,
        config: TrainConfig,
        members: int,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        pooling: str = "none",
    ) -> None:
        super().__init__()
        # A bias directly in front of a batch norm is cancelled by it.
        bias = config.conv_bias and not config.batchnorm
        self.convolution = Convolution(members, inputs, outputs, kernel, bias=bias)
        self.norm = nn.BatchNorm2d(members * outputs) if config.batchnorm else nn.Identity()
        self.activation = ACTIVATIONS[config.activation]
        self.pooling = pooling
        self.activate_last = pooling == "max" and config.activation in INCREASING

    def forward(self, x: Tensor) -> Tensor:
        """Compute the step."""
        x = self.norm(self.convolution(x))
        if self.activate_last:
            return self.activation(F.max_pool2d(x, 2))
        x = self.activation(x)
        if self.pooling == "max":
            return F.max_pool2d(x, 2)
        return F.avg_pool2d(x, 2) if self.pooling == "avg" else x


class Residual(nn.Module):
    """1x1 to half the channels, 3x3 back, added to the input (seed 003's block)."""

    def __init__(self, config: TrainConfig, members: int, channels: int) -> None:
        super().__init__()
        half = max(channels // 2, 1)
        self.narrow = Step(config, members, channels, half, kernel=1)
        self.widen = Step(config, members, half, channels, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to its input."""
        out: Tensor = x + self.widen(self.narrow(x))
        return out


ARCHITECTURES: dict[str, Callable[[Sequence[TrainConfig], int, int], nn.Module]] = {
    "convnet": ConvNet,
}
