"""Results on disk before the database is told: a small file for each bank, beside the database.

A file is written to a temporary name, synced and renamed, and carries a SHA-256. Records stay
until a backup holds them or the run has ended in good order; a folder that is found at a start is
what an owner left that died, or whose database was taken away (`study/store/restore.py` replays
it).
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fmnist_common.checksums import digest
from trainer.atomic import sync_folder, write_atomically

NAME = re.compile(r"[0-9a-f]{12}(-\d{6,}|\.study)\.json")
TEMPORARY = re.compile(rf"\.{NAME.pattern}\.\d+\.tmp")


def folder_of(database: Path) -> Path:
    """Return the folder of a database's journal."""
    return database.with_name(database.name + ".journal")


class Journal:
    """The records in one folder, which exists only while there are some.

    Args:
        folder: where; see `folder_of`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def describe(self, study: Mapping[str, Any]) -> None:
        """Write what a study is, so that it can be made again: name, directions, attributes.

        Raises:
            OSError: it cannot be written.
        """
        self._write(f"{_key(study['name'])}.study.json", study)
        sync_folder(self.folder)

    def write(self, trials: Sequence[Mapping[str, Any]]) -> None:
        """Write trials that finished together, each with the keys `study` and `number`: one file.

        Raises:
            OSError: it cannot be written; none of them is then.
        """
        if trials:
            self._write(self.file_of(trials[0]).name, list(trials))
            sync_folder(self.folder)

    def file_of(self, trial: Mapping[str, Any]) -> Path:
        """Return the file of the trials that finished with this one, the first of them."""
        return self.folder / f"{_key(trial['study'])}-{trial['number']:06d}.json"

    def _write(self, name: str, record: Mapping[str, Any] | list[Mapping[str, Any]]) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir()
            sync_folder(self.folder.parent)
        content = json.dumps({"record": record, "sha256": digest(record)})
        write_atomically(self.folder / name, content.encode(), sync=False)

    @property
    def exists(self) -> bool:
        """Whether there is anything."""
        return self.folder.is_dir()

    def studies(self) -> list[dict[str, Any]]:
        """Return the descriptions of the studies that are intact."""
        return [record for _, records in self._records("*.study.json") for record in records]

    def trials(self) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """Yield the finished trials that are intact, file by file, by study and number."""
        return self._records("*-[0-9]*.json")

    def damaged(self) -> list[Path]:
        """Return the files that are not what was written."""
        return [file for file in self._files("*.json") if _parse(file) is None]

    def _records(self, pattern: str) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        for file in self._files(pattern):
            records = _parse(file)
            if records is not None:
                yield file, records

    def _files(self, pattern: str) -> list[Path]:
        # The folder may hold files of others, which stay: only ours have such names.
        return sorted(file for file in self.folder.glob(pattern) if NAME.fullmatch(file.name))

    def _temporary(self) -> list[Path]:
        """Return what a process that was killed in a write has left."""
        return [file for file in self.folder.glob(".*.tmp") if TEMPORARY.fullmatch(file.name)]

    def forget_trials(self) -> None:
        """Remove the trials: a backup holds them."""
        for file in self._files("*-[0-9]*.json"):
            file.unlink()

    def clear(self) -> None:
        """Remove everything: the run has ended in good order. Foreign files stay."""
        for file in [*self._files("*.json"), *self._temporary()]:
            file.unlink(missing_ok=True)
        if self.exists and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _key(study: str) -> str:
    # Names may hold slashes.
    return hashlib.sha256(study.encode()).hexdigest()[:12]


def _parse(file: Path) -> list[dict[str, Any]] | None:
    """Return a file's records, or None where it is damaged; older files have one, and no list."""
    try:
        content = json.loads(file.read_bytes())
        record: dict[str, Any] | list[dict[str, Any]] = content["record"]
        if content["sha256"] != digest(record):
            return None
        return record if isinstance(record, list) else [record]
    except (OSError, ValueError, KeyError, TypeError):
        return None
