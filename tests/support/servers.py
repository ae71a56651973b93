"""A PostgreSQL server of the tests' own, on loopback, where the machine has one."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

SECONDS = 240  # that a start or an end may take on a busy machine


def _programs() -> Path:
    """Return the folder of initdb and pg_ctl; Debian does not put them on the path."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    pytest.skip("no PostgreSQL server is installed here (apt-get install postgresql)")


def _user() -> dict[str, Any]:
    """Return as whom the server runs: it refuses root."""
    if os.geteuid():
        return {}
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


class Server:
    """A server that can be restarted.

    Args:
        folder: for its data and its socket.
        programs: where initdb and pg_ctl are.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    def do(self, program: str, *words: str) -> None:
        """Run one of PostgreSQL's programs on the server's data."""
        command = [str(self.programs / program), "-D", str(self.folder / "data"), *words]
        # Not to a pipe: the server would hold it open.
        with (self.folder / "output").open("w") as output:
            subprocess.run(
                command, check=True, timeout=SECONDS, cwd=self.folder, stdout=output, stderr=output,
                **_user(),
            )  # fmt: skip

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.do("pg_ctl", "-w", "-t", str(SECONDS), "-o", options, "start")

    def stop(self) -> None:
        self.do("pg_ctl", "-w", "-t", str(SECONDS), "-m", "immediate", "stop")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def query(self, statement: str, database: str = "postgres") -> Any:
        """Run a statement of its own; return its first value, if any."""
        engine = sqlalchemy.create_engine(self.url(database), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.exec_driver_sql(statement)
            value = result.scalar() if result.returns_rows else None
        engine.dispose()
        return value


@contextmanager
def postgresql() -> Iterator[Server]:
    """Run a server; skip where there is none, or no driver."""
    pytest.importorskip("psycopg", reason="no driver for PostgreSQL (the extra postgres)")
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # a short name, for its socket
    account = _user()
    if account:
        os.chown(folder, account["user"], account["group"])
    server = Server(folder, programs)
    try:
        server.do("initdb", "-A", "trust", "-U", "postgres", "--no-sync")
        server.start()
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
