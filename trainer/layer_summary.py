"""The layers of a network as a table of text: what each puts out for one image, its parameters."""

from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import TrainConfig
from trainer.models import build, parameter_count

HEAD = ("layer", "kind", "output", "parameters")


def layer_summary(config: TrainConfig, side: int, classes: int) -> str:
    """Return a line per layer, and the sum; nothing is computed, and no weights are read.

    Of the user's own modules the outputs are left out: nobody knows what they do without data.

    Args:
        config: what is trained.
        side: height and width of the images, pixels.
        classes: number of classes.

    Raises:
        UserError: the images are too small for the network.
    """
    shapes: dict[nn.Module, str] = {}

    def seen(layer: nn.Module, _: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            shapes[layer] = " x ".join(map(str, out.shape[1:]))

    with torch.device("meta"):
        network = build([config], side, classes, start=False).eval()
        if not config.has_foreign_network:
            for layer in network.modules():
                layer.register_forward_hook(seen)
            with torch.inference_mode():
                network(torch.empty(1, 1, side, side))
    rows = [
        (name, type(layer).__name__, shapes.get(layer, ""), f"{parameters(layer):,}")
        for name, layer in network.named_modules()
        if name and not any(layer.children())
    ]
    total = ("in all", "", "", f"{parameter_count(network, 1):,}")
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, total, strict=True)]
    return "".join(
        "  ".join([*map(str.ljust, row[:3], widths), row[3].rjust(widths[3])]).rstrip() + "\n"
        for row in (HEAD, *rows, total)
    )


def parameters(layer: nn.Module) -> int:
    """Return how many trained parameters a layer has by itself."""
    return sum(parameter.numel() for parameter in layer.parameters(recurse=False))
