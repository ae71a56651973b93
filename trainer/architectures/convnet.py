"""The composable network, whose fields are the factors of most studies."""

from collections.abc import Sequence

from torch import Tensor, nn

from trainer.architectures.parts import channel_norm, dropout, pooled
from trainer.chain import Chain, named
from trainer.config import TrainConfig
from trainer.layers import Convolution, Flatten, Linear, activation


class ConvNet(nn.Module):
    """The family of aralhekimoglu/FashionMNIST is one point of it.

    `depth` steps of [convolution -> batch norm -> activation -> pool], step s with `width * s`
    channels; only the first two steps pool; optionally a residual block after each step; dropout
    on the features; one linear classifier.
    """

    def __init__(
        self, configs: Sequence[TrainConfig], side: int, classes: int, channels: int
    ) -> None:
        super().__init__()
        config, members = configs[0], len(configs)
        widths = [config.width * (step + 1) for step in range(config.depth)]
        side = pooled(side, min(config.depth, 2), f"depth = {config.depth}")
        self.steps = nn.Sequential()
        # Named by step, so that a step starts from the same weights with and without residuals.
        for step, (inputs, outputs) in enumerate(zip([channels, *widths], widths, strict=False)):
            pooling = config.pooling if step < 2 else None
            self.steps.add_module(
                f"step{step}",
                convolution_step(
                    config, members, inputs, outputs, kernel=config.kernel_size, pooling=pooling
                ),
            )
            if config.residual:
                self.steps.add_module(f"residual{step}", Residual(config, members, outputs))
        self.flatten = Flatten(members)
        self.dropout = dropout(configs, "dropout")
        self.classifier = Linear(members, widths[-1] * side * side, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.classifier(self.dropout(self.flatten(self.steps(x))))
        return logits


def convolution_step(
    config: TrainConfig,
    members: int,
    inputs: int,
    outputs: int,
    *,
    kernel: int,
    pooling: str | None = None,
) -> Chain:
    """Convolution, batch norm, activation, pool: [B, K*C, H, W] -> [B, K*D, H', W']."""
    # A bias directly in front of a batch norm is cancelled by it.
    bias = config.conv_bias and not config.batchnorm
    return named(
        convolution=Convolution(members, inputs, outputs, kernel, bias=bias),
        norm=channel_norm(config, members * outputs),
        activation=activation(config.activation, members, pooling),
    )


class Residual(nn.Module):
    """1x1 to half the channels, 3x3 back, added to the input (aralhekimoglu/FashionMNIST)."""

    def __init__(self, config: TrainConfig, members: int, channels: int) -> None:
        super().__init__()
        half = max(channels // 2, 1)
        self.narrow = convolution_step(config, members, channels, half, kernel=1)
        self.widen = convolution_step(config, members, half, channels, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to its input."""
        out: Tensor = x + self.widen(self.narrow(x))
        return out
