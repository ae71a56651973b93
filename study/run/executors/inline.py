"""Training in this process, one job after the other: for debugging and for tests."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from study.run.executors import Request, Watcher, WorkerSpec, describe_all
from study.run.executors.worker import Worker, failure_of
from study.run.hardware import specs_for
from trainer.config import TrainConfig
from trainer.results import Cost, Result


class InlineExecutor:
    """One worker that is this process."""

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self.spec = specs[0]
        self.slots = 1

    def start(self) -> dict[str, Any]:
        """Load the data."""
        self.worker = Worker(self.spec)
        return describe_all([self.worker.description])

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Return what each config will cost."""
        return self.worker.measure(configs)

    def run(self, watcher: Watcher) -> None:
        """Train the watcher's jobs until there are none."""
        while (job := watcher.next_job()) is not None:
            results: list[Result] | None = None
            try:
                results = self.worker.train(job, partial(watcher.on_epoch, job))
            except Exception as error:  # whatever happens to one job, the others go on
                watcher.on_failure(job, failure_of(error))
            if results is not None:
                watcher.on_results(job, results)
            watcher.on_tick()

    def close(self) -> None:
        """Nothing to stop."""


def executor_for(request: Request) -> InlineExecutor:
    """Return the executor `inline`, not started."""
    return InlineExecutor(specs_for(request))
