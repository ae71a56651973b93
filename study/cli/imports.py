"""The command `import`, and what `show` says of an imported study."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study.cli.common import app
from study.cli.json_output import print_json
from study.cli.options import JsonOption, ModelOption, StorageOption
from study.store import location

if TYPE_CHECKING:
    import sqlalchemy

    from analysis.trials import Study, Trial
    from study.importing import ImportedStudy, Options, Table


SourceArgument = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="A file or folder of results; see docs/importing.md."),
]
NewNameOption = Annotated[str, typer.Option("--study-name", help="The new study's name.")]
ImagesOption = Annotated[
    str | None, typer.Option("--dataset", metavar="NAME", help="What was classified.")
]
KindOption = Annotated[
    str | None,
    typer.Option("--from", metavar="KIND", help="What wrote it; default: told by its content."),
]
PickOption = Annotated[
    str | None,
    typer.Option("--pick", metavar="NAME", help="Which study, experiment or sheet of several."),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="COLUMN",
        help="The figure to compare; default: validation before test, accuracy before others.",
    ),
]
LowerOption = Annotated[
    bool, typer.Option("--lower-is-better", help="Less of the compared figure is better.")
]
UnitOption = Annotated[
    str | None,
    typer.Option("--unit", metavar="UNIT", help="Of the compared figure: percent, fraction, ..."),
]
FactorsOption = Annotated[
    str | None,
    typer.Option("--factors", metavar="A,B", help="The factors; others are left out."),
]
IgnoreOption = Annotated[
    str | None, typer.Option("--ignore", metavar="A,B", help="Columns that are left out.")
]
SeedColumnOption = Annotated[
    str | None, typer.Option("--seed", metavar="COLUMN", help="What tells replicates apart.")
]
EpochColumnOption = Annotated[
    str | None, typer.Option("--epoch", metavar="COLUMN", help="What counts the rows of a run.")
]
CopiesOption = Annotated[
    bool, typer.Option("--keep-copies", help="Rows equal in every cell are runs of their own.")
]
ClaimsOption = Annotated[
    Path | None,
    typer.Option("--claims", metavar="FILE", help="[[claims]] about the results, for lint."),
]
ReadingOnlyOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say how it would be read.")
]


@app.command("import")
def import_results(
    file: SourceArgument,
    study_name: NewNameOption,
    dataset: ImagesOption = None,
    kind: KindOption = None,
    pick: PickOption = None,
    metric: MetricOption = None,
    lower_is_better: LowerOption = False,
    unit: UnitOption = None,
    factors: FactorsOption = None,
    ignore: IgnoreOption = None,
    seed: SeedColumnOption = None,
    epoch: EpochColumnOption = None,
    keep_copies: CopiesOption = False,
    claims: ClaimsOption = None,
    model: ModelOption = None,
    dry_run: ReadingOnlyOption = False,
    storage_option: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a study of other people's results; say what each column was taken for."""
    from study.importing import Options, make_study, read_table, store

    options = Options(
        metric=metric,
        factors=_names(factors),
        seed=seed,
        epoch=epoch,
        ignore=_names(ignore) or (),
        lower_is_better=lower_is_better,
        unit=unit,
        keep_copies=keep_copies,
    )
    url = location.locate(storage_option)
    table = read_table(file, kind, pick)
    given: dict[str, Any] = {
        "name": study_name,
        "dataset": dataset,
        "claims": claims,
        "model": model,
    }
    made = make_study(table, options=options, **given) if as_json else _study(table, options, given)
    if not dry_run:
        store(made, url, shlex.join(["fmnist-study", *map(location.masked, sys.argv[1:])]))
    if as_json:
        print_json({"file": str(file), "storage": _where(url, dry_run), **_as_dict(made)})
        return
    _say(made, _where(url, dry_run) or "only said, not stored")


def _where(url: "sqlalchemy.URL", dry_run: bool) -> str | None:
    return None if dry_run else location.display(url)


def _as_dict(made: "ImportedStudy") -> dict[str, Any]:
    """Return what was made of a source, JSON-ready."""
    return {
        "study": made.name,
        "kind": made.kind,
        "design": made.plan["design"],
        "trials": len(made.trials),
        "factors": {name: list(levels) for name, levels in made.levels.items()},
        "columns": dict(made.uses),
        "summary": made.summary,
        "notes": list(made.notes),
    }


def _study(table: "Table", options: "Options", given: Mapping[str, Any]) -> "ImportedStudy":
    """Make a study of a table; say first what it was recognised as, and each column's reading."""
    from analysis.text import printable
    from study.importing import UnclearError, make_study

    print(printable(f"{table.file}: read as {table.kind}"), flush=True)
    try:
        made = make_study(table, options=options, **given)
    except UnclearError as error:
        _print_uses(error.uses)
        sys.stdout.flush()
        raise
    _print_uses(made.uses)
    return made


def _say(made: "ImportedStudy", where: str) -> None:
    from analysis.text import printable

    print()
    print(printable(f"study {made.name} ({where}): {made.summary}"))
    for note in made.notes:
        print(printable(f"note: {note}"))


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",")]


def _print_uses(uses: Mapping[str, str]) -> None:
    from analysis.text import printable

    width = max((len(printable(column)) for column in uses), default=0)
    for column, use in uses.items():
        print(f"{printable(column):{width}}  {printable(use)}")


def show_imported(study: "Study", trials: "list[Trial]", *, as_json: bool) -> None:
    """Say what an imported study holds: its reading, its factors, its runs by level."""
    from analysis.progress import progress
    from analysis.progress import render as said
    from analysis.text import printable
    from fmnist_common.text import level_text

    plan, imported = study.plan, study.plan["imported"]
    space = plan["factors"] or (plan.get("search") or {}).get("space", {})
    counts = {
        name: {
            level_text(level): sum(trial.params.get(name) == level for trial in trials)
            for level in levels
        }
        for name, levels in space.items()
        if isinstance(levels, list)
    }
    if as_json:
        print_json({**plan, "trials": len(trials), "levels": counts})
        return
    print(said(progress(study, trials)))
    print(printable(f"imported from {imported['file']}, {imported.get('kind', 'a table')}"))
    for name, levels in space.items():
        runs = counts.get(name)
        told = ", ".join(f"{level} ({n})" for level, n in runs.items()) if runs else str(levels)
        print(printable(f"factor {name}: {told}"))
    _print_uses(imported.get("columns", {}))
    for note in imported.get("notes", []):
        print(printable(f"note: {note}"))
