"""Whether what a database holds is what was written: checksums of trials, seals of studies.

The other half of `study/store/seal.py`, which writes seals; docs/storage.md says what they
cover. A bit that SQLite's own checks miss changes a figure silently; here it makes a trial
*damaged*, which is counted and never shown as a result.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fmnist_common.checksums import SEAL, trial_checksum

DAMAGED = "DAMAGED"  # state of a trial that is not what was written


def expected_checksum(*trial: Any) -> str:
    """Return `trial_checksum` of a trial as it is stored; `none` where no checksum could fit."""
    try:
        return trial_checksum(*trial)
    except TypeError:  # a damaged cell may be of any type
        return "none"


def is_damaged(
    seal: Mapping[str, Any] | None, number: int, state: str, stored: str | None, expected: str
) -> bool:
    """Whether a trial is not what was written.

    Args:
        seal: its study's; None: the study has none, nor have its trials checksums.
        number: the trial's.
        state: the trial's, as it is stored.
        stored: its checksum as stored, JSON; None: it has none.
        expected: what it must be.
    """
    if stored is not None:
        return stored != json.dumps(expected)
    running = state in ("RUNNING", "WAITING")
    older = seal is None or (isinstance(number, int) and number < seal["before"])
    return not running and not older


def damage(
    name: str, directions: Sequence[str], attributes: Mapping[str, str], sealed: bool
) -> str | None:
    """Say what is wrong with a study's own rows; None: nothing.

    Args:
        name: its name.
        directions: of its objectives.
        attributes: its attributes as stored, JSON.
        sealed: whether it has trials with checksums, and so must have a seal.
    """
    seal = seal_of(attributes)
    if seal is None:
        return "its seal is damaged or missing" if SEAL in attributes or sealed else None
    if seal["name"] != name:
        return f"it was written under another name, {seal['name']!r}"
    if seal["directions"] != list(directions):
        return "its directions are not those that were written"
    for key, digest in seal["attributes"].items():
        text = attributes.get(key)
        if text is None or hashlib.sha256(text.encode()).hexdigest() != digest:
            return f"its attribute {key!r} is not what was written"
    return None


def missing(attributes: Mapping[str, str], checksums: Sequence[str]) -> str | None:
    """Say what is wrong with the trials of a study as a whole; None: nothing.

    Args:
        attributes: the study's, as stored, JSON.
        checksums: of its trials, as stored, JSON.
    """
    seal = seal_of(attributes)
    if seal is None:
        return None
    if len(checksums) != seal["trials"]:
        return f"{seal['trials']} trials were written, {len(checksums)} are there as written"
    if f"{sum(map(_number, checksums)) % 2**256:064x}" != seal["total"]:
        return "the trials are not those that were written"
    return None


def seal_of(attributes: Mapping[str, str]) -> dict[str, Any] | None:
    """Return a study's seal where it is there and has its form."""
    try:
        seal = json.loads(attributes[SEAL])
    except (KeyError, ValueError, RecursionError):
        return None
    kinds = {
        "name": str, "directions": list, "before": int, "attributes": dict, "trials": int,
        "total": str,
    }  # fmt: skip
    fine = isinstance(seal, dict) and all(
        isinstance(seal.get(key), kind) for key, kind in kinds.items()
    )
    return seal if fine else None


def _number(checksum: str) -> int:
    try:
        return int(json.loads(checksum), 16)
    except (ValueError, TypeError, RecursionError):
        return 0
