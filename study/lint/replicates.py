"""How many runs are behind each figure, and whether they are runs of their own."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from statistics import median

from fmnist_common.collapse import collapsed
from fmnist_common.designs import is_settled
from study.lint.context import Context, TrialRecord
from study.lint.finding import Finding, Severity, counted, listed
from study.lint.leads import ENOUGH, mean, standard_error

# Of the difference of two accuracies on as many images each, two standard errors wide.
TWO_ERRORS = 2 * math.sqrt(2)
DECIMALS = 4  # of an accuracy that is a count of thousands of images


# Too few.


def _source_runs(context: Context) -> Iterator[Finding]:
    if context.source is None or context.source.get("runs", ENOUGH) >= ENOUGH:
        return
    runs, images = context.source["runs"], context.source.get("test_images")
    figures = [
        entry["test_accuracy"]
        for entry in context.plan.get("reported", ())
        if "test_accuracy" in entry
    ]
    behind = "one run" if runs == 1 else f"{runs} runs" if runs else "an unknown number of runs"
    message = f"Behind each figure of {context.source['name']} is {behind}"
    if images and len(figures) > 1:
        error = standard_error(median(figures), images)
        near = sum(max(figures) - figure < TWO_ERRORS * error for figure in figures) - 1
        message += (
            f". A test of {images:,} images at {100 * median(figures):.1f} % has a binomial "
            f"standard error of {100 * error:.2f} points: {near} of the {len(figures) - 1} figures "
            "below its best are within two standard errors of a difference "
            f"({100 * TWO_ERRORS * error:.2f} points) of it"
        )
    yield Finding("single-run", "note", "source", f"{message}. Trust only large differences.")


def _planned_runs(context: Context) -> Iterator[Finding]:
    """Find too few replicates: planned ones, or those of an imported file."""
    seeds = context.plan.get("seeds")
    if context.imported is not None or not isinstance(seeds, int) or seeds >= ENOUGH:
        return
    images = context.facts.test_images if context.facts else 10_000
    scale = (
        f"a single test of {images:,} images at 93 % has a binomial standard error of "
        f"{100 * standard_error(0.93, images):.2f} points, and training adds to it"
    )
    yield Finding(
        "single-run",
        _gravity(context.design, seeds),
        "plan",
        f"{counted(seeds, 'seed')}: {scale}. Run at least {ENOUGH} (--seeds).",
    )


def _gravity(design: str | None, runs: int) -> Severity:
    """Return how bad so few runs are. Other designs than ablations average over their cells."""
    return "error" if design == "ablation" and runs < 2 else "warning"


def _counted_runs(context: Context) -> Iterator[Finding]:
    counts = {label: len(_distinct(runs)) for label, runs in context.by_variant.items()}
    few = [label for label, count in counts.items() if count < ENOUGH]
    if context.imported is None or not few or len(counts) < 2:
        return
    typical = int(median(counts.values()))
    message = (
        f"{len(few)} of {len(counts)} settings have fewer than {ENOUGH} runs"
        f" ({'mostly one' if typical == 1 else f'typically {typical}'}), so nothing says how much "
        "of a difference is chance"
    )
    yield Finding(
        "single-run",
        _gravity(context.design, typical),
        "results",
        f"{message}{_crowd(context)}. Repeat "
        f"{'the best' if context.design == 'search' else 'each'} with {ENOUGH} seeds or more.",
    )


def _crowd(context: Context) -> str:
    """Say how many settings the noise of single figures cannot tell from the best."""
    if context.facts is None or len(context.by_variant) < 2:
        return ""
    means = sorted(
        (mean(trial.value or 0.0 for trial in runs) for runs in context.by_variant.values()),
        reverse=True,
    )
    width = TWO_ERRORS * standard_error(means[0], context.facts.test_images)
    near = sum(means[0] - other < width for other in means[1:])
    if not near:
        return ""
    return (
        f". The best leads the next by {100 * (means[0] - means[1]):.2f} points, and {near} of the "
        f"{len(means) - 1} others lie within two standard errors of a difference between tests of "
        f"{context.facts.test_images:,} images ({100 * width:.2f} points)"
    )


def _unfinished(context: Context) -> Iterator[Finding]:
    """Find variants of ours that have fewer runs than were planned, and too few.

    A diverged run is none that is missing: its seed would diverge again.
    """
    if context.ours is None or context.ours.search is not None or not context.trials:
        return
    variants, seeds = context.ours.variants, context.ours.seeds
    settled = {
        (trial.label, trial.seed)
        for trial in context.trials
        if is_settled(trial.state, _outcome(trial))
    }
    waiting = [
        variant.label
        for variant in variants
        if sum((variant.label, seed) in settled for seed in range(seeds)) < seeds
        and len(context.by_variant.get(variant.label, ())) < ENOUGH
    ]
    if seeds < ENOUGH or not waiting:
        return
    running = any(trial.state == "RUNNING" for trial in context.trials)
    yield Finding(
        "single-run",
        "note" if running else "warning",
        "results",
        f"{len(waiting)} of {len(variants)} variants have fewer than {ENOUGH} finished runs so "
        f"far, of {seeds} planned. "
        + ("The study is running." if running else "Run the study again: it goes on where it was."),
    )


# Not runs of their own.


def _copied(context: Context) -> Iterator[Finding]:
    """Find rows of others that repeat another row's figures and so are no replicates."""
    if context.ours is not None:
        return
    copied = {
        label: len(runs) - len(_distinct(runs))
        for label, runs in context.by_variant.items()
        if len(_distinct(runs)) < len(runs)
    }
    if copied:
        sure = any(_repeats_a_loss_or_course(context.by_variant[label]) for label in copied)
        yield Finding(
            "copied-runs",
            "error" if sure else "warning",
            "results",
            f"{sum(copied.values())} of {len(context.finished)} runs have every figure of another "
            f"run of the same setting, to the last digit ({listed(list(copied))}): copies, or one "
            "seed trained again. They are no replicates, and make differences look surer than "
            "they are. Count each once, and train with other seeds.",
        )


def _distinct(runs: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the runs of a setting without those that repeat another.

    Runs that agree in a loss, or in a course that moves, are one; accuracies alone are counts of
    images, of which two may agree by chance: of those all must.
    """
    first: dict[Hashable, TrialRecord] = {}
    for number, trial in enumerate(runs):
        first.setdefault(_fingerprint(trial) or number, trial)
    accuracies = {(trial.value, trial.test_accuracy) for trial in runs}
    if len(first) == len(runs) >= ENOUGH and len(accuracies) == 1 and _is_precise(runs[0]):
        return [runs[0]]
    return list(first.values())


def _repeats_a_loss_or_course(runs: Sequence[TrialRecord]) -> bool:
    prints = [fingerprint for trial in runs if (fingerprint := _fingerprint(trial)) is not None]
    return len(set(prints)) < len(prints)


def _fingerprint(trial: TrialRecord) -> Hashable:
    """Return all figures of a run; None: they are too few to tell runs apart."""
    losses = [trial.val_loss, trial.test_loss, *(e.get("train_loss") for e in trial.history)]
    moves = {epoch.get("val_accuracy") for epoch in trial.history}
    if not any(loss is not None and math.isfinite(loss) for loss in losses) and len(moves) < 3:
        return None
    course = tuple(
        tuple(sorted((name, repr(figure)) for name, figure in epoch.items()))
        for epoch in trial.history
    )
    return (trial.value, trial.test_accuracy, trial.val_loss, trial.test_loss, course)


def _is_precise(trial: TrialRecord) -> bool:
    """Whether an accuracy has so many digits that equal ones are no matter of rounding."""
    return trial.value is not None and round(trial.value, DECIMALS - 1) != trial.value


# Runs that ended otherwise than the others.


def _survivors(context: Context) -> Iterator[Finding]:
    """Find variants that lost some of their runs, so that those left say how a good one ends."""
    finished = {(trial.label, trial.seed) for trial in context.finished}
    lost: Mapping[str, dict[Hashable, TrialRecord]] = defaultdict(dict)
    for number, trial in enumerate(context.trials):
        ended = context.imported is not None or _outcome(trial) == "diverged"
        if trial.state == "FAIL" and ended and (trial.label, trial.seed) not in finished:
            lost[trial.label][number if trial.seed is None else trial.seed] = trial
    if context.plan and lost:
        verb = "diverged" if context.imported is None else "failed"
        yield from _some_lost(context, lost, verb)
        yield from _all_lost(context, lost, verb)


def _some_lost(
    context: Context, lost: Mapping[str, Mapping[Hashable, TrialRecord]], verb: str
) -> Iterator[Finding]:
    some = {label: runs for label, runs in lost.items() if label in context.by_variant}
    if not some:
        return
    shares = [
        f"{label} on {len(runs)} of {len(runs) + len(context.by_variant[label])}"
        for label, runs in some.items()
    ]
    repeated = all(context.is_reported(context.by_variant[label][0].changes) for label in some)
    yield Finding(
        "survivors",
        "note" if repeated else "warning",
        "results",
        f"{counted(len(some), 'setting')} {verb} on some seeds: {listed(shares)}. The means of "
        "the others are those of survivors, which a run of this setting may not be: call none of "
        "them better, and say how often it fails.",
    )


def _all_lost(
    context: Context, lost: Mapping[str, Mapping[Hashable, TrialRecord]], verb: str
) -> Iterator[Finding]:
    none_left = [label for label in lost if label not in context.by_variant]
    if context.design == "search" or not none_left:
        return
    why = "the same seeds would diverge again. A lower learning rate may help."
    yield Finding(
        "survivors",
        "note",
        "results",
        f"{counted(len(none_left), 'setting')} {verb} on every seed that ran: {listed(none_left)}. "
        f"That is a result, and nothing is missing{f': {why}' if verb == 'diverged' else '.'}",
    )


def _collapsed(context: Context) -> Iterator[Finding]:
    """Find single runs far behind the others of their variant."""
    values = {
        label: {
            number if trial.seed is None else trial.seed: trial.value or 0.0
            for number, trial in enumerate(runs)
        }
        for label, runs in context.by_variant.items()
    }
    for run in collapsed(values) if context.plan else ():
        repeated = context.is_reported(context.by_variant[run.variant][0].changes)
        yield Finding(
            "collapsed-run",
            "note" if repeated else "warning",
            "results",
            f"{run.variant}: seed {run.seed} ends at {100 * run.value:.2f} %, and half of its "
            f"{len(values[run.variant])} runs at {100 * run.median:.2f} % or more: it collapsed, "
            "and the mean describes neither kind of run. Look at its course, and say how often "
            "that happens.",
        )


def _outcome(trial: TrialRecord) -> str | None:
    """Return how a trial ended, in the trainer's word; results of others have none."""
    return getattr(trial, "outcome", None)


CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    _source_runs,
    _planned_runs,
    _counted_runs,
    _unfinished,
    _copied,
    _survivors,
    _collapsed,
)
