"""Studies in processes of their own, that can be killed, stopped and looked at from outside."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.plans.plan import Plan
from study.run import session
from study.run.machine import Machine
from tests.faults.simulated import workers
from tests.support.plans import run

SECONDS = 120.0  # that anything here may take
SIMULATED = "tests.faults.simulated"  # the product on workers that train nothing
RUN = ["run", "tiny.toml"]


def until(happened: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait for something; return what it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


class Running:
    """A command of the product, at work in a folder; its output is read as it comes."""

    def __init__(self, module: str, words: list[str], folder: Path, **env: str) -> None:
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
            | env,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self.readers = [
            threading.Thread(target=self._read, args=own, daemon=True)
            for own in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))
        stream.close()

    def says(self, words: str, seconds: float = SECONDS) -> str:
        """Wait for a line on stderr that holds these words."""

        def found() -> str | None:
            return next((line for line in self.err if words in line), None)

        line: str = until(
            lambda: found() or (self.process.poll() is not None and "ended"), words, seconds
        )
        assert found(), f"{words!r} was not said, but: {''.join(self.err)}{''.join(self.out)}"
        return line

    def ends(self, seconds: float = SECONDS) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(seconds)
        for reader in self.readers:
            reader.join(SECONDS)
        return code

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that train: forked from a server that the owner has started."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += child.children()
        return found


@contextmanager
def running(module: str, words: list[str], folder: Path, **env: str) -> Iterator[Running]:
    """Run a command; whatever happens, nothing of it is left."""
    own = Running(module, words, folder, **env)
    children: list[psutil.Process] = []
    try:
        yield own
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(own.process.pid).children(recursive=True)
    except BaseException as error:
        said = "".join([*own.out, *own.err])
        error.add_note(f"exit code {own.process.poll()} (None: it runs); it said:\n{said}")
        raise
    finally:
        own.process.kill()
        own.ends()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def simulated(folder: Path, seconds: float = 0.0) -> dict[str, str]:
    """Return what simulated workers are told: seconds per epoch, where to acknowledge, to hold."""
    return {
        "SIMULATED_SECONDS": str(seconds),
        "SIMULATED_ACKNOWLEDGED": str(folder / "acknowledged"),
        "SIMULATED_HOLD": str(folder / "hold"),
    }


def hold(folder: Path, results: int) -> None:
    """Have every simulated run wait once it has given so many results: it is not over by then."""
    (folder / "hold.new").write_text(str(results))
    (folder / "hold.new").replace(folder / "hold")


def let_go(folder: Path) -> None:
    """Have simulated runs wait no longer."""
    (folder / "hold").unlink()


def finished(file: Path, plan: Plan) -> None:
    """Finish a study on simulated workers in this process."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr(session, "workers_for", workers)
        run(plan, file, machine=Machine(device="cpu"))


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    """Read a database that may be in use."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as opened:
        return opened.execute(query).fetchall()


def states(database: Path) -> Counter[str]:
    """Count the trials by state; nothing where there is no database yet."""
    try:
        return Counter(state for (state,) in rows(database, "SELECT state FROM trials"))
    except sqlite3.Error:
        return Counter()


def attributes(database: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return every trial's state and attributes."""
    found: dict[int, tuple[str, dict[str, Any]]] = {}
    query = (
        "SELECT t.trial_id, t.state, a.key, a.value_json FROM trials t "
        "JOIN trial_user_attributes a USING (trial_id) ORDER BY t.trial_id"
    )
    for trial, state, key, text in rows(database, query):
        found.setdefault(trial, (state, {}))[1][key] = json.loads(text)
    return list(found.values())


def results(database: Path) -> dict[tuple[str, int], float]:
    """Return the value of every cell that is complete, each of which is so once."""
    query = (
        "SELECT t.trial_id, v.value FROM trials t JOIN trial_values v USING (trial_id) "
        "WHERE t.state = 'COMPLETE' ORDER BY t.trial_id"
    )
    own = [own for state, own in attributes(database) if state == "COMPLETE"]
    values = [value for _, value in rows(database, query)]
    cells = [(found["variant"], found["seed"]) for found in own]
    assert len(set(cells)) == len(cells), "a cell is complete twice"
    return dict(zip(cells, values, strict=True))


def assert_sound(database: Path) -> None:
    """No trial runs, and SQLite finds nothing wrong."""
    assert states(database)["RUNNING"] == 0
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]


def acknowledgements(file: Path) -> list[tuple[str, float]]:
    """Return what was acknowledged, in order: config and value.

    A line that is being written, or whose writer was killed in the midst of it, is none yet: a
    write that crosses a page of the file can be seen, and torn, between the two.
    """
    found = []
    for text in file.read_text().splitlines() if file.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            found.append((json.dumps(line["config"], sort_keys=True), line["value"]))
    return found


def acknowledged(file: Path) -> dict[str, float]:
    """Return what was acknowledged: config -> value."""
    return dict(acknowledgements(file))


def stored(database: Path) -> dict[str, float]:
    """Return what is stored, in the same form."""
    query = (
        "SELECT a.value_json, v.value FROM trials t JOIN trial_values v USING (trial_id) "
        "JOIN trial_user_attributes a USING (trial_id) "
        "WHERE t.state = 'COMPLETE' AND a.key = 'config'"
    )
    return {
        json.dumps(json.loads(text), sort_keys=True): value for text, value in rows(database, query)
    }


def write_plan(folder: Path, **changes: Any) -> Path:
    """Write a plan of two variants on digits; return its file."""
    values: Mapping[str, Any] = {"seeds": 2, "epochs": 1, "subset": 200} | changes
    head = "".join(f"{key} = {value}\n" for key, value in values.items())
    file = folder / "tiny.toml"
    file.write_text(
        f'name = "tiny"\ndataset = "digits"\n{head}\n'
        '[baseline]\nwidth = 4\nbatch_size = 32\nprecision = "fp32"\n\n'
        '[factors]\npooling = ["max", "avg"]\n'
    )
    return file


def is_alive(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that nobody has buried yet has."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for_the_end(processes: list[psutil.Process]) -> None:
    """Wait until all have ended; orphans are buried by whoever takes them over, or never."""
    until(lambda: not any(map(is_alive, processes)), "the end of every process")


def kill(process: psutil.Process, number: int = signal.SIGKILL) -> bool:
    """Send a signal; return whether the process was there."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True
