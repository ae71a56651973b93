"""What a database holds that is what was written: every trial, every attribute that is sealed.

A backup asks this before it takes the place of an older one. `analysis/integrity.py` verifies for
those who read results.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy
from optuna.storages._rdb import models
from sqlalchemy.orm import Session

from fmnist_common.checksums import CHECKSUM, SEAL
from study.store import trial_rows
from study.store.seal import Seal
from study.store.stored_trial import StoredTrial

Item = tuple[str, str, str]  # study, what of it, its checksum ("": it has none)


@dataclass(frozen=True)
class Verified:
    """What a database holds.

    Attributes:
        sound: what is as it was written, trials that have ended and sealed attributes.
        damaged: study -> what is wrong with it, first of all.
    """

    sound: frozenset[Item]
    damaged: dict[str, str]

    def rotten_beside(self, other: "Verified") -> dict[str, str]:
        """Return the studies that are damaged here, of which another database has more sound."""
        better = {study for study, _, _ in other.sound - self.sound}
        return {study: words for study, words in self.damaged.items() if study in better}


def verify(connection: sqlite3.Connection) -> Verified:
    """Verify every study of a database with Optuna's tables.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it cannot be read.
    """
    engine = sqlalchemy.create_engine(
        "sqlite://", creator=lambda: connection, poolclass=sqlalchemy.StaticPool
    )
    sound: set[Item] = set()
    damaged: dict[str, str] = {}
    with Session(engine) as session:
        names = sqlalchemy.select(models.StudyModel.study_id, models.StudyModel.study_name)
        for study_id, name in session.execute(names).all():
            study = verify_study(session, study_id, name)
            sound |= {(name, what, checksum) for what, checksum in study.sound}
            if study.damage:
                damaged[name] = study.damage
    return Verified(frozenset(sound), damaged)


@dataclass(frozen=True)
class VerifiedStudy:
    """What a study holds.

    Attributes:
        sound: what is as it was written, with its checksum ("": it has none).
        damage: what is wrong, first of all; None: nothing.
    """

    sound: frozenset[tuple[str, str]]
    damage: str | None


def verify_study(session: Session, study_id: int, name: str) -> VerifiedStudy:
    """Verify one study.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it cannot be read.
    """
    seal, attributes = _attributes(session, study_id)
    trials = list(_trials(session, study_id, seal))
    checks = [*attributes, *trials]
    faults = [f"{what} is damaged" for what, checksum in checks if checksum is None]
    if seal is not None and seal.name != name:
        faults.append("its name is damaged")
    if seal is not None and seal.trials > sum(checksum != "" for _, checksum in trials):
        faults.append("a trial is missing")
    total = sum(int(checksum, 16) for _, checksum in trials if checksum) % 2**256
    if seal is not None and total != seal.total:
        faults.append("its trials are not those that were written")
    sound = ((what, checksum) for what, checksum in checks if checksum is not None)
    return VerifiedStudy(frozenset(sound), faults[0] if faults else None)


def _attributes(
    session: Session, study_id: int
) -> tuple[Seal | None, list[tuple[str, str | None]]]:
    """Return a study's seal, and a checksum of each sealed attribute; None: it is damaged."""
    table = trial_rows.study_attributes
    rows = sqlalchemy.select(table.c.key, table.c.value_json).where(table.c.study_id == study_id)
    texts = {str(key): str(text) for key, text in session.execute(rows)}
    if SEAL not in texts:
        return None, []
    try:
        seal = Seal.parse(json.loads(texts[SEAL]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None, [("its seal", None)]
    checks: list[tuple[str, str | None]] = []
    for key, checksum in seal.attributes.items():
        is_sound = hashlib.sha256(texts.get(key, "").encode()).hexdigest() == checksum
        # A sound one may change, unlike a trial: that it is there is all that is compared.
        checks.append((f"its attribute {key!r}", "" if is_sound else None))
    return seal, checks


def _trials(session: Session, study_id: int, seal: Seal | None) -> Iterator[tuple[str, str | None]]:
    """Yield each trial that has ended, with its checksum; None: it is damaged."""
    for trial_id, trial in trial_rows.load_each(session, study_id):
        if trial is None:
            yield f"trial with id {trial_id}", None
        elif trial.state not in ("RUNNING", "WAITING"):
            yield f"trial {trial.number}", _checksum(trial, seal)


def _checksum(trial: StoredTrial, seal: Seal | None) -> str | None:
    unsealed = Seal("", [], before=trial.number + 1)
    if trial.is_damaged(seal or unsealed):
        return None
    return trial.checksum if CHECKSUM in trial.attributes else ""
