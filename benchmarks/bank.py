"""A bank of K members against K trainings one after the other: where does fusion pay?

For each network and K = 1, 2, 4 ... 64: images per second of all members in one program, against
one member's with every kernel started by itself, as PyTorch runs it (on a CPU that is the same as
one member in a program). Batch 64, random images, the precision that the device trains in. The
rounds of a size alternate with rounds of one member, and ratios are medians of the rounds'.

    python benchmarks/bank.py [--device cpu|cuda] [--most 64] [--networks ...] [--quick]

On a GPU, `python benchmarks/bank.py --device cuda` is the whole measurement: banks in CUDA graphs,
and the wall time of the plan `pooling` (24 cells) and of a 4-conv training of 20 epochs on the real
images.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: here `study` is a script

import argparse
import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from benchmarks.plain import random_data
from benchmarks.throughput import NETWORKS, Network
from study.plans.plan import load_plan
from trainer import calibration
from trainer import data as datasets
from trainer import device as devices
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.cuda_graph import GRAPHS, WARM_UP
from trainer.data import ImageData
from trainer.train import train

IMAGES = 6400
Rate = Callable[[], float]


def prepare(
    configs: Sequence[TrainConfig],
    data: ImageData,
    device: torch.device,
    *,
    graphs: bool,
    seconds: float,
) -> Rate:
    """Return what measures a bank's images per second, over about so many seconds a time."""
    os.environ[GRAPHS] = str(int(graphs))
    bank = Bank(configs, data, device)
    del os.environ[GRAPHS]
    bank.begin_epoch(1)
    for _ in range(WARM_UP + 2):
        bank.next_step()
    devices.synchronise(device)

    def rate() -> float:
        bank.begin_epoch(1)
        devices.synchronise(device)
        done, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds or not done:
            if done % bank.steps_per_epoch == 0:
                bank.begin_epoch(1)
            bank.next_step()
            done += 1
            if done % 10 == 0 or device.type == "cpu":
                devices.synchronise(device)
        devices.synchronise(device)
        spent = time.perf_counter() - started
        return done * len(configs) * bank.batch_size / spent

    return rate


def compare(  # noqa: PLR0917
    network: Network, data: ImageData, device: torch.device, most: int, rounds: int, seconds: float
) -> None:
    """Print a network's table, size by size."""
    config = network.config.replace(subset=None, validation_fraction=0.2, epochs=1000)
    alone = prepare([config], data, device, graphs=False, seconds=seconds)
    members, wins = 1, {}
    print(f"\n{network.title}: members, images/s in one bank, one by one, ratio", flush=True)
    while members <= most:
        configs = [config.replace(seed=seed) for seed in range(members)]
        try:
            fused = prepare(configs, data, device, graphs=True, seconds=seconds)
            pairs = [(fused(), alone()) for _ in range(rounds)]
        except torch.OutOfMemoryError:
            print(f"  {members:3}  out of memory", flush=True)
            break
        own, other = (median(values) for values in zip(*pairs, strict=True))
        wins[members] = median(a / b for a, b in pairs)
        print(f"  {members:3}  {own:11,.0f}  {other:11,.0f}  {wins[members]:6.2f}x", flush=True)
        members *= 2
    losing = [str(size) for size, ratio in wins.items() if size > 1 and ratio < wins[1]]
    where = f"with {', '.join(losing)} members" if losing else "nowhere"
    print(f"  fusion loses {where}; --bank auto would take {calibration.best(wins)}", flush=True)


def goals(data_dir: Path | None, device: torch.device) -> None:
    """Time the two trainings that a GPU should do in 60 and in 10 seconds."""
    data = datasets.load("fashion-mnist", data_dir)
    plan = load_plan("pooling").override(seeds=1)
    groups: dict[tuple[Any, ...], list[TrainConfig]] = {}
    for config in map(plan.config_of, plan.cells):
        groups.setdefault(config.fusion_key, []).append(config)
    started = time.perf_counter()
    for configs in groups.values():
        train(configs, data, device=device)
    spent = time.perf_counter() - started
    print(f"\npooling, {len(plan.cells)} cells, as planned here: {spent:.1f} s", flush=True)
    started = time.perf_counter()
    train([TrainConfig(depth=4, epochs=20)], data, device=device)
    print(f"4 conv, 20 epochs of the full set: {time.perf_counter() - started:.1f} s", flush=True)


def main() -> None:
    """Measure and print, network by network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--data-dir", type=Path, default=None, help="for the goals on a GPU")
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
    if device.type == "cuda":
        goals(options.data_dir, device)


if __name__ == "__main__":
    main()
