"""What identifies a variant, and when a cell of a design needs no further run."""

from collections.abc import Hashable, Mapping
from typing import Any

VariantKey = frozenset[tuple[str, bool, Hashable]]


def variant_key(changes: Mapping[str, Any]) -> VariantKey:
    """Return what identifies a variant, in whatever order its changes were written.

    1 and 1.0 are the same level, 1 and true are not. A database of others may hold anything as a
    level: what cannot be hashed is known by its text.
    """
    return frozenset(
        (name, isinstance(level, bool), level if isinstance(level, Hashable) else repr(level))
        for name, level in changes.items()
    )


def is_settled(state: str, outcome: str | None) -> bool:
    """Whether a trial has its result, so that its cell is never trained again.

    Complete and pruned ones have, and diverged ones: the same config and seed would diverge again.

    Args:
        state: Optuna's name of it: COMPLETE, PRUNED, FAIL, RUNNING, WAITING.
        outcome: the trial's attribute of that name; None: it has none.
    """
    return state in ("COMPLETE", "PRUNED") or (state == "FAIL" and outcome == "diverged")
