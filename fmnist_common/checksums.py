"""The checksum of a trial: a bit that changes later is noticed when it is read.

`study/store` writes it, `analysis/integrity.py` verifies it; docs/storage.md says what it covers.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

CHECKSUM = "checksum"  # attribute of a trial
SEAL = "seal"  # attribute of a study

StoredNumber = tuple[float | None, str]
"""A number as Optuna stores it: value, and its kind (FINITE, NAN, ...)."""


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's JSON: keys sorted, no spaces, ASCII.

    Raises:
        TypeError: the value is none of JSON's.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def trial_checksum(  # noqa: PLR0917 # what a trial is
    number: int,
    state: str,
    values: Sequence[StoredNumber],
    params: Mapping[str, tuple[float, str]],
    intermediate: Mapping[int, StoredNumber],
    attributes: Mapping[str, str],
) -> str:
    """Return the checksum of a trial that has ended.

    Args:
        number: of the trial in its study.
        state: COMPLETE, FAIL or PRUNED.
        values: of each objective.
        params: name -> Optuna's internal value, and the distribution's JSON as stored.
        intermediate: step -> value.
        attributes: key -> JSON as stored; the checksum itself is left out.

    Raises:
        TypeError: a damaged cell holds what cannot be written as JSON.
    """
    by_objective = [list(value) for value in values]
    by_name = {name: list(parameter) for name, parameter in params.items()}
    by_step = {str(step): list(value) for step, value in intermediate.items()}
    by_key = {key: text for key, text in attributes.items() if key != CHECKSUM}
    return digest([number, state, by_objective, by_name, by_step, by_key])
