"""How many images per second the trials of a study train on, in all: the usual way, and ours.

Four networks of the reference projects, batch 64, real Fashion-MNIST. In every row a fifth as many
images are evaluated as are trained on (ours: epochs of 3,200 and 640); counted are the latter:

usual       as the projects and torchvision's tutorials write it: a `DataLoader` over PIL images,
            their transforms, eager fp32, all threads; one trial at a time
usual x N   the same, a process of one thread per core, N trials at once (CPU only)
in memory   plain PyTorch without the loader: tensors in memory, a flip of whole batches
ours, alone one training of this package in one process, with one thread and with all
ours, study the workers of `fmnist-study run`, all training at once, with all that a study does
            between epochs

Rows run in processes of their own and take turns; figures are medians over the rounds. The floor is
what the machine's fastest measured matrix product or convolution would leave of the arithmetic.

    python benchmarks/throughput.py [--data-dir DIR] [--device cpu|cuda] [--quick]
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: here `study` is a script

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from study.run.executors import Failure, Job
from study.run.executors.local import LocalExecutor
from study.run.hardware import available_cores, worker_specs
from trainer import data as datasets
from trainer import device as devices
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.results import Epoch, Result
from trainer.torchvision_compat import torchvision

TRAINED, EVALUATED = 3200, 640  # images per epoch
BATCH = 64
PART = TRAINED // EVALUATED  # batches trained on for each that is evaluated
COMMON = {
    "subset": TRAINED + EVALUATED,
    "validation_fraction": EVALUATED / (TRAINED + EVALUATED),
    "batch_size": BATCH,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "dropout": 0.2,
}


def _convnet(depth: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 1
    for step in range(depth):
        width = 32 * (step + 1)
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.LeakyReLU(0.1), *([nn.MaxPool2d(2)] if step < 2 else [])]
        channels = width
    return [*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels * 49, 10)]


def _convnet3() -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return [*layers, nn.Dropout2d(0.2), nn.Flatten(), nn.Linear(2304, 10)]


def _lenet() -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(3136, 320), nn.ReLU(), nn.Dropout(0.2)]
    return [*layers, nn.Linear(320, 100), nn.ReLU(), nn.Dropout(0.2), nn.Linear(100, 10)]


@dataclass(frozen=True)
class Network:
    """A network as its project wrote it, and as a config of ours; flipped where it was there."""

    title: str
    theirs: Callable[[], list[nn.Module]]
    ours: Mapping[str, Any]
    flip: bool

    @property
    def config(self) -> TrainConfig:
        """Our config."""
        augmentation = "flip" if self.flip else "none"
        return TrainConfig.from_dict({**COMMON, **self.ours, "augmentation": augmentation})


_PLAIN = {"activation": "relu", "conv_bias": True, "batchnorm": False}
NETWORKS = {
    "2conv": Network("2 conv", lambda: _convnet(2), {"depth": 2}, flip=True),
    "4conv": Network("4 conv", lambda: _convnet(4), {"depth": 4}, flip=True),
    "pooling": Network(
        "pooling's network",
        _convnet3,
        {"architecture": "convnet3", "width": 64, **_PLAIN},
        flip=False,
    ),
    "lenet": Network("LeNet", _lenet, {"architecture": "lenet", "activation": "relu"}, flip=True),
}


@dataclass(frozen=True)
class Place:
    """Where a row's process works."""

    device: str
    threads: int
    data_dir: Path | None


class Way(Protocol):
    """A way to train."""

    def part(self) -> int:
        """Train and evaluate a fifth as many images; return how many were trained on."""


def _endless(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


class _Images(Dataset[tuple[Any, int]]):
    """As torchvision's data sets: an image becomes a PIL image, then it is transformed."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        image, label = self.images[index], int(self.labels[index])
        return self.transform(Image.fromarray(image.numpy())), label


class Usual:
    """`DataLoader`, PIL and an eager fp32 loop."""

    def __init__(self, network: Network, place: Place) -> None:
        torchvision()
        from torchvision import transforms

        data = datasets.load("fashion-mnist", place.data_dir)
        self.device = torch.device(place.device)
        flip = [transforms.RandomHorizontalFlip()] if network.flip else []
        plain = [transforms.ToTensor(), transforms.Normalize(*data.normalisation[0])]
        images, labels = data.train_images.view(-1, 28, 28), data.train_labels
        parts: list[tuple[slice, list[Any]]] = [
            (slice(0, TRAINED), flip),
            (slice(TRAINED, TRAINED + EVALUATED), []),
        ]
        training, evaluation = (
            _Images(images[part], labels[part], transforms.Compose([*first, *plain]))
            for part, first in parts
        )
        self.batches = _endless(DataLoader(training, batch_size=BATCH, shuffle=True))
        self.held_out = _endless(DataLoader(evaluation, batch_size=BATCH))
        self.network = nn.Sequential(*network.theirs()).to(self.device)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)

    def part(self) -> int:
        """Train and evaluate."""
        total, right, trained = 0.0, 0, 0
        self.network.train()
        for _ in range(PART):
            images, labels = next(self.batches)
            x, y = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            logits = self.network(x)
            loss = self.loss(logits, y)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
            right += int((logits.argmax(1) == y).sum().item())
            trained += len(y)
        self.network.eval()
        with torch.no_grad():
            images, labels = next(self.held_out)
            x, y = images.to(self.device), labels.to(self.device)
            logits = self.network(x)
            total += self.loss(logits, y).item()
            right += int((logits.argmax(1) == y).sum().item())
        return trained


class InMemory:
    """The same loop over tensors in memory."""

    def __init__(self, network: Network, place: Place) -> None:
        data = datasets.load("fashion-mnist", place.data_dir)
        self.device = torch.device(place.device)
        ((mean, std),) = data.normalisation
        pixels = data.train_images[: TRAINED + EVALUATED].view(-1, 1, 28, 28)
        self.images = pixels.float().div_(255).sub_(mean).div_(std).to(self.device)
        self.labels = data.train_labels[: TRAINED + EVALUATED].to(self.device)
        self.flip = network.flip
        self.network = nn.Sequential(*network.theirs()).to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)

    def part(self) -> int:
        """Train and evaluate."""
        totals = torch.zeros(2, device=self.device)
        self.network.train()
        for _ in range(PART):
            batch = torch.randperm(TRAINED, device=self.device)[:BATCH]
            x, y = self.images[batch], self.labels[batch]
            if self.flip:
                turned = torch.rand(len(x), 1, 1, 1, device=self.device) < 0.5
                x = torch.where(turned, x.flip(3), x)
            logits = self.network(x)
            loss = F.cross_entropy(logits, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            totals += torch.stack([loss.detach(), (logits.argmax(1) == y).float().mean()])
        self.network.eval()
        with torch.no_grad():
            x, y = self.images[-BATCH:], self.labels[-BATCH:]
            logits = self.network(x)
            totals += torch.stack(
                [F.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()]
            )
        totals.tolist()
        return PART * BATCH


class Ours:
    """One of our trainings."""

    def __init__(self, network: Network, place: Place) -> None:
        devices.prepare_process(place.threads)
        data = datasets.load("fashion-mnist", place.data_dir)
        self.bank = Bank([network.config], data, torch.device(place.device))

    def part(self) -> int:
        """Train and evaluate."""
        self.bank.train_epoch(1)
        self.bank.validate()
        return TRAINED


WAYS: dict[str, Callable[[Network, Place], Way]] = {
    "usual": Usual,
    "in memory": InMemory,
    "ours": Ours,
}


class Peak:
    """Not a way to train: the most that the machine computes, FLOP per second."""

    def __init__(self, place: Place) -> None:
        self.device = torch.device(place.device)
        dtype = torch.bfloat16 if devices.native_bf16(self.device) else torch.float32
        size = 2048 if place.device == "cpu" else 8192
        square = torch.randn(size, size, device=self.device, dtype=dtype)
        images = torch.randn(64, 128, 28, 28, device=self.device, dtype=dtype)
        images = images.to(memory_format=torch.channels_last)
        weight = torch.randn(128, 128, 3, 3, device=self.device, dtype=dtype)
        weight = weight.to(memory_format=torch.channels_last)
        self.kinds: list[tuple[int, Callable[[], Tensor]]] = [
            (2 * size**3, lambda: square @ square),
            (2 * 64 * 784 * 128 * 128 * 9, lambda: F.conv2d(images, weight, padding=1)),
        ]

    def measure(self, seconds: float) -> float:
        """Return the rate of the fastest kind."""
        best = 0.0
        for flops, compute in self.kinds:
            until = time.perf_counter() + seconds / len(self.kinds)
            while time.perf_counter() < until:
                started = time.perf_counter()
                compute()
                devices.synchronise(self.device)
                best = max(best, flops / (time.perf_counter() - started))
        return best


class Row(Protocol):
    """A row of the table."""

    def prepare(self, network: Network) -> None:
        """Get ready to train this network."""

    def measure(self, seconds: float) -> float:
        """Return images per second over about so many seconds."""

    def close(self) -> None:
        """End its processes."""


_context = multiprocessing.get_context("spawn")


class Processes:
    """A row of one or more processes that train in one way, all at once."""

    def __init__(self, way: str, place: Place, count: int = 1) -> None:
        self.pipes, self.processes = [], []
        for _ in range(count):
            pipe, child = _context.Pipe()
            process = _context.Process(target=_serve, args=(way, place, child), daemon=True)
            process.start()
            self.pipes.append(pipe)
            self.processes.append(process)

    def _ask(self, *request: object) -> list[Any]:
        for pipe in self.pipes:
            pipe.send(request)
        return [pipe.recv() for pipe in self.pipes]

    def prepare(self, network: Network) -> None:
        """Get ready to train this network."""
        name = next(name for name, candidate in NETWORKS.items() if candidate is network)
        self._ask("prepare", name)

    def measure(self, seconds: float) -> float:
        """Return images per second over about so many seconds, of all processes together."""
        return float(sum(self._ask("measure", seconds)))

    def peak(self, seconds: float) -> float:
        """Return the most FLOP per second, of all processes together."""
        return float(sum(self._ask("peak", seconds)))

    def close(self) -> None:
        """End the processes."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.close()
            process.kill()
            process.join()


def _serve(name: str, place: Place, pipe: "Connection[Any, Any]") -> None:
    torch.set_num_threads(place.threads)
    way: Way | None = None
    while True:
        try:
            request, argument = pipe.recv()
        except EOFError:
            return
        answer = 0.0
        if request == "prepare":
            way = WAYS[name](NETWORKS[argument], place)
            way.part()
        elif request == "peak":
            answer = Peak(place).measure(argument)
        else:
            assert way is not None
            images, started = 0, time.perf_counter()
            while (spent := time.perf_counter() - started) < argument:
                images += way.part()
            answer = images / spent
        pipe.send(answer)


class Study:
    """The workers of a study, each with a trial of its own."""

    def __init__(self, place: Place, bank: int) -> None:
        specs = worker_specs([place.device], None, 1 << 10, "fashion-mnist", place.data_dir)
        self.executor = LocalExecutor(specs)
        self.executor.start()
        self.workers, self.bank = len(specs), bank
        self.configs: tuple[TrainConfig, ...] = ()

    def prepare(self, network: Network) -> None:
        """Get ready to train this network."""
        config = network.config.replace(epochs=1000)
        self.configs = tuple(config.replace(seed=seed) for seed in range(self.bank))
        self.measure(0.5)

    def measure(self, seconds: float) -> float:
        """Return images per second over about so many seconds, of all workers together."""
        clock = _Clock(self.configs, self.workers, seconds)
        self.executor.run(clock)
        # From a worker's first epoch to its last, while all of them train.
        return sum(
            (len(times) - 1) * self.bank * TRAINED / (times[-1] - times[0])
            for times in clock.times.values()
        )

    def close(self) -> None:
        """End the workers."""
        self.executor.close()


class _Clock:
    """A watcher that gives each worker a trial, and stops them all after some seconds."""

    def __init__(self, configs: tuple[TrainConfig, ...], jobs: int, seconds: float) -> None:
        self.configs, self.left, self.seconds, self.jobs = configs, jobs, seconds, jobs
        self.times: dict[int, list[float]] = {}

    def next_job(self) -> Job | None:
        """Return a trial for each worker."""
        if not self.left:
            return None
        self.left -= 1
        return Job(self.configs, tuple(Path("unused") for _ in self.configs))

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        """Note the time, once all of them train."""
        times = self.times.setdefault(id(job), [])
        if len(self.times) < self.jobs:
            return ()
        times.append(time.perf_counter())
        latest_first = max(
            (passed[0] for passed in self.times.values() if passed), default=times[0]
        )
        enough = times[-1] - latest_first >= self.seconds and len(times) > 1
        return list(epochs) if enough else ()

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        """A stopped trial has no result of interest."""

    def on_failure(self, job: Job, failure: Failure) -> None:
        """Give up."""
        raise SystemExit(failure.reason)

    def on_tick(self) -> None:
        """Nothing is due."""


def arithmetic(network: Network) -> float:
    """Count the FLOP that an epoch takes, per image trained on."""
    plain = nn.Sequential(*network.theirs())
    x = torch.zeros(BATCH, 1, 28, 28)
    with FlopCounterMode(display=False) as training:
        plain(x).sum().backward()
    with FlopCounterMode(display=False) as evaluation, torch.no_grad():
        plain(x)
    share = EVALUATED / TRAINED
    return float(training.get_total_flops() + share * evaluation.get_total_flops()) / BATCH


def table(network: Network, speeds_of: Mapping[str, list[float]], peak: float) -> None:
    """Print the medians of a network's rows."""
    floor = peak / arithmetic(network)
    usual = median(speeds_of["usual"])
    print(f"\n{network.title}: images/s, times usual, share of the floor's {floor:,.0f} images/s")
    for name, speeds in speeds_of.items():
        speed = median(speeds)
        # Each round's own ratio: what disturbs a round disturbs all rows of it.
        pairs = zip(speeds, speeds_of["usual"], strict=True)
        ratio = median(a / b for a, b in pairs)
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        print(f"  {name:24}{speed:8,.0f}  {ratio:5.2f}x  {speed / floor:6.1%}   ({spread})")
    print(f"  usual takes {1000 / usual:.2f} ms per image", flush=True)


def main() -> None:
    """Measure and print, network by network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bank", type=int, default=None, help="members per worker")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--rounds", type=int, default=7, help="in which the rows take turns")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row in each round")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1.5 seconds")
    options = parser.parse_args()
    rounds, seconds = (3, 1.5) if options.quick else (options.rounds, options.seconds)
    cores = available_cores()
    everything = Place(options.device, cores, options.data_dir)
    one_thread = Place(options.device, 1, options.data_dir)
    on_cpu = options.device == "cpu"
    bank = options.bank or (1 if on_cpu else 16)
    rows: dict[str, Row] = {"usual": Processes("usual", everything)}
    if on_cpu and cores > 1:
        rows[f"usual x {cores}"] = Processes("usual", one_thread, cores)
    rows["in memory"] = Processes("in memory", everything)
    rows["ours, alone, 1 thread"] = Processes("ours", one_thread)
    if on_cpu and cores > 1:
        rows[f"ours, alone, {cores} threads"] = Processes("ours", everything)
    study = Study(everything, bank)
    rows[f"ours, study, {study.workers} x {bank}"] = study
    measuring = Processes("usual", one_thread if on_cpu else everything, cores if on_cpu else 1)
    try:
        peak = measuring.peak(2.0)
        print(
            f"load {os.getloadavg()[0]:.1f}, {options.device}, {cores} cores, "
            f"torch {torch.__version__}, batch {BATCH}, {rounds} rounds of {seconds:g} s; "
            f"fastest arithmetic {peak / 1e12:.2f} TFLOP/s",
            flush=True,
        )
        for name in options.networks:
            network = NETWORKS[name]
            speeds_of: dict[str, list[float]] = {row: [] for row in rows}
            for row in rows.values():
                row.prepare(network)
            for turn in range(rounds):
                for title in sorted(rows, reverse=turn % 2 == 1):
                    speeds_of[title].append(rows[title].measure(seconds))
                each = ", ".join(
                    f"{title} {speeds[-1]:,.0f}" for title, speeds in speeds_of.items()
                )
                print(f"{network.title}, round {turn + 1}/{rounds}: {each}", flush=True)
            table(network, speeds_of, peak)
    finally:
        for row in (*rows.values(), measuring):
            row.close()


if __name__ == "__main__":
    main()
