"""A captured bank is used again by the next job of its form, and by no other."""

import gc
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from study.run.executors import Job, WorkerSpec
from study.run.executors.worker import Worker
from tests.support.cpu_graph import cpu_graph
from tests.support.trainings import MIXED, losses, small
from trainer import bank as banks
from trainer.bank import Bank
from trainer.bank_cache import BankCache
from trainer.config import TrainConfig
from trainer.cuda_graph import CudaStream, Program
from trainer.data import ImageData
from trainer.optim import BankOptimizer
from trainer.train import train

CPU = torch.device("cpu")
NEXT = [  # other seeds, rates and dropouts than MIXED's; the rest is part of its form
    {"seed": 7, "augmentation": "erase", "normalization": "none"},
    {"seed": 8, "learning_rate": 1e-2, "dropout": 0.1, "augmentation": "rotate"},
    {"seed": 9, "weight_decay": 1e-2, "dropout": 0.7, "augmentation": "crop+rotate"},
    {"seed": 7, "label_smoothing": 0.2, "schedule": "constant", "augmentation": "flip+translate"},
]


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Work is captured on the CPU, as it would be on a GPU; an entry for each capture."""
    made: list[int] = []

    def counted(work: Callable[[], None], stream: CudaStream) -> Callable[[], None]:
        made.append(1)
        return cpu_graph(work, stream)

    def on_device(*args: Any) -> BankOptimizer:
        return BankOptimizer(*args, on_device=True)

    monkeypatch.setattr(banks, "Program", lambda device: Program(device, counted))
    monkeypatch.setattr(banks, "BankOptimizer", on_device)
    monkeypatch.setattr("trainer.native.wanted", lambda _: False)
    return made


def configs_of(members: Sequence[dict[str, Any]], **fields: Any) -> list[TrainConfig]:
    return [small(**{"subset": 200, "epochs": 5, **fields, **member}) for member in members]


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_a_reused_bank_has_the_losses_of_a_fresh_one_to_the_bit(
    digits: ImageData, captures: list[int], optimizer: str
) -> None:
    first, second = (configs_of(m, optimizer=optimizer) for m in (MIXED, NEXT))
    cache = BankCache()
    train(first, digits, banks=cache)
    made = len(captures)
    assert made == 2  # the step and the validation
    reused = train(second, digits, banks=cache)
    assert len(captures) == made
    again = train(first, digits, banks=cache)  # and back
    assert len(captures) == made
    for results, configs in ((reused, second), (again, first)):
        for result, other in zip(results, train(configs, digits), strict=True):
            assert losses(result) == losses(other)
            assert result.weights_sha256 == other.weights_sha256


@pytest.mark.parametrize(
    "change",
    [
        {"width": 16},
        {"batch_size": 16},
        {"weight_decay": 0.1},
        {"augmentation": "flip"},
        {"label_smoothing": 0.1},
        {"dropout": 0.0},
        {"epochs": 4},
    ],
    ids=str,
)
def test_a_bank_of_another_form_is_captured_anew_and_frees_the_kept_one(
    digits: ImageData, captures: list[int], change: dict[str, Any]
) -> None:
    del captures
    cache = BankCache()
    configs = configs_of([{}])
    bank = cache.take(configs, digits, CPU)
    gone = weakref.ref(bank)
    cache.keep(bank)
    del bank
    assert gone() is not None
    gc.disable()
    other = cache.take(configs_of([change]), digits, CPU)
    gc.enable()
    assert gone() is None
    assert other.step_program.replay is None


def test_a_bank_of_more_members_or_on_other_data_is_another(
    digits: ImageData, captures: list[int]
) -> None:
    del captures
    cache = BankCache()
    configs = configs_of([{"seed": 0}, {"seed": 1}])
    for others, data in ((configs[:1], digits), (configs, digits.to(torch.device("meta")))):
        bank = Bank(configs, digits, CPU)
        cache.keep(bank)
        assert cache.take(others, data, data.train_images.device) is not bank
    cache.keep(bank)
    assert cache.take(configs_of([{"seed": 5}, {"seed": 6}]), digits, CPU) is bank


def test_what_failed_is_not_kept(digits: ImageData, captures: list[int]) -> None:
    def fail(_: object) -> list[int]:
        raise RuntimeError("in the middle")

    cache, configs = BankCache(), configs_of([{}])
    train(configs, digits, banks=cache)
    with pytest.raises(RuntimeError, match="in the middle"):
        train(configs, digits, banks=cache, on_epoch=fail)
    made = len(captures)
    train(configs, digits, banks=cache)
    assert len(captures) == made + 2


def test_nothing_is_kept_where_nothing_is_captured(digits: ImageData) -> None:
    cache = BankCache()
    bank = cache.take(configs_of([{}]), digits, CPU)
    gone = weakref.ref(bank)
    cache.keep(bank)
    del bank
    assert gone() is None


def test_a_worker_captures_jobs_of_one_form_once(tmp_path: Path, captures: list[int]) -> None:
    worker = Worker(WorkerSpec("cpu", 1, "digits", None))
    for seed in range(3):
        job = Job(tuple(configs_of([{"seed": seed}])), (tmp_path / f"{seed}.safetensors",))
        worker.train(job, lambda _: ())
    assert len(captures) == 2
    gc.unfreeze()  # what the worker froze
