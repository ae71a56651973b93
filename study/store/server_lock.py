"""The owner's lock on a database server: an advisory one, held by a connection of its own.

It goes when its holder dies, and also when the connection is cut. A transaction therefore checks
before its commit that the lock's connection has it still; if not, its owner takes the lock again,
unless somebody else has it meanwhile.
"""

import contextlib
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from study.store.failures import StorageFailed, refusals

LOST = (
    "the connection that locks the database was cut while the study ran, and another run owns it "
    "now; nothing more is written"
)


@dataclass(frozen=True)
class ServerLock:
    """How a kind of server is asked for the lock.

    Attributes:
        session_sql: what tells this connection from every other one, also of after a restart.
        take_sql: 1 or true, unless another connection has the lock.
        holder_sql: the same of the connection that has it, if any.
        enter_sql: holds a new owner up until this transaction has ended; None: the server cannot.
        wait_sql: waits for the transactions that have entered.
    """

    session_sql: str
    take_sql: str
    holder_sql: str
    enter_sql: str | None = None
    wait_sql: str | None = None


class ServerClaim:
    """The lock, held by a connection of its own; taken again where that was cut.

    Args:
        lock: how the server is asked.
        url: the server.
    """

    def __init__(self, lock: ServerLock, url: sqlalchemy.URL) -> None:
        self.lock = lock
        self.engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT"
        )
        self.session: object = None
        self._connection: sqlalchemy.Connection | None = None

    def take(self) -> bool:
        """Take the lock; return whether nobody else has it.

        Raises:
            SQLAlchemyError: the server cannot be asked.
        """
        connection = self.engine.connect()
        if not connection.exec_driver_sql(self.lock.take_sql).scalar():
            connection.close()
            return False
        if self.lock.wait_sql:
            connection.exec_driver_sql(self.lock.wait_sql)
        self.session = connection.exec_driver_sql(self.lock.session_sql).scalar()
        self._connection = connection
        return True

    def fault(self, connection: sqlalchemy.Connection) -> str | None:
        """Say that the lock is lost; None: its connection has it."""
        if self.lock.enter_sql:
            connection.exec_driver_sql(self.lock.enter_sql)
        return None if self._is_held(connection) else LOST

    def _is_held(self, connection: sqlalchemy.Connection) -> bool:
        return bool(connection.exec_driver_sql(self.lock.holder_sql).scalar() == self.session)

    def renew(self) -> None:
        """Take the lock again, if it was lost.

        Raises:
            StorageFailed: somebody else has it; Disconnected: the server is not there just now.
        """
        with refusals():
            with self.engine.connect() as connection:
                if self._is_held(connection):
                    return
            self.close()
            if not self.take():
                raise StorageFailed(LOST)

    def close(self) -> None:
        """Let the lock go."""
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):  # it was cut
                self._connection.close()
            self._connection = None


# A new owner first waits for the transactions of an earlier one that have passed their check: they
# hold `fmnist-study.write` together, each to its end.
# A server that was restarted gives the same process numbers out again.
_SESSION = "pid || ' ' || backend_start"
_POSTGRESQL = ServerLock(
    session_sql=f"SELECT {_SESSION} FROM pg_stat_activity WHERE pid = pg_backend_pid()",
    take_sql="SELECT pg_try_advisory_lock(hashtext('fmnist-study'))",
    holder_sql=(
        f"SELECT {_SESSION} FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND (classid::bigint << 32) | objid::bigint = hashtext('fmnist-study')::bigint"
    ),
    enter_sql="SELECT pg_advisory_xact_lock_shared(hashtext('fmnist-study.write'))",
    wait_sql="SELECT pg_advisory_xact_lock(hashtext('fmnist-study.write'))",
)
_MYSQL = ServerLock(
    session_sql="SELECT CONNECTION_ID()",
    take_sql="SELECT GET_LOCK(CONCAT('fmnist-study.', DATABASE()), 0)",
    holder_sql="SELECT IS_USED_LOCK(CONCAT('fmnist-study.', DATABASE()))",
)


def of(backend: str) -> ServerLock | None:
    """Return the lock of a kind of server, by SQLAlchemy's name; None: it has none."""
    return {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL}.get(backend)
