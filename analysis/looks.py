"""The looks of a study that stops when it is sure, read from its plan and its trials.

Nothing of them is stored: they follow from the values, so that the report and the run see the same.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from analysis.statistics.rows import planned_rows
from analysis.statistics.sequential import Path, follow
from analysis.trials import Trial, finished
from fmnist_common.designs import VariantKey, is_settled, variant_key


def comparisons(plan: Mapping[str, Any]) -> list[tuple[VariantKey, VariantKey]]:
    """List the variants of rows that have a difference, each with its reference; no pair twice."""
    pairs = (
        (variant_key(row.changes), variant_key(row.against))
        for row in planned_rows(plan)
        if not row.is_reference
    )
    return list(dict.fromkeys(pairs))


def seed_path(plan: Mapping[str, Any], trials: Iterable[Trial]) -> Path | None:
    """Follow a study's looks; None: it has a fixed number of seeds.

    The comparisons of the path are pairs of `variant_key`, a row's and its reference's.
    """
    most, margin = plan.get("max_seeds"), plan.get("negligible")
    pairs = comparisons(plan)
    if most is None or not pairs:
        return None
    rows = list(trials)
    values: dict[Hashable, dict[int, float | None]] = defaultdict(dict)
    for trial in rows:
        if trial.seed is not None and is_settled(trial.state, trial.outcome):
            values[variant_key(trial.changes)].setdefault(trial.seed, None)
    for trial in finished(rows):
        if trial.seed is not None:
            values[variant_key(trial.changes)][trial.seed] = trial.value
    return follow(
        pairs,
        values,
        max_seeds=most,
        negligible=None if margin is None else margin / 100,
    )
