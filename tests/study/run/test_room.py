"""Waiting for room: on every disk that is written, for no more than what is needed."""

import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.run import disk
from study.run.disk import MOST_SPARE_BYTES, SPARE_BYTES, Room
from study.store.failures import DiskFull

Usage = namedtuple("Usage", "free")


class Disks:
    """Two disks of so many free bytes; a look at the time frees what is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, database: int, weights: int) -> None:
        self.free = {Path("database"): database, Path("weights"): weights}
        self.gained: dict[Path, int] = {}
        self.said: list[str] = []
        self.looks = 0
        monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(self.free[place]))
        monkeypatch.setattr(disk, "POLL_SECONDS", 0.0)
        self.room = Room(self.places, self.said.append, self.mind)

    def places(self) -> Iterator[Path]:
        yield from self.free

    def mind(self) -> None:
        self.looks += 1
        for place, size in self.gained.items():
            self.free[place] += size
        if self.looks > 100:
            raise TimeoutError


def test_the_disk_of_the_weights_is_looked_at_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(monkeypatch, database=10**9, weights=0)
    disks.gained = {Path("weights"): 1 << 20}
    disks.room.wait_for(1000)
    assert disks.looks == 3  # 2 MB to spare, and 1 kB
    first, last = disks.said
    assert first.startswith("paused: no room in weights (0.0 MB are free, 2.1 MB are needed)")
    assert last == "goes on: there is room in weights"


def test_a_wait_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimeoutError):
        Disks(monkeypatch, database=0, weights=10**9).room.wait_for(0)


def test_refusals_never_ask_for_the_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(monkeypatch, database=10**9, weights=10**9)
    assert disks.room.spare == SPARE_BYTES
    for _ in range(40):  # it asked for 137 GB after 16
        disks.room.refused()
    assert disks.room.spare == MOST_SPARE_BYTES
    disks.room.wait_for(0)
    assert disks.said == []


def test_a_write_is_repeated_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(monkeypatch, database=0, weights=0)
    left = [1, 2]

    def write() -> str:
        if left.pop():
            raise DiskFull("no space")
        return "written"

    left.insert(0, 0)
    assert disks.room.write(Path("database"), write) == "written"
    assert disks.said == [
        "paused: no room in database (no space); goes on when there is",
        "goes on: there is room in database",
    ]
