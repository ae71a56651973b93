"""From a plan to a finished study: pending cells -> banks -> executor -> ledger.

Remaining work is computed, not remembered: pending = planned - settled. Running the same plan again
goes on where it was; what is settled is never run twice.
"""

import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

from study.executors import Executor, Failure, Job
from study.ledger import Ledger, categorical
from study.plan import Cell, Plan
from study.signals import shielded
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.results import Cost, Epoch, Result

MAX_ATTEMPTS = 3  # of a cell whose worker dies
MAX_EQUAL_FAILURES = 5  # in a row, then the study stops: they will not get better

CostKey = tuple[Any, ...]
Record = tuple[str | None, int | None, str, str | None]  # variant, seed, state, outcome


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


def settled(trials: Iterable[Record]) -> dict[tuple[str | None, int | None], str]:
    """Return the cells (variant, seed) that need no further run, with their trial's state.

    Complete ones, and diverged ones: the same config and seed would diverge again.
    """
    return {
        (variant, seed): state
        for variant, seed, state, outcome in trials
        if state == "COMPLETE" or (state == "FAIL" and outcome == "diverged")
    }


def records(trials: Iterable[FrozenTrial]) -> list[Record]:
    """Return what `settled` and `pending` need of Optuna's trials."""
    return [
        (
            t.user_attrs.get("variant"),
            t.user_attrs.get("seed"),
            t.state.name,
            t.user_attrs.get("outcome"),
        )
        for t in trials
    ]


def pending(plan: Plan, trials: Iterable[Record]) -> list[Cell]:
    """Return the planned cells that are not settled, in plan order."""
    done = settled(trials)
    return [cell for cell in plan.cells if (cell.variant.label, cell.seed) not in done]


def cost_key(config: TrainConfig) -> CostKey:
    """Return what a training's duration depends on."""
    return (*config.fusion_key, config.augmentation)


def banks(plan: Plan, cells: Sequence[Cell], size: int) -> list[tuple[Cell, ...]]:
    """Group cells that fuse into banks of at most `size`, keeping the order of first cells."""
    if size == 1:
        return [(cell,) for cell in cells]
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(plan.config_of(cell).fusion_key, []).append(cell)
    return [
        tuple(group[i : i + size]) for group in groups.values() for i in range(0, len(group), size)
    ]


def measure_costs(plan: Plan, cells: Sequence[Cell], executor: Executor) -> dict[CostKey, Cost]:
    """Measure what each kind of trial costs, a few steps each."""
    kinds: dict[CostKey, TrainConfig] = {}
    for cell in cells:
        config = plan.config_of(cell)
        kinds.setdefault(cost_key(config), config)
    return dict(zip(kinds, executor.measure(list(kinds.values())), strict=True))


def check_same_plan(
    name: str, stored: Mapping[str, Any] | None, trials: Sequence[Record], plan: Plan
) -> None:
    """Check that a study in the database, by its stored plan and its trials, is of this plan.

    Raises:
        UserError: it is another plan's; says what differs.
    """
    if stored:
        _refuse(name, plan_differences(Plan.from_dict(stored), plan))
    elif trials:
        raise UserError(
            f"study {name!r}: was not made by fmnist-study; choose another --study-name"
        )


def open_study(ledger: Ledger, plan: Plan, dataset: Mapping[str, Any]) -> None:
    """Create the study, or go on with it: fail what a dead owner left running.

    Raises:
        UserError: its results come from other data.
    """
    if not ledger.exists:
        ledger.create()
    stored = ledger.attributes().get("dataset")
    if stored is not None and stored["sha256"] != dataset["sha256"]:
        _refuse(ledger.name, [f"the content of {plan.dataset}"])
    ledger.describe({"plan": plan.to_dict(), "plan_hash": plan.hash, "dataset": dict(dataset)})
    ledger.fail_running("the run that started it ended without a word")


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

    cells: tuple[Cell, ...]
    trials: tuple[int, ...]
    epochs: int = 0


class Coordinator:
    """Runs a plan's pending cells and writes down what comes of them. A `Watcher`.

    Args:
        plan: the plan; its study is open.
        ledger: the study's ledger.
        executor: started workers.
        bank_size: members per bank at most.
        costs: cost per kind of trial, measured.
        checkpoints: the folder for the trials' weights.
        view: who watches.
        deadline: `time.monotonic()` at which to stop.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        executor: Executor,
        *,
        bank_size: int,
        costs: Mapping[CostKey, Cost],
        checkpoints: Path,
        view: View,
        deadline: float | None = None,
    ) -> None:
        self.plan, self.ledger, self.executor, self.view = plan, ledger, executor, view
        self.checkpoints, self.deadline = checkpoints, deadline
        trials = records(ledger.trials())
        todo = pending(plan, trials)
        self.queue = deque(banks(plan, todo, bank_size))
        done = settled(trials)
        self.planned = len(plan.cells)
        self.done = self.planned - len(todo)
        self.failed = sum(
            done.get((cell.variant.label, cell.seed)) == "FAIL" for cell in plan.cells
        )
        self.running: dict[int, _Running] = {}  # by the job's identity
        self.attempts: Counter[Cell] = Counter()
        self.last_failures: tuple[str, int] = ("", 0)  # reason, how often in a row
        self.distributions = {name: categorical(plan.levels(name)) for name in plan.factors}
        self.cost = {cell: costs[cost_key(plan.config_of(cell))].seconds for cell in todo}
        self.waiting = sum(self.cost.values())  # measured seconds of what is queued ...
        self.earned = 0.0  # ... and of what this run has finished
        self.started = time.monotonic()

    def run(self) -> State:
        """Run all pending cells; on any interruption fail the running trials and pass it on.

        Raises:
            StudyFailed, OutOfTime, KeyboardInterrupt: what ended the run; results are kept.
        """
        self.ledger.describe({"last_run": datetime.now(UTC).isoformat(timespec="milliseconds")})
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
            self._abandon(names.get(type(error), f"stopped: {type(error).__name__}"))
            raise
        return self.state()

    def state(self) -> State:
        """Return how far the study is now."""
        running = sum(len(bank.cells) for bank in self.running.values())
        return State(self.planned, self.done, self.failed, running, self._seconds_left())

    # What the executor calls.

    def next_job(self) -> Job | None:
        """Start the next bank's trials."""
        if not self.queue:
            return None
        with shielded():
            cells = self.queue.popleft()
            configs = tuple(self.plan.config_of(cell) for cell in cells)
            job = Job(configs, tuple(self._checkpoint(cell) for cell in cells))
            trials = tuple(map(self._start, cells, configs))
            self.running[id(job)] = _Running(cells, trials)
            self.waiting -= sum(self.cost[cell] for cell in cells)
        return job

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        """Note the epochs; nobody stops early in a designed study."""
        bank = self.running[id(job)]
        for position, epoch in epochs.items():
            self.ledger.report(bank.trials[position], epoch.epoch, epoch.val_accuracy)
            bank.epochs = epoch.epoch
        self._mind_the_time()
        return ()

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        """Write the results down at once."""
        bank = self.running[id(job)]
        ends: list[tuple[int, TrialState, float | None, Mapping[str, Any]]] = []
        for trial, path, result in zip(bank.trials, job.checkpoints, results, strict=True):
            attributes = result.to_dict()
            value = attributes.pop("val_accuracy")
            if result.outcome == "diverged":
                last = result.history[-1].epoch
                attributes["failure_reason"] = f"diverged: the loss is not finite in epoch {last}"
                attributes = {key: _finite(own) for key, own in attributes.items()}
                ends.append((trial, TrialState.FAIL, None, attributes))
            else:
                attributes["checkpoint"] = str(path.relative_to(self.checkpoints.parent))
                ends.append((trial, TrialState.COMPLETE, value, attributes))
        with shielded():
            self.ledger.finish(ends)
            del self.running[id(job)]
        self.last_failures = ("", 0)
        self.done += len(results)
        self.failed += sum(result.outcome == "diverged" for result in results)
        self.earned += sum(self.cost[cell] for cell in bank.cells)
        for cell, result in zip(bank.cells, results, strict=True):
            self.view.show(self.state(), f"{cell.variant.label}, seed {cell.seed}: {_told(result)}")

    def on_failure(self, job: Job, failure: Failure) -> None:
        """Fail the bank's trials; try again where the machine was at fault."""
        bank = self.running[id(job)]
        reason = {"failure_reason": failure.reason, "failure_kind": failure.kind}
        with shielded():
            self.ledger.finish([(trial, TrialState.FAIL, None, reason) for trial in bank.trials])
            del self.running[id(job)]
        self.attempts.update(bank.cells)
        worth_it = max(self.attempts[cell] for cell in bank.cells) < MAX_ATTEMPTS
        too_large = failure.kind == "memory" and len(bank.cells) > 1
        if too_large:
            middle = len(bank.cells) // 2
            self._queue_again(bank.cells[:middle], bank.cells[middle:])
        elif failure.kind == "infrastructure" and worth_it:
            self._queue_again(bank.cells)
        else:
            self.failed += len(bank.cells)
        label = f"{bank.cells[0].variant.label}, seed {bank.cells[0].seed}"
        self.view.show(self.state(), f"{label}: failed: {failure.reason}")
        if too_large:
            return  # other banks of this size will fail alike, until their halves have their turn
        same = self.last_failures[1] + 1 if self.last_failures[0] == failure.reason else 1
        self.last_failures = (failure.reason, same)
        if same >= MAX_EQUAL_FAILURES:
            raise StudyFailed(f"{same} failures in a row: {failure.reason}")

    def on_tick(self) -> None:
        """Write what is due, show the time left, mind the deadline."""
        self.ledger.flush_if_due()
        self.view.show(self.state(), None)
        self._mind_the_time()

    def _mind_the_time(self) -> None:
        late = self.deadline is not None and time.monotonic() > self.deadline
        if late and (self.running or self.queue):
            raise OutOfTime

    def _queue_again(self, *again: tuple[Cell, ...]) -> None:
        self.queue.extend(again)
        self.waiting += sum(self.cost[cell] for cells in again for cell in cells)

    def _start(self, cell: Cell, config: TrainConfig) -> int:
        params = {name: getattr(config, name) for name in self.plan.factors}
        attributes = {
            "variant": cell.variant.label,
            "changes": dict(cell.variant.changes),
            "seed": cell.seed,
            "config": config.to_dict(),
        }
        return self.ledger.start(params, self.distributions, attributes)

    def _checkpoint(self, cell: Cell) -> Path:
        name = cell.variant.label.replace(" ", "_").replace("/", "-")
        return self.checkpoints / self.ledger.name / f"{name}_seed={cell.seed}.safetensors"

    def _abandon(self, reason: str) -> None:
        """Fail what is running, so that nothing looks alive that is not."""
        left = [trial for bank in self.running.values() for trial in bank.trials]
        attributes = {"failure_reason": reason, "failure_kind": "interrupted"}
        self.ledger.finish([(trial, TrialState.FAIL, None, attributes) for trial in left])
        self.running.clear()

    def _seconds_left(self) -> float | None:
        begun = [(bank.epochs / self.plan.epochs, bank.cells) for bank in self.running.values()]
        trained = sum(share * self.cost[cell] for share, cells in begun for cell in cells)
        left = self.waiting + sum(self.cost[cell] for _, cells in begun for cell in cells) - trained
        if not left:
            return None
        elapsed = time.monotonic() - self.started
        speed = float(self.executor.slots)  # measured seconds per second
        if elapsed > 10 and self.earned + trained > 0:
            speed = (self.earned + trained) / elapsed  # the measurement, corrected by what happened
        return left / speed


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
    return f"{result.val_accuracy:.2%} validation accuracy in {result.seconds:.1f} s"
