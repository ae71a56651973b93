"""How fast a trained network answers: a single image and a batch of 32, alone on its device."""

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from trainer import device as devices
from trainer.answers import answer
from trainer.config import TrainConfig
from trainer.results import Inference
from trainer.streams import generator

BATCH_SIZES = (1, 32)
WARM_UP = 3  # passes at most, in which kernels are chosen and memory is taken
LEAST, MOST = 5, 30  # timed passes: 1 or 2 % of a training that takes half a second
SECONDS = 0.1  # of passes of each kind, when there are enough of them


def inference(
    network: nn.Module, config: TrainConfig, shape: tuple[int, int], device: torch.device
) -> Inference:
    """Time a network of one member where it was trained, and on the CPU too where that is a GPU.

    A pass takes normalised images [B, channels, side, side] (`shape`: side, channels) that lie on
    the device, in the precision of the config there, and ends when its answer is computed: with
    `test_time_flip` two passes of the network. One that is slow at it costs 6 passes of either
    size. The weights do not matter.

    Returns:
        {"cpu": {"1": {"p50_ms", "p95_ms", "images_per_second"}, "32": {...}}, "cuda": {...}};
        images per second are those of the median pass.
    """
    figures = {device.type: _on(network, config, shape, device)}
    if device.type != "cpu":
        cpu = torch.device("cpu")
        figures["cpu"] = _on(copy.deepcopy(network).to(cpu), config, shape, cpu)
    return figures


def _on(
    network: nn.Module, config: TrainConfig, shape: tuple[int, int], device: torch.device
) -> dict[str, dict[str, float]]:
    side, channels = shape
    network.eval()
    precision = devices.precision(config, device)
    dtype = torch.float64 if precision == "fp64" else torch.float32
    figures = {}
    for size in BATCH_SIZES:
        images = torch.rand(size, channels, side, side, generator=generator(0, "latency"))
        x = images.to(device, dtype).contiguous(memory_format=torch.channels_last)

        def one_pass(x: torch.Tensor = x) -> None:
            answer(network, x, flip=config.test_time_flip)
            devices.synchronise(device)

        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            figures[str(size)] = summarise(passes(one_pass), size)
    return figures


def passes(one_pass: Callable[[], None]) -> list[float]:
    """Return the seconds of each timed pass, after a few that prepare it."""
    _repeat(one_pass, 1, WARM_UP)
    return _repeat(one_pass, LEAST, MOST)


def _repeat(one_pass: Callable[[], None], least: int, most: int) -> list[float]:
    seconds: list[float] = []
    while len(seconds) < most and (len(seconds) < least or sum(seconds) < SECONDS):
        started = time.perf_counter()
        one_pass()
        seconds.append(time.perf_counter() - started)
    return seconds


def summarise(seconds: list[float], size: int) -> dict[str, float]:
    """Describe passes of `size` images: their median and 95th percentile, and the throughput."""
    p50, p95 = np.percentile(seconds, [50, 95]).tolist()
    return {"p50_ms": p50 * 1000, "p95_ms": p95 * 1000, "images_per_second": size / p50}
