"""The main job on the real Fashion-MNIST."""

import json
from pathlib import Path

import pytest

from study.cli import main
from tests.support.plans import TINY

pytestmark = pytest.mark.real


def call(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


def test_a_study_of_real_images_from_a_read_only_folder(
    fashion_mnist_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (fashion_mnist_dir / "FashionMNIST" / "raw").glob("*.gz"):
        (raw / file.name).symlink_to(file.resolve())
    raw.chmod(0o555)
    Path("tiny.toml").write_text(TINY)
    before = sorted(path.name for path in raw.iterdir())

    try:
        call(
            *("run", "tiny.toml", "--dataset", "fashion-mnist", "--data-dir", "data"),
            *("--subset", "1000", "--epochs", "1", "--seeds", "1", "--executor", "inline"),
            *("--device", "cpu", "--quiet"),
        )
    finally:
        raw.chmod(0o755)
    assert sorted(path.name for path in raw.iterdir()) == before

    capsys.readouterr()
    call("report", "--hiplot", "--format", "json")
    found = json.loads(capsys.readouterr().out)
    assert (found["dataset"], found["baseline"]["n"]) == ("fashion-mnist", 1)
    assert found["baseline"]["val_accuracy_mean"] > 0.2  # chance is 0.1
    assert "<html" in Path("reports/tiny/hiplot.html").read_text()
