"""A trial in the form in which it is stored: what its checksum is made of.

Optuna's own classes convert values; the forms are those of its tables.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models  # the schema's only definition; Optuna exports no other
from optuna.trial import FrozenTrial, TrialState

from fmnist_common.checksums import CHECKSUM, StoredNumber, trial_checksum
from study.store.seal import Seal


class NewTrial(NamedTuple):
    """A trial to be started."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    attributes: Mapping[str, Any]


class EndedTrial(NamedTuple):
    """A trial that ended elsewhere."""

    made: NewTrial
    state: TrialState
    values: Sequence[float] | None
    steps: Mapping[int, float]  # intermediate values


@dataclass
class StoredTrial:
    """A trial as it is stored: of a running one, all that its checksum and record will need."""

    number: int
    started: datetime | None
    params: dict[str, tuple[float, str]]  # as stored: internal value, distribution's JSON
    attributes: dict[str, str]  # as stored: JSON
    intermediate: dict[int, StoredNumber] = field(default_factory=dict)
    values: dict[int, StoredNumber] = field(default_factory=dict)
    state: str = "RUNNING"
    completed: datetime | None = None

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "StoredTrial":
        """Return a journaled trial as one that runs."""
        started = record["started"]
        return cls(
            record["number"],
            datetime.fromisoformat(started) if started else None,
            {name: (value, text) for name, (value, text) in record["params"].items()},
            {key: text for key, text in record["attributes"].items() if key != CHECKSUM},
        )

    def became(self, begun: "StoredTrial") -> bool:
        """Whether this is that trial, which was running when it was stored."""
        return (
            self.state == TrialState.RUNNING.name
            and self.started == begun.started
            and self.params == begun.params
            and self.attributes.items() <= begun.attributes.items()
        )

    def is_damaged(self, seal: Seal) -> bool:
        """Whether it is not what was written."""
        running = self.state in ("RUNNING", "WAITING")
        if running or (CHECKSUM not in self.attributes and self.number < seal.before):
            return False
        return self.attributes.get(CHECKSUM) != json.dumps(self.checksum)

    @property
    def checksum(self) -> str:
        """What its checksum must be, now that it has ended."""
        attributes = {key: text for key, text in self.attributes.items() if key != CHECKSUM}
        values = [value for _, value in sorted(self.values.items())]
        return trial_checksum(
            self.number, self.state, values, self.params, self.intermediate, attributes
        )

    def end_record(
        self,
        study: str,
        state: TrialState,
        values: Sequence[float] | None,
        more: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return a trial's end as it is stored and journaled, its checksum included.

        Args:
            study: its study's name.
            state: how it has ended.
            values: of each objective.
            more: attributes that are known now.
        """
        assert not self.attributes.keys() & more.keys(), "attributes are written once"
        stored = [
            (number, kind.name)
            for value in values or ()
            for number, kind in [models.TrialValueModel.value_to_stored_repr(value)]
        ]
        attributes = self.attributes | {key: json.dumps(value) for key, value in more.items()}
        checksum = trial_checksum(
            self.number, state.name, stored, self.params, self.intermediate, attributes
        )
        return {
            "study": study,
            "number": self.number,
            "state": state.name,
            "started": self.started.isoformat() if self.started else None,
            "completed": utc_now().isoformat(),
            "values": stored,
            "params": self.params,
            "intermediate": {str(step): value for step, value in self.intermediate.items()},
            "attributes": attributes | {CHECKSUM: json.dumps(checksum)},
        }

    def _objective_values(self) -> list[float]:
        to_value = models.TrialValueModel.stored_repr_to_value
        kinds = models.TrialValueModel.TrialValueType
        return [to_value(value, kinds[kind]) for _, (value, kind) in sorted(self.values.items())]

    def frozen(self, trial_id: int) -> FrozenTrial:
        """Return the trial as Optuna would; its own reading takes ten times as long."""
        distributions = {name: _distribution(text) for name, (_, text) in self.params.items()}
        to_step = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
        step_kinds = models.TrialIntermediateValueModel.TrialIntermediateValueType
        return FrozenTrial(
            number=self.number,
            state=TrialState[self.state],
            value=None,
            values=self._objective_values() or None,
            datetime_start=self.started,
            datetime_complete=self.completed,
            params={
                name: distributions[name].to_external_repr(value)
                for name, (value, _) in self.params.items()
            },
            distributions=distributions,
            user_attrs={key: json.loads(text) for key, text in self.attributes.items()},
            system_attrs={},
            intermediate_values={
                step: to_step(value, step_kinds[kind])
                for step, (value, kind) in self.intermediate.items()
            },
            trial_id=trial_id,
        )


@cache  # a study repeats the same few
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


class StoredForms:
    """Converts new trials; remembers the JSON of the few distributions that a study has."""

    def __init__(self) -> None:
        self._distributions: dict[int, tuple[BaseDistribution, str]] = {}  # they live as long

    def trial(self, number: int, trial: NewTrial, now: datetime) -> StoredTrial:
        """Return a new trial as it will be stored."""
        return StoredTrial(
            number,
            now,
            {
                name: (
                    float(trial.distributions[name].to_internal_repr(value)),
                    self._json(trial.distributions[name]),
                )
                for name, value in trial.params.items()
            },
            {key: json.dumps(value) for key, value in trial.attributes.items()},
        )

    def _json(self, distribution: BaseDistribution) -> str:
        key = id(distribution)
        if key not in self._distributions:
            self._distributions[key] = distribution, distribution_to_json(distribution)
        return self._distributions[key][1]


def stored_step(value: float) -> StoredNumber:
    """Return an intermediate value as it is stored."""
    number, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return number, kind.name


def utc_now() -> datetime:
    """Return the time as the schema keeps it: naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)
