"""An imported study is written: the whole of it in one transaction, or nothing."""

import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy

from study.store import location, ownership
from trainer.datasets import DATASETS
from trainer.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from study.importing.assembly import ImportedStudy


def store(made: "ImportedStudy", url: sqlalchemy.URL, command: str) -> None:
    """Write a study into the database.

    Args:
        made: the study.
        url: the database; made if it does not exist.
        command: the command line, for the lock and the study's attributes.

    Raises:
        UserError: the name is taken, or the database cannot be used or refused the write; nothing
            has been written.
    """
    with ownership.take(url, command) as database:
        from optuna.study import StudyDirection
        from optuna.trial import TrialState

        from study.store.failures import StorageFailed
        from study.store.stored_trial import EndedTrial, NewTrial
        from study.store.writer import StudyWriter

        writer = StudyWriter(database, made.name)
        if writer.exists:
            raise UserError(
                f"--study-name = {made.name!r}: is taken in {location.display(url)}; choose another"
            )
        distributions = _distributions(made)
        trials = [
            EndedTrial(
                NewTrial(
                    trial.params,
                    {name: distributions[name] for name in trial.params},
                    trial.attributes,
                ),
                TrialState[trial.state],
                None if trial.value is None else [trial.value],
                trial.steps,
            )
            for trial in made.trials
        ]
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        attributes: dict[str, Any] = {
            "plan": made.plan,
            "last_run": now,
            "command": command,
            "host": platform.node(),
        }
        dataset = made.plan["dataset"]
        if dataset in DATASETS:
            attributes["dataset"] = {"name": dataset, "test_images": DATASETS[dataset].test_images}
        try:
            writer.store(
                [StudyDirection.MINIMIZE if made.minimize else StudyDirection.MAXIMIZE],
                attributes,
                trials,
            )
        except StorageFailed as failure:
            raise UserError(
                f"storage {location.display(url)}: nothing written: {failure}"
            ) from failure


def _distributions(made: "ImportedStudy") -> "dict[str, BaseDistribution]":
    """Return Optuna's form of every factor: a list of levels, or the range that was tried."""
    from optuna.distributions import FloatDistribution, IntDistribution

    from study.store.writer import categorical

    space = made.plan.get("search", {}).get("space", {})
    distributions = {
        name: categorical(levels) for name, levels in made.levels.items() if name not in space
    }
    for name, entry in space.items():
        if isinstance(entry, list):
            distributions[name] = categorical(entry)
        else:
            kind = IntDistribution if isinstance(entry["low"], int) else FloatDistribution
            distributions[name] = kind(entry["low"], entry["high"], log=entry.get("log", False))
    return distributions
