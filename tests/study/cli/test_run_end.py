"""`run --tensorboard` and `run --on-end`: what follows a run, and changes nothing of it."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import optuna
import pytest

from study.cli import running
from study.run import session
from study.run.coordinator import StudyFailed
from tests.support.commands import call
from tests.support.plans import TINY

QUICK = ("run", "tiny.toml", "--executor", "inline", "--device", "cpu", "--quiet")
HOOK = 'echo "$FMNIST_STUDY_NAME,$FMNIST_STUDY_STATE,$FMNIST_STUDY_EXIT_CODE" > ended; echo loud'
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMNIST_STUDY_STORAGE", raising=False)
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


def test_tensorboard_reads_the_scalars_and_settings_of_every_trial(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    assert call(*QUICK, "--epochs", "2", "--tensorboard", "logs") == 0
    files = sorted(folder.glob("logs/*/*/events.out.tfevents.*"))
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/studies.db")
    assert len(files) == len(study.trials) == 4
    for trial, file in zip(study.trials, files, strict=True):
        events = EventAccumulator(str(file.parent))
        events.Reload()
        for name in ("val_accuracy", "train_loss", "learning_rate"):
            stored = [entry[name] for entry in trial.user_attrs["history"]]
            read = events.Scalars(name)
            assert [event.step for event in read] == [1, 2]
            assert [event.value for event in read] == pytest.approx(stored)
        told = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        settings = HParamsPluginData.FromString(told).session_start_info.hparams
        assert settings["pooling"].string_value == trial.params["pooling"]
        assert settings["seed"].number_value == trial.user_attrs["seed"]
        (test,) = events.Scalars("hparam/test_accuracy")
        assert test.value == pytest.approx(trial.user_attrs["test_accuracy"])

    size = {file: file.stat().st_size for file in files}
    assert call(*QUICK, "--epochs", "2", "--seeds", "3", "--tensorboard", "logs") == 0
    assert len(list(folder.glob("logs/*/*/events.out.tfevents.*"))) == 6
    assert {file: file.stat().st_size for file in files} == size


def test_without_tensorboard_the_extra_is_named_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    assert call(*QUICK, "--tensorboard", "logs") == 2
    assert "pip install 'fmnist-study[tensorboard]'" in capsys.readouterr().err
    assert not (folder / "studies.db").exists()


def test_files_that_cannot_be_written_stop_no_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from analysis.exports.tensorboard import EventFiles

    def full(*_: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventFiles, "follow", full)
    assert call(*QUICK, "--tensorboard", "logs") == 0
    said = capsys.readouterr().err
    assert said.count("--tensorboard: nothing more is written") == 1


def test_a_command_is_run_at_the_end_and_its_words_leave_stdout_alone(
    folder: Path, capsys: Captured
) -> None:
    assert call(*QUICK, "--on-end", HOOK, "--json") == 0
    assert json.loads(capsys.readouterr().out)["ended"] == "done"
    assert (folder / "ended").read_text() == "tiny,done,0\n"


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (KeyboardInterrupt(), "interrupted", 130),
        (SystemExit(143), "terminated", 143),
        (StudyFailed("3 failures in a row"), "stopped", 1),
        (OSError(5, "Input/output error"), "failed", 2),
    ],
)
def test_it_is_run_however_the_run_ends(
    error: BaseException, state: str, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(session, "run", fails)
    assert call(*QUICK, "--on-end", HOOK) == code
    assert (folder / "ended").read_text() == f"tiny,{state},{code}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotADirectoryError(20, "Not a directory", "reports"), 2),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
    ],
)
def test_it_is_told_the_exit_code_where_only_the_results_cannot_be_shown(
    error: BaseException, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(running, "write_hiplot", fails)
    assert call(*QUICK, "--on-end", HOOK) == code
    assert (folder / "ended").read_text() == f"tiny,done,{code}\n"


def test_its_failure_is_said_and_changes_nothing(folder: Path, capsys: Captured) -> None:
    assert call(*QUICK, "--on-end", "exit 7") == 0
    assert "--on-end: ended with exit code 7\n" in capsys.readouterr().err
