"""Where trials are trained: one small interface, `Executor`, and what passes through it.

The executor pulls jobs from the watcher (the coordinator) whenever a worker is free, and tells it
what happens to them. It knows neither plans nor databases.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainer.config import TrainConfig
from trainer.results import Cost, Epoch, Result

TICK_SECONDS = 0.5


@dataclass(frozen=True)
class WorkerSpec:
    """One worker: its device, its OpenMP threads, the data set it reads; how often it saves."""

    device: str
    threads: int
    dataset: str
    data_dir: Path | None
    resume_seconds: float = 20.0  # of training between two resume points
    convolutions: str = "grouped"  # how banks convolve, see `trainer.convolutions`
    folders: tuple[Path, ...] = ()  # where functions of the user's lie too
    functions: tuple[tuple[str, str], ...] = ()  # which there are: ("architecture", "module:name")
    command: str | None = None  # of a training that is not ours; "": that is a function


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
    """Workers that train jobs."""

    slots: int

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


def describe_all(descriptions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum several workers' descriptions up: the first's, and every device."""
    return {**descriptions[0], "devices": [description["device"] for description in descriptions]}
