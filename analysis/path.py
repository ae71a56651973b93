"""The ablation path: what each change adds on the way from the baseline to the best combination.

`run STUDY --path` trains the combinations that `fmnist_common/ablation_path.py` asks for; here they
are read by the same rule. Every step is the best of those tried, so its gain is optimistic: a
description of where the accuracy comes from.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from analysis import mirrored
from analysis.statistics.candidates import settled
from analysis.statistics.effects import Row, columns
from analysis.statistics.paired import NO_DIFFERENCE, Difference, paired_difference
from analysis.statistics.rows import baseline_level
from analysis.table_formats import Block, accuracies, joined
from analysis.text import percent, printable
from analysis.trials import Trial, finished
from fmnist_common import ablation_path
from fmnist_common.ablation_path import target
from fmnist_common.designs import variant_key
from fmnist_common.text import level_text

Cells = defaultdict[Hashable, dict[int, Trial]]  # a variant's point -> seed -> its trial


@dataclass(frozen=True)
class Tried:
    """A change that a step tried; the best of them was taken."""

    factor: str
    level: Any
    val_accuracy_mean: float | None  # None: it diverged for some seed


@dataclass(frozen=True, kw_only=True)
class Step(Row):
    """A change, on top of those before; the first step is the baseline and changes nothing."""

    factor: str | None
    level: Any
    changes: dict[str, Any]  # all so far
    gain: Difference  # over the step before, paired by seed
    total: Difference  # over the baseline
    tried: list[Tried]


@dataclass(frozen=True)
class AblationPath:
    """The steps so far."""

    steps: list[Step]  # the baseline first
    left: dict[str, Any]  # factor -> level that the path has not come to yet


def path(plan: Mapping[str, Any], trials: Sequence[Trial]) -> AblationPath | None:
    """Follow the path of an ablation as far as its trials go.

    Its changes are the best level of every factor where that is better than the baseline; a step
    takes the one that is best on top of those taken. Both are judged by the mean validation
    accuracy over all planned seeds. None for other designs, and where no combination was trained.
    """
    seeds = range(plan.get("seeds", 0))
    cells = _cells(trials, seeds)
    ended = {(variant_key(trial.changes), trial.seed) for trial in trials if settled(trial)}

    def mean(changes: Mapping[str, Any]) -> float | None:
        values = [trial.value for trial in cells[variant_key(changes)].values()]
        complete = len(values) == len(seeds) > 0 and None not in values
        return float(np.mean([value or 0.0 for value in values])) if complete else None

    def is_settled(changes: Mapping[str, Any]) -> bool:
        return all((variant_key(changes), seed) in ended for seed in seeds)

    left = target(_levels(plan), mean) if plan.get("design") == "ablation" else {}
    steps = [_step(cells, {}, None, [])]
    for reached in ablation_path.steps(left, mean, is_settled):
        if reached.best is None:
            break
        tried = [Tried(*change, accuracy) for change, accuracy in reached.means.items()]
        steps.append(_step(cells, reached.taken, reached.best, tried))
    taken = steps[-1].changes
    left = {factor: level for factor, level in left.items() if factor not in taken}
    return AblationPath(steps, left) if len(steps) > 2 else None


def _cells(trials: Sequence[Trial], seeds: range) -> Cells:
    """Return the finished trials of the planned seeds, by variant and seed."""
    cells: Cells = defaultdict(dict)
    for trial in finished(trials):
        if trial.variant is not None and trial.seed is not None and trial.seed in seeds:
            cells[variant_key(trial.changes)][trial.seed] = trial
    return cells


def _levels(plan: Mapping[str, Any]) -> dict[str, list[Any]]:
    """List the levels of every factor but the baseline's own."""
    return {
        factor: [level for level in levels if level != baseline_level(plan, factor)]
        for factor, levels in plan.get("factors", {}).items()
    }


def _step(
    cells: Cells, before: dict[str, Any], added: tuple[str, Any] | None, tried: list[Tried]
) -> Step:
    def values(changes: Mapping[str, Any]) -> dict[int, float]:
        trials = cells[variant_key(changes)]
        return {seed: trial.value for seed, trial in trials.items() if trial.value is not None}

    factor, level = added or (None, None)
    now = before if factor is None else {**before, factor: level}
    return Step(
        factor=factor,
        level=level,
        changes=now,
        gain=paired_difference(values(before), values(now)) if added else NO_DIFFERENCE,
        total=paired_difference(values({}), values(now)) if added else NO_DIFFERENCE,
        tried=tried,
        **columns(list(cells[variant_key(now)].values())),
    )


def _label(step: Step) -> str:
    change = f"+ {step.factor}={level_text(step.level)}"
    return "baseline" if step.factor is None else printable(change)


def blocks(path: AblationPath | None) -> list[Block]:
    """Lay the path out, a step below the other."""
    if path is None:
        return []
    steps = path.steps
    columns = {
        "change": list(map(_label, steps)),
        "n": [str(step.n) for step in steps],
        "accuracy": accuracies([(s.val_accuracy_mean, s.val_accuracy_std) for s in steps]),
        "gain": joined(map(_interval, (step.gain for step in steps))),
        "in all": [_signed(step.total.delta) for step in steps],
        "test": mirrored.marked([percent(step.test_accuracy_mean) for step in steps], steps),
    }
    title = "Path to the best combination: accuracy in %, gain of each step in points"
    return [Block(title, columns, labels=1)]


def _interval(difference: Difference) -> tuple[str, str, str]:
    low = "" if difference.low is None else f"[{percent(difference.low)},"
    return (
        _signed(difference.delta),
        low,
        "" if difference.high is None else f"{percent(difference.high)}]",
    )


def _signed(delta: float | None) -> str:
    return "" if delta is None else f"{100 * delta:+.2f}"


def notes(path: AblationPath | None) -> list[str]:
    """Say how the path was chosen, and where it ends."""
    if path is None:
        return []
    end = " ".join(filter(None, _interval(path.steps[-1].total)))
    lines = [
        "Path: every step takes the change that is best on top of those before (Fawcett and Hoos "
        f"2016). The end is {end} points over the baseline; as the best was taken each time, gains "
        "are optimistic and their intervals not corrected."
    ]
    if path.left:
        left = ", ".join(f"{name}={level_text(level)}" for name, level in path.left.items())
        lines.append(printable(f"Path: not finished; still to come: {left}."))
    return lines


def csv_rows(path: AblationPath | None) -> list[dict[str, Any]]:
    """Return a line per step; the difference is its gain."""
    lines = []
    for step in path.steps if path else ():
        record = {field.name: getattr(step, field.name) for field in fields(Row)}
        gain = {
            "delta": step.gain.delta,
            "delta_low": step.gain.low,
            "delta_high": step.gain.high,
            "p_value": step.gain.p_value,
            "compared": step.gain.n,
        }
        lines.append({"factor": "path", "level": _label(step), **record, **gain})
    return lines
