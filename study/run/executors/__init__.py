"""Where trials are trained: one small interface, `Executor`, and what passes through it.

The executor pulls jobs from the watcher (the coordinator) whenever a worker is free, and tells it
what happens to them. It knows neither plans nor databases.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainer.config import TrainConfig
from trainer.results import Cost, Epoch, Result

TICK_SECONDS = 0.5


@dataclass(frozen=True)
class UserCode:
    """What of the user's is trained: functions with their keys, ("architecture", "module:name")."""

    folders: tuple[Path, ...] = ()  # where they lie, beside the current one
    functions: tuple[tuple[str, str], ...] = ()
    command: str | None = None  # of a training that is not ours; "": that is a function


@dataclass(frozen=True)
class WorkerSpec:
    """One worker: its device, its OpenMP threads, the data set it reads; how often it saves."""

    device: str
    threads: int
    dataset: str
    data_dir: Path | None
    resume_seconds: float = 20.0  # of training between two resume points
    convolutions: str = "auto"  # how banks convolve, see `trainer.convolutions`
    code: UserCode = UserCode()


@dataclass(frozen=True)
class Job:
    """A bank to be trained; each member's best weights go to its checkpoint path.

    Where there are resume points, a long training leaves its course there now and then, and goes
    on from what an earlier attempt has left.
    """

    configs: tuple[TrainConfig, ...]
    checkpoints: tuple[Path, ...]
    resume_points: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a job gave no result.

    `kind`: `infrastructure` (the worker died or could not write; worth another try), `disk` (there
    is no room on it), `memory` (the device's memory is full), `user` (the config cannot be trained)
    or `error` (anything else).
    """

    kind: str
    reason: str  # one line


@dataclass(frozen=True)
class Request:
    """What a run asks of an executor, which is made of it.

    `workers` and `threads` of None leave the number to the executor, `address` names the cluster of
    one that trains on other machines. `bank` is None where the size of banks was left open.
    """

    dataset: str
    data_dir: Path | None = None
    device: str = "auto"
    devices: tuple[str, ...] = ()  # what that stands for on this machine, where that is known
    workers: int | None = None
    threads: int | None = None  # of each worker on CPUs
    trials: int = 1  # to be trained, as far as that is known
    bank: int | None = None  # members at most
    address: str | None = None
    convolutions: str = "auto"  # of each worker
    code: UserCode = UserCode()
    tell: Callable[[str], None] = lambda _: None  # of workers that come and go, a line each


class Watcher(Protocol):
    """What an executor needs of the coordinator."""

    def next_job(self) -> Job | None:
        """Return the next job, or None where there is none now."""

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        """Take the members' figures of one epoch; return the positions of those that stop."""

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        """Take a finished job's results, without weights."""

    def on_failure(self, job: Job, failure: Failure) -> None:
        """Take note that a job failed."""

    def on_tick(self) -> None:
        """Do what is due; called at least every second or so."""


class Executor(Protocol):
    """Workers that train jobs.

    Whoever makes one of a `Request` (a class, or a function) is named as an entry point of the
    group `fmnist_study.executors`. Where it has an attribute `remote` that is true, it trains on
    other machines: their devices count, and not those of this one.
    """

    @property
    def slots(self) -> int:
        """How many jobs are trained at once."""

    def start(self) -> dict[str, Any]:
        """Start the workers; return what they found (data set, devices, versions).

        Raises:
            UserError: a worker cannot work: no such data or device.
        """

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Return what each config will cost, measured over a few steps."""

    def run(self, watcher: Watcher) -> None:
        """Train the watcher's jobs until there are none."""

    def close(self) -> None:
        """Stop the workers at once."""


Event = tuple[Job, str, Any]  # "epoch" with epochs, "results" with results, "failed" with a failure


class Crew(Protocol):
    """Workers to whom jobs are given, and who are listened to."""

    @property
    def idle(self) -> int:
        """How many more jobs can be given now."""

    @property
    def settled(self) -> bool:
        """Whether nothing is in training and somebody is ready for more."""

    def give(self, job: Job) -> None:
        """Have a job trained; somebody is idle."""

    def answer(self, job: Job, stopped: Collection[int]) -> None:
        """Say which members stop at the epoch that was told."""

    def events(self, seconds: float) -> Iterator[Event]:
        """Wait so long at most for what happens to jobs; tell it one by one."""


def drive(crew: Crew, watcher: Watcher) -> None:
    """Train the watcher's jobs on a crew until there are none.

    Whoever has told an epoch waits for its answer, so epochs come first; results, which take
    longer, one at a time between them. Else all would wait that end together, and do so again.
    """
    ended: deque[Event] = deque()  # results and failures that were told
    try:
        while True:
            # Those in `ended` are idle too, but may decide what comes next.
            job = watcher.next_job() if crew.idle > len(ended) else None
            if job is not None:
                crew.give(job)
            elif crew.settled and not ended:
                return  # somebody is idle, and there is nothing to do
            for event in crew.events(0 if job is not None or ended else TICK_SECONDS):
                if event[1] == "epoch":
                    crew.answer(event[0], watcher.on_epoch(event[0], event[2]))
                else:
                    ended.append(event)
            if ended:
                _tell(watcher, ended.popleft())
            watcher.on_tick()
    except BaseException as error:
        if not isinstance(error, Exception):  # a signal, or out of time: what has ended is kept
            for event in ended:
                _tell(watcher, event)
        raise


def _tell(watcher: Watcher, event: Event) -> None:
    job, kind, payload = event
    if kind == "results":
        watcher.on_results(job, payload)
    else:
        watcher.on_failure(job, payload)


def describe_all(descriptions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum several workers' descriptions up: the first's, and every device."""
    return {**descriptions[0], "devices": [description["device"] for description in descriptions]}
