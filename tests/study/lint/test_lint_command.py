"""`fmnist-study lint`, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from study.importing import make_study, store
from study.store import location
from tests.support.imports import table_of
from tests.support.linting import FIXTURES
from tests.support.plans import run, tiny


def command(*args: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "study.cli", *args],
        capture_output=True, text=True, check=False, cwd=cwd, timeout=120,
    )  # fmt: skip


def test_the_command_exits_with_1_for_an_error_only(tmp_path: Path) -> None:
    hasty = FIXTURES / "single-run.toml"
    done = command("lint", str(hasty), cwd=tmp_path)
    assert done.returncode == 1
    assert "hasty, the plan, without results: 1 error, no warnings, no notes" in done.stdout
    assert "error: single-run (plan)\n  1 seed: a single test of" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    clean = command("lint", "structure", "--json", cwd=tmp_path)
    assert clean.returncode == 0, clean.stderr
    told = json.loads(clean.stdout)
    assert (told["study"], told["trials"]) == ("structure", 0)
    assert {own["severity"] for own in told["findings"]} == {"note"}
    assert command("lint", "nothing", cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_commands_import_and_examine_a_file(tmp_path: Path) -> None:
    url = ("--storage", str(tmp_path / "a.db"))
    csv = str(FIXTURES / "test-selection.csv")
    done = command("import", csv, "--study-name", "theirs", *url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lr        factor: 0.01, 0.1" in done.stdout
    assert "study theirs (a.db): ablation, 2 settings, 6 runs" in done.stdout
    assert "note: test_acc is measured on test images" in done.stdout
    examined_ = command("lint", *url, cwd=tmp_path)
    assert examined_.returncode == 1
    assert "theirs, the plan and 6 trials: 1 error" in examined_.stdout
    again = command("import", csv, "--study-name", "theirs", *url, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "is taken" in again.stderr
    refused = command("run", "theirs", *url, cwd=tmp_path)
    assert refused.returncode == 2
    assert (
        refused.stderr
        == "fmnist-study: error: study 'theirs': was imported; it has nothing to run\n"
    )
    assert "theirs" in command("report", *url, cwd=tmp_path).stdout
    assert command("best", "theirs", *url, cwd=tmp_path).returncode == 0


def test_a_plan_file_is_examined_with_the_results_of_its_own_study(tmp_path: Path) -> None:
    plan = tiny(seeds=3)
    run(plan, tmp_path / "a.db", name="tiny")
    file = tmp_path / "tiny.toml"
    text = (
        'name = "tiny"\ndataset = "digits"\nseeds = 3\nepochs = 1\nsubset = 200\n'
        '[baseline]\nwidth = 4\nbatch_size = 32\nprecision = "fp32"\n'
        '[factors]\npooling = ["max", "avg"]\n'
    )
    url = ("--storage", str(tmp_path / "a.db"), "--json")
    for own, count in ((text, 6), (text.replace("width = 4", "width = 5"), 0)):
        file.write_text(own, encoding="utf-8")
        told = json.loads(command("lint", str(file), *url, cwd=tmp_path).stdout)
        assert told["trials"] == count


def test_hostile_names_steer_no_terminal(tmp_path: Path) -> None:
    url = ("--storage", str(tmp_path / "a.db"))
    made = make_study(
        table_of("a\x1b[31m,b\u202e,val_acc\n1,x,0.9\n2,y,0.8\n"),
        name="theirs",
    )
    store(made, location.locate(url[1]), "import")
    printed = command("lint", *url, cwd=tmp_path).stdout
    assert "\\x1b[31m" in printed
    assert not any(c in printed for c in "\x1b\u202e")
