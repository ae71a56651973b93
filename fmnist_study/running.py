"""Running a plan from Python: a script, a notebook, any thread."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fmnist_study.studies as reading
from analysis.statistics.sequential import follow
from fmnist_study import arguments
from fmnist_study.studies import Study
from study.cli.common import plan_for, stderr
from study.plans import catalog, plan_file
from study.plans.plan import Plan
from study.run import session
from study.run.coordinator import OutOfTime, StudyFailed
from study.run.machine import Machine
from study.run.view import view_for
from study.store import location, signals
from study.store.failures import StorageFailed
from trainer.errors import UserError

_SIZES = ("seeds", "epochs", "trials", "subset", "negligible", "max_seeds")


def run(
    plan: str | os.PathLike[str] | Plan | Mapping[str, Any],
    *,
    dataset: str | None = None,
    storage: str | os.PathLike[str] | None = None,
    study_name: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    bank: int | None = None,
    executor: str = "local",
    timeout: float | None = None,
    path: bool = False,
    reuse: bool = False,
    quiet: bool = True,
    **sizes: Any,
) -> Study:
    """Run a plan, or go on with it, and return the study.

    Ctrl-C raises KeyboardInterrupt and keeps what is finished: the same call goes on. After
    `timeout` it returns the study as far as it is.

    Args:
        plan: a name of the catalogue, the path of a TOML file, a stored study, a table as in TOML.
        dataset: another than the plan's.
        storage: the database's file or URL; None: as the command line has it.
        study_name: None: the plan's name.
        data_dir: where the data sets are.
        device: auto, cpu, cuda, or cuda:0,1,...
        workers: None: one per core or GPU.
        bank: trials trained together; None: what is best.
        executor: as `--executor`.
        timeout: seconds.
        path: whether the way to the best combination of an ablation's levels is trained, too.
        reuse: whether cells that other studies of the database have trained are taken over.
        quiet: whether progress is left out, which goes to stderr.
        sizes: `seeds`, `epochs`, `trials`, `subset`, `negligible`, `max_seeds` of the plan.

    Raises:
        UserError: something given is wrong, or the study cannot go on.
    """
    machine = _machine(device, workers, bank, executor, data_dir)
    _check_given(arguments.word, study_name=study_name)
    _check_given(arguments.seconds, timeout=timeout)
    where = arguments.path("storage", storage)
    chosen = _plan(plan, where, dataset, sizes)
    session.check_ways(chosen, path=path, reusing=reuse)
    url = location.locate(where)
    name = study_name

    def announce(study: str, _: object) -> None:
        nonlocal name
        name = study

    with signals.handled(), view_for(stderr(), quiet=quiet) as view, _early_ends():
        session.run(
            chosen,
            url,
            machine,
            study_name=study_name or _stored_name(plan),
            argv=["python"],
            view=view,
            announce=announce,
            tell=lambda line: None if quiet else print(line),
            timeout=timeout,
            path=path,
            reusing=reuse,
            rule=follow,
        )
    return reading.load(name, storage=storage)


def _machine(
    device: str,
    workers: int | None,
    bank: int | None,
    executor: str,
    data_dir: str | os.PathLike[str] | None,
) -> Machine:
    arguments.word("device", device)
    _check_given(arguments.whole, workers=workers, bank=bank)
    folder = arguments.path("data_dir", data_dir)
    return Machine(device, workers, bank, executor, None if folder is None else Path(folder))


def _check_given(check: Callable[[str, Any], None], **given: Any) -> None:
    """Check those arguments that are not left out."""
    for name, value in given.items():
        if value is not None:
            check(name, value)


@contextmanager
def _early_ends() -> Iterator[None]:
    """Take what ends a run early for what it is to a caller: nothing, or a UserError."""
    try:
        yield
    except OutOfTime:
        pass
    except (StudyFailed, StorageFailed) as failure:
        raise UserError(str(failure)) from failure


def _plan(
    plan: str | os.PathLike[str] | Plan | Mapping[str, Any],
    storage: str | None,
    dataset: str | None,
    sizes: Mapping[str, Any],
) -> Plan:
    for name in sizes:
        if name not in _SIZES:
            raise UserError(f"{name} = {sizes[name]!r}: choose from {', '.join(_SIZES)}")
    if isinstance(plan, (str, os.PathLike)):
        return plan_for(os.fspath(plan), storage, dataset, **sizes)
    if not isinstance(plan, (Plan, Mapping)):
        kind = type(plan).__name__
        raise UserError(f"plan: is {kind}; must be a name, a path, a table or a Plan")
    made = plan if isinstance(plan, Plan) else Plan.from_dict(plan_file.unfolded(plan))
    return made.override(dataset=dataset, **sizes)


def _stored_name(plan: object) -> str | None:
    """Return the name of a stored study that goes on under it; None for other plans."""
    stored = isinstance(plan, str) and plan not in catalog.names() and not plan.endswith(".toml")
    return str(plan) if stored else None
