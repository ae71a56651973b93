"""Do the estimates keep their promises? Simulated studies whose truth is known, fixed seeds.

Each count of studies is held against the binomial distribution that the promise implies: a test
fails where so many or more would happen once in a thousand times if the promise held.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.effect_sizes import paired_improvement, unpaired_improvement
from analysis.statistics.factorial import Anova, analyse
from analysis.statistics.factorial_model import Observation
from analysis.statistics.paired import holm, paired_difference
from analysis.statistics.power import detectable, needed, power
from analysis.statistics.proportions import Z
from analysis.statistics.resampling import bca_interval, sign_flip

SEED_SPREAD = 0.008  # what a seed brings to all variants: its split, its data order
NOISE = 0.002  # of a run beside that
LONG = pytest.mark.slow
STUDIES = [pytest.param(5_000, id="short"), pytest.param(50_000, id="long", marks=LONG)]
FACTORIALS = [pytest.param(150, id="short"), pytest.param(3_000, id="long", marks=LONG)]
FEW_STUDIES = [pytest.param(300, id="short"), pytest.param(3_000, id="long", marks=LONG)]


def at_most(count: int, studies: int, rate: float) -> bool:
    return float(stats.binom.sf(count - 1, studies, rate)) > 1e-3


def at_least(count: int, studies: int, rate: float) -> bool:
    return float(stats.binom.cdf(count, studies, rate)) > 1e-3


def runs(
    rng: np.random.Generator, variants: int, seeds: int, noise: float = NOISE
) -> list[dict[int, float]]:
    """Accuracies of equally good variants by seed."""
    shared = rng.normal(0.9, SEED_SPREAD, seeds)
    return [
        dict(enumerate((shared + rng.normal(0, noise, seeds)).tolist())) for _ in range(variants)
    ]


@pytest.mark.parametrize("studies", STUDIES)
@pytest.mark.parametrize("seeds", [3, 5])
def test_a_study_without_effects_claims_one_in_at_most_5_percent(seeds: int, studies: int) -> None:
    rng = np.random.default_rng(1)
    claims = uncorrected = 0
    for _ in range(studies):
        baseline, *levels = runs(rng, 1 + 12, seeds)
        p_values = [paired_difference(baseline, level).p_value for level in levels]
        claims += any(p is not None and p <= 0.05 for p in holm(p_values))
        uncorrected += any(p is not None and p <= 0.05 for p in p_values)
    assert at_most(claims, studies, 0.05)
    assert uncorrected > 0.25 * studies  # what the correction is for


@pytest.mark.parametrize("studies", STUDIES)
@pytest.mark.parametrize("seeds", [2, 3, 5, 15])
def test_the_shown_interval_covers_the_truth_in_95_percent(seeds: int, studies: int) -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(studies):
        baseline, level = runs(rng, 2, seeds)
        found = paired_difference(baseline, {seed: own + 0.003 for seed, own in level.items()})
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.003 <= found.high
    assert at_least(covered, studies, 0.95)
    assert at_most(covered, studies, 0.95)
    assert 0.93 <= covered / studies <= 0.97


@pytest.mark.parametrize("studies", STUDIES)
def test_accuracies_that_are_counts_of_few_images_are_covered_as_well(studies: int) -> None:
    # Three seeds of 300 images each: differences are multiples of a third of a point.
    rng = np.random.default_rng(3)
    counts = rng.binomial(300, 0.92, (studies, 2, 3)) / 300
    found = [paired_difference(dict(enumerate(a)), dict(enumerate(b))) for a, b in counts]
    known = [own for own in found if own.low is not None and own.high is not None]
    covered = sum((own.low or 0) <= 0 <= (own.high or 0) for own in known)
    assert len(known) > 0.95 * studies
    assert 0.93 <= covered / len(known) <= 0.97


@pytest.mark.parametrize("studies", STUDIES)
def test_unpaired_intervals_cover_although_spreads_differ(studies: int) -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(studies):
        baseline = dict(enumerate(rng.normal(0.9, 0.002, 5).tolist()))
        level = dict(enumerate(rng.normal(0.9, 0.006, 8).tolist(), 10))
        found = paired_difference(baseline, level)
        assert not found.paired
        covered += (found.low or 0) <= 0 <= (found.high or 0)
    assert 0.93 <= covered / studies <= 0.97


@pytest.mark.parametrize("studies", FEW_STUDIES)
def test_the_bootstrap_covers_with_many_seeds_and_not_with_few(studies: int) -> None:
    rng = np.random.default_rng(5)

    def coverage(seeds: int) -> float:
        intervals = [bca_interval(rng.normal(0, 1, seeds), rng) or (0, 0) for _ in range(studies)]
        return sum(low <= 0 <= high for low, high in intervals) / studies

    # Why the t interval is shown.
    assert coverage(5) < 0.9
    assert 0.91 <= coverage(40) <= 0.98


@pytest.mark.parametrize("studies", STUDIES)
@pytest.mark.parametrize("seeds", [5, 8])
def test_sign_flips_are_exact(seeds: int, studies: int) -> None:
    # Skewed and with heavy tails, but symmetric about no difference.
    rng = np.random.default_rng(6)
    found = [sign_flip(rng.standard_cauchy(seeds), rng) or 0 for _ in range(studies)]
    level = 2 / 2**seeds * np.floor(0.2 * 2**seeds / 2)  # the highest p that is at most 0.2
    claims = sum(p <= 0.2 for p in found)
    assert at_most(claims, studies, float(level))
    assert at_least(claims, studies, float(level))


@pytest.mark.parametrize("studies", STUDIES)
@pytest.mark.parametrize("seeds", [3, 5, 12])
def test_power_is_as_predicted(seeds: int, studies: int) -> None:
    rng = np.random.default_rng(7)
    size = detectable(seeds)
    assert size is not None
    spread = NOISE * 2**0.5
    found = 0
    for _ in range(studies):
        baseline, level = runs(rng, 2, seeds)
        shifted = {seed: own + size * spread for seed, own in level.items()}
        found += (paired_difference(baseline, shifted).p_value or 1) <= 0.05
    assert at_most(found, studies, 0.8)
    assert at_least(found, studies, 0.8)


def test_as_many_seeds_as_needed_are_enough() -> None:
    rng = np.random.default_rng(8)
    n = needed(0.5)
    assert n is not None
    tests = (stats.ttest_1samp(rng.normal(0.5, 1, n), 0) for _ in range(1000))
    found = sum(float(own.pvalue) <= 0.05 for own in tests)
    assert at_least(found, 1000, power(0.5, n))
    assert at_most(found, 1000, power(0.5, n))


@pytest.mark.parametrize("studies", STUDIES)
@pytest.mark.parametrize("seeds", [5, 10])
def test_the_chance_of_improvement_is_covered(seeds: int, studies: int) -> None:
    rng = np.random.default_rng(9)
    paired = unpaired = known = 0
    for _ in range(studies):
        size = rng.uniform(-1.5, 1.5)  # in standard deviations; of few pairs, coverage varies
        true = float(stats.norm.cdf(size))
        pairs = paired_improvement(rng.normal(size, 1, seeds))
        assert pairs.low is not None
        assert pairs.high is not None
        paired += pairs.low <= true <= pairs.high
        apart = unpaired_improvement(
            rng.normal(0, 1, seeds), rng.normal(size * 2**0.5, 1, seeds + 5)
        )
        if apart.low is not None and apart.high is not None:
            known += 1
            unpaired += apart.low <= true <= apart.high
    assert 0.93 <= paired / studies <= 0.97
    assert at_least(unpaired, known, 0.95)


FACTORS = {"a": [0, 1], "b": [0, 1], "c": [0, 1], "d": [0, 1, 2]}


@pytest.mark.parametrize("studies", FACTORIALS)
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_factorial_without_effects_claims_one_in_at_most_5_percent(
    seeds: int, studies: int
) -> None:
    rng = np.random.default_rng(10)
    claims, covered, shown = 0, 0, 0
    for _ in range(studies):
        shared = rng.normal(0.9, SEED_SPREAD, seeds)
        found = analyse(
            FACTORS,
            [
                Observation(
                    dict(zip(FACTORS, levels, strict=True)), s, shared[s] + rng.normal(0, NOISE)
                )
                for levels in itertools.product(*FACTORS.values())
                for s in range(seeds)
            ],
        )
        assert isinstance(found, Anova)
        claims += any((term.p_holm or 1) <= 0.05 for term in found.terms)
        own = found.levels[1]  # the second level of a
        covered += own.difference_low <= 0 <= own.difference_high
        covered += found.pairs[0].low <= 0 <= found.pairs[0].high
        shown += 2
    assert at_most(claims, studies, 0.05)
    assert at_least(covered, shown, 0.95)
    assert 0.92 <= covered / shown <= 0.98


@pytest.mark.parametrize("studies", STUDIES)
def test_figures_of_equal_networks_mostly_agree(studies: int) -> None:
    """The width of `reported._difference`, for a source and us with networks of equal worth."""
    rng = np.random.default_rng(11)
    true, images, seeds = 0.93, 10_000, 3
    error = (true * (1 - true) / images) ** 0.5
    critical = float(stats.t.ppf(0.975, seeds - 1))
    agree = 0
    for _ in range(studies):
        ours = true + rng.normal(0, error) + rng.normal(0, 0.001, seeds)  # one set of images
        theirs = true + rng.normal(0, error)
        half = np.hypot(critical * ours.std(ddof=1) / seeds**0.5, Z * error * 2**0.5)
        agree += abs(ours.mean() - theirs) <= half
    assert at_least(agree, studies, 0.95)
