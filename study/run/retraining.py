"""Trainings that are done again, to be compared with what is stored. No database is touched."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from study.plans.plan import Plan
from study.run.executors import Failure, Job
from study.run.machine import Machine, workers_for
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.results import Epoch, Result


class _Repeats:
    """A watcher that hands out each config once, and keeps what comes back.

    Args:
        configs: what is trained.
        folder: for weights that nobody keeps.
    """

    def __init__(self, configs: Sequence[TrainConfig], folder: Path) -> None:
        paths = [folder / f"{i}.safetensors" for i in range(len(configs))]
        self.places = {path: i for i, path in enumerate(paths)}
        self.jobs: Iterator[Job] = (
            Job((config,), (path,)) for config, path in zip(configs, paths, strict=True)
        )
        self.outcomes: dict[int, Result | Failure] = {}

    def next_job(self) -> Job | None:
        return next(self.jobs, None)

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        del job, epochs
        return ()

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        self.outcomes[self.places[job.checkpoints[0]]] = results[0]

    def on_failure(self, job: Job, failure: Failure) -> None:
        self.outcomes[self.places[job.checkpoints[0]]] = failure

    def on_tick(self) -> None:
        """Nothing is due."""


def retrain(
    plan: Plan, configs: Sequence[TrainConfig], machine: Machine, sha256: str | None
) -> list[Result | Failure]:
    """Train configs again, each alone; return what came of each, without weights.

    Args:
        plan: whose data set is used.
        configs: what is trained.
        machine: where.
        sha256: of the data that it must be.

    Raises:
        UserError: there is no such device or data, or the data is other data.
    """
    with (
        TemporaryDirectory(prefix="fmnist-study-") as folder,
        workers_for(plan, len(configs), replace(machine, bank=1)) as (executor, _),
    ):
        dataset = executor.start()["dataset"]
        if sha256 is not None and dataset["sha256"] != sha256:
            raise UserError(
                f"--retrain: {plan.dataset} has SHA-256 {dataset['sha256']} here, the study was "
                f"trained on {sha256}"
            )
        repeats = _Repeats(configs, Path(folder))
        executor.run(repeats)
    lost = Failure("infrastructure", "its worker ended without a word")
    return [repeats.outcomes.get(i, lost) for i in range(len(configs))]
