"""The ablation path: what each change adds on the way from the baseline to the best combination.

Effects of one factor at a time need not add up. `run STUDY --path` trains the combinations that
Fawcett and Hoos ("Analysing differences between algorithm configurations through ablation",
Journal of Heuristics 22, 2016) ask for; here its trials are read by the same rules. Every step is
the best of those tried, so its gain is optimistic: a description of where the accuracy comes from.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from analysis.statistics.candidates import settled
from analysis.statistics.effects import (
    NO_DIFFERENCE,
    Difference,
    Row,
    baseline_level,
    columns,
    paired_difference,
    point,
)
from analysis.table_formats import Block, accuracies, joined
from analysis.text import level_label, percent, printable
from analysis.trials import Trial, finished

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
class Path:
    """The steps so far."""

    steps: list[Step]  # the baseline first
    left: dict[str, Any]  # factor -> level that the path has not come to yet


def path(plan: Mapping[str, Any], trials: Sequence[Trial]) -> Path | None:
    """Follow the path of an ablation as far as its trials go.

    Its changes are the best level of every factor where that is better than the baseline; a step
    takes the one that is best on top of those taken. Both are judged by the mean validation
    accuracy over all planned seeds. None for other designs, and where no combination was trained.
    """
    seeds = range(plan.get("seeds", 0))
    cells: Cells = defaultdict(dict)
    for trial in finished(trials):
        if trial.variant is not None and trial.seed is not None and trial.seed in seeds:
            cells[point(trial.changes)][trial.seed] = trial
    ended = {(point(trial.changes), trial.seed) for trial in trials if settled(trial)}

    def mean(changes: Mapping[str, Any]) -> float | None:
        own = cells[point(changes)]
        values = [trial.value for trial in own.values() if trial.value is not None]
        return float(np.mean(values)) if values and len(values) == len(seeds) else None

    left = _target(plan, mean) if plan.get("design") == "ablation" else {}
    steps = [_step(cells, {}, None, [])]
    while left:
        taken = steps[-1].changes
        tried = [
            Tried(factor, level, mean({**taken, factor: level})) for factor, level in left.items()
        ]
        reached = [own for own in tried if own.val_accuracy_mean is not None]
        complete = all(
            (point({**taken, factor: level}), seed) in ended
            for factor, level in left.items()
            for seed in seeds
        )
        if not complete or not reached:
            break
        best = max(reached, key=lambda own: own.val_accuracy_mean or 0.0)
        del left[best.factor]
        steps.append(_step(cells, taken, best, tried))
    return Path(steps, left) if len(steps) > 2 else None


def _target(
    plan: Mapping[str, Any], mean: Callable[[Mapping[str, Any]], float | None]
) -> dict[str, Any]:
    start = mean({})
    target = {}
    for factor, levels in plan.get("factors", {}).items():
        means = {
            level: mean({factor: level})
            for level in levels
            if level != baseline_level(plan, factor)
        }
        better = {
            level: own
            for level, own in means.items()
            if own is not None and start is not None and own > start
        }
        if better:
            target[factor] = max(better, key=better.__getitem__)
    return target


def _step(cells: Cells, before: dict[str, Any], added: Tried | None, tried: list[Tried]) -> Step:
    def values(changes: Mapping[str, Any]) -> dict[int, float]:
        own = cells[point(changes)]
        return {seed: trial.value for seed, trial in own.items() if trial.value is not None}

    now = before if added is None else {**before, added.factor: added.level}
    return Step(
        factor=None if added is None else added.factor,
        level=None if added is None else added.level,
        changes=now,
        gain=paired_difference(values(before), values(now)) if added else NO_DIFFERENCE,
        total=paired_difference(values({}), values(now)) if added else NO_DIFFERENCE,
        tried=tried,
        **columns(list(cells[point(now)].values())),
    )


def _label(step: Step) -> str:
    change = f"+ {step.factor}={level_label(step.level)}"
    return "baseline" if step.factor is None else printable(change)


def blocks(found: Path | None) -> list[Block]:
    """Lay the path out, a step below the other."""
    if found is None:
        return []
    steps = found.steps
    columns = {
        "change": list(map(_label, steps)),
        "n": [str(step.n) for step in steps],
        "accuracy": accuracies([(s.val_accuracy_mean, s.val_accuracy_std) for s in steps]),
        "gain": joined(map(_interval, (step.gain for step in steps))),
        "in all": [_signed(step.total.delta) for step in steps],
        "test": [percent(step.test_accuracy_mean) for step in steps],
    }
    title = "Path to the best combination: accuracy in %, gain of each step in points"
    return [Block(title, columns, labels=1)]


def _interval(own: Difference) -> tuple[str, str, str]:
    low = "" if own.low is None else f"[{percent(own.low)},"
    return _signed(own.delta), low, "" if own.high is None else f"{percent(own.high)}]"


def _signed(delta: float | None) -> str:
    return "" if delta is None else f"{100 * delta:+.2f}"


def notes(found: Path | None) -> list[str]:
    """Say how the path was chosen, and where it ends."""
    if found is None:
        return []
    end = " ".join(filter(None, _interval(found.steps[-1].total)))
    lines = [
        "Path: every step takes the change that is best on top of those before (Fawcett and Hoos "
        f"2016). The end is {end} points over the baseline; as the best was taken each time, gains "
        "are optimistic and their intervals not corrected."
    ]
    if found.left:
        left = ", ".join(f"{name}={level_label(level)}" for name, level in found.left.items())
        lines.append(printable(f"Path: not finished; still to come: {left}."))
    return lines


def csv_rows(found: Path | None) -> list[dict[str, Any]]:
    """Return a line per step; the difference is its gain."""
    lines = []
    for step in found.steps if found else ():
        known = {field.name: getattr(step, field.name) for field in fields(Row)}
        gain = {
            "delta": step.gain.delta,
            "delta_low": step.gain.low,
            "delta_high": step.gain.high,
            "p_value": step.gain.p_value,
            "compared": step.gain.n,
        }
        lines.append({"factor": "path", "level": _label(step), **known, **gain})
    return lines
