"""What CONTRIBUTING tells to add works, done word for word in a copy of the tree."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.house import PACKAGES, ROOT

# `FILE`, above `LINE`, some words: and a block of code.
STEP = re.compile(r"`([\w/.]+\.py)`, (above|below) `([^`]+)`[^`]*:\n```python\n(.*?)```", re.DOTALL)
PLAN = """
name = "mine"
dataset = "stripes"
seeds = 2
epochs = 2

[baseline]
architecture = "perceptron"
width = 16
batch_size = 32

[factors]
width = [16, 32]
temperature = [1.0, 9.0]
"""

TEMPERATURES = """
from trainer import data
from trainer.config import TrainConfig
from trainer.train import train

base = TrainConfig(dataset="stripes", architecture="perceptron", epochs=1, batch_size=32)
for degrees in (1.0, 9.0):
    (result,) = train([base.replace(temperature=degrees)], data.load("stripes"))
    print(result.val_loss)
"""
FACTS = """
from trainer import data
from trainer.datasets import DATASETS

there, told = data.load("stripes"), DATASETS["stripes"]
sizes = [len(there.train_labels), len(there.test_labels), len(there.classes)]
print([*sizes, *there.normalisation[0]])
print([told.train_images, told.test_images, len(told.classes), told.mean, told.std])
"""


def sections() -> dict[str, str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return {part.partition("\n")[0]: part for part in text.split("\n## ")}


def apply(section: str, folder: Path) -> int:
    """Make the changes of a section; return how many."""
    steps = STEP.findall(section)
    for name, where, line, code in steps:
        file = folder / name
        text = file.read_text(encoding="utf-8")
        (at,) = [own for own in text.splitlines(keepends=True) if own.startswith(line)]
        gap = "\n\n" if code.startswith("def ") else ""  # as the formatter wants it
        changed = {"above": code + gap + at, "below": at + code}[where]
        file.write_text(text.replace(at, changed, 1), encoding="utf-8")
    return len(steps)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages, changed as CONTRIBUTING says."""
    folder = tmp_path / "tree"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pyc*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    told = sections()
    steps = [apply(told[name], folder) for name in ("A data set", "A model", "A factor")]
    assert steps == [2, 2, 2]
    return folder


def command(tree: Path, *args: str, folder: Path | None = None) -> str:
    """Run a module with the copy in front of what is installed; beside it, unless told where."""
    done = subprocess.run(
        [sys.executable, *args],
        capture_output=True, text=True, check=False, cwd=folder or tree.parent, timeout=280,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_data_set_a_model_and_a_factor_are_added_with_the_lines_that_are_named(
    copy: Path,
) -> None:
    (copy.parent / "mine.toml").write_text(PLAN, encoding="utf-8")
    cli = ("-m", "study.cli")

    shown = json.loads(command(copy, *cli, "show", "mine.toml", "--json"))["variants"]
    assert shown[0]["parameters"] == 12 * 12 * 16 + 16 + 16 * 2 + 2
    command(copy, *cli, "run", "mine.toml", "--executor", "inline", "--device", "cpu", "--quiet")
    table = json.loads(command(copy, *cli, "report", "mine", "--format", "json"))

    assert table["dataset"] == "stripes"
    rows = {(row["factor"], row["level"]): row for row in table["effects"]}
    assert set(rows) == {("width", 32), ("temperature", 9.0)}
    assert all(
        row["n"] == 2 and row["val_accuracy_mean"] > 0.6 for row in rows.values()
    )  # by chance 0.5
    # Whatever was learned, the factor made a difference to it.
    cool, hot = command(copy, "-c", TEMPERATURES).split()
    assert cool != hot


def test_each_step_finds_its_place_and_what_it_adds_is_well_formed(copy: Path) -> None:
    """The copy passes the linter, and says of the data set what is true of it."""
    command(copy, "-m", "ruff", "check", ".", folder=copy)
    command(copy, "-m", "ruff", "format", "--check", ".", folder=copy)
    measured, told = map(json.loads, command(copy, "-c", FACTS).splitlines())
    assert measured[:3] == told[:3]
    assert measured[3:] == pytest.approx(told[3:], abs=1e-3)
