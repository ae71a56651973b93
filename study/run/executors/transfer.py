"""Files that go between a node and the owner's folder, whole: weights and resume points.

A node trains into a folder of its own. No file system needs to be shared.
"""

import contextlib
import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from study.run.executors import Job
from trainer.atomic import write_atomically
from trainer.config import TrainConfig

PREFIX = "fmnist-node-"


@dataclass(frozen=True)
class Content:
    """A file's bytes and their SHA-256, as they were where they come from."""

    data: bytes
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Content":
        """Read a file.

        Raises:
            OSError: it is not there.
        """
        data = path.read_bytes()
        return cls(data, hashlib.sha256(data).hexdigest())

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: it cannot be written, or has not arrived as it was sent.
        """
        if hashlib.sha256(self.data).hexdigest() != self.sha256:
            raise OSError(errno.EIO, "has not arrived as it was sent", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.data)


@dataclass(frozen=True)
class RemoteJob:
    """A job as a node is told of it: by number, its files by position."""

    number: int
    configs: tuple[TrainConfig, ...]
    resume: tuple[Content, ...]  # where an earlier attempt stands; none, or of every member
    resumes: bool  # whether resume points are wanted


def packed(number: int, job: Job) -> RemoteJob:
    """Return a job for a node, with what an earlier attempt has left."""
    resume: tuple[Content, ...] = ()
    with contextlib.suppress(OSError):  # not all are there
        resume = tuple(map(Content.of, job.resume_points))
    return RemoteJob(number, job.configs, resume, bool(job.resume_points))


class Scratch:
    """A node's own folder. It goes with the process; what a killed one has left, with the next."""

    def __init__(self) -> None:
        place = Path(tempfile.gettempdir())
        for folder in place.glob(f"{PREFIX}*"):
            with contextlib.suppress(Timeout, OSError), FileLock(folder / "lock", timeout=0):
                shutil.rmtree(folder)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.lock = FileLock(self.folder / "lock")
        self.lock.acquire()
        self.sent: dict[int, list[int]] = {}  # of jobs: when their resume points were written

    def remove(self) -> None:
        """Remove the folder, as far as nobody writes there any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def unpacked(self, remote: RemoteJob) -> Job:
        """Return a job with files here, and its resume points in place."""
        names = range(len(remote.configs))
        weights = tuple(self.folder / f"{remote.number}-{k}.safetensors" for k in names)
        points = tuple(self.folder / f"{remote.number}-{k}.resume" for k in names)
        for path, content in zip(points, remote.resume, strict=False):
            content.write(path)
        self.sent[remote.number] = _written(points)
        return Job(remote.configs, weights, points if remote.resumes else ())

    def weights(self, job: Job) -> list[list[str]]:
        """Return the names of the files of each member's weights, where there are any."""
        return [
            [file.name for file in (path, path.with_suffix(".json"))] if path.exists() else []
            for path in job.checkpoints
        ]

    def resume_points(self, number: int, job: Job) -> list[Content] | None:
        """Return a job's resume points where all of them are new, else None."""
        written = _written(job.resume_points)
        before = self.sent.get(number) or [0] * len(written)
        if not written or any(new <= old for new, old in zip(written, before, strict=True)):
            return None
        try:
            contents = [Content.of(path) for path in job.resume_points]
        except OSError:
            return None
        if _written(job.resume_points) != written:  # of two epochs: the next ones will do
            return None
        self.sent[number] = written
        return contents

    def read(self, name: str) -> Content:
        """Return a file of this folder.

        Raises:
            OSError: there is none.
        """
        return Content.of(self.folder / Path(name).name)

    def forget(self, number: int) -> None:
        """Remove a job's files."""
        self.sent.pop(number, None)
        for path in self.folder.glob(f"{number}-*"):
            path.unlink(missing_ok=True)


def _written(paths: Sequence[Path]) -> list[int]:
    """Return when files were written, in ns; empty: not all are there."""
    try:
        return [path.stat().st_mtime_ns for path in paths]
    except OSError:
        return []


def fetch_weights(job: Job, names: Sequence[Sequence[str]], read: Callable[[str], Content]) -> None:
    """Write the weights of a job's members to the owner's folder, where nothing is yet.

    Raises:
        OSError: they cannot be written, or are there; the error names the file.
    """
    for path, files in zip(job.checkpoints, names, strict=True):
        for file, name in zip((path, path.with_suffix(".json")), files, strict=False):
            if file.exists():
                words = "is there already, perhaps another run's"
                raise FileExistsError(errno.EEXIST, words, str(file))
            try:
                read(name).write(file)
            except OSError as error:
                error.filename = error.filename or str(file)
                raise
