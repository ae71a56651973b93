"""The seal of a study: what its attributes and trials must come to.

A trial carries a checksum of all its rows (`fmnist_common/checksums.py`). A study's *seal* holds a
checksum of each of its own attributes, and the number and sum of its trials' checksums: so a trial
cannot vanish either. Seals are verified by `analysis/integrity.py`; docs/storage.md is the contract
of both.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


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

    def holds(self, key: str, text: str) -> bool:
        """Whether an attribute's JSON is what was written."""
        return self.attributes.get(key) == hashlib.sha256(text.encode()).hexdigest()

    def take_trial(self, checksum: str) -> None:
        """Take in a trial that has ended."""
        self.trials += 1
        self.total = (self.total + int(checksum, 16)) % 2**256
