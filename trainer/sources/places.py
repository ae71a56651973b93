"""Where the user's images are: paths in the names of data sets."""

from pathlib import Path


def beside(name: str, folder: Path) -> str:
    """Return the name of images whose path is relative to a folder, as it is from here."""
    kind, _, place = name.partition(":")
    if kind not in ("folder", "npz") or not place or Path(place).is_absolute():
        return name
    return f"{kind}:{folder / place}"


def absolute(name: str) -> str:
    """Return the name of images as it is from everywhere."""
    return beside(name, Path.cwd())
