"""A full disk pauses a study: it is looked at before each bank, and where a write is refused.

The database and the weights may lie on different disks, so both are looked at.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from study.store.failures import DiskFull

SPARE_BYTES = 2 << 20  # beside what the trials' weights take: for the database and its log
MOST_SPARE_BYTES = 256 << 20  # however often a write was refused; it is no guess beyond
POLL_SECONDS = 0.5  # how often a full disk is looked at

Done = TypeVar("Done")


class Room:
    """Waits until there is room.

    Args:
        places: the folders that are written: of the database, of the weights.
        say: called with a line when a pause begins and when it ends.
        mind: called while it waits; raises to end the wait.
    """

    def __init__(
        self,
        places: Callable[[], Iterator[Path]],
        say: Callable[[str], None],
        mind: Callable[[], None],
    ) -> None:
        self.places, self.say, self.mind = places, say, mind
        self.spare = SPARE_BYTES

    def refused(self) -> None:
        """Take note that what was thought to be enough was not."""
        self.spare = min(2 * self.spare, MOST_SPARE_BYTES)

    def wait_for(self, size: int) -> None:
        """Pause until every disk has room for so many bytes of weights, and some to spare."""
        needed = self.spare + size
        for place in self.places():
            paused = False
            while (free := shutil.disk_usage(place).free) < needed:
                if not paused:
                    sizes = f"{free / 1e6:.1f} MB are free, {needed / 1e6:.1f} MB are needed"
                    self._pause(place, sizes)
                paused = True
                self.mind()
                time.sleep(POLL_SECONDS)
            if paused:
                self.say(f"goes on: there is room in {place}")

    def write(self, place: Path, write: Callable[[], Done]) -> Done:
        """Write; where the disk is full, pause and write again."""
        paused = False
        while True:
            try:
                done = write()
            except DiskFull as full:
                if not paused:
                    self._pause(place, str(full))
                paused = True
                self.mind()
                time.sleep(POLL_SECONDS)
                continue
            if paused:
                self.say(f"goes on: there is room in {place}")
            return done

    def _pause(self, place: Path, why: str) -> None:
        self.say(f"paused: no room in {place} ({why}); goes on when there is")
