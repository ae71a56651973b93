"""Learning curves: of levels, of every trial, and of a few variants in training and validation."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.figures.base import (
    BLUE,
    LABEL,
    ORANGE,
    SKY,
    VERMILION,
    Figure,
    Level,
    axis,
    band,
    layout,
    percents,
    plain,
    rounded,
    sample,
    shades,
)
from analysis.trials import Trial

MOST_LINES = 40  # single learning curves; more become bands
MOST_PRUNED = 150  # pruned curves that are drawn beside bands
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LONGEST = 10_000  # epochs; a step number beyond it is not an epoch


def courses(trials: Sequence[Trial], metric: str) -> NDArray[np.float64]:
    """Return a metric epoch by epoch, shape (trials, epochs), NaN where there is none."""
    rows = [course(trial, metric) for trial in trials]
    matrix = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for index, row in enumerate(rows):
        matrix[index, : len(row)] = row
    return matrix


def course(trial: Trial, metric: str) -> list[float]:
    """Return a metric of one trial epoch by epoch; NaN where it is not known."""
    values = {
        entry["epoch"]: entry[metric]
        for entry in trial.history
        if isinstance(entry, dict)
        and isinstance(entry.get("epoch"), int)
        and isinstance(entry.get(metric), int | float)
    }
    if not values and metric == "val_accuracy":
        values = dict(trial.intermediate)
    last = min(max(values, default=0), LONGEST)
    return [float(values.get(epoch, math.nan)) for epoch in range(1, last + 1)]


def level_courses(factor: str, levels: Sequence[Level], name: str) -> Figure | None:
    """Draw the mean learning curves of a factor's levels; None where no epochs were kept."""
    data = []
    for level, shade in zip(levels, shades(levels), strict=True):
        trials = list(level.trials.values())
        validation = courses(trials, "val_accuracy")
        if not validation.size:
            continue
        label = plain(level.label, LABEL)
        x, low, mean, high = _spread(validation)
        data.append(band(x, low, high, shade))
        data.append(_line(x, mean, label, shade))
        training = courses(trials, "train_accuracy")
        if training.size:
            x, _, mean, _ = _spread(training)
            data.append(_line(x, mean, label, shade, training=True))
    if not data:
        return None
    return Figure(
        name,
        f"{factor}: learning curves",
        f"Mean accuracy by epoch for {len(levels)} levels of {factor}.",
        data,
        layout(
            xaxis=axis("epoch", rangemode="tozero"),
            yaxis=axis("accuracy, %"),
            showlegend=True,
        ),
    )


def _spread(
    values: NDArray[np.float64], scale: float = 100
) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return epochs, and the lowest, mean and highest trial, for as long as all of them train."""
    together = np.isfinite(values).all(axis=0)
    last = together.size if together.all() else int(together.argmin())
    scaled = scale * values[:, :last]
    return list(range(1, last + 1)), scaled.min(axis=0), scaled.mean(axis=0), scaled.max(axis=0)


def _line(
    x: Sequence[int],
    y: NDArray[np.float64],
    label: str,
    shade: str,
    *,
    training: bool = False,
    unit: str = "%{y:.2f} %",
) -> dict[str, Any]:
    kind = "training" if training else "validation"
    return {
        "type": "scatter",
        "x": list(x),
        "y": rounded(y),
        "mode": "lines" if len(x) > 1 else "lines+markers",  # no line has one end
        "name": label,
        "hovertemplate": f"%{{fullData.name}}<br>epoch %{{x}}: {unit} ({kind})<extra></extra>",
        "legendgroup": label,
        "showlegend": not training,
        "line": {"color": shade, "width": 2, "dash": "dot" if training else "solid"},
    }


def all_courses(trials: Sequence[Trial], metric: str, best: str | None) -> Figure | None:
    """Draw the learning curve of every trial; where there are many, quantiles of the finished.

    Args:
        trials: of any state.
        metric: `val_accuracy` or `train_accuracy`.
        best: label of the variant to stand out.
    """
    words = {"val_accuracy": "validation accuracy", "train_accuracy": "training accuracy"}[metric]
    finished = [trial for trial in trials if trial.state == "COMPLETE"]
    pruned = [trial for trial in trials if trial.state == "PRUNED"]
    other = [trial for trial in trials if trial.state in ("FAIL", "RUNNING")]
    many = len(finished) > MOST_LINES
    data = _quantiles(finished, metric) if many else _lines(finished, metric, "finished", SKY)
    data += _lines(sample(pruned, MOST_PRUNED), metric, "pruned", ORANGE, ends="x")
    data += _lines(sample(other, MOST_LINES), metric, "failed or running", VERMILION, ends="square")
    chosen = [trial for trial in finished if trial.label == best]
    if chosen and (values := courses(chosen, metric)).size:
        x, low, mean, high = _spread(values)
        label = plain(f"best: {best}", LABEL)
        data += [band(x, low, high, BLUE), _line(x, mean, label, BLUE)]
    if not data:
        return None
    note = f"{len(finished):,} finished"
    if many:
        note += (
            ": the line is their median, the dark band holds the middle half, the light band 90 %"
        )
    if pruned:
        shown = min(len(pruned), MOST_PRUNED)
        of = f" ({shown} of {len(pruned):,} drawn)" if shown < len(pruned) else ""
        note += f"; {len(pruned):,} pruned{of}, each ends in a cross"
    if other:
        note += f"; {len(other):,} failed or running"
    return Figure(
        f"all-{metric.partition('_')[0]}",
        f"All trials: {words}",
        f"{words.capitalize()} by epoch: {len(finished)} finished, {len(pruned)} pruned trials.",
        data,
        layout(
            xaxis=axis("epoch", rangemode="tozero"),
            yaxis=axis(f"{words}, %"),
            showlegend=True,
        ),
        note=note + ".",
    )


def _lines(
    trials: Sequence[Trial], metric: str, name: str, shade: str, ends: str | None = None
) -> list[dict[str, Any]]:
    courses = [(trial, course(trial, metric)) for trial in trials]
    lines = [
        _trial_line(trial, values, name, shade, ends)
        for trial, values in courses
        if any(map(math.isfinite, values))
    ]
    return [{**line, "showlegend": line is lines[0]} for line in lines]


def _trial_line(
    trial: Trial, values: Sequence[float], name: str, shade: str, ends: str | None
) -> dict[str, Any]:
    last = max(index for index, value in enumerate(values) if math.isfinite(value))
    seed = "" if trial.seed is None else f", seed {trial.seed}"
    return {
        "type": "scatter",
        "x": list(range(1, len(values) + 1)),
        "y": percents(values),
        "text": f"{plain(trial.label, LABEL)}{plain(seed)} ({name})",
        "hovertemplate": "%{text}<br>epoch %{x}: %{y:.2f} %<extra></extra>",
        "mode": "lines+markers" if ends or last == 0 else "lines",
        "marker": {
            "symbol": ends or "circle",
            "color": shade,
            "size": [7 if index == last else 0 for index in range(len(values))],
        },
        "line": {"color": shade, "width": 1},
        "opacity": 0.6,
        "name": name,
        "legendgroup": name,
    }


def _quantiles(trials: Sequence[Trial], metric: str) -> list[dict[str, Any]]:
    values = courses(trials, metric)
    measured = np.isfinite(values).any(axis=0) if values.size else np.zeros(0, bool)
    if not measured.any():
        return []
    x = (np.flatnonzero(measured) + 1).tolist()
    lowest, low, median, high, highest = 100 * np.nanquantile(
        values[:, measured], QUANTILES, axis=0
    )
    return [
        band(x, lowest, highest, SKY),
        band(x, low, high, SKY, "4d"),
        _line(x, median, "finished: median", SKY),
    ]


def fit(groups: Sequence[Level], metric: str) -> Figure | None:
    """Draw accuracy or loss of a few variants, in training and in validation.

    Args:
        groups: variants; the reference is grey.
        metric: `accuracy` or `loss`.
    """
    data = []
    scale, unit = (100, "%{y:.2f} %") if metric == "accuracy" else (1, "%{y:.4f}")
    for group, shade in zip(groups, shades(groups), strict=True):
        label = plain(group.label, LABEL)
        for kind in ("val", "train"):
            values = courses(list(group.trials.values()), f"{kind}_{metric}")
            if not values.size:
                continue
            x, low, mean, high = _spread(values, scale)
            if kind == "val":
                data.append(band(x, low, high, shade))
            data.append(_line(x, mean, label, shade, training=kind == "train", unit=unit))
    if not data:
        return None
    return Figure(
        f"fit-{metric}",
        f"Training and validation {metric}",
        f"Training and validation {metric} by epoch of {', '.join(g.label for g in groups)}.",
        data,
        layout(
            xaxis=axis("epoch", rangemode="tozero"),
            yaxis=axis("accuracy, %" if metric == "accuracy" else "loss"),
            showlegend=True,
        ),
        note="Solid: validation, mean over seeds; band: from the lowest to the highest. Dotted: "
        "training.",
    )
