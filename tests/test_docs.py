"""What README, CONTRIBUTING and docs/ show can be typed: commands, options, links, files."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import study.cli  # noqa: F401 # registers the commands
from study.cli.common import app
from tests.support import rooms
from tests.support.house import PACKAGES, ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM: Any = typer.main.get_command(app)
NUMBERS = {"K": "3", "N": "3"}  # placeholders of options that take a number
# Of other programs whose options the pages name.
OTHERS = {"--help", "--version", "--gpu", "--quick", "--device", "--networks"}


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
