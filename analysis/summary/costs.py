"""What a study costs, and what its best variant costs compared with the baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.inference_cost import typical
from analysis.statistics.rows import same
from analysis.tables.effect_figures import EffectFigures
from analysis.text import printable
from analysis.training_times import trained_here, wall_seconds
from analysis.trials import Trial, finished, known
from analysis.wording import count, listed, some
from fmnist_common.text import duration

ALIKE = 0.05  # costs whose ratio is so close to 1 are about the same


def of_best(table: EffectFigures, trials: Sequence[Trial]) -> list[str]:
    """Say which variant has the highest mean, and what it costs."""
    best, done = table.progress.best, finished(trials)
    base = [trial for trial in done if trial.variant is not None and not trial.changes]
    if best is None or not base or len(base) == len(done):  # nothing to be the best of
        return []
    replicates = [trial for trial in done if trial.label == best.variant]
    all_of_them = "all variants"
    if table.baseline.failed or any(effect.failed for effect in table.effects):
        all_of_them = "the variants that never failed"
    most = "lowest" if table.quantity.lower_is_better else "highest"
    highest = f"has the {most} mean {table.progress.objective} of {all_of_them}"
    if best.variant == base[0].label:
        return [f"The baseline {highest}."]
    effects = [
        effect
        for effect in table.effects
        if same(effect.changes, replicates[0].changes) and not effect.against
    ]
    doubt = ", which is not proven better than the baseline"
    if any(effect.claim == "better" for effect in effects):
        doubt = ""
    elif not effects:  # a cell of a factorial, or a step of the path
        doubt = "; the combination itself was not tested against the baseline"
    seeds = ", a single run" if best.n == 1 else ""
    return [
        f"{printable(best.variant)} {highest}, {table.quantity.amount(best.mean)}{seeds}{doubt}."
        f"{_ratios(replicates, base)}"
    ]


def _ratios(variant: Sequence[Trial], base: Sequence[Trial]) -> str:
    """Say how the costs of a variant compare with the baseline's, in a sentence.

    Seconds and latency are measured, and vary with what else the machine does: where trials of both
    lie among each other there is no clear difference.
    """
    differing, alike, unclear = [], [], []
    for name, thing in (
        ("parameters", "parameters"),
        ("seconds", "training time"),
        ("latency_ms", "latency"),
    ):
        here, there = typical(variant, name), typical(base, name)
        if here is None or not there:
            continue
        ratio = here / there
        ours, theirs = known(variant, name), known(base, name)
        if abs(ratio - 1) < ALIKE:
            alike.append(thing)
        elif min(ours) > max(theirs) or max(ours) < min(theirs):
            differing.append(f"{times(ratio)} times the {thing}")
        else:
            unclear.append(thing)
    words = differing + ([f"about the same {listed(alike)}"] if alike else [])
    clauses = [listed(words)] if words else []
    if unclear:
        clauses.append(f"no clear difference in {listed(unclear)}")
    return f" Compared with the baseline it has {', and '.join(clauses)}." if clauses else ""


def times(ratio: float) -> str:
    """Write how many times as much something is."""
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:,.0f}"


def of_study(plan: Mapping[str, Any], trials: Sequence[Trial]) -> list[str]:
    """Say how long the trainings took, and on which devices."""
    seconds = [trial.seconds for trial in trials if trial.seconds is not None]
    if not seconds:
        return []
    devices = list(dict.fromkeys(printable(trial.device) for trial in trials if trial.device))
    on = f" on {some(devices)}" if devices else ""
    wall = wall_seconds(trained_here(plan, trials))
    within = "" if wall is None else f", within {duration(wall)} of wall time"
    took = duration(sum(seconds))
    return [f"{count(len(seconds), 'training')} took {took} in all{on}{within}."]
