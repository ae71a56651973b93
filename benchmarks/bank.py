"""A bank of K members against K trainings one after the other: where does fusion pay?

For each network and K = 1, 2, 4 ... 64: images per second of all members in one program, against
those of plain PyTorch: the eager loop that one would write for one network alone. Batch 64, random
images, the precision that the device trains in. The rounds of a size alternate with rounds of plain
PyTorch, and ratios are medians of the rounds'.

    python benchmarks/bank.py [--device cpu|cuda] [--most 64] [--networks ...] [--quick]

On a GPU, `benchmarks/gpu.py` measures this and more.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: here `study` is a script

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

from benchmarks.plain import Plain, Steps, random_data
from benchmarks.throughput import NETWORKS, Network
from trainer import calibration
from trainer import device as devices
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.cuda_graph import WARM_UP
from trainer.data import ImageData

IMAGES = 6400
Rate = Callable[[], float]


def prepare(
    configs: Sequence[TrainConfig], data: ImageData, device: torch.device, *, seconds: float
) -> Rate:
    """Return what measures a bank's images per second, over about so many seconds a time."""
    bank = Bank(configs, data, device)
    bank.begin_epoch(1)
    taken = 0

    def take(steps: int) -> None:
        nonlocal taken
        for _ in range(steps):
            if taken % bank.steps_per_epoch == 0:
                bank.begin_epoch(1)
            bank.next_step()
            taken += 1

    take(WARM_UP + 2)
    return lambda: rate(take, len(configs) * bank.batch_size, device, seconds)


def rate(take: Steps, images: int, device: torch.device, seconds: float) -> float:
    """Return images per second of steps on so many images each."""
    devices.synchronise(device)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or not done:
        take(1 if device.type == "cpu" else 10)
        done += 1 if device.type == "cpu" else 10
        devices.synchronise(device)
    return done * images / (time.perf_counter() - started)


def compare(  # noqa: PLR0917
    network: Network, data: ImageData, device: torch.device, most: int, rounds: int, seconds: float
) -> None:
    """Print a network's table, size by size."""
    config = network.config.replace(subset=None, validation_fraction=0.2, epochs=1000)
    plain = Plain(network.theirs(), config, data, device)
    plain(5)
    members, wins = 1, {}
    print(
        f"\n{network.title}: members, images/s in one bank, plain PyTorch one by one, ratio",
        flush=True,
    )
    while members <= most:
        configs = [config.replace(seed=seed) for seed in range(members)]
        try:
            fused = prepare(configs, data, device, seconds=seconds)
            pairs = [
                (fused(), rate(plain, config.batch_size, device, seconds)) for _ in range(rounds)
            ]
        except torch.OutOfMemoryError:
            print(f"  {members:3}  out of memory", flush=True)
            break
        ours, other = (median(values) for values in zip(*pairs, strict=True))
        wins[members] = median(a / b for a, b in pairs)
        print(f"  {members:3}  {ours:11,.0f}  {other:11,.0f}  {wins[members]:6.2f}x", flush=True)
        members *= 2
    losing = [str(size) for size, ratio in wins.items() if size > 1 and ratio < wins[1]]
    where = f"with {', '.join(losing)} members" if losing else "nowhere"
    print(f"  fusion loses {where}; --bank auto would take {calibration.best(wins)}", flush=True)


def main() -> None:
    """Measure and print, network by network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--most", type=int, default=64, help="members")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.3 s, to 8 members")
    options = parser.parse_args()
    if options.quick:
        options.most, options.rounds, options.seconds = min(options.most, 8), 3, 0.3
    device = devices.resolve(options.device)
    if device.type == "cpu":
        devices.prepare_process(1)
    data = random_data(IMAGES)
    precision = devices.precision(TrainConfig(), device)
    print(
        f"{devices.describe(device)}, torch {torch.__version__}, {precision}, batch 64, "
        f"{options.rounds} rounds of {options.seconds:g} s",
        flush=True,
    )
    for name in options.networks:
        compare(NETWORKS[name], data, device, options.most, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
