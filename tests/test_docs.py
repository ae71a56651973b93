"""What README, CONTRIBUTING and docs/ show can be typed: commands, options, links, files."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import study.cli  # noqa: F401 # registers the commands
from fmnist_common.text import level_text
from study.cli.common import app
from study.plans import plan, space
from tests.support import rooms
from tests.support.house import PACKAGES, ROOT
from tests.support.pictures import class_folders
from trainer.config import ARCHITECTURE_FIELDS, FIELD_NAMES, TrainConfig

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM: Any = typer.main.get_command(app)
NUMBERS = {"K": "3", "N": "3"}  # placeholders of options that take a number
# Of other programs whose options the pages name.
OTHERS = {
    "--help",
    "--version",
    "--gpu",
    "--quick",
    "--device",
    "--networks",
    "--install-completion",
    "--pictures",
    "--check",
}


def shown(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the commands of a page with their lines: of its shell blocks, and in its text."""
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL):
        first = text[: block.start(1)].count("\n") + 1
        for number, line in enumerate(block[1].replace("\\\n", " ").splitlines(), first):
            for part in re.split(r"&&|\|", line.partition(" #")[0]):
                if part.strip().startswith("fmnist-study"):
                    yield number, part.strip()
    plain = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
    for span in re.finditer(r"`(fmnist-study(?:\s[^`]*)?)`", plain):
        yield plain[: span.start()].count("\n") + 1, " ".join(span[1].split())


COMMANDS = [
    pytest.param(words, id=f"{page.name}:{line} {words}")
    for page in PAGES
    if page.exists()
    for line, words in shown(page)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_that_is_shown_parses(words: str) -> None:
    """It is parsed by the program's own parser, and not run."""
    _, *args = [NUMBERS.get(word, word) for word in shlex.split(re.sub(r"[\[\]]", "", words))]
    if not args or args[0] in {"COMMAND", "--help", "..."}:
        return
    name, *rest = args
    assert name in PROGRAM.commands, f"{name}: no such command"
    command = PROGRAM.commands[name]
    if rest or not any(parameter.required for parameter in command.params):  # else it is a name
        context = command.make_context(name, rest, resilient_parsing=False)
        assert context.command is command


def options() -> set[str]:
    return {
        option
        for command in (PROGRAM, *PROGRAM.commands.values())
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda p: p.name)
def test_an_option_that_a_page_names_is_there(page: Path) -> None:
    plain = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = {
        option
        for span in re.findall(r"`([^`]*)`", plain)
        if not span.startswith(("pip ", "pytest", "python ", "optuna-dashboard"))
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)
    }
    assert named - options() - OTHERS == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda p: p.name)
def test_a_link_to_a_file_leads_to_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_parser_refuses_what_is_no_command() -> None:
    with pytest.raises(AssertionError, match="no such command"):
        test_a_command_that_is_shown_parses("fmnist-study rum ablation")
    with pytest.raises(typer.TyperException, match="--sedes"):
        test_a_command_that_is_shown_parses("fmnist-study run ablation --sedes 3")
    assert len(COMMANDS) > 30


def test_the_map_of_the_house_is_that_of_the_house() -> None:
    told = rooms.PAGE.read_text(encoding="utf-8")
    assert told == rooms.page(), "write it again: python -m tests.support.rooms"


def test_what_the_architecture_names_is_there() -> None:
    """Every file and folder that the page names in code, wherever in the house it is."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:[\w-]+/)*[\w-]+(?:\.py|\.toml|\.c|/))`", text)
    folders = [ROOT / name for name in (*PACKAGES, "tests", "docs", ".ci")]
    paths = [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    there = [f"/{path.relative_to(ROOT)}" for path in paths]
    assert len(named) > 30
    ends = [f"/{name.rstrip('/')}" for name in named]
    missing = [end for end in ends if not any(path.endswith(end) for path in there)]
    assert missing == []


# Every key, every field.


def test_every_field_of_a_training_is_told_with_its_default() -> None:
    text = (ROOT / "docs" / "fields.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (all|`[^`]*`) \|", text, re.MULTILINE))
    defaults = {name: getattr(TrainConfig(), name) for name in FIELD_NAMES}
    told = {
        name: "all" if value is None else f"`{level_text(value)}`"
        for name, value in defaults.items()
    }
    assert {name: rows.get(name) for name in told} == told


def test_every_architecture_is_told_with_the_fields_that_it_reads() -> None:
    text = (ROOT / "docs" / "fields.md").read_text(encoding="utf-8")
    table = text.partition("## Which architecture reads what")[2]
    rows = {
        name: frozenset(re.findall(r"`(\w+)`", cell))
        for name, cell in re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    }
    assert rows == dict(ARCHITECTURE_FIELDS)


@pytest.mark.parametrize(
    ("page", "keys"),
    [
        ("plans.md", plan._KEYS),
        ("searching.md", space._SEARCH_KEYS),
        ("searching.md", space._RANGE_KEYS),
    ],
)
def test_every_key_of_a_plan_is_told(page: str, keys: tuple[str, ...]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    fenced = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    in_code = set(re.findall(r"\w+", " ".join([*fenced, *re.findall(r"`([^`\n]+)`", plain)])))
    assert set(keys) - in_code == set()


# Every command of a shell block runs.

MORE_LEVELS = 'name = "more-levels"\n[factors]\ndropout = [0.2, 0.3]\n'
SMALL = ["--epochs", "1", "--seeds", "3", "--subset", "350"]
STANDS_FOR = {"STUDY": "reference/ablation", "A": "reference/ablation", "B": "reference/pooling"}
NOT_RUN = {  # why a command is not run here
    r"USER@HOST|postgresql": "needs a server: tests/study/store/test_server.py",
    r"^fmnist-study data\b": "downloads",
    r"^fmnist-study export .*--trial": "needs weights: tests/study/cli/test_exporting.py",
    r"^fmnist-study dashboard": "serves until Ctrl-C: tests/study/cli/test_dashboard.py",
    r"cuda:": "needs GPUs",
    r"--executor ray|--cluster|srun|sbatch": "needs a cluster",
}
OF_OTHER_TOOLS = {"importing.md"}  # its files: tests/study/importing/


def blocks(page: Path) -> list[str]:
    """Return the commands of a page's shell blocks, in order, without comments."""
    text = page.read_text(encoding="utf-8")
    return [
        part.strip()
        for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        for part in line.partition(" #")[0].split("&&")
        if part.strip().startswith("fmnist-study")
    ]


def small(command: str) -> list[str]:
    """Return a command's words: what stands for a study is one, a study to be run is small."""
    words = [STANDS_FOR.get(word, NUMBERS.get(word, word)) for word in shlex.split(command)[1:]]
    words = [word for word in words if word != "--open"]  # a browser
    if words[0] == "run":
        dataset = [] if "--dataset" in words else ["--dataset", "digits"]
        trials = ["--trials", "6"] if "search" in words else []
        words = ["run", words[1].removeprefix("reference/"), *words[2:], *dataset, *SMALL, *trials]
    if "--retrain" in words:  # of trainings of minutes
        words[words.index("--retrain") + 1] = "1"
    return words


RUNNABLE = [page for page in PAGES if page.name not in OF_OTHER_TOOLS and blocks(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "pictures", each=250)
    (tmp_path / "more-levels.toml").write_text(MORE_LEVELS)
    if not blocks(page)[0].startswith("fmnist-study run"):
        shutil.copy(ROOT / "studies.db", tmp_path)  # of a study that is there already
    ran = 0
    for command in blocks(page):
        if any(re.search(pattern, command) for pattern in NOT_RUN):
            continue
        words = small(command)
        if "--retrain" in words and "FMNIST_DATA_DIR" not in os.environ:
            continue  # without the images nothing can be trained again
        done = subprocess.run(
            [sys.executable, "-m", "study.cli", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        allowed = (0, 1) if words[0] == "lint" else (0,)
        assert done.returncode in allowed, f"{command}\n{done.stdout}{done.stderr}"
        ran += 1
    assert ran or page.name == "growing.md"


def test_what_is_not_run_is_named_and_what_is_run_is_small() -> None:
    assert small("fmnist-study run ablation --dataset digits")[-6:] == SMALL
    assert "digits" in small("fmnist-study run ablation")
    assert small("fmnist-study verify STUDY --retrain 3")[-2:] == ["--retrain", "1"]
    shown = [command for page in RUNNABLE for command in blocks(page)]
    skipped = [c for c in shown if any(re.search(pattern, c) for pattern in NOT_RUN)]
    assert len(shown) - len(skipped) >= 15


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list(tmp_path.rglob("*.html"))
    assert len(built) > 15
    loaded = {
        tag
        for page in built
        for tag in re.findall(
            r"<(?:script|img|iframe)[^>]*src=[\"']?https?:[^>]*>|<link[^>]*stylesheet[^>]*https?:[^>]*>",
            page.read_text(encoding="utf-8"),
        )
    }
    assert loaded == set()
