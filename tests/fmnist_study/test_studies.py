"""Studies from Python: run from scripts and threads, read, shown, interrupted."""

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import fmnist_study
from study.plans.plan import Plan
from tests.faults.machine import SECONDS, until
from tests.support.house import ROOT
from tests.support.pictures import class_folders

PLAN: dict[str, Any] = {
    "name": "mine",
    "dataset": "digits",
    "seeds": 3,
    "epochs": 1,
    "subset": 300,
    "baseline": {"width": 4},
    "factors": {"pooling": ["max", "avg"]},
}

_NUMBER: Any = 3


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "s.db"
    fmnist_study.run(PLAN, storage=path, executor="inline")
    return path


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("torch", "optuna", "pandas", "numpy", "scipy", "typer")
    code = "import sys, fmnist_study as f; f.UserError; "
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_the_command_line_is_the_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fmnist_study", "--version"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.startswith("fmnist-study ")


def test_a_study_is_frames_and_tables(database: Path, tmp_path: Path) -> None:
    study = fmnist_study.load("mine", storage=database)
    assert len(study.trials) == len(study.epochs) == 6
    assert set(study.trials["param.pooling"]) == {"max", "avg"}
    assert study.trials["value"].between(0, 1).all()
    assert study.best is not None
    assert study.best["mean"] == pytest.approx(
        study.trials.groupby("variant")["value"].mean().max()
    )
    (effect,) = study.ablation().effects
    assert effect["level"] == "avg"
    assert "identical" in str(study.compare(study))
    assert study.report(tmp_path).is_file()
    assert study.summary.headline in study._repr_html_()
    page = study.hiplot()._repr_html_()
    assert page.startswith("<iframe srcdoc=")
    assert "sandbox=" in page
    with pytest.raises(fmnist_study.UserError, match="its design is ablation, not factorial"):
        study.factorial()


def test_figures_of_mirror_images_have_a_column(database: Path) -> None:
    study = fmnist_study.load("mine", storage=database)
    assert not study.trials["test_time_flip"].any()
    assert not study.table().frame["test_time_flip"].any()


def test_a_plan_is_a_table_a_file_a_name_or_itself(database: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\ndataset = "digits"\nseeds = 3\nepochs = 1\nsubset = 300\n'
        'baseline = { width = 4 }\nfactors = { pooling = ["max", "avg"] }\n'
    )
    for plan in (PLAN, file, str(file), Plan.from_dict(PLAN), "mine"):
        study = fmnist_study.run(plan, storage=database, executor="inline")
        assert (study.name, len(study.trials)) == ("mine", 6)  # nothing was left to do


def test_it_runs_in_a_thread_and_leaves_signals_as_they_were(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    studies: list[Any] = []

    def work() -> None:
        studies.append(fmnist_study.run(PLAN, storage=tmp_path / "s.db", executor="inline"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(studies[0].trials) == 6
    fmnist_study.run(PLAN, storage=tmp_path / "t.db", executor="inline")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("plan", "options", "words"),
    [
        ({**PLAN, "seeds": 0}, {}, "seeds = 0"),
        (PLAN, {"width": 3}, "width = 3: choose from seeds"),
        (7, {}, "plan: is int"),
        ("nowhere.toml", {}, "plan nowhere.toml"),
        (PLAN, {"dataset": "folder:nowhere"}, "folder:nowhere: is no folder"),
        ({**PLAN, "design": "factorial"}, {"path": True}, "path"),
        (PLAN | {"seeds": "adaptive", "negligible": 0.5}, {"reuse": True}, "--reuse"),
        (PLAN, {"device": 0}, "device = 0: must be a string"),
        (PLAN, {"device": None}, "device = None: must be a string"),
        (PLAN, {"study_name": 3}, "study_name = 3: must be a string"),
        (PLAN, {"workers": "2"}, "workers = '2': must be a whole number"),
        (PLAN, {"bank": True}, "bank = True: must be a whole number"),
        (PLAN, {"data_dir": 3}, "data_dir = 3: must be a path"),
        (PLAN, {"timeout": "30m"}, "timeout = '30m': must be a number of seconds"),
        (PLAN, {"timeout": -1}, "timeout = -1: must be"),
        (PLAN, {"timeout": float("nan")}, "timeout = nan: must be"),
    ],
)
def test_what_is_wrong_is_a_user_error(
    tmp_path: Path, plan: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(fmnist_study.UserError, match=words):
        fmnist_study.run(plan, storage=tmp_path / "s.db", **options)
    assert not (tmp_path / "s.db").exists()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _: fmnist_study.load(storage=_NUMBER), "storage = 3: must be a path"),
        (lambda _: fmnist_study.load(_NUMBER), "name = 3: must be a string"),
        (lambda study: study.compare("mine"), "other = 'mine': must be a Study"),
        (lambda study: study.report(3), "folder = 3: must be a path"),
        (lambda study: study.table().render("htlm"), "format = 'htlm': choose from text, markdown"),
    ],
)
def test_what_is_read_wrongly_is_a_user_error(database: Path, call: Any, words: str) -> None:
    with pytest.raises(fmnist_study.UserError, match=words):
        call(fmnist_study.load("mine", storage=database))


@pytest.mark.slow
def test_the_path_is_trained_and_cells_of_other_studies_are_taken_over(tmp_path: Path) -> None:
    slow = {"name": "slow", "seeds": 1, "baseline": {"width": 4, "learning_rate": 1e-5}}
    rates: dict[str, Any] = {"learning_rate": [1e-5, 3e-3]}
    options: dict[str, Any] = {"storage": tmp_path / "s.db", "executor": "inline"}
    fmnist_study.run(PLAN | slow | {"factors": rates}, **options)
    plan = PLAN | slow | {"name": "wider", "factors": rates | {"width": [4, 16]}}

    wider = fmnist_study.run(plan, path=True, reuse=True, **options)

    trials = wider.trials
    taken = trials[[bool(whence) for whence in trials["reused"]]]
    assert list(taken["variant"]) == ["baseline", "learning_rate=0.003"]
    assert {whence["study"] for whence in taken["reused"]} == {"slow"}
    steps = wider.ablation().as_dict()["path"]["steps"]
    assert [len(step["changes"]) for step in steps] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "each", "side", "channels"), [(2, 30, 17, 3), (200, 6, 13, 1)])
def test_a_folder_of_pictures_is_trained_to_its_report(
    tmp_path: Path, classes: int, each: int, side: int, channels: int
) -> None:
    class_folders(tmp_path / "p", classes=classes, each=each, side=side, channels=channels)
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ndataset = "folder:./p"\nseeds = 3\nepochs = 3\n'
        "baseline = { width = 8, batch_size = 8 }\n"
        'factors = { augmentation = ["none", "flip+erase+translate+crop+rotate+noise"] }\n'
    )
    study = fmnist_study.run(tmp_path / "mine.toml", storage=tmp_path / "s.db")
    assert (study.trials["state"] == "COMPLETE").all()
    chance = 1 / classes
    assert study.trials["test_accuracy"].max() > 1.5 * chance
    page = study.report(tmp_path / "out").read_text(encoding="utf-8")
    assert "c001" in page
    moved = (tmp_path / "p").rename(tmp_path / "elsewhere")
    again = fmnist_study.run("mine", dataset=f"folder:{moved}", storage=tmp_path / "s.db")
    assert len(again.trials) == len(study.trials)
    class_folders(moved, classes=classes, each=each + 1, side=side, channels=channels)
    with pytest.raises(fmnist_study.UserError, match="the content of folder:"):
        fmnist_study.run("mine", dataset=f"folder:{moved}", storage=tmp_path / "s.db")


SCRIPT = """
import sys
import fmnist_study
print("once", flush=True)
plan = {plan!r}
try:
    study = fmnist_study.run(plan, storage="s.db", workers=1, epochs={epochs})
except KeyboardInterrupt:
    print("interrupted", fmnist_study.load("mine", storage="s.db"))
    sys.exit(3)
print(len(study.trials))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(plan=PLAN, epochs=1))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.returncode) == (["once", "6"], 0)


@pytest.mark.slow
def test_ctrl_c_in_a_script_is_a_keyboard_interrupt_and_keeps_results(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(plan=PLAN, epochs=100_000))
    command = [sys.executable, "script.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: _has_trials(tmp_path / "s.db"), "a trial that runs")
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert "interrupted <Study 'mine': ablation, 1 trials>" in output
    assert process.returncode == 3


def _has_trials(database: Path) -> bool:
    try:
        return len(fmnist_study.load("mine", storage=database).trials) > 0
    except fmnist_study.UserError:
        return False
