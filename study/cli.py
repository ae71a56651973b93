"""The command line: thin commands that open, call and print; errors become exit codes in `main`."""

import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from study import catalog, storage
from study.plan import Plan, check_name, level_text, load_plan
from trainer import files
from trainer.errors import UserError, choose

if TYPE_CHECKING:
    import sqlalchemy
    from rich.console import Console

    from analysis.trials import Study, Trial
    from study.session import Estimate, Machine
    from study.work import Work

FORMATS = ("text", "markdown", "csv", "latex", "json")

app = typer.Typer(
    name="fmnist-study",
    help="Hyperparameter studies of small image classifiers: which choice matters, by how much, "
    "and how sure we are.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

PlanSource = Annotated[
    str, typer.Argument(metavar="STUDY", help="A catalogue name, a plan file, or a stored study.")
]
StudyName = Annotated[
    str | None,
    typer.Argument(metavar="[STUDY]", help="A stored study; left out: the one that ran last."),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL|PATH",
        help="The database; default $FMNIST_STUDY_STORAGE, else ./studies.db.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", metavar="NAME", help="fashion-mnist, digits, mnist or kmnist."),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where the data is; default $FMNIST_DATA_DIR, else ./data."),
]
SeedsOption = Annotated[int | None, typer.Option("--seeds", help="Replicate seeds per variant.")]
TrialsOption = Annotated[int | None, typer.Option("--trials", help="Trials of a search.")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Epochs per trial.")]
SubsetOption = Annotated[
    int | None, typer.Option("--subset", help="Use so many images of the training set.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, or cuda:0,1,...")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Workers; default: one per core or GPU.")
]
BankOption = Annotated[
    str, typer.Option("--bank", metavar="auto|N", help="Trials trained together in one program.")
]
ExecutorOption = Annotated[
    str, typer.Option("--executor", metavar="NAME", help="local (processes) or inline.")
]


@app.command("list")
def list_studies(storage_option: StorageOption = None, as_json: JsonOption = False) -> None:
    """Name the studies: those of the catalogue, and those in the database."""
    plans = [load_plan(name) for name in catalog.names()]
    url = storage.locate(storage_option)
    stored = _studies_if_any(url)
    if as_json:
        _print_json(
            [
                {
                    "name": plan.name,
                    "description": plan.description,
                    "design": plan.design,
                    "dataset": plan.dataset,
                    "variants": plan.variant_count,
                    "seeds": plan.seeds,
                    "epochs": plan.epochs,
                    "stored": False,
                }
                for plan in plans
            ]
            + [
                {
                    "name": study.name,
                    "description": study.plan.get("description", ""),
                    "design": study.plan.get("design"),
                    "dataset": study.dataset.get("name"),
                    "trials": study.trial_count,
                    "last_run": study.last_run,
                    "stored": True,
                }
                for study in stored
            ]
        )
        return
    from analysis.text import printable

    names = [printable(study.name) for study in stored]
    width = max(map(len, [*catalog.names(), *names]))
    for plan in plans:
        print(f"{plan.name:{width}}  {plan.description}")
    for name, study in zip(names, stored, strict=True):
        last = f", last run {study.last_run[:16].replace('T', ' ')} UTC" if study.last_run else ""
        where = storage.display(url)
        print(f"{name:{width}}  in {where}: {study.trial_count} trials{last}")


@app.command()
def show(
    study: PlanSource,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    storage_option: StorageOption = None,
    seeds: SeedsOption = None,
    epochs: EpochsOption = None,
    trials: TrialsOption = None,
    subset: SubsetOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a study's factors, its cells, and what running it would cost."""
    sizes = {"seeds": seeds, "epochs": epochs, "trials": trials, "subset": subset}
    plan = _plan(study, storage_option, dataset, **sizes)
    from study.session import Machine, estimate, work_for, workers_for
    from study.work import cost_key

    machine = Machine(device=device, workers=workers, data_dir=data_dir)
    measured: Estimate | None = None
    why_not = ""
    try:
        files.ready(plan.dataset, data_dir, download=False)
        with workers_for(plan, plan.trial_count, machine) as (executor, _):
            measured = estimate(plan, work_for(plan, []), executor, executor.start())
    except UserError as error:
        if device != "auto":
            raise
        why_not = str(error)
    costs = {cost_key(config): cost for config, cost in measured.costs} if measured else {}
    variants = []
    for variant in plan.variants:
        changes = dict(variant.changes)
        single = next(iter(changes.items())) if len(changes) == 1 else (None, None)
        config = plan.base_config.replace(**changes)
        cost = costs.get(cost_key(config))
        variants.append(
            {
                "variant": variant.label,
                "factor": single[0],
                "level": single[1],
                "changes": changes,
                "architecture": config.architecture,
                "parameters": cost.parameters if cost else None,
                "seconds": cost.seconds if cost else None,
            }
        )
    if as_json:
        _print_json(
            {
                **plan.to_dict(),
                "trials": plan.trial_count,
                "seconds": measured.seconds if measured else None,
                "workers": measured.workers if measured else None,
                "devices": list(measured.devices) if measured else None,
                "variants": variants,
            }
        )
        return
    from study.view import show_plan

    show_plan(plan, variants, measured, why_not)


@app.command()
def run(
    study: PlanSource,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    storage_option: StorageOption = None,
    study_name: Annotated[
        str | None, typer.Option("--study-name", help="Default: the plan's name.")
    ] = None,
    seeds: SeedsOption = None,
    epochs: EpochsOption = None,
    trials: TrialsOption = None,
    subset: SubsetOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    bank: BankOption = "auto",
    executor: ExecutorOption = "local",
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="30m", help="Stop after so long: 90s, 30m, 2h."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and how long, then stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only results.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a study, or go on with it."""
    sizes = {"seeds": seeds, "epochs": epochs, "trials": trials, "subset": subset}
    plan = _plan(study, storage_option, dataset, **sizes)
    url = storage.locate(storage_option)
    from study.session import Machine

    machine = Machine(device, workers, _bank(bank), executor, data_dir)
    limit = _seconds(timeout)
    if study_name is None and study not in catalog.names() and not study.endswith(".toml"):
        study_name = study  # a stored study, by its own name
    if dry_run:
        _dry_run(plan, url, machine, study_name, as_json=as_json)
        return
    code = _run(plan, url, machine, study_name, limit, quiet=quiet, as_json=as_json)
    if code:
        raise typer.Exit(code)


def _run(
    plan: Plan,
    url: "sqlalchemy.URL",
    machine: "Machine",
    study_name: str | None,
    limit: float | None,
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    from study import session, signals
    from study.coordinator import OutOfTime, StudyFailed
    from study.ledger import StorageFailed
    from study.view import announcement, view_for

    console = _stderr()
    name = study_name or plan.name

    def announce(own_name: str, costs: "Estimate | None") -> None:
        nonlocal name
        name = own_name
        if not quiet:
            for line in announcement(plan, own_name, costs):
                console.print(line, highlight=False, markup=False, soft_wrap=True)

    code = 0
    ended = "done"
    try:
        with signals.handled(), view_for(console, quiet=quiet) as view:
            state = session.run(
                plan,
                url,
                machine,
                study_name=study_name,
                argv=sys.argv[1:],
                view=view,
                announce=announce,
                timeout=limit,
            )
        code = 1 if state.failed else 0
    except KeyboardInterrupt:
        ended, code = "interrupted", 130
    except SystemExit as end:
        ended, code = "terminated", int(end.code or 0)
    except OutOfTime:
        ended, code = "out of time", 0
    except (StudyFailed, StorageFailed) as failure:
        ended, code = f"stopped: {failure}", 1
    if code in (130, 143) or ended.startswith("stopped"):
        _say(f"{ended}; everything finished is kept: the same command goes on", parseable=as_json)
        return code
    if ended == "out of time":
        _say(f"{ended}; everything finished is kept: the same command goes on", parseable=as_json)
    study, trials = _read(url, name)
    from analysis import tables
    from analysis.progress import as_dict, progress

    page = _hiplot_page(study, trials, None)
    table = tables.table(study, trials)
    if as_json:
        _print_json(
            {
                "study": study.name,
                "ended": ended,
                "progress": as_dict(progress(study, trials)),
                "report": tables.as_dict(table),
                "hiplot": str(page),
            }
        )
    else:
        print(tables.render(table, "text"))
        print(f"\nHiPlot page: {page}")
    return code


def _dry_run(
    plan: Plan, url: "sqlalchemy.URL", machine: "Machine", study_name: str | None, *, as_json: bool
) -> None:
    from study.coordinator import check_same_plan
    from study.session import estimate, name_for, work_for, workers_for
    from study.view import announcement
    from study.work import DesignedWork, pending, settled

    if study_name is not None:
        check_name("--study-name", study_name)
    known = {own.name: own for own in _studies_if_any(url)}
    name = study_name or name_for(plan, lambda own: known[own].plan if own in known else None)
    trials = _trials(url, known[name]) if name in known else []
    done = [(trial.variant, trial.seed, trial.state, trial.outcome) for trial in trials]
    check_same_plan(name, known[name].plan if name in known else None, len(trials), plan)
    cells = pending(plan, done)
    work: Work = work_for(plan, []) if plan.search else DesignedWork(plan, done, 1)
    left = plan.trial_count - len(settled(done)) if plan.search else len(cells)
    costs = None
    if left > 0:
        files.ready(plan.dataset, machine.data_dir, download=False)
        with workers_for(plan, left, machine) as (executor, _):
            costs = estimate(plan, work, executor, executor.start())
        share = left / costs.trials  # a search's course so far is not followed here
        costs = dataclasses.replace(costs, trials=left, seconds=costs.seconds * share)
    if as_json:
        seconds = costs.seconds if costs else 0.0
        _print_json(
            {
                "study": name,
                "plan": plan.to_dict(),
                "trials": plan.trial_count,
                "left": max(left, 0),
                "pending": [{"variant": c.variant.label, "seed": c.seed} for c in cells],
                "seconds": seconds,
            }
        )
        return
    for line in announcement(plan, name, costs):
        print(line)
    for variant in plan.variants:
        own = [str(cell.seed) for cell in cells if cell.variant == variant]
        print(f"  {variant.label}: {'seeds ' + ', '.join(own) if own else 'done'}")


@app.command()
def status(
    study: StudyName = None,
    storage_option: StorageOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 2 seconds.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a study is, and the best variant so far."""
    from analysis.progress import as_dict, progress, render

    url = storage.locate(storage_option)
    if not watch:
        now = progress(*_read(url, study))
        if as_json:
            _print_json(as_dict(now))
        else:
            print(render(now))
        return
    import time

    from rich.live import Live
    from rich.text import Text

    with Live(Text(""), refresh_per_second=2) as live:
        while True:
            now = progress(*_read(url, study))
            live.update(Text(render(now)), refresh=True)
            if not now.running and now.planned == now.done:
                return
            time.sleep(2)


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

    found, trials = _read(url, study)
    print(tables.render(tables.table(found, trials), output_format))
    if hiplot or open_page:
        page = _hiplot_page(found, trials, out)
        _say(f"HiPlot page: {page}", parseable=output_format != "text")
        if open_page:
            import webbrowser

            webbrowser.open(page.absolute().as_uri())


@app.command()
def best(
    study: StudyName = None,
    storage_option: StorageOption = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write weights, config and ONNX to this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Name the winner by mean validation accuracy; export it."""
    from analysis.progress import progress
    from analysis.text import percent, printable
    from analysis.trials import finished

    url = storage.locate(storage_option)
    found, trials = _read(url, study)
    winner = progress(found, trials).best
    if winner is None:
        raise UserError(f"study {found.name!r}: no trial has finished yet")
    own = [trial for trial in finished(trials) if trial.label == winner.variant]
    # Of the winner's replicates, the weights with the best validation accuracy.
    trial = max(own, key=lambda trial: trial.value or 0.0)
    folder = storage.sqlite_path(url)
    weights = (folder.parent if folder else Path.cwd()) / str(trial.checkpoint)
    written: list[Path] = []
    if export is not None:
        from trainer.export import export as write

        written = write(weights, export)
    if as_json:
        _print_json(
            {
                "study": found.name,
                "variant": winner.variant,
                "n": winner.n,
                "val_accuracy_mean": winner.mean,
                "val_accuracy_std": winner.std,
                "seed": trial.seed,
                "test_accuracy": trial.test_accuracy,
                "changes": trial.changes,
                "config": trial.config,
                "checkpoint": str(weights),
                "exported": [str(path) for path in written],
            }
        )
        return
    spread = "" if winner.std is None else f" ± {percent(winner.std)}"
    print(f"{printable(found.name)}: {printable(winner.variant)}, best by validation accuracy")
    print(f"validation accuracy {percent(winner.mean)}{spread} %, n = {winner.n}")
    if trial.test_accuracy is not None:
        print(f"test accuracy of seed {trial.seed}, whose weights these are: ", end="")
        print(f"{percent(trial.test_accuracy)} % (looked at once, chose nothing)")
    short = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in trial.changes.items()}
    differs = ", ".join(f"{name} = {level_text(value)}" for name, value in short.items())
    print(f"differs from the baseline in: {printable(differs) or 'nothing'}")
    for path in written or [weights]:
        print(path)


@app.command()
def data(
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check what is there; download nothing.")
    ] = False,
) -> None:
    """Download a data set, or check it."""
    from trainer.data import load

    found = load(dataset or "fashion-mnist", data_dir, download=not verify)
    mean, std = found.normalisation
    print(
        f"{found.name}: {len(found.train_labels)} training and {len(found.test_labels)} test "
        f"images of {found.side}x{found.side}, {len(found.classes)} classes"
    )
    print(f"pixels: mean {mean:.4f}, standard deviation {std:.4f}")
    print(f"sha256: {found.sha256}")


@app.command()
def doctor(storage_option: StorageOption = None, data_dir: DataDirOption = None) -> None:
    """Check devices, versions, data and storage, one line each."""
    from study.doctor import findings

    healthy = True
    for what, fine, text in findings(storage.locate(storage_option), data_dir):
        healthy = healthy and fine
        print(f"{'ok  ' if fine else 'FAIL'}  {what}: {text}")
    if not healthy:
        raise typer.Exit(1)


def _plan(source: str, storage_option: str | None, dataset: str | None, **changes: Any) -> Plan:
    """Find a plan: in the catalogue, in a file, or with a stored study of that name."""
    if source in catalog.names() or source.endswith(".toml"):
        plan = load_plan(source, dataset=dataset)
    else:
        stored = _studies_if_any(storage.locate(storage_option))
        plans = {study.name: study.plan for study in stored if study.plan}
        if source not in plans:
            raise UserError(choose("study", source, _known(plans)))
        plan = Plan.from_dict(plans[source]).override(dataset=dataset)
    return plan.override(**changes)


def _known(stored: Iterable[str]) -> list[str]:
    return [*dict.fromkeys([*catalog.names(), *stored]), "or a .toml file"]


def _stored_studies(url: "sqlalchemy.URL") -> "list[Study]":
    storage.check_readable(url)
    from analysis import trials

    with _reading(url):
        return trials.studies(trials.connect(url))


def _studies_if_any(url: "sqlalchemy.URL") -> "list[Study]":
    return [] if storage.is_new(url) else _stored_studies(url)


def _trials(url: "sqlalchemy.URL", study: "Study") -> "list[Trial]":
    from analysis import trials

    with _reading(url):
        return trials.trials(trials.connect(url), study.id)


@contextmanager
def _reading(url: "sqlalchemy.URL") -> Iterator[None]:
    """Say in one line that a database is damaged: in its pages, or in its JSON."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, ValueError) as error:
        where = storage.display(url)
        raise UserError(f"storage {where}: cannot be read: {storage.reason(error)}") from error


def _read(url: "sqlalchemy.URL", name: str | None) -> "tuple[Study, list[Trial]]":
    """Read a study: by its name, by its plan's (then the newest), or the one that ran last."""
    stored = _stored_studies(url)
    if not stored:
        raise UserError(f"storage {storage.display(url)}: holds no study yet")
    if name is None:
        found = stored[-1]
    else:
        plan_name = load_plan(name).name if name.endswith(".toml") else name
        exact = [study for study in stored if study.name in (name, plan_name)]
        of_plan = [study for study in stored if study.plan.get("name") == plan_name]
        if not exact and not of_plan:
            raise UserError(choose("study", name, [study.name for study in stored]))
        found = (exact or of_plan)[-1]
    return found, _trials(url, found)


def _hiplot_page(study: "Study", trials: "list[Trial]", out: Path | None) -> Path:
    from analysis import hiplot_page

    if not trials:
        raise UserError(f"study {study.name!r}: has no trials yet, so there is no page to write")
    folder = _page_folder(study.name, out)
    try:
        return hiplot_page.write(study, trials, folder / "hiplot.html")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def _page_folder(study: str, out: Path | None) -> Path:
    folder = Path("reports") / study
    if out is None and not folder.resolve().is_relative_to(Path("reports").resolve()):
        raise UserError(f"study {study!r}: its name leads out of reports/; give --out DIR")
    return out or folder


def _bank(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"bank = {text!r}: give 'auto' or a whole number from 1")
    return int(text)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s?)?", text)
    seconds = (
        sum(int(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True))
        if match
        else 0
    )
    if not seconds:
        raise UserError(f"timeout = {text!r}: give a duration such as 90s, 30m, 2h or 1h30m")
    return float(seconds)


def _stderr() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _say(text: str, *, parseable: bool) -> None:
    """Print a remark: to stderr where stdout must stay parseable."""
    print(text, file=sys.stderr if parseable else sys.stdout)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


def _fail(message: str) -> NoReturn:
    from analysis.text import printable

    print(f"fmnist-study: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(2)


def main(argv: Iterable[str] | None = None) -> None:
    """Run the command line; exit with 0, 1, 2 (bad input, one line), 130 or 143."""
    try:
        args = sys.argv[1:] if argv is None else list(argv)
        code = app(args=args or ["--help"], standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except typer.TyperException as error:
        _fail(error.format_message() if hasattr(error, "format_message") else str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `fmnist-study report | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    raise SystemExit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
