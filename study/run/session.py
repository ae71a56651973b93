"""What the command `run` does, without its words: name, ownership, workers, coordination."""

import importlib.metadata
import platform
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy
from optuna.trial import FrozenTrial
from sqlalchemy.orm import Session

from study.plans.plan import Plan, check_name
from study.run import reuse
from study.run.adaptive import AdaptiveWork, SeedRule, check_is_adaptive
from study.run.coordinator import Coordinator, State, View
from study.run.executors import Executor
from study.run.machine import Estimate, Machine, bank_size, estimate, gain, share, workers_for
from study.run.opening import (
    attempts,
    check_same_images,
    check_same_plan,
    name_for,
    open_study,
    store_plan,
)
from study.run.path import PathWork, check_has_path
from study.run.provenance import git_commit, git_diff
from study.run.search import SearchWork
from study.run.weights import WeightFiles, database_name
from study.run.work import DesignedWork, Work, records, settled, settled_values
from study.store import location, ownership, replay, restore
from study.store.durability import Durability
from study.store.writer import StudyWriter
from trainer import files
from trainer.config import TrainConfig
from trainer.results import Cost

MAX_THREADS = 1024  # more are no number of threads that we wrote


@dataclass(frozen=True)
class Watched:
    """Who is told what of a run.

    `announce` is called with the study's name and the estimate (None: nothing is left to do),
    `tell` with a line for each thing that had to be restored first, `news` with what is decided.
    """

    view: View
    announce: Callable[[str, Estimate | None], None]
    tell: Callable[[str], None]
    news: Callable[[str], None]


def work_for(
    plan: Plan,
    trials: Sequence[FrozenTrial],
    bank: int = 1,
    *,
    path: bool = False,
    rule: SeedRule | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Work:
    """Return what is left to do of a plan.

    Args:
        plan: the plan.
        trials: the study's trials so far.
        bank: members per bank at most.
        path: whether its ablation path is trained too.
        rule: who gets further seeds, of a plan that stops when it is sure.
        tell: called with what is decided, of such a plan.

    Raises:
        UserError: the plan has no path, or no levels to be decided.
    """
    if plan.max_seeds is not None and rule is not None:
        check_is_adaptive(plan, path=path)
        return AdaptiveWork(plan, settled_values(trials), bank, rule, tell)
    if path:
        return PathWork(plan, trials, bank)
    if plan.search is None:
        return DesignedWork(plan, records(trials), bank)
    return SearchWork(plan, trials)


def check_ways(plan: Plan, *, path: bool, reusing: bool) -> None:
    """Check that a plan has what it is to be run with: a path, cells that others may have trained.

    Raises:
        UserError: it has not.
    """
    check_is_adaptive(plan, path=path)
    if path:
        check_has_path(plan)
    if reusing:
        reuse.check_can_reuse(plan)


def run(
    plan: Plan,
    url: sqlalchemy.URL,
    machine: Machine,
    *,
    study_name: str | None,
    argv: Sequence[str],
    view: View,
    announce: Callable[[str, Estimate | None], None],
    tell: Callable[[str], None] = lambda _: None,
    timeout: float | None = None,
    path: bool = False,
    reusing: bool = False,
    rule: SeedRule | None = None,
    news: Callable[[str], None] = lambda _: None,
) -> State:
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
        reusing: whether cells that other studies have trained are taken over.
        rule: who gets further seeds, of a plan that stops when it is sure.
        news: called with what each of its rounds has decided, and with what is taken over.

    Raises:
        UserError: something given is wrong; nothing has been written.
        StudyFailed, StorageFailed, OutOfTime, KeyboardInterrupt, SystemExit: what ended the run
            early.
    """
    command = shlex.join(["fmnist-study", *map(location.shareable, argv)])
    if study_name is not None:
        check_name("--study-name", study_name)
    deadline = time.monotonic() + timeout if timeout else None
    images = _content(plan, machine)
    if _begins(url):
        _ = machine.devices  # refused before a database is made
        _get_data(plan, machine)
    with ownership.take(url, command, tell) as database:
        durability = Durability(url, tell)
        replay.replay(database, durability.journal, tell)
        name = study_name or name_for(plan, lambda name: StudyWriter(database, name).plan())
        writer = StudyWriter(database, name, journal=durability.journal)
        trials = writer.sound_trials() if writer.exists else []
        check_same_plan(writer.name, writer.plan(), len(trials), plan)
        check_same_images(writer, plan, images)
        machine = _as_before(machine, writer)
        plan = plan.as_sure_as(writer.plan())
        left = trials_left(plan, trials)
        bank = bank_size(plan, machine, left)
        work_of = partial(work_for, plan, bank=bank, path=path, rule=rule, tell=news)
        work = work_of(trials)
        if work.done >= work.planned:
            announce(writer.name, None)
            return _keep_as_it_is(plan, work, writer, durability)
        _get_data(plan, machine)
        watched = Watched(view, announce, tell, news)
        session = _Session(
            plan, machine, work_of, writer, durability, database_name(url), command, deadline,
            watched, reusing,
        )  # fmt: skip
        return session.train(trials, work)


def _begins(url: sqlalchemy.URL) -> bool:
    """Whether there is no database yet, nor anything to make it of."""
    file = location.sqlite_path(url)
    return not (file and restore.is_possible(file)) and location.is_new(url)


def _get_data(plan: Plan, machine: Machine) -> None:
    if not plan.base_config.is_foreign:
        files.ready(plan.dataset, machine.data_dir, download=True)


def _keep_as_it_is(plan: Plan, work: Work, writer: StudyWriter, durability: Durability) -> State:
    """Note that a study ran in which nothing is left to do."""
    with durability.guarding(writer):
        store_plan(writer, plan)
        writer.touch()
    return State(work.planned, work.done, work.failed, 0, None)


def _content(plan: Plan, machine: Machine) -> str | None:
    """Return the hash of the user's images; None of others, and where they are only a name."""
    if plan.base_config.is_foreign:
        return None
    return files.content(plan.dataset, machine.data_dir, download=True)


def trials_left(plan: Plan, trials: Sequence[FrozenTrial]) -> int:
    """Return how many trainings a plan still needs, as far as that can be told at the start."""
    if plan.max_seeds is not None:  # the next rounds' are not known
        return plan.variant_count
    return plan.trial_count - len(settled(records(trials)))


def _as_before(machine: Machine, writer: StudyWriter) -> Machine:
    """Return the machine with as many threads a worker as the study has been trained with.

    Sums are rounded differently by other numbers of threads, so that a training which goes on
    would not be the one that was interrupted.
    """
    stored = writer.attributes().get("threads") if writer.exists else None
    if isinstance(stored, bool) or not isinstance(stored, int) or not 1 <= stored <= MAX_THREADS:
        return machine
    return replace(machine, threads=stored)


@dataclass(frozen=True)
class _Session:
    """A run whose study is found, with something left to do."""

    plan: Plan
    machine: Machine
    work_of: Callable[[Sequence[FrozenTrial]], Work]  # what is left, of a study with these trials
    writer: StudyWriter
    durability: Durability
    database: str  # what tells databases in one folder apart
    command: str
    deadline: float | None  # `time.monotonic()`
    watched: Watched
    reusing: bool

    def train(self, trials: Sequence[FrozenTrial], work: Work) -> State:
        """Train what is left to do, `work`; `trials` are those that there are."""
        plan, writer = self.plan, self.writer
        left = max(work.planned - work.done, trials_left(plan, trials))
        with workers_for(plan, left, self.machine, self.watched.tell) as (executor, most):
            described = executor.start()
            bank = share(most, left, executor.slots)
            self._tell_of_changed_code(described.get("code", {}))
            reused = self._reusable(trials, described)
            if reused:
                work = self.work_of([*trials, *(each.settled for each in reused)])
                bank = share(most, max(1, work.planned - work.done), executor.slots)
            costs = self._announce(work, executor, described, bank)
            if self.reusing:
                self.watched.news(reuse.told(reused, work.planned - work.done))
            open_study(writer, plan, described["dataset"])
            with self.durability.guarding(writer):
                writer.touch()
                writer.describe(self._provenance(described))
                begun = attempts(trials)
                reuse.take_over(writer, reused, work.distributions, begun)
                coordinator = Coordinator(
                    work,
                    writer,
                    executor,
                    bank_size=bank,
                    weights=self._weights(),
                    view=self.watched.view,
                    deadline=self.deadline,
                    attempts=begun,
                    parameters=max((cost.parameters for _, cost in costs), default=0),
                    back_up=lambda: self.durability.mind(writer),
                )
                return coordinator.run()

    def _reusable(
        self, trials: Sequence[FrozenTrial], described: Mapping[str, Any]
    ) -> list[reuse.Reusable]:
        if not self.reusing or described.get("code"):  # what code of the user's another study had?
            return []
        data: str = described["dataset"]["sha256"]
        stored, storage = records(trials), self.writer.storage

        def read() -> list[reuse.Reusable]:
            with Session(storage.engine) as session:
                return reuse.find(session, self.plan, stored, self.writer.name, data)

        return storage.patiently(read)

    def _announce(
        self, work: Work, executor: Executor, described: Mapping[str, Any], bank: int
    ) -> Sequence[tuple[TrainConfig, Cost]]:
        """Say what is to be done, and measure what it costs: a cost of each kind of config."""
        if work.done >= work.planned:
            self.watched.announce(self.writer.name, None)
            return ()
        speed = gain(self.plan, self.machine, bank)
        costs = replace(estimate(self.plan, work, executor, described, speed), bank=bank)
        self.watched.announce(self.writer.name, costs)
        for note in described["dataset"].get("notes", ()):
            self.watched.tell(f"note: {self.plan.dataset}: {note}")
        return costs.costs

    def _tell_of_changed_code(self, code: Mapping[str, str]) -> None:
        """Say which of the user's files are others than when the study's trials were trained."""
        before = self.writer.attributes().get("code") if self.writer.exists else None
        for name, digest in (before or {}).items():
            if code.get(name, digest) != digest:
                self.watched.tell(
                    f"warning: the source of {name} has changed since trials of this study were "
                    "trained with it; what is left is trained with it as it is now"
                )

    def _weights(self) -> WeightFiles:
        return WeightFiles(self.durability.folder, self.database, self.writer.name)

    def _provenance(self, described: Mapping[str, Any]) -> dict[str, Any]:
        threads = described.get("threads")  # on CPUs
        return {
            "versions": {**described["versions"], **_versions()},
            "devices": described["devices"],
            "git_commit": git_commit(),
            "git_diff": git_diff(),
            "command": self.command,
            **({"code": described["code"]} if described.get("code") else {}),
            "host": platform.node(),
            **({"threads": threads} if threads else {}),
        }


def _versions() -> dict[str, str]:
    names = ("fmnist-study", "optuna", "torchvision", "sqlalchemy", "numpy")
    return {name: importlib.metadata.version(name) for name in names}
