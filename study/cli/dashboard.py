"""The command `dashboard`: Optuna Dashboard on snapshots that follow the database."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study.cli.common import app, choose_study, findings_of, read, stored_studies, trials_of
from study.cli.options import StorageOption, StudyName
from study.store import location
from trainer.errors import UserError

if TYPE_CHECKING:
    import sqlalchemy

    from analysis.trials import Study
    from study.cli.same_origin import Application

LOOK_SECONDS = 3.0


@app.command()
def dashboard(
    study: StudyName = None,
    storage_option: StorageOption = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "localhost",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8080,
) -> None:
    """Serve Optuna Dashboard on snapshots that follow the database, until Ctrl-C.

    Snapshots, because the dashboard can write: it can delete a study, and the file has an owner.
    They hold what Optuna cannot compute: table, summary, effects, findings, each trial's course.
    """
    import tempfile

    url, chosen = choose_study(location.locate(storage_option), study)
    chosen, _ = read(url, chosen.name)  # a damaged one is refused
    database = location.sqlite_path(url)
    if database is None:
        raise UserError(
            f"storage {location.display(url)}: is on a server, of which no snapshot is made; the "
            "dashboard can delete studies, so it is not served from there"
        )
    try:
        import optuna_dashboard  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"Optuna Dashboard is not installed ({error}): pip install 'fmnist-study[dashboard]'"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        _serve(Snapshots(url, database, Path(folder)), chosen.id, host, port)


def _serve(snapshots: "Snapshots", study_id: int, host: str, port: int) -> None:
    """Answer requests, and look at the database now and then, until a signal ends it."""
    import signal
    from wsgiref.simple_server import make_server

    from study.cli.same_origin import SameOrigin

    try:
        server = make_server(host, port, SameOrigin(snapshots, host))
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error.strerror}") from error
    ended = threading.Event()

    def end() -> None:
        ended.set()
        server.shutdown()

    # Not as an exception: the server would take it for the failure of a request, and go on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=end).start())
    follower = threading.Thread(target=_follow, args=(snapshots, ended), daemon=True)
    address = f"http://{host}:{server.server_port}/dashboard/studies/{study_id}"
    print(f"{address} (a snapshot that follows the study; Ctrl-C ends)", flush=True)
    with server:
        follower.start()
        server.serve_forever()
    follower.join()


def _follow(snapshots: "Snapshots", ended: threading.Event) -> None:
    """Make a new snapshot whenever the database has changed; keep the last where that fails."""
    import sys

    from sqlalchemy.exc import SQLAlchemyError

    told = None
    while not ended.wait(LOOK_SECONDS):
        try:
            snapshots.refresh()
        except (OSError, sqlite3.Error, SQLAlchemyError, UserError) as error:
            if (words := str(error)) != told:
                print(f"the snapshot stays as it is: {words}", file=sys.stderr)
            told = words


class Snapshots:
    """A WSGI application that answers from the newest snapshot of a database.

    Args:
        url, database: the database, which is only read.
        folder: where snapshots lie.

    Raises:
        UserError: it is damaged.
    """

    def __init__(self, url: "sqlalchemy.URL", database: Path, folder: Path) -> None:
        self.url, self.database, self.folder = url, database, folder
        self.number = 0
        self.application: Application
        self._seen: list[tuple[int, int]] = []
        self._computed: dict[str, tuple[object, dict[str, Any]]] = {}
        self.refresh()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request."""
        return self.application(environ, start_response)

    def refresh(self) -> bool:
        """Take another snapshot where the database has changed; return whether it has."""
        import optuna_dashboard

        from study.store import backup

        seen = self._state()
        if seen == self._seen:
            return False
        file = self.folder / f"{self.number}.db"
        backup.back_up(self.database, file)
        self._annotate(file)
        self.application = optuna_dashboard.wsgi(f"sqlite:///{file}")
        # The one before may be answering still; those before that are not.
        (self.folder / f"{self.number - 2}.db").unlink(missing_ok=True)
        self._seen, self.number = seen, self.number + 1
        return True

    def _state(self) -> list[tuple[int, int]]:
        """Return what changes whenever the database does: size and time of the file and its log."""
        files = (self.database, self.database.with_name(self.database.name + "-wal"))
        states = [file.stat() for file in files if file.exists()]
        return [(state.st_size, state.st_mtime_ns) for state in states]

    def _annotate(self, file: Path) -> None:
        """Write what Optuna cannot compute into a snapshot."""
        url = location.locate(str(file))
        with closing(sqlite3.connect(file)) as opened, opened:
            for study in stored_studies(url):
                for key, value in self._attributes(url, study, opened):
                    opened.execute(
                        "INSERT OR REPLACE INTO study_system_attributes "
                        "(study_id, key, value_json) VALUES (?, ?, ?)",
                        (study.id, key, json.dumps(value)),
                    )

    def _attributes(
        self, url: "sqlalchemy.URL", study: "Study", opened: sqlite3.Connection
    ) -> "Iterator[tuple[str, Any]]":
        """Yield a study's notes and plots, computed again where its trials have changed."""
        from analysis import dashboard, designs

        if study.damage or not study.trial_count:
            return
        trials = trials_of(url, study)
        state = [(trial.number, trial.state, trial.value) for trial in trials]
        if self._computed.get(study.name, (None, {}))[0] != state:
            results = designs.results(study, trials)
            computed = dashboard.study_attributes(results, findings_of(results))
            self._computed[study.name] = state, computed
        yield from self._computed[study.name][1].items()
        rows = opened.execute("SELECT number, trial_id FROM trials WHERE study_id = ?", (study.id,))
        ids = dict(rows.fetchall())
        for trial in trials:
            if trial.number in ids:
                yield from dashboard.trial_attributes(trial, ids[trial.number]).items()
