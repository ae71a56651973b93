"""What the commands share: the app, how a plan or a stored study is found, printing."""

import shlex
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study.plans import catalog, plan_file
from study.plans.plan import Plan, load_plan
from study.store import location, published
from trainer.errors import UserError, choose

if TYPE_CHECKING:
    import sqlalchemy
    from rich.console import Console

    from analysis.designs.base import Results
    from analysis.trials import Study, Trial

TONES = {"headline": "bold", "better": "green", "worse": "red"}

app = typer.Typer(
    name="fmnist-study",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fmnist-study {version('fmnist-study')}")
        raise typer.Exit


@app.callback()
def _program(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_show_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Hyperparameter studies of small image classifiers.

    Which choice matters, by how much, and how sure are we?
    """


def plan_for(source: str, storage_option: str | None, dataset: str | None, **changes: Any) -> Plan:
    """Find a plan: in the catalogue, in a file, or with a stored study of that name."""
    if source in catalog.names() or source.endswith(".toml"):
        return load_plan(source, dataset=dataset, **changes)
    stored = studies_if_any(location.locate(storage_option))
    plans = {study.name: study.plan for study in stored if study.plan}
    if source not in plans and (brought := published_study(source)):
        plans[source] = brought[1].plan
    if source not in plans:
        raise UserError(choose("study", source, _known(plans)))
    changes = {"dataset": dataset, **changes}
    return Plan.from_dict(plan_file.overridden(plans[source], Plan.dataset, changes))


@contextmanager
def told_where(name: str, moved: str | None) -> Iterator[None]:
    """Say how to name images of the user's that are no longer where they were.

    Args:
        name: of the data set, as it is stored.
        moved: where the user says that it is now.
    """
    kind, _, place = name.partition(":")
    try:
        yield
    except UserError as error:
        if moved is None and kind in ("folder", "npz") and not Path(place).exists():
            raise UserError(
                f"{error}; if it was moved, --dataset {kind}:PATH says where it is now"
            ) from error
        raise


def imported_study(source: str, storage_option: str | None) -> "tuple[Study, list[Trial]] | None":
    """Find a stored study that was imported, with its trials."""
    if source in catalog.names() or source.endswith(".toml"):
        return None
    url = location.locate(storage_option)
    for study in studies_if_any(url):
        if study.name == source and study.plan.get("imported"):
            return study, trials_of(url, study)
    return None


def _known(stored: Iterable[str]) -> list[str]:
    return [*dict.fromkeys([*catalog.names(), *stored]), "or a .toml file"]


def stored_studies(url: "sqlalchemy.URL") -> "list[Study]":
    """Read every study of a database that is there."""
    location.check_readable(url)
    from analysis import trials

    with _reading(url):
        return trials.studies(trials.connect(url))


def studies_if_any(url: "sqlalchemy.URL") -> "list[Study]":
    """Read every study; none where there is no database yet."""
    return [] if location.is_new(url) else stored_studies(url)


def trials_of(url: "sqlalchemy.URL", study: "Study") -> "list[Trial]":
    """Read the trials of a study."""
    from analysis import trials

    with _reading(url):
        return trials.trials(trials.connect(url), study.id)


@contextmanager
def _reading(url: "sqlalchemy.URL") -> Iterator[None]:
    """Say in one line that a database is damaged: in its pages, or in its JSON."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, ValueError, LookupError, TypeError) as error:
        where = location.display(url)
        raise UserError(
            f"storage {where}: cannot be read: {location.reason(error, url)}"
        ) from error


def read(url: "sqlalchemy.URL", name: str | None) -> "tuple[Study, list[Trial]]":
    """Read a study: by its name, by its plan's (then the newest), or the one that ran last."""
    url, chosen = choose_study(url, name)
    if chosen.damage:
        raise UserError(
            f"storage {location.display(url)}: study {chosen.name!r} is damaged: {chosen.damage}"
        )
    trials = trials_of(url, chosen)
    _tell_of_damage(chosen, trials)
    return chosen, trials


def choose_study(url: "sqlalchemy.URL", name: str | None) -> "tuple[sqlalchemy.URL, Study]":
    """Choose a stored study as `read` does, a damaged one too; return where it lies with it."""
    if name is not None and location.is_new(url) and (brought := published_study(name)):
        return brought
    stored = stored_studies(url)
    if not stored:
        raise UserError(f"storage {location.display(url)}: holds no study yet")
    if name is None:
        return url, stored[-1]
    plan_name = load_plan(name).name if name.endswith(".toml") else name
    exact = [study for study in stored if study.name in (name, plan_name)]
    of_plan = [study for study in stored if study.plan.get("name") == plan_name]
    if exact or of_plan:
        return url, (exact or of_plan)[-1]
    if brought := published_study(name):
        return brought
    raise UserError(choose("study", name, [study.name for study in stored]))


def published_studies(but: Collection[str] = ()) -> "list[Study]":
    """Read the studies that travel with the package, but for those of these names."""
    url = published.url()
    return [study for study in stored_studies(url) if study.name not in but] if url else []


def published_study(name: str) -> "tuple[sqlalchemy.URL, Study] | None":
    """Find a study that travels with the package, and where it can be read."""
    url = published.url()
    named = [study for study in published_studies() if study.name == name]
    if url is None or not named:
        return None
    _tell_once(f"study {name!r}: as published, from this installation of fmnist-study")
    return url, named[0]


def _tell_of_damage(study: "Study", trials: "list[Trial]") -> None:
    """Say what of a study is left out, as it is not what it must be."""
    parts = [f"its attribute {name!r}" for name in study.left_out]
    damaged = [trial for trial in trials if trial.damage]
    parts += [f"trial {trial.number} ({trial.damage})" for trial in damaged[:1]]
    if len(damaged) > 1:
        parts.append(f"{len(damaged) - 1} more trials")
    if parts:
        from analysis.text import printable

        _tell_once(printable(f"study {study.name!r}: left out as damaged: {', '.join(parts)}"))


@cache
def _tell_once(line: str) -> None:
    """Print a line on stderr, however often it is read again."""
    print(line, file=sys.stderr)


def write_hiplot(study: "Study", trials: "list[Trial]", out: Path | None) -> Path:
    """Write the HiPlot page of a study to its folder; return its path."""
    from analysis import hiplot_page

    if not trials:
        raise UserError(f"study {study.name!r}: has no trials yet, so there is no page to write")
    folder = page_folder(study.name, out)
    try:
        return hiplot_page.write(study, trials, folder / "hiplot.html")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def write_report(
    results: "Results[Any]",
    url: "sqlalchemy.URL",
    out: Path | None,
    figures: str | None = None,
) -> list[Path]:
    """Write the report page of a study, and its figures as files; return what was written.

    Args:
        results: of the study.
        url: the database, which checkpoints lie beside.
        out: the folder; None: the study's own.
        figures: a format to write each figure in too.
    """
    from analysis import report_page
    from analysis.figures.save import CannotDraw, save

    folder, beside = page_folder(results.study.name, out), location.sqlite_path(url)
    report = report_page.build(
        results,
        findings=findings_of(results),
        folder=Path.cwd() if beside is None else beside.parent,
        hiplot="hiplot.html" if (folder / "hiplot.html").exists() else None,
    )
    try:
        written = [report_page.write(report, folder / "report.html")]
        if figures is not None:
            written += save(report.figures, folder / "figures", figures)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    except CannotDraw as error:
        raise UserError(f"--figures {figures}: {error}") from error
    return written


def findings_of(results: "Results[Any]") -> list[dict[str, Any]]:
    """Return what lint finds in a study: code, severity, where, message."""
    from study.cli.findings import findings

    try:
        return [finding.as_dict() for finding in findings(results.study, results.trials)]
    except UserError as error:  # a plan that is no longer valid
        said = {"code": "not-checked", "severity": "warning", "where": "plan"}
        return [{**said, "message": str(error)}]


def page_folder(study: str, out: Path | None) -> Path:
    """Return the folder of a study's pages: `--out DIR`, else `reports/STUDY`."""
    folder = Path("reports") / study
    if out is None and not folder.resolve().is_relative_to(Path("reports").resolve()):
        raise UserError(f"study {study!r}: its name leads out of reports/; give --out DIR")
    return out or folder


def stderr() -> "Console":
    """Return a console on stderr, where progress goes."""
    from rich.console import Console

    return Console(stderr=True)


def print_words(console: "Console", line: str) -> None:
    """Print a line; on a terminal that is narrower, words stay whole, and long ones one."""
    if console.is_terminal:
        line = textwrap.fill(line, console.width, break_long_words=False, break_on_hyphens=False)
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_results(
    results: "Results[Any]", url: "sqlalchemy.URL", *, everything: bool = False
) -> None:
    """Print the summary and one table, and the command for the rest; or all of it."""
    from rich.console import Console
    from rich.text import Text

    from analysis.documents import render
    from analysis.first_screen import first_screen, whole_summary
    from analysis.text import printable

    lines = whole_summary(results.summary()) if everything else first_screen(results)
    console = Console(highlight=False)  # heeds NO_COLOR and FORCE_COLOR
    for line in lines:
        console.print(Text(line.text, style=TONES.get(line.tone, "")), soft_wrap=True)
    print()
    if everything:
        print(render(results.table, "text"))
        return
    elsewhere = [] if url == location.locate(None) else ["--storage", location.display(url)]
    command = ["fmnist-study", "report", results.study.name, *elsewhere, "--all"]
    print(f"the rest: {printable(shlex.join(command))}")


def say(text: str, *, parseable: bool) -> None:
    """Print a remark: to stderr where stdout must stay parseable."""
    print(text, file=sys.stderr if parseable else sys.stdout)
