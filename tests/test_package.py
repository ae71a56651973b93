"""What is installed works without the repository: sdist, its wheel, the published studies."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.house import PACKAGES, ROOT

FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "studies.db")
SDIST = "from setuptools import build_meta as b; print(b.build_sdist('dist'))"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def call(words: list[str], folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words, cwd=folder, env=os.environ | env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip makes of the sdist; without a compiler, which is quicker."""
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / package, tree / package, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, tree)
    made = call([sys.executable, "-c", SDIST], tree)
    assert made.returncode == 0, made.stderr
    (sdist,) = (tree / "dist").glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    made = call([*pip, str(sdist), "--wheel-dir", str(tree)], tree, CC="false")
    assert made.returncode == 0, made.stderr
    (file,) = tree.glob("*.whl")
    return file


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Run:
    """The program of the wheel, run in an empty folder: the repository is not on its path."""
    place, empty = tmp_path / "site-packages", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(place)
    empty.mkdir()

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        start = "import study, sys; sys.stderr.write(study.__file__ + '\\n'); import study.cli; "
        main = [sys.executable, "-P", "-c", start + "study.cli.main()", *words]
        done = call(main, empty, PYTHONPATH=str(place))
        assert done.stderr.startswith(str(place))
        return done

    return run


@pytest.mark.slow
def test_published_studies_are_read_anywhere_and_never_written(
    installed: Run, tmp_path: Path
) -> None:
    done = installed("report", "reference/ablation", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["study"] == "reference/ablation"
    listed = json.loads(installed("list", "--json").stdout)
    assert {"reference/ablation", "reference/pooling"} <= {
        study["name"] for study in listed if study.get("published")
    }
    for words in (
        ("status", "reference/ablation"),
        ("compare", "reference/ablation", "reference/pooling"),
        ("lint", "reference/pooling"),
        ("verify", "reference/ablation"),
        ("report", "reference/ablation", "--html", "--hiplot"),
    ):
        done = installed(*words)
        assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"
        assert "as published" in done.stderr
    assert installed("report", "nosuch").returncode == 2
    empty = tmp_path / "empty"
    assert [path.name for path in empty.iterdir()] == ["reports"]
    assert not list(tmp_path.rglob("published.db"))


@pytest.mark.slow
def test_a_study_of_one_s_own_comes_before_the_published_and_run_writes_only_it(
    installed: Run, tmp_path: Path
) -> None:
    packed = tmp_path / "site-packages/study/store/published.db.xz"
    before = packed.read_bytes()
    theirs = tmp_path / "empty/theirs.csv"
    theirs.write_text("lr,seed,val_accuracy\n0.1,0,0.8\n0.01,0,0.7\n")
    done = installed("import", "theirs.csv", "--study-name", "reference/ablation")
    assert done.returncode == 0, done.stderr
    done = installed("status", "reference/ablation")
    assert "as published" not in done.stderr
    assert "trials: 2 finished" in done.stdout
    listed = json.loads(installed("list", "--json").stdout)
    names = [study["name"] for study in listed]
    assert names.count("reference/ablation") == 1
    assert packed.read_bytes() == before
