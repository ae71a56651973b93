"""Trainings that are not ours survive what ours survive."""

import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from analysis.trials import Trial, connect, studies, trials
from study.plans.plan import Plan
from study.run.machine import Machine
from tests.faults import trainings
from tests.faults.machine import is_alive, running, states, until, wait_for_the_end
from tests.support.plans import run
from trainer.errors import UserError

ONE = Machine(device="cpu", executor="inline")
LOCAL = Machine(device="cpu", workers=1)


def stored_trials(file: Path) -> list[Trial]:
    engine = connect(f"sqlite:///{file}")
    try:
        (study,) = studies(engine)
        return trials(engine, study.id)
    finally:
        engine.dispose()


PLAN = """
name = "theirs"
seeds = 2
epochs = 4
trainer = "tests.faults.trainings:train"
[trainer_options]
level = 0
trouble = "none"
seconds = 0.3
[factors]
trainer_options.level = [0, 1]
"""


def theirs(trouble: str = "none", **changes: Any) -> Plan:
    options = {"level": 0, "trouble": trouble, "seconds": 0.0}
    values: dict[str, Any] = {
        "name": "theirs",
        "seeds": 2,
        "epochs": 4,
        "trainer": f"{trainings.__name__}:train",
        "trainer_options": options,
        "factors": {"trainer_options": {"level": [0, 1]}},
    }
    return Plan.from_dict({**values, **changes})


def test_a_training_that_diverges_fails_its_cell_for_good(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    assert run(theirs("nan"), file, machine=ONE).failed == 1
    again = run(theirs("nan"), file, machine=ONE)
    assert (again.done, again.failed) == (4, 1)
    diverged = [t for t in stored_trials(file) if t.state == "FAIL"]
    assert [t.outcome for t in diverged] == ["diverged"]
    assert len(stored_trials(file)) == 4


@pytest.mark.parametrize(
    ("trouble", "words"), [("raise", "ValueError: a bad (trainings.py, line "), ("exit", "enough")]
)
def test_a_training_that_raises_fails_and_the_others_go_on(
    trouble: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.db"
    state = run(theirs(trouble), file, machine=ONE)
    assert (state.done, state.failed) == (3, 1)
    (failed,) = [t for t in stored_trials(file) if t.state == "FAIL"]
    assert words in str(failed.failure_reason)
    assert "\n" not in str(failed.failure_reason)


@pytest.mark.slow
def test_a_training_that_kills_its_worker_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = run(theirs("die"), tmp_path / "s.db", machine=LOCAL)
    assert (state.done, state.failed) == (4, 0)
    reasons = [t.failure_reason for t in stored_trials(tmp_path / "s.db") if t.state == "FAIL"]
    assert reasons == ["worker process died (SIGKILL)"]


@pytest.mark.slow
def test_a_training_that_hangs_is_ended_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMNIST_STUDY_STALL_SECONDS", "7")
    state = run(theirs("hang"), tmp_path / "s.db", machine=LOCAL)
    assert (state.done, state.failed) == (4, 0)
    reasons = [t.failure_reason for t in stored_trials(tmp_path / "s.db") if t.state == "FAIL"]
    assert reasons == ["worker process lives, but its work stood still for 7 s"]


@pytest.mark.parametrize("trouble", ["none", "deaf"])
def test_a_training_is_pruned_even_if_it_does_not_listen(trouble: str, tmp_path: Path) -> None:
    space = {"trainer_options": {"level": [-4, -3, -2, -1, 0, 1, 2]}}
    search = {"trials": 7, "sampler": "random", "pruner": "asha", "space": space}
    plan = theirs(trouble, design="search", seeds=1, epochs=27, search=search, factors={})
    plan = plan.override(name="pruned")
    run(plan, tmp_path / "s.db", machine=ONE)
    ended = stored_trials(tmp_path / "s.db")
    assert {t.state for t in ended} == {"COMPLETE", "PRUNED"}
    assert all(len(t.history) < 27 for t in ended if t.state == "PRUNED")
    assert all(t.parameters is None and t.latency_ms is None for t in ended)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_study_that_is_interrupted_goes_on_to_the_uninterrupted_result(
    number: int, code: int, tmp_path: Path
) -> None:
    (tmp_path / "theirs.toml").write_text(PLAN)
    words = ["run", "theirs.toml", "--storage", "studies.db", "--workers", "1"]
    with running("study.cli", words, tmp_path) as own:
        until(lambda: states(tmp_path / "studies.db")["COMPLETE"] >= 1, "a trial")
        family = psutil.Process(own.process.pid).children(recursive=True)
        own.process.send_signal(number)
        assert own.ends() == code, own.err
        wait_for_the_end(family)
    with running("study.cli", words, tmp_path) as own:
        assert own.ends() == 0, own.err
    run(theirs(), tmp_path / "whole.db", machine=ONE)
    stored = {
        (t.variant, t.seed): (t.value, t.test_accuracy)
        for t in stored_trials(tmp_path / "studies.db")
        if t.state == "COMPLETE"
    }
    whole = {
        (t.variant, t.seed): (t.value, t.test_accuracy)
        for t in stored_trials(tmp_path / "whole.db")
    }
    assert stored == whole


TALKING = """
import json, os, sys, time
config = json.loads(sys.stdin.readline())
trouble = config["trouble"] if (config["level"], config["seed"]) == (1, 0) else "none"
print("hello")
for epoch in range(1, config["epochs"] + 1):
    if epoch == 2 and trouble == "raise":
        raise ValueError("a bad day")
    if epoch == 2 and trouble == "garbage":
        print("{nonsense", flush=True)
    if epoch == 2 and trouble == "hang":
        open("pid", "w").write(str(os.getpid()))
        time.sleep(600)
    print(json.dumps({"epoch": epoch, "val_accuracy": 0.5 + 0.01 * epoch}), flush=True)
    if json.loads(sys.stdin.readline())["stop"]:
        break
print(json.dumps({"result": {"test_accuracy": 0.5}}))
"""


def talking(folder: Path, trouble: str) -> Plan:
    (folder / "talk.py").write_text(TALKING)
    command = [sys.executable, str(folder / "talk.py")]
    values = {**theirs(trouble).to_dict(), "command": command}
    values["baseline"] = {k: v for k, v in values["baseline"].items() if k != "trainer"}
    return Plan.from_dict(values)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [("none", ""), ("raise", "ValueError: a bad day"), ("garbage", "'{nonsense', no JSON")],
)
def test_a_command_trains_and_its_mistakes_are_its_own(
    trouble: str, words: str, tmp_path: Path
) -> None:
    state = run(talking(tmp_path, trouble), tmp_path / "s.db", machine=ONE)
    assert (state.done, state.failed) == ((4, 0) if trouble == "none" else (3, 1))
    reasons = [str(t.failure_reason) for t in stored_trials(tmp_path / "s.db") if t.state == "FAIL"]
    assert all(words in reason for reason in reasons)
    assert len(reasons) == state.failed


@pytest.mark.slow
def test_a_command_that_hangs_is_ended_with_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMNIST_STUDY_STALL_SECONDS", "7")
    state = run(talking(tmp_path, "hang"), tmp_path / "s.db", machine=LOCAL)
    assert (state.done, state.failed) == (3, 1)
    last = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(last) or not is_alive(psutil.Process(last))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainer": "nowhere.at_all:train"}, "there is no module 'nowhere'"),
        ({"command": ["x"]}, "trainer and command: give one of them"),
        ({"trainer_options": {"seed": 1, "level": 0}}, "is told its seed; rename it"),
        ({"trainer": ""}, "belongs to a training of yours"),
    ],
)
def test_a_mistake_in_a_plan_is_said_in_a_line(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        run(theirs(**changes), tmp_path / "s.db", machine=ONE)
    assert words in str(caught.value)
