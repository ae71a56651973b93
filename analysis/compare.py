"""Two studies side by side: what differs between them, and what that did to common variants.

A variant is common if both studies trained the same config. Fields in which the studies differ as
a whole, such as the epochs, do not count: their effect is what is asked for.
"""

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from analysis.csv_text import csv_text
from analysis.quantity import ACCURACY, Quantity
from analysis.statistics.effects import FEWEST_PAIRS, Row, columns
from analysis.statistics.paired import holm, paired_difference
from analysis.statistics.power import ALPHA
from analysis.table_formats import Block, Page, joined
from analysis.text import printable
from analysis.trials import Study, Trial, finished
from fmnist_common.designs import variant_key
from fmnist_common.text import level_text

# What a config says beside the variant: the replicate, and the data, which is compared by content.
NOT_VARIANT = {"seed", "dataset", "subset"}
# What seeds must have in common to be pairs: the same images in the same split.
SPLIT = ("subset", "validation_fraction")
# What is said of a study that cannot change the accuracy of a variant.
HARMLESS = ("design", "seeds", "factor ", "search ", "host", "command")
LONGEST = 26  # characters of a value in a table for people


@dataclass(frozen=True)
class Differing:
    """Something in which two studies differ; None: one of them does not say."""

    what: str
    first: Any
    second: Any


@dataclass(frozen=True, kw_only=True)
class Common:
    """A variant of both studies. The difference is second minus first, a fraction."""

    variant: str  # its name in the first study
    second_variant: str
    changes: dict[str, Any]  # from the baseline of the first study
    first: Row
    second: Row
    delta: float | None
    delta_low: float | None  # 95 % interval
    delta_high: float | None
    p_value: float | None
    p_holm: float | None
    paired: bool
    compared: int  # pairs; if not paired, the size of the smaller sample
    verdict: str


@dataclass(frozen=True)
class StudyComparison:
    """Two studies side by side."""

    first: str
    second: str
    paired: bool  # whether the same seed is the same split in both
    differing: list[Differing]
    common: list[Common]
    only_first: list[str]  # names of variants
    only_second: list[str]
    notes: list[str]
    quantity: Quantity = ACCURACY  # what is compared

    def page(self) -> Page:
        """Lay the comparison out for readers."""
        return _page(self)

    def csv(self) -> str:
        """Write a row per common variant: fractions at full precision."""
        return _csv(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; keys are only ever added."""
        return asdict(self)


def compare(
    first: Study, first_trials: Sequence[Trial], second: Study, second_trials: Sequence[Trial]
) -> StudyComparison:
    """Compare two studies, variant by variant, paired by seed where they share data and split."""
    quantity = first.quantity
    same_figure = quantity == second.quantity
    done = finished(first_trials), finished(second_trials)
    if not same_figure:  # an accuracy less a loss means nothing
        done = [], []
    paired = _same_split(first, done[0], second, done[1])
    overall = _overall(*done)
    groups = [_variants(rows, overall) for rows in done]
    shared = [key for key in groups[0] if key in groups[1]]
    differences = []
    for key in shared:
        # Where the same seed is another split, no two trials have anything in common.
        values: list[dict[Hashable, float]] = [
            {
                trial.seed if paired else (side, trial.seed): trial.value
                for trial in variants[key]
                if trial.value is not None
            }
            for side, variants in enumerate(groups)
        ]
        differences.append((key, paired_difference(*values)))
    corrected = holm([difference.p_value for _, difference in differences])
    common = []
    for (key, difference), p_holm in zip(differences, corrected, strict=True):
        ours, theirs = groups[0][key], groups[1][key]
        common.append(
            Common(
                variant=ours[0].label,
                second_variant=theirs[0].label,
                changes=ours[0].changes,
                first=Row(**columns(ours)),
                second=Row(**columns(theirs)),
                delta=difference.delta,
                delta_low=difference.low,
                delta_high=difference.high,
                p_value=difference.p_value,
                p_holm=p_holm,
                paired=difference.paired,
                compared=difference.n,
                verdict=_verdict(
                    difference.n, quantity.gain(difference.delta), difference.low, p_holm
                ),
            )
        )
    differing = _differing(first, second)
    return StudyComparison(
        first=first.name,
        second=second.name,
        paired=paired,
        differing=differing,
        common=common,
        only_first=[rows[0].label for key, rows in groups[0].items() if key not in groups[1]],
        only_second=[rows[0].label for key, rows in groups[1].items() if key not in groups[0]],
        notes=_notes(common, differing, quantity, paired=paired)
        if same_figure
        else [_two_figures(quantity, second.quantity)],
        quantity=quantity,
    )


def _two_figures(first: Quantity, second: Quantity) -> str:
    return (
        f"A compares {first.name}, B {second.name}: they have no figure in common, so that no "
        "difference is taken."
    )


def _same_split(
    first: Study, first_done: Sequence[Trial], second: Study, second_done: Sequence[Trial]
) -> bool:
    content = [study.dataset.get("sha256") for study in (first, second)]
    if None in content or content[0] != content[1]:
        return False
    splits = [
        {tuple(trial.config.get(name) for name in SPLIT) for trial in rows}
        for rows in (first_done, second_done)
    ]
    return len(splits[0] | splits[1]) == 1


def _overall(first: Sequence[Trial], second: Sequence[Trial]) -> set[str]:
    """Name the config fields that tell the studies apart, not variants of one study.

    Each study has one value for it, or does not know it, and these differ.
    """
    values: list[dict[str, set[Hashable]]] = []
    for rows in (first, second):
        levels: dict[str, set[Hashable]] = defaultdict(set)
        for trial in rows:
            for name, level in trial.config.items():
                levels[name].add(_hashable(level))
        values.append(levels)
    names = values[0].keys() | values[1].keys()
    return {
        name
        for name in names
        if values[0][name] != values[1][name] and max(len(levels[name]) for levels in values) < 2
    }


def _variants(rows: Sequence[Trial], overall: set[str]) -> dict[Hashable, list[Trial]]:
    """Group trials by what they trained; those without a config by their name."""
    groups: dict[Hashable, list[Trial]] = defaultdict(list)
    for trial in rows:
        changes = {
            name: level
            for name, level in trial.config.items()
            if name not in overall and name not in NOT_VARIANT
        }
        groups[variant_key(changes) if changes else trial.label].append(trial)
    return dict(groups)


def _hashable(level: Any) -> Hashable:
    return level if isinstance(level, Hashable) else repr(level)


def _verdict(n: int, delta: float | None, low: float | None, p_holm: float | None) -> str:
    if delta == low == 0:
        return "identical"
    if n < FEWEST_PAIRS:
        return "too few"
    if delta is None or p_holm is None or p_holm > ALPHA:
        return "not proven"
    return "better" if delta > 0 else "worse"


def _differing(first: Study, second: Study) -> list[Differing]:
    """List what the studies say differently about themselves, the plan first."""
    sides = [_described(study) for study in (first, second)]
    names = list(dict.fromkeys([*sides[0], *sides[1]]))
    return [
        Differing(name, sides[0].get(name), sides[1].get(name))
        for name in names
        if sides[0].get(name) != sides[1].get(name)
    ]


def _described(study: Study) -> dict[str, Any]:
    plan, attributes = study.plan, study.attributes
    said = {name: plan.get(name) for name in ("design", "seeds", "epochs", "subset")}
    said |= {f"baseline {name}": level for name, level in plan.get("baseline", {}).items()}
    said |= {f"factor {name}": levels for name, levels in plan.get("factors", {}).items()}
    search = plan.get("search") or {}
    said |= {f"search {name}": value for name, value in search.items()}
    said |= {
        f"data {name}": study.dataset.get(name)
        for name in ("name", "sha256", "train_images", "test_images")
    }
    versions = attributes.get("versions")
    said |= {f"version {name}": version for name, version in (versions or {}).items()}
    said |= {name: attributes.get(name) for name in ("git_commit", "devices", "host", "command")}
    return said


def _notes(
    common: Sequence[Common],
    differing: Sequence[Differing],
    quantity: Quantity,
    *,
    paired: bool,
) -> list[str]:
    notes = []
    if not common:
        return ["No variant of one study is in the other."]
    tested = sum(row.p_holm is not None for row in common)
    notes.append(
        f"Difference: B minus A in {quantity.points}, with its 95 % interval"
        + (f"; p is corrected by Holm for all {tested} comparisons" if tested > 1 else "")
        + ". n: seeds of A and of B."
    )
    if paired:
        notes.append("Paired by seed: the same seed is the same data and the same split in both.")
    else:
        notes.append(
            "* Not paired: the studies do not have data and split in common, so that the same seed "
            "means nothing. Welch's t, which needs more data."
        )
    words = {row.verdict for row in common}
    if "too few" in words:
        notes.append(f"Too few: with fewer than {FEWEST_PAIRS} pairs no claim is made.")
    if "identical" in words:
        notes.append(f"Identical: no seed's {quantity.noun} differs at all.")
    reasons = [item.what for item in differing if not item.what.startswith(HARMLESS)]
    if len(reasons) > 1:
        notes.append(
            f"The studies differ in {len(reasons)} respects that may matter: which of them made a "
            "difference, this comparison cannot tell."
        )
    return notes


def _page(comparison: StudyComparison) -> Page:
    blocks = []
    if comparison.differing:
        blocks.append(
            Block(
                "What differs",
                {
                    "what": [printable(item.what) for item in comparison.differing],
                    "A": [_short(item.first) for item in comparison.differing],
                    "B": [_short(item.second) for item in comparison.differing],
                },
                labels=1,
            )
        )
    if comparison.common:
        blocks.append(
            Block(
                comparison.quantity.title,
                _common_columns(comparison.quantity, comparison.common),
                nested=True,
            )
        )
    facts = [f"A: {printable(comparison.first)}", f"B: {printable(comparison.second)}"]
    for side, names in (("A", comparison.only_first), ("B", comparison.only_second)):
        if names:
            facts.append(f"only in {side}: {len(names):,} variants, such as {printable(names[0])}")
    return Page("Two studies compared", facts, blocks, comparison.notes)


def _common_columns(quantity: Quantity, common: Sequence[Common]) -> dict[str, list[str]]:
    names = [_named(row) for row in common]
    return {
        "factor": [factor for factor, _ in names],
        "level": [level for _, level in names],
        "n": [f"{row.first.n}, {row.second.n}" for row in common],
        "A": [quantity.number(row.first.val_accuracy_mean) for row in common],
        "B": [quantity.number(row.second.val_accuracy_mean) for row in common],
        "difference": joined(
            (
                quantity.signed(row.delta),
                "" if row.delta_low is None else f"[{quantity.number(row.delta_low)},",
                "" if row.delta_high is None else f"{quantity.number(row.delta_high)}]",
                "" if row.paired else "*",
            )
            for row in common
        ),
        "p": [
            "" if row.p_holm is None else "<0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
            for row in common
        ],
        "verdict": [row.verdict for row in common],
    }


def _named(row: Common) -> tuple[str, str]:
    if len(row.changes) == 1:
        ((factor, level),) = row.changes.items()
        return printable(factor), printable(level_text(level))
    return (
        ("several changes", printable(row.variant)) if row.changes else (printable(row.variant), "")
    )


def _short(value: Any) -> str:
    if isinstance(value, list):
        text = ", ".join(dict.fromkeys(map(level_text, value)))
    elif isinstance(value, Mapping):
        text = json.dumps(value)
    else:
        text = "" if value is None else level_text(value)
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _csv(comparison: StudyComparison) -> str:
    rows = [field.name for field in fields(Row) if field.name != "inference"]
    names = [field.name for field in fields(Common)]
    names = [name for name in names if name not in ("changes", "first", "second")]
    heading = [*names, *(f"{side}_{name}" for side in ("first", "second") for name in rows)]
    records = []
    for row in comparison.common:
        record = {name: getattr(row, name) for name in names}
        record |= {name: printable(record[name]) for name in ("variant", "second_variant")}
        for side in ("first", "second"):
            record |= {f"{side}_{name}": getattr(getattr(row, side), name) for name in rows}
        records.append(record)
    return csv_text(heading, records)
