"""Reported beside ours: the figures of a plan's source, and whether what we measured agrees.

A reported accuracy is a share of test images, and so has a binomial error, however it was found;
ours is a mean over seeds, tested on the same few images each time. Agreement is judged against all
of that together. What a figure was chosen by is said, as a choice on test data is optimistic.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import special

from analysis import inference_cost, mirrored
from analysis.statistics.candidates import mean_interval
from analysis.statistics.effects import summarize
from analysis.statistics.power import CONFIDENCE
from analysis.statistics.proportions import Z, wilson
from analysis.statistics.rows import PlannedRow, baseline_level, planned_rows
from analysis.table_formats import Block, joined
from analysis.text import percent, printable
from analysis.trials import Study, Trial, finished
from fmnist_common.designs import variant_key
from fmnist_common.text import level_text, variant_label

FEWEST = 2  # seeds, without which nothing is known of their spread


@dataclass(frozen=True)
class Figures:
    """What one side has; None where it is not known. Accuracies are fractions."""

    test_accuracy: float | None
    low: float | None  # 95 % interval: theirs of one test's images (Wilson), ours of the mean (t)
    high: float | None
    parameters: int | None
    latency_ms: float | None  # of one image
    images_per_second: float | None  # ours: 32 at once, where it was trained
    model_bytes: int | None
    seconds: float | None  # of training
    epochs: int | None  # at most


@dataclass(frozen=True)
class ReportedRow:
    """A reported variant beside ours."""

    factor: str | None  # None: the baseline, or a cell of a factorial
    level: Any
    cell: dict[str, Any]  # of a factorial: the level of every factor
    variant: str
    changes: dict[str, Any]
    reported: Figures
    test_accuracy_range: tuple[float, float] | None  # where only that of several rows is reported
    note: str | None
    ours: Figures
    n: int  # our seeds
    std: float | None  # of our test accuracy over them
    device: str | None  # that ours was trained on
    difference: float | None  # ours minus reported; to the nearer end of a range, 0 within it
    difference_low: float | None  # 95 %
    difference_high: float | None
    parameters_equal: bool | None
    verdict: str  # a key of VERDICTS
    reasons: list[str]  # why they are not comparable
    test_time_flip: bool = False  # whether ours is of image and mirror image


VERDICTS = {
    "agrees": "the difference is within the uncertainty of both",
    "within range": "our mean lies within the reported range",
    "higher": "ours is higher than the uncertainty of both explains",
    "lower": "ours is lower than the uncertainty of both explains",
    "too few": "one seed says nothing of our own spread; [ ] holds the binomial errors alone",
    "not comparable": "trained on other data or for another time",
    "not run": "no trial of ours has finished",
    "not reported": "its source gives no accuracy",
}

# Of a reported figure: its heading, what it is divided by, and digits after the point.
COSTS: dict[str, tuple[str, float, int]] = {
    "parameters": ("parameters", 1, 0),
    "latency_ms": ("ms an image", 1, 2),
    "images_per_second": ("images/s", 1, 0),
    "model_bytes": ("MB", 1e6, 2),
    "seconds": ("seconds", 1, 0),
}


def compare_reported(study: Study, trials: Iterable[Trial]) -> list[ReportedRow]:
    """Set every reported figure of a study's plan beside its own trials, in the plan's order.

    Figures belong to the plan's data set: a plan on another one carries none.
    """
    plan = study.plan
    images = (plan.get("source") or {}).get("test_images")
    variants: defaultdict[Any, list[Trial]] = defaultdict(list)
    for trial in finished(trials):
        if trial.variant is not None:
            variants[variant_key(trial.changes)].append(trial)
    rows: defaultdict[Any, list[PlannedRow]] = defaultdict(list)
    for row in planned_rows(plan):
        if row.changes:
            rows[variant_key(row.changes)].append(row)
    compared = []
    for entry in plan.get("reported") or []:
        key = variant_key(entry["changes"])
        # Two experiments that one number of epochs for all made equal have a figure each.
        of = rows[key].pop(0) if len(rows[key]) > 1 else next(iter(rows[key]), None)
        compared.append(_row(study, entry, of, variants[key], images))
    return compared


def _row(
    study: Study,
    entry: Mapping[str, Any],
    of: PlannedRow | None,
    trials: Sequence[Trial],
    images: int | None,
) -> ReportedRow:
    plan = study.plan
    theirs, ours = _theirs(entry, images), _ours(trials)
    accuracies = _accuracies(trials)
    runs = (plan.get("source") or {}).get("runs") or 1
    both = _difference(entry, accuracies, images, study.dataset.get("test_images"), runs)
    difference, half = both or (None, None)
    reasons = _reasons(study, entry, ours)
    bounds = entry.get("test_accuracy_range")
    counts = theirs.parameters, ours.parameters
    return ReportedRow(
        factor=None if of is None else of.factor,
        level=None if of is None else of.level,
        cell={
            name: entry["changes"].get(name, baseline_level(plan, name)) for name in plan["factors"]
        }
        if plan.get("design") == "factorial"
        else {},
        variant=variant_label(entry["changes"]),
        changes=dict(entry["changes"]),
        reported=theirs,
        test_accuracy_range=None if bounds is None else (bounds[0], bounds[1]),
        note=entry.get("note"),
        ours=ours,
        n=len(accuracies),
        std=summarize(accuracies).std,
        device=next((trial.device for trial in trials if trial.device), None),
        difference=difference,
        difference_low=None if difference is None or half is None else difference - half,
        difference_high=None if difference is None or half is None else difference + half,
        parameters_equal=None if None in counts else counts[0] == counts[1],
        verdict=_verdict(len(accuracies), difference, half, reasons, ranged=bounds is not None)
        if theirs.test_accuracy is not None or bounds is not None
        else "not reported",
        reasons=reasons,
        test_time_flip=any(trial.test_time_flip for trial in trials),
    )


def _accuracies(trials: Iterable[Trial]) -> list[float]:
    accuracies = (trial.test_accuracy for trial in trials)
    return [accuracy for accuracy in accuracies if accuracy is not None and math.isfinite(accuracy)]


def _theirs(entry: Mapping[str, Any], images: int | None) -> Figures:
    accuracy = entry.get("test_accuracy")
    low, high = (
        (None, None) if accuracy is None or not images else wilson(accuracy * images, images)
    )
    return Figures(
        test_accuracy=accuracy,
        low=low,
        high=high,
        parameters=entry.get("parameters"),
        latency_ms=entry.get("latency_ms"),
        images_per_second=entry.get("images_per_second"),
        model_bytes=entry.get("model_bytes"),
        seconds=entry.get("seconds"),
        epochs=entry.get("epochs"),
    )


def _ours(trials: Sequence[Trial]) -> Figures:
    def first(values: Iterable[Any]) -> Any:
        return next((value for value in values if value is not None), None)

    accuracies = _accuracies(trials)
    low, high = mean_interval(accuracies)
    measured = inference_cost.median(trial.inference for trial in trials)
    # Those trained on a GPU were timed there, and on the CPU too.
    many = measured.get("cuda", measured.get("cpu", {})).get("32", {})
    return Figures(
        test_accuracy=summarize(accuracies).mean,
        low=low,
        high=high,
        parameters=first(trial.parameters for trial in trials),
        latency_ms=inference_cost.typical(trials, "latency_ms"),
        images_per_second=many.get("images_per_second"),
        model_bytes=first(trial.model_bytes for trial in trials),
        seconds=inference_cost.typical(trials, "seconds"),
        epochs=first(trial.config.get("epochs") for trial in trials),
    )


def _difference(
    entry: Mapping[str, Any],
    accuracies: Sequence[float],
    images: int | None,
    own_images: int | None,
    runs: int,
) -> tuple[float, float] | None:
    """Return ours minus reported, and half the width of its 95 % prediction interval.

    A prediction interval: a reported figure is the mean of few runs, mostly of a single one, and
    another of them would have been another figure. How much another is seen from our own runs. In
    quadrature: Student's t times the standard deviation of our mean over n seeds less that of a
    mean of the source's runs, and 1.96 times the binomial errors of our test images, which all
    seeds share, and of theirs. Both may be the same images, and then agree better than that.
    """
    ours = summarize(accuracies)
    bounds = entry.get("test_accuracy_range") or [entry.get("test_accuracy")] * 2
    if ours.mean is None or bounds[0] is None:
        return None
    nearest = min(max(ours.mean, bounds[0]), bounds[1])
    squares = Z**2 * (_squared_error(nearest, images) + _squared_error(ours.mean, own_images))
    if ours.std is not None:
        critical = float(special.stdtrit(ours.n - 1, (1 + CONFIDENCE) / 2))
        squares += (critical * ours.std) ** 2 * (1 / ours.n + 1 / runs)
    return ours.mean - nearest, math.sqrt(squares)


def _squared_error(accuracy: float, images: int | None) -> float:
    return accuracy * (1 - accuracy) / images if images else 0.0


def data_reasons(study: Study) -> list[str]:
    """Say whether ours were trained on fewer images than a source's."""
    subset, train = study.plan.get("subset"), study.dataset.get("train_images")
    if not subset or subset == train:
        return []
    return [f"{subset:,}{f' of {train:,}' if train else ''} training images"]


def _reasons(study: Study, entry: Mapping[str, Any], ours: Figures) -> list[str]:
    """Say what keeps a reported figure and ours from being the same measurement."""
    reasons = data_reasons(study)
    theirs = entry.get("epochs")
    if theirs is not None and ours.epochs is not None and theirs != ours.epochs:
        unit = "epoch" if ours.epochs == 1 else "epochs"
        reasons.append(f"{ours.epochs} {unit} instead of {theirs}")
    return reasons


def _verdict(
    n: int, difference: float | None, half: float | None, reasons: Sequence[str], *, ranged: bool
) -> str:
    if difference is None or half is None:
        return "not run"
    if reasons:
        return "not comparable"
    if n < FEWEST:
        return "too few"
    if difference == 0 and ranged:
        return "within range"
    if abs(difference) <= half:
        return "agrees"
    return "higher" if difference > 0 else "lower"


def blocks(rows: Sequence[ReportedRow], source: Mapping[str, Any]) -> list[Block]:
    """Lay reported and ours out side by side: accuracy, then what differs, then costs."""
    if not rows:
        return []
    labels = _labels(rows)
    chosen, runs = str(source.get("selected_on", "")), source.get("runs")
    theirs = [
        _range(row.test_accuracy_range) if row.test_accuracy_range else _with_interval(row.reported)
        for row in rows
    ]
    accuracy = {
        "reported": theirs,
        "chosen on": [chosen if figure else "" for figure in theirs],
        "runs": [(str(runs) if runs else "?") if figure else "" for figure in theirs],
        "ours": mirrored.marked([_with_interval(row.ours) for row in rows], rows),
        "n": [str(row.n) for row in rows],
    }
    difference = {
        "difference": joined(map(_difference_cell, rows)),
        "verdict": [row.verdict for row in rows],
    }
    blocks_of = [
        Block("Reported and ours: test accuracy in %", labels | accuracy, nested=True),
        Block("Ours minus reported, in points", labels | difference, nested=True),
    ]
    with_costs = [row for row in rows if any(getattr(row.reported, name) for name in COSTS)]
    if with_costs:
        title = "Size and costs: reported / ours, each on its own machine"
        blocks_of.append(Block(title, _labels(with_costs) | _costs(with_costs), nested=True))
    return blocks_of


def _labels(rows: Sequence[ReportedRow]) -> dict[str, list[str]]:
    def names(row: ReportedRow) -> tuple[str, str]:
        if row.cell:
            return ", ".join(row.cell), ", ".join(map(level_text, row.cell.values()))
        if not row.changes:
            return "baseline", ""
        return row.factor or "other", row.variant if row.factor is None else level_text(row.level)

    factors, levels = zip(*map(names, rows), strict=True)
    return {"factor": list(map(printable, factors)), "level": list(map(printable, levels))}


def _costs(rows: Sequence[ReportedRow]) -> dict[str, list[str]]:
    def column(name: str, scale: float, digits: int) -> list[str]:
        def word(figures: Figures) -> str:
            value = getattr(figures, name)
            return "" if value is None else f"{value / scale:,.{digits}f}"

        return joined(
            (word(row.reported), _sign(name, row), word(row.ours) or "?")
            if word(row.reported)
            else ("", "", "")
            for row in rows
        )

    columns = {title: column(name, scale, digits) for name, (title, scale, digits) in COSTS.items()}
    return {title: cells for title, cells in columns.items() if any(map(str.strip, cells))}


def _sign(name: str, row: ReportedRow) -> str:
    if name != "parameters" or row.parameters_equal is None:
        return "/"
    return "=" if row.parameters_equal else "≠"


def _range(bounds: tuple[float, float]) -> str:
    return f"{percent(bounds[0])} to {percent(bounds[1])}"


def _with_interval(figures: Figures) -> str:
    interval = "" if figures.low is None else f" [{percent(figures.low)}, {percent(figures.high)}]"
    return percent(figures.test_accuracy) + interval


def _difference_cell(row: ReportedRow) -> tuple[str, str, str]:
    if row.difference is None:
        return "", "", ""
    if row.difference == 0 and row.test_accuracy_range:
        return "within", "", ""
    low, high = percent(row.difference_low), percent(row.difference_high)
    return f"{100 * row.difference:+.2f}", f"[{low},", f"{high}]"


def provenance(source: Mapping[str, Any]) -> str:
    """Say who reported figures, where they can be read, and under which licence."""
    name, url, terms = (source.get(key) for key in ("name", "url", "license"))
    return f"{name}{f', {url}' if url else ''}{f' (licence: {terms})' if terms else ''}"


def notes(rows: Sequence[ReportedRow], source: Mapping[str, Any]) -> list[str]:
    """Say whose figures these are, and what a reader must know to compare them."""
    if not rows:
        return []
    lines = _how_to_read(rows, source)
    reasons = dict.fromkeys(reason for row in rows for reason in row.reasons)
    if reasons:
        lines.append(f"Ours: {'; '.join(reasons)}.")
    lines += mirrored.notes(rows)
    if any(row.parameters_equal is False for row in rows):
        lines.append("≠: not the network that the source describes, or another way of counting.")
    if source.get("url") or source.get("license"):
        lines.append(f"Source: {provenance(source)}.")
    lines += [f"{source.get('name')}: {remark}." for remark in _remarks(rows, source)]
    return list(map(printable, lines))


def _how_to_read(rows: Sequence[ReportedRow], source: Mapping[str, Any]) -> list[str]:
    runs, chosen = source.get("runs"), source.get("selected_on")
    return [
        f"Reported by {source.get('name')}, "
        + ("number of runs not given" if not runs else f"{runs} run{'s' * (runs != 1)} each")
        + (", chosen on test data: optimistic. " if chosen == "test" else f", chosen on {chosen}. ")
        + "Ours are chosen on validation data, taken from the training images. [ ] are 95 % "
        f"intervals: of theirs, for one test of {source.get('test_images'):,} images (Wilson); of "
        "ours, for the mean over n seeds (t).",
        "Ours minus reported: [ ] is where it lies if both are the same: it holds our spread over "
        "seeds, once for our mean and once for the source's runs (of which one is assumed where "
        "their number is not given), and the binomial errors of both tests. To a range: the "
        "distance to its nearer end.",
        *(
            f"{word.capitalize()}: {why}."
            for word, why in VERDICTS.items()
            if any(row.verdict == word for row in rows)
        ),
    ]


def _remarks(rows: Sequence[ReportedRow], source: Mapping[str, Any]) -> list[str]:
    """Return what the source says of itself, and of its rows, each remark once."""
    of: defaultdict[str, list[str]] = defaultdict(list)
    labels = _labels(rows)
    for row, factor, level in zip(rows, *labels.values(), strict=True):
        if row.note:
            of[row.note].append(level if row.cell else f"{factor} {level}".strip())
    remarks = [
        f"{names[0] if len(names) == 1 else f'{len(names)} rows'}: {remark}"
        for remark, names in of.items()
    ]
    return [text for text in (source.get("note"), "; ".join(remarks)) if text]


def csv_columns(row: ReportedRow) -> dict[str, Any]:
    """Return what a row adds to the line of its variant in CSV."""
    low, high = row.test_accuracy_range or (None, None)
    theirs = {f"reported_{name}": value for name, value in asdict(row.reported).items()}
    return theirs | {
        "reported_range_low": low,
        "reported_range_high": high,
        "reported_difference": row.difference,
        "reported_difference_low": row.difference_low,
        "reported_difference_high": row.difference_high,
        "reported_verdict": row.verdict,
    }
