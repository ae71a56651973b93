"""The commands over trained networks: `best`."""

from pathlib import Path
from typing import Annotated

import typer

from study import storage
from study.cli.common import (
    app,
    print_json,
    read,
)
from study.cli.options import JsonOption, StorageOption, StudyName
from study.plan import level_text
from trainer.errors import UserError


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
    found, trials = read(url, study)
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
        print_json(
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
