"""Which candidates of a search are trained on which further seeds: pure rules.

Successive halving over seeds, or all seeds for everybody that does not prove worse than the best.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from study.run import pruners
from trainer.config import TrainConfig

FINALISTS = 3
WILCOXON_P = 0.1  # a candidate is given up when it is worse than the best with this p or less


@dataclass
class Candidate:
    """One point of the space, and what its seeds gave. None: that seed gave no result."""

    params: Mapping[str, Any]
    config: TrainConfig
    values: dict[int, float | None] = field(default_factory=dict)  # seed -> validation accuracy

    def mean_before(self, seed: int) -> float:
        """Mean over the seeds before this one; -inf where one gave no result."""
        values = [self.values[earlier] for earlier in sorted(self.values) if earlier < seed]
        if not values or None in values:
            return -math.inf
        return statistics.fmean(value for value in values if value is not None)


def next_replicates(
    candidates: Mapping[int, Candidate], seeds: int, baseline: int | None
) -> list[tuple[int, int]]:
    """Return the (candidate, seed) that successive halving over seeds wants next; none: it is over.

    A round is one more seed; it starts when the round before is complete.
    """
    ranked = [n for n, candidate in candidates.items() if candidate.values.get(0) is not None]
    count = len(ranked)
    for seed in range(1, seeds):
        kept = max(FINALISTS, math.ceil(count / pruners.ETA**seed))
        best = sorted(ranked, key=lambda n: (-candidates[n].mean_before(seed), n))[:kept]
        ranked = sorted({*best, *(n for n in ranked if n == baseline)})
        missing = [(n, seed) for n in ranked if seed not in candidates[n].values]
        if missing:
            return missing
        ranked = [n for n in ranked if candidates[n].values[seed] is not None]
    return []


def next_by_wilcoxon(candidates: Mapping[int, Candidate], seeds: int) -> list[tuple[int, int]]:
    """Return the (candidate, seed) to run next where each gets all seeds unless it proves worse.

    Worse: a one-sided Wilcoxon signed-rank test against the best candidate, paired by seed, has
    p <= 0.1 (as Optuna's WilcoxonPruner does over instances).
    """
    means = {n: candidate.mean_before(seeds) for n, candidate in candidates.items()}
    alive = [n for n, mean in means.items() if mean > -math.inf]
    complete = [n for n in alive if len(candidates[n].values) == seeds]
    best = max(complete or alive, key=means.__getitem__, default=None)
    return [
        (n, len(candidates[n].values))
        for n in alive
        if len(candidates[n].values) < seeds
        and (best is None or n == best or not _is_worse(candidates[n], candidates[best]))
    ]


def _is_worse(candidate: Candidate, best: Candidate) -> bool:
    from scipy.stats import wilcoxon

    common = sorted(candidate.values.keys() & best.values.keys())
    differences = [(candidate.values[s] or 0.0) - (best.values[s] or 0.0) for s in common]
    if not any(differences):
        return False
    return bool(wilcoxon(differences, alternative="less").pvalue <= WILCOXON_P)
