"""The candidates of a search: how good each is, which is best, and how much of that is luck.

A candidate is one choice of parameters. It is tried on one seed; the survivors are run again on
further seeds. Pure functions. Only finished trials enter a figure: a pruned trial's accuracy is
that of a training that was stopped.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.statistics.block_design import BlockDesign
from analysis.statistics.effect_sizes import ROUNDING
from analysis.statistics.effects import Row, columns, summarize
from analysis.statistics.pareto import front
from analysis.statistics.power import CONFIDENCE
from analysis.trials import Trial, finished
from fmnist_common.designs import is_settled

BASELINE = "baseline"  # the variant of candidate 0


@dataclass(frozen=True, kw_only=True)
class Candidate(Row):
    """What the finished trials of one choice of parameters have in common, one trial a seed."""

    number: int  # of the trial that first ran these parameters
    variant: str  # "baseline" or "#57"
    changes: dict[str, Any]  # what differs from the baseline
    config: dict[str, Any]
    val_accuracy_low: float | None  # 95 % t-interval of the mean over seeds
    val_accuracy_high: float | None
    first: float | None  # validation accuracy on the seed that all candidates were tried on
    later: tuple[float, ...]  # on the further seeds
    later_seeds: tuple[int | None, ...]  # those seeds, in the same order
    objectives: tuple[float, ...]  # mean of each of the study's objectives


@dataclass(frozen=True)
class WinnersCurse:
    """How much luck there may be in the winner's accuracy. Accuracies are fractions."""

    variant: str
    n: int  # seeds of the winner
    val_accuracy_mean: float
    candidates: int  # finished or pruned on the first seed: so many chances to be lucky
    expected_maximum: float  # of so many independent standard normals
    noise: float  # standard deviation of a candidate's accuracy on a seed, beside what all share
    noise_source: str  # a key of NOISE_SOURCES
    overestimate: float  # expected maximum * noise / sqrt(n): what luck alone would give
    corrected: float
    repeated: int  # candidates that ran on further seeds
    later_n: int  # seeds of the winner beside the one it was picked out on
    later_mean: float | None
    later_low: float | None  # 95 % t-interval
    later_high: float | None
    later_overestimate: float | None  # what luck alone would give among those repeated


NOISE_SOURCES = {
    "residual": "what is left of candidates repeated on the same seeds, beside what a seed does to "
    "all",
    "later seeds": "pooled over the seeds that candidates were repeated on, with the luck of these "
    "seeds, which makes it rather too large",
    "all seeds": "pooled over all seeds of the repeated candidates, the one that picked them "
    "out included, which makes it rather too large",
    "binomial": "the binomial standard error of the validation images alone, as no candidate was "
    "repeated: training adds to it",
}


@dataclass(frozen=True)
class Epochs:
    """What a search cost, in epochs of training."""

    per_trial: int  # full length
    spent: int  # by search trials that ended, crashed ones included
    full: int  # settled search trials * full length: the cost without stopping early
    saved_by_pruning: int
    replicates: int  # spent on further seeds, beside the search


@dataclass(frozen=True)
class Curve:
    """The best accuracy so far, after each settled search trial in order of completion."""

    trials: NDArray[np.int64]  # (t,) numbers
    epochs: NDArray[np.int64]  # (t,) spent so far
    best: NDArray[np.float64]  # (t,) validation accuracy of a finished trial; NaN before the first


def settled(trial: Trial) -> bool:
    """Whether a trial has its result: finished, pruned or diverged; a crashed one runs again."""
    return is_settled(trial.state, trial.outcome)


def first_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Leave out the replicates: trials of a candidate on another seed than its first trial's."""
    seeds = {trial.number: trial.seed for trial in trials}
    return [trial for trial in trials if seeds.get(_number(trial), trial.seed) == trial.seed]


def replicates(trials: Sequence[Trial]) -> list[Trial]:
    """Pick the trials that repeat a candidate on a further seed."""
    firsts = {trial.number for trial in first_trials(trials)}
    return [trial for trial in trials if trial.number not in firsts]


def tried(trials: Sequence[Trial]) -> int:
    """Count the candidates that had a chance to be the best: those finished and those pruned."""
    search = first_trials(trials)
    return len({_number(trial) for trial in search if trial.state in ("COMPLETE", "PRUNED")})


def _number(trial: Trial) -> int:
    return trial.number if trial.candidate is None else trial.candidate


def ranked(
    trials: Sequence[Trial],
    *,
    lower_is_better: bool = False,
    sure_from: int | None = None,
    fractions: bool = True,
) -> list[Candidate]:
    """List the candidates with a finished trial, best first.

    The rule: those with the most seeds come first, and among these the highest mean validation
    accuracy (then the lower number). A candidate seen on one seed so never beats one that was
    confirmed on k seeds: of many single runs the best is mostly a lucky one, and a search repeats
    what looks best, so that the number of seeds is itself a rank.

    Args:
        trials: of the search.
        lower_is_better: whether the lowest mean is the best.
        sure_from: so many seeds are as good as more, where any candidate has so many: in results
            of others nobody repeated what looked best. None: every further seed counts.
        fractions: whether values are accuracies.
    """
    firsts = {trial.number for trial in first_trials(trials)}
    groups: dict[int, list[Trial]] = defaultdict(list)
    for trial in finished(trials):
        groups[_number(trial)].append(trial)
    candidates = [_candidate(number, group, firsts, fractions) for number, group in groups.items()]
    sign = 1 if lower_is_better else -1

    def rank(candidate: Candidate) -> tuple[float, ...]:
        seeds = candidate.n if sure_from is None else min(candidate.n, sure_from)
        return -seeds, sign * (candidate.val_accuracy_mean or 0.0), candidate.number

    return sorted(candidates, key=rank)


def _candidate(
    number: int, trials: Sequence[Trial], firsts: Iterable[int], fractions: bool
) -> Candidate:
    example = trials[0]
    values = [trial.value for trial in trials if trial.value is not None]
    low, high = mean_interval(values, fractions=fractions)
    first = [trial.value for trial in trials if trial.number in firsts]
    later = [trial for trial in trials if trial.value is not None and trial.number not in firsts]
    return Candidate(
        number=number,
        variant=example.label,
        changes=example.changes,
        config=example.config,
        val_accuracy_low=low,
        val_accuracy_high=high,
        first=first[0] if first else None,
        later=tuple(trial.value for trial in later if trial.value is not None),
        later_seeds=tuple(trial.seed for trial in later),
        objectives=tuple(np.mean([trial.values for trial in trials], axis=0).tolist()),
        **columns(trials),
    )


def mean_interval(
    values: Sequence[float], *, fractions: bool = True
) -> tuple[float | None, float | None]:
    """Return the 95 % t-interval of the mean of values of shape (n,) (Student 1908).

    Of fractions it ends at 0 and at 1, as accuracies do, which Student's t does not know. None for
    fewer than two values, and for values without any spread, which is a coincidence.
    """
    summary = summarize(values)
    if summary.mean is None or summary.std is None or summary.std < ROUNDING:
        return None, None
    half = (
        float(special.stdtrit(summary.n - 1, (1 + CONFIDENCE) / 2))
        * summary.std
        / math.sqrt(summary.n)
    )
    low, high = summary.mean - half, summary.mean + half
    return (max(0.0, low), min(1.0, high)) if fractions else (low, high)


def baseline(candidates: Iterable[Candidate]) -> Candidate | None:
    """Pick the baseline's candidate, if it has finished."""
    return next((candidate for candidate in candidates if candidate.variant == BASELINE), None)


def on_front(candidates: Sequence[Candidate], directions: Sequence[str]) -> list[Candidate]:
    """Pick those that no other dominates by its mean objectives, best first objective first.

    A search of several objectives without pruning repeats few: a front holds lucky single runs.
    """
    marked = front([candidate.objectives for candidate in candidates], directions)
    chosen = [candidate for candidate, on in zip(candidates, marked, strict=True) if on]
    sign = 1 if directions[0] == "MINIMIZE" else -1
    return sorted(chosen, key=lambda candidate: (sign * candidate.objectives[0], candidate.number))


def expected_maximum(m: int) -> float:
    """Return the expected maximum of m independent standard normals.

    The integral of z * m * phi(z) * Phi(z)**(m - 1) by the trapezoidal rule, whose error falls
    geometrically for an analytic integrand that vanishes at both ends (Trefethen and Weideman,
    SIAM Review 2014): exact to about 1e-14 at this step.
    """
    z = np.linspace(-12.0, 12.0, 961)  # beyond, phi is below 1e-31
    log_density = math.log(m) - z * z / 2 - math.log(2 * math.pi) / 2
    return float(np.sum(z * np.exp(log_density + (m - 1) * special.log_ndtr(z))) * (z[1] - z[0]))


def winners_curse(
    candidates: Sequence[Candidate],
    tried: int,
    validation_images: int | None,
    *,
    lower_is_better: bool = False,
    fractions: bool = True,
) -> WinnersCurse | None:
    """Estimate how much too good the best candidate looks for having been picked as the best.

    Were all m candidates equally good, the best of them would lie the expected maximum of m
    standard normals times the noise above the truth; where they differ, luck decides less. So the
    correction is what to expect in the worst case. The winner's mean over n seeds has a noise of
    sd / sqrt(n), and a search that repeats only the most promising picks no luckier mean than one
    that repeats them all would; for the same reason m, `tried`, counts those that were pruned.
    Candidates on the same seed share the luck of its split, which picks none of them out: the noise
    is what a candidate's accuracy on a seed has beside that.

    The winner's further seeds are free of the luck that picked it out of all m: their mean is an
    unbiased estimate if no other candidate was repeated. Else they decided among those that were,
    and the same bound holds with their number in place of m and the further seeds in place of n.

    None without a finished candidate, or without anything to judge the noise by.
    """
    if not candidates or candidates[0].val_accuracy_mean is None:
        return None
    best, mean = candidates[0], candidates[0].val_accuracy_mean
    estimate = noise(candidates, validation_images)
    if estimate is None:
        return None
    sd, source = estimate
    m = max(1, tried)
    repeated = sum(bool(candidate.later) for candidate in candidates)
    overestimate = expected_maximum(m) * sd / math.sqrt(best.n)
    low, high = mean_interval(best.later, fractions=fractions)
    return WinnersCurse(
        variant=best.variant,
        n=best.n,
        val_accuracy_mean=mean,
        candidates=m,
        expected_maximum=expected_maximum(m),
        noise=sd,
        noise_source=source,
        overestimate=overestimate,
        corrected=mean + overestimate if lower_is_better else mean - overestimate,
        repeated=repeated,
        later_n=len(best.later),
        later_mean=summarize(best.later).mean,
        later_low=low,
        later_high=high,
        later_overestimate=expected_maximum(repeated) * sd / math.sqrt(len(best.later))
        if best.later
        else None,
    )


def noise(
    candidates: Sequence[Candidate], validation_images: int | None
) -> tuple[float, str] | None:
    """Return the standard deviation of a candidate's accuracy on a seed, and where it comes from.

    The residual of candidate + seed where candidates share seeds (`crossed_deviation`). Else the
    spread within candidates, which holds the seeds' own luck too: over the seeds they were repeated
    on, as the one that picked them out is high by choice; or over all of their seeds. Where none
    was repeated, the binomial standard error of the best candidate's accuracy on the validation
    images, which knows nothing of the luck of the initialisation.
    """
    runs: dict[Hashable, dict[Any, float]] = {
        row.number: ({} if row.first is None else {"first": row.first})
        | dict(zip(row.later_seeds, row.later, strict=True))
        for row in candidates
    }
    if (residual := crossed_deviation(runs)) is not None:
        return residual, "residual"
    for source, values in (
        ("later seeds", [row.later for row in candidates]),
        ("all seeds", [(row.first, *row.later) for row in candidates if row.first is not None]),
    ):
        sd = pooled_std([sample for sample in values if len(sample) > 1])
        if sd is not None:
            return sd, source
    p = candidates[0].val_accuracy_mean
    if not validation_images or p is None or not 0 <= p <= 1:
        return None
    return math.sqrt(p * (1 - p) / validation_images), "binomial"


def crossed_deviation(runs: Mapping[Hashable, Mapping[Any, float]]) -> float | None:
    """Return the standard deviation about candidate + seed, where only the promising go on.

    Candidates are a sample, of which those with good values get further seeds: by restricted
    likelihood with their effects as random ones, all values that this choice rests on count, and it
    does no harm (Rubin 1976). Least squares would take the survivors' luck for theirs.

    Args:
        runs: accuracies by candidate and seed.

    Returns:
        None where no two candidates share two seeds.
    """
    if BlockDesign([], runs).residual_degrees == 0:
        return None
    seeds = list(dict.fromkeys(seed for row in runs.values() for seed in row))
    present = np.array([[seed in row for seed in seeds] for row in runs.values()], float)
    values = np.array([[row.get(seed, 0.0) for seed in seeds] for row in runs.values()])
    counts, sums = present.sum(axis=1), values.sum(axis=1)
    best, deviation = -math.inf, 0.0
    # Variance of candidates over that of runs. Below 0 it is no variance, but without it the noise
    # of equally good candidates would be too small.
    least = -0.95 / float(counts.max())
    for ratio in (*np.linspace(least, 0, 30), *np.geomspace(1e-3, 1e4, 141)):
        shrunk = ratio / (1 + ratio * counts)
        normal = np.diag(present.sum(axis=0)) - (present * shrunk[:, None]).T @ present
        right = values.sum(axis=0) - present.T @ (shrunk * sums)
        squares = np.sum(values**2) - shrunk @ sums**2 - right @ np.linalg.solve(normal, right)
        degrees = counts.sum() - len(seeds)
        likelihood = -(
            degrees * math.log(max(squares, 1e-300))
            + np.sum(np.log1p(ratio * counts))
            + np.linalg.slogdet(normal)[1]
        )
        if likelihood > best:
            best, deviation = likelihood, math.sqrt(max(squares, 0.0) / degrees)
    return deviation


def pooled_std(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the standard deviation within groups of at least two values; None without any."""
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    return math.sqrt(squares / freedom) if freedom else None


def validation_images(
    plan: Mapping[str, Any], dataset: Mapping[str, Any], best: Candidate | None
) -> int | None:
    """Count the images that a validation accuracy is measured on, if the database tells."""
    if dataset.get("validation_images"):  # the data brings them
        return int(dataset["validation_images"])
    drawn = plan.get("subset") or dataset.get("train_images")
    fraction = best.config.get("validation_fraction") if best is not None else None
    return round(drawn * fraction) if drawn and fraction else None


def epochs(plan: Mapping[str, Any], trials: Sequence[Trial]) -> Epochs | None:
    """Add up the epochs of a search; None for a plan without a full length."""
    full = plan.get("epochs")
    if full is None:
        return None
    search = first_trials(trials)

    def total(chosen: Iterable[Trial], of: Callable[[Trial], int]) -> int:
        return sum(map(of, chosen))

    ended = [trial for trial in search if trial.state in ("COMPLETE", "PRUNED", "FAIL")]
    return Epochs(
        per_trial=full,
        spent=total(ended, lambda trial: trial.epochs),
        full=full * sum(map(settled, search)),
        saved_by_pruning=total(
            (trial for trial in search if trial.state == "PRUNED"),
            lambda trial: full - trial.epochs,
        ),
        replicates=total(replicates(trials), lambda trial: trial.epochs),
    )


def best_so_far(trials: Sequence[Trial]) -> Curve:
    """Follow the best validation accuracy of the search, without its replicates.

    A finished trial may raise it; a pruned or diverged one only costs epochs.
    """
    search = sorted(
        (trial for trial in first_trials(trials) if settled(trial)),
        key=lambda trial: (trial.completed is None, trial.completed, trial.number),
    )
    counted = {trial.number for trial in finished(search)}
    values = [
        trial.value if trial.number in counted and trial.value is not None else -np.inf
        for trial in search
    ]
    best = np.maximum.accumulate(np.array(values, float))
    return Curve(
        trials=np.array([trial.number for trial in search], np.int64),
        epochs=np.cumsum(np.array([trial.epochs for trial in search], np.int64)),
        best=np.where(np.isfinite(best), best, np.nan),
    )
