"""A plan as it is written: TOML from the catalogue or a file, for one data set or another.

Nothing is checked here but the file's form and its tables `[datasets.NAME]`; `Plan.from_dict`
checks the rest.
"""

import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.plans import catalog
from study.plans.left_out import without
from trainer.config import OPTION_TABLES
from trainer.datasets import DATASETS
from trainer.errors import UserError, choose
from trainer.sources.places import beside

BUDGET = ("seeds", "epochs", "subset")
ADAPTIVE = "adaptive"  # `seeds`: as many as it takes
FIRST_SEEDS = 3  # that every variant of such a study gets
SURENESS = ("max_seeds", "negligible")  # when a study has seen enough; left out, it has fixed seeds
TABLES = ("baseline", "factors", "search")
# Whose network or training it is, and its settings: written at the top, kept in the baseline.
YOURS = ("architecture", "trainer", "command", *OPTION_TABLES)
UNNAMED = "unnamed"  # data of a training that is not ours, where a plan does not name it
FIGURES = ("source", "reported", "claims")  # what others reported, on the plan's own data set


def read(source: str) -> tuple[dict[str, Any], str]:
    """Return the parsed TOML of a plan, and where it comes from, for messages.

    Where its images lie, `folder:PATH` or `npz:FILE`, is told from the plan's folder.

    Raises:
        UserError: no such plan, or it is not TOML.
    """
    if source in catalog.names():
        text, where = catalog.text(source), f"catalogue plan {source}"
    else:
        text, where = _text(Path(source)), source
    try:
        values = tomllib.loads(text)
        repr(values)  # a number of thousands of digits could be in no message
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not TOML: {error}") from error
    if isinstance(values.get("dataset"), str) and source not in catalog.names():
        values["dataset"] = beside(values["dataset"], Path(source).parent)
    return values, where


def folder(source: str) -> Path | None:
    """Return the folder of a plan's file; None: it is one of the catalogue."""
    return None if source in catalog.names() else Path(source).resolve().parent


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows' editors begin files with a mark
    except OSError as error:
        raise UserError(f"plan {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"plan {path}: not TOML: not UTF-8 text") from error


def unfolded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan whose options have names with a dot, and whose baseline has all it trains.

    `[factors] model_options.heads = [2, 4]` is a table within a table in TOML; it becomes the
    factor `model_options.heads`.

    Raises:
        UserError: something is given at the top and in the baseline, or the command is no list.
    """
    plan: dict[str, Any] = {key: _unfolded(value) for key, value in values.items()}
    top = _unfolded({key: plan.pop(key) for key in YOURS if key in plan})
    baseline = plan.get("baseline", {})
    if not isinstance(baseline, Mapping):
        return plan  # which is refused elsewhere
    for name in top:
        if name in baseline:
            raise UserError(f"{name}: is given twice, at the top of the plan and in [baseline]")
    whole = {**baseline, **top}
    if isinstance(whole.get("command"), list):
        words = whole["command"]
        if not words or not all(isinstance(word, str) for word in words):
            raise UserError(f"command = {words!r}: must be a list of words")
        whole["command"] = shlex.join(words)
    plan |= {"baseline": whole} if whole else {}
    if is_foreign(plan):
        plan.setdefault("dataset", UNNAMED)
    return plan


def is_foreign(plan: Mapping[str, Any]) -> bool:
    """Whether an unfolded plan's training is not ours: then its data set is only a name."""
    baseline = plan.get("baseline")
    return isinstance(baseline, Mapping) and bool(
        baseline.get("trainer") or baseline.get("command")
    )


def _unfolded(value: Any, depth: int = 8) -> Any:
    """Name options with a dot, wherever fields of a config are named."""
    if isinstance(value, list) and depth:
        return [_unfolded(item, depth - 1) for item in value]
    if not isinstance(value, dict) or not depth:
        return value
    flat: dict[str, Any] = {}
    for key, item in value.items():
        inner = _unfolded(item, depth - 1)
        if key in OPTION_TABLES and isinstance(inner, dict):
            flat |= {f"{key}.{name}": option for name, option in inner.items()}
        else:
            flat[key] = inner
    return flat


def for_dataset(values: Mapping[str, Any], dataset: str | None, default: str) -> dict[str, Any]:
    """Lay the table `[datasets.NAME]` of the chosen data set over a plan.

    It may hold another budget, baseline values and levels, other variants, and figures that were
    reported on that data set.

    Args:
        values: the parsed file.
        dataset: NAME; None: the plan's own.
        default: the data set of a plan that names none.

    Raises:
        UserError: a table names no data set, or its form is wrong.
    """
    tables = values.get("datasets", {})
    if not isinstance(tables, dict):
        raise UserError("datasets: must hold tables, [datasets.NAME]")
    valid = (*BUDGET, *SURENESS, *TABLES, "variants", *FIGURES)
    for name, table in tables.items():
        if name not in DATASETS:
            raise UserError(choose("datasets", name, tuple(DATASETS)))
        if not isinstance(table, dict):
            raise UserError(f"datasets.{name}: must be a table, [datasets.{name}]")
        for key in table:
            if key not in valid:
                raise UserError(choose(f"datasets.{name} key", key, valid))
    plan = {key: value for key, value in values.items() if key != "datasets"}
    own_dataset = plan.get("dataset", default)
    chosen = own_dataset if dataset is None else dataset
    if chosen != own_dataset:
        plan = on_dataset(plan, chosen)
    overlay = tables.get(chosen, {}) if isinstance(chosen, str) else {}
    if "epochs" in overlay:
        plan = with_epochs(plan, overlay["epochs"])
    merged = {**plan, **overlay}
    seeds = merged.get("seeds", ADAPTIVE)
    if "max_seeds" in merged and seeds not in (ADAPTIVE, FIRST_SEEDS):
        raise UserError(f"seeds = {seeds!r}: with max_seeds it must be {ADAPTIVE!r}")
    for key in TABLES:
        if key in plan and key in overlay:
            merged[key] = _overlaid(plan[key], overlay[key])
    return merged


def overridden(
    values: Mapping[str, Any], default: str, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a plan with the keys changed that are not None.

    Args:
        values: the plan, for its data set.
        default: the data set of a plan that names none.
        changes: by key; `trials` is the search's, `without` names levels, `FACTOR=LEVEL`.

    Raises:
        UserError: `trials` is given for a design that counts cells; there is no such level.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    trials = given.pop("trials", None)
    dataset = values.get("dataset", default)
    plan = dict(values)
    if given.get("dataset", dataset) != dataset:
        plan = on_dataset(plan, given["dataset"])
    plan = without(plan, given.pop("without", ()))
    if "epochs" in given:
        plan = with_epochs(plan, given["epochs"])
    if isinstance(given.get("seeds"), int):  # so many, and no more
        plan.pop("max_seeds", None)
    plan |= given
    if trials is not None:
        if not isinstance(plan.get("search"), Mapping):
            design = plan.get("design", "ablation")
            raise UserError(f"trials = {trials}: is for searches; {design} has cells")
        plan["search"] = {**plan["search"], "trials": trials}
    return plan


def on_dataset(plan: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Return a plan for another data set, without the figures reported on its own."""
    return {**{k: v for k, v in plan.items() if k not in FIGURES}, "dataset": dataset}


def with_epochs(plan: Mapping[str, Any], epochs: Any) -> dict[str, Any]:
    """Return a plan with one number of epochs for all its variants, those with their own too.

    Reported figures keep the number that the plan had for them: with another they are not
    comparable.
    """
    lists = {
        key: [_without_epochs(entry) for entry in plan[key]]
        for key in ("variants", "reported")
        if isinstance(plan.get(key), list)
    }
    if "reported" in lists and "epochs" in plan:
        lists["reported"] = [
            {"epochs": _epochs(before, plan["epochs"]), **entry}
            if isinstance(entry, dict)
            else entry
            for before, entry in zip(plan["reported"], lists["reported"], strict=True)
        ]
    return {**plan, **lists, "epochs": epochs}


def _epochs(entry: Mapping[str, Any], default: Any) -> Any:
    changes = entry.get("changes")
    return changes.get("epochs", default) if isinstance(changes, dict) else default


def _without_epochs(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {
        key: {name: value for name, value in content.items() if name != "epochs"}
        if key in ("changes", "against") and isinstance(content, dict)
        else content
        for key, content in entry.items()
    }


def _overlaid(table: Any, changes: Any) -> Any:
    """Lay one table over another, at every depth."""
    if not isinstance(table, dict) or not isinstance(changes, dict):
        return changes
    return {
        **table,
        **{
            key: _overlaid(table.get(key), change) if key in table else change
            for key, change in changes.items()
        },
    }
