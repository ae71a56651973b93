"""Commands in this process, as a user types them."""

from pathlib import Path

import pytest

from study.cli import main

QUICK = ("--executor", "inline", "--device", "cpu", "--quiet")


def call(*words: str) -> int:
    """Run a command; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def run_in(folder: Path, file: str, plan: str, *words: str) -> Path:
    """Write a plan's text into a file of a folder and run it there; return the folder."""
    (folder / file).write_text(plan)
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        context.delenv("FMNIST_STUDY_STORAGE", raising=False)
        assert call("run", file, *QUICK, *words) == 0
    return folder
