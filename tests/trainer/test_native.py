"""The compiled kernels as a whole."""

import os
import time
from pathlib import Path

import pytest

from tests.support.networks import needs_kernels
from trainer import native


@needs_kernels
def test_kernels_older_than_their_sources_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "trainer" / "native"
    folder.mkdir(parents=True)
    monkeypatch.setattr(native, "__file__", str(folder / "__init__.py"))
    source = folder / "winograd.c"
    source.touch()
    assert not native.outdated()  # an installed package was unpacked in whatever order
    (tmp_path / "pyproject.toml").touch()
    source.touch()
    os.utime(source, (0, 0))
    assert not native.outdated()
    os.utime(source, (time.time() + 60,) * 2)
    assert native.outdated()
