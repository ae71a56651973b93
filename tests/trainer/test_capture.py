"""Steps that are captured and replayed without Python are the steps, to the bit.

On a GPU a CUDA graph does it; here `cpu_graph` records the operations with their tensors and
replays those.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.cpu_graph import HostWaitError, cpu_graph
from tests.support.trainings import MIXED, losses, small
from trainer import bank as banks
from trainer.config import TrainConfig
from trainer.cuda_graph import WARM_UP, Program
from trainer.data import ImageData
from trainer.optim import BankOptimizer
from trainer.results import Result
from trainer.streams import Stream
from trainer.train import train

ALL_AUGMENTATIONS = "flip+erase+translate+crop+crop_reflect+rotate+noise"
LIVELY: dict[str, Any] = {"schedule": "cosine", "dropout": 0.3, "augmentation": ALL_AUGMENTATIONS}


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning rates lie on the device, and the native kernels, which count in C, are off."""

    def on_device(*args: Any) -> BankOptimizer:
        return BankOptimizer(*args, on_device=True)

    monkeypatch.setattr(banks, "BankOptimizer", on_device)
    monkeypatch.setattr("trainer.native.wanted", lambda _: False)


def captured(
    configs: Sequence[TrainConfig], data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> list[Result]:
    """Train by replays."""
    with monkeypatch.context() as patch:
        patch.setattr(banks, "Program", lambda device: Program(device, cpu_graph))
        return train(configs, data)


def different(ours: Sequence[Result], others: Sequence[Result]) -> bool:
    return [losses(result) for result in ours] != [losses(result) for result in others]


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adamw"])
@pytest.mark.parametrize("members", [1, 4])
def test_a_captured_training_has_the_losses_of_the_training_to_the_bit(
    digits: ImageData, optimizer: str, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"optimizer": optimizer, "epochs": WARM_UP + 2, "subset": 400}  # validations too
    for_accuracy: list[dict[str, Any]] = [
        {"ema": 0.9, "mixup": 0.2},
        {"cutmix": 1.0},
        {"nesterov": True},
        {},
    ]
    mixed = [{**member, **more} for member, more in zip(MIXED, for_accuracy, strict=True)]
    own = mixed if members > 1 else [LIVELY]
    configs = [small(**{**fields, **member}) for member in own]
    plain = train(configs, digits)
    assert not different(captured(configs, digits, monkeypatch), plain)


def test_captured_small_networks_train_to_the_bit(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {"residual": True, "block": "basic", "head": "gap", "squeeze_excite": True}
    fields = {**network, "epochs": WARM_UP + 2, "subset": 400}
    configs = [small(**{**fields, **member}) for member in MIXED[:2]]
    assert not different(captured(configs, digits, monkeypatch), train(configs, digits))


def test_a_learning_rate_that_python_counts_is_seen(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = BankOptimizer.step
    taken: dict[BankOptimizer, int] = {}

    def by_count(optimizer: BankOptimizer, index: int | Tensor) -> None:
        del index
        taken[optimizer] = taken.get(optimizer, -1) + 1
        step(optimizer, torch.tensor(taken[optimizer]))

    monkeypatch.setattr(BankOptimizer, "step", by_count)
    configs = [small(schedule="cosine", subset=400)]
    assert different(captured(configs, digits, monkeypatch), train(configs, digits))


def test_random_numbers_that_python_counts_are_seen(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = Stream.numbers
    drawn: dict[Stream, int] = {}

    def by_count(stream: Stream, keys: Tensor, rows: int, columns: int) -> Tensor:
        drawn[stream] = drawn.get(stream, -1) + 1
        counted = torch.tensor(drawn[stream], dtype=torch.int32)
        return numbers(stream, stream.keys(counted).expand_as(keys), rows, columns)

    monkeypatch.setattr(Stream, "numbers", by_count)
    configs = [small(dropout=0.5, subset=400)]
    assert different(captured(configs, digits, monkeypatch), train(configs, digits))


def test_a_number_that_the_host_reads_inside_a_capture_is_refused(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = BankOptimizer.step

    def curious(optimizer: BankOptimizer, index: int | Tensor) -> None:
        step(optimizer, torch.tensor(int(index)))

    monkeypatch.setattr(BankOptimizer, "step", curious)
    with pytest.raises(HostWaitError):
        captured([small(subset=400)], digits, monkeypatch)
