"""What several test files share."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from trainer.data import ImageData

# Read when torch is loaded, here and in subprocesses: on tensors this small, threads only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples everywhere, and no verdict on how fast a machine tries them.
settings.register_profile(
    "same-everywhere", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same-everywhere")


@pytest.fixture(scope="session")
def digits() -> "ImageData":
    from trainer.data import load

    return load("digits")


@pytest.fixture(scope="session")
def fashion_mnist_dir() -> Path:
    """The folder that holds the real files; tests that use it are marked `real`."""
    folder = Path(os.environ.get("FMNIST_DATA_DIR", "data"))
    if not (folder / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"no Fashion-MNIST files in {folder}: FMNIST_DATA_DIR names their folder")
    return folder


@pytest.fixture(scope="session")
def fresh_python() -> Callable[[str], str]:
    """Run code in a new interpreter, where nothing is imported yet, and return what it prints."""

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of a finished study of four trials and their weights."""
    from tests.support.plans import run, tiny

    folder = tmp_path_factory.mktemp("trained")
    run(tiny(epochs=2), folder / "studies.db")
    return folder


@pytest.fixture
def folder(tmp_path: Path, trained: Path) -> Iterator[Path]:
    """A copy of it, the current folder."""
    place = tmp_path / "copy"
    shutil.copytree(trained, place)
    with contextlib.chdir(place):
        yield place
