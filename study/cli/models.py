"""The commands over trained networks: `best`, `evaluate`, `ensemble`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmnist_common.text import level_text
from study.cli.common import app, read, say, told_where
from study.cli.json_output import print_json
from study.cli.options import (
    DataDirOption,
    DeviceOption,
    JsonOption,
    MovedOption,
    StorageOption,
    StudyName,
)
from study.store import location
from trainer.errors import UserError

if TYPE_CHECKING:
    import sqlalchemy

    from analysis.progress import Best
    from analysis.trials import Study, Trial
    from trainer.data import ImageData
    from trainer.evaluate import Trained


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
    from analysis import weights
    from analysis.progress import progress
    from analysis.text import printable
    from analysis.trials import finished

    url = location.locate(storage_option)
    chosen, trials = read(url, study)
    winner = progress(chosen, trials).best
    if winner is None:
        why = "every variant failed on a seed" if finished(trials) else "no trial has finished yet"
        raise UserError(f"study {chosen.name!r}: {why}")
    replicates = [trial for trial in finished(trials) if trial.label == winner.variant]
    trial = chosen.best_of(replicates)  # of the winner's replicates, whose weights these are
    fault = weights.fault(trial, _folder(url))
    checkpoint = None if fault else weights.path_of(trial, _folder(url))
    written: list[Path] = []
    if export is not None:
        from trainer.export import export as write

        if trial.checkpoint is None:
            raise UserError(f"study {chosen.name!r}: trial {trial.number} has no weights to export")
        if checkpoint is None:
            raise UserError(f"study {chosen.name!r}: nothing is exported: {fault}")
        written = write(checkpoint, export)
    if as_json:
        files = {"checkpoint": checkpoint and str(checkpoint), "exported": [*map(str, written)]}
        print_json(_best_record(chosen, winner, trial) | files)
        return
    _print_best(chosen, winner, trial, has_weights=checkpoint is not None)
    if fault and trial.checkpoint is not None:
        print(f"no weights: {printable(fault)}")
    for path in written or ([] if checkpoint is None else [checkpoint]):
        print(path)


def _best_record(chosen: "Study", winner: "Best", trial: "Trial") -> dict[str, Any]:
    """Return what a study's best variant reaches, and its best trial, JSON-ready."""
    from dataclasses import asdict

    from analysis.quantity import record

    figures = {"val_accuracy_mean": winner.mean, "val_accuracy_std": winner.std}
    return {
        "study": chosen.name,
        "variant": winner.variant,
        "figure": asdict(chosen.quantity),
        "n": winner.n,
        **record(chosen.quantity, figures),
        "seed": trial.seed,
        "test_accuracy": trial.test_accuracy,
        "test_time_flip": trial.test_time_flip,
        "changes": trial.changes,
        "config": trial.config,
    }


def _print_best(chosen: "Study", winner: "Best", trial: "Trial", *, has_weights: bool) -> None:
    """Print what a study's best variant reaches, and its best trial."""
    from analysis.mirrored import WORDS
    from analysis.text import percent, printable

    quantity = chosen.quantity
    spread = "" if winner.std is None else f" ± {quantity.number(winner.std)}"
    unit = f" {quantity.unit}" if quantity.unit else ""
    print(f"{printable(chosen.name)}: {printable(winner.variant)}, best by {chosen.compared}")
    print(f"{chosen.compared} {quantity.number(winner.mean)}{spread}{unit}, n = {winner.n}")
    if trial.test_accuracy is not None:
        which = "its best trial" if trial.seed is None else f"seed {trial.seed}"
        whose = ", whose weights these are" if has_weights else ""
        print(f"test accuracy of {which}{whose}: ", end="")
        print(f"{percent(trial.test_accuracy)} % ({chosen.test_use})")
    if trial.test_time_flip:
        print(f"validation and test: {WORDS}")
    levels = trial.changes if chosen.plan else trial.params  # without a plan there is no baseline
    short = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in levels.items()}
    told = ", ".join(f"{name} = {level_text(value)}" for name, value in short.items())
    what = "differs from the baseline in" if chosen.plan else "its parameters"
    print(f"{what}: {printable(told) or 'nothing'}")


def _folder(url: "sqlalchemy.URL") -> Path:
    """Return the folder that weights lie in: the database's; of a server, the current one."""
    database = location.sqlite_path(url)
    return database.parent if database else Path.cwd()


@app.command()
def evaluate(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What 'best --export DIR' has written.")
    ],
    dataset: MovedOption = None,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Evaluate an exported network: test accuracy, classes, confusion, latency."""
    weights = folder / "model.safetensors"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; 'fmnist-study best --export DIR' makes one")
    missing = [p.name for p in (weights, weights.with_suffix(".json")) if not p.is_file()]
    if missing:
        raise UserError(f"{folder}: lacks {' and '.join(missing)} of 'best --export'")
    from analysis import evaluation
    from analysis.mirrored import WORDS
    from analysis.text import percent
    from trainer import evaluate
    from trainer.device import resolve

    trained = evaluate.read(weights)
    images = _images(trained.dataset["name"], dataset, data_dir)
    measured = evaluate.evaluate(trained, images, resolve(device))
    size = weights.stat().st_size
    stored = trained.result["test_accuracy"]
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "dataset": images.name,
                "config": trained.config.to_dict(),
                **evaluation.as_dict(measured.confusion, images.classes),
                "stored_test_accuracy": stored,
                "test_time_flip": trained.config.test_time_flip,
                "parameters": measured.parameters,
                "model_bytes": size,
                "inference": measured.inference,
                "device": measured.device,
                "precision": measured.precision,
            }
        )
        return
    facts = [
        f"{trained.config.architecture} on {images.name}, {measured.parameters:,} parameters, "
        f"{size / 1e6:.2f} MB, evaluated in {measured.precision} on {measured.device}."
    ]
    if measured.test_accuracy == stored:
        facts.append("The test accuracy is the one that was stored when it was trained.")
    else:
        facts.append(
            f"When it was trained, on {trained.result.get('device')}, the test accuracy was "
            f"{percent(stored)} %: processors round differently, and some images lie on the edge."
        )
    if trained.config.test_time_flip:
        facts.append(f"Its answers, and their latency, are {WORDS}.")
    print(
        evaluation.render(
            str(folder), facts, measured.confusion, images.classes, measured.inference
        ),
        end="",
    )


def _images(name: str, moved: str | None, data_dir: Path | None) -> "ImageData":
    """Read the images that a network was trained on; `moved`: where they are now."""
    from trainer import data

    with told_where(name, moved):
        return data.load(moved or name, data_dir)


@app.command()
def ensemble(
    study: StudyName = None,
    storage_option: StorageOption = None,
    top: Annotated[int, typer.Option("--top", metavar="K", help="So many of the best trials.")] = 5,
    distinct: Annotated[
        bool, typer.Option("--distinct", help="Only one trial of each variant.")
    ] = False,
    random_forest: Annotated[
        bool, typer.Option("--random-forest", help="Let a random forest vote too.")
    ] = False,
    dataset: MovedOption = None,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Let the best trials vote, and compare them with the best of them."""
    if top < 1:
        raise UserError(f"top = {top}: must be at least 1")
    from analysis.ensemble import ENOUGH_SHARED, Ensemble, Member, as_dict, candidates, render, vote

    url = location.locate(storage_option)
    stored_study, trials = read(url, study)
    chosen = candidates(trials, distinct=distinct)[:top]
    if len(chosen) < top:
        kind = "variants with a finished trial" if distinct else "finished trials"
        raise UserError(
            f"top = {top}: study {stored_study.name!r} has {len(chosen)} {kind} "
            "whose weights are kept"
        )
    from trainer.device import resolve
    from trainer.ensemble import same_data, votes

    networks = [_trained(url, trial) for trial in chosen]
    images = _images(same_data(networks), dataset, data_dir)
    if random_forest:
        say("training a random forest ...", parseable=True)
    all_votes = votes(networks, images, resolve(device), forest=random_forest)
    members = [
        Member(
            trial.number,
            trial.label,
            trial.seed,
            trial.value,
            network.path.stat().st_size,
            trial.test_time_flip,
        )
        for trial, network in zip(chosen, networks, strict=True)
    ]
    if all_votes.forest_bytes is not None:
        members.append(Member(None, None, None, None, all_votes.forest_bytes))
    shared = len(all_votes.shared_labels)
    result = Ensemble(
        study=stored_study.name,
        dataset=images.name,
        top=top,
        distinct=distinct,
        members=members,
        test=vote(all_votes.test, all_votes.test_labels),
        shared=shared,
        validation=vote(all_votes.shared, all_votes.shared_labels)
        if shared >= ENOUGH_SHARED
        else None,
    )
    if as_json:
        print_json(as_dict(result))
    else:
        print(render(result), end="")


def _trained(url: "sqlalchemy.URL", trial: "Trial") -> "Trained":
    """Read a trial's weights, and make sure that they are its own."""
    from analysis import weights
    from trainer.evaluate import read as read_weights

    folder = _folder(url)
    if fault := weights.fault(trial, folder):
        raise UserError(fault)
    path = weights.path_of(trial, folder)
    assert path is not None
    return read_weights(path, trial.weights_sha256)
