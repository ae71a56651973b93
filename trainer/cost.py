"""What a training will cost, estimated from a few of its steps."""

import statistics
import time

import torch

from trainer import device as devices
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.cuda_graph import WARM_UP
from trainer.data import ImageData
from trainer.fusion import obstacle
from trainer.results import Cost


def measure(
    config: TrainConfig, data: ImageData, device: torch.device | str = "cpu", *, steps: int = 10
) -> Cost:
    """Estimate what training this config costs: the median of a few steps, half a second at most.

    A step of a very large network on a CPU takes many seconds; then the first one is enough.

    Evaluation counts as a third of a training step per image (forward only).

    Raises:
        UserError: the config cannot be trained on this data.
    """
    place = torch.device(device)
    hindrance = obstacle([config, config.replace(seed=config.seed ^ 1)], data, place)
    bank = Bank([config], data, place)
    bank.begin_epoch(1)
    seconds: list[float] = []
    # The first ones prepare kernels; on a GPU they are captured then.
    first = 2 if bank.device.type == "cpu" else WARM_UP + 2
    for _ in range(min(steps + first, bank.steps_per_epoch)):
        started = time.perf_counter()
        bank.next_step()
        devices.synchronise(bank.device)
        seconds.append(time.perf_counter() - started)
        if sum(seconds[first:]) > 0.5 or sum(seconds) > 10:
            break
    per_step = statistics.median(seconds[first:] or seconds[-1:])
    evaluated = len(bank.val_indices) * config.epochs + len(data.test_labels)
    steps_in_all = bank.steps_per_epoch * config.epochs + evaluated / config.batch_size / 3
    return Cost(per_step * steps_in_all, bank.parameters, hindrance)
