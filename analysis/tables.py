"""The ablation table: computed once, written as text, Markdown, CSV, LaTeX or JSON."""

import csv
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from analysis.effects import CONFIDENCE, Effect, Row, ablation
from analysis.progress import Progress, count_line, progress
from analysis.text import level_label, percent, printable
from analysis.trials import Study, Trial

ALPHA = 1 - CONFIDENCE
# Two pairs leave one degree of freedom: accuracies are counts, and two differences that happen
# to agree would look certain.
FEWEST_PAIRS = 3
WIDTH = 80


@dataclass(frozen=True)
class Table:
    """The results of a study. Accuracies and differences are fractions."""

    study: str
    dataset: str | None
    design: str | None
    subset: int | None  # training images drawn from the data set; None: all
    train_images: int | None  # in the data set
    epochs: int | None
    seeds: int | None
    progress: Progress
    baseline: Row
    effects: list[Effect]
    notes: list[str]  # what a reader must know to read the figures, in plain words


def ablation_table(study: Study, trials: Sequence[Trial]) -> Table:
    """Compute the table of a study; one without a plan (another tool's) has no effects."""
    found = ablation(study.plan, trials)
    return Table(
        study=study.name,
        dataset=study.plan.get("dataset") or study.dataset.get("name"),
        design=study.plan.get("design"),
        subset=study.plan.get("subset"),
        train_images=study.dataset.get("train_images"),
        epochs=study.plan.get("epochs"),
        seeds=study.plan.get("seeds"),
        progress=progress(study, trials),
        baseline=found.baseline,
        effects=found.effects,
        notes=_notes(study, found.baseline, found.effects, found.family),
    )


def verdict(effect: Effect) -> str:
    """Say in a word what the data prove about a level, at 5 % after Holm's correction."""
    if effect.n == 0:
        return "not run"
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
    verdicts = {verdict(effect) for effect in effects}
    factorial = study.plan.get("design") == "factorial"
    reference = "the factor's baseline level" if factorial else "the baseline"
    pairs = "seeds and the other factors' levels" if factorial else "seeds"
    notes = [
        f"Difference: level minus {reference} in points of validation accuracy, paired by {pairs}; "
        "[ ] is its 95 % interval (paired t). ± is the standard deviation of n trials.",
        f"p: two-sided t-test, corrected by Holm for all {family} comparisons of this table.",
        f"Better and worse: p is at most {ALPHA:.2g}. Not proven: chance may explain it.",
    ]
    if "too few" in verdicts:
        notes.append(
            f"Too few: with fewer than {FEWEST_PAIRS} pairs no claim is made. Run more seeds."
        )
    if "identical" in verdicts:
        notes.append("Identical: no seed's accuracy changed at all.")
    if any(effect.n and not effect.paired for effect in effects):
        notes.append(
            "* Not paired, as fewer than two seeds are in common: Welch's t, which needs more data."
        )
    test, images = baseline.test_accuracy_mean, study.dataset.get("test_images")
    if test is not None and images:
        error = math.sqrt(test * (1 - test) / images)
        notes.append(
            f"For scale: one test of {images:,} images at {percent(test, 1)} % has a binomial "
            f"standard error of {percent(error)} points."
        )
    return notes


def render(table: Table, format: str) -> str:
    """Write a table as `text`, `markdown`, `csv`, `latex` or `json`; ends with a line break.

    Text is plain and, for usual names, at most 80 columns wide. Text, Markdown and LaTeX show
    percentages; CSV and JSON hold fractions.
    """
    return RENDERERS[format](table)


@dataclass(frozen=True)
class Block:
    """A part of the table as words: columns of equal length by heading, the baseline's row first.

    The first two columns are the factor and the level; figures are padded so that their decimal
    points stand below each other.
    """

    title: str
    columns: dict[str, list[str]]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells row by row, without the padding."""
        return [tuple(map(_squeeze, row)) for row in zip(*self.columns.values(), strict=True)]


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
        "accuracy": _accuracies([(row.val_accuracy_mean, row.val_accuracy_std) for row in rows]),
        "difference": ["", *_differences(effects)],
        "p": ["", *(_p_value(effect.p_holm) for effect in effects)],
        "verdict": ["", *(verdict(effect) for effect in effects)],
    }
    test = {
        "accuracy": _accuracies([(row.test_accuracy_mean, row.test_accuracy_std) for row in rows]),
        "parameters": ["" if row.parameters is None else f"{row.parameters:,}" for row in rows],
        "seconds": ["" if row.seconds is None else f"{row.seconds:,.1f}" for row in rows],
    }
    return [
        Block("Validation accuracy in %", names | validation),
        Block(
            "Test accuracy in % (looked at once, never used for a choice), size and seconds",
            names | test,
        ),
    ]


def _accuracies(pairs: Sequence[tuple[float | None, float | None]]) -> list[str]:
    return _joined(
        (percent(mean), "" if std is None else f"±{percent(std)}") for mean, std in pairs
    )


def _differences(effects: Iterable[Effect]) -> list[str]:
    return _joined(
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


def _joined(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Join the parts of each row, every part right-aligned over all rows."""
    rows = list(rows)
    widths = [max(map(len, parts)) for parts in zip(*rows, strict=True)]
    return [
        " ".join(part.rjust(width) for part, width in zip(row, widths, strict=True) if width)
        for row in rows
    ]


def _squeeze(cell: str) -> str:
    return " ".join(cell.split())


def _facts(table: Table) -> list[str]:
    """What was run, and how much of it is there."""
    drawn = table.subset or table.train_images
    facts = [printable(table.dataset)] if table.dataset else []
    if drawn:
        of = f" of {table.train_images:,}" if table.subset and table.train_images else ""
        facts.append(f"{drawn:,}{of} training images")
    facts += [
        f"{value} {word}"
        for value, word in ((table.epochs, "epochs"), (table.seeds, "seeds"))
        if value
    ]
    return [line for line in (", ".join(facts), count_line(table.progress)) if line]


def _text(table: Table) -> str:
    lines = [printable(table.study), *_facts(table)]
    for block in _blocks(table):
        lines += ["", block.title, *_text_rows(block)]
    lines.append("")
    for note in table.notes:
        lines += textwrap.wrap(note, WIDTH, subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _text_rows(block: Block) -> list[str]:
    """Lay a block out with a line per factor and its levels indented below."""
    factors, levels, *columns = block.columns.values()
    headings = list(block.columns)[2:]
    cells = []
    for heading, column in zip(headings, columns, strict=True):
        width = max(map(len, [heading, *column]))
        left = heading == "verdict"
        cells.append(
            [cell.ljust(width) if left else cell.rjust(width) for cell in [heading, *column]]
        )
    head, *rows = ["  ".join(row) for row in zip(*cells, strict=True)]
    labels = [
        f"  {level}" if level else factor for factor, level in zip(factors, levels, strict=True)
    ]
    space = max(12, WIDTH - len(head) - 1)
    indent = min(space, max(map(len, labels)))
    lines = [f"{'':{indent}} {head}"]
    factor = factors[0]
    for name, label, row in zip(factors, labels, rows, strict=True):
        if name != factor:
            lines.append(name)
            factor = name
        if len(label) > indent:  # a long level takes a line for itself
            lines.append(label)
        lines.append(f"{label if len(label) <= indent else '':{indent}} {row}")
    return lines


def _markdown(table: Table) -> str:
    parts = [
        f"### {_escape_markdown(printable(table.study))}",
        *map(_escape_markdown, _facts(table)),
    ]
    for block in _blocks(table):
        parts.append(f"**{block.title}**")
        lines = [list(block.columns), ["---", "---", *["--:"] * (len(block.columns) - 2)]]
        lines += [[_escape_markdown(cell) for cell in row] for row in block.rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    parts.append("\n".join(f"- {_escape_markdown(note)}" for note in table.notes))
    return "\n\n".join(parts) + "\n"


def _escape_markdown(text: str) -> str:
    # An underscore inside a word is plain text on GitHub; learning\\_rate would be hard to read.
    text = re.sub(r"([\\`*\[\]|#~$])|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latex(table: Table) -> str:
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{_escape_latex('. '.join([printable(table.study), *_facts(table)]))}}}",
    ]
    for block in _blocks(table):
        lines += [
            rf"\par\medskip {_escape_latex(block.title)}\par\smallskip",
            rf"\begin{{tabular}}{{ll{'r' * (len(block.columns) - 2)}}}",
            r"\toprule",
            " & ".join(block.columns) + r" \\",
            r"\midrule",
            *(" & ".join(map(_escape_latex, row)) + r" \\" for row in block.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    lines += [r"\par\smallskip\raggedright", *(rf"{_escape_latex(n)}\par" for n in table.notes)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "[": "{[}",  # after a line break, \\ would take it for its argument
    "]": "{]}",
    **{c: rf"\{c}" for c in "_%&#{}$"},
}


def _escape_latex(text: str) -> str:
    text = "".join(LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)  # a minus sign, not a hyphen


def _record(effect: Effect) -> dict[str, Any]:
    named = {"factor": effect.factor, "level": effect.level}
    return named | asdict(effect) | {"verdict": verdict(effect)}


def _csv(table: Table) -> str:
    # Fractions at full precision, an empty cell for what is not known; the baseline comes first.
    names = [field.name for field in fields(Effect) if field.name not in ("factor", "level")]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["factor", "level", *names, "verdict"], lineterminator="\n")
    writer.writeheader()
    writer.writerow({"factor": "baseline", **asdict(table.baseline)})
    for effect in table.effects:
        words = {"factor": effect.factor, "level": level_label(effect.level)}
        writer.writerow(_record(effect) | {name: printable(word) for name, word in words.items()})
    return out.getvalue()


def as_dict(table: Table) -> dict[str, Any]:
    """Return the JSON form, a contract of docs and users: keys are only ever added."""
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


def _json(table: Table) -> str:
    return json.dumps(as_dict(table), indent=2, allow_nan=False) + "\n"


RENDERERS: dict[str, Callable[[Table], str]] = {
    "text": _text,
    "markdown": _markdown,
    "csv": _csv,
    "latex": _latex,
    "json": _json,
}
FORMATS = tuple(RENDERERS)
