"""Which variant is best: means that are adjusted for seeds, of variants that no seed was spared.

A seed is a split, and some splits are easier than others: a variant that has only finished on the
easiest must not lead for that. Nor may one that failed on a seed: its other seeds were chosen by
their result.
"""

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

import numpy as np

Variant = TypeVar("Variant", bound=Hashable)
Seed = TypeVar("Seed", bound=Hashable)
ROUNDS = 100  # of the fixed point, which without missing cells takes one


def leader(
    values: Mapping[Variant, Mapping[Seed, float]],
    failed: Collection[Variant] = (),
    planned: int | None = None,
) -> Variant | None:
    """Return the variant with the highest mean, adjusted for seeds; None without any to rank.

    Ranked are those that have all the study's seeds; as long as none has, those with the most.

    Args:
        values: what is to be high, by variant and seed.
        failed: variants with a seed that failed, which are not ranked.
        planned: seeds that a variant needs to be ranked at once; None: as many as any has.
    """
    sound = {name: seeds for name, seeds in values.items() if seeds and name not in failed}
    most = max(map(len, sound.values()), default=0)
    needed = most if planned is None else min(most, planned)
    ranked = {name: seeds for name, seeds in sound.items() if len(seeds) >= needed}
    means = adjusted_means(ranked)
    return max(means, key=means.__getitem__, default=None)


def adjusted_means(values: Mapping[Variant, Mapping[Seed, float]]) -> dict[Variant, float]:
    """Return each variant's mean as if it had the seeds of all: least squares, variant + seed.

    Args:
        values: by variant and seed; every variant has a value.
    """
    if not values:
        return {}
    seeds_present = dict.fromkeys(seed for row in values.values() for seed in row)
    seeds = {seed: index for index, seed in enumerate(seeds_present)}
    variant = np.array([index for index, row in enumerate(values.values()) for _ in row], int)
    seed = np.array([seeds[s] for row in values.values() for s in row], int)
    y = np.array([value for row in values.values() for value in row.values()])
    per_variant, per_seed = np.bincount(variant), np.bincount(seed)
    shift = np.zeros(len(seeds))  # of each seed, from the mean of all
    means = np.zeros(len(values))
    for _ in range(ROUNDS):
        before = means
        means = np.bincount(variant, y - shift[seed]) / per_variant
        if np.allclose(before, means, rtol=0, atol=1e-12):
            break
        shift = np.bincount(seed, y - means[variant]) / per_seed
        shift -= shift.mean()
    return dict(zip(values, means.tolist(), strict=True))
