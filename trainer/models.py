"""Networks of banks: built, started, measured without memory or data."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from trainer import module_bank, pretrained
from trainer.architectures import ARCHITECTURES
from trainer.config import TrainConfig, network_fields
from trainer.layers import Convolution, initialise
from trainer.streams import generator


@dataclass(frozen=True)
class Size:
    """How large the network of one member is; `multiply_adds` per image, None: not known."""

    parameters: int
    multiply_adds: int | None


def build(
    configs: Sequence[TrainConfig],
    side: int,
    classes: int,
    channels: int = 1,
    *,
    start: bool = True,
) -> nn.Module:
    """Build the network of a bank and draw its weights.

    Args:
        configs: the members; all have the same `fusion_key`.
        side: height and width of the images, pixels.
        classes: number of classes.
        channels: of the images: 1, grey, or 3.
        start: whether weights are drawn or read; False: they are anything, and loaded later.

    Raises:
        UserError: the images are too small for the network, or pretrained weights are missing.
    """
    network = _network(configs, side, classes, channels)
    if not start:
        return network
    seeds = [config.seed for config in configs]
    initialise(network, lambda layer: [generator(seed, "init", layer) for seed in seeds])
    if configs[0].pretrained and "pretrained" in network_fields(configs[0].architecture):
        pretrained.load(network, len(configs))
    return network


def parameter_count(network: nn.Module, members: int) -> int:
    """Number of trained parameters of one member."""
    return sum(parameter.numel() for parameter in network.parameters()) // members


def describe(config: TrainConfig, side: int, classes: int, channels: int = 1) -> Size:
    """Count a network's parameters and multiply-adds, on torch's meta device.

    Multiply-adds are those that torchinfo counts: every weight and bias of a convolution once per
    output pixel, every other parameter once per image. Those of the user's modules are not counted:
    what their layers do is not known.

    Raises:
        UserError: the images are too small for the network.
    """
    if config.has_foreign_network:
        return Size(parameter_count(_network([config], side, classes, channels), 1), None)
    reads = network_fields(config.architecture)
    values = tuple((name, getattr(config, name)) for name in sorted(reads))
    return _describe(config.architecture, values, side, classes, channels)


@cache
def _describe(
    architecture: str, values: tuple[tuple[str, Any], ...], side: int, classes: int, channels: int
) -> Size:
    config = TrainConfig.from_dict({"architecture": architecture, **dict(values)})
    counted = 0

    def count(layer: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal counted
        pixels = out.shape[2:].numel() if isinstance(layer, Convolution) else 1
        counted += pixels * sum(parameter.numel() for parameter in layer.parameters(recurse=False))

    with torch.device("meta"):
        network = _network([config], side, classes, channels).eval()
        for layer in network.modules():
            layer.register_forward_hook(count)
        with torch.inference_mode():
            network(torch.empty(1, channels, side, side))
    return Size(parameter_count(network, 1), counted)


def _network(configs: Sequence[TrainConfig], side: int, classes: int, channels: int) -> nn.Module:
    if configs[0].has_foreign_network:
        return module_bank.build(configs, side, classes, channels)
    build = ARCHITECTURES[configs[0].architecture].builder()
    network: nn.Module = build(configs, side, classes, channels)
    return network
