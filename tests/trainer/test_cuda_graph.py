"""Programs: work that is captured and replayed, with a capture that any machine can do."""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch

from tests.support.trainings import MIXED, losses, small
from trainer.bank import Bank
from trainer.cuda_graph import GRAPHS, WARM_UP, CudaStream, Program, _cuda_graph, graphs_wanted
from trainer.data import ImageData
from trainer.errors import UserError
from trainer.results import Epoch
from trainer.train import train

CPU = torch.device("cpu")


class Recorder:
    """A capture that replays the work itself."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, work: Callable[[], None], stream: CudaStream) -> Callable[[], None]:
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay


def test_every_call_does_the_work_once_before_at_and_after_the_capture() -> None:
    done, recorder = [], Recorder()
    program = Program(CPU, recorder)
    for calls in range(1, WARM_UP + 4):
        program(lambda: done.append(recorder.replayed))
        assert len(done) == calls
        assert recorder.captured == (calls > WARM_UP)
        assert recorder.replayed == max(0, calls - WARM_UP)


def test_without_a_gpu_the_work_runs_as_it_is() -> None:
    done: list[int] = []
    program = Program(CPU)
    for _ in range(WARM_UP + 2):
        program(lambda: done.append(1))
    assert len(done) == WARM_UP + 2
    assert program.replay is None


@pytest.mark.parametrize(("value", "wanted"), [(None, True), ("1", True), ("0", False)])
def test_graphs_can_be_turned_off(
    value: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"FMNIST_STUDY_{GRAPHS}", raising=False)
    if value is not None:
        monkeypatch.setenv(f"FMNIST_STUDY_{GRAPHS}", value)
    assert graphs_wanted() == wanted


def test_another_choice_about_graphs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"FMNIST_STUDY_{GRAPHS}", "no")
    with pytest.raises(UserError, match="FMNIST_STUDY_CUDA_GRAPHS = 'no'"):
        graphs_wanted()


def test_training_by_replays_is_training(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [small(**member) for member in MIXED]
    plain = train(configs, digits)
    recorders = []

    def recorded(device: torch.device) -> Program:
        recorders.append(Recorder())
        return Program(device, recorders[-1])

    monkeypatch.setattr("trainer.bank.Program", recorded)
    replayed = train(configs, digits)
    assert recorders[0].replayed > 50  # the steps; the validations are three
    for one, other in zip(plain, replayed, strict=True):
        assert losses(one) == losses(other)


def test_a_captured_bank_is_left_when_half_of_it_is_idle_and_nobody_learns_otherwise(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [small(**member, epochs=6) for member in MIXED[:4]]
    leaving = {1: [2], 2: [0], 4: [1]}  # epoch -> positions

    def watch(epochs: Mapping[int, Epoch]) -> list[int]:
        (epoch,) = {figures.epoch for figures in epochs.values()}
        return leaving.get(epoch, [])

    plain = train(configs, digits, on_epoch=watch)
    sizes: list[int] = []
    keep = Bank.keep

    def kept(bank: Bank, positions: Sequence[int]) -> Bank:
        sizes.append(len(positions))
        return keep(bank, positions)

    monkeypatch.setattr(Bank, "keep", kept)
    monkeypatch.setattr("trainer.bank.Program", lambda device: Program(device, Recorder()))
    captured = train(configs, digits, on_epoch=watch)
    assert sizes == [2, 1]
    for one, other in zip(plain, captured, strict=True):
        assert one.outcome == other.outcome
        assert losses(one) == pytest.approx(losses(other), rel=1e-5)
        assert one.test_accuracy == other.test_accuracy


class BrokenCapture:
    """As CUDA ends a capture in which something failed: with an error of its own."""

    def __init__(self, graph: object, stream: CudaStream) -> None:
        del graph, stream

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")


@pytest.mark.parametrize(
    ("failure", "seen"),
    [(torch.OutOfMemoryError("CUDA out of memory"), "out of memory"), (ValueError(), "previous")],
)
def test_a_memory_that_fills_up_during_a_capture_is_told(
    failure: Exception, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        raise failure

    monkeypatch.setattr("torch.cuda.CUDAGraph", object)
    monkeypatch.setattr("torch.cuda.graph", BrokenCapture)
    with pytest.raises(RuntimeError, match=seen) as raised:
        _cuda_graph(work, None)
    assert isinstance(raised.value, torch.OutOfMemoryError) == (seen == "out of memory")
