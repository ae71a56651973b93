"""What another study of the database has trained is taken over, where a cell equals one of its.

Equal are two trainings with the same configuration, seed and split (which are in it), and the same
content of the data set. Only what has ended well and is as it was written is taken over; of code
that is the user's own nobody can tell whether it is the same, so that is trained again.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.storages._rdb import models  # the schema's only definition; Optuna exports no other
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.orm import Session

from fmnist_common.checksums import CHECKSUM, SEAL
from study.plans.plan import Plan
from study.run import trial_ends
from study.run.work import Record, Task, pending, task_of
from study.store import trial_rows
from study.store.seal import Seal
from study.store.trial_rows import READ_AT_ONCE, trials
from study.store.writer import StudyWriter
from trainer.architectures import ARCHITECTURES
from trainer.config import TrainConfig
from trainer.errors import UserError

OWN = frozenset(
    {"variant", "changes", "seed", "config", "attempt", "candidate", "reused", CHECKSUM}
)
"""Attributes of a trial that say which cell it is in its own study, not what came of it."""


@dataclass(frozen=True)
class Reusable:
    """A cell that is trained already.

    Attributes:
        task: the cell.
        study: who trained it.
        trial: its trial there.
    """

    task: Task
    study: str
    trial: FrozenTrial

    @property
    def settled(self) -> FrozenTrial:
        """The trial that it will be in this study, as far as work looks at one."""
        attributes = {"variant": self.task.variant, "seed": self.task.seed}
        return create_trial(state=TrialState.COMPLETE, value=self.value, user_attrs=attributes)

    @property
    def value(self) -> float:
        """The validation accuracy."""
        return float(self.trial.values[0])


def check_can_reuse(plan: Plan) -> None:
    """Check that a plan's cells are known before any is trained.

    Raises:
        UserError: they are not.
    """
    if plan.search is not None:
        raise UserError(f"--reuse: is for designs; {plan.name} is a search, and has no cells")
    if plan.max_seeds is not None:
        raise UserError("--reuse: does not go with --until-sure, which chooses cells as it goes")


def find(
    session: Session, plan: Plan, stored: Iterable[Record], name: str, data: str
) -> list[Reusable]:
    """Find a plan's pending cells in other studies of the database, the oldest study first.

    Args:
        session: reads the database.
        plan: the design.
        stored: the study's own trials.
        name: the study's own name.
        data: SHA-256 of the data set's content.
    """
    tasks = {
        _key(task.config.to_dict()): task
        for task in (task_of(plan, cell) for cell in pending(plan, stored))
        if task.config.architecture in ARCHITECTURES and not task.config.is_foreign
    }
    found = []
    names = sqlalchemy.select(models.StudyModel.study_id, models.StudyModel.study_name)
    for study_id, other in session.execute(names.order_by(models.StudyModel.study_id)).all():
        if other != name and tasks:
            taken = _of_study(session, study_id, tasks, data)
            found += [Reusable(tasks.pop(key), str(other), trial) for key, trial in taken.items()]
    return found


def _of_study(
    session: Session, study_id: int, wanted: Mapping[str, Task], data: str
) -> dict[str, FrozenTrial]:
    """Return the trials of a study that equal wanted ones, by configuration."""
    seal = _seal_of_ours(session, study_id, data)
    if seal is None:
        return {}
    table = trial_rows.attributes
    configs = (
        sqlalchemy.select(trials.c.trial_id, table.c.value_json)
        .join(table, table.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state == TrialState.COMPLETE)
        .where(table.c.key == "config")
        .order_by(trials.c.number.desc())  # so that the first of several is the one that stays
    )
    equal = {_key_of(text): int(trial_id) for trial_id, text in session.execute(configs)}
    ids = {trial_id: key for key, trial_id in equal.items() if key is not None and key in wanted}
    return {ids[trial_id]: trial for trial_id, trial in _sound(session, list(ids), seal)}


def _seal_of_ours(session: Session, study_id: int, data: str) -> Seal | None:
    """Return the seal of a study that trained on this data, and measured validation accuracy."""
    table = trial_rows.study_attributes
    rows = sqlalchemy.select(table.c.key, table.c.value_json).where(table.c.study_id == study_id)
    texts = {str(key): str(text) for key, text in session.execute(rows)}
    try:
        seal = Seal.parse(json.loads(texts[SEAL]))
        if not all(seal.holds(key, texts[key]) for key in ("plan", "dataset")):
            return None
        plan = json.loads(texts["plan"])
        objectives = (plan.get("search") or {}).get("objectives", ["val_accuracy"])
        ours = not plan.get("imported") and objectives[0] == "val_accuracy"
        return seal if ours and json.loads(texts["dataset"])["sha256"] == data else None
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return None  # damaged, or another tool's


def _sound(session: Session, ids: Sequence[int], seal: Seal) -> Iterator[tuple[int, FrozenTrial]]:
    """Yield those trials that are as they were written, with their ids."""
    for first in range(0, len(ids), READ_AT_ONCE):
        some = trial_rows.load_some(session, ids[first : first + READ_AT_ONCE])
        for trial_id, trial in some.items():
            if trial is not None and CHECKSUM in trial.attributes and not trial.is_damaged(seal):
                yield trial_id, trial.frozen(trial_id)


def _key(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def _key_of(text: str) -> str | None:
    """Return a stored configuration's key; fields that are younger than it have their defaults."""
    try:
        return _key(TrainConfig.from_dict(json.loads(text)).to_dict())
    except (UserError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def take_over(
    writer: StudyWriter,
    reusable: Sequence[Reusable],
    distributions: Mapping[str, BaseDistribution],
    attempts: Mapping[tuple[str, int], int],
) -> None:
    """Write the cells into the study, as trials that say where they were trained.

    Raises:
        StorageFailed: they were not written.
    """
    for first in range(0, len(reusable), READ_AT_ONCE):
        some = reusable[first : first + READ_AT_ONCE]
        begun = [attempts.get((each.task.variant, each.task.seed), 0) + 1 for each in some]
        started = writer.start(
            [
                trial_ends.started(each.task, distributions, attempt)
                for each, attempt in zip(some, begun, strict=True)
            ]
        )
        for trial_id, each in zip(started, some, strict=True):
            for step, value in each.trial.intermediate_values.items():
                writer.report(trial_id, step, value)
        writer.finish(
            [
                (trial_id, TrialState.COMPLETE, [each.value], _attributes(each))
                for trial_id, each in zip(started, some, strict=True)
            ]
        )


def _attributes(reusable: Reusable) -> dict[str, Any]:
    """Return what came of a training, and where that is from."""
    results = {key: value for key, value in reusable.trial.user_attrs.items() if key not in OWN}
    return results | {"reused": {"study": reusable.study, "number": reusable.trial.number}}


def told(reusable: Sequence[Reusable], left: int) -> str:
    """Say what is taken over, and what is left to train."""
    if not reusable:
        return "reused: nothing: no other study here has trained one of these cells on this data"
    studies = Counter(each.study for each in reusable)
    whence = ", ".join(f"{count} from study {study!r}" for study, count in studies.items())
    return (
        f"reused: {len(reusable)} trainings are taken over, {whence} (same configuration, seed and "
        f"data, checksums verified); {left} are left to train"
    )
