"""Weights that are not the trial's: the files beside a database have other owners too.

The kind: what lies in a file's place is of another training, of another database, or somebody's.
No command shows or exports it under the trial's figures, and no run writes over it.
"""

import contextlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from analysis import weights
from analysis.trials import Trial, connect, finished, studies, trials
from study.cli import main
from study.run.executors import Job, WorkerSpec
from study.run.executors.worker import Worker
from study.run.weights import WeightFiles, database_name
from study.store.location import locate
from tests.support.plans import run, tiny
from trainer.config import TrainConfig


def trials_in(file: Path) -> list[Trial]:
    engine = connect(locate(str(file)))
    return finished(trials(engine, studies(engine)[0].id))


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.out, said.err


def winner_and_other(folder: Path) -> tuple[Path, Path]:
    """Return the weights that `best` names, and those of another trial."""
    found = trials_in(folder / "studies.db")
    best = json.loads(_json(folder))
    paths = [folder / str(trial.checkpoint) for trial in found]
    winner = Path(best["checkpoint"])
    return winner, next(path for path in paths if path != winner)


def _json(folder: Path) -> str:
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(["best", "--json", "--storage", str(folder / "studies.db")])
    return out.getvalue()


def put(source: Path, target: Path) -> None:
    """Put a whole checkpoint, with the description that fits it, into the place of another."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(source.with_suffix(suffix), target.with_suffix(suffix))


def without_hashes(folder: Path) -> None:
    """Make the study one of an older version, which stored no hash of its weights."""
    with closing(sqlite3.connect(folder / "studies.db")) as opened, opened:
        opened.execute("DELETE FROM trial_user_attributes WHERE key IN ('weights_sha256', "
                       "'checksum')")  # fmt: skip
        opened.execute("DELETE FROM study_user_attributes WHERE key = 'seal'")


@pytest.mark.parametrize("older", [False, True])
def test_another_training_s_weights_are_neither_exported_nor_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], older: bool
) -> None:
    if older:
        without_hashes(folder)
    winner, other = winner_and_other(folder)
    put(other, winner)
    code, out, err = answer(capsys, "best", "--export", "out")
    assert (code, out) == (2, "")
    assert "is of another training than trial" in err
    assert not Path("out").exists()
    code, out, _ = answer(capsys, "best")
    assert code == 0
    assert "no weights: checkpoint" in out
    assert "whose weights these are" not in out
    assert json.loads(answer(capsys, "best", "--json")[1])["checkpoint"] is None
    code, out, err = answer(capsys, "ensemble", "--top", "3")
    assert (code, out) == (2, "")
    assert "is of another training than trial" in err
    assert answer(capsys, "report", "--html")[0] == 0
    page = Path("reports/tiny/report.html").read_text()
    assert "is of another training, so its most confident mistakes are not shown" in page


@pytest.mark.parametrize("older", [False, True])
def test_weights_that_are_the_trial_s_are_exported(
    folder: Path, capsys: pytest.CaptureFixture[str], older: bool
) -> None:
    if older:
        without_hashes(folder)
    for trial in trials_in(folder / "studies.db"):
        assert (trial.weights_sha256 is None) == older
        assert weights.fault(trial, folder) is None
    said = json.loads(answer(capsys, "best", "--json", "--export", "out")[1])
    given = json.loads(answer(capsys, "evaluate", "out", "--json")[1])
    assert said["test_accuracy"] == given["test_accuracy"]


@pytest.mark.parametrize("what", ["cut", "flipped", "gone", "a folder", "a link that leads out"])
def test_a_damaged_file_is_noticed(folder: Path, what: str) -> None:
    trial = trials_in(folder / "studies.db")[0]
    path = folder / str(trial.checkpoint)
    content = path.read_bytes()
    if what == "cut":
        path.write_bytes(content[:-1])
    elif what == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
        if what == "a folder":
            path.mkdir()
        if what == "a link that leads out":
            (folder.parent / "elsewhere").write_bytes(content)
            path.symlink_to(folder.parent / "elsewhere")
    assert str(weights.fault(trial, folder)).startswith(f"checkpoint {path}: ")


@pytest.mark.parametrize("content", ["", "[]", '{"sha256": 1}', "[" * 100_000, None])
def test_a_description_of_other_weights_is_noticed(folder: Path, content: str | None) -> None:
    trial = trials_in(folder / "studies.db")[0]
    described = (folder / str(trial.checkpoint)).with_suffix(".json")
    described.unlink() if content is None else described.write_text(content)
    assert weights.fault(trial, folder) == (
        f"checkpoint {described}: does not describe these weights"
    )


def test_two_databases_in_one_folder_keep_their_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, epochs in (("a.db", 3), ("b.db", 1)):
        run(tiny(epochs=epochs), tmp_path / file)
    places = [
        {str(trial.checkpoint) for trial in trials_in(tmp_path / file)} for file in ("a.db", "b.db")
    ]
    assert len(places[0]) == len(places[1]) == 4
    assert not places[0] & places[1]
    for file in ("a.db", "b.db"):
        for trial in trials_in(tmp_path / file):
            assert weights.fault(trial, tmp_path) is None


def test_a_database_that_takes_another_s_name_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    run(tiny(), file)
    before = trials_in(file)
    for part in tmp_path.glob("studies.db*"):
        if part.is_file():
            part.rename(part.with_name(part.name.replace("studies.db", "kept.db")))
    run(tiny(epochs=2), file)
    for trial in [*before, *trials_in(file)]:
        assert weights.fault(trial, tmp_path) is None


def test_a_path_is_given_once_and_never_where_a_file_is(tmp_path: Path) -> None:
    files = WeightFiles(tmp_path, "a.db", "group/study")
    first = files.fresh("x=a b", 0, 1)
    assert files.stored(first) == "checkpoints/a.db/group/study/x=a_b_seed=0.safetensors"
    assert files.fresh("x=a_b", 0, 1) != first  # two variants that look alike in a file's name
    assert files.fresh("x=a b", 0, 2) == first.with_name("x=a_b_seed=0_attempt=2.safetensors")
    first.parent.mkdir(parents=True)
    for suffix in (".safetensors", ".json"):
        left = first.with_suffix(suffix)
        left.touch()
        assert WeightFiles(tmp_path, "a.db", "group/study").fresh("x=a b", 0, 1) != first
        left.unlink()
    assert WeightFiles(tmp_path, "b.db", "group/study").fresh("x=a b", 0, 1) != first
    long = WeightFiles(tmp_path, "a.db", "s").fresh("x=" + "ä" * 500, 0, 1)
    assert len(long.name.encode()) < 230


def test_databases_of_one_name_on_two_servers_are_told_apart() -> None:
    names = {
        database_name(locate(url))
        for url in (
            "postgresql://u:p@one/db", "postgresql://v@one/db", "postgresql://u:p@two/db",
            "postgresql://u:p@one:5433/db", "/tmp/db",
        )
    }  # fmt: skip
    assert len(names) == 4  # who asks makes no difference


def test_a_worker_writes_over_no_file(tmp_path: Path) -> None:
    config = TrainConfig(dataset="digits", width=4, epochs=1, subset=200, batch_size=32)
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"somebody's")
    worker = Worker(WorkerSpec("cpu", 1, "digits", None))
    with pytest.raises(FileExistsError, match=r"is there already.*x\.safetensors"):
        worker.train(Job((config,), (path,)), lambda _: ())
    assert path.read_bytes() == b"somebody's"
