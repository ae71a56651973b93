"""The official files of the data sets: where they are, whether they are genuine, how to get them.

No torch here, so that missing or damaged data is said at once.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

from fmnist_common.environment import variable
from trainer.datasets import DATASETS, Files, is_users
from trainer.errors import UserError
from trainer.sources import reading

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class AbsentDataError(UserError):
    """No file of a data set is there: nobody has fetched it yet."""


def default_data_dir() -> Path:
    """`$FMNIST_STUDY_DATA_DIR`, else `./data`."""
    return Path(variable("DATA_DIR")[1] or "data")


def ready(name: str, data_dir: Path | None, *, download: bool) -> None:
    """Make sure that a data set can be loaded: its files are there and genuine.

    Raises:
        UserError: they are not.
    """
    dataset = DATASETS.get(name)
    if dataset is not None and dataset.files is not None:  # the others need no files
        verified_files(name, data_dir or default_data_dir(), download=download)


def content(name: str, data_dir: Path | None, *, download: bool) -> str | None:
    """Return the SHA-256 of the user's images; None for other data sets.

    Raises:
        UserError: they cannot be read, or are not what a training needs.
    """
    if not is_users(name):
        return None
    return reading.read(name, data_dir or default_data_dir(), download=download).sha256


def shape(name: str, data_dir: Path | None) -> tuple[int, int, int]:
    """Return side, classes, channels of a data set: what the shape of a network depends on.

    Raises:
        UserError: the user's images cannot be read.
    """
    if not is_users(name):
        return DATASETS[name].shape
    return reading.read(name, data_dir or default_data_dir(), download=False).shape


def verified_files(name: str, data_dir: Path, *, download: bool) -> list[Path]:
    """Return the paths of a data set's four official files, their MD5 checked.

    Raises:
        UserError: as `load`.
    """
    source = DATASETS[name].files
    assert source is not None
    places = [data_dir / source.torchvision_class / "raw", data_dir / "raw", data_dir]
    folder = next((p for p in places if any((p / file).is_file() for file in FILES)), places[0])
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing and download:
        _download(name, source, folder, missing)
    elif missing:
        kind = AbsentDataError if len(missing) == len(FILES) else UserError
        raise kind(
            f"{name}: {missing[0]} is missing in {folder}: name the folder with --data-dir, "
            f"fetch it with 'fmnist-study data --dataset {name}', or try --dataset digits"
        )
    paths = [folder / file for file in FILES]
    for path, expected in zip(paths, source.md5, strict=True):
        try:
            actual = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        if actual != expected:
            raise UserError(_not_official(path, name, actual, expected))
    return paths


def _not_official(path: Path, name: str, md5: str, expected: str) -> str:
    """Say what a file is instead: one of another data set is genuine, and stays where it is."""
    official = (
        other for other, dataset in DATASETS.items() if dataset.files and md5 in dataset.files.md5
    )
    other = next(official, None)
    if other is None:
        words = f"MD5 is {md5}, must be {expected}; delete it and fetch it again"
        return f"{path} is not the official {name} file: {words}"
    which = f"another official file of {name}" if other == name else f"the official one of {other}"
    return (
        f"{path} is not the official {name} file, but {which}: name the folder of {name} with "
        "--data-dir"
    )


def _download(name: str, source: Files, folder: Path, missing: Sequence[str]) -> None:
    """Fetch files with torchvision's downloader."""
    from trainer.torchvision_compat import torchvision

    mirrors: list[str] = getattr(torchvision().datasets, source.torchvision_class).mirrors
    download_url = torchvision().datasets.utils.download_url
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in missing:
            md5 = source.md5[FILES.index(file)]
            reason = _first_mirror(download_url, mirrors, file, folder, md5)
            if reason:
                raise UserError(
                    f"{name}: {file} could not be downloaded to {folder} ({reason}): name a "
                    "folder that has it with --data-dir, or try --dataset digits, which needs "
                    "no network"
                )
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to download {name}: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # folders made for nothing go; the others are not empty
            for place in made:
                place.rmdir()


def _first_mirror(
    download_url: Callable[..., None], mirrors: Sequence[str], file: str, folder: Path, md5: str
) -> str | None:
    """Try one mirror after the other; return why the last one failed, or None."""
    reason: str | None = "no mirror is known"
    for mirror in mirrors:
        try:
            download_url(f"{mirror}{file}", root=str(folder), filename=file, md5=md5)
            return None
        # URLError is an OSError; torchvision reports a wrong MD5 as a RuntimeError.
        except (OSError, HTTPException, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return reason
