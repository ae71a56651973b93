"""Answers in JSON: stdout has nothing else, and is everybody's again afterwards."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from study.cli.common import app
from study.cli.json_output import print_json
from study.cli.options import JsonOption
from tests.support.commands import call


@pytest.fixture
def prints() -> Iterator[None]:
    """Add a command whose work prints."""

    @app.command("prints", hidden=True)
    def _prints(fail: bool = False, as_json: JsonOption = False) -> None:
        print("a print")
        if fail:
            raise typer.Exit(1)
        if as_json:
            print_json({"answer": 1})

    yield
    app.registered_commands.pop()


@pytest.mark.usefixtures("prints")
def test_what_is_printed_meanwhile_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("prints", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"answer": 1}
    assert err == "a print\n"


@pytest.mark.usefixtures("prints")
@pytest.mark.parametrize("words", [("--json",), ("--json", "--fail"), ()])
def test_stdout_is_as_before_when_the_command_has_ended(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    call("prints", *words)
    capfd.readouterr()
    call("prints")
    assert capfd.readouterr() == ("a print\n", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_fault(tmp_path: Path, closed: str) -> None:
    program = f"{sys.executable} -m study.cli list --storage nowhere.db --json {closed}"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        ["sh", "-c", program], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if closed == "2>&-":
        assert json.loads(done.stdout)
    else:
        assert not done.stdout
