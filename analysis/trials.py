"""Rows of the database as plain records: the only reader of the schema (see docs/storage.md).

Optuna's tables are read as they are, in a few bulk queries; Optuna itself is not imported, and
nothing is ever written.
"""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from analysis import integrity
from fmnist_common.checksums import CHECKSUM, SEAL, StoredNumber
from fmnist_common.sqlite import read_only_uri

VALIDATION_ACCURACY = "validation accuracy"
LOCK_TIMEOUT = 60.0  # seconds to wait for a writer that holds the database
WAL_VERSION = b"\x02\x02"  # bytes 18 and 19 of a SQLite file whose journal is a write-ahead log


@dataclass(frozen=True)
class Study:
    """A study, ours or any other that Optuna wrote (then without a plan)."""

    id: int
    name: str
    directions: tuple[str, ...]  # "MAXIMIZE" or "MINIMIZE", one per objective
    plan: dict[str, Any]
    dataset: dict[str, Any]
    attributes: dict[str, Any]  # every user attribute, those above included
    last_run: str | None  # UTC, ISO 8601
    trial_count: int
    damage: str | None = None  # why its plan and description cannot be trusted
    missing: str | None = None  # why not all of its trials may be here

    @property
    def compared(self) -> str:
        """What a trial's value is: of an imported study, perhaps no validation accuracy."""
        if not self.plan.get("imported"):
            return VALIDATION_ACCURACY
        measured_on = self.plan["imported"].get("selected_on")
        return f"{measured_on} accuracy" if measured_on else "accuracy"


@dataclass(frozen=True)
class Trial:
    """One trial. What the database does not hold is None or empty.

    Accuracies are fractions; `value` is the validation accuracy of the best validation epoch.
    """

    number: int
    state: str  # COMPLETE, FAIL, PRUNED, RUNNING, WAITING; DAMAGED: not as written, all else empty
    params: dict[str, Any]  # factor -> level
    distributions: dict[str, str]  # factor -> Optuna's distribution as JSON
    value: float | None  # of the first objective
    values: tuple[float, ...]  # of every objective, in the study's order; () without any
    intermediate: dict[int, float]  # epoch -> validation accuracy
    started: datetime | None  # aware, UTC
    completed: datetime | None
    variant: str | None
    changes: dict[str, Any]
    seed: int | None
    candidate: int | None  # number of the trial of a search that first ran these params
    config: dict[str, Any]
    history: list[dict[str, Any]]
    outcome: str | None
    best_epoch: int | None
    val_loss: float | None
    test_accuracy: float | None
    test_loss: float | None
    parameters: int | None
    seconds: float | None
    images_per_second: float | None
    device: str | None
    precision: str | None
    bank: int | None
    checkpoint: str | None  # path of the weights, relative to the folder of the database
    failure_reason: str | None
    failure_kind: str | None  # what sort of failure that was, in a word
    best_value: float | None  # of a pruned trial: accuracy of its best epoch; `value` is the last
    latency_ms: float | None  # median for one image, on the device that trained
    inference: dict[str, Any]  # device -> images at once -> p50_ms, p95_ms, images_per_second
    model_bytes: int | None  # the weights as a file, fp32
    multiply_adds: int | None  # of the network for one image
    confusion: dict[str, Any]  # "test" -> counts by [true class][predicted class]

    @property
    def label(self) -> str:
        """The variant; a trial of another tool has none and is named by its number."""
        return f"trial {self.number}" if self.variant is None else self.variant

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return max(self.intermediate, default=len(self.history))


def _table(name: str, *columns: str | sa.ColumnClause[Any]) -> sa.TableClause:
    return sa.table(name, *(sa.column(c) if isinstance(c, str) else c for c in columns))


STUDIES = _table("studies", "study_id", "study_name")
DIRECTIONS = _table("study_directions", "study_id", "direction", "objective")
STUDY_ATTRIBUTES = _table("study_user_attributes", "study_id", "key", "value_json")
TRIALS = _table(
    "trials",
    "trial_id",
    "number",
    "study_id",
    "state",
    sa.column("datetime_start", sa.DateTime()),
    sa.column("datetime_complete", sa.DateTime()),
)
TRIAL_ATTRIBUTES = _table("trial_user_attributes", "trial_id", "key", "value_json")
PARAMS = _table("trial_params", "trial_id", "param_name", "param_value", "distribution_json")
VALUES = _table("trial_values", "trial_id", "objective", "value", "value_type")
INTERMEDIATE = _table(
    "trial_intermediate_values",
    "trial_id",
    "step",
    "intermediate_value",
    "intermediate_value_type",
)
# Optuna keeps what a number column cannot hold (NaN, infinities) as a word beside it.
SPECIAL = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


def connect(url: sa.URL | str) -> sa.Engine:
    """Open a database for reading only.

    A SQLite file is neither created nor changed, and no file appears beside it, so that a
    published database in a checkout, or in a read-only folder, stays as it is. One that another
    process writes at this moment is read as of its last commit.
    """
    url = sa.make_url(url)
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, execution_options={"postgresql_readonly": True})
    path = Path(url.database or "").absolute()
    # No pool: a connection is opened for each reading, when its `read_only_uri` is decided.
    return sa.create_engine(
        url,
        poolclass=sa.NullPool,
        creator=lambda: sqlite3.connect(read_only_uri(path), uri=True, timeout=LOCK_TIMEOUT),
    )


def studies(engine: sa.Engine) -> list[Study]:
    """List every study, the one that ran last at the end; those that never ran come first."""
    with closing(engine.connect()) as connection:
        names = connection.execute(sa.select(STUDIES.c.study_id, STUDIES.c.study_name)).all()
        directions: dict[int, list[str]] = defaultdict(list)
        for study_id, direction in connection.execute(
            sa.select(DIRECTIONS.c.study_id, DIRECTIONS.c.direction).order_by(
                DIRECTIONS.c.objective
            )
        ):
            directions[study_id].append(direction)
        own = sa.select(
            STUDY_ATTRIBUTES.c.study_id, STUDY_ATTRIBUTES.c.key, STUDY_ATTRIBUTES.c.value_json
        )
        theirs = (
            sa.select(TRIALS.c.study_id, sa.null(), TRIAL_ATTRIBUTES.c.value_json)
            .join(TRIALS, TRIALS.c.trial_id == TRIAL_ATTRIBUTES.c.trial_id)
            .where(TRIAL_ATTRIBUTES.c.key == CHECKSUM)
        )
        texts: dict[int, dict[str, str]] = defaultdict(dict)
        checksums: dict[int, list[str]] = defaultdict(list)
        # One statement, and so of one moment: a seal, and the checksums that it is the sum of.
        for study_id, key, text in connection.execute(sa.union_all(own, theirs)):
            if key is None:
                checksums[study_id].append(text)
            else:
                texts[study_id][key] = text
        count = sa.select(TRIALS.c.study_id, sa.func.count()).group_by(TRIALS.c.study_id)
        counts: dict[int, int] = {row[0]: row[1] for row in connection.execute(count)}

    def study(study_id: int, name: str) -> Study:
        own, sums = texts[study_id], checksums[study_id]
        damage = integrity.damage(name, directions[study_id], own, bool(sums))
        attributes = {} if damage else _parsed(own)
        return Study(
            id=study_id,
            name=name,
            directions=tuple(directions[study_id]),
            plan=_object(attributes.get("plan")),
            dataset=_object(attributes.get("dataset")),
            attributes=attributes,
            last_run=attributes.get("last_run"),
            trial_count=counts.get(study_id, 0),
            damage=damage,
            missing=integrity.missing(own, sums),
        )

    found = [study(*own) for own in names]
    return sorted(found, key=lambda study: (study.last_run or "", study.id))


def trials(engine: sa.Engine, study_id: int) -> list[Trial]:
    """Read the trials of a study, by number; a fixed number of queries for any number of them."""
    with closing(engine.connect()) as connection:

        def rows(table: sa.TableClause, *columns: sa.ColumnElement[Any]) -> Iterable[Any]:
            return connection.execute(
                sa.select(table.c.trial_id, *columns)
                .join(TRIALS, TRIALS.c.trial_id == table.c.trial_id)
                .where(TRIALS.c.study_id == study_id)
            )

        heads = connection.execute(
            sa.select(
                TRIALS.c.trial_id,
                TRIALS.c.number,
                TRIALS.c.state,
                TRIALS.c.datetime_start,
                TRIALS.c.datetime_complete,
            )
            .where(TRIALS.c.study_id == study_id)
            .order_by(TRIALS.c.number)
        ).all()
        texts: dict[int, dict[str, str]] = defaultdict(dict)
        for trial_id, key, text in rows(
            TRIAL_ATTRIBUTES, TRIAL_ATTRIBUTES.c.key, TRIAL_ATTRIBUTES.c.value_json
        ):
            texts[trial_id][key] = text
        params: dict[int, dict[str, tuple[float, str]]] = defaultdict(dict)
        for trial_id, name, value, text in rows(
            PARAMS, PARAMS.c.param_name, PARAMS.c.param_value, PARAMS.c.distribution_json
        ):
            params[trial_id][name] = value, text
        values: dict[int, dict[int, StoredNumber]] = defaultdict(dict)
        for trial_id, objective, value, kind in rows(
            VALUES, VALUES.c.objective, VALUES.c.value, VALUES.c.value_type
        ):
            values[trial_id][objective] = value, kind
        intermediate: dict[int, dict[int, StoredNumber]] = defaultdict(dict)
        for trial_id, step, value, kind in rows(
            INTERMEDIATE,
            INTERMEDIATE.c.step,
            INTERMEDIATE.c.intermediate_value,
            INTERMEDIATE.c.intermediate_value_type,
        ):
            intermediate[trial_id][step] = value, kind
        sealed = sa.select(STUDY_ATTRIBUTES.c.key, STUDY_ATTRIBUTES.c.value_json).where(
            STUDY_ATTRIBUTES.c.study_id == study_id, STUDY_ATTRIBUTES.c.key == SEAL
        )
        seal = integrity.seal_of({row.key: row.value_json for row in connection.execute(sealed)})
    distributions: dict[str, dict[str, Any]] = {}  # a study repeats the same few

    def level(value: float, text: str) -> Any:
        if text not in distributions:
            distributions[text] = json.loads(text)
        return _level(value, distributions[text])

    def damaged(trial_id: int, number: int, state: str) -> bool:
        stored = texts[trial_id].get(CHECKSUM)
        if stored is None and seal is None:
            return False
        expected = integrity.expected_checksum(
            number,
            state,
            [value for _, value in sorted(values[trial_id].items())],
            params[trial_id],
            intermediate[trial_id],
            texts[trial_id],
        )
        return integrity.is_damaged(seal, number, state, stored, expected)

    def trial(trial_id: int, number: int, state: str, start: Any, end: Any) -> Trial:
        if damaged(trial_id, number, state):
            for table in (texts, params, values, intermediate):
                table.pop(trial_id, None)
            state = integrity.DAMAGED
        known = _parsed(texts[trial_id])
        decoded = {objective: _number(*value) for objective, value in values[trial_id].items()}
        return Trial(
            number=number,
            state=state,
            params={name: level(*own) for name, own in params[trial_id].items()},
            distributions={name: text for name, (_, text) in params[trial_id].items()},
            value=decoded.get(0),
            values=tuple(value for _, value in sorted(decoded.items())),
            intermediate={
                step: _number(*value) for step, value in sorted(intermediate[trial_id].items())
            },
            started=_utc(start),
            completed=_utc(end),
            variant=known.get("variant"),
            changes=_object(known.get("changes")),
            seed=known.get("seed"),
            candidate=known.get("candidate"),
            config=_object(known.get("config")),
            history=known.get("history") or [],
            outcome=known.get("outcome"),
            best_epoch=known.get("best_epoch"),
            val_loss=known.get("val_loss"),
            test_accuracy=known.get("test_accuracy"),
            test_loss=known.get("test_loss"),
            parameters=known.get("parameters"),
            seconds=known.get("seconds"),
            images_per_second=known.get("images_per_second"),
            device=known.get("device"),
            precision=known.get("precision"),
            bank=known.get("bank"),
            checkpoint=known.get("checkpoint"),
            failure_reason=known.get("failure_reason"),
            failure_kind=known.get("failure_kind"),
            best_value=known.get("best_value"),
            latency_ms=known.get("latency_ms"),
            inference=_object(known.get("inference")),
            model_bytes=known.get("model_bytes"),
            multiply_adds=known.get("multiply_adds"),
            confusion=_object(known.get("confusion")),
        )

    return [trial(*head) for head in heads]


def known(trials: Iterable[Trial], name: str) -> list[float]:
    """Return the finite numbers that trials have under this name."""
    values = (getattr(trial, name) for trial in trials)
    return [value for value in values if value is not None and math.isfinite(value)]


def finished(rows: Iterable[Trial]) -> list[Trial]:
    """Pick the trials that count in every mean: one COMPLETE trial with a finite value per cell.

    A cell is a (variant, seed). Where it was completed twice, its first trial counts: taking the
    better one would be a choice by result. Trials of other tools have no cell and all count.
    """
    cells: dict[object, Trial] = {}
    for trial in rows:
        if trial.state == "COMPLETE" and trial.value is not None and math.isfinite(trial.value):
            cells.setdefault((trial.label, trial.seed), trial)
    return list(cells.values())


def _parsed(texts: Mapping[str, str]) -> dict[str, Any]:
    return {key: json.loads(text) for key, text in texts.items()}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: float | None, kind: str) -> float:
    return SPECIAL[kind] if value is None else value


def _level(value: float, distribution: dict[str, Any]) -> Any:
    # Optuna's "internal representation": the index of a choice, or the number as a float.
    if distribution["name"] == "CategoricalDistribution":
        return distribution["attributes"]["choices"][int(value)]
    return int(value) if distribution["name"].startswith("Int") else value


def _utc(moment: datetime | None) -> datetime | None:
    # Optuna 5 stores UTC without saying so (4.x stored local time, which cannot be told apart).
    return None if moment is None else moment.replace(tzinfo=UTC)
