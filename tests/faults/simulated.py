"""Workers that train nothing: their figures are functions of the config, at once or in time.

    python -m tests.faults.simulated run PLAN ...

is `fmnist-study run PLAN ...` on such workers. `SIMULATED_SECONDS` is what an epoch takes,
`SIMULATED_SLOTS` how many workers there are; each result that has been accepted is appended to
`SIMULATED_ACKNOWLEDGED` as a line of JSON. While there is a file `SIMULATED_HOLD`, workers give as
many results as it says and wait, so that a test has time to act on any machine. Backups may take
`SIMULATED_BACKUP_SHARE` of the time.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.run import session
from study.run.executors import Job, Watcher
from tests.support.results import result
from trainer.config import TrainConfig
from trainer.results import Cost, Epoch, Result


def accuracy(config: TrainConfig, epoch: int) -> float:
    """Make a validation accuracy up, for this config and no other; it rises."""
    text = json.dumps(config.to_dict(), sort_keys=True)
    level = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return round(0.5 * level + 0.4 * epoch / config.epochs, 6)


def result_of(config: TrainConfig, epochs: int) -> Result:
    """Return what a training of so many epochs comes to; fewer than planned: it was stopped."""
    history = tuple(
        Epoch(n, 1.0, 0.5, 1.0, accuracy(config, n), 0.1, 0.01) for n in range(1, epochs + 1)
    )
    if epochs == config.epochs:
        return result(history, test_accuracy=history[-1].val_accuracy - 0.01)
    return result(history, outcome="stopped", test_accuracy=None, test_loss=None)


class Simulated:
    """So many workers; each trains a job of one member, epoch by epoch, in turn with the others."""

    def __init__(
        self,
        slots: int,
        seconds: float = 0.0,
        acknowledged: str | None = None,
        hold: str | None = None,
    ) -> None:
        self.slots, self.seconds, self.acknowledged = slots, seconds, acknowledged
        self.hold = hold  # the file that says after how many results all wait
        self.given = 0  # results
        self.most: int | None = None  # jobs to be trained; None: all
        self.closed = False

    def start(self) -> dict[str, Any]:
        return {
            "dataset": {"name": "digits", "sha256": "0" * 64, "train_images": 1438,
                        "test_images": 359, "classes": 10},
            "devices": ["simulated"] * self.slots,
            "versions": {},
        }  # fmt: skip

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        return [Cost(0.01, 1000) for _ in configs]

    def run(self, watcher: Watcher) -> None:
        running: dict[int, tuple[Job, int]] = {}  # with the epochs trained
        begun = 0
        while True:
            while len(running) < self.slots and (self.most is None or begun < self.most):
                job = watcher.next_job()
                if job is None:
                    break
                begun += 1
                running[id(job)] = job, 0
            if not running:
                return
            time.sleep(self.seconds)
            for job, epochs in list(running.values()):
                while self._is_held():
                    time.sleep(0.01)
                    watcher.on_tick()
                (config,) = job.configs
                epoch = result_of(config, epochs + 1).history[-1]
                stopped = bool(watcher.on_epoch(job, {0: epoch}))
                running[id(job)] = job, epochs + 1
                if stopped or epochs + 1 == config.epochs:
                    del running[id(job)]
                    watcher.on_results(job, [result_of(config, epochs + 1)])
                    self.given += 1
                    self._acknowledge(config, epoch.val_accuracy)
                watcher.on_tick()

    def _is_held(self) -> bool:
        try:
            return self.hold is not None and self.given >= int(Path(self.hold).read_text())
        except FileNotFoundError:
            return False

    def _acknowledge(self, config: TrainConfig, value: float) -> None:
        if self.acknowledged:
            with Path(self.acknowledged).open("a", encoding="utf-8") as file:
                # The line break comes first: a line that a kill tore spoils none but itself.
                file.write("\n" + json.dumps({"config": config.to_dict(), "value": value}))

    def close(self) -> None:
        self.closed = True


@contextmanager
def workers(*_: object) -> Iterator[tuple[Simulated, int]]:
    """Stand in for `session.workers_for`."""
    slots = int(os.environ.get("SIMULATED_SLOTS", "4"))
    seconds = float(os.environ.get("SIMULATED_SECONDS", "0"))
    names = ("SIMULATED_ACKNOWLEDGED", "SIMULATED_HOLD")
    yield Simulated(slots, seconds, *map(os.environ.get, names)), 1


if __name__ == "__main__":
    from study.cli import main
    from study.store import durability

    vars(session)["workers_for"] = workers
    # Of a run's time: by default backups are rare where a disk is slow.
    share = float(os.environ.get("SIMULATED_BACKUP_SHARE", durability.BACKUP_SHARE))
    vars(durability)["BACKUP_SHARE"] = share
    main(sys.argv[1:])
