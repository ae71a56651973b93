"""From a plan to a finished study: what runs, what is written, and what survives a failure."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from study.plans.plan import Cell, Plan
from study.run import session
from study.run.coordinator import (
    MAX_ATTEMPTS,
    MAX_EQUAL_FAILURES,
    MAX_REFUSALS,
    Coordinator,
    OutOfTime,
    State,
    StudyFailed,
)
from study.run.executors import Failure, Job, Watcher
from study.run.machine import Machine, workers_for
from study.run.opening import name_for, open_study, plan_differences
from study.run.session import work_for
from study.run.weights import WeightFiles
from study.run.work import Task, banks, pending, settled
from study.store import location, ownership, signals
from study.store.writer import StudyWriter
from tests.support import results
from tests.support.plans import INLINE, Witness, fingerprint, run, tiny
from tests.support.studies import POOLING, database, trial
from trainer import checkpoint
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.errors import UserError
from trainer.results import Cost, Epoch, Result


def trials(file: Path, name: str = "tiny") -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{file}").trials


def cells(found: Sequence[FrozenTrial], state: TrialState = TrialState.COMPLETE) -> list[Any]:
    return [(t.user_attrs["variant"], t.user_attrs["seed"]) for t in found if t.state == state]


def planned(plan: Plan) -> list[tuple[str, int]]:
    return [(cell.variant.label, cell.seed) for cell in plan.cells]


# Pure functions.


def test_only_complete_and_diverged_cells_are_settled() -> None:
    records = [
        ("baseline", 0, "COMPLETE", "finished"),
        ("baseline", 1, "FAIL", "diverged"),
        ("baseline", 2, "FAIL", None),
        ("baseline", 3, "RUNNING", None),
        ("pooling=avg", 0, "FAIL", None),
        ("pooling=avg", 0, "COMPLETE", "early-stopped"),
        (None, None, "COMPLETE", None),
    ]
    assert set(settled(records)) == {
        ("baseline", 0),
        ("baseline", 1),
        ("pooling=avg", 0),
        (None, None),
    }
    left = [(c.variant.label, c.seed) for c in pending(tiny(seeds=4), records)]
    assert left == [
        ("pooling=avg", 1),
        ("baseline", 2),
        ("pooling=avg", 2),
        ("baseline", 3),
        ("pooling=avg", 3),
    ]


@given(st.sets(st.sampled_from(tiny(seeds=5).cells)))
def test_what_is_pending_and_what_is_settled_make_the_plan(done: set[Cell]) -> None:
    plan = tiny(seeds=5)
    records = [(cell.variant.label, cell.seed, "COMPLETE", "finished") for cell in done]
    left = pending(plan, records)
    assert set(left) | done == set(plan.cells)
    assert not set(left) & done
    assert left == [cell for cell in plan.cells if cell in set(left)]


MIXED = tiny(
    seeds=3, factors={"width": [4, 8], "dropout": [0.2, 0.5], "augmentation": ["none", "flip"]}
)


@given(st.lists(st.sampled_from(MIXED.cells), unique=True), st.integers(1, 20))
def test_banks_hold_each_task_once_and_only_what_fuses(todo: list[Cell], size: int) -> None:
    tasks = [Task(c.variant.label, c.seed, MIXED.config_of(c), {}, {}) for c in todo]
    found = banks(tasks, size)
    assert Counter(task for bank in found for task in bank) == Counter(tasks)
    for bank in found:
        assert 1 <= len(bank) <= size
        assert len({task.config.fusion_key for task in bank}) == 1


def test_differences_between_plans_name_old_and_new() -> None:
    assert plan_differences(tiny(), tiny(seeds=9, name="other")) == []
    other = tiny(epochs=3, factors={"pooling": ["max"], "width": [4, 8]})
    assert plan_differences(tiny(), other) == [
        "epochs (1, now 3)",
        "factors.pooling (['max', 'avg'], now ['max'])",
        "factors.width (absent, now [4, 8])",
    ]


def test_a_study_with_other_conditions_gets_their_name() -> None:
    def name(plan: Plan) -> str:
        return name_for(plan, lambda name: tiny().to_dict() if name == "tiny" else None)

    assert name(tiny()) == name(tiny(seeds=9)) == "tiny"
    assert name(tiny(epochs=3)) == "tiny-digits-200-3-epochs"
    assert name(tiny(dataset="mnist", subset=None)) == "tiny-mnist-1-epochs"
    assert name_for(tiny(), lambda _: None) == "tiny"


# A whole small study, really trained.


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of the tiny plan, run; tests that write copy its folder."""
    file = tmp_path_factory.mktemp("finished") / "studies.db"
    state = run(tiny(), file)
    assert state == State(planned=4, done=4, failed=0, running=0, seconds_left=None)
    return file


@pytest.fixture
def own_copy(finished: Path, tmp_path: Path) -> Path:
    file = tmp_path / "studies.db"
    file.write_bytes(finished.read_bytes())
    return file


def test_every_planned_cell_is_complete_once(finished: Path) -> None:
    assert cells(trials(finished)) == planned(tiny())
    assert len(trials(finished)) == 4


def test_attributes_are_those_of_the_storage_page(finished: Path, digits: ImageData) -> None:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{finished}")
    about = study.user_attrs
    assert Plan.from_dict(about["plan"]).hash == tiny().hash == about["plan_hash"]
    assert about["dataset"]["name"] == "digits"
    assert about["dataset"]["sha256"] == digits.sha256
    assert about["dataset"]["train_images"] == len(digits.train_labels)
    assert {"fmnist-study", "python", "torch", "optuna"} <= set(about["versions"])
    assert about["command"] == "fmnist-study run tiny"
    assert {"git_commit", "host", "last_run", "devices"} <= set(about)
    for cell, found in zip(tiny().cells, study.trials, strict=True):
        attributes = found.user_attrs
        config = tiny().config_of(cell)
        assert attributes["config"] == config.to_dict()
        assert attributes["changes"] == dict(cell.variant.changes)
        assert found.params == {"pooling": config.pooling}
        assert found.distributions["pooling"].choices == ("max", "avg")  # type: ignore[attr-defined] # it is categorical
        (epoch,) = attributes["history"]
        assert set(epoch) == set(Epoch.__dataclass_fields__)
        assert found.intermediate_values == {1: found.value} == {1: epoch["val_accuracy"]}
        assert (attributes["outcome"], attributes["best_epoch"]) == ("finished", 1)
        assert 0 <= attributes["test_accuracy"] <= 1
        assert (attributes["bank"], attributes["precision"]) == (1, "fp32")
        assert attributes["seconds"] > 0
        assert attributes["images_per_second"] > 0
        assert "failure_reason" not in attributes


def test_each_trial_has_its_checkpoint(finished: Path) -> None:
    paths = [finished.parent / found.user_attrs["checkpoint"] for found in trials(finished)]
    assert len(set(paths)) == 4
    for path, found in zip(paths, trials(finished), strict=True):
        weights, about = checkpoint.read(path)
        assert about["config"] == found.user_attrs["config"]
        assert about["result"]["val_accuracy"] == found.value
        assert sum(weight.numel() for weight in weights.values()) >= found.user_attrs["parameters"]


def test_a_finished_study_runs_nothing_again(own_copy: Path) -> None:
    before = trials(own_copy)
    assert run(tiny(), own_copy).done == 4
    assert trials(own_copy) == before


def test_more_seeds_run_only_the_new_ones(own_copy: Path) -> None:
    before = trials(own_copy)
    assert run(tiny(seeds=3), own_copy).done == 6
    after = trials(own_copy)
    assert after[:4] == before
    assert cells(after[4:]) == [("baseline", 2), ("pooling=avg", 2)]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"epochs": 2}, r"epochs \(1, now 2\)"),
        ({"subset": 300}, r"subset \(200, now 300\)"),
        ({"factors": {"pooling": ["max"]}}, r"factors.pooling \(\['max', 'avg'\], now \['max'\]\)"),
        ({"baseline": {}}, r"width \(4, now 32\); .*batch_size \(32, now 64\)"),
        ({"dataset": "fashion-mnist"}, r"dataset \(digits, now fashion-mnist\)"),
    ],
)
def test_another_plan_is_refused_and_nothing_changes(
    own_copy: Path, changes: dict[str, Any], difference: str
) -> None:
    before = fingerprint(own_copy)
    with pytest.raises(UserError, match=rf"study 'tiny' in the database differs .* {difference}"):
        run(tiny(**changes), own_copy, name="tiny")
    assert fingerprint(own_copy) == before


def test_other_data_is_refused(own_copy: Path) -> None:
    with ownership.take(location.locate(str(own_copy)), "test") as opened:
        writer = StudyWriter(opened, "tiny")
        with pytest.raises(UserError, match="differs from this plan in the content of digits"):
            open_study(writer, tiny(seeds=3), {"name": "digits", "sha256": "0" * 64})
        assert writer.plan() == tiny().to_dict()


def test_a_study_of_another_tool_is_refused(tmp_path: Path) -> None:
    database(tmp_path, [trial(POOLING, {}, 0, 0.9)], name="tiny")
    with pytest.raises(UserError, match="'tiny': was not made by fmnist-study"):
        run(tiny(), tmp_path / "studies.db")


def test_a_bank_trains_the_same_cells(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    run(tiny(), file, machine=replace(INLINE, bank=4))
    found = trials(file)
    assert set(cells(found)) == set(planned(tiny()))
    assert [t.user_attrs["bank"] for t in found] == [2, 2, 2, 2]  # pooling does not fuse
    alone = {(t.user_attrs["variant"], t.user_attrs["seed"]): t for t in trials(finished)}
    for one in found:
        other = alone[one.user_attrs["variant"], one.user_attrs["seed"]]
        loss = one.user_attrs["history"][0]["train_loss"]
        assert loss == pytest.approx(other.user_attrs["history"][0]["train_loss"], rel=1e-3)


def test_a_diverged_trial_fails_with_its_reason_and_is_settled(tmp_path: Path) -> None:
    recipe = {"width": 4, "batch_size": 32, "precision": "fp32", "optimizer": "sgd"}
    plan = tiny(
        baseline=recipe | {"schedule": "constant", "batchnorm": False},
        factors={"learning_rate": [3e-3, 100.0]},
        seeds=1,
        epochs=3,
    )
    file = tmp_path / "studies.db"
    assert (run(plan, file).failed, run(plan, file).failed) == (1, 1)
    good, bad = trials(file)
    assert (good.state, bad.state) == (TrialState.COMPLETE, TrialState.FAIL)
    assert bad.user_attrs["outcome"] == "diverged"
    assert bad.user_attrs["failure_reason"].startswith("diverged: the loss is not finite in epoch")
    assert bad.user_attrs["test_accuracy"] is None


# Failures, with an executor that trains nothing.


def result(config: TrainConfig) -> Result:
    """What an untrained network would come to."""
    epoch = Epoch(1, 2.3, 0.1, 2.3, 0.1 + config.seed / 100, config.learning_rate, 0.01)
    return results.result([epoch], seconds=0.01)


Fate = Callable[["Scripted", Job], Failure | None]


@dataclass
class Scripted:
    """An executor whose jobs succeed, fail or interrupt as `fate` says."""

    fate: Fate
    slots: int = 2  # jobs that run at the same time
    jobs: list[Job] = field(default_factory=list)
    closed: bool = False

    def start(self) -> dict[str, Any]:
        return {}

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        return [Cost(1.0, 1) for _ in configs]

    def run(self, watcher: Watcher) -> None:
        running: list[Job] = []
        while True:
            while len(running) < self.slots and (job := watcher.next_job()) is not None:
                running.append(job)
                self.jobs.append(job)
            if not running:
                return
            job = running.pop(0)
            results = [result(config) for config in job.configs]
            epochs = {position: own.history[0] for position, own in enumerate(results)}
            assert watcher.on_epoch(job, epochs) == ()
            failure = self.fate(self, job)
            if failure:
                watcher.on_failure(job, failure)
            else:
                watcher.on_results(job, results)
            watcher.on_tick()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[..., Coordinator]]:
    """Make a coordinator whose executor follows a script."""
    with ExitStack() as stack:
        url = location.locate(str(tmp_path / "x.db"))
        opened = stack.enter_context(ownership.take(url, "test"))

        def make(
            plan: Plan, fate: Fate, *, bank: int = 1, deadline: float | None = None
        ) -> Coordinator:
            writer = StudyWriter(opened, plan.name)
            open_study(writer, plan, {"name": "digits", "sha256": ""})
            work = work_for(plan, writer.trials(), bank)
            work.learn([Cost(1.0, 1) for _ in work.kinds()])
            return Coordinator(
                work,
                writer,
                Scripted(fate),
                bank_size=bank,
                weights=WeightFiles(tmp_path, "studies.db", writer.name),
                view=Witness(),
                deadline=deadline,
            )

        yield make


PLAN = tiny(seeds=5)
Make = Callable[..., Coordinator]


def outcomes(coordinator: Coordinator) -> Mapping[TrialState, int]:
    return Counter(found.state for found in coordinator.writer.trials())


def jobs(coordinator: Coordinator) -> list[Job]:
    assert isinstance(coordinator.executor, Scripted)
    return coordinator.executor.jobs


def test_a_cell_whose_worker_dies_is_tried_again(scripted: Make) -> None:
    def fate(executor: Scripted, job: Job) -> Failure | None:
        mine = [own for own in executor.jobs if own.configs == job.configs]
        return Failure("infrastructure", "worker died") if len(mine) == 1 else None

    coordinator = scripted(tiny(), fate)
    assert coordinator.run().failed == 0
    assert outcomes(coordinator) == {TrialState.FAIL: 4, TrialState.COMPLETE: 4}
    assert set(cells(coordinator.writer.trials())) == set(planned(tiny()))


def test_a_cell_is_tried_only_so_often(scripted: Make) -> None:
    def fate(_: Scripted, job: Job) -> Failure | None:
        config = job.configs[0]
        bad = (config.pooling, config.seed) == ("avg", 1)
        return Failure("infrastructure", "worker died") if bad else None

    coordinator = scripted(tiny(seeds=3), fate)
    state = coordinator.run()
    assert (state.done, state.failed) == (5, 1)
    assert outcomes(coordinator) == {TrialState.FAIL: MAX_ATTEMPTS, TrialState.COMPLETE: 5}
    failed = [t for t in coordinator.writer.trials() if t.state == TrialState.FAIL]
    assert {t.user_attrs["failure_reason"] for t in failed} == {"worker died"}
    assert {t.user_attrs["failure_kind"] for t in failed} == {"infrastructure"}


def test_a_disk_that_refuses_one_cell_for_ever_does_not_hold_the_study_up(
    scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.run.disk.SPARE_BYTES", 1)  # doubled each time: no pause here

    def fate(_: Scripted, job: Job) -> Failure | None:
        config = job.configs[0]
        bad = (config.pooling, config.seed) == ("avg", 1)
        return Failure("disk", "no room in checkpoints") if bad else None

    coordinator = scripted(tiny(seeds=3), fate)
    state = coordinator.run()
    assert (state.done, state.failed) == (5, 1)
    assert outcomes(coordinator) == {TrialState.FAIL: MAX_REFUSALS, TrialState.COMPLETE: 5}


def test_a_user_s_error_is_not_tried_again(scripted: Make) -> None:
    def fate(_: Scripted, job: Job) -> Failure | None:
        return Failure("user", "too small") if job.configs[0].pooling == "avg" else None

    coordinator = scripted(tiny(), fate)
    assert coordinator.run().failed == 2
    assert len(jobs(coordinator)) == 4


@pytest.mark.parametrize("fits", [2, 1])
def test_banks_too_large_for_the_memory_are_halved(scripted: Make, fits: int) -> None:
    def fate(_: Scripted, job: Job) -> Failure | None:
        return Failure("memory", "out of memory") if len(job.configs) > fits else None

    plan = tiny(seeds=12)  # 6 banks of 4: the sixth failure comes before the first half is tried
    coordinator = scripted(plan, fate, bank=4)
    state = coordinator.run()
    assert (state.done, state.failed) == (24, 0)
    assert Counter(cells(coordinator.writer.trials())) == Counter(planned(plan))


def test_a_single_trial_that_does_not_fit_fails(scripted: Make) -> None:
    def fate(_: Scripted, job: Job) -> Failure | None:
        return Failure("memory", "out of memory") if job.configs[0].seed == 0 else None

    coordinator = scripted(PLAN, fate, bank=4)
    assert coordinator.run().failed == 2


def test_equal_failures_in_a_row_stop_the_study(scripted: Make) -> None:
    coordinator = scripted(PLAN, lambda *_: Failure("error", "no such operator"))
    with pytest.raises(StudyFailed, match="5 failures in a row: no such operator"):
        coordinator.run()
    assert TrialState.RUNNING not in outcomes(coordinator)
    failed = [t.user_attrs["failure_reason"] for t in coordinator.writer.trials()]
    assert failed.count("no such operator") == MAX_EQUAL_FAILURES
    assert "stopped: StudyFailed" in failed  # the one that was running meanwhile
    assert isinstance(coordinator.executor, Scripted)
    assert coordinator.executor.closed


def test_different_failures_do_not_stop_the_study(scripted: Make) -> None:
    def fate(executor: Scripted, _: Job) -> Failure | None:
        return Failure("error", f"number {len(executor.jobs) % 2}")

    coordinator = scripted(PLAN, fate)
    vars(coordinator.executor)["slots"] = 1
    assert coordinator.run().failed == 10


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt, "interrupted"),
        (SystemExit, "terminated"),
        (OutOfTime, "out of time"),
        (ZeroDivisionError, "stopped: ZeroDivisionError"),
    ],
)
def test_whatever_ends_a_run_nothing_is_left_running_and_the_rest_is_kept(
    scripted: Make, error: type[BaseException], reason: str
) -> None:
    def fate(executor: Scripted, _: Job) -> Failure | None:
        if len(executor.jobs) == 5:
            raise error
        return None

    coordinator = scripted(PLAN, fate)
    with pytest.raises(error):
        coordinator.run()
    found = coordinator.writer.trials()
    assert outcomes(coordinator) == {TrialState.COMPLETE: 3, TrialState.FAIL: 2}
    assert [t.user_attrs["failure_reason"] for t in found if t.state == TrialState.FAIL] == [
        reason
    ] * 2
    assert found[0].intermediate_values == {1: 0.1}
    assert found[3].intermediate_values == {1: pytest.approx(0.11)}  # what it had come to

    again = scripted(PLAN, lambda *_: None)
    assert again.run() == State(10, 10, 0, 0, None)
    assert Counter(cells(again.writer.trials())) == Counter(planned(PLAN))


def test_a_signal_in_the_middle_of_a_commit_loses_nothing(
    scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = StudyWriter.finish

    def interrupted(self: StudyWriter, ends: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        finish(self, ends)

    coordinator = scripted(PLAN, lambda *_: None)
    monkeypatch.setattr(StudyWriter, "finish", interrupted)
    # Closed first, so that the abandoned trials are written undisturbed.
    monkeypatch.setattr(coordinator.executor, "close", monkeypatch.undo)
    with signals.handled(), pytest.raises(KeyboardInterrupt):
        coordinator.run()
    assert outcomes(coordinator) == {TrialState.COMPLETE: 1, TrialState.FAIL: 1}


def test_the_time_limit_ends_a_run_before_another_trial_is_started(scripted: Make) -> None:
    coordinator = scripted(PLAN, lambda *_: None)

    def fate(executor: Scripted, _: Job) -> Failure | None:
        coordinator.deadline = 0.0 if len(executor.jobs) == 4 else None
        return None

    coordinator.executor = Scripted(fate, slots=1)
    with pytest.raises(OutOfTime):
        coordinator.run()
    assert outcomes(coordinator) == {TrialState.COMPLETE: 4}


def test_a_deadline_that_passes_after_the_last_trial_changes_nothing(scripted: Make) -> None:
    coordinator = scripted(tiny(seeds=1, factors={}), lambda *_: None)

    def fate(*_: object) -> None:
        coordinator.deadline = 0.0

    coordinator.executor = Scripted(fate, slots=1)
    assert coordinator.run().done == 1


def test_the_view_sees_every_trial_and_the_time_left(scripted: Make) -> None:
    coordinator = scripted(PLAN, lambda *_: None)
    view = coordinator.view
    assert isinstance(view, Witness)
    coordinator.run()
    assert len(view.events) == 10
    assert view.events[0] == "baseline, seed 0: 10.00% validation accuracy in 0.0 s"
    assert [state.done for state in view.states] == sorted(state.done for state in view.states)
    first, last = view.states[0], view.states[-1]
    assert (first.done, first.seconds_left) == (0, 5.0)  # 10 cells of a second, 2 workers
    assert (last.done, last.running, last.seconds_left) == (10, 0, None)


def test_a_machine_is_checked() -> None:
    for wrong in ({"executor": "cloud"}, {"workers": 0}, {"bank": -1}):
        with pytest.raises(UserError, match=f"^{next(iter(wrong))} = "):
            Machine(**wrong)


def test_a_study_is_trained_with_the_threads_that_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.run.hardware.available_cores", lambda: 8)
    file = tmp_path / "studies.db"
    threads: list[int | None] = []

    def watched(plan: Plan, trials: int, machine: Machine, tell: Any) -> Any:
        threads.append(machine.threads)
        return workers_for(plan, trials, machine, tell)

    monkeypatch.setattr(session, "workers_for", watched)
    inline = Machine(device="cpu", executor="inline")
    before = torch.get_num_threads()
    try:
        run(tiny(seeds=1), file, machine=replace(inline, workers=4))
        run(tiny(seeds=2), file, machine=inline)  # alone, it would have one thread each
        run(tiny(seeds=3), file, machine=replace(inline, workers=1))
    finally:
        torch.set_num_threads(before)  # of this process: the tests'
    assert threads == [None, 2, 2]
    stored_threads = optuna.load_study(study_name="tiny", storage=f"sqlite:///{file}").user_attrs
    assert stored_threads["threads"] == 2


@pytest.mark.parametrize("planted", [0, -1, True, "2", 1e9, None, [2]])
def test_threads_that_nobody_wrote_are_not_believed(
    planted: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "studies.db"
    run(tiny(seeds=1), file)
    monkeypatch.setattr(
        StudyWriter, "attributes", lambda self, real=StudyWriter.attributes: {
            **real(self), "threads": planted
        }
    )  # fmt: skip
    assert run(tiny(seeds=2), file).done == 4
