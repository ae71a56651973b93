"""Our native kernels against PyTorch's operations: bf16, one thread, batch 64.

Both are called as the layers call them, Python and autograd included, and take turns in one
process; figures are the shortest times of forward and backward pass.

    python benchmarks/kernels.py [--repeats N]
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: here `study` is a script

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import device as devices
from trainer import native
from trainer.layers import ChannelNorm, Convolution
from trainer.native.activated import activated
from trainer.native.convolution import convolution
from trainer.native.images import pooled_images

BATCH = 64
Way = Callable[[Tensor], Tensor]


def cases() -> Iterator[tuple[str, tuple[int, ...], Way, Way]]:
    """Yield what is compared: its words, the input's shape, PyTorch's way and ours."""
    for inputs, outputs, side in (
        (32, 32, 28),
        (32, 64, 14),
        (64, 128, 14),
        (64, 96, 7),
        (96, 128, 7),
        (128, 256, 7),
    ):
        words = f"3x3 convolution to {outputs} channels"
        yield words, (inputs, side, side), *_convolutions(inputs, outputs)
    for channels, side, pools in ((64, 14, True), (128, 7, False)):
        words = "batch norm, LeakyReLU" + ", max pooling" * pools
        yield words, (channels, side, side), *_norms(channels, pools=pools)
    for kernel in (3, 5):
        words = f"{kernel}x{kernel} convolution to 32, batch norm, LeakyReLU, max pooling"
        yield words, (1, 28, 28), *_first_layers(kernel)


def _convolutions(inputs: int, outputs: int) -> tuple[Way, Way]:
    weight = _ready(Convolution(1, inputs, outputs, 3, bias=False)).weight
    return lambda x: F.conv2d(x, weight, padding=1), lambda x: convolution(x, weight)


def _norms(channels: int, *, pools: bool) -> tuple[Way, Way]:
    norm = _ready(ChannelNorm(channels))
    return (
        lambda x: F.leaky_relu(F.max_pool2d(norm(x), 2) if pools else norm(x), 0.1),
        lambda x: activated(x, norm, None, 0.1, "max" if pools else None),
    )


def _first_layers(kernel: int) -> tuple[Way, Way]:
    weight = _ready(Convolution(1, 1, 32, kernel, bias=False)).weight
    norm, padding = _ready(ChannelNorm(32)), kernel // 2
    return (
        lambda x: F.leaky_relu(F.max_pool2d(norm(F.conv2d(x, weight, padding=padding)), 2), 0.1),
        lambda x: pooled_images(x, weight, None, norm, 0.1, "max"),
    )


def _ready(layer: Any) -> Any:
    """Give a layer random weights, as in the trainer's memory layout."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.1)
    return layer.train().to(memory_format=torch.channels_last)


def timed(way: Way, x: Tensor) -> tuple[float, float]:
    """Return the milliseconds of one forward and one backward pass."""
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        y = way(x)
    forward = time.perf_counter() - started
    gradient = torch.ones_like(y)
    started = time.perf_counter()
    y.backward(gradient)
    return 1000 * forward, 1000 * (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    if missing := native.missing():
        raise SystemExit(f"native kernels: {missing}")
    devices.prepare_process(1)
    for words, shape, theirs, ours in cases():
        first = shape[0] == 1  # images are fp32 and want no gradient
        x = torch.randn(BATCH, *shape, dtype=torch.float32 if first else torch.bfloat16)
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_(not first)
        rounds = [[timed(way, x) for way in (theirs, ours)] for _ in range(options.repeats)]
        best = [[min(r[way][part] for r in rounds) for part in (0, 1)] for way in (0, 1)]
        print(
            f"{words}, [{BATCH}, {', '.join(map(str, shape))}]: PyTorch {best[0][0]:.2f} + "
            f"{best[0][1]:.2f} ms, ours {best[1][0]:.2f} + {best[1][1]:.2f} ms, "
            f"{sum(best[0]) / sum(best[1]):.1f} times as fast",
            flush=True,
        )


if __name__ == "__main__":
    main()
