"""The command that moves studies between databases: `copy`."""

import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import app
from study.cli.json_output import print_json
from study.cli.options import JsonOption, StorageOption
from study.store import location

if TYPE_CHECKING:
    from pathlib import Path

    import sqlalchemy


@app.command()
def copy(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A stored study.")],
    to: Annotated[
        str, typer.Option("--to", metavar="URL|PATH", help="The database that it goes into.")
    ],
    storage_option: StorageOption = None,
    new_name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Its name there; default: the same.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a study into another database: all of it, verified before and after, or nothing."""
    from study.plans.plan import check_name
    from study.store.copying import copy as copied_into

    source, target = location.locate(storage_option), location.locate(to)
    if new_name is not None:
        check_name("--as", new_name)
    command = shlex.join(["fmnist-study", *map(location.masked, sys.argv[1:])])
    copied = copied_into(source, study, target, new_name or study, command)
    if as_json:
        where = {"storage": location.display(target), "study": new_name or study}
        print_json(where | asdict(copied))
        return
    print(
        f"{location.display(target)}: study {new_name or study!r}, {copied.trials} trials, "
        "verified against the original"
    )
    if copied.interrupted:
        print(f"{copied.interrupted} of them were running: in the copy they have failed")
    if copied.weights:
        print(_weights(copied.weights, _folder(source), _folder(target)))


def _weights(count: int, source: "Path", target: "Path") -> str:
    """Say where files of weights are, and where they would be looked for."""
    files = "the weights of 1 trial stay" if count == 1 else f"the weights of {count} trials stay"
    place = f"{files} where they are, below {source / 'checkpoints'}"
    if source == target:
        return place
    return f"{place}; of the copy they are looked for below {target / 'checkpoints'}"


def _folder(url: "sqlalchemy.URL") -> "Path":
    """Return the folder that paths of weights are relative to."""
    from pathlib import Path

    file = location.sqlite_path(url)
    return Path.cwd() if file is None else file.parent
