"""What there is to do: tasks for the coordinator, from a design's cells.

`Work` is the coordinator's view of it; a search (`study/run/search.py`) is the other kind.
"""

import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fmnist_common.designs import is_settled
from study.plans.plan import Cell, Plan
from trainer.config import TrainConfig
from trainer.results import Cost, Epoch, Result

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

CostKey = tuple[Any, ...]
CellKey = tuple[str | None, int | None]  # variant, seed
Record = tuple[str | None, int | None, str, str | None]  # variant, seed, state, outcome


@dataclass(eq=False)
class Task:
    """One trial to be run. A search's new candidate gets its name when it is started."""

    variant: str
    seed: int
    config: TrainConfig
    params: Mapping[str, Any]
    changes: Mapping[str, Any]
    candidate: int | None = None  # searches: number of the trial that first ran these params

    @property
    def label(self) -> str:
        """For people: `pooling=avg, seed 1`."""
        return f"{self.variant}, seed {self.seed}"


class Work(Protocol):
    """What the coordinator needs to know of what is to be done.

    It is made from the trials in the database, so that a run which was killed goes on. `kinds` and
    `learn` are called once, before anything is trained. Then `next` is asked whenever a worker is
    free, also after it has returned nothing: results may have made new tasks. A task that it has
    handed out starts (`on_start`), is told of its epochs (`on_epoch`, which may stop it), and ends
    in exactly one of `on_result`, after the result is in the database, or `give_up`. Before that
    it may be started again, where a worker died; of what is running when a run is interrupted
    nothing is told. All is called in the owner's process, one call at a time, in the order of the
    events. `planned` and `done` may grow together; a study is over when they are equal.
    """

    @property
    def distributions(self) -> "Mapping[str, BaseDistribution]":
        """Return Optuna's form of every parameter."""

    @property
    def planned(self) -> int:
        """Trials in all, as far as that is known now."""

    @property
    def done(self) -> int:
        """Trials that need no further run."""

    @property
    def failed(self) -> int:
        """Of them, those without a result."""

    def kinds(self) -> Sequence[TrainConfig]:
        """Return the configs whose cost is to be measured."""

    def learn(self, costs: Sequence[Cost]) -> None:
        """Take the measured costs of the kinds."""

    def next(self, size: int) -> Sequence[Task]:
        """Return up to `size` tasks that fuse; none: nothing can be started now."""

    def on_start(self, task: Task, number: int) -> None:
        """Take note that a task starts as the trial of this number."""

    def on_epoch(self, task: Task, epoch: Epoch) -> bool:
        """Take a task's epoch; return whether it stops here."""

    def on_result(self, task: Task, result: Result) -> None:
        """Take a task's result; it needs no further run."""

    def give_up(self, task: Task) -> None:
        """Take note that a task gave no result and is not tried again."""

    def objectives(self, result: Result) -> Sequence[float | None]:
        """Return the values of the study's objectives; None: there is none."""

    def cost(self, task: Task) -> float:
        """Return the seconds that a task takes, as far as that is known."""

    def seconds_waiting(self) -> float:
        """Return the seconds of all tasks not started yet."""


def settled_values(trials: "Iterable[FrozenTrial]") -> dict[CellKey, float | None]:
    """Return the settled cells of Optuna's trials with their accuracy; None: it diverged."""
    rows = list(trials)
    accuracy = {
        (trial.user_attrs.get("variant"), trial.user_attrs.get("seed")): trial.value
        for trial in rows
        if trial.state.name == "COMPLETE"
    }
    return {cell: accuracy.get(cell) for cell in settled(records(rows))}


def settled(trials: Iterable[Record]) -> dict[tuple[str | None, int | None], str]:
    """Return the cells (variant, seed) that need no further run, with their trial's state.

    Complete and pruned ones, and diverged ones: the same config and seed would diverge again.
    """
    return {
        (variant, seed): state
        for variant, seed, state, outcome in trials
        if is_settled(state, outcome)
    }


def records(trials: "Iterable[FrozenTrial]") -> list[Record]:
    """Return what `settled` and `pending` need of Optuna's trials."""
    return [
        (attrs.get("variant"), attrs.get("seed"), trial.state.name, attrs.get("outcome"))
        for trial in trials
        for attrs in [trial.user_attrs]
    ]


def pending(plan: Plan, trials: Iterable[Record]) -> list[Cell]:
    """Return the planned cells that are not settled, in plan order."""
    done = settled(trials)
    return [cell for cell in plan.cells if (cell.variant.label, cell.seed) not in done]


def cost_key(config: TrainConfig) -> CostKey:
    """Return what a training's duration depends on."""
    return (*config.fusion_key, config.augmentation)


def banks(tasks: Sequence[Task], size: int) -> list[tuple[Task, ...]]:
    """Group tasks that fuse into banks of at most `size`, keeping the order of first tasks."""
    if size == 1:
        return [(task,) for task in tasks]
    groups: dict[tuple[Any, ...], list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.config.fusion_key, []).append(task)
    return [
        tuple(group[i : i + size]) for group in groups.values() for i in range(0, len(group), size)
    ]


class CellWork:
    """Cells of a design, queued in banks. Most of a `Work`; what is queued when is its heirs'.

    Args:
        plan: the design.
        bank_size: members per bank at most.
    """

    def __init__(self, plan: Plan, bank_size: int) -> None:
        from study.store.writer import categorical

        self.plan, self.bank_size = plan, bank_size
        self.distributions = {name: categorical(levels) for name, levels in plan.varied.items()}
        self.tasks: list[Task] = []  # all that were ever queued
        self.queue: deque[tuple[Task, ...]] = deque()
        self.costs: dict[CostKey, Cost] = {}
        self.waiting = 0.0
        self.planned = self.done = self.failed = 0

    def add(self, cells: Iterable[Cell]) -> list[Task]:
        """Queue cells; return their tasks."""
        tasks = [task_of(self.plan, cell) for cell in cells]
        self.tasks += tasks
        self.queue.extend(banks(tasks, self.bank_size))
        self.waiting += sum(map(self.cost, tasks))
        return tasks

    def kinds(self) -> Sequence[TrainConfig]:
        """Return a config of each kind that costs differently."""
        return list({cost_key(task.config): task.config for task in self.tasks}.values())

    def learn(self, costs: Sequence[Cost]) -> None:
        """Take the measured costs of the kinds."""
        self.costs = {cost_key(c): cost for c, cost in zip(self.kinds(), costs, strict=True)}
        if self.bank_size > 1:  # the longest first, so that no worker is left alone with one
            self.queue = deque(sorted(self.queue, key=self._seconds, reverse=True))
        self.waiting = sum(self.cost(task) for tasks in self.queue for task in tasks)

    def _seconds(self, tasks: Sequence[Task]) -> float:
        return sum(map(self.cost, tasks))

    def next(self, size: int) -> Sequence[Task]:
        """Return the next bank."""
        if not self.queue:
            return ()
        tasks = self.queue.popleft()
        if len(tasks) > size:  # the coordinator has learnt that memory holds no more
            self.queue.appendleft(tasks[size:])
            tasks = tasks[:size]
        self.waiting -= sum(map(self.cost, tasks))
        return tasks

    def on_start(self, task: Task, number: int) -> None:
        """A cell has no use for its trial's number."""

    def on_epoch(self, task: Task, epoch: Epoch) -> bool:
        """Nobody stops early in a designed study."""
        del task, epoch
        return False

    def on_result(self, task: Task, result: Result) -> None:
        """Count it."""
        del task
        self.done += 1
        self.failed += result.outcome == "diverged"

    def give_up(self, task: Task) -> None:
        """Count it: its cell stays pending for the next run."""
        del task
        self.failed += 1

    def objectives(self, result: Result) -> Sequence[float | None]:
        """Return the validation accuracy."""
        return [result.val_accuracy]

    def cost(self, task: Task) -> float:
        """Return the measured seconds of its kind; of another kind, the mean of what is known."""
        measured = self.costs.get(cost_key(task.config))
        if measured:
            return measured.seconds
        return statistics.fmean(c.seconds for c in self.costs.values()) if self.costs else 0.0

    def seconds_waiting(self) -> float:
        """Return the seconds of what is queued."""
        return self.waiting


class DesignedWork(CellWork):
    """The pending cells of an ablation or a factorial design. A `Work`.

    Args:
        plan: the design.
        trials: the study's trials so far.
        bank_size: members per bank at most.
    """

    def __init__(self, plan: Plan, trials: Sequence[Record], bank_size: int) -> None:
        super().__init__(plan, bank_size)
        tasks = self.add(pending(plan, trials))
        states = settled(trials)
        self.planned = len(plan.cells)
        self.done = self.planned - len(tasks)
        self.failed = sum(
            states.get((cell.variant.label, cell.seed)) == "FAIL" for cell in plan.cells
        )


def task_of(plan: Plan, cell: Cell) -> Task:
    """Return the task of a cell."""
    config = plan.config_of(cell)
    params = {name: getattr(config, name) for name in plan.varied}
    return Task(cell.variant.label, cell.seed, config, params, dict(cell.variant.changes))
