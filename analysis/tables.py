"""A study's table: computed once, written as text, Markdown, CSV, LaTeX or JSON.

Here is the ablation table; that of a search is in `analysis/search_table.py`.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from analysis.effects import Effect, Row, ablation
from analysis.layout import WRITERS, Block, Page, accuracies, for_scale, joined
from analysis.power import ALPHA
from analysis.progress import Progress, facts, progress
from analysis.search_table import SearchTable, search_table
from analysis.text import level_label, percent, printable
from analysis.trials import Study, Trial

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
    notes: list[str]  # what a reader must know to read the figures, in plain words


def table(study: Study, trials: Sequence[Trial]) -> Table | SearchTable:
    """Compute the table of a study, whatever its design."""
    return (search_table if study.plan.get("design") == "search" else ablation_table)(study, trials)


def ablation_table(study: Study, trials: Sequence[Trial]) -> Table:
    """Compute the table of a study; one without a plan (another tool's) has no effects."""
    found = ablation(study.plan, trials)
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
        notes=_notes(study, found.baseline, found.effects, found.family),
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


def _notes(study: Study, baseline: Row, effects: Sequence[Effect], family: int) -> list[str]:
    if not study.plan:
        return ["This study has no plan of fmnist-study: there is no baseline to compare with."]
    scale = for_scale(baseline.test_accuracy_mean, study.dataset.get("test_images"))
    if not effects:
        return ["± is the standard deviation of n trials; no factor is varied.", *scale]
    verdicts = {verdict(effect) for effect in effects}
    factorial = study.plan.get("design") == "factorial"
    listed = any(effect.against for effect in effects)
    reference = (
        "the factor's baseline level"
        if factorial
        else "the baseline, or what the plan names instead"
        if listed
        else "the baseline"
    )
    pairs = "seeds and the other factors' levels" if factorial else "seeds"
    notes = [
        f"Difference: level minus {reference} in points of validation accuracy, paired by {pairs}; "
        "[ ] is its 95 % interval (paired t). ± is the standard deviation of n trials.",
        f"p: two-sided t-test, corrected by Holm for all {family} comparisons of this table.",
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
    return notes + scale


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
    effects, rows = table.effects, [table.baseline, *table.effects]
    names = {
        "factor": ["baseline", *(printable(effect.factor) for effect in effects)],
        "level": ["", *(printable(level_label(effect.level)) for effect in effects)],
    }
    validation = {
        "n": [str(row.n) for row in rows],
        "accuracy": accuracies([(row.val_accuracy_mean, row.val_accuracy_std) for row in rows]),
        "difference": ["", *_differences(effects)],
        "p": ["", *(_p_value(effect.p_holm) for effect in effects)],
        "verdict": ["", *(verdict(effect) for effect in effects)],
    }
    test = {
        "accuracy": accuracies([(row.test_accuracy_mean, row.test_accuracy_std) for row in rows]),
        "parameters": ["" if row.parameters is None else f"{row.parameters:,}" for row in rows],
        "seconds": ["" if row.seconds is None else f"{row.seconds:,.1f}" for row in rows],
    }
    return [
        Block("Validation accuracy in %", names | validation, nested=True),
        Block(
            "Test accuracy in % (looked at once, never used for a choice), size and seconds",
            names | test,
            nested=True,
        ),
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


def _p_value(p: float | None) -> str:
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _page(table: Table) -> Page:
    return Page(printable(table.study), table.facts, _blocks(table), table.notes)


def _record(effect: Effect) -> dict[str, Any]:
    named = {"factor": effect.factor, "level": effect.level}
    return named | asdict(effect) | {"verdict": verdict(effect)}


def _csv(table: Table) -> str:
    # Fractions at full precision, an empty cell for what is not known; the baseline comes first.
    words = ("factor", "level", "changes", "against")
    names = [field.name for field in fields(Effect) if field.name not in words]
    out = io.StringIO()
    heading = ["factor", "level", *names, "verdict"]
    writer = csv.DictWriter(out, heading, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerow({"factor": "baseline", **asdict(table.baseline)})
    for effect in table.effects:
        named = {
            "factor": printable(effect.factor),
            "level": printable(level_label(effect.level)),
        }
        writer.writerow(_record(effect) | named)
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
        "planned": table.progress.planned,
        "missing": table.progress.missing,
        "baseline": asdict(table.baseline),
        "effects": [_record(effect) for effect in table.effects],
        "notes": table.notes,
    }
