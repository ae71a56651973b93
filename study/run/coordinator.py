"""From work to a finished study: tasks -> banks -> executor -> writer.

Remaining work is computed from the database, not remembered (`study/run/work.py`). Running the same
plan again goes on where it was; what is settled is never run twice.
"""

import contextlib
import hashlib
import json
import math
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from optuna.trial import TrialState

from study.plans.plan import Plan
from study.run.executors import Executor, Failure, Job
from study.run.proposals import directions
from study.run.work import Task, Work
from study.store.connection import use_wal
from study.store.failures import DiskFull, StorageFailed
from study.store.signals import shielded
from study.store.stored_trial import NewTrial
from study.store.writer import End, StudyWriter
from trainer.errors import UserError
from trainer.results import Epoch, Result

MAX_ATTEMPTS = 3  # of a cell whose worker dies
MAX_EQUAL_FAILURES = 5  # cells given up in a row, then the study stops: it will not get better
SPARE_BYTES = 2 << 20  # of disk, beside what the trials' weights take: for the database and its log
BYTES_PER_PARAMETER = 4 * 6  # on disk: the best weights; of a resume point, two moments more, twice
POLL_SECONDS = 0.5  # how often a full disk is looked at

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
    """Who watches a study run."""

    def show(self, state: State, event: str | None) -> None:
        """Show the state, and what has just happened."""


def check_same_plan(name: str, stored: Mapping[str, Any] | None, trials: int, plan: Plan) -> None:
    """Check that a study of this stored plan, with so many trials, is this plan's.

    Raises:
        UserError: it is another plan's; says what differs.
    """
    if stored:
        _refuse(name, plan_differences(Plan.from_dict(stored), plan))
    elif trials:
        raise UserError(
            f"study {name!r}: was not made by fmnist-study; choose another --study-name"
        )


def open_study(writer: StudyWriter, plan: Plan, dataset: Mapping[str, Any]) -> None:
    """Create the study, or go on with it: fail what a dead owner left running.

    Raises:
        UserError: its results come from other data.
    """
    stored = writer.attributes().get("dataset") if writer.exists else None
    if stored is not None and stored["sha256"] != dataset["sha256"]:
        _refuse(writer.name, [f"the content of {plan.dataset}"])
    use_wal(writer.storage)
    if not writer.exists:
        writer.create(directions(plan))
    store_plan(writer, plan, dataset=dict(dataset))
    writer.fail_running("the run that started it ended without a word")


def store_plan(writer: StudyWriter, plan: Plan, **attributes: Any) -> None:
    """Store a study's plan and other attributes at once.

    Its words, and what others reported, may have been corrected since the last run.
    """
    # A study keeps the most seeds and trials it was ever planned with: its results are still there.
    plan = plan.at_least(writer.plan())
    writer.describe({"plan": plan.to_dict(), "plan_hash": plan.hash, **attributes})


def _refuse(name: str, differences: Sequence[str]) -> None:
    if differences:
        raise UserError(
            f"study {name!r} in the database differs from this plan in "
            f"{'; '.join(differences)}: choose another --study-name, or restore the plan"
        )


def plan_differences(stored: Plan, plan: Plan) -> list[str]:
    """Say what differs between the identities of two plans: `epochs (10, now 20)`."""
    old, new = stored.identity, plan.identity
    return [
        f"{key.removeprefix('baseline.')} ({old.get(key, 'absent')}, now {new.get(key, 'absent')})"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


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
        checkpoints: the folder for the trials' weights.
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
        checkpoints: Path,
        view: View,
        deadline: float | None = None,
        attempts: Mapping[tuple[str, int], int] | None = None,
        parameters: int = 0,
        back_up: Callable[[], None] = lambda: None,
    ) -> None:
        self.work, self.writer, self.executor, self.view = work, writer, executor, view
        self.bank_size, self.checkpoints, self.deadline = bank_size, checkpoints, deadline
        self.again: deque[tuple[Task, ...]] = deque()  # banks to be tried once more
        self.running: dict[int, _Running] = {}  # by the job's identity
        self.accidents: Counter[Task] = Counter()  # of this run
        self.spare = SPARE_BYTES
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
        running = sum(len(bank.tasks) for bank in self.running.values())
        work = self.work
        return State(work.planned, work.done, work.failed, running, self._seconds_left())

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
        self._wait_for_room(len(tasks))
        return self._with_room(lambda: self._start(tasks))

    def _start(self, tasks: tuple[Task, ...]) -> Job:
        with shielded():
            started = self.writer.start([self._new_trial(task) for task in tasks])
            job = Job(
                tuple(task.config for task in tasks),
                tuple(map(self._checkpoint, tasks)),
                tuple(map(self._resume_point, tasks)),
            )
            self.running[id(job)] = _Running(tasks, tuple(started))
        return job

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        """Note the epochs; return who is not worth going on with."""
        bank = self.running[id(job)]
        stopped = []
        for position, epoch in epochs.items():
            if math.isfinite(epoch.val_loss):
                self.writer.report(bank.trials[position], epoch.epoch, epoch.val_accuracy)
                if self.work.on_epoch(bank.tasks[position], epoch):
                    stopped.append(position)
            bank.epochs = epoch.epoch
        self.on_tick()
        return tuple(stopped)

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        """Write the results down at once."""
        bank = self.running[id(job)]
        faults = [self._fault(result) for result in results]
        bank.ends = [
            self._end(trial, result, path, fault)
            for trial, path, result, fault in zip(
                bank.trials, job.checkpoints, results, faults, strict=True
            )
        ]
        self._with_room(lambda: self._close(job, bank.ends or ()))
        for path in job.resume_points:
            _remove(path)
        if not all(faults):
            self.last_failures = ("", 0)
        for task, result, fault in zip(bank.tasks, results, faults, strict=True):
            self.earned += self.work.cost(task)
            self.parameters = max(self.parameters, result.parameters)
            if fault:
                self._give_up([task], fault)
            else:
                self.work.on_result(task, result)
                self.view.show(self.state(), f"{task.label}: {_told(result)}")
        self.back_up()

    def _close(self, job: Job, ends: Sequence[End]) -> None:
        with shielded():
            self.writer.finish(ends)
            self.running.pop(id(job))

    def _fault(self, result: Result) -> str | None:
        """Say what is wrong with a result that claims to be one."""
        if result.outcome not in ("finished", "early-stopped"):
            return None
        values = self.work.objectives(result)
        fine = all(value is not None and math.isfinite(value) for value in values)
        words = ", ".join(str(value) for value in values)
        return None if fine else f"the objective is not a finite number: {words}"

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
        elif failure.kind == "disk":
            self.spare *= 2  # what was thought to be enough was not
            self.again.append(bank.tasks)
        elif failure.kind == "infrastructure" and self._may_try_again(bank.tasks):
            self.again.append(bank.tasks)
        else:
            self._give_up(bank.tasks, failure.reason)
            return
        self.view.show(self.state(), told)

    def _may_try_again(self, tasks: Sequence[Task]) -> bool:
        self.accidents.update(tasks)
        return max(self.accidents[task] for task in tasks) < MAX_ATTEMPTS

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
        """Write what is due, show the time left, mind the deadline."""
        self._with_room(self.writer.flush_if_due)
        self.view.show(self.state(), None)
        self._mind_the_time()

    # A full disk.

    def _wait_for_room(self, starting: int) -> None:
        """Pause until the disk has room for the trials that run and `starting` more."""
        trials = starting + sum(len(bank.tasks) for bank in self.running.values())
        needed = self.spare + trials * BYTES_PER_PARAMETER * self.parameters
        place = self.checkpoints.parent
        paused = False
        while (free := shutil.disk_usage(place).free) < needed:
            if not paused:
                self._say_paused(f"{free / 1e6:.1f} MB are free, {needed / 1e6:.1f} MB are needed")
            paused = True
            self._mind_the_time()
            time.sleep(POLL_SECONDS)
        if paused:
            self.view.show(self.state(), f"goes on: there is room in {place}")

    def _with_room(self, write: Callable[[], Done]) -> Done:
        """Write; where the disk is full, pause and write again."""
        paused = False
        while True:
            try:
                done = write()
            except DiskFull as full:
                if not paused:
                    self._say_paused(str(full))
                paused = True
                self._mind_the_time()
                time.sleep(POLL_SECONDS)
                continue
            if paused:
                self.view.show(self.state(), f"goes on: there is room in {self.checkpoints.parent}")
            return done

    def _say_paused(self, why: str) -> None:
        place = self.checkpoints.parent
        self.view.show(self.state(), f"paused: no room in {place} ({why}); goes on when there is")

    def _mind_the_time(self) -> None:
        late = self.deadline is not None and time.monotonic() > self.deadline
        if late and self.work.done < self.work.planned:
            raise OutOfTime

    def _new_trial(self, task: Task) -> NewTrial:
        attributes = {
            "variant": task.variant,
            "changes": dict(task.changes),
            "seed": task.seed,
            "config": task.config.to_dict(),
            "attempt": self.begun[task.variant, task.seed],
        }
        if task.candidate is not None:
            attributes["candidate"] = task.candidate
        distributions = {name: self.work.distributions[name] for name in task.params}
        return NewTrial(task.params, distributions, attributes)

    def _end(self, trial: int, result: Result, checkpoint: Path, fault: str | None) -> End:
        attributes = result.to_dict()
        value = attributes.pop("val_accuracy")
        if result.outcome == "diverged":
            last = result.history[-1].epoch
            fault = f"diverged: the loss is not finite in epoch {last}"
        if fault:
            attributes = {key: _finite(own) for key, own in attributes.items()}
            return trial, TrialState.FAIL, None, {**attributes, "failure_reason": fault}
        if result.outcome == "stopped":
            last_value = result.history[-1].val_accuracy
            return trial, TrialState.PRUNED, [last_value], {**attributes, "best_value": value}
        attributes["checkpoint"] = str(checkpoint.relative_to(self.checkpoints.parent))
        values = [float(own) for own in self.work.objectives(result) if own is not None]
        return trial, TrialState.COMPLETE, values, attributes

    @property
    def _folder(self) -> Path:
        return self.checkpoints / self.writer.name

    def _checkpoint(self, task: Task) -> Path:
        # Each attempt has a file of its own: a worker that was thought dead spoils no other's.
        attempt = self.begun[task.variant, task.seed]
        name = task.variant.replace("#", "trial-").replace(" ", "_").replace("/", "-")
        if len(name) > 150:  # a variant of many changes; file systems allow 255 bytes in all
            name = f"{name[:120]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        again = f"_attempt={attempt}" if attempt > 1 else ""
        return self._folder / f"{name}_seed={task.seed}{again}.safetensors"

    def _resume_point(self, task: Task) -> Path:
        # Found again by what is trained, in whichever attempt.
        config = json.dumps(task.config.to_dict(), sort_keys=True)
        return self._folder / f"{hashlib.sha256(config.encode()).hexdigest()[:24]}.resume"

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


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by None: JSON has neither."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(own) for own in value]
    return value


def _told(result: Result) -> str:
    if result.val_accuracy is None or result.outcome == "diverged":
        return "diverged"
    if result.outcome == "stopped":
        return f"pruned after epoch {result.history[-1].epoch}"
    return f"{result.val_accuracy:.2%} validation accuracy in {result.seconds:.1f} s"
