"""Checksums of what is stored: a bit that changes later is noticed when it is read.

A trial carries a checksum of all its rows. A study's *seal* holds a checksum of each of its own
attributes, and the number and sum of its trials' checksums: so a trial cannot vanish either. They
are verified by `analysis/integrity.py`, which must not import this room; docs/storage.md is the
contract of both.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

CHECKSUM = "checksum"  # attribute of a trial
SEAL = "seal"  # attribute of a study

Number = tuple[float | None, str]  # as Optuna stores one: value, and its kind (FINITE, NAN, ...)


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's JSON: keys sorted, no spaces, ASCII."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def trial_checksum(  # noqa: PLR0917 # what a trial is
    number: int,
    state: str,
    values: Sequence[Number],
    params: Mapping[str, tuple[float, str]],
    intermediate: Mapping[int, Number],
    attributes: Mapping[str, str],
) -> str:
    """Return the checksum of a trial that has ended.

    Args:
        number: of the trial in its study.
        state: COMPLETE, FAIL or PRUNED.
        values: of each objective.
        params: name -> Optuna's internal value, and the distribution's JSON as stored.
        intermediate: step -> value.
        attributes: key -> JSON as stored, of every user attribute but the checksum itself.
    """
    return digest(
        [
            number,
            state,
            [list(value) for value in values],
            {name: list(value) for name, value in params.items()},
            {str(step): list(value) for step, value in intermediate.items()},
            dict(attributes),
        ]
    )


@dataclass
class Seal:
    """What a study's attributes and trials must come to.

    `before`: trials of smaller numbers are older than the seal and have no checksum.
    """

    name: str
    directions: list[str]
    before: int = 0
    attributes: dict[str, str] = field(default_factory=dict)  # key -> SHA-256 of its JSON
    trials: int = 0
    total: int = 0  # sum of the trials' checksums, modulo 2 ** 256

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> "Seal":
        """Read a seal as it is stored."""
        return cls(
            value["name"],
            list(value["directions"]),
            value["before"],
            dict(value["attributes"]),
            value["trials"],
            int(value["total"], 16),
        )

    def copy(self) -> "Seal":
        """Return another one that can be changed."""
        return replace(self, attributes=dict(self.attributes))

    def text(self) -> str:
        """Return the seal as it is stored."""
        return json.dumps({**self.__dict__, "total": f"{self.total:064x}"})

    def take_attribute(self, key: str, text: str) -> None:
        """Take in an attribute's JSON as it is stored."""
        self.attributes[key] = hashlib.sha256(text.encode()).hexdigest()

    def take_trial(self, checksum: str) -> None:
        """Take in a trial that has ended."""
        self.trials += 1
        self.total = (self.total + int(checksum, 16)) % 2**256
