"""The composable network, whose fields are the factors of most studies."""

from collections.abc import Sequence

from torch import Tensor, nn

from trainer.architectures.parts import channel_norm, dropout, pooled
from trainer.chain import Chain, named
from trainer.config import TrainConfig, pooling_steps
from trainer.layers import (
    Convolution,
    Flatten,
    GlobalAverage,
    Linear,
    SqueezeExcite,
    activation,
)


class ConvNet(nn.Module):
    """The family of aralhekimoglu/FashionMNIST is one point of it.

    `depth` steps of [convolution -> batch norm -> activation -> pool], step s with `width * s`
    channels; `pool_steps` of them pool; optionally a residual block after each step; dropout
    on the features, which are all pixels or each channel's mean; one linear classifier.
    """

    def __init__(
        self, configs: Sequence[TrainConfig], side: int, classes: int, channels: int
    ) -> None:
        super().__init__()
        config, members = configs[0], len(configs)
        widths = [config.width * (step + 1) for step in range(config.depth)]
        pools = pooling_steps(config)
        setting = f"depth = {config.depth}, pool_steps = {config.pool_steps!r}"
        side = pooled(side, len(pools), setting)
        self.steps = nn.Sequential()
        # Named by step, so that a step starts from the same weights with and without residuals.
        for step, (inputs, outputs) in enumerate(zip([channels, *widths], widths, strict=False)):
            pooling = config.pooling if step + 1 in pools else None
            self.steps.add_module(
                f"step{step}",
                convolution_step(
                    config, members, inputs, outputs, kernel=config.kernel_size, pooling=pooling
                ),
            )
            if config.residual:
                self.steps.add_module(f"residual{step}", Residual(config, members, outputs))
            elif config.squeeze_excite:
                self.steps.add_module(f"excited{step}", SqueezeExcite(members, outputs))
        gap = config.head == "gap"
        self.flatten = GlobalAverage(members) if gap else Flatten(members)
        self.dropout = dropout(configs, "dropout")
        self.classifier = Linear(members, widths[-1] * (1 if gap else side * side), classes)

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
    """A branch of two steps, added to its input: [B, K*C, H, W] -> the same shape.

    `bottleneck`: 1x1 to half the channels, 3x3 back (aralhekimoglu/FashionMNIST); `basic`: twice
    3x3. An activation ends the branch, none follows the sum.
    """

    def __init__(self, config: TrainConfig, members: int, channels: int) -> None:
        super().__init__()
        basic = config.block == "basic"
        inner = channels if basic else max(channels // 2, 1)
        kernel = 3 if basic else 1
        self.narrow = convolution_step(config, members, channels, inner, kernel=kernel)
        self.widen = convolution_step(config, members, inner, channels, kernel=3)
        self.excite = SqueezeExcite(members, channels) if config.squeeze_excite else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch's output to its input."""
        out: Tensor = x + self.excite(self.widen(self.narrow(x)))
        return out
