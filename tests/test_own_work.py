"""Networks and trainings of the user's, as docs/own-work.md shows them; what goes wrong there."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.machine import assert_sound, running, states, until

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = DOCS / "examples"
PAGE = (DOCS / "own-work.md").read_text(encoding="utf-8")
RUN = ["run", "mine.toml", "--workers", "2"]


def plan(trainer: str = 'trainer = "mine:train"', **more: Any) -> str:
    """Make the text of a plan of two variants with three seeds."""
    keys = {"seeds": 3, "epochs": 4} | more
    return (
        'name = "mine"\ndataset = "numbers"\n'
        + "".join(f"{name} = {json.dumps(value)}\n" for name, value in keys.items())
        + f"{trainer}\n[trainer_options]\nlevel = 0.5\n"
        "[factors]\ntrainer_options.level = [0.5, 0.6]\n"
    )


TRAIN = """
import os, time, random

def train(config, report):
    rng = random.Random(config["seed"])
    for epoch in range(1, config["epochs"] + 1):
        {body}
        if report(epoch, config["level"] + 0.01 * epoch + 0.001 * rng.random()):
            break
    return {{"test_accuracy": config["level"]}}
"""


def write(folder: Path, body: str = "pass", **more: Any) -> Path:
    """Write a plan and its training; return the database."""
    (folder / "mine.toml").write_text(plan(**more))
    (folder / "mine.py").write_text(TRAIN.format(body=body))
    return folder / "studies.db"


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "study.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env=os.environ | {"PYTHONPATH": str(DOCS.parent), "OMP_NUM_THREADS": "1"},
    )


def accuracies(file: Path) -> dict[tuple[str, int], float]:
    """Return the accuracy of every finished cell, each of which is so once."""
    query = (
        "SELECT v.value, (SELECT value_json FROM trial_user_attributes a WHERE "
        "a.trial_id = t.trial_id AND key = 'variant'), (SELECT value_json FROM "
        "trial_user_attributes a WHERE a.trial_id = t.trial_id AND key = 'seed') FROM trials t "
        "JOIN trial_values v USING (trial_id) WHERE t.state = 'COMPLETE'"
    )
    with closing(sqlite3.connect(file)) as opened:
        rows = opened.execute(query).fetchall()
    cells = {(json.loads(variant), json.loads(seed)): value for value, variant, seed in rows}
    assert len(cells) == len(rows)
    return cells


def reasons(file: Path) -> Counter[str]:
    with closing(sqlite3.connect(file)) as opened:
        rows = opened.execute(
            "SELECT value_json FROM trial_user_attributes WHERE key = 'failure_reason'"
        ).fetchall()
    return Counter(json.loads(text) for (text,) in rows)


def test_the_page_shows_the_files_that_are_run() -> None:
    files = [
        path.read_text(encoding="utf-8")
        for path in EXAMPLES.rglob("*")
        if path.suffix in (".py", ".toml")
    ]
    part = PAGE[PAGE.index("## Networks") : PAGE.index("## Notebook")]
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", part, re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        assert any(block in text for text in files), block


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "name", "more", "trials"),
    [
        ("training", "mlp", [], 9),
        ("training", "perceptron", [], 9),
        ("network", "vit", ["--seeds", "2", "--epochs", "1"], 8),
    ],
)
def test_an_example_runs_in_a_folder_of_its_own(
    tmp_path: Path, example: str, name: str, more: list[str], trials: int
) -> None:
    folder = shutil.copytree(EXAMPLES / example, tmp_path / example)
    done = command(folder, "run", f"{name}.toml", *more)
    assert done.returncode == 0, done.stderr
    assert states(folder / "studies.db") == {"COMPLETE": trials}
    for words in (
        ["report", name, "--html", "--hiplot"],
        ["show", f"{name}.toml"],
        ["status", name],
        ["lint", name],
        ["verify", name],
    ):
        done = command(folder, *words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    shown = " ".join(command(folder, "show", f"{name}.toml").stdout.split())
    assert ("take is not known before" in shown) == (example == "training")
    html = (folder / "reports" / name / "report.html").read_text(encoding="utf-8")
    assert "options" in html


def test_the_same_table_comes_of_a_function_in_this_process(tmp_path: Path) -> None:
    write(tmp_path)
    done = command(tmp_path, *RUN)
    assert done.returncode == 0, done.stderr
    assert len(accuracies(tmp_path / "studies.db")) == 6
    done = command(tmp_path, "report", "mine", "--json")
    (effect,) = json.loads(done.stdout)["effects"]
    assert effect["factor"] == "trainer_options.level"
    assert effect["delta"] == pytest.approx(0.1, abs=0.002)
    assert "parameters" not in command(tmp_path, "report", "mine").stdout


BROKEN = {
    "raises": (
        "raise RuntimeError('no such file: weights')",
        "RuntimeError: no such file: weights",
    ),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "reports words": ("report(epoch, 'good')", "val_accuracy = 'good': must be a number"),
    "reports percent": (
        "report(epoch, 91.5)",
        "val_accuracy = 91.5: must be a fraction, from 0 to 1",
    ),
    "skips an epoch": ("report(epoch + 1, 0.5)", "the next is 1"),
}


@pytest.mark.parametrize(
    "case", ["raises", *(pytest.param(case, marks=pytest.mark.slow) for case in [*BROKEN][1:])]
)
def test_a_training_that_breaks_fails_with_its_words(tmp_path: Path, case: str) -> None:
    body, words = BROKEN[case]
    file = write(tmp_path, f"if config['level'] > 0.55: {body}")
    done = command(tmp_path, *RUN)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert states(file)["COMPLETE"] == 3
    assert any(words in reason for reason in reasons(file)), reasons(file)
    assert_sound(file)


PROGRAM = """
import json, sys, time
config = json.loads(sys.stdin.readline())
print("some words of its own")
for epoch in range(1, config["epochs"] + 1):
    time.sleep(config["pause"])
    accuracy = config["level"] + 0.01 * epoch + 0.001 * config["seed"]
    print(json.dumps({"epoch": epoch, "val_accuracy": accuracy}), flush=True)
    if json.loads(sys.stdin.readline())["stop"]:
        break
print(json.dumps({"result": {"test_accuracy": config["level"]}}))
"""


def program(folder: Path, pause: float) -> Path:
    words = f"command = {json.dumps([sys.executable, 'mine_program.py'])}"
    text = plan(words).replace("level = 0.5\n", f"level = 0.5\npause = {pause}\n")
    (folder / "mine.toml").write_text(text)
    (folder / "mine_program.py").write_text(PROGRAM)
    return folder / "studies.db"


@pytest.mark.slow
def test_a_study_of_a_program_that_is_killed_goes_on_and_ends_as_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    file = program(tmp_path, 0.2)
    with running("study.cli", RUN, tmp_path) as disturbed:
        until(lambda: states(file)["COMPLETE"] >= 1, "a result")
        disturbed.process.send_signal(signal.SIGKILL)
        assert disturbed.ends() == -9
    assert 1 <= states(file)["COMPLETE"] < 6
    done = command(tmp_path, *RUN)
    assert done.returncode == 0, done.stderr
    assert_sound(file)
    other = tmp_path / "undisturbed.db"
    done = command(tmp_path, *RUN, "--storage", str(other))
    assert done.returncode == 0, done.stderr
    assert accuracies(file) == accuracies(other)


@pytest.mark.slow
def test_a_search_prunes_trainings_of_the_user_s(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ndesign = "search"\ndataset = "numbers"\nepochs = 9\nseeds = 1\n'
        'trainer = "mine:train"\n[trainer_options]\nlevel = 0.5\n'
        "[search]\ntrials = 30\n[search.space]\n"
        "trainer_options.level = { low = 0.1, high = 0.9 }\n"
    )
    done = command(tmp_path, *RUN)
    assert done.returncode == 0, done.stderr
    counted = states(tmp_path / "studies.db")
    assert counted["PRUNED"] > 0
    assert counted["COMPLETE"] + counted["PRUNED"] == 30
    assert command(tmp_path, "report", "mine", "--html", "--hiplot").returncode == 0


NETWORK = """
import os
from torch import nn

print("imported")

class Net(nn.Module):
    def __init__(self, config, side, classes):
        super().__init__()
        os.system("echo called")
        self.linear = nn.Linear(side * side, classes)

    def forward(self, images):
        print("computed")
        logits = self.linear(images.flatten(1))
        return {body}
"""
NETWORK_PLAN = """
name = "mine"
dataset = "digits"
architecture = "mine:Net"
seeds = 2
epochs = 1
[factors]
learning_rate = [1e-3, 1e-2]
"""


@pytest.mark.slow
def test_a_network_that_prints_and_cannot_be_fused_leaves_json_alone_and_is_said_to_train_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.toml").write_text(NETWORK_PLAN)
    (tmp_path / "mine.py").write_text(NETWORK.format(body="logits if logits.sum() else images"))
    for words in (RUN, ["show", "mine.toml"], ["ensemble", "mine"]):
        done = command(tmp_path, *words, "--json")
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), dict)
        assert {"imported", "called", "computed"} <= set(done.stderr.splitlines())
    (tmp_path / "studies.db").unlink()
    spoken = command(tmp_path, *RUN, "--dry-run")
    said = [line for line in spoken.stdout.splitlines() if line.startswith("banks of one: ")]
    assert len(said) == 1, (spoken.stdout, spoken.stderr)
    assert "data-dependent control flow" in said[0]
    assert said[0].endswith("(mine.py, line 16)")


@pytest.mark.slow
def test_a_mistake_in_forward_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(NETWORK_PLAN)
    (tmp_path / "mine.py").write_text(NETWORK.format(body="logits.view(7, 9)"))
    done = command(tmp_path, *RUN)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("fmnist-study: error: ")]
    assert len(errors) == 1
    assert "RuntimeError: shape '[7, 9]' is invalid" in errors[0]
    assert errors[0].endswith("(mine.py, line 16)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "words"),
    [
        ('trainer = "absent:train"', "trainer = 'absent:train': there is no module 'absent'"),
        ('trainer = "mine:absent"', "module 'mine' has no 'absent'; it has train"),
        ('command = ["no-such-program"]', "there is no program 'no-such-program'"),
    ],
)
def test_a_training_that_is_not_there_is_said_before_a_study_is_made(
    tmp_path: Path, key: str, words: str
) -> None:
    write(tmp_path)
    (tmp_path / "mine.toml").write_text(plan(key))
    done = command(tmp_path, *RUN)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert states(tmp_path / "studies.db") == {}
