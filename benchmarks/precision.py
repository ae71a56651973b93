"""Does bf16 learn what fp32 learns? Paired trainings: same seed, split, start and data order.

The 2-conv network of the plan `structure` on real Fashion-MNIST: 10,000 images to train on, 10,000
to validate. Prints each pair and the mean difference in validation accuracy with its 95 % interval
(paired t).

    python benchmarks/precision.py [--data-dir DIR] [--seeds N] [--epochs N] [--depth N]
"""

import argparse
from pathlib import Path
from statistics import mean, stdev

import scipy.stats

from trainer import data as datasets
from trainer import device as devices
from trainer.config import TrainConfig
from trainer.train import train


def main() -> None:
    """Train and print, pair by pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--depth", type=int, default=2)
    options = parser.parse_args()
    devices.prepare_process(1)
    device = devices.resolve(options.device)
    data = datasets.load("fashion-mnist", options.data_dir)
    config = TrainConfig(
        depth=options.depth,
        epochs=options.epochs,
        subset=20_000,
        validation_fraction=0.5,
        batch_size=64,
        augmentation="flip",
    )
    differences = []
    for seed in range(options.seeds):
        accuracies = {}
        for precision in ("bf16", "fp32"):
            variant = config.replace(seed=seed, precision=precision)
            (result,) = train([variant], data, device=device)
            # The last epoch: the best one would add the luck of a choice.
            accuracies[precision] = result.history[-1].val_accuracy
        differences.append(100 * (accuracies["bf16"] - accuracies["fp32"]))
        print(
            f"seed {seed}: bf16 {accuracies['bf16']:.2%}, fp32 {accuracies['fp32']:.2%}, "
            f"difference {differences[-1]:+.2f} points",
            flush=True,
        )
    middle, n = mean(differences), len(differences)
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * stdev(differences) / n**0.5
    print(
        f"{options.depth} conv, {n} seeds: bf16 - fp32 = {middle:+.3f} points "
        f"(95 %: {middle - half:+.3f} to {middle + half:+.3f})"
    )


if __name__ == "__main__":
    main()
