"""What people expect of any command: -h, --version, colour, one spelling of JSON."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from rich.console import Console

import study.cli  # noqa: F401 # registers the commands
from fmnist_common.environment import variable
from study.cli import main
from study.cli.common import app, print_words
from tests.support.plans import TINY
from tests.support.studies import POOLING, ablation_trials, database

PROGRAM = typer.main.get_command(app)
VALUES = {"baseline": [0.90, 0.91, 0.92, 0.9], "pooling=avg": [0.63, 0.645, 0.649, 0.63]}
SERVERS = {"dashboard"}  # they go on until they are stopped
RESET = "\x1b[0m"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Run a command in a folder with one study."""
    monkeypatch.chdir(tmp_path)
    for name in ("FMNIST_STUDY_STORAGE", "FMNIST_DATA_DIR", "FMNIST_STUDY_DATA_DIR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    database(tmp_path, ablation_trials(POOLING, VALUES), of=POOLING, name="a")
    (tmp_path / "tiny.toml").write_text(TINY)

    def called(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return called


def test_the_version_is_that_of_the_package(call: Call) -> None:
    from importlib.metadata import version

    for word in ("--version", "-V"):
        assert call(word) == (0, f"fmnist-study {version('fmnist-study')}\n", "")


@pytest.mark.parametrize("words", [(), ("run",), ("report",), ("doctor",)])
def test_h_is_help(call: Call, words: tuple[str, ...]) -> None:
    assert call(*words, "-h") == call(*words, "--help")
    assert "Usage: " in call(*words, "-h")[1]


@pytest.mark.parametrize("name", sorted(set(PROGRAM.commands) - SERVERS))  # type: ignore[attr-defined]
def test_every_command_that_answers_spells_json_alike(name: str) -> None:
    command = PROGRAM.commands[name]  # type: ignore[attr-defined]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "-j"} <= options


def test_a_short_option_means_the_same_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for command in PROGRAM.commands.values():  # type: ignore[attr-defined]
        for parameter in command.params:
            long = [option for option in parameter.opts if option.startswith("--")]
            for option in parameter.opts:
                if re.fullmatch("-[a-zA-Z]", option):
                    meanings.setdefault(option, set()).update(long)
    assert {option: names for option, names in meanings.items() if len(names) > 1} == {}
    assert {"-s", "-j", "-q", "-v", "-n", "-o", "-f"} <= set(meanings)


def test_json_of_tables_is_the_old_format(call: Call) -> None:
    code, out, _ = call("report", "a", "--json")
    assert (code, out) == call("report", "a", "--format", "json")[:2]
    assert json.loads(out)["study"] == "a"
    assert json.loads(call("compare", "a", "a", "-j")[1])
    assert call("report", "a", "--format", "csv", "--json")[0] == 2


def test_colour_is_as_the_environment_says(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b" not in call("report", "a")[1]  # no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m- pooling" in call("report", "a")[1]
    assert "\x1b" not in call("report", "a", "--json")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in call("report", "a")[1]


def test_forced_colour_draws_no_bar_into_a_file(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    quick = ("--executor", "inline", "--device", "cpu", "--storage", "b.db")
    code, _, err = call("run", "tiny.toml", *quick, "--verbose")
    assert code == 0
    lines = [line for line in err.splitlines() if "% validation accuracy" in line]
    assert len(lines) == 4  # one for each trial
    assert "\x1b[?25l" not in err
    assert call("run", "tiny.toml", *quick, "-q", "-v")[0] == 2


def test_a_variable_has_one_prefix_and_its_old_name_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FMNIST_DATA_DIR", raising=False)
    monkeypatch.delenv("FMNIST_STUDY_DATA_DIR", raising=False)
    assert variable("DATA_DIR") == ("FMNIST_STUDY_DATA_DIR", "")
    monkeypatch.setenv("FMNIST_DATA_DIR", "old")
    assert variable("DATA_DIR") == ("FMNIST_DATA_DIR", "old")
    monkeypatch.setenv("FMNIST_STUDY_DATA_DIR", "new")
    assert variable("DATA_DIR") == ("FMNIST_STUDY_DATA_DIR", "new")


def test_doctor_takes_data_that_was_never_fetched_for_no_fault(call: Call, tmp_path: Path) -> None:
    findings = {row["what"]: row for row in json.loads(call("doctor", "--json")[1])}
    assert findings["data"]["fine"]
    assert "only its own studies need it" in findings["data"]["finding"]
    named = json.loads(call("doctor", "--json", "--data-dir", "there")[1])
    assert {row["what"]: row["fine"] for row in named}["data"] is False
    folder = tmp_path / "data" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"half")
    broken = json.loads(call("doctor", "--json")[1])
    assert {row["what"]: row["fine"] for row in broken}["data"] is False


def test_completion_knows_commands_and_plans(tmp_path: Path) -> None:
    script = "from study.cli import main; import sys; sys.argv[0] = 'fmnist-study'; main()"
    environment = os.environ | {
        "_FMNIST_STUDY_COMPLETE": "complete_bash",
        "COMP_WORDS": "fmnist-study run abl",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["ablation"]


def test_what_was_imported_is_told_as_json(call: Call, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("lr,seed,val_accuracy\n0.1,0,0.9\n0.1,1,0.92\n0.2,0,0.8\n")
    (tmp_path / "unclear.csv").write_text("a,b,x\n1,2,3.5\n2,3,4.5\n")
    words = ("import", "table.csv", "--study-name", "theirs", "--json")

    said = json.loads(call(*words, "--dry-run")[1])
    assert (said["storage"], said["study"], said["trials"]) == (None, "theirs", 3)
    assert said["factors"] == {"lr": [0.1, 0.2]}
    assert said["columns"].keys() == {"lr", "seed", "val_accuracy"}
    code, out, _ = call(*words)
    assert (code, json.loads(out)["storage"]) == (0, "studies.db")
    assert json.loads(call("report", "theirs", "--json")[1])["study"] == "theirs"
    code, out, err = call("import", "unclear.csv", "--study-name", "u", "--json")
    assert (code, out) == (2, "")
    assert "--metric" in err


@pytest.mark.parametrize("terminal", [True, False])
def test_first_lines_break_between_words_and_only_on_a_terminal(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=20, color_system=None)
    line = "study [b]x[/b]: results go to /a/path/that/is/longer/than/that"
    print_words(console, line)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue().splitlines()
    assert " ".join(word.strip() for word in printed) == line
    assert len(printed) == (3 if terminal else 1)
    assert printed[-1].endswith("/a/path/that/is/longer/than/that")
