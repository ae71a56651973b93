"""Where a command is run is nobody's promise: one line and exit 2, and no foreign code.

The kind: the current folder, the home, the standard streams and file names are the user's, and may
be gone, full, of another language, or full of files with the names of Python's modules.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plans import TINY

ROOT = Path(__file__).parents[2]
COMMAND = """
import sys
from study.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The command as it is installed: a script in a folder of its own."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "fmnist-study"
    script.write_text(COMMAND)
    return [sys.executable, str(script)]


def call(words: list[str], folder: Path | str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        words,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | more,
    )


def assert_refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("fmnist-study: error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_modules_in_the_current_folder_are_never_imported(
    tmp_path: Path, command: list[str]
) -> None:
    folder = tmp_path / "mine"
    (folder / "trainer").mkdir(parents=True)
    ran = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\nraise SystemExit(__name__)\n"
    names = ("socket", "tempfile", "selectors", "json", "study", "torch", "trainer/__init__")
    for name in names:
        (folder / f"{name}.py").write_text(ran)
    (folder / "tiny.toml").write_text(TINY)
    done = call([*command, "run", "tiny.toml", "--quiet", "--device", "cpu"], folder)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_what_a_module_loads_late_is_not_of_the_current_folder_either(tmp_path: Path) -> None:
    for name in ("torch", "optuna", "numpy", "sklearn"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(__name__)\n")
    (tmp_path / "tiny.toml").write_text(TINY)
    words = ["-m", "study.cli", "run", "tiny.toml", "--quiet", "--device", "cpu"]
    done = call([sys.executable, *words], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_was_deleted_is_named_in_a_line(tmp_path: Path, command: list[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = ["sh", "-c", f'cd "{gone}" && rmdir "{gone}" && exec "$@"', "sh", *command]
    assert_refused(call([*shell, "list"], tmp_path), "the current folder does not exist any more")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_standard_output_is_said(tmp_path: Path, command: list[str]) -> None:
    shell = ["sh", "-c", 'exec "$@" >/dev/full', "sh", *command]
    for words in (["list"], ["list", "--json"], ["--help"]):
        done = call([*shell, *words], tmp_path)
        assert_refused(done, "standard output cannot be written: No space left on device")


def test_a_closed_standard_output_is_no_error(tmp_path: Path, command: list[str]) -> None:
    done = call(["sh", "-c", 'exec "$@" >&-', "sh", *command, "list"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_speaks_ascii_gets_escapes(tmp_path: Path, command: list[str]) -> None:
    rows = [f"{channels},{seed},0.8{channels}{seed}" for channels in (1, 2) for seed in (1, 2)]
    (tmp_path / "x.csv").write_text("\n".join(["kanäle,seed,val_accuracy", *rows]), "utf-8")
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for words in (["import", "x.csv", "--study-name", "x"], ["report"], ["list"]):
        done = call([*command, *words], tmp_path, **ascii_only)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()
    assert "\\xb1" in call([*command, "report", "--all"], tmp_path, **ascii_only).stdout


def test_nobody_s_home_is_no_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    from study.run.calibration import cache_folder

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder().name == "fmnist-study"


@pytest.mark.slow
def test_a_temporary_folder_with_a_long_name_is_named(tmp_path: Path, command: list[str]) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    (tmp_path / "tiny.toml").write_text(TINY)
    done = call([*command, "run", "tiny.toml", "--quiet"], tmp_path, TMPDIR=str(long))
    if done.returncode != 0:  # a system that listens without a file needs none
        assert_refused(done, f"TMPDIR = '{long}': give a shorter one")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000 + "x", "loop/x", "file/x"])
def test_a_storage_that_cannot_be_is_refused(tmp_path: Path, command: list[str], name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    assert_refused(call([*command, "status", "--storage", name], tmp_path), "storage ")


@pytest.mark.slow
def test_an_export_that_names_a_file_is_refused(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    assert call([*command, "run", "tiny.toml", "--quiet"], tmp_path).returncode == 0
    (tmp_path / "taken").write_text("mine")
    for words in (["best", "--export", "taken"], ["report", "--html", "--out", "taken"]):
        assert_refused(call([*command, *words], tmp_path), "taken")
    assert_refused(call([*command, "evaluate", "taken"], tmp_path), "taken: no such folder")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("name", ["-x", "--help", "-"])
def test_a_study_is_not_named_like_an_option(tmp_path: Path, command: list[str], name: str) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    done = call([*command, "run", "tiny.toml", f"--study-name={name}"], tmp_path)
    assert_refused(done, f"--study-name = '{name}'")
    (tmp_path / "named.toml").write_text(TINY.replace('"tiny"', f'"{name}"'))
    assert_refused(call([*command, "run", "named.toml"], tmp_path), f"name = '{name}'")


def test_a_byte_order_mark_is_no_part_of_a_plan(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "tiny.toml").write_bytes(b"\xef\xbb\xbf" + TINY.encode())
    done = call([*command, "lint", "tiny.toml"], tmp_path)
    assert done.returncode in {0, 1}, done.stderr
    (tmp_path / "tiny.toml").write_bytes(TINY.encode("utf-16"))
    assert_refused(call([*command, "lint", "tiny.toml"], tmp_path), "not UTF-8")
