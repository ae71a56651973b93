"""The published studies that travel with the package: read by name from anywhere, never written.

A wheel has them compressed, as `setup.py` packs them; a clone has the database itself.
"""

import lzma
import tempfile
from functools import cache
from pathlib import Path

import sqlalchemy

PACKED = Path(__file__).with_name("published.db.xz")
IN_CLONE = Path(__file__).parents[2] / "studies.db"


@cache
def url() -> sqlalchemy.URL | None:
    """Return where they can be read in this process; None: this installation has none.

    What is packed is unpacked into a temporary folder, which goes when the process ends.
    """
    file = _unpacked() if PACKED.is_file() else IN_CLONE
    return sqlalchemy.URL.create("sqlite", database=str(file)) if file.is_file() else None


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="fmnist-study-")


def _unpacked() -> Path:
    file = Path(_folder().name) / "published.db"
    file.write_bytes(lzma.decompress(PACKED.read_bytes()))
    file.chmod(0o444)
    return file
