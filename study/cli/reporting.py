"""The commands over results: `report`, `compare`, `lint`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import (
    app,
    plan_for,
    published_study,
    read,
    say,
    show_results,
    studies_if_any,
    trials_of,
    write_hiplot,
    write_report,
)
from study.cli.json_output import print_answer, print_json
from study.cli.options import (
    AllOption,
    DatasetOption,
    FormatOption,
    JsonOption,
    ModelOption,
    StorageOption,
    StudyName,
)
from study.store import location
from trainer.errors import UserError, choose

if TYPE_CHECKING:
    from analysis.trials import Study, Trial

FORMATS = ("text", "markdown", "csv", "latex", "json")
FIGURES = ("png", "svg", "pdf")


def _format(named: str, as_json: bool) -> str:
    """Return the format that is asked for: by `--format`, or by `--json`."""
    if named not in FORMATS:
        raise UserError(choose("--format", named, FORMATS))
    if as_json and named not in ("text", "json"):
        raise UserError(f"--format = {named!r}: and --json asks for another one")
    return "json" if as_json else named


@app.command()
def report(
    study: StudyName = None,
    storage_option: StorageOption = None,
    html: Annotated[
        bool, typer.Option("--html", help="Also write reports/STUDY/report.html.")
    ] = False,
    hiplot: Annotated[
        bool, typer.Option("--hiplot", help="Also write reports/STUDY/hiplot.html.")
    ] = False,
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures",
            metavar="FORMAT",
            help="Also write the figures of the page as files: png, svg or pdf.",
        ),
    ] = None,
    output_format: FormatOption = "text",
    as_json: JsonOption = False,
    everything: AllOption = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Judge each comparison by its own pairs (paired t), corrected by Holm."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for pages; default reports/STUDY.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    model: ModelOption = None,
) -> None:
    """Say what a study found, and print its table; write pages."""
    output_format = _format(output_format, as_json)
    if figures is not None and figures not in FIGURES:
        raise UserError(choose("--figures", figures, FIGURES))
    url = location.locate(storage_option)
    from analysis.designs import results
    from analysis.documents import render

    chosen, trials = read(url, study)
    if model is not None:
        from dataclasses import replace

        from study.importing.claims import parse_model

        chosen = replace(chosen, plan={**chosen.plan, "model": parse_model(model, chosen.plan)})
    study_results = results(chosen, trials, strict=strict)
    if output_format == "text":
        show_results(study_results, url, everything=everything)
    else:
        print_answer(render(study_results.table, output_format))
    parseable, pages = output_format != "text", []
    if hiplot:
        pages.append(write_hiplot(chosen, trials, out))
        say(f"HiPlot page: {pages[-1]}", parseable=parseable)
    if html or figures or (open_page and not hiplot):
        page, *drawn = write_report(study_results, url, out, figures)
        pages.append(page)
        say(f"report page: {page}", parseable=parseable)
        if drawn:
            say(f"{len(drawn)} figures: {drawn[0].parent}", parseable=parseable)
    if open_page:
        import webbrowser

        webbrowser.open(pages[-1].absolute().as_uri())


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A stored study.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    storage_option: StorageOption = None,
    output_format: FormatOption = "text",
    as_json: JsonOption = False,
) -> None:
    """Compare two studies: what differs, and the difference of each common variant."""
    output_format = _format(output_format, as_json)
    url = location.locate(storage_option)
    from analysis.compare import compare as beside
    from analysis.documents import render

    print_answer(render(beside(*read(url, first), *read(url, second)), output_format))


@app.command()
def lint(
    study: StudyName = None,
    dataset: DatasetOption = None,
    storage_option: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find mistakes of method in a plan and its results; exit 1 if one is an error."""
    from dataclasses import asdict

    from study.cli.findings import findings as examine
    from study.lint import SEVERITIES

    examined, trials = _examined(study, dataset, storage_option)
    name, findings = examined.name, examine(examined, trials)
    if as_json:
        print_json({"study": name, "trials": len(trials), "findings": list(map(asdict, findings))})
    else:
        import textwrap

        from analysis.text import printable

        count = {word: sum(finding.severity == word for finding in findings) for word in SEVERITIES}
        told = ", ".join(f"{n or 'no'} {word}{'' if n == 1 else 's'}" for word, n in count.items())
        what = f"the plan and {len(trials)} trials" if trials else "the plan, without results"
        print(f"{printable(name)}, {what}: {told}")
        for finding in findings:
            print(f"\n{finding.severity}: {finding.code} ({printable(finding.where)})")
            print(
                textwrap.fill(
                    printable(finding.message), 80, initial_indent="  ", subsequent_indent="  "
                )
            )
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def _examined(
    study: str | None, dataset: str | None, storage_option: str | None
) -> "tuple[Study, list[Trial]]":
    """Find a stored study of this name, with its results, else a plan.

    A plan file has the results of a study of its name if that was made with this very plan.
    """
    from dataclasses import replace

    from study.cli.findings import plan_alone

    url = location.locate(storage_option)
    stored = {candidate.name: candidate for candidate in studies_if_any(url)}
    is_stored = study in stored or (study is not None and published_study(study) is not None)
    if study is None or (is_stored and dataset is None):
        return read(url, study)
    plan = plan_for(study, storage_option, dataset)
    namesake = stored.get(plan.name)
    if namesake is None or namesake.attributes.get("plan_hash") != plan.hash:
        return plan_alone(plan.name, plan.to_dict()), []
    return replace(namesake, plan=plan.to_dict()), trials_of(url, namesake)
