"""A study's table: computed once, written as text, Markdown, CSV, LaTeX or JSON.

Here is the ablation table; that of a search is in `analysis/search_table.py`.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from analysis import factorial_table, inference_cost, reported
from analysis import path as paths
from analysis.inference_cost import flat
from analysis.path import Path, path
from analysis.progress import Progress, facts, progress
from analysis.reported import ReportedRow, compare_reported
from analysis.search_table import SearchTable, search_table
from analysis.statistics.effect_sizes import NO_EVIDENCE
from analysis.statistics.effects import Ablation, Effect, Row, ablation
from analysis.statistics.factorial import Anova, anova
from analysis.statistics.power import ALPHA, detectable
from analysis.table_formats import WRITERS, Block, Page, accuracies, for_scale, joined
from analysis.text import p_text, percent, printable
from analysis.trials import Study, Trial
from fmnist_common.designs import variant_key
from fmnist_common.text import level_text

# Two pairs leave one degree of freedom: accuracies are counts, and two differences that happen
# to agree would look certain.
FEWEST_PAIRS = 3
FORMATS = ("text", "markdown", "csv", "latex", "json")


@dataclass(frozen=True)
class Table:
    """The results of a study. Accuracies and differences are fractions."""

    study: str
    dataset: str | None
    design: str | None
    subset: int | None  # training images drawn from the data set; None: all
    epochs: int | None
    seeds: int | None
    progress: Progress
    facts: list[str]  # what was run, and how much of it is there
    baseline: Row
    effects: list[Effect]
    path: Path | None  # of an ablation whose combinations were trained
    anova: Anova | str | None  # of a factorial; a text: why there is none
    spread: float | None  # usual standard deviation of paired differences
    reported: list[ReportedRow]  # figures of the plan's source beside ours
    source: dict[str, Any]  # the plan's: whose figures they are
    notes: list[str]  # what a reader must know to read the figures, in plain words


def table(study: Study, trials: Sequence[Trial]) -> Table | SearchTable:
    """Compute the table of a study, whatever its design."""
    return (search_table if study.plan.get("design") == "search" else ablation_table)(study, trials)


def ablation_table(study: Study, trials: Sequence[Trial]) -> Table:
    """Compute the table of a study; one without a plan (another tool's) has no effects."""
    found = ablation(study.plan, trials)
    variance = anova(study.plan, trials) if study.plan.get("design") == "factorial" else None
    steps = path(study.plan, trials)
    theirs = compare_reported(study, trials)
    source = study.plan.get("source") or {}
    now = progress(study, trials)
    return Table(
        study=study.name,
        dataset=study.plan.get("dataset") or study.dataset.get("name"),
        design=study.plan.get("design"),
        subset=study.plan.get("subset"),
        epochs=study.plan.get("epochs"),
        seeds=study.plan.get("seeds"),
        progress=now,
        facts=facts(study, now),
        baseline=found.baseline,
        effects=found.effects,
        path=steps,
        anova=variance,
        spread=found.spread,
        reported=theirs,
        source=source,
        notes=[
            *_notes(study, found),
            *paths.notes(steps),
            *([] if variance is None else factorial_table.notes(variance)),
            *reported.notes(theirs, source),
        ],
    )


def verdict(effect: Effect) -> str:
    """Say in a word what the data prove about a level, at 5 % after Holm's correction."""
    if effect.n == 0:
        return "not run"
    if effect.is_reference:
        return "reference"
    if effect.delta == effect.delta_low == effect.delta_high == 0:
        return "identical"
    if effect.compared < FEWEST_PAIRS:
        return "too few"
    if effect.delta is None or effect.p_holm is None or effect.p_holm > ALPHA:
        return "not proven"
    return "better" if effect.delta > 0 else "worse"


def _notes(study: Study, found: Ablation) -> list[str]:
    effects = found.effects
    if not study.plan:
        return ["This study has no plan of fmnist-study: there is no baseline to compare with."]
    scale = for_scale(found.baseline.test_accuracy_mean, study.dataset.get("test_images"))
    if not effects:
        return ["± is the standard deviation of n trials; no factor is varied.", *scale]
    verdicts = {verdict(effect) for effect in effects}
    factorial = study.plan.get("design") == "factorial"
    listed = any(effect.against for effect in effects)
    reference = (
        "the factor's baseline level"
        if factorial
        else "the baseline, or what the plan names instead,"
        if listed
        else "the baseline"
    )
    pairs = "seeds and the other factors' levels" if factorial else "seeds"
    notes = [
        f"Difference: level minus {reference} in points of {study.compared}, paired by {pairs}; "
        "[ ] is its 95 % interval (paired t). ± is the standard deviation of n trials.",
        f"p: two-sided t-test, corrected by Holm for all {found.family} comparisons of this table.",
        f"Better and worse: p is at most {ALPHA}. Not proven: chance may explain it.",
    ]
    if "too few" in verdicts:
        notes.append(
            f"Too few: with fewer than {FEWEST_PAIRS} pairs no claim is made. Run more seeds."
        )
    if "reference" in verdicts:
        notes.append("Reference: the rows of a table are compared with it.")
    if "identical" in verdicts:
        notes.append("Identical: no seed's accuracy changed at all.")
    if any(effect.n and not effect.paired for effect in effects):
        notes.append(
            "* Not paired, as fewer than two seeds are in common: Welch's t, which needs more data."
        )
    return notes + _power(found) + scale


def _power(found: Ablation) -> list[str]:
    """Say what differences so many pairs find, by the usual spread of the differences."""
    pairs = max((effect.compared for effect in found.effects if effect.paired), default=0)
    one, all_of_them = detectable(pairs), detectable(pairs, ALPHA / max(1, found.family))
    if found.spread is None or one is None or all_of_them is None:
        return []
    corrected = (
        f" ({percent(all_of_them * found.spread)} as the first of {found.family} corrected)"
        if found.family > 1
        else ""
    )
    return [
        f"Power: {pairs} pairs, whose differences mostly spread by {percent(found.spread)} points, "
        f"find a true difference of {percent(one * found.spread)} points{corrected} in 4 of 5 "
        "studies. Smaller ones are missed more often."
    ]


def render(table: Table | SearchTable, format: str) -> str:
    """Write a table as `text`, `markdown`, `csv`, `latex` or `json`; ends with a line break.

    Text is plain and, for usual names, at most 80 columns wide. Text, Markdown and LaTeX show
    percentages; CSV and JSON hold fractions.
    """
    if format == "json":
        return json.dumps(as_dict(table), indent=2, allow_nan=False) + "\n"
    if isinstance(table, SearchTable):
        return table.csv() if format == "csv" else WRITERS[format](table.page())
    return _csv(table) if format == "csv" else WRITERS[format](_page(table))


def as_dict(table: Table | SearchTable) -> dict[str, Any]:
    """Return the JSON form, a contract of docs and users: keys are only ever added."""
    return table.as_dict() if isinstance(table, SearchTable) else _as_dict(table)


def _blocks(table: Table) -> list[Block]:
    if table.design is None:
        return []
    effects = table.effects
    rows: list[Row] = [table.baseline, *effects]
    names = {
        "factor": ["baseline", *(printable(effect.factor) for effect in effects)],
        "level": ["", *(printable(level_text(effect.level)) for effect in effects)],
    }
    validation = {
        "n": [str(row.n) for row in rows],
        "accuracy": accuracies([(row.val_accuracy_mean, row.val_accuracy_std) for row in rows]),
        "difference": ["", *_differences(effects)],
        "p": ["", *(p_text(effect.p_holm) for effect in effects)],
        "verdict": ["", *(verdict(effect) for effect in effects)],
    }
    test = {
        "accuracy": accuracies([(row.test_accuracy_mean, row.test_accuracy_std) for row in rows]),
        "parameters": ["" if row.parameters is None else f"{row.parameters:,}" for row in rows],
        "seconds": ["" if row.seconds is None else f"{row.seconds:,.1f}" for row in rows],
    }
    test = {title: cells for title, cells in test.items() if any(map(str.strip, cells))}
    figures = (
        "Test accuracy in % (looked at once, never used for a choice), size and seconds"
        if "accuracy" in test
        else "Size and seconds"
    )
    return [
        Block(f"{table.progress.objective.capitalize()} in %", names | validation, nested=True),
        *([Block(figures, names | test, nested=True)] if test else []),
        *paths.blocks(table.path),
        *(factorial_table.blocks(table.anova) if isinstance(table.anova, Anova) else []),
        *inference_cost.blocks(names, rows),
        *reported.blocks(table.reported, table.source),
    ]


def _differences(effects: Iterable[Effect]) -> list[str]:
    return joined(
        (
            "" if effect.delta is None else f"{100 * effect.delta:+.2f}",
            "" if effect.delta_low is None else f"[{percent(effect.delta_low)},",
            "" if effect.delta_high is None else f"{percent(effect.delta_high)}]",
            "" if effect.paired else "*",
        )
        for effect in effects
    )


def _page(table: Table) -> Page:
    return Page(printable(table.study), table.facts, _blocks(table), table.notes)


def _record(effect: Effect) -> dict[str, Any]:
    named = {"factor": effect.factor, "level": effect.level}
    return named | asdict(effect) | {"verdict": verdict(effect)}


def _csv(table: Table) -> str:
    # Fractions at full precision, an empty cell for what is not known; the baseline comes first.
    rows = [{"factor": "baseline", "changes": {}, **asdict(table.baseline)}]
    for effect in table.effects:
        named = {"factor": printable(effect.factor), "level": printable(level_text(effect.level))}
        rows.append(_record(effect) | named)
    rows = [row | flat(row["inference"]) for row in rows]
    theirs = {variant_key(one.changes): reported.csv_columns(one) for one in table.reported}
    # The rows of a factorial are levels, not variants.
    shown = {} if table.design == "factorial" else theirs
    points = [variant_key(row["changes"]) for row in rows]
    rows = [row | shown.get(own, {}) for row, own in zip(rows, points, strict=True)]
    rows += [
        {"factor": "reported", "level": printable(one.variant), "n": one.n}
        | theirs[variant_key(one.changes)]
        for one in table.reported
        if variant_key(one.changes) not in (points if shown else ())
    ]
    rows += paths.csv_rows(table.path)
    if isinstance(table.anova, Anova):
        rows += factorial_table.csv_rows(table.anova)
    words = ("factor", "level", "changes", "against", "inference")
    names = [field.name for field in fields(Effect) if field.name not in words]
    names.sort(key=lambda name: name in vars(NO_EVIDENCE))  # what the text shows comes first
    more = (name for row in rows for name in row if name not in words)
    heading = dict.fromkeys(["factor", "level", *names, "verdict", *more])
    out = io.StringIO()
    writer = csv.DictWriter(out, heading, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _as_dict(table: Table) -> dict[str, Any]:
    return {
        "study": table.study,
        "dataset": table.dataset,
        "design": table.design,
        "subset": table.subset,
        "epochs": table.epochs,
        "seeds": table.seeds,
        "counts": table.progress.counts,
        "damaged": table.progress.damaged,
        "missing_results": table.progress.missing_results,
        "planned": table.progress.planned,
        "missing": table.progress.missing,
        "baseline": asdict(table.baseline),
        "effects": [_record(effect) for effect in table.effects],
        "path": None if table.path is None else asdict(table.path),
        **factorial_table.as_dict(table.anova),
        "spread_of_differences": table.spread,
        "source": table.source or None,
        "reported": [asdict(row) for row in table.reported],
        "notes": table.notes,
    }
