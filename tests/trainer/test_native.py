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
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    assert not native.outdated()  # an installed package has no sources
    source = tmp_path / "winograd.c"
    source.touch()
    os.utime(source, (0, 0))
    assert not native.outdated()
    os.utime(source, (time.time() + 60,) * 2)
    assert native.outdated()
