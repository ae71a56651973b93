"""What follows a run beside its results: TensorBoard's files as it goes, a command when it ends."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from study.cli.common import say, studies_if_any, trials_of
from study.store import location
from trainer.errors import UserError

if TYPE_CHECKING:
    import sqlalchemy

    from analysis.exports.tensorboard import EventFiles
    from study.run.coordinator import State, View

LOOK_SECONDS = 5.0  # between two looks at the database
SHARE = 20  # a look takes at most about 1/20 of the time


class Followed:
    """A view that also keeps TensorBoard's files up to date, from what the database holds."""

    def __init__(
        self, view: "View", files: "EventFiles", url: "sqlalchemy.URL", study: Callable[[], str]
    ) -> None:
        self.view, self.files, self.url, self.study = view, files, url, study
        self.due = time.monotonic() + LOOK_SECONDS
        self.failed = False

    def show(self, state: "State", event: str | None) -> None:
        """Show the state; now and then, write what is new."""
        self.view.show(state, event)
        if time.monotonic() > self.due:
            begun = time.monotonic()
            self.look()
            now = time.monotonic()
            self.due = now + max(LOOK_SECONDS, SHARE * (now - begun))

    def look(self) -> None:
        """Write what is new. What fails is said once, and the run goes on without it."""
        if self.failed:
            return
        try:
            for study in studies_if_any(self.url):
                if study.name == self.study():
                    self.files.follow(study, trials_of(self.url, study))
        except (OSError, UserError) as error:
            self.failed = True
            say(f"--tensorboard: nothing more is written: {error}", parseable=True)


@contextmanager
def followed(
    view: "View", folder: Path | None, url: "sqlalchemy.URL", study: Callable[[], str]
) -> "Iterator[View]":
    """Yield a view whose run TensorBoard can follow in a folder; None: the view as it is."""
    if folder is None:
        yield view
        return
    from analysis.exports.tensorboard import EventFiles

    files = EventFiles(folder)
    view = Followed(view, files, url, study)
    try:
        yield view
    finally:
        view.look()
        files.close()


def check_tensorboard(folder: Path | None) -> None:
    """Make sure before a run that its files can be written.

    Raises:
        UserError: TensorBoard is not installed, or the folder cannot be made.
    """
    if folder is None:
        return
    from analysis.exports.tables import CannotWrite
    from analysis.exports.tensorboard import check

    try:
        check()
        folder.mkdir(parents=True, exist_ok=True)
    except CannotWrite as error:
        raise UserError(f"--tensorboard {error}") from error
    except OSError as error:
        raise UserError(f"--tensorboard {folder}: {error.strerror}") from error


def call_at_end(
    command: str | None, url: "sqlalchemy.URL", study: str, end: str, code: int
) -> None:
    """Run the user's command, with how the run ended in its environment.

    Its own failure is said and changes nothing; what it prints goes to stderr.
    """
    if command is None:
        return
    path = location.sqlite_path(url)
    told = {
        "NAME": study,
        "STATE": end,
        "EXIT_CODE": str(code),
        "STORAGE": str(path) if path else url.render_as_string(hide_password=False),
    }
    environment = os.environ | {f"FMNIST_STUDY_{name}": value for name, value in told.items()}
    try:
        done = subprocess.run(command, shell=True, env=environment, check=False, stdout=2)
    except (OSError, ValueError) as error:
        say(f"--on-end: cannot be run: {error}", parseable=True)
    except KeyboardInterrupt:
        say("--on-end: interrupted", parseable=True)
    else:
        if done.returncode:
            say(f"--on-end: ended with exit code {done.returncode}", parseable=True)
