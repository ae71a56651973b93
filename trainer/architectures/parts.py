"""What several architectures have in common."""

from collections.abc import Sequence

from torch import nn

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.layers import ChannelNorm, Dropout, FeatureNorm


def channel_norm(config: TrainConfig, channels: int) -> nn.Module:
    """Return a batch norm over the channels of the whole bank, or nothing."""
    return ChannelNorm(channels) if config.batchnorm else nn.Identity()


def feature_norm(config: TrainConfig, features: int) -> nn.Module:
    """Return a batch norm over the features of the whole bank, or nothing."""
    return FeatureNorm(features) if config.batchnorm else nn.Identity()


def dropout(
    configs: Sequence[TrainConfig], name: str, *, share: float = 1.0, channels: bool = False
) -> Dropout:
    """Return dropout with `share` of each member's rate."""
    rates = [config.dropout * share for config in configs]
    return Dropout(rates, [config.seed for config in configs], name, channels=channels)


def pooled(side: int, times: int, setting: str) -> int:
    """Return the side of images after 2x2 pooling, pixels.

    Raises:
        UserError: nothing would be left of them; the message names the `setting`.
    """
    if side >> times < 1:
        raise UserError(f"{setting}: images of {side} pixels cannot pool so often")
    return side >> times
