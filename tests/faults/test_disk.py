"""The disk is full: the study pauses, says where, and goes on when there is room."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from study.store.failures import DiskFull
from study.store.journal import Journal
from study.store.location import locate
from study.store.writer import StudyWriter
from tests.faults.machine import (
    RUN,
    SIMULATED,
    acknowledged,
    assert_sound,
    hold,
    let_go,
    results,
    running,
    simulated,
    states,
    stored,
    until,
    write_plan,
)
from tests.support.plans import run, tiny


class SmallDisk:
    """A tmpfs of a few megabytes."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def _mount(self, *words: str) -> None:
        command = ["mount", *words, str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")

    def resize(self, size: str) -> None:
        self._mount("-o", f"remount,size={size}")

    def fill(self) -> Path:
        """Leave not a byte."""
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue
        return ballast

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], SmallDisk]]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    made: list[SmallDisk] = []

    def make(size: str) -> SmallDisk:
        made.append(SmallDisk(tmp_path / "disk", size))
        return made[-1]

    yield make
    for disk in made:
        disk.remove()


def test_a_disk_that_fills_up_and_grows_loses_nothing(
    tmp_path: Path, small_disk: Callable[[str], SmallDisk]
) -> None:
    disk = small_disk("4m")
    write_plan(disk.folder, seeds=100, epochs=2)
    with running(SIMULATED, RUN, disk.folder, **simulated(tmp_path, 0.005)) as owner:
        said = owner.says("paused: no room in ")
        assert f"no room in {disk.folder} (" in said
        assert owner.process.poll() is None
        disk.resize("64m")
        owner.says("goes on: there is room in ")
        assert owner.ends() == 0, owner.err
    kept = acknowledged(tmp_path / "acknowledged")
    assert kept == stored(disk.folder / "studies.db")
    assert len(results(disk.folder / "studies.db")) == 200
    assert_sound(disk.folder / "studies.db")


@pytest.mark.slow
def test_a_disk_that_is_full_to_the_last_byte_in_the_middle_of_a_write_loses_nothing(
    tmp_path: Path, small_disk: Callable[[str], SmallDisk]
) -> None:
    disk = small_disk("64m")
    write_plan(disk.folder, seeds=50, epochs=2)
    hold(tmp_path, 11)
    with running(SIMULATED, RUN, disk.folder, **simulated(tmp_path, 0.05)) as owner:
        until(lambda: len(acknowledged(tmp_path / "acknowledged")) == 11, "some results")
        ballast = disk.fill()
        let_go(tmp_path)
        owner.says("paused: no room in ")
        before = len(acknowledged(tmp_path / "acknowledged"))
        assert before < 100
        ballast.unlink()
        assert owner.ends() == 0, owner.err
    assert acknowledged(tmp_path / "acknowledged") == stored(disk.folder / "studies.db")
    assert len(results(disk.folder / "studies.db")) == 100
    assert_sound(disk.folder / "studies.db")


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--quiet"]])
def test_a_paused_study_can_be_interrupted_and_goes_on_later(
    tmp_path: Path, small_disk: Callable[[str], SmallDisk], words: list[str]
) -> None:
    disk = small_disk("64m")
    write_plan(disk.folder, seeds=20, epochs=2)
    file = disk.folder / "studies.db"
    hold(tmp_path, 5)
    with running(SIMULATED, [*RUN, *words], disk.folder, **simulated(tmp_path, 0.05)) as owner:
        until(lambda: len(acknowledged(tmp_path / "acknowledged")) == 5, "some results")
        ballast = disk.fill()
        let_go(tmp_path)
        owner.says("paused: no room in ")
        owner.process.terminate()
        assert owner.ends() == 143
    ballast.unlink()
    with running(SIMULATED, RUN, disk.folder, **simulated(tmp_path, 0)) as owner:
        assert owner.ends() == 0, owner.err
    assert acknowledged(tmp_path / "acknowledged").items() <= stored(file).items()
    assert len(results(file)) == 40
    assert_sound(file)


@pytest.mark.slow
def test_a_checkpoint_that_finds_no_room_is_no_accident_of_its_trial(
    tmp_path: Path, small_disk: Callable[[str], SmallDisk]
) -> None:
    disk = small_disk("64m")
    write_plan(disk.folder, seeds=4, epochs=200)
    file = disk.folder / "studies.db"
    words = ["run", "tiny.toml", "--workers", "2"]
    with running("study.cli", words, disk.folder) as owner:
        until(lambda: states(file)["COMPLETE"], "a result")
        ballast = disk.fill()
        owner.says("paused: no room in ")
        ballast.unlink()
        assert owner.ends() == 0, owner.err
    assert len(results(file)) == 8
    assert_sound(file)


@pytest.mark.slow
def test_a_full_disk_that_holds_only_the_weights_is_waited_for(
    tmp_path: Path, small_disk: Callable[[str], SmallDisk]
) -> None:
    disk = small_disk("64m")
    folder = tmp_path / "study"
    folder.mkdir()
    (disk.folder / "weights").mkdir()
    (folder / "checkpoints").symlink_to(disk.folder / "weights")
    write_plan(folder, seeds=2, epochs=2)
    ballast = disk.fill()
    with running("study.cli", ["run", "tiny.toml", "--workers", "2"], folder) as own:
        own.says(f"paused: no room in {folder / 'checkpoints'}")
        ballast.unlink()
        assert own.ends() == 0, own.err
    assert len(results(folder / "studies.db")) == 4
    assert states(folder / "studies.db")["FAIL"] == 0  # none was begun to fail


def test_a_record_that_finds_no_room_is_said_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from study.run.opening import open_study
    from study.store import ownership
    from study.store.stored_trial import NewTrial

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with ownership.take(locate(str(tmp_path / "x.db")), "test") as database:
        journal = Journal(tmp_path / "x.db.journal")
        writer = StudyWriter(database, "x", journal=journal)
        open_study(writer, tiny(), {"sha256": ""})
        (trial,) = writer.start([NewTrial({}, {}, {})])
        with monkeypatch.context() as context:
            context.setattr("os.fsync", full)
            with pytest.raises(DiskFull, match="No space left"):
                writer.finish([(trial, TrialState.COMPLETE, [0.5], {})])
        assert not writer.in_order
        assert list(journal.trials()) == []
        writer.finish([(trial, TrialState.COMPLETE, [0.5], {})])  # again, when there is room
        assert writer.in_order
        assert len(list(journal.trials())) == 1


def test_a_backup_that_finds_no_room_leaves_the_old_one_and_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny(), tmp_path / "studies.db")
    before = (tmp_path / "studies.db.backup").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("study.store.backup.sync_file", full)
    said: list[str] = []
    from study.run import session
    from tests.support.plans import INLINE, Witness, announce

    session.run(
        tiny(seeds=3), locate(str(tmp_path / "studies.db")), INLINE, study_name=None,
        argv=["run"], view=Witness(), announce=announce, tell=said.append,
    )  # fmt: skip
    assert said == [
        "no backup could be made, the journal is kept: [Errno 28] No space left on device"
    ]
    assert (tmp_path / "studies.db.backup").read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp*"))


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=100, epochs=2)
    file = tmp_path / "studies.db"
    hold(tmp_path, 5)
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.02)) as owner:
        until(lambda: len(acknowledged(tmp_path / "acknowledged")) == 5, "some results")
        log = file.with_name("studies.db-wal").stat().st_size
        resource.prlimit(owner.process.pid, resource.RLIMIT_FSIZE, (log + 50_000, log + 50_000))
        let_go(tmp_path)
        assert owner.ends() == 1, owner.out
    assert f"a file may have at most {log + 50_000} bytes here (ulimit -f)" in "".join(owner.out)
    kept = acknowledged(tmp_path / "acknowledged")
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as owner:
        assert owner.ends() == 0, owner.err
    assert kept.items() <= stored(file).items()
    assert len(results(file)) == 200
    assert_sound(file)
