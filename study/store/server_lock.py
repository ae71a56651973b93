"""The owner's lock on a database server: an advisory one, held by a connection of its own.

It goes when its holder dies, and also when the connection is cut. A transaction therefore checks
before its commit that the lock's connection has it still.
"""

from dataclasses import dataclass

import sqlalchemy


@dataclass(frozen=True)
class ServerLock:
    """How a kind of server is asked for the lock.

    Attributes:
        session_sql: the number of this connection.
        take_sql: 1 or true, unless another connection has the lock.
        holder_sql: the number of the connection that has it, if any.
        enter_sql: holds a new owner up until this transaction has ended; None: the server cannot.
        wait_sql: waits for the transactions that have entered.
    """

    session_sql: str
    take_sql: str
    holder_sql: str
    enter_sql: str | None = None
    wait_sql: str | None = None

    def take(self, connection: sqlalchemy.Connection) -> "ServerClaim | None":
        """Take the lock for as long as a connection lives; None: somebody has it."""
        if not connection.exec_driver_sql(self.take_sql).scalar():
            return None
        if self.wait_sql:
            connection.exec_driver_sql(self.wait_sql)
        session = connection.exec_driver_sql(self.session_sql).scalar()
        connection.commit()  # the lock is the session's, not the transaction's
        return ServerClaim(self, session)


@dataclass(frozen=True)
class ServerClaim:
    """The lock, as it was taken: by the connection of this number."""

    lock: ServerLock
    session: object

    def fault(self, connection: sqlalchemy.Connection) -> str | None:
        """Say that the lock is lost; None: its connection has it."""
        if self.lock.enter_sql:
            connection.exec_driver_sql(self.lock.enter_sql)
        if connection.exec_driver_sql(self.lock.holder_sql).scalar() == self.session:
            return None
        return (
            "the connection that locks the database was cut while the study ran, so another run "
            "may own it; nothing more is written"
        )


# A new owner first waits for the transactions of an earlier one that have passed their check: they
# hold `fmnist-study.write` together, each to its end.
_POSTGRESQL = ServerLock(
    session_sql="SELECT pg_backend_pid()",
    take_sql="SELECT pg_try_advisory_lock(hashtext('fmnist-study'))",
    holder_sql=(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
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
