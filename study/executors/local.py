"""Persistent worker processes on this machine: one thread each on CPUs, one GPU each on CUDA.

Parent and worker talk through a pipe. After each epoch the worker waits for the verdict on its
members, so decisions never depend on timing. A dead worker is seen at once: its pipe closes.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Collection, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from study.executors import TICK_SECONDS, Failure, Job, Watcher, WorkerSpec, describe_all
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.results import Cost, Epoch

MAX_FAILED_STARTS = 3  # in a row, then there is no point in trying on

_context = multiprocessing.get_context("spawn")


class LocalExecutor:
    """Worker processes on this machine, one per spec."""

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self.specs = list(specs)
        self.slots = len(self.specs)
        self.processes: list[_Process] = []
        self.failed_starts = 0  # in a row

    def start(self) -> dict[str, Any]:
        """Start every worker and wait until all are ready.

        Raises:
            UserError: a worker cannot work here.
        """
        self.processes = [_Process(spec) for spec in self.specs]
        return describe_all([process.wait_until_ready() for process in self.processes])

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Return what each config will cost; all workers measure at once.

        Raises:
            UserError: a config cannot be trained here.
        """
        for i, process in enumerate(self.processes):
            if process.starting:
                process.wait_until_ready()
            process.send(("measure", list(configs[i :: self.slots])))
        answers = [
            process.receive() for process in self.processes
        ]  # all, so that none is left over
        costs: dict[int, Cost] = {}
        for i, (kind, payload) in enumerate(answers):
            if kind != "measured":
                raise UserError(payload.reason)
            costs.update(zip(range(i, len(configs), self.slots), payload, strict=True))
        return [costs[i] for i in range(len(configs))]

    def run(self, watcher: Watcher) -> None:
        """Train the watcher's jobs until there are none; dead workers are replaced.

        Raises:
            UserError: replacements keep failing to start.
        """
        while True:
            for process in self.processes:
                if process.idle and (job := watcher.next_job()) is not None:
                    process.job = job
                    process.send(("train", job))
            listened = [process for process in self.processes if not process.idle]
            nobody_trains = not any(process.job for process in self.processes)
            if nobody_trains and len(listened) < self.slots:
                return  # somebody is idle, and there is nothing to do
            spoke = wait([process.pipe for process in listened], TICK_SECONDS)
            for process in listened:
                if process.pipe in spoke:
                    self._handle(process, watcher)
            watcher.on_tick()

    def _handle(self, process: "_Process", watcher: Watcher) -> None:
        job = process.job
        kind, payload = process.receive()
        if kind == "epoch":
            assert job is not None
            process.send(watcher.on_epoch(job, payload))
            return
        process.job = None
        if kind == "ready":
            process.starting = False
            self.failed_starts = 0
            return
        if kind == "results":
            assert job is not None
            watcher.on_results(job, payload)
        elif job is not None:
            watcher.on_failure(job, payload)
        if kind == "died" or process.starting:
            self._replace(process, payload)

    def _replace(self, process: "_Process", failure: Failure) -> None:
        """Start another worker; the others go on meanwhile."""
        self.failed_starts += process.starting
        if self.failed_starts >= MAX_FAILED_STARTS:
            raise UserError(f"workers cannot be started: {failure.reason}")
        process.kill()
        self.processes[self.processes.index(process)] = _Process(process.spec)

    def close(self) -> None:
        """Kill the workers: what they have finished has been handed over already."""
        for process in self.processes:
            process.kill()
        self.processes = []


class _Process:
    """The parent's side of one worker process."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.job: Job | None = None
        self.starting = True  # until it has loaded its data
        self.pipe, child = _context.Pipe()
        self.process = _context.Process(target=_serve, args=(spec, child), daemon=True)
        self.process.start()
        child.close()

    @property
    def idle(self) -> bool:
        """Whether it waits for something to do."""
        return self.job is None and not self.starting

    def wait_until_ready(self) -> dict[str, Any]:
        """Wait until the worker has loaded its data; return its description."""
        kind, payload = self.receive()
        self.starting = False
        if kind != "ready":
            raise UserError(payload.reason)
        description: dict[str, Any] = payload
        return description

    def receive(self) -> tuple[str, Any]:
        """Wait for the worker's next message; a dead worker's is a failure."""
        try:
            message: tuple[str, Any] = self.pipe.recv()
        except (EOFError, OSError):  # OSError: it died in the middle of a message
            self.process.join(5)
            code = self.process.exitcode
            how = f"exit code {code}"
            if code is not None and code < 0:
                how = signal.Signals(-code).name
            return "died", Failure("infrastructure", f"worker process died ({how})")
        return message

    def send(self, message: object) -> None:
        """Send to the worker; that it died is seen when receiving."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def kill(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(spec: WorkerSpec, pipe: "Connection[Any, Any]") -> None:
    """Be a worker process: answer requests until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    from study.executors.worker import Worker, failure_of  # loads torch, in the child only

    gone = (EOFError, BrokenPipeError, ConnectionResetError)

    def on_epoch(epochs: Mapping[int, Epoch]) -> Collection[int]:
        pipe.send(("epoch", epochs))
        verdict: Collection[int] = pipe.recv()
        return verdict

    with contextlib.suppress(*gone):
        try:
            worker = Worker(spec)
        except Exception as error:  # reported, and the parent decides
            pipe.send(("failed", failure_of(error)))
            return
        answer: tuple[str, Any] = ("ready", worker.description)
        while True:
            pipe.send(answer)
            request, payload = pipe.recv()
            try:
                if request == "measure":
                    answer = ("measured", worker.measure(payload))
                else:
                    answer = ("results", worker.train(payload, on_epoch))
            except gone:
                raise
            except Exception as error:
                answer = ("failed", failure_of(error))
