"""From work to a finished study: tasks -> banks -> executor -> writer.

Remaining work is computed from the database, not remembered (`study/run/work.py`). Running the same
plan again goes on where it was; what is settled is never run twice.
"""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from optuna.trial import TrialState

from study.run import trial_ends
from study.run.disk import Room
from study.run.executors import Executor, Failure, Job
from study.run.weights import WeightFiles
from study.run.work import Task, Work
from study.store import signals
from study.store.failures import StorageFailed
from study.store.signals import shielded
from study.store.writer import End, StudyWriter
from trainer.results import Epoch, Result

MAX_ATTEMPTS = 3  # of a cell whose worker dies
MAX_REFUSALS = 10  # of the disk to one cell: however much room there seems to be, it is not enough
MAX_EQUAL_FAILURES = 5  # cells given up in a row, then the study stops: it will not get better
ESTIMATE_SHARE = 0.02  # of the time, that estimating what is left may take
BYTES_PER_PARAMETER = 4 * 6  # on disk: the best weights; of a resume point, two moments more, twice

Done = TypeVar("Done")


class StudyFailed(Exception):  # noqa: N818 # it is a state of affairs, not a mistake
    """The study was stopped because its trials keep failing in the same way."""


class OutOfTime(BaseException):
    """The time that `--timeout` allows has passed; like Ctrl-C, no trial's failure."""


@dataclass(frozen=True)
class State:
    """How far a study is."""

    planned: int
    done: int  # settled cells
    failed: int  # of them, cells without a result (diverged), and failures of this run
    running: int
    seconds_left: float | None  # None: not measured


class View(Protocol):
    """Who watches a study run.

    It is shown the state once before the first job, then after every event and at every tick, so
    several times a second: a view that writes lines decides itself which are worth one. It is
    called in the owner's process between two writes to the database, and so must be quick; it
    holds nothing that anybody else needs. Nothing tells it of the end: what ends a run leaves it
    as an exception, and a view that draws is closed by whoever made it.
    """

    def show(self, state: State, event: str | None) -> None:
        """Show the state, and what has just happened (None: nothing worth a line)."""


@dataclass
class _Running:
    """A bank in training."""

    tasks: tuple[Task, ...]
    trials: tuple[int, ...]  # their ids in the database
    epochs: int = 0
    ends: list[End] | None = None  # what has come of them, not written yet


class Coordinator:
    """Runs what there is to do and writes down what comes of it. A `Watcher`.

    Args:
        work: what there is to do; its study is open.
        writer: the study's writer.
        executor: started workers.
        bank_size: members per bank at most.
        weights: names the files of the trials' weights.
        view: who watches.
        deadline: `time.monotonic()` at which to stop.
        attempts: of each cell (variant, seed), how often it was begun before.
        parameters: of the largest network, as far as known.
        back_up: called after each batch of results; makes a backup now and then.
    """

    def __init__(
        self,
        work: Work,
        writer: StudyWriter,
        executor: Executor,
        *,
        bank_size: int,
        weights: WeightFiles,
        view: View,
        deadline: float | None = None,
        attempts: Mapping[tuple[str, int], int] | None = None,
        parameters: int = 0,
        back_up: Callable[[], None] = lambda: None,
    ) -> None:
        self.work, self.writer, self.executor, self.view = work, writer, executor, view
        self.bank_size, self.weights, self.deadline = bank_size, weights, deadline
        self.again: deque[tuple[Task, ...]] = deque()  # banks to be tried once more
        self.running: dict[int, _Running] = {}  # by the job's identity
        self.in_training = 0  # tasks, of all banks together
        self.left: float | None = None  # seconds, as they were estimated
        self.next_estimate = 0.0  # `time.monotonic()`
        self.accidents: Counter[tuple[str, Task]] = Counter()  # of this run: kind, task
        self.room = Room(self._places, self._say, self._mind_the_time)
        self.begun = Counter(attempts or {})
        self.parameters, self.back_up = parameters, back_up
        self.last_failures: tuple[str, int] = ("", 0)  # reason, how often in a row
        self.earned = 0.0  # expected seconds of what this run has finished
        self.started = time.monotonic()

    def run(self) -> State:
        """Run all pending cells; on any interruption fail the running trials and pass it on.

        Raises:
            StudyFailed, OutOfTime, KeyboardInterrupt: what ended the run; results are kept.
        """
        self.view.show(self.state(), None)
        try:
            self.executor.run(self)
        except BaseException as error:
            self.executor.close()
            names = {
                KeyboardInterrupt: "interrupted",
                SystemExit: "terminated",
                OutOfTime: "out of time",
            }
            with contextlib.suppress(StorageFailed):  # then the next start does it
                self._abandon(names.get(type(error), f"stopped: {type(error).__name__}"))
            raise
        return self.state()

    def state(self) -> State:
        """Return how far the study is now."""
        work = self.work
        return State(work.planned, work.done, work.failed, self.in_training, self._time_left())

    # What the executor calls.

    def next_job(self) -> Job | None:
        """Start the next bank's trials, once there is room for what they will write."""
        with shielded():
            tasks = self.again.popleft() if self.again else tuple(self.work.next(self.bank_size))
            for number, task in enumerate(tasks, self.writer.next_number):
                self.work.on_start(task, number)
                self.begun[task.variant, task.seed] += 1
        if not tasks:
            return None
        self.room.wait_for((self.in_training + len(tasks)) * BYTES_PER_PARAMETER * self.parameters)
        return self._with_room(lambda: self._start(tasks))

    def _start(self, tasks: tuple[Task, ...]) -> Job:
        with shielded():
            attempts = [self.begun[task.variant, task.seed] for task in tasks]
            started = self.writer.start(
                [
                    trial_ends.started(task, self.work.distributions, attempt)
                    for task, attempt in zip(tasks, attempts, strict=True)
                ]
            )
            job = Job(
                tuple(task.config for task in tasks),
                tuple(
                    self.weights.fresh(task.variant, task.seed, attempt)
                    for task, attempt in zip(tasks, attempts, strict=True)
                ),
                tuple(self.weights.resume_point(task.config) for task in tasks),
            )
            self.running[id(job)] = _Running(tasks, tuple(started))
            self.in_training += len(tasks)
        return job

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        """Note the epochs; return who is not worth going on with."""
        bank = self.running[id(job)]
        stopped = []
        for position, epoch in epochs.items():
            if epoch.is_finite:
                self.writer.report(bank.trials[position], epoch.epoch, epoch.val_accuracy)
                if self.work.on_epoch(bank.tasks[position], epoch):
                    stopped.append(position)
            bank.epochs = epoch.epoch
        self.on_tick()
        return tuple(stopped)

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        """Write the results down at once."""
        bank = self.running[id(job)]
        values = [self.work.objectives(result) for result in results]
        faults = [trial_ends.fault_of(*pair) for pair in zip(results, values, strict=True)]
        stored = map(self.weights.stored, job.checkpoints)
        ends = zip(bank.trials, results, values, stored, faults, strict=True)
        bank.ends = [trial_ends.ended(*end) for end in ends]
        self._with_room(lambda: self._close(job, bank.ends or ()))
        for path in job.resume_points:
            _remove(path)
        if not all(faults):
            self.last_failures = ("", 0)
        for task, result, fault in zip(bank.tasks, results, faults, strict=True):
            self.earned += self.work.cost(task)
            self.parameters = max(self.parameters, result.parameters or 0)
            if fault:
                self._give_up([task], fault)
            else:
                self.work.on_result(task, result)
                self.view.show(self.state(), f"{task.label}: {trial_ends.told(result)}")
        self.back_up()

    def _close(self, job: Job, ends: Sequence[End]) -> None:
        with shielded():
            self.writer.finish(ends)
            self.in_training -= len(self.running.pop(id(job)).tasks)

    def on_failure(self, job: Job, failure: Failure) -> None:
        """Fail the bank's trials; try again where the machine was at fault.

        A worker that died or could not write is an accident: its bank is tried again, twice at
        most. A full memory means a smaller bank, a full disk a pause. Everything else would happen
        again.
        """
        bank = self.running[id(job)]
        reason = {"failure_reason": failure.reason, "failure_kind": failure.kind}
        bank.ends = [(trial, TrialState.FAIL, None, reason) for trial in bank.trials]
        self._with_room(lambda: self._close(job, bank.ends or ()))
        told = f"{bank.tasks[0].label}: failed: {failure.reason}"
        if failure.kind == "memory" and len(bank.tasks) > 1:
            self.bank_size = len(bank.tasks) // 2  # of all banks from here on
            parts = range(0, len(bank.tasks), self.bank_size)
            self.again.extend(bank.tasks[i : i + self.bank_size] for i in parts)
        elif self._may_try_again(failure.kind, bank.tasks):
            self.again.append(bank.tasks)
        else:
            self._give_up(bank.tasks, failure.reason)
            return
        self.view.show(self.state(), told)

    def _may_try_again(self, kind: str, tasks: Sequence[Task]) -> bool:
        most = {"infrastructure": MAX_ATTEMPTS, "disk": MAX_REFUSALS}.get(kind, 0)
        if kind == "disk":
            self.room.refused()
        self.accidents.update((kind, task) for task in tasks)
        return max(self.accidents[kind, task] for task in tasks) < most

    def _give_up(self, tasks: Sequence[Task], reason: str) -> None:
        """Leave tasks without a result; the study too, where they keep failing in one way."""
        for task in tasks:
            self.work.give_up(task)
        self.view.show(self.state(), f"{tasks[0].label}: failed: {reason}")
        same = self.last_failures[1] + 1 if self.last_failures[0] == reason else 1
        self.last_failures = (reason, same)
        if same >= MAX_EQUAL_FAILURES:
            raise StudyFailed(f"{same} failures in a row: {reason}")

    def on_tick(self) -> None:
        """Write what is due, show the time left, mind signals and the deadline."""
        signals.check()
        self._with_room(self.writer.flush_if_due)
        self.view.show(self.state(), None)
        self._mind_the_time()

    def _places(self) -> Iterator[Path]:
        yield self.weights.root
        yield self.weights.place

    def _with_room(self, write: Callable[[], Done]) -> Done:
        return self.room.write(self.weights.root, write)

    def _say(self, event: str) -> None:
        self.view.show(self.state(), event)

    def _mind_the_time(self) -> None:
        late = self.deadline is not None and time.monotonic() > self.deadline
        if late and self.work.done < self.work.planned:
            raise OutOfTime

    def _abandon(self, reason: str) -> None:
        """Fail what is running, so that nothing looks alive that is not; write what is known."""
        attributes = {"failure_reason": reason, "failure_kind": "interrupted"}
        ends = [
            end
            for bank in self.running.values()
            for end in bank.ends
            or [(trial, TrialState.FAIL, None, attributes) for trial in bank.trials]
        ]
        self.writer.finish(ends)
        self.running.clear()
        self.in_training = 0

    def _time_left(self) -> float | None:
        """Return the seconds left; with thousands in training, not estimated at every look."""
        began = time.monotonic()
        if began >= self.next_estimate or not self.in_training:
            self.left = self._seconds_left()
            took = time.monotonic() - began
            self.next_estimate = began + took * (1 + 1 / ESTIMATE_SHARE)
        return self.left

    def _seconds_left(self) -> float | None:
        cost = self.work.cost
        begun = [
            (cost(task), bank.epochs / task.config.epochs)
            for bank in self.running.values()
            for task in bank.tasks
        ]
        trained = sum(seconds * share for seconds, share in begun)
        left = self.work.seconds_waiting() + sum(seconds for seconds, _ in begun) - trained
        left += sum(cost(task) for tasks in self.again for task in tasks)
        if not left:
            return None
        elapsed = time.monotonic() - self.started
        speed = float(self.executor.slots)  # expected seconds per second
        if elapsed > 10 and self.earned + trained > 0:
            speed = (self.earned + trained) / elapsed  # corrected by what has happened
        return left / speed


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is in nobody's way
        path.unlink(missing_ok=True)
