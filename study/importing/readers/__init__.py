"""Readers of results, one per source, and how a source is recognised by its content."""

from pathlib import Path

from study.importing.readers import (
    dialects,
    keras_tuner,
    lightning,
    mlflow,
    optuna,
    plain,
    ray,
    tensorboard,
    wandb,
)
from study.importing.readers.source import Reader, Source
from study.importing.table import Table
from trainer.errors import UserError, choose

GENERIC = "table"


def _dialect(dialect: dialects.Dialect) -> Reader:
    def recognises(source: Source) -> bool:
        return not source.path.is_dir() and dialect.fits(plain.read(source).columns)

    return Reader(
        dialect.kind, dialect.title, recognises, lambda source: dialect.read(plain.read(source))
    )


READERS = (
    mlflow.FOLDER,
    keras_tuner.FOLDER,
    ray.FOLDER,
    wandb.FOLDER,
    lightning.LOGS,
    tensorboard.EVENTS,
    mlflow.DATABASE,
    optuna.DATABASE,
    *map(_dialect, dialects.DIALECTS),
    wandb.CHART,
    tensorboard.CSV,
    Reader(GENERIC, "a table", lambda source: not source.path.is_dir(), plain.read),
)
KINDS = tuple(dict.fromkeys(reader.kind for reader in READERS))


def read_table(path: Path, kind: str | None = None, pick: str | None = None) -> Table:
    """Read a file or folder as one long table.

    Args:
        path: what to read.
        kind: what it is; None: told by its content.
        pick: which study, experiment or sheet, where it holds several.

    Raises:
        UserError: it cannot be read, or is malformed; names the format and the line.
    """
    if kind is not None and kind not in KINDS:
        raise UserError(choose("--from", kind, KINDS))
    try:
        source = Source(path, pick)
        readers = [reader for reader in READERS if kind in (None, reader.kind)]
        for reader in readers:
            if reader.recognises(source):
                return reader.read(source)
        if kind is not None:
            raise UserError(f"is not {readers[0].title}, as --from {kind} says")
        raise UserError("is a directory of no kind that is known; name the file in it")
    except OSError as error:
        raise UserError(f"file {path}: {error.strerror}") from error
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith("file ") else f"file {path}: {text}") from error
