"""A table as a study: its plan, its trials, and what was made of every column."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.importing.assembly import (
    Assembly,
    ImportedStudy,
    column_uses,
    describe,
)
from study.importing.cells import levels_of
from study.importing.claims import parse_model, read_claims
from study.importing.factors import ask_about_gaps, ask_about_merged, find_factors
from study.importing.reading import KEPT, Options, Reading, UnclearError, read_columns
from study.importing.reshape import reshape
from study.importing.runs import Runs, make_runs
from study.importing.table import Table
from study.importing.trials import outcomes
from study.plans.plan import Level, check_name
from trainer.errors import UserError

MAX_RUNS = 100_000
SHOWN = 8  # levels, or copies, that are listed


def make_study(
    table: Table,
    *,
    name: str,
    dataset: str | None = None,
    options: Options | None = None,
    claims: Path | None = None,
    model: str | None = None,
) -> ImportedStudy:
    """Make a study of a table.

    Args:
        table: a row per run or per epoch of one.
        name: the study's.
        dataset: which images the results are of, if that is known.
        options: what the user says of the columns.
        claims: a file of `[[claims]]` about the results.
        model: of a factorial: which factors may act on each other; None: all pairs.

    Raises:
        UnclearError: a column could mean several things; asks, and holds the reading so far.
        UserError: the table cannot be understood without changing a figure; names the line.
    """
    check_name("--study-name", name)
    try:
        made = _make(reshape(table), name, dataset, options or Options())
    except UnclearError as error:
        said = f"file {table.file}: {error} (read as {table.kind})"
        raise UnclearError([said], error.uses) from error
    except UserError as error:
        raise UserError(f"file {table.file}: {error} (read as {table.kind})") from error
    if model is not None:
        made.plan["model"] = parse_model(model, made.plan)
    if claims is not None:
        made.plan["claims"] = read_claims(claims, made.plan, made.levels)
    return made


def _make(table: Table, name: str, dataset: str | None, options: Options) -> ImportedStudy:
    reading = read_columns(table, options)
    rows = _levels_of_rows(reading)
    key_columns = [column for column in rows if reading.doubtful.get(column) != "cost"]
    named = [table.column(column) for column in (*reading.seeds, reading.run) if column]
    keys = list(zip(*(rows[column] for column in key_columns), *named, strict=True))
    runs = make_runs(reading, keys or [()] * len(table.rows), told=options.epoch is not None)
    if reading.compared is None:
        raise UnclearError(reading.questions, column_uses(reading))
    runs = _without_copies(reading, runs, keep=options.keep_copies)
    if len(runs.runs) > MAX_RUNS:
        raise UserError(f"holds {len(runs.runs):,} runs; at most {MAX_RUNS:,} are imported")
    results = outcomes(reading, runs)
    levels = _levels_of_runs(reading, rows, runs)
    if runs.chosen and runs.trained is not None:
        column = str(reading.epoch)
        levels[column] = [runs.trained[run[0]] for run in runs.runs]
        reading.settings.append(column)
    live = [n for n, outcome in enumerate(results) if outcome.state == "COMPLETE"]
    live = live or [n for n, outcome in enumerate(results) if outcome.state == "PRUNED"]
    if not live:
        reason = results[0].attributes["failure_reason"]
        raise UserError(f"holds no run with a {reading.compared.column} to compare ({reason})")
    factors = find_factors(reading, levels, live, told=options.factors is not None)
    ask_about_gaps(reading, options.factors or ())
    if options.factors is None:
        ask_about_merged(reading, factors, [runs.runs[run][0] for run in live], live)
    if reading.questions:
        describe(reading, factors, None)
        raise UnclearError(reading.questions, column_uses(reading))
    return Assembly(reading, runs, results, levels, factors, live).made(name, dataset)


def _levels_of_rows(reading: Reading) -> dict[str, list[Level]]:
    rows = {}
    for column in (*reading.settings, *reading.doubtful, *reading.seeds):
        rows[column], alike = levels_of(reading.table.column(column))
        if column not in reading.seeds:
            reading.notes += [f"{column}: {texts} are one level" for texts in alike]
    return rows


def _levels_of_runs(
    reading: Reading, rows: Mapping[str, Sequence[Level]], runs: Runs
) -> dict[str, list[Level]]:
    """Return each column's level of each run; what changes within a run is no factor."""
    kept = {}
    for column, levels in rows.items():
        if any(len(run) > 1 and len({levels[row] for row in run}) > 1 for run in runs.runs):
            if column in reading.doubtful and reading.doubtful[column] == "cost":
                reading.keep(column, reading.uses.get(column, KEPT))
            elif column not in reading.seeds:
                reading.keep(column, "left out: changes within a run")
        else:
            kept[column] = [levels[run[0]] for run in runs.runs]
    return kept


def _without_copies(reading: Reading, runs: Runs, *, keep: bool) -> Runs:
    """Count rows that are equal in every cell once, and name them, unless the user keeps them."""
    if any(len(run) > 1 for run in runs.runs):
        return runs
    first: dict[tuple[Any, ...], int] = {}
    copies: dict[int, list[str]] = defaultdict(list)
    kept = []
    for run in runs.runs:
        row = reading.table.rows[run[0]]
        original = first.setdefault(tuple(map(repr, row.cells.items())), run[0])
        if original == run[0] or keep:
            kept.append(run)
        if original != run[0]:
            copies[original].append(row.where)
    if copies:
        rows = reading.table.rows
        told = [f"{', '.join(places[:SHOWN])} of {rows[n].where}" for n, places in copies.items()]
        count = sum(map(len, copies.values()))
        words = "are counted as runs, as you said" if keep else (
            "are counted once; if they are runs of their own, say --keep-copies"
        )  # fmt: skip
        reading.notes.insert(
            0, f"{count} rows equal others in every cell ({'; '.join(told[:SHOWN])}): they {words}"
        )
    return Runs(kept, runs.epochs, runs.trained, runs.chosen)
