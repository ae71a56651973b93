"""A bank of one against a plain PyTorch training loop: what do the bank's generalities cost?

All train the same network on the same random 28x28 images with the same recipe (Adam, dropout,
cross entropy, bf16 where the processor computes in it), in alternating rounds of one process:
ours, the plain loop, and our trainer with the plain loop's module as a network of the user's.

    python benchmarks/plain.py [--rounds N] [--threads N] [--quick]
"""

import argparse
import itertools
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trainer import device as devices
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.data import ImageData

CPU = torch.device("cpu")
Steps = Callable[[int], None]  # take so many steps


def random_data(images: int) -> ImageData:
    """A data set of noise, shaped as Fashion-MNIST."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 784), generator=generator).to(torch.uint8)
    labels = torch.arange(images) % 10
    names = tuple("0123456789")
    return ImageData("random", 28, names, pixels, labels, pixels[:100], labels[:100])


def ours(config: TrainConfig, data: ImageData) -> Steps:
    """Our trainer with one member."""
    bank = Bank([config], data, CPU)
    bank.network.train()
    order = itertools.cycle(enumerate(bank.order(1)))

    def take(steps: int) -> None:
        for index, batch in itertools.islice(order, steps):
            bank.train_step(index, batch)

    return take


def module(config: TrainConfig) -> nn.Module:
    """The plain loop's network, as a function of the user's."""
    return nn.Sequential(*layers_of(TrainConfig(depth=int(config.model_options["depth"]))))


def layers_of(config: TrainConfig) -> list[nn.Module]:
    """The layers that one would write for a `convnet`."""
    layers: list[nn.Module] = []
    channels = 1
    for index in range(config.depth):
        width = config.width * (index + 1)
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.MaxPool2d(2)] if index < 2 else []
        layers.append(nn.LeakyReLU(0.1))  # after the pooling, as ours: the same, and cheaper
        channels = width
    return [*layers, nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(channels * 49, 10)]


class Plain:
    """The loop that one would write for one network alone: plain PyTorch, eager.

    Args:
        layers: of the network.
        config: its recipe: Adam, the batch, the precision.
        data: images of 28x28.
        device: where.
    """

    def __init__(
        self, layers: list[nn.Module], config: TrainConfig, data: ImageData, device: torch.device
    ) -> None:
        network = nn.Sequential(*layers).to(device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
        self.optimizer = torch.optim.Adam(
            self.network.parameters(),
            lr=config.learning_rate,
            fused=True,
            capturable=device.type == "cuda",
        )
        self.device, self.data = device, data.to(device)
        ((self.mean, self.std),) = data.normalisation
        self.bf16 = devices.precision(config, device) == "bf16"
        self.images = self.data.train_images.view(-1, 1, 28, 28)
        order = torch.randperm(len(self.images), device=device).split(config.batch_size)
        self.batches = itertools.cycle(batch for batch in order if len(batch) == config.batch_size)
        self.batch = next(self.batches).clone()
        self.totals = torch.zeros(2, device=device)

    def step(self) -> None:
        """Train on `batch`."""
        x = self.images[self.batch].float().mul_(1 / 255).sub_(self.mean).div_(self.std)
        labels = self.data.train_labels[self.batch]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.network(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.totals += torch.stack([loss, (logits.argmax(1) == labels).float().mean()])

    def __call__(self, steps: int) -> None:
        """Take so many steps."""
        for _ in range(steps):
            self.batch.copy_(next(self.batches))
            self.step()


class Graphed(Plain):
    """The same loop with its step in a CUDA graph, as PyTorch's documentation shows it."""

    def __init__(
        self, layers: list[nn.Module], config: TrainConfig, data: ImageData, device: torch.device
    ) -> None:
        super().__init__(layers, config, data, device)
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream(device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    def __call__(self, steps: int) -> None:
        """Take so many steps."""
        for _ in range(steps):
            self.batch.copy_(next(self.batches))
            self.graph.replay()


def speed(take: Steps, steps: int, batch_size: int) -> float:
    """Images per second of some steps."""
    started = time.perf_counter()
    take(steps)
    return steps * batch_size / (time.perf_counter() - started)


def main() -> None:
    """Measure and print, network by network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="of each loop, alternating")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few and short rounds, for a try")
    options = parser.parse_args()
    rounds, steps = (3, 10) if options.quick else (options.rounds, 60)
    devices.prepare_process(options.threads)
    data = random_data(6400)
    precision = devices.precision(TrainConfig(), CPU)
    print(f"{devices.describe(CPU)}, {precision}, batch 64, {rounds} rounds of {steps} steps")
    for depth in (2, 4):
        compare(depth, rounds, steps, data)


def compare(depth: int, rounds: int, steps: int, data: ImageData) -> None:
    """Measure and print the loops of one network."""
    recipe: dict[str, Any] = {"batch_size": 64, "epochs": 1, "validation_fraction": 0.2}
    config = TrainConfig(depth=depth, **recipe)
    users = {"architecture": f"{__name__}:module", "model_options.depth": depth}
    loops: dict[str, Callable[[int], None]] = {
        "ours": ours(config, data),
        "plain": Plain(layers_of(config), config, data, CPU),
        "user's module": ours(TrainConfig.from_dict({**recipe, **users}), data),
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for take in loops.values():
        take(steps // 2)  # warm
    for turn in range(rounds):
        # Whoever goes second finds other caches and clocks: take turns.
        for name in sorted(loops, reverse=turn % 2 == 1):
            speeds[name].append(speed(loops[name], steps, config.batch_size))
        each = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in speeds.items())
        print(f"{depth} conv, round {turn + 1}/{rounds}: {each} images/s", flush=True)
    for name in ("ours", "user's module"):
        pairs = zip(speeds[name], speeds["plain"], strict=True)
        print(
            f"{depth} conv: {name} {median(speeds[name]):,.0f} images/s, plain "
            f"{median(speeds['plain']):,.0f} images/s (medians); ratio "
            f"{median(a / b for a, b in pairs):.3f} (median of the rounds' ratios)"
        )


if __name__ == "__main__":
    main()
