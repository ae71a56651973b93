"""The commands that show what there is and what it would cost: `list`, `show`."""

import dataclasses
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cli.common import (
    app,
    imported_study,
    plan_for,
    published_studies,
    published_study,
    studies_if_any,
    trials_of,
)
from study.cli.json_output import print_json
from study.cli.options import (
    DataDirOption,
    DatasetOption,
    DeviceOption,
    EpochsOption,
    JsonOption,
    PlanSource,
    SeedsOption,
    StorageOption,
    SubsetOption,
    TrialsOption,
    WorkersOption,
)
from study.plans import catalog
from study.plans.plan import Cell, Plan, load_plan
from study.plans.remarks import remarks
from study.store import location
from trainer import files, user_code
from trainer.errors import UserError

if TYPE_CHECKING:
    from study.run.machine import Estimate, Machine


WIDTH = 80  # of lines of text


@app.command("list")
def list_studies(storage_option: StorageOption = None, as_json: JsonOption = False) -> None:
    """Name the studies: those of the catalogue, and those in the database."""
    plans = [load_plan(name) for name in catalog.names()]
    url = location.locate(storage_option)
    stored = studies_if_any(url)
    places = [location.display(url)] * len(stored)
    brought = published_studies({study.name for study in stored})
    stored, places = [*brought, *stored], ["this installation"] * len(brought) + places
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
                    "published": i < len(brought),
                }
                for i, study in enumerate(stored)
            ]
        )
        return
    from analysis.text import printable

    names = [printable(study.name) for study in stored]
    width = max(map(len, [*catalog.names(), *names]))
    for plan in plans:
        print(f"{plan.name:{width}}  {plan.description}")
    for name, study, where in zip(names, stored, places, strict=True):
        last = f", last run {study.last_run[:16].replace('T', ' ')} UTC" if study.last_run else ""
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
    imported = imported_study(study, storage_option)
    if imported is not None:
        from study.cli.imports import show_imported

        show_imported(*imported, as_json=as_json)
        return
    plan = plan_for(study, storage_option, dataset, **sizes)
    from study.run.machine import Machine

    measured, why_not = _estimate(plan, Machine(device=device, workers=workers, data_dir=data_dir))
    rows = _rows(plan, measured, data_dir)
    power, provenance = _power(plan, storage_option), _provenance(study, storage_option)
    if as_json:
        print_json(
            {
                **plan.to_dict(),
                "provenance": provenance,
                "trials": plan.trial_count,
                "seconds": measured.seconds if measured and measured.costs else None,
                "workers": measured.workers if measured else None,
                "devices": list(measured.devices) if measured else None,
                "power": power,
                "remarks": remarks(plan),
                "variants": rows,
            }
        )
        return
    from analysis.text import printable
    from study.run.view import show_plan

    plan = dataclasses.replace(plan, description=printable(plan.description))
    show_plan(plan, rows, measured, why_not, power)
    for remark in remarks(plan):
        print(f"note: {printable(remark)}")
    for number, (name, fact) in enumerate(provenance.items()):
        words = textwrap.wrap(
            f"{name.lower()}: {fact}", WIDTH, subsequent_indent="  ", break_on_hyphens=False
        )
        print(*[""] * (number == 0), *words, sep="\n")


def _provenance(name: str, storage_option: str | None) -> dict[str, str]:
    """Say where the results of a stored study come from; of a plan, nothing."""
    if name in catalog.names() or name.endswith(".toml"):
        return {}
    url = location.locate(storage_option)
    stored = {study.name: (url, study) for study in studies_if_any(url)}
    place = stored.get(name) or published_study(name)
    if place is None:
        return {}
    from analysis.provenance import facts

    return dict(facts(place[1], trials_of(*place)))


def _estimate(plan: Plan, machine: "Machine") -> "tuple[Estimate | None, str]":
    """Measure what a plan costs; where that cannot be done here, say why.

    Raises:
        UserError: there is no such device.
    """
    from study.run.machine import estimate, gain, workers_for
    from study.run.session import work_for

    try:
        if not plan.base_config.is_foreign:
            files.ready(plan.dataset, machine.data_dir, download=False)
        with workers_for(plan, plan.trial_count, machine) as (executor, bank):
            speed = gain(plan, machine, bank)
            return estimate(plan, work_for(plan, []), executor, executor.start(), speed), ""
    except UserError as error:
        if machine.device != "auto":
            raise
        return None, str(error)


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


def _rows(plan: Plan, measured: "Estimate | None", data_dir: Path | None) -> list[dict[str, Any]]:
    """Describe the rows of a plan's tables, their networks, and what was measured of their cost."""
    from study.run.work import cost_key
    from trainer.models import describe

    user_code.look_in([plan.folder] if plan.folder else [])
    costs = {cost_key(config): cost for config, cost in measured.costs} if measured else {}
    foreign = plan.base_config.is_foreign
    shape = None if foreign else files.shape(plan.dataset, data_dir)
    rows = []
    for row in plan.rows:
        config = plan.config_of(Cell(row.variant, 0))
        size = None if shape is None else describe(config, *shape)
        cost = costs.get(cost_key(config))
        rows.append(
            {
                "variant": row.variant.label,
                "factor": row.factor,
                "level": row.level,
                "changes": dict(row.variant.changes),
                "against": dict(row.against.changes),
                "architecture": None if config.is_foreign else config.architecture,
                "epochs": config.epochs,
                "parameters": size.parameters if size else None,
                "multiply_adds": size.multiply_adds if size else None,
                "seconds": cost.seconds if cost else None,
            }
        )
    return rows
