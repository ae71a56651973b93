"""The command that trains: `run`."""

import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from study.cli.common import (
    app,
    page_folder,
    plan_for,
    print_words,
    read,
    say,
    show_results,
    stderr,
    studies_if_any,
    trials_of,
    write_hiplot,
    write_report,
)
from study.cli.json_output import print_json
from study.cli.options import (
    BankOption,
    DataDirOption,
    DatasetOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    ExecutorOption,
    JsonOption,
    MaxSeedsOption,
    NegligibleOption,
    OnEndOption,
    PathOption,
    PlanSource,
    QuietOption,
    RayAddressOption,
    ReportOption,
    ReuseOption,
    SeedsOption,
    StorageOption,
    StudyNameOption,
    SubsetOption,
    TensorBoardOption,
    TimeoutOption,
    TrialsOption,
    UntilSureOption,
    VerboseOption,
    WithoutOption,
    WorkersOption,
)
from study.cli.run_end import call_at_end, check_tensorboard, followed
from study.plans import catalog
from study.plans.plan import Plan, check_name
from study.plans.plan_file import ADAPTIVE
from study.plans.remarks import remarks
from study.store import location
from trainer import files
from trainer.errors import UserError

if TYPE_CHECKING:
    import sqlalchemy

    from analysis.trials import Trial
    from study.run.machine import Estimate, Machine
    from study.run.reuse import Reusable
    from study.run.work import Work

GOES_ON = "everything finished is kept: the same command goes on"


@dataclass(frozen=True)
class _Order:
    """What is to be run, and where."""

    plan: Plan
    url: "sqlalchemy.URL"
    machine: "Machine"
    study_name: str | None
    timeout: float | None
    path: bool
    reuse: bool


@dataclass(frozen=True)
class _Telling:
    """What is told of a run, and how."""

    report: bool  # the page is written too
    quiet: bool
    verbose: bool
    as_json: bool
    tensorboard: Path | None
    on_end: str | None


@app.command()
def run(
    study: PlanSource,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    storage_option: StorageOption = None,
    study_name: StudyNameOption = None,
    seeds: SeedsOption = None,
    epochs: EpochsOption = None,
    trials: TrialsOption = None,
    subset: SubsetOption = None,
    without: WithoutOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    bank: BankOption = "auto",
    executor: ExecutorOption = "local",
    ray_address: RayAddressOption = None,
    timeout: TimeoutOption = None,
    dry_run: DryRunOption = False,
    until_sure: UntilSureOption = False,
    max_seeds: MaxSeedsOption = None,
    negligible: NegligibleOption = None,
    path: PathOption = False,
    reuse: ReuseOption = False,
    report: ReportOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    tensorboard: TensorBoardOption = None,
    on_end: OnEndOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a study, or go on with it."""
    sizes = {"epochs": epochs, "trials": trials, "subset": subset, "negligible": negligible}
    sizes |= _seeds(seeds, until_sure, max_seeds) | {"without": without or None}
    url = location.locate(storage_option)
    if not dry_run and not _has_own_plan(study):
        from study.store import replay

        replay.recover(url, lambda line: say(line, parseable=True))  # its plan is in the database
    plan = plan_for(study, storage_option, dataset, **sizes)
    from study.run.machine import Machine
    from study.run.session import check_ways

    if quiet and verbose:
        raise UserError("--quiet and --verbose: give one of them")
    check_ways(plan, path=path, reusing=reuse)
    machine = Machine(device, workers, _bank(bank), executor, data_dir, address=ray_address)
    if study_name is None and not _has_own_plan(study):
        study_name = study  # a stored study, by its own name
    order = _Order(plan, url, machine, study_name, _seconds(timeout), path, reuse)
    if dry_run:
        _dry_run(order, as_json=as_json)
        return
    code = _run(order, _Telling(report, quiet, verbose, as_json, tensorboard, on_end))
    if code:
        raise typer.Exit(code)


def _seeds(seeds: int | None, until_sure: bool, max_seeds: int | None) -> dict[str, Any]:
    """Return what the options say of a plan's seeds."""
    if not until_sure and max_seeds is None:
        return {"seeds": seeds}
    if seeds is not None:
        raise UserError(f"seeds = {seeds}: --until-sure gives each level what it needs")
    return {"seeds": ADAPTIVE, "max_seeds": max_seeds}


def _has_own_plan(study: str) -> bool:
    return study in catalog.names() or study.endswith(".toml")


def _run(order: _Order, telling: _Telling) -> int:
    """Train; then show what came of it, unless the run was broken off. Return the exit code."""
    name = order.study_name or order.plan.name

    def named(study: str) -> None:
        nonlocal name
        name = study

    ended, code = "failed", 2
    try:
        check_tensorboard(telling.tensorboard)
        ended, trained = _train(order, named, lambda: name, telling)
        if ended != "done":
            say(f"{ended}; {GOES_ON}", parseable=telling.as_json)
        if ended in ("done", "out of time"):
            _show_results(order.url, name, ended, telling)
        code = trained
    except KeyboardInterrupt:  # what trains hears it itself: it is the results that are broken off
        code = 130
        raise
    except SystemExit as end:
        code = int(end.code or 0)
        raise
    finally:
        call_at_end(telling.on_end, order.url, name, ended.partition(":")[0], code)
    return code


def _train(
    order: _Order, named: Callable[[str], None], name: Callable[[], str], telling: _Telling
) -> tuple[str, int]:
    """Run the plan; return how that ended, and the exit code.

    Args:
        order: what to run.
        named: called with the study's name once that is known.
        name: what it is called, as far as known.
        telling: how much of its progress is shown.
    """
    from analysis.statistics.sequential import follow
    from study.run import session
    from study.run.coordinator import OutOfTime, StudyFailed
    from study.run.view import announcement, view_for
    from study.store import signals
    from study.store.failures import StorageFailed

    console, quiet = stderr(), telling.quiet

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    def no_news(_line: str) -> None:
        """Keep quiet."""

    def announce(study: str, costs: "Estimate | None") -> None:
        named(study)
        lines = [] if quiet else [*announcement(order.plan, study, costs), _where(order.url, study)]
        for line in (*lines, *(f"note: {remark}" for remark in remarks(order.plan))):
            print_words(console, line)

    try:
        with (
            signals.handled(),
            view_for(console, quiet=quiet, verbose=telling.verbose) as shown,
            followed(shown, telling.tensorboard, order.url, name) as view,
        ):
            state = session.run(
                order.plan,
                order.url,
                order.machine,
                study_name=order.study_name,
                argv=sys.argv[1:],
                view=view,
                announce=announce,
                tell=tell,
                timeout=order.timeout,
                path=order.path,
                reusing=order.reuse,
                rule=follow,
                news=no_news if quiet else tell,
            )
    except KeyboardInterrupt:
        return "interrupted", 130
    except SystemExit as end:
        return "terminated", int(end.code or 0)
    except OutOfTime:
        return "out of time", 0
    except (StudyFailed, StorageFailed) as failure:
        return f"stopped: {failure}", 1
    return "done", 1 if state.failed else 0


def _show_results(url: "sqlalchemy.URL", name: str, ended: str, telling: _Telling) -> None:
    study, trials = read(url, name)
    from analysis.designs import results
    from analysis.progress import as_dict, progress

    study_results = results(study, trials)
    pages = {"hiplot": write_hiplot(study, trials, None)}
    if telling.report:
        pages["html"] = write_report(study_results, url, None)[0]
    if telling.as_json:
        print_json(
            {
                "study": study.name,
                "ended": ended,
                "progress": as_dict(progress(study, trials)),
                "report": study_results.table.as_dict(),
                **{kind: str(page) for kind, page in pages.items()},
            }
        )
        return
    show_results(study_results, url)
    for kind, page in pages.items():
        print(f"{'HiPlot' if kind == 'hiplot' else 'report'} page: {page}")


def _where(url: "sqlalchemy.URL", study: str) -> str:
    """Say where results go."""
    return f"results go to {location.display(url)}, pages to {page_folder(study, None)}"


def _dry_run(order: _Order, *, as_json: bool) -> None:
    from study.run.opening import check_same_plan, name_for
    from study.run.reuse import told
    from study.run.view import announcement

    plan = order.plan
    if order.study_name is not None:
        check_name("--study-name", order.study_name)
    stored = {study.name: study for study in studies_if_any(order.url)}
    plans = {name: study.plan for name, study in stored.items()}
    name = order.study_name or name_for(plan, plans.get)
    trials = trials_of(order.url, stored[name]) if name in stored else []
    check_same_plan(name, plans.get(name), len(trials), plan)
    work = _work_left(plan, trials)
    left, costs, reused = _costs_left(order, work, trials, name)
    done = {(each.task.variant, each.task.seed) for each in reused}
    cells = [(task.variant, task.seed) for task in getattr(work, "tasks", ())]
    cells = [cell for cell in cells if cell not in done]
    if as_json:
        waiting = [{"variant": variant, "seed": seed} for variant, seed in cells]
        planned = {"study": name, "plan": plan.to_dict(), "trials": plan.trial_count, "left": left}
        seconds = costs.seconds if costs else 0.0
        rest = {"pending": waiting, "reused": len(reused), "seconds": seconds}
        print_json({**planned, **rest, "remarks": remarks(plan)})
        return
    for line in (*announcement(plan, name, costs), _where(order.url, name)):
        print(line)
    if order.reuse and (reused or left):
        print(told(reused, left))
    for remark in remarks(plan):
        print(f"note: {remark}")
    _list_variants(plan, cells, path=order.path)


def _list_variants(plan: Plan, cells: Sequence[tuple[str, int]], *, path: bool) -> None:
    for variant in plan.variants:
        seeds = [str(seed) for label, seed in cells if label == variant.label]
        print(f"  {variant.label}: {'seeds ' + ', '.join(seeds) if seeds else 'done'}")
    if path:
        count = len(plan.factors)
        most = count * (count - 1) // 2 * plan.seeds
        print(f"then the path: {most} further trials at most, fewer where factors change nothing")


def _work_left(plan: Plan, trials: "Sequence[Trial]") -> "Work":
    """Return what is left to do, from trials as the report reads them."""
    from analysis.statistics.sequential import follow
    from study.run.adaptive import AdaptiveWork
    from study.run.search import SearchWork
    from study.run.work import DesignedWork, settled

    rows = _records(trials)
    if plan.search:
        return SearchWork(plan, [])  # its course so far is not followed here
    if plan.max_seeds is None:
        return DesignedWork(plan, rows, 1)
    accuracy = {(t.variant, t.seed): t.value for t in trials if t.state == "COMPLETE"}
    return AdaptiveWork(plan, {cell: accuracy.get(cell) for cell in settled(rows)}, 1, follow)


def _records(trials: "Sequence[Trial]") -> list[tuple[str | None, int | None, str, str | None]]:
    return [(trial.variant, trial.seed, trial.state, trial.outcome) for trial in trials]


def _costs_left(
    order: _Order, work: "Work", trials: "Sequence[Trial]", name: str
) -> "tuple[int, Estimate | None, list[Reusable]]":
    """Return how many trials are left to run, what they cost, and what need not be run.

    The costs are None where none is left.
    """
    from study.run.machine import estimate, gain, workers_for
    from study.run.work import settled

    plan, machine = order.plan, order.machine
    left = work.planned - work.done
    if plan.search:
        left -= len(settled(_records(trials)))
    if left <= 0:
        return 0, None, []
    if not plan.base_config.is_foreign:
        files.ready(plan.dataset, machine.data_dir, download=False)
    with workers_for(plan, left, machine) as (executor, bank):
        described = executor.start()
        reusing = order.reuse and not described.get("code")
        reused = _reusable(order, trials, name, described["dataset"]["sha256"]) if reusing else []
        left -= len(reused)
        if not left:
            return 0, None, reused
        costs = estimate(plan, work, executor, described, gain(plan, machine, bank))
    costs = dataclasses.replace(costs, bank=bank)
    share = left / costs.trials
    costs = dataclasses.replace(costs, trials=left, seconds=costs.seconds * share)
    return left, costs, reused


def _reusable(order: _Order, trials: "Sequence[Trial]", name: str, data: str) -> "list[Reusable]":
    """Return the cells that other studies have trained, where they are to be taken over."""
    if location.is_new(order.url):
        return []
    from study.run.reuse import find
    from study.store.reading import reading

    with reading(order.url) as session:
        return find(session, order.plan, _records(trials), name, data)


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
