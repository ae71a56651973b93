"""The commands about this machine: `data`, `doctor`."""

from typing import Annotated

import typer

from study import storage
from study.cli.common import app
from study.cli.options import DataDirOption, DatasetOption, StorageOption


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
