"""How far the page can be trusted: checks of the method, provenance, how to read it."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.page.parts import NOTHING, Cell, Column, Part, Section, Sheet
from analysis.provenance import facts as where_from
from analysis.provenance import told
from analysis.text import printable
from analysis.training_times import last_ended, trained_here, wall_seconds
from analysis.trials import Study, Trial
from analysis.wording import count, listed, some
from fmnist_common.text import duration

MOST_VARIANTS = 300  # rows of the table of costs
MOST_LINES = 500  # of uncommitted changes


def checks(findings: Sequence[Mapping[str, Any]] | None) -> list[Section]:
    """List the findings of the methodology checks; None: nobody checked."""
    if findings is None:
        return []
    shown = [
        {
            name: printable(str(finding.get(name) or ""))
            for name in ("severity", "code", "where", "message")
        }
        for finding in findings
    ]
    intro = [] if shown else ["No methodological mistake was found."]
    return [Section("checks", "Checks of the method", intro, [Part(findings=shown)])]


def provenance(study: Study, trials: Sequence[Trial]) -> Section:
    """Say where the figures come from and what they took."""
    more = {"Taken over": _taken_over(trials), **_imported(study)}
    facts = where_from(study, trials)
    facts += [(name, told(value)) for name, value in more.items() if value]
    facts.append(("To check it", _check_command(study)))
    rows = _cost_rows(study.plan, trials)
    shown = rows[:MOST_VARIANTS]
    notes = [
        "Compute: training time of the trials, the share of each where several are trained in one "
        "program. Wall: how long at least one of them was running."
    ]
    if len(rows) > len(shown):
        notes.append(f"{len(rows) - len(shown):,} more variants are not listed.")
    sheet = Sheet(
        "What each variant took",
        [
            Column("variant", numeric=False),
            Column("trials"),
            Column("finished"),
            Column("compute"),
            Column("wall"),
            Column("device", numeric=False),
            Column("last ended (UTC)", numeric=False),
        ],
        shown,
        notes=notes,
    )
    sheets = [*([sheet] if shown else []), *_changes(study.attributes.get("git_diff"))]
    return Section("provenance", "Provenance", [], [Part(facts=facts, sheets=sheets)])


def _taken_over(trials: Sequence[Trial]) -> str:
    """Name the trials that other studies have trained: equal cells, on the same data."""
    whence: defaultdict[str, list[int]] = defaultdict(list)
    for trial in trials:
        if trial.reused:
            whence[trial.reused["study"]].append(trial.number)
    return "; ".join(
        f"{count(len(numbers), 'trial')} trained by study {name!r}, with the same configuration, "
        f"seed and data: {some(list(map(str, numbers)))}"
        for name, numbers in whence.items()
    )


def _changes(diff: str | None) -> list[Sheet]:
    """Show what had been changed of the code since the commit, a line a row."""
    if not diff:
        return []
    lines = diff.splitlines()
    # Spaces that do not break keep the code's indentation.
    rows = [[Cell(printable(line).replace(" ", "\u00a0"))] for line in lines[:MOST_LINES]]
    left = len(lines) - len(rows)
    notes = [f"{left:,} more lines are in the database: git_diff."] if left else []
    title = "Uncommitted changes of the code"
    return [Sheet(title, [Column("git diff HEAD", numeric=False)], rows, notes=notes, folded=True)]


def _check_command(study: Study) -> str:
    """Say which command verifies the study; of one that was trained here, by training too."""
    is_ours = study.plan and not study.plan.get("imported")
    retrain = " --retrain 3" if is_ours else ""
    means = "checksums, figures, weights" + (", and 3 trials trained again" if is_ours else "")
    return printable(f"fmnist-study verify {shlex.quote(study.name)}{retrain} ({means})")


def _imported(study: Study) -> dict[str, str]:
    """Say what an imported file was read as, and what became of its columns."""
    imported = study.plan.get("imported")
    if not imported:
        return {}
    columns = imported.get("columns", {})
    left_out = [name for name, use in columns.items() if "not used" in use or "left out" in use]
    reading = f"{imported['metric']}: {columns.get(imported['metric'], study.compared)}"
    more = f"; {count(len(left_out), 'column')} left out: {some(left_out)}" if left_out else ""
    kind = imported.get("kind")
    return {
        "Imported from": imported["file"] + (f", {kind}" if kind else ""),
        "File SHA-256": imported.get("sha256", ""),
        "Reading": reading + more,
        "Columns": "; ".join(f"{name}: {use}" for name, use in columns.items()),
        "Notes of the import": " ".join(f"{note}." for note in imported.get("notes", [])),
    }


def _cost_rows(plan: Mapping[str, Any], trials: Sequence[Trial]) -> list[list[Cell]]:
    variants: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        variants[trial.label].append(trial)
    rows = []
    for label, replicates in variants.items():
        compute = sum(trial.seconds or 0.0 for trial in replicates)
        here = trained_here(plan, replicates)
        wall, ended = wall_seconds(here), last_ended(here)
        devices = dict.fromkeys(printable(trial.device) for trial in replicates if trial.device)
        done = sum(trial.state == "COMPLETE" for trial in replicates)
        rows.append(
            [
                Cell(printable(label), kind="label"),
                Cell(f"{len(replicates):,}", len(replicates), "number"),
                Cell(f"{done:,}", done, "number"),
                Cell(duration(compute), compute, "number"),
                Cell(NOTHING if wall is None else duration(wall), wall, "number"),
                Cell(listed(list(devices)) if devices else NOTHING),
                Cell(f"{ended:%Y-%m-%d %H:%M}" if ended else NOTHING),
            ]
        )
    return rows


def reading(notes: Sequence[str]) -> Section:
    """Say what a reader must know to read the figures."""
    return Section("reading", "How to read this", list(notes), [])
