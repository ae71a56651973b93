"""Images of the user's that were moved: what is said, and what is named anew."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from study.cli import main
from tests.support.pictures import class_folders

PLAN = """
name = "mine"
dataset = "folder:pictures"
seeds = 1
epochs = 1
baseline = { width = 4, depth = 1, batch_size = 8 }
factors = { pooling = ["max", "avg"] }
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMNIST_STUDY_STORAGE", raising=False)

    def called(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert isinstance(ended.value.code, int)
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return called


@pytest.mark.slow
def test_networks_find_images_that_were_moved_where_they_are_said_to_be(
    tmp_path: Path, call: Call
) -> None:
    class_folders(tmp_path / "pictures")
    (tmp_path / "mine.toml").write_text(PLAN)
    assert call("run", "mine.toml", "--executor", "inline", "--device", "cpu", "-q")[0] == 0
    assert call("best", "--export", "winner")[0] == 0
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    class_folders(tmp_path / "others", each=21)
    commands = (
        ("evaluate", "winner"),
        ("ensemble", "--top", "2"),
        ("verify", "--retrain", "1", "--workers", "1"),
    )
    for words in commands:
        code, _, err = call(*words)
        assert code == 2
        assert err.endswith(
            "is no folder; if it was moved, --dataset folder:PATH says where it is now\n"
        )
        assert call(*words, "--dataset", "folder:elsewhere")[0] == 0
        code, _, err = call(*words, "--dataset", "folder:others")
        assert code == 2
        assert "SHA-256" in err
    code, out, _ = call("evaluate", "winner", "-d", "folder:elsewhere", "--json")
    measured = json.loads(out)
    assert measured["test_accuracy"] == measured["stored_test_accuracy"]
    code, _, err = call("verify", "--retrain", "1", "--dataset", "digits")
    assert (code, "images of one's own" in err) == (2, True)
