"""The commands that plan, run and watch: `list`, `show`, `run`, `status`."""

import dataclasses
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study.cli.common import (
    app,
    plan_for,
    print_json,
    read,
    say,
    stderr,
    studies_if_any,
    trials_of,
    write_hiplot,
    write_report,
)
from study.cli.options import (
    BankOption,
    DataDirOption,
    DatasetOption,
    DeviceOption,
    EpochsOption,
    ExecutorOption,
    JsonOption,
    PlanSource,
    SeedsOption,
    StorageOption,
    StudyName,
    SubsetOption,
    TrialsOption,
    WorkersOption,
)
from study.plans import catalog
from study.plans.plan import Cell, Plan, check_name, load_plan
from study.store import location
from trainer import files
from trainer.errors import UserError

if TYPE_CHECKING:
    import sqlalchemy

    from study.run.session import Estimate, Machine
    from study.run.work import Work


@app.command("list")
def list_studies(storage_option: StorageOption = None, as_json: JsonOption = False) -> None:
    """Name the studies: those of the catalogue, and those in the database."""
    plans = [load_plan(name) for name in catalog.names()]
    url = location.locate(storage_option)
    stored = studies_if_any(url)
    if as_json:
        print_json(
            [
                {
                    "name": plan.name,
                    "description": plan.description,
                    "design": plan.design,
                    "dataset": plan.dataset,
                    "variants": plan.variant_count,
                    "seeds": plan.seeds,
                    "epochs": plan.epochs,
                    "source": plan.figures.source,
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
        if plan.figures.source:
            print(f"{'':{width}}  after {plan.figures.source['name']}")
    for name, study in zip(names, stored, strict=True):
        last = f", last run {study.last_run[:16].replace('T', ' ')} UTC" if study.last_run else ""
        where = location.display(url)
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
    plan = plan_for(study, storage_option, dataset, **sizes)
    from study.run.session import Machine, estimate, gain, work_for, workers_for

    machine = Machine(device=device, workers=workers, data_dir=data_dir)
    measured: Estimate | None = None
    why_not = ""
    try:
        files.ready(plan.dataset, data_dir, download=False)
        with workers_for(plan, plan.trial_count, machine) as (executor, bank):
            speed = gain(plan, machine, bank)
            measured = estimate(plan, work_for(plan, []), executor, executor.start(), speed)
    except UserError as error:
        if device != "auto":
            raise
        why_not = str(error)
    rows = _rows(plan, measured)
    power = _power(plan, storage_option)
    if as_json:
        print_json(
            {
                **plan.to_dict(),
                "trials": plan.trial_count,
                "seconds": measured.seconds if measured else None,
                "workers": measured.workers if measured else None,
                "devices": list(measured.devices) if measured else None,
                "power": power,
                "variants": rows,
            }
        )
        return
    from analysis.text import printable
    from study.run.view import show_plan

    plan = dataclasses.replace(plan, description=printable(plan.description))
    show_plan(plan, rows, measured, why_not, power)


def _power(plan: Plan, storage_option: str | None) -> str | None:
    """Say what differences the planned seeds can detect; of a plan without comparisons, nothing.

    By the spread of an earlier study of this plan in the database, where there is one.
    """
    if len(plan.variants) < 2:
        return None
    from analysis.statistics.effects import spread_of_differences
    from analysis.statistics.power import note

    url = location.locate(storage_option)
    spread = None
    for study in studies_if_any(url):
        if study.plan.get("name") == plan.name and study.plan.get("dataset") == plan.dataset:
            spread = spread_of_differences(study.plan, trials_of(url, study)) or spread
    pairs = plan.seeds
    if plan.design == "factorial":  # a level is compared over all levels of the other factors
        pairs *= len(plan.variants) // max(len(levels) for levels in plan.factors.values())
    return note(spread, pairs, what="pairs" if plan.design == "factorial" else "seeds")


def _rows(plan: Plan, measured: "Estimate | None") -> list[dict[str, Any]]:
    """Describe the rows of a plan's tables, their networks, and what was measured of their cost."""
    from study.run.work import cost_key
    from trainer.models import DATASET_SHAPES, describe

    costs = {cost_key(config): cost for config, cost in measured.costs} if measured else {}
    rows = []
    for row in plan.rows:
        config = plan.config_of(Cell(row.variant, 0))
        size = describe(config, *DATASET_SHAPES[plan.dataset])
        cost = costs.get(cost_key(config))
        rows.append(
            {
                "variant": row.variant.label,
                "factor": row.factor,
                "level": row.level,
                "changes": dict(row.variant.changes),
                "against": dict(row.against.changes),
                "architecture": config.architecture,
                "epochs": config.epochs,
                "parameters": size.parameters,
                "multiply_adds": size.multiply_adds,
                "seconds": cost.seconds if cost else None,
            }
        )
    return rows


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
    path: Annotated[
        bool,
        typer.Option("--path", help="Also train the way to the best combination of levels."),
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write the report page too when done.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only results.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a study, or go on with it."""
    sizes = {"seeds": seeds, "epochs": epochs, "trials": trials, "subset": subset}
    url = location.locate(storage_option)
    if not dry_run and not _has_own_plan(study):
        from study.store import replay

        replay.recover(url, lambda line: say(line, parseable=True))  # its plan is in the database
    plan = plan_for(study, storage_option, dataset, **sizes)
    from study.run.path import check_has_path
    from study.run.session import Machine

    if path:
        check_has_path(plan)
    machine = Machine(device, workers, _bank(bank), executor, data_dir)
    limit = _seconds(timeout)
    if study_name is None and not _has_own_plan(study):
        study_name = study  # a stored study, by its own name
    if dry_run:
        _dry_run(plan, url, machine, study_name, path=path, as_json=as_json)
        return
    code = _run(
        plan,
        url,
        machine,
        study_name,
        limit,
        path=path,
        report=report,
        quiet=quiet,
        as_json=as_json,
    )
    if code:
        raise typer.Exit(code)


def _has_own_plan(study: str) -> bool:
    return study in catalog.names() or study.endswith(".toml")


def _run(
    plan: Plan,
    url: "sqlalchemy.URL",
    machine: "Machine",
    study_name: str | None,
    limit: float | None,
    *,
    path: bool,
    report: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    from study.run import session
    from study.run.coordinator import OutOfTime, StudyFailed
    from study.run.view import announcement, view_for
    from study.store import signals
    from study.store.failures import StorageFailed

    console = stderr()
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
                tell=lambda line: console.print(
                    line, highlight=False, markup=False, soft_wrap=True
                ),
                timeout=limit,
                path=path,
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
        say(f"{ended}; everything finished is kept: the same command goes on", parseable=as_json)
        return code
    if ended == "out of time":
        say(f"{ended}; everything finished is kept: the same command goes on", parseable=as_json)
    study, trials = read(url, name)
    from analysis.designs import results
    from analysis.documents import render
    from analysis.progress import as_dict, progress

    found = results(study, trials)
    pages = {"hiplot": write_hiplot(study, trials, None)}
    if report:
        pages["html"] = write_report(found, url, None)[0]
    if as_json:
        print_json(
            {
                "study": study.name,
                "ended": ended,
                "progress": as_dict(progress(study, trials)),
                "report": found.table.as_dict(),
                **{kind: str(page) for kind, page in pages.items()},
            }
        )
    else:
        print(render(found.table, "text"))
        print()
        for kind, page in pages.items():
            print(f"{'HiPlot' if kind == 'hiplot' else 'report'} page: {page}")
    return code


def _dry_run(
    plan: Plan,
    url: "sqlalchemy.URL",
    machine: "Machine",
    study_name: str | None,
    *,
    path: bool,
    as_json: bool,
) -> None:
    from study.run.coordinator import check_same_plan
    from study.run.session import estimate, gain, name_for, work_for, workers_for
    from study.run.view import announcement
    from study.run.work import DesignedWork, pending, settled

    if study_name is not None:
        check_name("--study-name", study_name)
    known = {own.name: own for own in studies_if_any(url)}
    name = study_name or name_for(plan, lambda own: known[own].plan if own in known else None)
    trials = trials_of(url, known[name]) if name in known else []
    done = [(trial.variant, trial.seed, trial.state, trial.outcome) for trial in trials]
    check_same_plan(name, known[name].plan if name in known else None, len(trials), plan)
    cells = pending(plan, done)
    work: Work = work_for(plan, []) if plan.search else DesignedWork(plan, done, 1)
    left = plan.trial_count - len(settled(done)) if plan.search else len(cells)
    costs = None
    if left > 0:
        files.ready(plan.dataset, machine.data_dir, download=False)
        with workers_for(plan, left, machine) as (executor, bank):
            speed = gain(plan, machine, bank)
            costs = estimate(plan, work, executor, executor.start(), speed)
        share = left / costs.trials  # a search's course so far is not followed here
        costs = dataclasses.replace(costs, trials=left, seconds=costs.seconds * share)
    if as_json:
        seconds = costs.seconds if costs else 0.0
        print_json(
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
    if path:
        count = len(plan.factors)
        most = count * (count - 1) // 2 * plan.seeds
        print(f"then the path: {most} further trials at most, fewer where factors change nothing")


@app.command()
def status(
    study: StudyName = None,
    storage_option: StorageOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 2 seconds.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a study is, and the best variant so far."""
    from analysis.progress import as_dict, progress, render

    url = location.locate(storage_option)
    if not watch:
        now = progress(*read(url, study))
        if as_json:
            print_json(as_dict(now))
        else:
            print(render(now))
        return
    import time

    from rich.live import Live
    from rich.text import Text

    with Live(Text(""), refresh_per_second=2) as live:
        while True:
            now = progress(*read(url, study))
            live.update(Text(render(now)), refresh=True)
            if not now.running and now.planned == now.done:
                return
            time.sleep(2)


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
