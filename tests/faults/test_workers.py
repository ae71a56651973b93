"""Workers die, hang and are paused; long trainings go on where they were."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from study.run.executors import Failure, Job, WorkerSpec, local
from study.run.executors.local import LocalExecutor
from tests.faults.machine import (
    assert_sound,
    attributes,
    kill,
    results,
    running,
    states,
    until,
    wait_for_the_end,
    write_plan,
)
from tests.support import workers
from tests.support.plans import tiny
from trainer import checkpoint
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.results import Epoch, Result
from trainer.resume import ResumePoints
from trainer.train import train

SPEC = WorkerSpec("cpu", 1, "digits", None)
CONFIG = tiny().base_config.replace(epochs=2)


@pytest.mark.parametrize(
    ("workers", "seeds", "seconds"),
    [
        pytest.param(2, 6, 3.0, marks=pytest.mark.slow),
        pytest.param(4, 100, 1.0, marks=pytest.mark.slow),
    ],
    ids=["12 trials", "200 trials"],
)
def test_a_storm_of_kills_leaves_exactly_the_planned_cells(
    tmp_path: Path, workers: int, seeds: int, seconds: float
) -> None:
    chance = random.Random(0)
    write_plan(tmp_path, seeds=seeds, epochs=2)
    file = tmp_path / "studies.db"
    killed = 0
    # A cell that was hit three times is left to the next start, whose workers may live at last.
    for storm in (True, True, True, False):
        words = ["run", "tiny.toml", "--workers", str(workers)]
        with running("study.cli", words, tmp_path) as own:
            until(lambda: own.workers, "workers")
            while storm and own.process.poll() is None:
                alive = own.workers
                killed += bool(alive) and kill(chance.choice(alive))
                time.sleep(seconds)
            assert own.ends() in (0, 1), own.err
        if own.process.returncode == 0:
            break
    assert killed > 0
    assert len(results(file)) == 2 * seeds
    found = attributes(file)
    assert Counter(state for state, _ in found).keys() <= {"COMPLETE", "FAIL"}
    kinds = {own["failure_kind"] for state, own in found if state == "FAIL"}
    assert kinds <= {"infrastructure"}
    for state, about in found:
        if state == "COMPLETE":
            weights, described = checkpoint.read(tmp_path / about["checkpoint"])
            assert described["config"] == about["config"]
            assert weights
    assert_sound(file)


class Watch:
    """A watcher that hands out jobs, retries them, and does something at an epoch."""

    def __init__(self, jobs: Sequence[Job], at: int = 0, do: Any = None) -> None:
        self.jobs, self.at, self.do = list(jobs), at, do
        self.results: list[tuple[Job, Sequence[Result]]] = []
        self.failures: list[Failure] = []
        self.epochs: list[int] = []

    def next_job(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        del job
        self.epochs.append(epochs[0].epoch)
        if self.do and epochs[0].epoch == self.at:
            self.do()
            self.do = None
        return ()

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        self.results.append((job, results))

    def on_failure(self, job: Job, failure: Failure) -> None:
        self.failures.append(failure)
        self.jobs.append(job)

    def on_tick(self) -> None:
        pass


def job(folder: Path, *configs: TrainConfig) -> Job:
    paths = [folder / f"{n}.safetensors" for n in range(len(configs))]
    return Job(configs, tuple(paths), tuple(path.with_suffix(".resume") for path in paths))


def figures(result: Result) -> list[Any]:
    """Everything but times."""
    return [
        result.outcome, result.best_epoch, result.val_accuracy, result.val_loss,
        result.test_accuracy, result.test_loss,
        *((e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy, e.learning_rate)
          for e in result.history),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("optimizer", "members"),
    [
        ("adam", 1),
        *(
            pytest.param(*own, marks=pytest.mark.slow)
            for own in (("adam", 3), ("sgd", 1), ("sgd", 3))
        ),
    ],
)
def test_a_training_whose_worker_was_killed_equals_an_undisturbed_one(
    tmp_path: Path, digits: ImageData, optimizer: str, members: int
) -> None:
    configs = [
        CONFIG.replace(seed=seed, epochs=6, dropout=0.3, augmentation="flip+erase",
                       optimizer=optimizer, schedule="cosine")
        for seed in range(members)
    ]  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        undisturbed = train(configs, digits)
    finally:
        torch.set_num_threads(threads)
    executor = LocalExecutor([replace(SPEC, resume_seconds=0.0)])
    executor.start()
    own = job(tmp_path, *configs)
    watch = Watch([own], 4, lambda: kill(psutil.Process(executor.processes[0].process.pid)))
    try:
        executor.run(watch)
    finally:
        executor.close()
    assert [failure.kind for failure in watch.failures] == ["infrastructure"]
    assert watch.epochs == [1, 2, 3, 4, *range(1, 7)]  # told again, not trained again
    ((_, found),) = watch.results
    for result, before, path in zip(found, undisturbed, own.checkpoints, strict=True):
        assert figures(result) == figures(before)
        weights, _ = checkpoint.read(path)
        assert before.state is not None
        assert weights.keys() == before.state.keys()
        assert all(torch.equal(weights[name], before.state[name]) for name in weights)


class Interrupted(Exception):  # noqa: N818 # not a mistake
    pass


def interrupt_after(epochs: int) -> Any:
    def on_epoch(told: Mapping[int, Epoch]) -> list[int]:
        if next(iter(told.values())).epoch > epochs:
            raise Interrupted
        return []

    return on_epoch


def test_members_that_ended_before_stay_as_they_were(tmp_path: Path, digits: ImageData) -> None:
    configs = [
        CONFIG.replace(seed=seed, epochs=5, subset=200) for seed in range(3)
    ]  # fmt: skip

    def stop_one(told: Mapping[int, Epoch]) -> list[int]:
        return [1] if next(iter(told.values())).epoch == 2 else []

    undisturbed = train(configs, digits, on_epoch=stop_one)
    paths = [tmp_path / f"{n}.resume" for n in range(3)]

    def stop_one_then_fail(told: Mapping[int, Epoch]) -> list[int]:
        interrupt_after(3)(told)
        return stop_one(told)

    with pytest.raises(Interrupted):
        train(configs, digits, on_epoch=stop_one_then_fail, resume=ResumePoints(paths, {}, 0))
    again = train(configs, digits, on_epoch=stop_one, resume=ResumePoints(paths, {}, 0))
    assert [figures(result) for result in again] == [figures(result) for result in undisturbed]
    # A verdict may also be another one now.
    other = train(
        configs,
        digits,
        on_epoch=lambda told: [0, 1] if next(iter(told.values())).epoch == 2 else [],
        resume=ResumePoints(paths, {}, 0),
    )
    assert [result.outcome for result in other] == ["stopped", "stopped", "finished"]
    assert len(other[0].history) == 2


@pytest.mark.parametrize("what", ["missing", "flipped", "cut", "another config", "other data"])
def test_a_resume_point_that_does_not_fit_is_not_used(
    tmp_path: Path, digits: ImageData, what: str
) -> None:
    config, about = CONFIG.replace(epochs=3), {"dataset": digits.sha256}
    path = tmp_path / "x.resume"
    with pytest.raises(Interrupted):
        train([config], digits, on_epoch=interrupt_after(2), resume=ResumePoints([path], about, 0))
    assert ResumePoints([path], about).read([config.to_dict()]) is not None
    content = bytearray(path.read_bytes())
    if what == "missing":
        path.unlink()
    elif what == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif what == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif what == "another config":
        config = config.replace(learning_rate=0.01)
    else:
        about = {"dataset": "other"}
    assert ResumePoints([path], about).read([config.to_dict()]) is None
    (again,) = train([config], digits, resume=ResumePoints([path], about))
    (whole,) = train([config], digits)
    assert figures(again) == figures(whole)


def test_a_resume_point_is_written_whole_or_not_at_all_and_only_when_due(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.resume"
    train([CONFIG], digits, resume=ResumePoints([path], {}))
    assert list(tmp_path.iterdir()) == []  # a short training writes none

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr("os.fsync", full)
        (result,) = train([CONFIG], digits, resume=ResumePoints([path], {}, 0))
    assert result.outcome == "finished"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_finished_trial_leaves_no_resume_point(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=1)
    with running("study.cli", ["run", "tiny.toml", "--workers", "1"], tmp_path) as own:
        assert own.ends() == 0, own.err
    assert not list(tmp_path.rglob("*.resume"))


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_and_its_late_result_comes_to_nothing(
    tmp_path: Path,
) -> None:
    executor = workers.ImpatientExecutor([SPEC], silence=12.0)
    executor.start()
    paused = psutil.Process(executor.processes[0].process.pid)
    own = job(tmp_path, CONFIG)
    watch = Watch([own], 1, lambda: kill(paused, signal.SIGSTOP))
    try:
        executor.run(watch)
    finally:
        executor.close()
    assert watch.failures == [Failure("infrastructure", "worker process said nothing for 12 s")]
    assert len(watch.results) == 1
    assert not paused.is_running()


@pytest.mark.slow
def test_a_worker_that_is_paused_for_a_moment_goes_on(tmp_path: Path) -> None:
    executor = LocalExecutor([SPEC])
    executor.start()
    paused = psutil.Process(executor.processes[0].process.pid)

    def pause() -> None:
        kill(paused, signal.SIGSTOP)
        threading.Timer(2, lambda: kill(paused, signal.SIGCONT)).start()

    watch = Watch([job(tmp_path, CONFIG)], 1, pause)
    try:
        executor.run(watch)
    finally:
        executor.close()
    assert watch.failures == []
    assert len(watch.results) == 1


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True], ids=["at work", "stopped"])
def test_workers_do_not_outlive_a_killed_owner(tmp_path: Path, stopped: bool) -> None:
    write_plan(tmp_path, seeds=1, epochs=100_000)
    file = tmp_path / "studies.db"
    with running("study.cli", ["run", "tiny.toml", "--workers", "2"], tmp_path) as own:
        until(lambda: states(file)["RUNNING"] == 2, "trials that run")
        family = psutil.Process(own.process.pid).children(recursive=True)
        assert len(own.workers) == 2
        if stopped:
            for worker in own.workers:
                worker.suspend()
        own.process.kill()
        own.process.wait()
        assert len(family) >= 2
        wait_for_the_end(family)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["starting", "measuring"])
def test_a_worker_that_dies_before_it_trains_is_replaced(moment: str) -> None:
    executor = LocalExecutor([SPEC, SPEC])
    done = threading.Event()

    def hunt() -> None:
        while not done.is_set():
            if executor.processes and executor.processes[0].process.pid:
                pid = executor.processes[0].process.pid
                kill(psutil.Process(pid))
                return
            time.sleep(0.001)

    hunter = threading.Thread(target=hunt)
    try:
        if moment == "starting":
            hunter.start()
            executor.start()
        else:
            executor.start()
            hunter.start()
        costs = executor.measure([CONFIG.replace(width=width) for width in range(4, 20)])
        assert len(costs) == 16
        assert all(cost.seconds > 0 for cost in costs)
    finally:
        done.set()
        hunter.join()
        executor.close()


@pytest.mark.slow
def test_a_fault_of_the_device_ends_the_worker_and_another_one_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_serve", workers.serve_with_a_fault)
    watch, processes = run_in_workers(tmp_path, monkeypatch, LocalExecutor([SPEC]))
    assert [failure.kind for failure in watch.failures] == ["infrastructure"]
    assert "illegal memory access" in watch.failures[0].reason
    assert len(watch.results) == 1
    assert len(processes) == 2  # the faulty one was not asked again


@pytest.mark.slow
def test_a_worker_that_lives_but_does_not_get_on_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_serve", workers.serve_with_a_hanging_device)
    executor = workers.ImpatientExecutor([SPEC], stall=8.0)  # it says that it lives every 5 s
    watch, processes = run_in_workers(tmp_path, monkeypatch, executor)
    assert [failure.kind for failure in watch.failures] == ["infrastructure"]
    assert "stood still for 8 s" in watch.failures[0].reason
    assert len(watch.results) == 1
    assert len(processes) == 2


def run_in_workers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, executor: LocalExecutor
) -> tuple[Watch, set[int]]:
    """Train one job; return who watched, and the worker processes that there were."""
    monkeypatch.setenv(workers.FOLDER, str(folder))
    forkserver._forkserver._stop()  # type: ignore[attr-defined] # its children take its environment
    processes: set[int] = set()
    started = local._started

    def counted(*args: Any) -> Any:
        process = started(*args)
        processes.add(process.pid)
        return process

    monkeypatch.setattr(local, "_started", counted)
    watch = Watch([job(folder, CONFIG)])
    executor.start()
    try:
        executor.run(watch)
    finally:
        executor.close()
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
    return watch, processes
