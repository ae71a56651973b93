"""A database is read without owning it: all of it as of one moment."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from study.store import backup, location
from study.store.trial_rows import UNREADABLE
from trainer.errors import UserError


@contextmanager
def reading(url: sqlalchemy.URL) -> Iterator[Session]:
    """Open a database for reading: all of it as of one moment.

    Raises:
        UserError: it cannot be read.
    """
    path = location.sqlite_path(url)
    try:
        if path is None:
            engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
            if engine.dialect.name == "postgresql":
                engine = engine.execution_options(isolation_level="REPEATABLE READ")
            with Session(engine) as session:
                yield session
            return
        with backup.reading(path) as connection:
            connection.execute("BEGIN")
            engine = sqlalchemy.create_engine(
                "sqlite://", creator=lambda: connection, poolclass=sqlalchemy.StaticPool
            )
            with Session(engine) as session:
                yield session
    except (SQLAlchemyError, *UNREADABLE) as error:
        shown = location.display(url)
        raise UserError(
            f"storage {shown}: cannot be read: {location.reason(error, url)}"
        ) from error
