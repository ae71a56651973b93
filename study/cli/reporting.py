"""The commands over results: `report`, `import`."""

from pathlib import Path
from typing import Annotated

import typer

from study import storage
from study.cli.common import (
    app,
    read,
    say,
    write_hiplot,
)
from study.cli.options import StorageOption, StudyName
from trainer.errors import UserError, choose

FORMATS = ("text", "markdown", "csv", "latex", "json")


@app.command()
def report(
    study: StudyName = None,
    storage_option: StorageOption = None,
    hiplot: Annotated[
        bool, typer.Option("--hiplot", help="Also write reports/STUDY/hiplot.html.")
    ] = False,
    output_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help=", ".join(FORMATS))
    ] = "text",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for pages; default reports/STUDY.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Print the ablation table; write pages."""
    if output_format not in FORMATS:
        raise UserError(choose("--format", output_format, FORMATS))
    url = storage.locate(storage_option)
    from analysis import tables

    found, trials = read(url, study)
    print(tables.render(tables.table(found, trials), output_format))
    if hiplot or open_page:
        page = write_hiplot(found, trials, out)
        say(f"HiPlot page: {page}", parseable=output_format != "text")
        if open_page:
            import webbrowser

            webbrowser.open(page.absolute().as_uri())


@app.command("import")
def import_results(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, TSV, JSON or JSON lines.")],
    study_name: Annotated[str, typer.Option("--study-name", help="The new study's name.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="What was classified.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="COLUMN",
            help="The accuracy to compare; default: validation, else any other.",
        ),
    ] = None,
    factors: Annotated[
        str | None,
        typer.Option(
            "--factors", metavar="A,B", help="The factors; default: all columns that vary."
        ),
    ] = None,
    storage_option: StorageOption = None,
) -> None:
    """Make a study of other people's results; say what each column was taken for."""
    import shlex
    import sys

    from study.importing import make_study, read_sheet, store

    chosen = None if factors is None else [name.strip() for name in factors.split(",")]
    url = storage.locate(storage_option)
    sheet = read_sheet(file)
    made = make_study(sheet, name=study_name, dataset=dataset, metric=metric, factors=chosen)
    store(made, url, shlex.join(["fmnist-study", *map(storage.masked, sys.argv[1:])]))
    from analysis.text import printable

    width = max(len(printable(column)) for column in made.uses)
    for column, use in made.uses.items():
        print(f"{printable(column):{width}}  {printable(use)}")
    print()
    print(printable(f"study {made.name} in {storage.display(url)}: {made.summary}"))
    for note in made.notes:
        print(printable(f"note: {note}"))
