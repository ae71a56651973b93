"""A commit is recorded where it is the package's own."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from study.run import provenance


def git(folder: Path, *words: str) -> None:
    name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *name, *words], check=True, capture_output=True)


@pytest.fixture
def somebodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package inside the repository of somebody's project."""
    if shutil.which("git") is None:
        pytest.skip("Git is not installed")
    (tmp_path / "notes.txt").write_text("x")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    installed = tmp_path / "venv" / "study" / "run"
    installed.mkdir(parents=True)
    copy = Path(shutil.copy(provenance.__file__, installed))
    monkeypatch.setattr(provenance, "__file__", str(copy))
    return tmp_path


def test_the_repository_around_an_installation_is_not_named(
    somebodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provenance.git_commit() is None
    monkeypatch.setenv("GIT_DIR", str(somebodys / ".git"))  # as in a hook
    assert provenance.git_commit() is None


def test_the_repository_that_tracks_the_package_is_named(somebodys: Path) -> None:
    git(somebodys, "add", "--force", "venv")
    git(somebodys, "commit", "-m", "y")
    assert re.fullmatch("[0-9a-f]{40}", provenance.git_commit() or "")
    (somebodys / "notes.txt").write_text("z")
    assert re.fullmatch("[0-9a-f]{40}-dirty", provenance.git_commit() or "")


def test_what_was_changed_of_the_code_is_kept_and_a_long_change_capped(
    somebodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provenance.git_diff() is None  # not tracked
    code = somebodys / "venv" / "study" / "run" / "rate.py"
    code.write_text("RATE = 1\n")
    git(somebodys, "add", "--force", "venv")
    git(somebodys, "commit", "-m", "y")
    (somebodys / "notes.txt").write_text("my own words")
    assert provenance.git_diff() is None  # no code
    code.write_text("RATE = 2\n")
    told = provenance.git_diff() or ""
    assert "venv/study/run/rate.py" in told
    assert "\n-RATE = 1\n+RATE = 2" in told
    assert "notes" not in told
    monkeypatch.setattr(provenance, "MOST", 50)
    assert provenance.git_diff() == f"{told[:50]}\n... and {len(told) - 50} more characters"
