"""The commands about this machine: `data`, `doctor`, `backup`."""

from pathlib import Path
from typing import Annotated

import typer

from study.cli.common import app
from study.cli.json_output import print_json
from study.cli.options import DataDirOption, DatasetOption, JsonOption, StorageOption
from study.store import location
from trainer.errors import UserError


@app.command()
def data(
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check what is there; download nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Download a data set, or check it."""
    from trainer.data import load

    images = load(dataset or "fashion-mnist", data_dir, download=not verify)
    means, stds = zip(*images.normalisation, strict=True)
    validation = {"validation_images": images.validation} if images.validation else {}
    if as_json:
        counts = {"train_images": len(images.trained_on), "test_images": len(images.test_labels)}
        grey = images.channels == 1
        values = {"mean": means[0] if grey else means, "std": stds[0] if grey else stds}
        pixels = {"side": images.side, "channels": images.channels, **values}
        pixels |= {"sha256": images.sha256, "notes": images.notes}
        classes = {"classes": list(images.classes)}
        print_json({"dataset": images.name, **counts, **validation, **classes, **pixels})
        return
    print(
        f"{images.name}: {len(images.trained_on)} training and {len(images.test_labels)} test "
        f"images of {images.side}x{images.side}, {len(images.classes)} classes"
        f"{', 3 channels' if images.channels > 1 else ''}"
    )
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (means, stds))
    print(f"pixels: mean {mean}, standard deviation {std}")
    for note in images.notes:
        print(f"note: {note}")
    print(f"sha256: {images.sha256}")


@app.command()
def doctor(
    storage_option: StorageOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check devices, versions, data and storage, one line each."""
    from study.cli.doctor import findings

    found = []
    for what, fine, text in findings(location.locate(storage_option), data_dir):
        found.append({"what": what, "fine": fine, "finding": text})
        if not as_json:
            print(f"{'ok  ' if fine else 'FAIL'}  {what}: {text}")
    if as_json:
        print_json(found)
    if not all(finding["fine"] for finding in found):
        raise typer.Exit(1)


def _local(storage_option: str | None) -> Path:
    """Return the database's file."""
    url = location.locate(storage_option)
    location.check_readable(url)
    database = location.sqlite_path(url)
    if database is None:
        raise UserError(
            f"storage {location.display(url)}: is on a server, which has its own backups"
        )
    return database


@app.command("backup")
def make_backup(
    storage_option: StorageOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: STORAGE.backup.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the database, even while a study runs: one consistent state, checked."""
    import sqlite3

    from sqlalchemy.exc import SQLAlchemyError

    from study.store import backup

    database = _local(storage_option)
    target = out or backup.backup_of(database)
    if target.exists() and target.samefile(database):
        raise UserError(f"--out = {target}: is the database itself")
    try:
        if out is not None:
            backup.check_replaceable(out)
        made = backup.back_up(database, target)
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        raise UserError(f"{target}: cannot be written: {location.reason(error)}") from error
    studies = len({study for study, _ in made.holds})
    if as_json:
        counts = {"studies": studies, "trials": sum(made.holds.values())}
        print_json({"backup": str(target), **counts, "damaged": dict(made.damaged)})
        return
    print(f"{target}: {studies} studies, {sum(made.holds.values())} trials")
    for study, words in made.damaged.items():
        print(f"study {study!r} is damaged, in the database as in the backup: {words}")
