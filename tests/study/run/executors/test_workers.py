"""Workers: the same figures wherever they are, replaced when they die, none left at the end."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from study.run.executors import Executor, Failure, Job, WorkerSpec
from study.run.executors.inline import InlineExecutor
from study.run.executors.local import LocalExecutor, _Process
from study.run.executors.worker import failure_of
from study.run.hardware import device_names, worker_specs
from tests.support.plans import tiny
from trainer import checkpoint
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.results import Epoch, Result

_SERVER = """
from multiprocessing import forkserver
from pathlib import Path
from study.run.executors.local import _unheard_by_children
with _unheard_by_children():
    forkserver.ensure_running()
print(Path(f"/proc/{forkserver._forkserver._forkserver_pid}/status").read_text())
"""
SPEC = WorkerSpec("cpu", 1, "digits", None)
CONFIG = tiny().base_config.replace(epochs=2)


class Recorder:
    """A watcher that hands out jobs and remembers what comes of them."""

    def __init__(self, jobs: Sequence[Job], stop: Mapping[int, Collection[int]] = {}) -> None:
        self.jobs, self.stop = list(jobs), stop  # stop: epoch -> positions
        self.results: dict[tuple[TrainConfig, ...], list[Result]] = {}
        self.failures: list[Failure] = []
        self.epochs = 0
        self.victim: psutil.Process | None = None  # killed at the first epoch of anyone

    def next_job(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        self.epochs += 1
        if self.victim:
            self.victim.send_signal(signal.SIGKILL)
            self.victim = None
        return self.stop.get(next(iter(epochs.values())).epoch, ())

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        self.results[job.configs] = list(results)

    def on_failure(self, job: Job, failure: Failure) -> None:
        self.failures.append(failure)
        if failure.kind == "infrastructure":
            self.jobs.append(job)

    def on_tick(self) -> None:
        pass


def job(folder: Path, *configs: TrainConfig) -> Job:
    name = "-".join(f"{config.learning_rate}_{config.seed}" for config in configs)
    paths = tuple(folder / f"{name}_{k}.safetensors" for k in range(len(configs)))
    return Job(configs, paths)


def figures(result: Result) -> list[Any]:
    """What must not depend on where a result was made: everything but times."""
    timed = ("seconds", "images_per_second", "latency_ms", "inference", "history")
    values = [value for key, value in result.to_dict().items() if key not in timed]
    return [*values, *((e.train_loss, e.val_loss, e.val_accuracy) for e in result.history)]


@pytest.fixture(scope="module")
def local() -> Iterator[LocalExecutor]:
    """Two workers, started once for all tests of this file."""
    executor = LocalExecutor([SPEC, SPEC])
    about = executor.start()
    assert about["dataset"]["name"] == "digits"
    assert about["devices"] == ["cpu (1 thread)"] * 2
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def inline() -> Iterator[InlineExecutor]:
    threads = torch.get_num_threads()
    executor = InlineExecutor([SPEC])
    executor.start()
    yield executor
    executor.close()
    torch.set_num_threads(threads)


def test_workers_and_this_process_come_to_the_same_figures(
    local: LocalExecutor, inline: InlineExecutor, tmp_path: Path
) -> None:
    configs = [CONFIG.replace(seed=seed) for seed in range(3)]
    bank = [CONFIG.replace(seed=seed, dropout=0.5) for seed in (7, 8)]
    found = []
    for folder, executor in ((tmp_path / "local", local), (tmp_path / "inline", inline)):
        watcher = Recorder([*(job(folder, config) for config in configs), job(folder, *bank)])
        executor.run(watcher)
        assert watcher.failures == []
        assert watcher.epochs == 8
        found.append({key: list(map(figures, own)) for key, own in watcher.results.items()})
    assert found[0] == found[1]
    assert len(found[0]) == 4
    assert all(result.state is None for result in watcher.results[tuple(bank)])
    for path in job(tmp_path / "inline", *bank).checkpoints:
        assert checkpoint.read(path)[1]["config"]["dropout"] == 0.5


@pytest.mark.parametrize("which", ["local", "inline"])
def test_a_verdict_stops_members(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    executor: Executor = request.getfixturevalue(which)
    members = tuple(CONFIG.replace(seed=seed, epochs=3) for seed in range(3))
    watcher = Recorder([job(tmp_path, *members)], stop={1: (1,)})
    executor.run(watcher)
    (results,) = watcher.results.values()
    assert [own.outcome for own in results] == ["finished", "stopped", "finished"]
    assert [len(own.history) for own in results] == [3, 1, 3]
    assert results[1].test_accuracy is None


def test_costs_come_in_the_order_of_the_configs(
    local: LocalExecutor, inline: InlineExecutor
) -> None:
    configs = [CONFIG.replace(width=width) for width in (4, 8, 12)]
    for executor in (local, inline):
        costs = executor.measure(configs)
        assert [cost.parameters for cost in costs] == sorted({c.parameters for c in costs})
        assert all(cost.seconds > 0 for cost in costs)


@pytest.mark.parametrize("which", ["local", "inline"])
def test_a_config_that_cannot_be_trained_fails_alone(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    executor: Executor = request.getfixturevalue(which)
    watcher = Recorder([job(tmp_path, CONFIG.replace(batch_size=512)), job(tmp_path, CONFIG)])
    executor.run(watcher)
    assert len(watcher.results) == 1
    (failure,) = watcher.failures
    assert (failure.kind, failure.reason) == (
        "user",
        "batch_size = 512: larger than the 160 training images",
    )
    with pytest.raises(UserError, match="batch_size = 512: larger"):
        executor.measure([CONFIG.replace(batch_size=512)])


def test_a_killed_worker_is_replaced_and_its_job_retried(
    local: LocalExecutor, tmp_path: Path
) -> None:
    before = {process.process.pid for process in local.processes}
    watcher = Recorder([job(tmp_path, CONFIG.replace(seed=seed, epochs=4)) for seed in range(4)])
    watcher.victim = psutil.Process(local.processes[0].process.pid)
    local.run(watcher)
    after = {process.process.pid for process in local.processes}
    assert len(watcher.results) == 4
    assert watcher.failures == [Failure("infrastructure", "worker process died (SIGKILL)")]
    assert len(before - after) == len(after - before) == 1


def test_a_worker_killed_while_it_starts_is_replaced_too(
    local: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.measure([CONFIG] * 2)  # all workers are there
    watcher = Recorder([job(tmp_path, CONFIG.replace(seed=seed, epochs=40)) for seed in range(4)])
    watcher.victim = psutil.Process(local.processes[0].process.pid)
    killed: list[int | None] = []

    def kill_the_first_replacement() -> None:
        starting = [process for process in local.processes if process.starting]
        if starting and not killed:
            killed.append(starting[0].process.pid)
            starting[0].process.kill()

    monkeypatch.setattr(watcher, "on_tick", kill_the_first_replacement)
    local.run(watcher)
    assert killed
    assert len(watcher.results) == 4
    assert len(watcher.failures) == 1  # only jobs fail, not starts


def test_workers_that_never_start_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = LocalExecutor([SPEC])
    executor.start()
    watcher = Recorder([job(tmp_path, CONFIG)])
    watcher.victim = psutil.Process(executor.processes[0].process.pid)
    executor.processes[0].spec = replace(SPEC, device="cuda:9")  # of the replacement
    try:
        with pytest.raises(UserError, match=r"workers cannot be started: device = 'cuda:9'"):
            executor.run(watcher)
    finally:
        executor.close()


def test_no_process_is_left() -> None:
    executor = LocalExecutor([SPEC])
    executor.start()
    pid = executor.processes[0].process.pid
    assert psutil.pid_exists(pid)
    executor.close()
    assert not psutil.pid_exists(pid)
    executor.close()  # twice is fine


@pytest.mark.parametrize("which", [LocalExecutor, InlineExecutor])
def test_data_that_cannot_be_used_is_the_user_s_error(which: type[Any], tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte.gz").write_bytes(b"damaged")
    executor = which([WorkerSpec("cpu", 1, "fashion-mnist", tmp_path)])
    try:
        with pytest.raises(UserError, match="is not the official fashion-mnist file: MD5 is "):
            executor.start()
    finally:
        executor.close()


def test_a_worker_that_dies_in_the_middle_of_a_message_is_dead() -> None:
    class Dead:
        exitcode = -signal.SIGKILL

        def join(self, timeout: float) -> None:
            pass

    ours, theirs = multiprocessing.Pipe()
    process = object.__new__(_Process)
    process.pipe, process.process = ours, Dead()
    os.write(theirs.fileno(), b"\x00\x00\x10\x00part")  # 4096 bytes are announced
    theirs.close()
    assert process.receive() == (
        "died",
        Failure("infrastructure", "worker process died (SIGKILL)"),
    )
    assert isinstance(ours, Connection)
    ours.close()


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (UserError("width = 0: wrong"), "user", "width = 0: wrong"),
        (MemoryError("no room"), "memory", "MemoryError: no room"),
        (torch.OutOfMemoryError("CUDA\nmore"), "memory", "OutOfMemoryError: CUDA"),
        (OSError(28, "No space left"), "disk", "OSError: [Errno 28] No space left"),
        (OSError(5, "I/O error"), "infrastructure", "OSError: [Errno 5] I/O error"),
        (ValueError(), "error", "ValueError: "),
        (torch.AcceleratorError("CUDA error: an illegal memory access"), "infrastructure", "Acc"),
        (torch.AcceleratorError("CUDA error: out of memory"), "memory", "Acc"),
        (RuntimeError("CUDA error: unspecified launch failure\nmore"), "infrastructure", "Run"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "infrastructure", "Run"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), "infrastructure", "Run"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), "memory", "Run"),
        (RuntimeError("shapes do not fit"), "error", "RuntimeError: shapes"),
    ],
)
def test_failures_have_kinds(error: Exception, kind: str, reason: str) -> None:
    try:
        raise error
    except Exception as caught:
        found = failure_of(caught)
    assert found.kind == kind
    assert found.reason.startswith(reason)
    assert "\n" not in found.reason


def test_the_machine_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.run.hardware.available_cores", lambda: 8)

    def shares(
        devices: list[str], workers: int | None, jobs: int, threads: int | None = None
    ) -> list[tuple[str, int]]:
        specs = worker_specs(devices, workers, jobs, "digits", None, threads=threads)
        return [(spec.device, spec.threads) for spec in specs]

    assert shares(["cpu"], None, 100) == [("cpu", 1)] * 8
    assert shares(["cpu"], None, 2) == [("cpu", 1)] * 2  # as if there were more
    assert shares(["cpu"], 3, 100) == [("cpu", 2)] * 3
    assert shares(["cpu"], 16, 100) == [("cpu", 1)] * 16
    assert shares(["cuda:0", "cuda:1"], None, 100) == [("cuda:0", 4), ("cuda:1", 4)]
    assert shares(["cuda:0", "cuda:1"], None, 1) == [("cuda:0", 8)]
    assert shares(["cpu"], None, 0) == [("cpu", 1)]
    # What a study has fixed stays, whoever goes on with it.
    assert shares(["cpu"], None, 100, 2) == [("cpu", 2)] * 4
    assert shares(["cpu"], None, 1, 2) == [("cpu", 2)]
    assert shares(["cpu"], 8, 100, 2) == [("cpu", 2)] * 8
    assert shares(["cpu"], None, 100, 16) == [("cpu", 16)]


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cuda:", "cuda:²", "cuda:-1", "CPU", ""])
def test_no_such_device(name: str) -> None:
    if name == "cuda:" and torch.cuda.is_available():
        pytest.skip("where there are GPUs, cuda: stands for all of them")
    with pytest.raises(UserError, match=r"^device = "):
        device_names(name)


def test_a_gpu_that_is_not_there_is_refused_and_never_replaced() -> None:
    with pytest.raises(UserError, match=r"device = 'cuda:99': this machine has only cpu"):
        device_names("cuda:99")
    assert device_names("cpu") == ["cpu"]


def test_the_server_of_workers_never_hears_ctrl_c_not_even_while_it_loads() -> None:
    status = subprocess.run(
        [sys.executable, "-c", _SERVER], capture_output=True, text=True, check=True
    ).stdout
    (blocked,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    assert int(blocked, 16) & 1 << signal.SIGINT - 1
