"""What the command `run` does, without its words: name, ownership, workers, coordination."""

import dataclasses
import importlib.metadata
import platform
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy

from study.plans.plan import Plan, check_name
from study.run.calibration import best_bank_size, known_curve
from study.run.executors import Executor
from study.run.hardware import device_names, worker_count, worker_specs
from study.store import location, ownership, replay, restore
from trainer import files
from trainer.config import TrainConfig
from trainer.errors import UserError, choose
from trainer.results import Cost

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from study.run.coordinator import State, View
    from study.run.work import Work

EXECUTORS = ("local", "inline")


@dataclass(frozen=True)
class Machine:
    """Which part of the machine a run uses, and how."""

    device: str = "auto"
    workers: int | None = None  # None: one per core or GPU
    bank: int | None = None  # None: 1 on CPUs, on GPUs what is measured to be fastest
    executor: str = "local"
    data_dir: Path | None = None

    def __post_init__(self) -> None:
        """Check what was given."""
        if self.executor not in EXECUTORS:
            raise UserError(choose("executor", self.executor, EXECUTORS))
        for name in ("workers", "bank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} = {value}: must be at least 1")


@dataclass(frozen=True)
class Estimate:
    """What a run will cost."""

    trials: int  # to be run
    seconds: float  # of wall time, on these workers
    workers: int
    devices: tuple[str, ...]
    training_images: int  # of each trial
    costs: tuple[tuple[TrainConfig, Cost], ...]  # of each kind of trial


def bank_size(plan: Plan, machine: Machine, trials: int) -> int:
    """Return how many members a bank has at most, so that so many trials keep every worker busy.

    Where several GPUs share the trials, no bank holds more than its worker's share of them.

    Raises:
        UserError: there is no such device.
    """
    devices = device_names(machine.device)
    size = machine.bank or best_bank_size(plan.base_config, devices[0], machine.data_dir)
    slots = worker_count(devices, machine.workers, trials)
    return min(size, -(-max(trials, 1) // slots))


def gain(plan: Plan, machine: Machine, bank: int) -> float:
    """Return how many times as fast a bank trains its members as one after the other.

    As measured for `--bank auto`; 1 where nothing was measured.
    """
    device = device_names(machine.device)[0]
    curve = known_curve(plan.base_config, device)
    sizes = [size for size in curve if size <= bank]
    return curve[max(sizes)] / curve[1] if sizes and 1 in curve else 1.0


@contextmanager
def workers_for(plan: Plan, trials: int, machine: Machine) -> Iterator[tuple[Executor, int]]:
    """Yield an executor for so many trials (not started), and how many members its banks have.

    Raises:
        UserError: there is no such device, or nothing can be measured on it.
    """
    devices = device_names(machine.device)
    bank = bank_size(plan, machine, trials)
    specs = worker_specs(devices, machine.workers, trials, plan.dataset, machine.data_dir)
    executor: Executor
    if machine.executor == "inline":
        from study.run.executors.inline import InlineExecutor

        executor = InlineExecutor(specs[:1])
    else:
        from study.run.executors.local import LocalExecutor

        executor = LocalExecutor(specs)
    try:
        yield executor, bank
    finally:
        executor.close()


def work_for(
    plan: Plan, trials: "Sequence[FrozenTrial]", bank: int = 1, *, path: bool = False
) -> "Work":
    """Return what is left to do of a plan; with its ablation path, where that is asked for.

    Raises:
        UserError: the plan has no path.
    """
    from study.run.work import DesignedWork, records

    if path:
        from study.run.path import PathWork

        return PathWork(plan, trials, bank)

    if plan.search is None:
        return DesignedWork(plan, records(trials), bank)
    from study.run.search import SearchWork

    return SearchWork(plan, trials)


def estimate(
    plan: Plan, work: "Work", executor: Executor, found: Mapping[str, Any], gain: float = 1.0
) -> Estimate:
    """Measure on started workers what is left to do; the work learns it too.

    Args:
        plan, work: what is to be done.
        executor: where.
        found: what its workers found.
        gain: how many times as fast trials are in banks as alone, which is how they are measured.

    Raises:
        UserError: a config cannot be trained here.
    """
    kinds = work.kinds()
    costs = [
        dataclasses.replace(cost, seconds=cost.seconds / gain) for cost in executor.measure(kinds)
    ]
    work.learn(costs)
    images = plan.subset or found["dataset"]["train_images"]
    return Estimate(
        trials=work.planned - work.done,
        seconds=work.seconds_waiting() / executor.slots,
        workers=executor.slots,
        devices=tuple(dict.fromkeys(found["devices"])),
        training_images=images - round(images * plan.base_config.validation_fraction),
        costs=tuple(zip(kinds, costs, strict=True)),
    )


def run(
    plan: Plan,
    url: sqlalchemy.URL,
    machine: Machine,
    *,
    study_name: str | None,
    argv: Sequence[str],
    view: "View",
    announce: Callable[[str, Estimate | None], None],
    tell: Callable[[str], None] = lambda _: None,
    timeout: float | None = None,
    path: bool = False,
) -> "State":
    """Run a plan's pending trials as the owner of the database; return where the study stands.

    Args:
        plan: what to run.
        url: the database.
        machine: where to train.
        study_name: None: the plan's name, with its conditions where that name is taken.
        argv: the command line, to be stored.
        view: watches the run.
        announce: called with the study's name and the estimate (None: nothing is left to do).
        tell: called with a line for each thing that had to be restored first.
        timeout: seconds.
        path: whether the ablation path is trained too.

    Raises:
        UserError: something given is wrong; nothing has been written.
        StudyFailed, StorageFailed, OutOfTime, KeyboardInterrupt, SystemExit: what ended the run
            early.
    """
    command = shlex.join(["fmnist-study", *map(location.masked, argv)])
    if study_name is not None:
        check_name("--study-name", study_name)
    started = time.monotonic()
    file = location.sqlite_path(url)
    new = not (file and restore.is_possible(file)) and location.is_new(url)
    if new:  # refused before a database is made
        device_names(machine.device)
        files.ready(plan.dataset, machine.data_dir, download=True)
    with ownership.take(url, command, tell) as database:
        from study.run.coordinator import (
            Coordinator,
            State,
            check_same_plan,
            open_study,
            store_plan,
        )
        from study.run.work import records, settled
        from study.store.durability import Durability
        from study.store.writer import StudyWriter

        durability = Durability(url, tell)
        replay.replay(database, durability.journal, tell)
        name = study_name or name_for(plan, lambda name: StudyWriter(database, name).plan())
        writer = StudyWriter(database, name, journal=durability.journal)
        trials = writer.sound_trials() if writer.exists else []
        check_same_plan(writer.name, writer.plan(), len(trials), plan)
        left = plan.trial_count - len(settled(records(trials)))
        bank = bank_size(plan, machine, left)
        work = work_for(plan, trials, bank, path=path)
        if work.done >= work.planned:
            announce(writer.name, None)
            with durability.guarding(writer):
                store_plan(writer, plan)
                writer.touch()
            return State(work.planned, work.done, work.failed, 0, None)
        if not new:  # else that was the first thing
            files.ready(plan.dataset, machine.data_dir, download=True)
        with workers_for(plan, work.planned - work.done, machine) as (executor, _):
            found = executor.start()
            costs = estimate(plan, work, executor, found, gain(plan, machine, bank))
            announce(writer.name, costs)
            open_study(writer, plan, found["dataset"])
            with durability.guarding(writer):
                writer.touch()
                writer.describe(
                    {
                        "versions": {**found["versions"], **_versions()},
                        "devices": found["devices"],
                        "git_commit": _git_commit(),
                        "command": command,
                        "host": platform.node(),
                    }
                )
                coordinator = Coordinator(
                    work,
                    writer,
                    executor,
                    bank_size=bank,
                    checkpoints=durability.folder / "checkpoints",
                    view=view,
                    deadline=started + timeout if timeout else None,
                    attempts=attempts(trials),
                    parameters=max((cost.parameters for _, cost in costs.costs), default=0),
                    back_up=lambda: durability.mind(writer),
                )
                return coordinator.run()


def attempts(trials: "Sequence[FrozenTrial]") -> Counter[tuple[str, int]]:
    """Count how often each cell (variant, seed) was begun."""
    attributes = (trial.user_attrs for trial in trials)
    return Counter((own["variant"], own["seed"]) for own in attributes if "variant" in own)


def name_for(plan: Plan, stored: Callable[[str], Mapping[str, Any] | None]) -> str:
    """Return the name of the study that a plan's trials belong to.

    A study holds one data set, subset and number of epochs. Where the plan's name is taken by a
    study with others, these become part of the name, the same for the same command.

    Args:
        plan: the plan.
        stored: a study's name to its stored plan; None: there is no such study.
    """
    taken = stored(plan.name)
    if not taken or Plan.from_dict(taken).conditions == plan.conditions:
        return plan.name
    size = f"-{plan.subset}" if plan.subset else ""
    return f"{plan.name}-{plan.dataset}{size}-{plan.epochs}-epochs"


def _versions() -> dict[str, str]:
    names = ("fmnist-study", "optuna", "torchvision", "sqlalchemy", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def _git_commit() -> str | None:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
