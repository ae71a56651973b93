"""A trial as the folder people know: weights, config, log, curves, layers."""

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.csv_text import csv_text
from analysis.exports.records import epoch_records, trial_records
from analysis.exports.tables import EXTRA, CannotWrite, finite, replace
from analysis.trials import Study, Trial

CURVES = {"loss": ("train_loss", "val_loss"), "accuracy": ("train_accuracy", "val_accuracy")}


def write_trial(
    study: Study, trial: Trial, weights: Path | None, layers: str, folder: Path
) -> list[Path]:
    """Write all that is known of a trial; return the files.

    Args:
        study: whose trial it is.
        trial: with or without weights.
        weights: its own, with what describes them beside it; None: it keeps none.
        layers: the layers of its network as text; "": not known.
        folder: where to; made if it is not there.

    Raises:
        CannotWrite: the package that draws curves is missing.
        OSError: the folder cannot be written.
    """
    curves = _curves(trial)  # first: a missing package leaves no half of a folder
    log = epoch_records([trial])
    (row,) = trial_records(study, [trial]).rows
    result = {"study": study.name, **{name: finite(value) for name, value in row.items()}}
    written = [
        replace(folder / "config.json", _json(trial.config)),
        replace(folder / "result.json", _json(result)),
        replace(folder / "log.csv", csv_text(log.columns, log.rows)),
    ]
    if curves is not None:
        written.append(replace(folder / "curves.png", curves))
    if layers:
        written.append(replace(folder / "layers.txt", layers))
    if weights is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in (".safetensors", ".json"):
            target = folder / f"model{suffix}"
            shutil.copyfile(weights.with_suffix(suffix), target)
            written.append(target)
    return written


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _curves(trial: Trial) -> bytes | None:
    """Draw loss and accuracy by epoch, as PNG; None: no epoch is known."""
    drawn = {title: _series(trial, names) for title, names in CURVES.items()}
    drawn = {title: series for title, series in drawn.items() if series}
    if not drawn:
        return None
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CannotWrite(f"curves need the package matplotlib: {EXTRA}") from error
    figure = Figure(figsize=(5 * len(drawn), 3.5), layout="constrained")
    figure.suptitle(_plain(f"trial {trial.number}: {trial.label}"), fontsize=10)
    axes = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axis, (title, series) in zip(axes, drawn.items(), strict=True):
        for name, (epochs, values) in series.items():
            axis.plot(epochs, values, marker=".", label=name)
        if trial.best_epoch is not None:
            axis.axvline(trial.best_epoch, color="grey", linewidth=0.8, label="best epoch")
        axis.set(xlabel="epoch", ylabel=title)
        axis.legend(fontsize=8)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150)
    return out.getvalue()


def _plain(text: str) -> str:
    """Keep what matplotlib would read as a formula, and what a font cannot draw, as text."""
    return ascii(text)[1:-1].replace("$", r"\$")


def _series(trial: Trial, names: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
    found = {}
    for name in names:
        points = [(e["epoch"], e[name]) for e in trial.history if e.get(name) is not None]
        if points:
            found[name] = ([epoch for epoch, _ in points], [value for _, value in points])
    return found
