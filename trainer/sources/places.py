"""Where the user's images are: paths in the names of data sets."""

import contextlib
from pathlib import Path


def path_of(place: str) -> Path:
    """Return the path in a name of images; `~` is the home, which no shell replaces there."""
    with contextlib.suppress(RuntimeError):  # there is no such home
        return Path(place).expanduser()
    return Path(place)


def beside(name: str, folder: Path) -> str:
    """Return the name of images whose path is relative to a folder, as it is from here."""
    kind, _, place = name.partition(":")
    if kind not in ("folder", "npz") or not place:
        return name
    return f"{kind}:{folder / path_of(place)}"  # the place alone, where it is absolute


def absolute(name: str) -> str:
    """Return the name of images as it is from everywhere."""
    return beside(name, Path.cwd())
