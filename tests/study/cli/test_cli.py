"""The commands as a user types them: words, exit codes, and what goes to stdout and to stderr."""

import json
import os
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from study.cli import main
from study.plans import catalog
from tests.faults.machine import SECONDS
from tests.support.plans import TINY, fingerprint
from tests.support.studies import POOLING, ablation_trials, database

QUICK = ("--executor", "inline", "--device", "cpu")


@dataclass
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def fmnist_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command in an empty folder that holds only `tiny.toml`."""
    monkeypatch.chdir(tmp_path)
    for name in ("FMNIST_STUDY_STORAGE", "FMNIST_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tiny.toml").write_text(TINY)

    def call(*words: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, said.out, said.err)

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny study has been run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        context.delenv("FMNIST_STUDY_STORAGE", raising=False)
        with pytest.raises(SystemExit) as ended:
            main(["run", "tiny.toml", *QUICK, "--quiet"])
    assert ended.value.code == 0
    return folder


@pytest.fixture
def done(fmnist_study: Command, finished: Path, tmp_path: Path) -> Command:
    """The same, where the tiny study has been run."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return fmnist_study


def states(folder: Path, name: str = "tiny") -> Counter[TrialState]:
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/studies.db")
    return Counter(trial.state for trial in study.trials)


# Bad input: one line on stderr, exit code 2, nothing written.

BAD = {
    "show nothing": "choose from ablation, baseline, batchnorm-lr",
    "run nothing": "study = 'nothing': choose from ablation, baseline",
    "run missing.toml": "plan missing.toml: No such file or directory",
    "run bad.toml": "bad.toml: factors.width: has 0 levels",
    "run ablation --dataset cifar": "dataset = 'cifar': choose from fashion-mnist, digits",
    "run tiny.toml --dataset cifar": "dataset = 'cifar': choose from fashion-mnist, digits",
    "run tiny.toml --until-sure --seeds 3": "seeds = 3: --until-sure gives each level what",
    "run tiny.toml --until-sure --max-seeds 2": "max_seeds = 2: must be at least 3",
    "run tiny.toml --until-sure --path": "--path: needs all seeds of every level",
    "run baseline --until-sure": "baseline has no levels to be decided",
    "run search --until-sure": "seeds = 'adaptive': is for design = 'ablation'",
    "run tiny.toml --negligible 0": "negligible = 0.0: must be a number of points",
    "run search --negligible 1": "negligible = 1.0: a search compares no levels",
    "run tiny.toml --epochs -1": "epochs = -1: must be at least 1",
    "run tiny.toml --epochs 0": "epochs = 0: must be at least 1",
    "run tiny.toml --seeds 0": "seeds = 0: must be a whole number from 1",
    "run tiny.toml --seeds two": "Invalid value for '--seeds'",
    "run tiny.toml --subset 3": "subset = 3: must be at least 10",
    "run tiny.toml --executor inline --subset 9999": "subset = 9999: digits has 1438 training",
    "run tiny.toml --device tpu": "device = 'tpu': choose auto, cpu, cuda",
    "run tiny.toml --device cuda:99": "device = 'cuda:99': this machine has only cpu",
    "show tiny.toml --device cuda:99": "device = 'cuda:99': this machine has only cpu",
    "run tiny.toml --workers 0": "workers = 0: must be at least 1",
    "show tiny.toml --workers 0": "workers = 0: must be at least 1",
    "run tiny.toml --bank 0": "bank = '0': give 'auto' or a whole number",
    "run tiny.toml --bank ²": "bank = '²': give 'auto' or a whole number",
    "run tiny.toml --executor cloud": "executor = 'cloud': choose from inline, local",
    "run tiny.toml --timeout soon": "timeout = 'soon': give a duration such as 90s",
    "run tiny.toml --timeout 0s": "timeout = '0s': give a duration",
    "run tiny.toml --study-name ../out": "--study-name = '../out': use letters, digits",
    "run tiny.toml --study-name .x --dry-run": "--study-name = '.x': use letters, digits",
    "run tiny.toml --storage tiny.toml": "storage tiny.toml: is not an SQLite database",
    "run tiny.toml --storage .": "storage .: is not a file",
    "run tiny.toml --storage no/x.db": "storage no/x.db: the folder",
    "run tiny.toml --storage nope://u:secret@h/db": "storage nope://***@h/db: not a database URL",
    "run tiny.toml --storage sqlite:///x.db?mode=ro": "options of SQLite are not read: mode",
    "run ablation --data-dir data": "train-labels-idx1-ubyte.gz is not the official fashion-mnist",
    "data --verify --data-dir nowhere": "fashion-mnist: train-images-idx3-ubyte.gz is missing in",
    "data --dataset cifar": "dataset = 'cifar': choose from fashion-mnist",
    "report": "storage studies.db: no such file; 'fmnist-study run ...' makes one",
    "status": "storage studies.db: no such file",
    "report --storage empty.db": "storage empty.db: holds no study yet",
    "report --format pdf": "--format = 'pdf': choose from text, markdown, csv, latex, json",
    "run": "Missing argument 'STUDY'",
    "run tiny.toml --colour red": "No such option: --colour",
    "paint": "No such command 'paint'",
}


@pytest.mark.parametrize(("words", "message"), BAD.items())
def test_bad_input_is_one_line_and_exit_code_2(
    fmnist_study: Command, tmp_path: Path, words: str, message: str
) -> None:
    (tmp_path / "bad.toml").write_text('name = "x"\n[factors]\nwidth = []\n')
    (tmp_path / "empty.db").touch()
    (tmp_path / "data").mkdir()
    names = ("train-labels-idx1", "train-images-idx3", "t10k-labels-idx1", "t10k-images-idx3")
    for name in names:
        (tmp_path / "data" / f"{name}-ubyte.gz").write_bytes(b"damaged")
    if words == "run ablation --data-dir data":
        message = message.replace("labels-idx1", "images-idx3")  # the first that is looked at

    said = fmnist_study(*words.split())

    assert said.code == 2
    assert said.err.startswith("fmnist-study: error: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert "secret" not in said.err
    assert said.out == ""
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("start", [30_000, 0])
def test_a_damaged_database_is_one_line(done: Command, tmp_path: Path, start: int) -> None:
    file = tmp_path / "studies.db"
    content = bytearray(file.read_bytes())
    content[start:90_000] = b"\xaa" * (90_000 - start)
    file.write_bytes(content)
    for words in (["report"], ["status", "--json"], ["list"], ["show", "tiny"]):
        said = done(*words)
        assert (said.code, said.out) == (2, "")
        assert re.match(r"fmnist-study: error: storage studies.db: [^\n]+\n$", said.err)


def test_damage_in_an_attribute_is_counted_and_its_trial_shown_nowhere(
    done: Command, tmp_path: Path
) -> None:
    change(tmp_path, "UPDATE trial_user_attributes SET value_json = '9' WHERE key = 'seed'")
    said = done("report")
    assert said.code == 0
    assert "trials of 4 planned: 4 damaged, 4 missing" in said.out
    assert "DAMAGED: 4 trials are not what was written, and count nowhere" in said.out
    assert done("report", "--format", "json").json["damaged"] == 4
    assert done("status", "--json").json["counts"] == {"damaged": 4}
    assert done("run", "tiny.toml", *QUICK, "--quiet").code == 0  # runs those cells again
    assert done("status", "--json").json["counts"] == {"finished": 4, "damaged": 4}


def test_damage_in_a_plan_is_one_line(done: Command, tmp_path: Path) -> None:
    change(tmp_path, "UPDATE study_user_attributes SET value_json = '{}' WHERE key = 'plan'")
    said = done("report")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "fmnist-study: error: storage studies.db: study 'tiny' is damaged: "
        "its attribute 'plan' is not what was written\n"
    )


def change(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "studies.db")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_backup_is_one_file_with_everything(done: Command, tmp_path: Path) -> None:
    said = done("backup", "--out", "copy.db")
    assert (said.code, said.err, said.out) == (0, "", "copy.db: 1 studies, 4 trials\n")
    names = {path.name for path in tmp_path.iterdir()}
    assert not {name for name in names if name.startswith("copy.db-")}
    reports = [done("report", "--storage", name, "--format", "json").json for name in (
        "copy.db", "studies.db")]  # fmt: skip
    assert reports[0] == reports[1]
    assert done("backup").out == "studies.db.backup: 1 studies, 4 trials\n".replace(
        "studies.db", str(tmp_path / "studies.db")
    )
    for wrong in ("studies.db", "no/copy.db"):
        assert done("backup", "--out", wrong).code == 2
    assert done("backup", "--storage", "none.db").code == 2


def test_without_words_there_is_help(fmnist_study: Command) -> None:
    said = fmnist_study()
    assert (said.code, said.err) == (0, "")
    for command in ("list", "show", "run", "status", "report", "data", "doctor"):
        assert f"\n  {command} " in said.out


# The commands.


def test_list_names_the_catalogue_and_the_database(done: Command) -> None:
    said = done("list")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(" ")]  # else a source's
    published = [own["name"] for own in done("list", "--json").json if own.get("published")]
    assert {"reference/pooling", "reference/ablation"} <= {*published}
    assert names == [*catalog.names(), *published, "tiny"]
    assert "in studies.db: 4 trials, last run 20" in lines[-1]
    found = done("list", "--json").json
    assert [(own["name"], own["stored"]) for own in found] == [
        *((name, False) for name in catalog.names()),
        *((name, True) for name in published),
        ("tiny", True),
    ]
    assert [own["name"] for own in found if own.get("published")] == published
    assert found[-1]["trials"] == 4


def test_hostile_study_names_cannot_steer_the_terminal(
    fmnist_study: Command, tmp_path: Path
) -> None:
    database(tmp_path, [], of=POOLING, name="\x1b[31mred\n")
    for words in (["list"], ["show", "x"], ["report", "x"]):
        said = fmnist_study(*words)
        assert "\x1b" not in said.out + said.err
        assert r"\x1b[31mred" in said.out + said.err


def test_show_says_what_a_study_would_cost(fmnist_study: Command, tmp_path: Path) -> None:
    said = fmnist_study("show", "tiny.toml", "--device", "cpu", "--workers", "1")
    assert (said.code, said.err) == (0, "")
    assert "pooling  max*, avg" in said.out
    assert re.search(r"pooling=avg +678 +\d+\.\d k +\d+\.\d\n", said.out)
    assert "2 variants x 2 seeds = 4 trials: about " in said.out
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.toml"}


def test_show_says_where_the_results_of_a_study_come_from(done: Command) -> None:
    told = done("show", "tiny", "--json").json["provenance"]
    assert set(told) >= {
        "Devices",
        "Versions",
        "Data SHA-256",
        "Last run",
        "Wall time",
        "Precision",
    }
    words = " ".join(done("show", "tiny").out.split())
    assert f"data sha-256: {told['Data SHA-256']}" in words
    assert f"wall time: {told['Wall time']}" in words
    assert "wall time" not in done("show", "tiny.toml").out


def test_show_json_and_without_data(fmnist_study: Command) -> None:
    said = fmnist_study("show", "ablation", "--json")
    assert said.code == 0
    found = said.json
    assert (found["trials"], found["seconds"]) == (110, None)
    assert {"variant", "factor", "level", "changes", "parameters"} <= set(found["variants"][0])
    assert "what they cost was not measured: fashion-mnist:" in fmnist_study("show", "ablation").out


def test_run_prints_the_table_and_the_page_and_goes_on_later(
    fmnist_study: Command, tmp_path: Path
) -> None:
    said = fmnist_study("run", "tiny.toml", *QUICK)
    assert said.code == 0
    assert re.search(r"^  pooling +avg +[+-]\d", said.out, re.MULTILINE)
    assert "\nthe rest: fmnist-study report tiny --all\n" in said.out
    assert "results go to studies.db, pages to reports/tiny\n" in said.err
    assert said.out.endswith("HiPlot page: reports/tiny/hiplot.html\n")
    assert (tmp_path / "reports" / "tiny" / "hiplot.html").is_file()
    assert "study tiny: ablation on digits, 2 variants x 2 seeds = 4 trials of 1 epoch" in said.err
    assert "4 to run on 160 training images each: about " in said.err
    assert "shorter: --seeds (now 2)" in said.err
    assert "4/4 trials, pooling=avg, seed 1: " in said.err
    assert "\x1b" not in said.out + said.err

    again = fmnist_study("run", "tiny.toml", *QUICK, "--json")
    assert again.code == 0
    assert "nothing left to run: every planned trial is done" in again.err
    assert again.json["study"] == again.json["report"]["study"] == "tiny"
    assert again.json["ended"] == "done"
    assert again.json["progress"]["done"] == 4

    more = fmnist_study("run", "tiny", *QUICK, "--seeds", "3")  # by the stored study's name
    assert more.code == 0
    assert "4 are done, 2 to run" in more.err
    assert states(tmp_path) == {TrialState.COMPLETE: 6}


def test_quiet_says_nothing_on_stderr(fmnist_study: Command) -> None:
    said = fmnist_study("run", "tiny.toml", *QUICK, "--quiet")
    assert (said.code, said.err) == (0, "")
    assert "Differences from the baseline in points" in said.out


def test_other_conditions_get_a_study_of_their_own(done: Command, tmp_path: Path) -> None:
    said = done("run", "tiny.toml", *QUICK, "--epochs", "2", "--seeds", "1")
    assert "study tiny-digits-200-2-epochs: " in said.err
    assert states(tmp_path, "tiny-digits-200-2-epochs") == {TrialState.COMPLETE: 2}
    assert states(tmp_path) == {TrialState.COMPLETE: 4}
    # Without a name: the one that ran last, here and after the other one has gone on.
    assert done("report", "--format", "json").json["study"] == "tiny-digits-200-2-epochs"
    assert done("run", "tiny.toml", *QUICK, "--seeds", "3").code == 0
    assert done("report", "--format", "json").json["study"] == "tiny"
    assert done("status", "--json").json["study"] == "tiny"
    assert done("status", "tiny-digits-200-2-epochs", "--json").json["done"] == 2


def test_a_study_by_another_name(fmnist_study: Command, tmp_path: Path) -> None:
    name = "group/mine.1"
    said = fmnist_study("run", "tiny.toml", *QUICK, "--study-name", name, "--seeds", "1")
    assert "reports/group/mine.1/hiplot.html" in said.out
    assert states(tmp_path, name) == {TrialState.COMPLETE: 2}
    said = fmnist_study("run", "tiny.toml", *QUICK, "--study-name", name, "--epochs", "2")
    assert said.code == 2
    assert "study 'group/mine.1' in the database differs from this plan in epochs (1, now 2)" in (
        said.err
    )


def test_a_dry_run_says_what_is_left_and_writes_nothing(done: Command, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    sha = fingerprint(tmp_path / "studies.db")
    said = done("run", "tiny.toml", *QUICK, "--seeds", "3", "--dry-run")
    assert said.code == 0
    assert "  baseline: seeds 2\n  pooling=avg: seeds 2\n" in said.out
    found = done("run", "tiny.toml", *QUICK, "--seeds", "3", "--dry-run", "--json").json
    assert found["pending"] == [
        {"variant": "baseline", "seed": 2},
        {"variant": "pooling=avg", "seed": 2},
    ]
    refused = done("run", "tiny.toml", "--study-name", "tiny", "--epochs", "3", "--dry-run")
    assert refused.code == 2
    assert "differs from this plan in epochs (1, now 3)" in refused.err
    assert fingerprint(tmp_path / "studies.db") == sha
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_time_limit_ends_early_and_keeps_what_is_done(
    fmnist_study: Command, tmp_path: Path
) -> None:
    words = ("run", "tiny.toml", *QUICK, "--seeds", "9000", "--timeout", "2s")
    said = fmnist_study(*words, "--json")
    assert said.code == 0
    assert said.json["ended"] == "out of time"
    assert "out of time; everything finished is kept: the same command goes on" in said.err
    assert TrialState.RUNNING not in states(tmp_path)


def test_show_says_what_the_planned_seeds_can_detect(done: Command) -> None:
    words = done("show", "tiny.toml").out.split()
    assert "can detect: 2 seeds:" in " ".join(words)
    assert "of the trials so far" in " ".join(words)  # the spread is that of the finished study
    power = done("show", "ablation", "--json").json["power"]
    assert power.startswith("5 seeds: 0.42 points; for 0.2: 15 seeds")
    assert "assumed" in power
    assert done("show", "baseline", "--json").json["power"] is None  # nothing is compared


def test_the_path_trains_combinations_and_report_reads_them(
    fmnist_study: Command, tmp_path: Path
) -> None:
    (tmp_path / "path.toml").write_text(
        TINY.replace('pooling = ["max", "avg"]', "learning_rate = [3e-3, 3e-2]")
        + "batchnorm = [true, false]\nwidth = [4, 8]\n"
    )
    said = fmnist_study("run", "path.toml", "--path", "--report", *QUICK, "--quiet")
    assert said.code == 0, said.err
    assert f"report page: {Path('reports/tiny/report.html')}" in said.out
    assert (tmp_path / "reports/tiny/report.html").is_file()
    found = fmnist_study("report", "--format", "json").json
    better = [own["factor"] for own in found["effects"] if own["delta"] > 0]
    assert len(better) > 1, "this plan's changes no longer improve anything: choose others"
    further = len(better) * (len(better) - 1) // 2 * 2  # two seeds
    assert states(tmp_path) == {TrialState.COMPLETE: 8 + further}
    first, *steps = found["path"]["steps"]
    assert first["factor"] is None
    assert {step["factor"] for step in steps} == set(better)
    before = fmnist_study("status", "--json").json["counts"]
    assert fmnist_study("run", "path.toml", "--path", *QUICK, "--quiet").code == 0
    assert fmnist_study("status", "--json").json["counts"] == before  # nothing ran twice


def test_only_an_ablation_has_a_path(fmnist_study: Command, tmp_path: Path) -> None:
    for words in (("pooling",), ("search",), ("baseline", "--dry-run")):
        said = fmnist_study("run", *words, "--path", "--dataset", "digits")
        assert said.code == 2
        assert re.fullmatch(r"fmnist-study: error: --path: is for ablations [^\n]+\n", said.err)
    assert not (tmp_path / "studies.db").exists()


def test_reports_that_cannot_be_written_are_one_line(fmnist_study: Command, tmp_path: Path) -> None:
    (tmp_path / "reports").touch()
    said = fmnist_study("run", "tiny.toml", *QUICK, "--quiet")
    assert said.code == 2
    assert said.err == ("fmnist-study: error: reports/tiny: cannot be written: Not a directory\n")
    assert states(tmp_path) == {TrialState.COMPLETE: 4}


def test_status(done: Command) -> None:
    said = done("status")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("tiny\ntrials of 4 planned: 4 finished\nbest so far: ")
    assert "nobody" not in said.out
    assert done("status", "tiny.toml", "--json").json["counts"] == {"finished": 4}
    assert done("status", "--watch").code == 0  # ends by itself where nothing is left
    watched = done("status", "--watch", "--json")
    assert watched.json == done("status", "--json").json


def leave_running(file: Path) -> None:
    """Leave the last of the tiny study's trials as a killed run does."""
    with sqlite3.connect(file) as database:
        database.execute("UPDATE trials SET state = 'RUNNING' WHERE number = 3")
        database.execute(
            "DELETE FROM trial_user_attributes WHERE key = 'checksum' AND trial_id = "
            "(SELECT trial_id FROM trials WHERE number = 3)"
        )


def test_watching_ends_where_nobody_runs_the_study_any_more(done: Command, tmp_path: Path) -> None:
    leave_running(tmp_path / "studies.db")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    about = {"pid": dead.pid, "host": platform.node(), "started": "", "command": "run"}
    (tmp_path / "studies.db.owner.json").write_text(json.dumps(about))
    said = done("status", "--watch")
    assert said.code == 0
    assert "nobody runs it now; to go on: fmnist-study run tiny" in said.out
    assert done("status").out.endswith("nobody runs it now; to go on: fmnist-study run tiny\n")
    assert done("status", "--watch", "--json").json["missing"] == 1


def test_a_run_that_is_alive_is_watched_to_its_end(
    done: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "studies.db"
    leave_running(file)
    about = {"pid": os.getpid(), "host": platform.node(), "started": "", "command": "run"}
    (tmp_path / "studies.db.owner.json").write_text(json.dumps(about))

    def end(_seconds: float) -> None:
        (tmp_path / "studies.db.owner.json").unlink()
        with sqlite3.connect(file) as database:
            database.execute("UPDATE trials SET state = 'COMPLETE' WHERE number = 3")

    monkeypatch.setattr("study.cli.watching.time.sleep", end)
    looks = [json.loads(line) for line in done("status", "--watch", "--json").out.splitlines()]
    assert [look["counts"].get("running", 0) for look in looks] == [1, 0]


def test_a_level_that_diverged_is_told_as_that_and_not_run_again(
    fmnist_study: Command, tmp_path: Path
) -> None:
    (tmp_path / "wild.toml").write_text(
        'name = "wild"\ndataset = "digits"\nepochs = 2\nseeds = 2\n[baseline]\nwidth = 4\n'
        'optimizer = "sgd"\n[factors]\nlearning_rate = [0.003, 100.0]\n'
    )
    said = fmnist_study("run", "wild.toml", *QUICK, "--quiet")
    assert "diverged" in said.out
    now = fmnist_study("status", "--json").json
    assert (now["diverged"], now["missing"]) == (2, 0)
    assert "2 failed (2 diverged)" in fmnist_study("status", "--watch").out
    fmnist_study("run", "wild.toml", *QUICK, "--quiet")
    assert fmnist_study("status", "--json").json["counts"] == now["counts"]


def test_a_run_says_first_what_nothing_reads(fmnist_study: Command, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(TINY.replace('pooling = ["max", "avg"]', "momentum = [0.5]"))
    note = "note: momentum = 0.9, 0.5: makes no difference here (only the optimizer sgd reads it)"
    for words in (["run", "m.toml", "--dry-run"], ["show", "m.toml"]):
        assert note in fmnist_study(*words).out
    assert note in fmnist_study("run", "m.toml", *QUICK, "--quiet").err


def test_report_json_is_the_contract(fmnist_study: Command, tmp_path: Path) -> None:
    values = {"baseline": [0.9, 0.91, 0.92], "pooling=avg": [0.93, 0.95, 0.94]}
    database(tmp_path, ablation_trials(POOLING, values), of=POOLING)
    found = fmnist_study("report", "--format", "json").json
    assert (found["study"], found["dataset"]) == ("test", "digits")
    assert {
        "n",
        "val_accuracy_mean",
        "val_accuracy_std",
        "test_accuracy_mean",
        "test_accuracy_std",
    } <= set(found["baseline"])
    assert found["baseline"]["val_accuracy_mean"] == pytest.approx(0.91)
    for effect in found["effects"]:
        assert {
            "factor",
            "level",
            "n",
            "val_accuracy_mean",
            "val_accuracy_std",
            "delta",
            "delta_low",
            "delta_high",
            "p_value",
            "p_holm",
            "test_accuracy_mean",
            "parameters",
            "seconds",
        } <= set(effect)
    (pooling,) = [own for own in found["effects"] if own["factor"] == "pooling"]
    assert (pooling["level"], pooling["n"]) == ("avg", 3)
    assert pooling["delta"] == pytest.approx(0.03)


def test_report_formats_and_pages(done: Command, tmp_path: Path) -> None:
    for words in (["csv"], ["latex"], ["markdown"], ["json"], ["text"]):
        said = done("report", "tiny", "--format", *words)
        assert (said.code, said.err) == (0, "")
        assert "pooling" in said.out
    said = done("report", "--hiplot", "--format", "json", "--out", "elsewhere/x")
    assert said.json["study"] == "tiny"  # stdout stays parseable
    assert said.err == "HiPlot page: elsewhere/x/hiplot.html\n"
    assert (tmp_path / "elsewhere" / "x" / "hiplot.html").is_file()
    unknown = done("report", "other")
    assert (unknown.code, unknown.out) == (2, "")
    assert "study = 'other': choose from tiny" in unknown.err


def test_data_describes_the_digits(fmnist_study: Command) -> None:
    said = fmnist_study("data", "--dataset", "digits", "--verify")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("digits: 1438 training and 359 test images of 8x8, 10 classes\n")
    assert re.search(r"^sha256: [0-9a-f]{64}$", said.out, re.MULTILINE)


def test_doctor_has_a_line_for_everything(fmnist_study: Command) -> None:
    said = fmnist_study("doctor", "--data-dir", "there")
    assert said.code == 1
    lines = said.out.splitlines()
    assert all(re.match(r"(ok  |FAIL)  [\w:. -]+: .", line) for line in lines)
    failed = [line for line in lines if line.startswith("FAIL")]
    assert len(failed) == 1
    assert "fashion-mnist: train-images-idx3-ubyte.gz is missing in" in failed[0]
    assert "ok    storage: studies.db will be made by the first run" in lines


# What a process loads.


def loaded(words: list[str], folder: Path) -> set[str]:
    """Names of the modules in a process that has run a command."""
    code = (
        "import sys\nfrom study.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED ")[2].split())


def test_commands_load_only_what_they_need(done: Command, tmp_path: Path) -> None:
    for words in (["--help"], ["report"], ["status"], ["list"]):
        slow = {"torch", "torchvision", "optuna", "plotly", "hiplot", "scipy.stats", "pandas"}
        assert not loaded(words, tmp_path) & slow, words
    assert "hiplot" in loaded(["report", "--hiplot"], tmp_path)


@pytest.mark.skipif(
    Path("/proc/driver/nvidia").exists(), reason="torch is asked for the GPUs of this machine"
)
def test_the_owner_of_a_study_never_loads_torch(fmnist_study: Command, tmp_path: Path) -> None:
    modules = loaded(["run", "tiny.toml", "--workers", "2", "--quiet"], tmp_path)
    assert "optuna" in modules
    assert modules & {"torch", "torchvision", "plotly"} == set()
    assert states(tmp_path) == {TrialState.COMPLETE: 4}


# Interruption.


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_study_keeps_everything_and_goes_on(
    fmnist_study: Command, tmp_path: Path, number: int, code: int
) -> None:
    words = ["run", "tiny.toml", "--seeds", "6", "--epochs", "150"]
    process = subprocess.Popen(
        [sys.executable, "-m", "study.cli", *words, "--workers", "2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if re.match(r"[1-9]\d*/12 trials", line):
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "everything finished is kept: the same command goes on" in out
    assert "Traceback" not in err
    after = states(tmp_path)
    assert TrialState.RUNNING not in after
    assert 1 <= after[TrialState.COMPLETE] < 12
    assert after[TrialState.FAIL] <= 2

    said = fmnist_study("status", "--json").json
    assert said["done"] == after[TrialState.COMPLETE]
    if number == signal.SIGINT:  # once is enough
        assert fmnist_study(*words, *QUICK, "--quiet").code == 0
        study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path}/studies.db")
        cells = Counter(
            (trial.user_attrs["variant"], trial.user_attrs["seed"])
            for trial in study.trials
            if trial.state == TrialState.COMPLETE
        )
        assert len(cells) == 12
        assert set(cells.values()) == {1}


def test_a_study_that_stops_when_it_is_sure(fmnist_study: Command) -> None:
    words = ("run", "tiny.toml", *QUICK, "--until-sure", "--max-seeds", "4", "--negligible", "90")
    planned = fmnist_study(*words, "--dry-run", "--json").json
    assert (planned["left"], planned["plan"]["max_seeds"]) == (6, 4)
    said = fmnist_study(*words, "--json")
    assert said.code == 0
    assert "after 3 seeds: " in said.err
    assert "no further seeds: " in said.err
    now = said.json["progress"]
    assert now["missing"] == 0
    assert now["sureness"]["levels"] == 1
    assert now["sureness"]["reason"]
    assert now["counts"]["finished"] in (6, 8)
    again = fmnist_study("run", "tiny", *QUICK)  # by its stored name and plan
    assert "nothing left to run: every level is decided, or has the most seeds" in again.err
    assert "levels decided" in fmnist_study("status").out
    assert fmnist_study(*words, "--quiet").err == ""
