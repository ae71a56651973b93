"""The command that watches: `status`."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import app, read, stored_studies
from study.cli.json_output import print_json
from study.cli.options import JsonOption, StorageOption, StudyName
from study.store import location

if TYPE_CHECKING:
    import sqlalchemy

    from analysis.progress import Progress

LOOK_SECONDS = 2.0


@app.command()
def status(
    study: StudyName = None,
    storage_option: StorageOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every 2 seconds while it runs.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a study is, and the best variant so far."""
    from analysis.progress import as_dict, progress, render

    url = location.locate(storage_option)
    if not watch and as_json:
        print_json(as_dict(progress(*read(url, study))))
    elif not watch:
        live = is_running(url, study)  # looked at first, as in `_looks`
        now = progress(*read(url, study))
        print(render(now))
        if not live:
            _say_what_is_left(now)
    elif as_json:  # a document a line, so that a program can follow
        for now in _looks(url, study):
            print_json(as_dict(now), indent=None)
    else:
        _follow(url, study)


def _follow(url: "sqlalchemy.URL", name: str | None) -> None:
    from rich.live import Live
    from rich.text import Text

    from analysis.progress import render

    with Live(Text(""), refresh_per_second=2) as live:
        for now in _looks(url, name):
            live.update(Text(render(now)), refresh=True)
    _say_what_is_left(now)


def _say_what_is_left(now: "Progress") -> None:
    """Say that nobody trains what is missing; a run that was killed has left trials running."""
    if now.missing:
        print(f"nobody runs it now; to go on: fmnist-study run {now.study}")


def _looks(url: "sqlalchemy.URL", name: str | None) -> "Iterator[Progress]":
    """Yield how far a study is, again and again until nobody trains it any more."""
    from analysis.progress import progress

    while True:
        live = is_running(url, name)  # looked at first: what ends meanwhile is seen once more
        now = progress(*read(url, name))
        yield now
        if not live or (not now.running and now.missing == 0):
            return
        time.sleep(LOOK_SECONDS)


def is_running(url: "sqlalchemy.URL", name: str | None) -> bool:
    """Whether somebody trains a study: owns its database, and it is the one that was begun last.

    Where the owner cannot be known, on a server or another host, whether it has running trials.
    """
    from study.store.owner_note import has_owner

    study, trials = read(url, name)
    if location.is_new(url):  # a study that travels with the package
        return False
    has_running = any(trial.state == "RUNNING" for trial in trials)
    owned = has_owner(url)
    if owned is None:
        return has_running
    newest = stored_studies(url)[-1].name
    return owned and (has_running or study.name == newest)
