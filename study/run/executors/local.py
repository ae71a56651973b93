"""Persistent worker processes on this machine: one thread each on CPUs, one GPU each on CUDA.

Parent and worker talk through a pipe. After each epoch the worker waits for the verdict on its
members, so decisions never depend on timing. A dead worker is seen at once: its pipe closes. One
that hangs is seen after a while: it no longer says that it lives, or it says so and its work
stands still, as when its GPU hangs. It is killed before another gets its job, so nothing can come
of it later. Workers do not outlive their parent.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from fmnist_common.environment import variable
from study.run.executors import (
    Event,
    Failure,
    Job,
    Request,
    Watcher,
    WorkerSpec,
    describe_all,
    drive,
)
from study.run.executors.import_path import path_for_children, without_main
from study.run.executors.parent_death import die_with_parent
from study.run.hardware import specs_for
from trainer import progress
from trainer.config import TrainConfig
from trainer.datasets import DATASETS
from trainer.errors import UserError
from trainer.results import Cost, Epoch

MAX_FAILED_STARTS = 10  # in a row, then there is no point in trying on
MAX_KILLED_STARTS = 40  # in a row; a worker that is killed is not at fault
MAX_MEASUREMENTS = 20  # of the same configs, where workers die meanwhile
HEARTBEAT_SECONDS = 5.0
SILENCE_SECONDS = 120.0  # then a worker hangs
STALL_SECONDS = 300.0  # without a training step or a batch of an evaluation: then it hangs too

# On Linux workers are forked from a server that has loaded torch but used nothing of it: another
# worker costs a tenth of a second instead of two.
_FORKED = sys.platform == "linux"
_context: Any = multiprocessing.get_context("forkserver" if _FORKED else "spawn")


class LocalExecutor:
    """Worker processes on this machine, one per spec.

    Args:
        specs: the workers.
        silence: seconds after which a worker that says nothing is taken for dead.
        stall: seconds after which a worker that lives but does not get on is taken for dead.
    """

    def __init__(
        self,
        specs: Sequence[WorkerSpec],
        silence: float = SILENCE_SECONDS,
        stall: float = STALL_SECONDS,
    ) -> None:
        self.specs = list(specs)
        self.slots = len(self.specs)
        self.silence, self.stall = silence, stall
        self.processes: list[_Process] = []
        self.failed_starts = 0  # in a row
        self.looked = 0.0  # when the workers were last listened to

    def start(self) -> dict[str, Any]:
        """Start every worker and wait until all are ready; those that die are replaced.

        Raises:
            UserError: a worker cannot work here.
        """
        for spec in self.specs:  # one by one, so that an interruption leaves none behind
            self.processes.append(_Process(spec))
        return describe_all([self._ready(i) for i in range(self.slots)])

    def _ready(self, i: int) -> dict[str, Any]:
        """Wait until worker `i` has loaded its data; return its description."""
        while True:
            kind, payload = self.processes[i].answer(self.silence, self.stall)
            if kind == "ready":
                self.processes[i].starting = False
                self.failed_starts = 0
                description: dict[str, Any] = payload
                return description
            if kind != "died":
                raise UserError(payload.reason)
            self._replace(self.processes[i], payload)

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Return what each config will cost; all workers measure at once.

        Raises:
            UserError: a config cannot be trained here.
        """
        parts = [list(configs[i :: self.slots]) for i in range(self.slots)]
        for i, process in enumerate(self.processes):
            if process.starting:
                self._ready(i)
            self.processes[i].send(("measure", parts[i]))
        answers = [self._measured(i, part) for i, part in enumerate(parts)]
        costs: dict[int, Cost] = {}
        for i, answer in enumerate(answers):  # all are there, so that none is left over
            if isinstance(answer, Failure):
                raise UserError(answer.reason)
            costs.update(zip(range(i, len(configs), self.slots), answer, strict=True))
        return [costs[i] for i in range(len(configs))]

    def _measured(self, i: int, configs: list[TrainConfig]) -> list[Cost] | Failure:
        """Wait for worker `i`'s costs; where it dies, another one measures."""
        for _ in range(MAX_MEASUREMENTS):
            kind, payload = self.processes[i].answer(self.silence, self.stall)
            ended = kind in ("died", "broken")
            if not (ended and payload.kind == "infrastructure"):
                break
            self._replace(self.processes[i], payload)
            self._ready(i)
            self.processes[i].send(("measure", configs))
        answer: list[Cost] | Failure = payload
        return answer

    def run(self, watcher: Watcher) -> None:
        """Train the watcher's jobs until there are none; dead workers are replaced.

        Raises:
            UserError: replacements keep failing to start.
        """
        self.looked = time.monotonic()
        drive(self, watcher)

    @property
    def idle(self) -> int:
        """How many workers wait for something to do."""
        return sum(process.idle for process in self.processes)

    @property
    def settled(self) -> bool:
        """Whether nothing is in training and a worker is ready."""
        return self.idle > 0 and not any(process.job for process in self.processes)

    def give(self, job: Job) -> None:
        """Have a job trained by an idle worker."""
        process = next(process for process in self.processes if process.idle)
        process.job = job
        process.send(("train", job))

    def answer(self, job: Job, stopped: Collection[int]) -> None:
        """Say which members stop; a worker that has died meanwhile needs no answer."""
        for process in self.processes:
            if process.job is job:
                process.send(stopped)

    def events(self, seconds: float) -> Iterator[Event]:
        """Wait so long at most for what happens to jobs; dead workers are replaced.

        Raises:
            UserError: replacements keep failing to start.
        """
        listened = [process for process in self.processes if not process.idle]
        spoke = wait([process.pipe for process in listened], seconds)
        now = time.monotonic()
        if now - self.looked > HEARTBEAT_SECONDS:  # this process was stopped or waited itself
            for process in listened:
                process.heard = process.moved = now
        for process in listened:
            if process.pipe in spoke:
                yield from self._heard(process, *process.receive())
            elif hanging := process.hanging(now, self.silence, self.stall):
                yield from self._heard(process, *hanging)
        self.looked = now

    def _heard(self, process: "_Process", kind: str, payload: Any) -> Iterator[Event]:
        if kind == "alive":
            return
        job = process.job
        if kind == "epoch":
            assert job is not None
            yield job, "epoch", payload
            return
        process.job = None
        if kind == "ready":
            process.starting = False
            self.failed_starts = 0
            return
        if job is not None:
            yield job, "results" if kind == "results" else "failed", payload
        if kind in ("died", "broken") or process.starting:
            self._replace(process, payload)

    def _replace(self, process: "_Process", failure: Failure) -> None:
        """Start another worker; the others go on meanwhile.

        Raises:
            UserError: replacements keep failing to start.
        """
        self.failed_starts += process.starting
        killed = failure.kind == "infrastructure"
        if self.failed_starts >= (MAX_KILLED_STARTS if killed else MAX_FAILED_STARTS):
            raise UserError(f"workers cannot be started: {failure.reason}")
        process.kill()
        self.processes[self.processes.index(process)] = _Process(process.spec)

    def close(self) -> None:
        """Kill the workers: what they have finished has been handed over already."""
        for process in self.processes:
            process.process.kill()
        for process in self.processes:
            process.kill()
        self.processes = []


def executor_for(request: Request) -> LocalExecutor:
    """Return the executor `local`, not started."""
    return LocalExecutor(specs_for(request), stall=_stall_seconds())


def _stall_seconds() -> float:
    """Return how long a worker may do nothing.

    Raises:
        UserError: the environment's value is no number of seconds.
    """
    name, text = variable("STALL_SECONDS")
    if text and (not text.isdecimal() or not 1 <= int(text[:9]) <= 10**7):
        raise UserError(f"{name} = {text!r}: must be a whole number of seconds, from 1")
    return float(text or STALL_SECONDS)


class _Process:
    """The parent's side of one worker process."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.job: Job | None = None
        self.starting = True  # until it has loaded its data
        self.heard = self.moved = time.monotonic()  # when it last spoke, when it last got on
        self.done = 0  # training steps and batches of evaluations, as it counts them
        self.pipe, child = _context.Pipe()
        self.process = _started(spec, child)
        child.close()

    @property
    def idle(self) -> bool:
        """Whether it waits for something to do."""
        return self.job is None and not self.starting

    def answer(self, silence: float, stall: float) -> tuple[str, Any]:
        """Wait for what the worker was asked for; where it dies or hangs, that is a failure."""
        while True:
            if self.pipe.poll(min(silence, stall)):
                kind, payload = self.receive()
                if kind != "alive":
                    return kind, payload
            if hanging := self.hanging(time.monotonic(), silence, stall):
                return hanging

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
        self.heard = time.monotonic()
        if message[0] != "alive" or message[1] != self.done or self.starting:
            self.moved = self.heard
        if message[0] == "alive":
            self.done = message[1]
        return message

    def hanging(self, now: float, silence: float, stall: float) -> tuple[str, Any] | None:
        """Give the worker up if it has been silent or has stood still for so long.

        It is killed when it is replaced.
        """
        if now - self.heard > silence:
            reason = f"worker process said nothing for {silence:.0f} s"
        elif now - self.moved > stall and not self.starting:
            reason = f"worker process lives, but its work stood still for {stall:.0f} s"
        else:
            return None
        return "died", Failure("infrastructure", reason)

    def send(self, message: object) -> None:
        """Send to the worker; that it died is seen when receiving."""
        self.moved = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def kill(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _started(spec: WorkerSpec, pipe: "Connection[Any, Any]") -> Any:
    """Start a worker process; the server that it is forked from too, where that has died."""
    if _FORKED:
        package = DATASETS[spec.dataset].package if spec.dataset in DATASETS else None
        modules = ["study.run.executors.preload", *([package] if package else [])]
        _context.set_forkserver_preload(modules)
    for attempt in range(MAX_FAILED_STARTS):
        process = _context.Process(target=_serve, args=(spec, pipe), daemon=True)
        try:
            with path_for_children(), without_main(), _unheard_by_children():
                (forkserver.ensure_running if _FORKED else process.start)()
            if _FORKED:
                with without_main():
                    process.start()
            return process
        except (EOFError, OSError) as error:
            failure = error
            time.sleep(0.1 * attempt)  # until it is seen to be dead
    hint = ""
    if "AF_UNIX path too long" in str(failure):
        hint = f"; TMPDIR = {tempfile.gettempdir()!r}: give a shorter one"
    raise UserError(f"workers cannot be started: {type(failure).__name__}: {failure}{hint}")


@contextlib.contextmanager
def _unheard_by_children() -> Iterator[None]:
    """Hold Ctrl-C back here; processes started meanwhile never hear it: it is the parent's."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # the first start of one would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Voice:
    """A worker's side of the pipe: says that it lives, ends it when its parent has."""

    def __init__(self, pipe: "Connection[Any, Any]") -> None:
        self.pipe, self.lock = pipe, threading.Lock()
        threading.Thread(target=self._live, daemon=True).start()

    def send(self, message: tuple[str, Any]) -> None:
        """Send to the parent."""
        with self.lock:
            self.pipe.send(message)

    def _live(self) -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        with contextlib.suppress(OSError):  # the parent has closed the pipe
            while not wait([parent.sentinel], HEARTBEAT_SECONDS):
                self.send(("alive", progress.done()))
        os._exit(1)


def _serve(spec: WorkerSpec, pipe: "Connection[Any, Any]") -> None:
    """Be a worker process: answer requests until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with_parent()
    if sys.__stdout__ and sys.__stderr__:  # else it was closed from the start
        # What the user's code prints is no answer of the command.
        os.dup2(sys.__stderr__.fileno(), sys.__stdout__.fileno())
    voice = _Voice(pipe)
    from study.run.executors.worker import Worker, failure_of  # loads torch, in the child only

    gone = (EOFError, BrokenPipeError, ConnectionResetError)

    def on_epoch(epochs: Mapping[int, Epoch]) -> Collection[int]:
        voice.send(("epoch", epochs))
        verdict: Collection[int] = pipe.recv()
        return verdict

    with contextlib.suppress(*gone):
        try:
            worker = Worker(spec)
        except Exception as error:  # reported, and the parent decides
            voice.send(("failed", failure_of(error)))
            return
        answer: tuple[str, Any] = ("ready", worker.description)
        while True:
            voice.send(answer)
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
                if worker.is_broken_by(error):
                    voice.send(("broken", answer[1]))
                    return
