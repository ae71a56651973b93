"""A bank's life: what it takes, when it is freed, what is drawn ahead."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch

from tests.support.trainings import MIXED, losses, small
from trainer import bank as banks
from trainer import progress
from trainer.bank import Bank
from trainer.cuda_graph import STEPS_AHEAD, CudaStream, Pace, Program
from trainer.data import ImageData, split
from trainer.networks import Networks
from trainer.train import train

CPU = torch.device("cpu")


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Iterator["weakref.WeakSet[Networks]"]:
    """The networks that are in memory; the garbage collector is off, reference counts are not."""
    living: weakref.WeakSet[Networks] = weakref.WeakSet()
    init = Networks.__init__

    def counted(self: Networks, *args: object, **options: object) -> None:
        living.add(self)
        init(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Networks, "__init__", counted)
    gc.collect()
    gc.disable()
    yield living
    gc.enable()


def replaying(work: Callable[[], None], stream: CudaStream) -> Callable[[], None]:
    """A capture that holds what a CUDA graph holds: nothing of the bank."""
    del work, stream
    return lambda: None


@pytest.mark.parametrize("capture", [None, replaying])
def test_a_bank_is_freed_as_soon_as_it_is_let_go(
    digits: ImageData,
    alive: "weakref.WeakSet[Networks]",
    capture: Callable[..., Callable[[], None]] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(banks, "Program", lambda device: Program(device, capture))
    bank = Bank([small(**member) for member in MIXED], digits, CPU)
    bank.train_epoch(1)
    bank.validate()
    assert len(alive) == 1
    del bank
    assert len(alive) == 0


def test_a_training_leaves_no_bank_behind_though_members_left_on_the_way(
    digits: ImageData, alive: "weakref.WeakSet[Networks]"
) -> None:
    most = []

    def stop_the_first(epochs: object) -> list[int]:
        del epochs
        most.append(len(alive))
        return [0] if len(most) == 1 else []

    results = train([small(**member) for member in MIXED], digits, on_epoch=stop_the_first)
    assert len(results) == len(MIXED)
    assert (max(most), len(alive)) == (1, 0)


def test_a_split_is_drawn_once_for_all_that_share_it(digits: ImageData) -> None:
    first = split(digits, small(seed=5, subset=500))
    assert split(digits, small(seed=5, subset=500, width=16, learning_rate=0.1)) is first
    assert split(digits.to(CPU), small(seed=5, subset=500)) is first
    for other in (small(seed=6, subset=500), small(seed=5, subset=501), small(seed=5)):
        assert split(digits, other) is not first


def test_splits_that_are_kept_do_not_grow_without_end(digits: ImageData) -> None:
    first = split(digits, small(seed=0))
    for seed in range(100):
        split(digits, small(seed=seed))
    again = split(digits, small(seed=0))
    assert again is not first
    assert all(torch.equal(part, other) for part, other in zip(again, first, strict=True))
    assert len(digits.splits) == 64


def test_the_order_that_is_drawn_ahead_is_that_of_the_epoch(digits: ImageData) -> None:
    configs = [small(**member) for member in MIXED[:2]]
    bank, fresh = Bank(configs, digits, CPU), Bank(configs, digits, CPU)
    bank.train_epoch(1)
    assert bank.drawn is not None
    assert torch.equal(bank.order(2), fresh.order(2))
    bank.train_epoch(2)
    assert torch.equal(bank.order(1), fresh.order(1))  # another one than was drawn
    bank.train_epoch(3)
    assert bank.drawn is None  # there is no fourth


def test_the_test_set_is_evaluated_without_optimiser_split_or_streams(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Counted(Bank):
        def __init__(self, *args: object, **options: object) -> None:
            made.append(1)
            super().__init__(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("trainer.bank_cache.Bank", Counted)
    results = train([small(epochs=1, seed=0), small(epochs=1, seed=1)], digits)
    assert all(result.test_accuracy is not None for result in results)
    assert made == [1]


def test_weights_that_come_from_elsewhere_are_not_drawn_first(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    (result,) = train([small(epochs=1)], digits)
    assert result.state is not None

    def refuse(*_: object) -> None:
        raise AssertionError("weights were drawn")

    monkeypatch.setattr("trainer.models.initialise", refuse)
    again = Networks.trained(small(epochs=1), result.state, digits, CPU)
    assert again.test().accuracy[0] == result.test_accuracy
    missing = dict(list(result.state.items())[1:])
    with pytest.raises(KeyError):
        Networks.trained(small(epochs=1), missing, digits, CPU)


def test_progress_is_counted_with_every_step_and_every_evaluated_batch(digits: ImageData) -> None:
    bank = Bank([small()], digits, CPU)
    before = progress.done()
    bank.train_epoch(1)
    assert progress.done() - before == bank.steps_per_epoch
    before = progress.done()
    bank.validate()
    assert progress.done() - before == -(-len(bank.val_indices) // 256)


class FakeEvent:
    """A mark on a GPU that has not come far: who waits for it, waits."""

    waited: list["FakeEvent"]

    def record(self, stream: object) -> None:
        del stream

    def synchronize(self) -> None:
        self.waited.append(self)


def test_steps_of_a_gpu_count_only_when_the_device_has_come_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakeEvent.waited = []
    monkeypatch.setattr("torch.cuda.Event", FakeEvent)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: device)
    pace = Pace(torch.device("cuda", 0))
    before = progress.done()
    for _ in range(2 * STEPS_AHEAD - 1):
        pace.tick()
    assert (len(FakeEvent.waited), progress.done()) == (0, before)
    pace.tick()  # the host is twice as far as it may be: it waits for the first mark
    assert (len(FakeEvent.waited), progress.done()) == (1, before + 1)


def test_training_goes_on_as_before_where_steps_are_marked(digits: ImageData) -> None:
    first, second = (train([small(dropout=0.3)], digits)[0] for _ in range(2))
    assert losses(first) == losses(second)
