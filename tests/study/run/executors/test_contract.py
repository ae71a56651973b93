"""What every executor keeps to, wherever it trains: each test runs on all that it applies to."""

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.run.executors import Executor, Failure, Job
from study.run.executors.inline import InlineExecutor
from tests.faults.machine import SECONDS, is_alive, until, wait_for_the_end
from tests.study.run.executors.conftest import SPEC, Kind
from tests.support.plans import tiny
from trainer import checkpoint
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.results import Epoch, Result

CONFIG = tiny().base_config.replace(epochs=2)
SEEDS = 4


class Recorder:
    """A watcher that hands out jobs, tries again what accidents befell, and does something once."""

    def __init__(self, jobs: Sequence[Job], do: Any = None, at: int = 1) -> None:
        self.jobs, self.do, self.at = list(jobs), do, at
        self.stop: Mapping[int, Collection[int]] = {}  # epoch -> positions
        self.results: dict[tuple[TrainConfig, ...], list[Result]] = {}
        self.failures: list[Failure] = []
        self.epochs: Counter[int] = Counter()
        self.after_failure: Callable[[], object] = lambda: None

    def next_job(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        del job
        epoch = next(iter(epochs.values())).epoch
        self.epochs[epoch] += 1
        if self.do and epoch == self.at:
            do, self.do = self.do, None
            do()
        return self.stop.get(epoch, ())

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        assert job.configs not in self.results, "a job has two results"
        self.results[job.configs] = list(results)

    def on_failure(self, job: Job, failure: Failure) -> None:
        self.failures.append(failure)
        self.after_failure()
        if failure.kind in ("infrastructure", "memory"):
            self.jobs.append(job)

    def on_tick(self) -> None:
        pass


def job(folder: Path, *configs: TrainConfig) -> Job:
    paths = tuple(folder / f"{hash(configs)}_{k}.safetensors" for k in range(len(configs)))
    return Job(configs, paths, tuple(path.with_suffix(".resume") for path in paths))


def figures(result: Result) -> list[Any]:
    """Everything that must not depend on where a result was made: all but times."""
    timed = ("seconds", "images_per_second", "latency_ms", "inference", "history")
    values = [value for key, value in result.to_dict().items() if key not in timed]
    return [*values, *((e.train_loss, e.val_loss, e.val_accuracy) for e in result.history)]


def seeds(folder: Path, **changes: Any) -> list[Job]:
    return [job(folder, CONFIG.replace(seed=seed, **changes)) for seed in range(SEEDS)]


@cache
def undisturbed(*configs: TrainConfig) -> list[Any]:
    """Train configs in this process."""
    import tempfile

    import torch

    threads = torch.get_num_threads()
    executor = InlineExecutor([SPEC])
    executor.start()
    with tempfile.TemporaryDirectory() as folder:
        watcher = Recorder([job(Path(folder), *configs)])
        executor.run(watcher)
    torch.set_num_threads(threads)
    (results,) = watcher.results.values()
    return [figures(result) for result in results]


def assert_as_undisturbed(watcher: Recorder, jobs: Sequence[Job]) -> None:
    """Every job has its results, to the bit, and the weights are in the owner's folder."""
    assert watcher.results.keys() == {own.configs for own in jobs}
    for own in jobs:
        results = watcher.results[own.configs]
        assert [figures(result) for result in results] == undisturbed(*own.configs)
        for config, path in zip(own.configs, own.checkpoints, strict=True):
            weights, about = checkpoint.read(path)
            assert weights
            assert about["config"] == config.to_dict()


def test_the_same_cells_come_to_the_same_results_to_the_bit(kind: Kind, tmp_path: Path) -> None:
    bank = [CONFIG.replace(seed=seed, dropout=0.5) for seed in (7, 8)]
    jobs = [*seeds(tmp_path), job(tmp_path, *bank)]
    with kind.started() as executor:
        watcher = Recorder(jobs)
        executor.run(watcher)
        costs = executor.measure([CONFIG.replace(width=width) for width in (4, 8, 12)])
    assert watcher.failures == []
    assert watcher.epochs == {1: SEEDS + 1, 2: SEEDS + 1}
    assert_as_undisturbed(watcher, jobs)
    assert [cost.parameters for cost in costs] == sorted({cost.parameters for cost in costs})


def test_verdicts_stop_members_and_faults_stay_with_their_job(kind: Kind, tmp_path: Path) -> None:
    members = tuple(CONFIG.replace(seed=seed, epochs=3) for seed in range(3))
    wrong = CONFIG.replace(batch_size=512)
    with kind.started() as executor:
        watcher = Recorder([job(tmp_path, wrong), job(tmp_path, *members)])
        watcher.stop = {1: (1,)}
        executor.run(watcher)
        with pytest.raises(UserError, match="batch_size = 512: larger"):
            executor.measure([wrong])
    (results,) = watcher.results.values()
    assert [own.outcome for own in results] == ["finished", "stopped", "finished"]
    assert [len(own.history) for own in results] == [3, 1, 3]
    words = "batch_size = 512: larger than the 160 training images"
    assert watcher.failures == [Failure("user", words)]


def test_a_worker_that_dies_costs_time_only(parallel: Kind, tmp_path: Path) -> None:
    jobs = seeds(tmp_path, epochs=8)
    with parallel.started() as executor:

        def kill() -> None:
            parallel.workers(executor)[0].kill()

        watcher = Recorder(jobs, kill)
        executor.run(watcher)
    assert watcher.failures == [Failure("infrastructure", "worker process died (SIGKILL)")]
    assert_as_undisturbed(watcher, jobs)


def test_a_worker_that_hangs_is_replaced(parallel: Kind, tmp_path: Path) -> None:
    jobs = seeds(tmp_path)
    with parallel.started("hang") as executor:
        watcher = Recorder(jobs)
        executor.run(watcher)
    words = "worker process lives, but its work stood still for 6 s"
    assert watcher.failures == [Failure("infrastructure", words)]
    assert_as_undisturbed(watcher, jobs)


def test_a_slow_worker_is_waited_for(parallel: Kind, tmp_path: Path) -> None:
    jobs = seeds(tmp_path, epochs=4)
    with parallel.started() as executor:

        def pause() -> None:
            slow = parallel.workers(executor)[0]
            slow.suspend()
            threading.Timer(3, slow.resume).start()

        watcher = Recorder(jobs, pause)
        executor.run(watcher)
    assert watcher.failures == []
    assert_as_undisturbed(watcher, jobs)


def test_a_full_memory_is_told_as_such(parallel: Kind, tmp_path: Path) -> None:
    jobs = seeds(tmp_path)
    with parallel.started("memory") as executor:
        watcher = Recorder(jobs)
        executor.run(watcher)
    assert watcher.failures == [Failure("memory", "MemoryError: no room")]
    assert_as_undisturbed(watcher, jobs)


class Cancelled(BaseException):
    """What ends a run from outside."""


def test_a_run_that_is_cancelled_leaves_no_process(parallel: Kind, tmp_path: Path) -> None:
    def cancel() -> None:
        raise Cancelled

    with parallel.started() as executor:
        processes = parallel.workers(executor)
        assert len(processes) == 2
        watcher = Recorder(seeds(tmp_path, epochs=100_000), cancel, at=2)
        with pytest.raises(Cancelled):
            executor.run(watcher)
    wait_for_the_end(processes)
    assert watcher.results == {}


# Nodes.


@pytest.mark.slow
def test_a_node_that_is_lost_costs_time_only_and_its_training_goes_on_from_the_owner_s_folder(
    elastic: Kind, tmp_path: Path
) -> None:
    jobs = seeds(tmp_path, epochs=30)
    left: list[Path] = []
    assert elastic.cluster is not None
    cluster = elastic.cluster

    def lose() -> None:
        left.extend(path for own in jobs for path in own.resume_points if path.exists())
        cluster.kill_node()

    with elastic.started(agent="SavingAgent") as executor:
        watcher = Recorder(jobs, lose, at=20)
        executor.run(watcher)
    assert [failure.kind for failure in watcher.failures] == ["infrastructure"]
    assert " was lost: " in watcher.failures[0].reason
    assert left
    assert_as_undisturbed(watcher, jobs)


@pytest.mark.slow
def test_a_node_that_joins_gets_work(elastic: Kind, tmp_path: Path) -> None:
    from study.run.executors.ray import RayExecutor

    assert elastic.cluster is not None
    cluster = elastic.cluster
    cluster.kill_node()
    jobs: list[Job] = []
    with elastic.started() as executor:
        assert isinstance(executor, RayExecutor)
        assert executor.slots == 1
        nodes = executor.nodes

        class UntilBothWork(Recorder):
            """There is something to do until two nodes train at once, whenever that is."""

            both = False

            def next_job(self) -> Job | None:
                if self.both:
                    return None
                jobs.append(job(tmp_path, CONFIG.replace(seed=len(jobs), epochs=60)))
                return jobs[-1]

            def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
                self.both = self.both or [len(node.jobs) for node in nodes.values()] == [1, 1]
                return super().on_epoch(job, epochs)

        watcher = UntilBothWork([], cluster.grow)
        executor.run(watcher)
        assert executor.slots == 2
    assert watcher.failures == []
    assert_as_undisturbed(watcher, jobs)


@pytest.mark.slow
def test_an_agent_that_is_stopped_is_given_up_and_says_nothing_later(
    elastic: Kind, tmp_path: Path
) -> None:
    from study.run.executors.ray import RayExecutor
    from tests.support.cluster import agents, workers_of

    jobs = seeds(tmp_path, epochs=40)
    with elastic.started() as executor:
        assert isinstance(executor, RayExecutor)
        executor.silence = 4.0
        stopped = next(agent for agent in agents() if workers_of([agent]))
        watcher = Recorder(jobs, stopped.suspend)
        watcher.after_failure = lambda: setattr(executor, "silence", SECONDS)
        executor.run(watcher)
        reasons = [failure.reason for failure in watcher.failures]
        assert [reason.partition(" was lost: ")[2] for reason in reasons] == [
            "it said nothing for 4 s"
        ]
        with contextlib.suppress(psutil.NoSuchProcess):  # Ray may have ended it by now
            stopped.resume()  # its lifeline is cut
        until(lambda: not is_alive(stopped), "its end")
    assert_as_undisturbed(watcher, jobs)


@pytest.mark.slow
def test_a_report_of_an_attempt_that_is_over_is_not_listened_to(
    elastic: Kind, tmp_path: Path
) -> None:
    from study.run.executors.ray import RayExecutor

    with elastic.started() as executor:
        assert isinstance(executor, RayExecutor)
        (own,) = jobs = [job(tmp_path, CONFIG)]
        watcher = Recorder(jobs)
        executor.run(watcher)
        node = next(iter(executor.nodes.values()))
        late: tuple[tuple[str, Any], ...] = (
            ("results", ([], [["weights"]])),
            ("failed", Failure("error", "late")),
            ("epoch", {}),
        )
        for kind, payload in late:
            assert list(executor._reported(node, executor.number, kind, payload)) == []
            assert list(executor._reported(node, 10**6, kind, payload)) == []
    assert watcher.results.keys() == {own.configs}


def test_executors_are_what_they_claim(kind: Kind) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with kind.started() as executor:
        typed: Executor = executor
        assert typed.slots == (1 if kind.name == "inline" else 2)
        executor.close()
        executor.close()  # twice is fine
    assert signal.getsignal(signal.SIGTERM) is handler
