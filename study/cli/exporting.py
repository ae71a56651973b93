"""The command that hands results on: `export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study.cli.common import app, read, studies_if_any
from study.cli.json_output import print_json
from study.cli.options import JsonOption, StorageOption, StudyName
from study.store import location
from trainer.errors import UserError, choose

if TYPE_CHECKING:
    import sqlalchemy

    from analysis.trials import Study, Trial

FORMATS = ("csv", "parquet", "json", "xlsx")


@app.command()
def export(
    study: StudyName = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where to; default exports/STUDY.")
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", "-f", metavar="FORMAT", help="csv, parquet, json or xlsx.")
    ] = "csv",
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial", metavar="N", help="This trial: weights, config, log, curves, layers."
        ),
    ] = None,
    storage_option: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a study's trials and epochs as tables; or one trial as a folder."""
    if file_format not in FORMATS:
        raise UserError(choose("--format", file_format, FORMATS))
    url = location.locate(storage_option)
    if trial is not None and folder is None and study and not _is_study(url, study):
        folder, study = Path(study), None  # `export --trial 3 DIR`: of the study that ran last
    chosen, trials = read(url, study)
    from analysis.exports.tables import CannotWrite

    target = folder or _default(chosen.name, trial)
    try:
        if trial is None:
            written = _tables(chosen, trials, target, file_format)
        else:
            written = _trial(chosen, _numbered(chosen, trials, trial), url, target)
    except CannotWrite as error:
        raise UserError(f"export: {error}") from error
    except OSError as error:
        raise UserError(
            f"{error.filename or target}: cannot be written: {error.strerror}"
        ) from error
    if as_json:
        print_json({"study": chosen.name, "written": [str(path) for path in written]})
        return
    for path in written:
        print(path)


def _is_study(url: "sqlalchemy.URL", name: str) -> bool:
    stored = studies_if_any(url)
    return any(name in (study.name, study.plan.get("name")) for study in stored)


def _default(study: str, trial: int | None) -> Path:
    folder = Path("exports") / study
    if not folder.resolve().is_relative_to(Path("exports").resolve()):
        raise UserError(f"study {study!r}: its name leads out of exports/; name a folder")
    return folder if trial is None else folder / f"trial-{trial}"


def _tables(study: "Study", trials: "list[Trial]", folder: Path, format: str) -> list[Path]:
    from analysis.exports.records import epoch_records, trial_records
    from analysis.exports.tables import write

    tables = {"trials": trial_records(study, trials), "epochs": epoch_records(trials)}
    return write(folder, "study", tables, format)


def _numbered(study: "Study", trials: "list[Trial]", number: int) -> "Trial":
    for trial in trials:
        if trial.number == number:
            if trial.damage:
                raise UserError(f"trial {number}: is damaged: {trial.damage}")
            return trial
    last = max((trial.number for trial in trials), default=None)
    which = "it has none" if last is None else f"choose one from 0 to {last}"
    raise UserError(f"--trial = {number}: study {study.name!r} has no such trial: {which}")


def _trial(study: "Study", trial: "Trial", url: "sqlalchemy.URL", folder: Path) -> list[Path]:
    from analysis import weights
    from analysis.exports.trial_folder import write_trial

    database = location.sqlite_path(url)
    beside = database.parent if database else Path.cwd()
    path = None
    if trial.checkpoint is not None:
        if fault := weights.fault(trial, beside):
            raise UserError(fault)
        path = weights.path_of(trial, beside)
    return write_trial(study, trial, path, _layers(study, trial), folder)


def _layers(study: "Study", trial: "Trial") -> str:
    """Return the layers of a trial's network; of a config that is not ours, nothing."""
    from trainer.config import TrainConfig
    from trainer.layer_summary import layer_summary

    classes: Any = study.dataset.get("classes")
    count = len(classes) if isinstance(classes, list) else classes
    side = study.dataset.get("side")
    if not trial.config or not count or not side:
        return ""
    try:
        return layer_summary(TrainConfig.from_dict(trial.config), side, count)
    except UserError:  # a config of an earlier version, or a module that is not here
        return ""
