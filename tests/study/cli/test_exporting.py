"""`export`, as a user types it: tables that `import` reads back, and a trial as a folder."""

import json
import re
from pathlib import Path

import pytest

from tests.support.commands import call, run_in
from tests.support.plans import TINY


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_in(tmp_path_factory.mktemp("ran"), "tiny.toml", TINY, "--seeds", "3")


@pytest.fixture
def folder(ran: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ran)
    monkeypatch.delenv("FMNIST_STUDY_STORAGE", raising=False)
    return ran


@pytest.mark.parametrize(
    ("format", "source"),
    [
        ("csv", ("trials.csv",)),
        ("parquet", ("trials.parquet",)),
        ("json", ("study.json", "--pick", "trials")),
        ("xlsx", ("study.xlsx", "--pick", "trials")),
    ],
)
def test_import_reads_what_export_wrote(
    format: str, source: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / f"as-{format}"
    assert call("export", "tiny", str(out), "--format", format) == 0
    name, *pick = source
    copy = ("--storage", f"{format}.db")
    words = ("--study-name", "copy", "--dataset", "digits", *copy)
    assert call("import", str(out / name), *pick, *words) == 0
    told = []
    for study in (("tiny",), ("copy", *copy)):
        capsys.readouterr()
        assert call("report", *study, "--json") == 0
        told.append(json.loads(capsys.readouterr().out))
    for key in ("val_accuracy_mean", "test_accuracy_mean", "n"):
        assert told[0]["baseline"][key] == told[1]["baseline"][key]
    assert [e["delta"] for e in told[0]["effects"]] == [e["delta"] for e in told[1]["effects"]]


def test_a_trial_is_a_folder_that_evaluate_reads(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("export", "--trial", "3", "three", "--json") == 0  # of the study that ran last
    written = json.loads(capsys.readouterr().out)["written"]
    assert {Path(path).name for path in written} == {
        "config.json", "result.json", "log.csv", "curves.png", "layers.txt",
        "model.safetensors", "model.json",
    }  # fmt: skip
    assert (folder / "three" / "curves.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((folder / "three" / "result.json").read_text())
    layers = (folder / "three" / "layers.txt").read_text().splitlines()
    assert layers[-1].split() == ["in", "all", f"{result['parameters']:,}"]
    assert any(re.search(r"Linear +1 x 10 ", line) for line in layers)
    assert len((folder / "three" / "log.csv").read_text().splitlines()) == 1 + result["epochs"]
    assert call("evaluate", "three", "--device", "cpu", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stored_test_accuracy"] == result["test_accuracy"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tiny", "--format", "xls"), "--format = 'xls': choose from csv, parquet, json, xlsx"),
        (("tiny", "--trial", "9"), "--trial = 9: study 'tiny' has no such trial: choose one from"),
        (("tiny", "tiny.toml"), "tiny.toml: cannot be written: "),
        (("other",), "study = 'other': choose from tiny"),
    ],
)
def test_a_mistake_is_one_line(
    words: tuple[str, ...], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("export", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fmnist-study: error: {said}")


def test_weights_of_another_training_are_not_handed_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (weights,) = folder.glob("checkpoints/**/baseline*seed=1.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        assert call("export", "tiny", "broken", "--trial", "2") == 2
    finally:
        weights.write_bytes(whole)
    assert "SHA-256 is" in capsys.readouterr().err
    assert not (folder / "broken").exists()
