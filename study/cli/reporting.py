"""The commands over results: `report`."""

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
