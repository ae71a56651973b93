"""Where the weights of a study's trials lie: one file per attempt, never one that is there already.

    checkpoints/DATABASE/STUDY/VARIANT_seed=N.safetensors     beside the database

Several databases may lie in one folder, and hold studies of one name: each has a folder of its own
here. A file that is there already belongs to somebody, perhaps to a database that was moved or
restored; it is never written again. Paths are stored relative to the database's folder, so what
older versions wrote to `checkpoints/STUDY/` is read as before.
"""

import hashlib
import itertools
import json
from pathlib import Path

import sqlalchemy

from study.store.location import sqlite_path
from trainer.config import TrainConfig

LONGEST = 150  # bytes of a variant in a file's name; file systems allow 255 in all


def database_name(url: sqlalchemy.URL) -> str:
    """Return what tells databases in one folder apart: a file's name, or where a server's is."""
    file = sqlite_path(url)
    if file is not None:
        return file.name
    place = hashlib.sha256(f"{url.host}:{url.port}/{url.database}".encode()).hexdigest()[:12]
    return f"{str(url.database).replace('/', '-')}.server-{place}"


class WeightFiles:
    """Names the files of one study.

    Args:
        root: the folder that the database lies in.
        database: what `database_name` says.
        study: the study's name.
    """

    def __init__(self, root: Path, database: str, study: str) -> None:
        self.root = root
        self.folder = root / "checkpoints" / database / study
        self._given: set[Path] = set()

    def fresh(self, variant: str, seed: int, attempt: int) -> Path:
        """Return a path for the weights of an attempt, which nobody has used or will be given."""
        name = variant.replace("#", "trial-").replace(" ", "_").replace("/", "-")
        if len(name.encode()) > LONGEST:
            digest = hashlib.sha256(name.encode()).hexdigest()[:16]
            name = f"{name.encode()[: LONGEST - 30].decode(errors='ignore')}-{digest}"
        again = f"_attempt={attempt}" if attempt > 1 else ""
        for number in itertools.count(1):
            copy = f"_copy={number}" if number > 1 else ""
            path = self.folder / f"{name}_seed={seed}{again}{copy}.safetensors"
            taken = path in self._given or path.exists() or path.with_suffix(".json").exists()
            if not taken:
                break
        self._given.add(path)
        return path

    def resume_point(self, config: TrainConfig) -> Path:
        """Return where a training leaves its course: found again in whichever attempt."""
        text = json.dumps(config.to_dict(), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.resume"

    def stored(self, path: Path) -> str:
        """Return a path as it is stored: relative to the database's folder."""
        return path.relative_to(self.root).as_posix()

    @property
    def place(self) -> Path:
        """The folder itself, or as much of it as is there: it may be a link to another disk."""
        return next(folder for folder in (self.folder, *self.folder.parents) if folder.is_dir())
