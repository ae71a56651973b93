"""Sections of any study: learning curves, accuracy against cost, parallel coordinates."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from analysis import inference_cost
from analysis.figures import parallel as coordinates
from analysis.figures.base import Level, sample
from analysis.figures.costs import Point, against_cost
from analysis.figures.curves import all_courses, fit
from analysis.figures.parallel import Dimension
from analysis.page.parts import NOTHING, Part, Section, sheets
from analysis.progress import Best
from analysis.scales import FEW, is_logarithmic
from analysis.table_formats import Block
from analysis.trials import Study, Trial, finished, known
from analysis.wording import count
from fmnist_common.text import duration, level_text

MOST_LINES = 4000  # trials of the parallel coordinates
COSTS: list[tuple[str, str, Callable[[float], str]]] = [
    ("parameters", "parameters", lambda value: f"{value:,.0f} parameters"),
    ("multiply_adds", "multiply-adds of one image", lambda value: f"{value:,.0f} multiply-adds"),
    ("latency_ms", "latency of one image, ms", lambda value: f"{value:.3g} ms"),
    ("seconds", "training time, seconds", duration),
]


def courses(
    trials: Sequence[Trial],
    drawn: Sequence[Trial],
    best: Best | None,
    *,
    accuracies: bool = True,
) -> list[Section]:
    """Show how trials learned, the pruned ones too.

    Args:
        trials: of the study, among which are the replicates of the best variant.
        drawn: those whose curves are drawn.
        best: the best variant.
        accuracies: whether the values of epochs are accuracies.
    """
    label = None if best is None else best.variant
    if not accuracies:  # epochs hold another figure
        drawn = []
    both = [all_courses(drawn, metric, label) for metric in ("val_accuracy", "train_accuracy")]
    variants: dict[str, dict[Hashable, Trial]] = {
        name: {trial.seed: trial for trial in finished(trials) if trial.label == name}
        for name in dict.fromkeys(["baseline", *([label] if label else [])])
    }
    levels = [Level(name, rows, name == "baseline") for name, rows in variants.items() if rows]
    fits = [fit(levels, metric) for metric in ("accuracy", "loss")]
    parts = [
        Part("", figures=[figure for figure in both if figure is not None]),
        Part(
            "Baseline and best variant" if len(levels) > 1 else "Baseline",
            figures=[figure for figure in fits if figure is not None],
        ),
    ]
    parts = [part for part in parts if part.figures]
    return [Section("curves", "Learning curves", [], parts)] if parts else []


def costs(study: Study, trials: Sequence[Trial], inference: Sequence[Block] = ()) -> list[Section]:
    """Show what accuracy costs: parameters, multiply-adds, latency, training time.

    Args:
        inference: how fast each level's network answers.
    """
    by_variant: dict[str, list[Trial]] = defaultdict(list)
    for trial in finished(trials):
        by_variant[trial.label].append(trial)
    drawn = [
        against_cost(
            _points(by_variant, name),
            f"cost-{name.partition('_')[0]}",
            title,
            words,
            study.quantity,
        )
        for name, title, words in COSTS
    ]
    shown = [figure for figure in drawn if figure is not None]
    part = Part(figures=shown, sheets=sheets(inference))
    if not part.figures and not part.sheets:
        return []
    up = "Down" if study.quantity.lower_is_better else "Up"
    intro = [f"{up} and to the left is better."] if shown else []
    title = f"{study.quantity.heading} against cost"
    return [Section("costs", title, intro, [part])]


def _points(by_variant: Mapping[str, Sequence[Trial]], name: str) -> list[Point]:
    points = []
    for label, replicates in by_variant.items():
        cost = inference_cost.typical(replicates, name)
        if cost is not None:
            points.append(Point(label, known(replicates, "value"), cost, label == "baseline"))
    return points


def parallel(study: Study, trials: Sequence[Trial], hiplot: str | None) -> list[Section]:
    """Show every trial that has an accuracy as a line."""
    reached = [
        (trial, value)
        for trial in trials
        if (value := _last_value(trial)) is not None and math.isfinite(value)
    ]
    if len(reached) < 2:
        return []
    shown = sample(reached, MOST_LINES)
    # What another tool maximises may be anything.
    quantity = study.quantity
    title = f"{quantity.noun}, {quantity.unit}" if quantity.unit else quantity.noun
    title, scale = (title, quantity.scale) if study.plan else ("objective", 1)
    values = [scale * value for _, value in shown]
    dimensions = _dimensions(study, [trial for trial, _ in shown])
    dimensions.append(Dimension(title, values, "numbers"))
    figure = coordinates.parallel(dimensions, values, len(shown))
    intro = []
    if len(shown) < len(reached):
        intro.append(f"{len(shown):,} of {len(reached):,} trials are drawn.")
    if len(reached) < len(trials):
        intro.append(f"{count(len(trials) - len(reached), 'trial')} without a result: not drawn.")
    links = [("Every trial in HiPlot, with its table", hiplot)] if hiplot else []
    return [Section("parallel", "All trials", intro, [Part(figures=[figure], links=links)])]


def _last_value(trial: Trial) -> float | None:
    if trial.state == "PRUNED" and trial.value is None:
        return trial.intermediate.get(trial.epochs)
    return trial.value if trial.state in ("COMPLETE", "PRUNED") else None


def _dimensions(study: Study, trials: Sequence[Trial]) -> list[Dimension]:
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    levels = {**study.plan.get("factors", {}), **study.plan.get("search", {}).get("space", {})}
    planned = list(levels)
    names.sort(key=lambda name: planned.index(name) if name in planned else len(planned))
    dimensions = []
    for name in names:
        values = [trial.params.get(name) for trial in trials]
        if len({repr(value) for value in values}) > 1:
            listed_levels = levels.get(name)
            dimensions.append(
                _dimension(name, values, listed_levels if isinstance(listed_levels, list) else [])
            )
    for name in ("seed", "epochs", "seconds", "parameters"):
        values = [getattr(trial, name) for trial in trials]
        if None not in values and len(set(values)) > 1:
            dimensions.append(
                Dimension(name, values, "categories" if name == "seed" else "numbers")
            )
    if len({trial.state for trial in trials}) > 1:
        dimensions.append(
            Dimension("state", [trial.state.lower() for trial in trials], "categories")
        )
    return dimensions


def _dimension(name: str, values: Sequence[Any], planned: Sequence[Any]) -> Dimension:
    present = [value for value in values if value is not None]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)
    levels = sorted(set(present)) if numbers else []
    if numbers and is_logarithmic(name, levels):
        return Dimension(name, values, "logarithmic")
    if numbers and (len(levels) > FEW or len(present) < len(values)):
        return Dimension(name, values, "numbers")
    if numbers:
        return Dimension(name, values, "categories", levels)
    labels = [NOTHING if value is None else level_text(value) for value in values]
    order = [label for label in map(level_text, planned) if label in labels]
    order += [label for label in dict.fromkeys(labels) if label not in order]
    return Dimension(name, labels, "categories", order[::-1])  # the first one on top
