"""The command that doubts: `verify`."""

import platform
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study.cli.common import (
    app,
    choose_study,
    published_study,
    say,
    stored_studies,
    told_where,
    trials_of,
)
from study.cli.json_output import print_json
from study.cli.options import (
    DataDirOption,
    JsonOption,
    MovedOption,
    StorageOption,
    StudyName,
    WorkersOption,
)
from study.store import location
from trainer.datasets import is_users
from trainer.errors import UserError
from trainer.sources.places import absolute

if TYPE_CHECKING:
    import sqlalchemy

    from analysis.trials import Study, Trial
    from analysis.verification import Here, Verification
    from study.run.executors import Failure
    from study.run.machine import Machine
    from trainer.results import Result


@app.command()
def verify(
    study: StudyName = None,
    storage_option: StorageOption = None,
    retrain: Annotated[
        int, typer.Option("--retrain", metavar="K", min=0, help="Train K trials again, compare.")
    ] = 0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Chooses these trials; default: a random one.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="POINTS",
            help="Of accuracies that need not be equal to the bit; default: by the seeds' noise.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Default: the kind that is stored."),
    ] = None,
    workers: WorkersOption = None,
    dataset: MovedOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that a study still is what was measured; exit 1 if it is not. Nothing is written."""
    from study.run.machine import Machine

    if tolerance is not None and not 0 <= tolerance <= 100:
        raise UserError(f"--tolerance = {tolerance}: must be from 0 to 100 points")
    url = location.locate(storage_option)
    if study is not None and location.is_new(url) and (brought := published_study(study)):
        url = brought[0]
    location.check_readable(url)
    name, checks = study or "", _database(url)
    if not any(check.state == "wrong" for check in checks):
        machine = Machine(device or "auto", workers=workers, data_dir=data_dir)
        chosen, trials, checks = _stored(url, study, checks)
        name = chosen.name
        if retrain and not chosen.damage:
            seed = random.randrange(2**32) if seed is None else seed
            machine = machine if device else replace(machine, device=_kind(trials))
            points = None if tolerance is None else tolerance / 100
            chosen = replace(chosen, plan=_moved(chosen.plan, dataset))
            with told_where(chosen.plan.get("dataset") or "", dataset):
                checks += _repeated(chosen, trials, (retrain, seed), machine, points)
    _print(name, location.display(url), checks, seed if retrain else None, as_json)
    if any(check.state == "wrong" for check in checks):
        raise typer.Exit(1)


def _print(
    name: str, where: str, checks: "Sequence[Verification]", seed: int | None, as_json: bool
) -> None:
    import textwrap

    from analysis.text import printable

    wrong = sum(check.state == "wrong" for check in checks)
    if as_json:
        shown = [asdict(check) for check in checks]
        print_json({"study": name, "seed": seed, "wrong": wrong, "checks": shown})
        return
    print(f"{printable(name)} in {where}" + ("" if seed is None else f", --seed {seed}"))
    for check in checks:
        text = f"{check.state.upper() if check.state == 'wrong' else check.state:14}{check.what}: "
        print(textwrap.fill(text + check.text, 80, subsequent_indent=" " * 14))
    print("nothing is wrong" if not wrong else f"wrong: {wrong} of {len(checks)} checks")


def _database(url: "sqlalchemy.URL") -> "list[Verification]":
    """Check the file itself, as SQLite does, and that it can be read at all."""
    import sqlite3

    from analysis.verification import OK, WRONG, Verification
    from study.store import backup

    file = location.sqlite_path(url)
    if file is None:
        return [Verification("database", OK, "is on a server, which checks its pages itself")]
    try:
        with backup.reading(file) as opened:
            fault = backup.damage(opened)
        if fault is None:
            stored_studies(url)
    except (sqlite3.Error, UserError) as error:
        fault = str(error)
    if fault is not None:
        return [Verification("database", WRONG, fault)]
    return [Verification("database", OK, "SQLite finds its pages whole")]


def _stored(
    url: "sqlalchemy.URL", name: str | None, checks: "list[Verification]"
) -> "tuple[Study, list[Trial], list[Verification]]":
    """Check a study as it lies there."""
    from analysis import verification

    try:
        url, chosen = choose_study(url, name)
    except UserError:
        damaged = [study for study in stored_studies(url) if study.damage]
        if not damaged:
            raise
        chosen = damaged[0]  # perhaps the one that was meant: its name may be what is damaged
    trials = trials_of(url, chosen)
    file = location.sqlite_path(url)
    folder = Path.cwd() if file is None else file.parent
    return chosen, trials, [*checks, *verification.stored(chosen, trials, folder)]


def _moved(plan: "dict[str, Any]", dataset: str | None) -> "dict[str, Any]":
    """Return a plan whose images are elsewhere now; they must have the content that is stored."""
    if dataset is None:
        return plan
    if not plan or not (is_users(plan.get("dataset") or "") and is_users(dataset)):
        raise UserError(f"--dataset = {dataset!r}: names where images of one's own are now")
    return {**plan, "dataset": absolute(dataset)}


def _kind(trials: "Sequence[Trial]") -> str:
    """Return the kind of device that trials were trained on."""
    on_cpu = any((trial.device or "").startswith("cpu") for trial in trials)
    return "cpu" if on_cpu else "auto"


def _repeated(
    study: "Study",
    trials: "Sequence[Trial]",
    draw: tuple[int, int],
    machine: "Machine",
    tolerance: float | None,
) -> "Iterator[Verification]":
    """Train some trials again, and compare; `draw` is how many, and the seed that chooses."""
    from analysis import verification
    from study.run.executors import Failure

    chosen = _drawn(study, trials, *draw)
    allowed = verification.tolerance(trials) if tolerance is None else tolerance
    here = _here()
    machine = replace(machine, threads=verification.threads(chosen))
    for trial, again in zip(chosen, _trained(study, chosen, machine), strict=True):
        if isinstance(again, Failure):
            yield verification.failed(trial, again.reason)
            continue
        result = again.to_dict()
        reasons = verification.reservations(study, trial, result, here)
        yield verification.repeated(trial, result, reasons, allowed)


def _drawn(study: "Study", trials: "Sequence[Trial]", count: int, seed: int) -> "list[Trial]":
    """Choose finished trials at random."""
    from analysis.trials import finished

    if not study.plan or study.plan.get("imported"):
        raise UserError(f"--retrain: study {study.name!r} was not trained by fmnist-study")
    done = finished(trials)
    told = f"training {min(count, len(done))} of {len(done)} trials again ..."
    say(told, parseable=True)
    return random.Random(seed).sample(done, min(count, len(done)))


def _trained(
    study: "Study", chosen: "Sequence[Trial]", machine: "Machine"
) -> "list[Result | Failure]":
    from study.plans.plan import Plan
    from study.run.retraining import retrain
    from trainer.config import TrainConfig

    if not chosen:
        return []
    plan = Plan.from_dict(study.plan)
    configs = [TrainConfig.from_dict(trial.config) for trial in chosen]
    if is_users(plan.dataset):
        configs = [config.replace(dataset=plan.dataset) for config in configs]
    return retrain(plan, configs, machine, study.dataset.get("sha256"))


def _here() -> "Here":
    from importlib.metadata import version

    from analysis.verification import VERSIONS, Here
    from study.run.provenance import git_commit

    return Here(platform.node(), git_commit(), {name: version(name) for name in VERSIONS})
