"""A database under version control, which Git puts back to an older state."""

import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.machine import RUN, SIMULATED, Running, hold, let_go, simulated, until
from tests.support.commands import call
from tests.support.plans import TINY

QUICK = ("--executor", "inline", "--device", "cpu", "--quiet")
RESTORES = [("checkout", "--", "studies.db"), ("stash",)]


def git(folder: Path, *words: str) -> None:
    name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *name, *words], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that tracks a database with one study, and ignores what lies beside it."""
    if shutil.which("git") is None:
        pytest.skip("Git is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMNIST_STUDY_STORAGE", raising=False)
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / ".gitignore").write_text("*.db.*\n*.db-*\nreports/\ncheckpoints/\n")
    assert call("run", "tiny.toml", *QUICK, "--study-name", "published") == 0
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    return tmp_path


def values(file: Path, study: str) -> list[float]:
    with closing(sqlite3.connect(file)) as opened:
        rows = opened.execute(
            "SELECT value FROM trial_values JOIN trials USING (trial_id) JOIN studies USING "
            "(study_id) WHERE study_name = ? AND state = 'COMPLETE' ORDER BY number",
            (study,),
        )
        return [value for (value,) in rows]


def offered(said: str, study: str) -> list[str]:
    """Return the words of the command that a line offers."""
    (line,) = (line for line in said.splitlines() if f"of study {study!r}" in line)
    program, *words = shlex.split(line.partition("to have them back: ")[2])
    assert program == "fmnist-study"
    return words


@pytest.mark.parametrize("restore", RESTORES)
def test_what_git_takes_back_is_offered_at_the_next_start(
    restore: tuple[str, ...], clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = clone / "studies.db"
    assert call("run", "tiny.toml", *QUICK, "--study-name", "mine") == 0
    mine, published = values(file, "mine"), values(file, "published")
    git(clone, *restore)
    assert values(file, "mine") == []
    capsys.readouterr()
    other = ("run", "tiny.toml", *QUICK, "--study-name", "other", "--seeds", "1")
    assert call(*other) == 0
    said = capsys.readouterr().err
    assert "studies.db lacks 4 trials of study 'mine', which studies.db.backup.older-" in said
    assert call(*offered(said, "mine")) == 0
    assert values(file, "mine") == mine
    assert values(file, "published") == published
    assert len(values(file, "other")) == 2
    capsys.readouterr()
    assert call(*other) == 0
    assert "lacks" not in capsys.readouterr().err  # it is offered once


def test_a_study_that_went_on_comes_back_beside_its_older_self(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = clone / "studies.db"
    assert call("run", "tiny.toml", *QUICK, "--study-name", "published", "--seeds", "3") == 0
    longer = values(file, "published")
    git(clone, "checkout", "--", "studies.db")
    capsys.readouterr()
    assert call("run", "tiny.toml", *QUICK, "--study-name", "other") == 0
    said = capsys.readouterr().err
    assert "lacks 2 more trials of study 'published'" in said
    assert call(*offered(said, "published")) == 0
    assert values(file, "published-before") == longer
    assert values(file, "published") == longer[:4]


@pytest.mark.slow
@pytest.mark.parametrize("restore", RESTORES)
def test_git_takes_nothing_from_a_run_that_was_killed(
    restore: tuple[str, ...], clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its log and journal stay beside the older file."""
    file = clone / "studies.db"
    words = [*RUN, "--study-name", "mine", "--seeds", "60"]
    told = simulated(tmp_path_factory.mktemp("told"))  # not in the clone, which Git cleans up
    hold(Path(told["SIMULATED_HOLD"]).parent, 6)
    running = Running(SIMULATED, words, clone, **told)
    until(lambda: len(values(file, "mine")) == 6, "some trials have ended")
    running.process.kill()
    running.process.wait()
    done = values(file, "mine")
    git(clone, *restore)
    let_go(Path(told["SIMULATED_HOLD"]).parent)
    again = Running(SIMULATED, words, clone, **told)
    assert again.process.wait() == 0
    assert values(file, "mine")[: len(done)] == done
    assert len(values(file, "mine")) == 120
    assert len(values(file, "published")) == 4
