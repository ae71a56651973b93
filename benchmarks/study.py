"""The wall time of one small study, three ways.

The study: the 2-conv network of the plan `structure` with and without batch norm, with max and
average pooling, and with dropout 0, 0.2 and 0.5: 12 trials of 3 epochs on 6,000 real images,
validated after every epoch and tested at the end. All ways use all cores, from nothing to the last
result:

ours       `fmnist-study run`, with everything it writes
processes  plain PyTorch as the reference projects write it, a process per trial, as many at once as
           there are cores
ray        the same function as a Ray Tune trial; where Ray is not installed, it says so

    python benchmarks/study.py [--data-dir DIR] [--rounds N] [--quick]
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: here `study` is a script

import argparse
import importlib.util
import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from study.run.hardware import available_cores

TRAINED, EVALUATED = 5000, 1000
PLAN = f"""
name = "small"
design = "factorial"
dataset = "fashion-mnist"
seeds = 1
epochs = EPOCHS
subset = {TRAINED + EVALUATED}

[baseline]
architecture = "convnet"
depth = 2
learning_rate = 1e-3
schedule = "constant"
augmentation = "flip"
batch_size = 64

[factors]
batchnorm = [true, false]
pooling = ["max", "avg"]
dropout = [0.0, 0.2, 0.5]
"""
TRIALS = list(itertools.product([True, False], ["max", "avg"], [0.0, 0.2, 0.5]))


def trial(
    batchnorm: bool, pooling: str, dropout: float, epochs: int, data_dir: str | None
) -> float:
    """Train one trial as the reference projects do; return its test accuracy."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from trainer import data as datasets
    from trainer.torchvision_compat import torchvision

    torchvision()
    from PIL import Image
    from torchvision import transforms

    torch.set_num_threads(1)
    data = datasets.load("fashion-mnist", Path(data_dir) if data_dir else None)
    plain = [transforms.ToTensor(), transforms.Normalize(*data.normalisation[0])]

    class Images(Dataset[tuple[Any, int]]):
        def __init__(self, pixels: torch.Tensor, labels: torch.Tensor, first: list[Any]) -> None:
            self.pixels, self.labels = pixels.view(-1, 28, 28), labels
            self.transform = transforms.Compose([*first, *plain])

        def __len__(self) -> int:
            return len(self.pixels)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            image = Image.fromarray(self.pixels[index].numpy())
            return self.transform(image), int(self.labels[index])

    images, labels = data.train_images, data.train_labels
    flip = [transforms.RandomHorizontalFlip()]
    part = slice(TRAINED, TRAINED + EVALUATED)
    training = DataLoader(Images(images[:TRAINED], labels[:TRAINED], flip), 64, shuffle=True)
    validation = DataLoader(Images(images[part], labels[part], []), 64)
    test = DataLoader(Images(data.test_images, data.test_labels, []), 64)
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(outputs)] if batchnorm else []
        layers += [nn.LeakyReLU(0.1), nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(3136, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss = nn.CrossEntropyLoss()

    def accuracy(loader: Any) -> float:
        network.eval()
        with torch.no_grad():
            right = sum(int((network(x).argmax(1) == y).sum()) for x, y in loader)
        return right / len(loader.dataset)

    for _ in range(epochs):
        network.train()
        for x, y in training:
            optimizer.zero_grad()
            loss(network(x), y).backward()
            optimizer.step()
        accuracy(validation)
    return accuracy(test)


def ours(epochs: int, data_dir: str | None) -> None:
    """Run the study with this package, in a new database."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "small.toml")
        plan.write_text(PLAN.replace("EPOCHS", str(epochs)), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "study.cli",
            "run",
            str(plan),
            "--quiet",
            "--device",
            "cpu",
        ]
        command += ["--storage", str(Path(folder, "studies.db"))]
        command += ["--data-dir", data_dir] if data_dir else []
        subprocess.run(command, check=True, capture_output=True)


def processes(epochs: int, data_dir: str | None) -> None:
    """Run a process per trial, as many at once as there are cores."""

    def start(values: tuple[bool, str, float]) -> None:
        given = (*values, epochs, data_dir)
        code = f"from benchmarks.study import trial; trial(*{given!r})"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=sys.path[0])

    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(start, TRIALS))


def with_ray(epochs: int, data_dir: str | None) -> None:
    """Run the trials in Ray Tune."""
    from ray import tune

    def trainable(config: dict[str, Any]) -> dict[str, float]:
        return {"accuracy": trial(**config, epochs=epochs, data_dir=data_dir)}

    space = {
        "batchnorm": tune.grid_search([True, False]),
        "pooling": tune.grid_search(["max", "avg"]),
        "dropout": tune.grid_search([0.0, 0.2, 0.5]),
    }
    tune.Tuner(tune.with_resources(trainable, {"cpu": 1}), param_space=space).fit()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of one epoch per trial")
    options = parser.parse_args()
    rounds, epochs = (1, 1) if options.quick else (options.rounds, 3)
    ways: dict[str, Callable[[int, str | None], None]] = {"ours": ours, "processes": processes}
    if importlib.util.find_spec("ray"):
        ways["ray"] = with_ray
    else:
        print("Ray is not installed: not measured")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in sorted(ways, reverse=turn % 2 == 1):
            started = time.perf_counter()
            ways[way](epochs, options.data_dir)
            seconds[way].append(time.perf_counter() - started)
            print(f"round {turn + 1}/{rounds}: {way} {seconds[way][-1]:.1f} s", flush=True)
    print(f"{len(TRIALS)} trials of {epochs} epochs, {available_cores()} cores, medians:")
    for way, spent in seconds.items():
        times = median(spent) / median(seconds["ours"])
        print(f"  {way:10}{median(spent):7.1f} s  {times:5.2f}x ours")


if __name__ == "__main__":
    main()
