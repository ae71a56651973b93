"""Studies that never were, whose truth is known: do claims and intervals keep their promises?

Values are in points of accuracy. A variant's scatter beside what the seed brings to all is drawn
anew for every study, by one of `SCATTERS`.
"""

import itertools
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.block_design import BlockDesign, Comparison, pair_error, paired
from analysis.statistics.comparisons import judge_factorial
from analysis.statistics.dunnett import critical, two_sided_quantile
from analysis.statistics.factorial import Anova, analyse
from analysis.statistics.factorial_model import Observation
from analysis.statistics.paired import holm
from analysis.statistics.power import ALPHA
from analysis.statistics.sequential import follow
from analysis.statistics.simultaneous import Statistic, half_widths

Array = NDArray[np.floating[Any]]
Study = dict[Hashable, dict[Any, Any]]  # values by variant and seed
RESIDUALS = Path(__file__).with_name("residuals.json")
SEED_SPREAD = 0.8
USUAL = 0.33  # root mean square of the published residuals
BASELINE = 0


@cache
def published_residuals() -> NDArray[np.float64]:
    """Residuals of an ablation from variant + seed, in points, unbiased; (22 variants, 5 seeds).

    Of the one that was published in November 2026, on 10,000 images of Fashion-MNIST: what
    docs/statistics.md says of simulations rests on them, whatever is published since.
    """
    return np.array(json.loads(RESIDUALS.read_text(encoding="utf-8")), np.float64)


def _normal(deviations: Callable[[np.random.Generator, int], Array]) -> Any:
    def draw(rng: np.random.Generator, variants: int, seeds: int) -> Array:
        scatter: Array = deviations(rng, variants)[:, None] * rng.normal(0, 1, (variants, seeds))
        return scatter

    return draw


def _published_deviations(rng: np.random.Generator, variants: int) -> Array:
    deviations: Array = np.sqrt(np.mean(published_residuals() ** 2, axis=1))
    return rng.permutation(deviations)[:variants]


def _one(position: int, factor: float) -> Callable[[np.random.Generator, int], Array]:
    def deviations(rng: np.random.Generator, variants: int) -> Array:
        usual = np.full(variants, USUAL)
        usual[position] *= factor
        return usual

    return deviations


SCATTERS: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "equal": _normal(_one(BASELINE, 1.0)),
    "published sds": _normal(_published_deviations),
    "published residuals": lambda rng, variants, seeds: rng.choice(
        published_residuals().ravel(), (variants, seeds)
    ),
    "lognormal(0.5) sds": _normal(
        lambda rng, variants: USUAL * np.exp(0.5 * rng.normal(0, 1, variants))
    ),
    "a level's sd x 4": _normal(_one(1, 4.0)),
    "baseline's sd x 2": _normal(_one(BASELINE, 2.0)),
}


def values(
    rng: np.random.Generator, scatter: str, differences: Sequence[float], seeds: int
) -> Study:
    """Simulate a study: variant 0 is the baseline, and `differences` are those of the others."""
    variants = 1 + len(differences)
    y = SCATTERS[scatter](rng, variants, seeds) + rng.normal(0, SEED_SPREAD, seeds)
    y += np.array([0.0, *differences])[:, None]
    return {variant: dict(enumerate(row)) for variant, row in enumerate(y.tolist())}


def comparisons(levels: int) -> list[Comparison]:
    """Compare every level with the baseline."""
    return [(level, BASELINE) for level in range(1, 1 + levels)]


def joint(study: Study, negligible: float | None = None) -> list[str]:
    """Judge all levels by the default method, as `block_design.compare` does."""
    design = BlockDesign(comparisons(len(study) - 1), study)
    statistics = design.statistics()
    if negligible is None and not any(map(_may_be_claimed, statistics)):
        return ["undecided"] * len(statistics)
    half, one_sided = half_widths(statistics, design.groups())
    return [
        "negligible"
        if negligible is not None and abs(delta) + to_one_side <= negligible
        else _sign(delta, to_both)
        for delta, to_both, to_one_side in zip(design.deltas, half, one_sided, strict=True)
    ]


def _may_be_claimed(statistic: Statistic) -> bool:
    # By itself: to correct for the others can only make it stricter, and takes longer.
    pairs = float(two_sided_quantile(ALPHA, statistic.pair_freedom)) * statistic.pair_error
    model = float(two_sided_quantile(ALPHA, statistic.freedom)) * statistic.error
    return abs(statistic.delta) > max(pairs, model)


def naive(study: Study) -> list[str]:
    """Judge all levels by one pooled variance and Dunnett's test: what must not be done."""
    y = np.array([list(row.values()) for row in study.values()])
    residual = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
    freedom = (y.shape[0] - 1) * (y.shape[1] - 1)
    error = np.sqrt(2 * np.sum(residual**2) / freedom / y.shape[1])
    half = _naive_critical(y.shape[0] - 1, freedom) * error
    return [_sign(delta, half) for delta in y[1:].mean(axis=1) - y[0].mean()]


@cache
def _naive_critical(levels: int, freedom: int) -> float:
    return critical([np.full(levels, 0.5**0.5)], freedom, ALPHA)


def strict(study: Study) -> list[str]:
    """Judge all levels by paired t with Holm's correction."""
    deltas = [paired(study, pair) for pair in comparisons(len(study) - 1)]
    p_values = [
        float(2 * stats.t.sf(abs(own.mean()) / error, freedom)) if error else None
        for own in deltas
        for error, freedom in [pair_error(own)]
    ]
    return [
        _sign(own.mean(), 0.0) if p is not None and p <= ALPHA else "undecided"
        for own, p in zip(deltas, holm(p_values), strict=True)
    ]


METHODS = {"joint": joint, "strict": strict, "pooled": naive}


def _sign(delta: float, half: float) -> str:
    if abs(delta) <= half:
        return "undecided"
    return "better" if delta > 0 else "worse"


def is_false(verdict: str, difference: float, negligible: float = np.inf) -> bool:
    """Whether a verdict claims what is not so."""
    if verdict == "negligible":
        return abs(difference) >= negligible
    return verdict in ("better", "worse") and verdict != _sign(difference, 0.0)


def false_claims(method: str, scatter: str, variants: int, seeds: int, count: int) -> int:
    """Count the studies without any difference in which a method finds one."""
    rng = np.random.default_rng(0)
    none = [0.0] * (variants - 1)
    return sum(
        any(word != "undecided" for word in METHODS[method](values(rng, scatter, none, seeds)))
        for _ in range(count)
    )


def power(method: str, scatter: str, seeds: int, difference: float, count: int) -> float:
    """Return the share of studies of 22 variants that find the only level that differs."""
    rng = np.random.default_rng(1)
    differences = [difference, *[0.0] * 20]
    return (
        sum(
            METHODS[method](values(rng, scatter, differences, seeds))[0] == "better"
            for _ in range(count)
        )
        / count
    )


@dataclass(frozen=True)
class Outcome:
    """What many studies of levels of every kind came to."""

    correct: float  # share of verdicts
    false: float  # share of studies with a false claim
    trainings: float  # mean of a study


MIXED = [(0.0, 0.5, 1.0)[level % 3] for level in range(21)]


def fixed(seeds: int, count: int, scatter: str, negligible: float = 0.5) -> Outcome:
    """Judge studies of levels of no, half and a whole point's difference, after so many seeds."""
    rng = np.random.default_rng(2)
    verdicts = [joint(values(rng, scatter, MIXED, seeds), negligible) for _ in range(count)]
    return _outcome(verdicts, [seeds * (1 + len(MIXED))] * count, negligible)


def until_sure(max_seeds: int, count: int, scatter: str, negligible: float = 0.5) -> Outcome:
    """Judge the same by the sequential rule."""
    rng = np.random.default_rng(2)
    pairs = comparisons(len(MIXED))
    verdicts, trainings = [], []
    for _ in range(count):
        study = values(rng, scatter, MIXED, max_seeds)
        path = follow(pairs, study, max_seeds=max_seeds, negligible=negligible)
        verdicts.append([path.decisions[pair].verdict for pair in pairs])
        seeds = [path.decisions[pair].seeds for pair in pairs]
        trainings.append(sum(seeds) + max(seeds))  # the baseline goes as far as the last
    return _outcome(verdicts, trainings, negligible)


def _outcome(
    verdicts: Sequence[Sequence[str]], trainings: Sequence[int], negligible: float
) -> Outcome:
    right = ["negligible" if difference == 0 else "better" for difference in MIXED]
    return Outcome(
        correct=float(
            np.mean([[a == b for a, b in zip(own, right, strict=True)] for own in verdicts])
        ),
        false=float(
            np.mean(
                [
                    any(is_false(*pair, negligible) for pair in zip(own, MIXED, strict=True))
                    for own in verdicts
                ]
            )
        ),
        trainings=float(np.mean(trainings)),
    )


FACTORS = {"a": [0, 1], "b": [0, 1], "c": [0, 1], "d": [0, 1, 2]}


def factorial(rng: np.random.Generator, seeds: int, seed_by_factor: float) -> list[Observation]:
    """Simulate all cells without any main effect; what a factor does differs between seeds."""
    shared = {
        (factor, level, seed): rng.normal(0, seed_by_factor)
        for factor, levels in FACTORS.items()
        for level in levels
        for seed in range(seeds)
    }
    split = rng.normal(0, SEED_SPREAD, seeds)
    return [
        Observation(
            levels=(named := dict(zip(FACTORS, cell, strict=True))),
            block=seed,
            value=split[seed]
            + rng.normal(0, 0.3)
            + sum(shared[factor, level, seed] for factor, level in named.items()),
        )
        for cell in itertools.product(*FACTORS.values())
        for seed in range(seeds)
    ]


def factorial_claims(seeds: int, seed_by_factor: float, count: int) -> tuple[int, int]:
    """Count the studies with a false claim: in the table of levels, in the analysis of variance."""
    rng = np.random.default_rng(3)
    table = variance = 0
    for _ in range(count):
        runs = factorial(rng, seeds, seed_by_factor)
        samples: dict[Comparison, tuple[dict[Hashable, float], dict[Hashable, float]]] = {}
        for factor, levels in FACTORS.items():
            by_level: list[dict[Hashable, float]] = [
                {
                    seed: float(
                        np.mean(
                            [r.value for r in runs if r.block == seed and r.levels[factor] == level]
                        )
                    )
                    for seed in range(seeds)
                }
                for level in levels
            ]
            for level in levels[1:]:
                samples[(factor, level), (factor, 0)] = by_level[0], by_level[level]
        judged = judge_factorial(samples).values()
        table += any(own.p_adjusted is not None and own.p_adjusted <= ALPHA for own in judged)
        analysis = analyse(FACTORS, runs)
        assert isinstance(analysis, Anova)
        variance += any(term.p_holm is not None and term.p_holm <= ALPHA for term in analysis.terms)
    return table, variance
