"""Parallel coordinates: every trial a line through its factors and results."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.figures.base import (
    BLUE,
    GREY,
    VERMILION,
    Figure,
    layout,
    plain,
    rounded,
    sample,
)
from analysis.scales import FEW
from fmnist_common.text import level_text

CLOSEST = 0.05  # two ticks of an axis, as a share of it
MOST_TICKS = 24  # labels of an axis of categories


@dataclass(frozen=True)
class Dimension:
    """An axis of the parallel coordinates: a value for each line."""

    label: str
    values: Sequence[Any]  # numbers, or anything else with `kind` "categories"
    kind: str  # "numbers", "logarithmic" or "categories"
    order: Sequence[Any] = ()  # of the categories; else that of their first appearance


def parallel(dimensions: Sequence[Dimension], colours: Sequence[float], lines: int) -> Figure:
    """Draw a line per trial through its factors and results; drag along an axis to select.

    Args:
        dimensions: axes from left to right.
        colours: (lines,) what the last axis shows.
        lines: how many trials there are.
    """
    return Figure(
        "parallel",
        "Parallel coordinates",
        f"Parallel coordinates of {lines:,} trials over {len(dimensions)} axes.",
        [_trace(dimensions, colours)],
        layout(margin={"l": 70, "r": 40, "t": 100, "b": 24}),
        height=480,
        note="A line is a trial. Drag along an axis to select, click on it to undo; drag an axis "
        "by its name to move it. The lowest place of an axis, –, is for trials without a value.",
        least=64 * len(dimensions) + 110,
    )


def _trace(dimensions: Sequence[Dimension], colours: Sequence[float]) -> dict[str, Any]:
    return {
        "type": "parcoords",
        "dimensions": [_dimension(dimension) for dimension in dimensions],
        # The last axis is the scale of these colours, all seen on light and dark ground.
        "line": {
            "color": rounded(colours),
            "colorscale": [[0, VERMILION], [0.5, GREY], [1, BLUE]],
            "showscale": False,
        },
        "labelangle": -20,
        "unselected": {"line": {"opacity": 0.04}},
    }


def _dimension(dimension: Dimension) -> dict[str, Any]:
    label = plain(dimension.label, 18)
    if dimension.kind == "categories":
        names = list(dimension.order or dict.fromkeys(dimension.values))
        places = {name: index for index, name in enumerate(names)}
        return {
            "label": label,
            "values": [places[value] for value in dimension.values],
            "range": [-0.3, max(0.3, len(names) - 0.7)],
            "tickvals": sample(range(len(names)), MOST_TICKS),
            "ticktext": [plain(level_text(name), 14) for name in sample(names, MOST_TICKS)],
        }
    # These axes know neither logarithms nor gaps: both are written by hand, as are the ticks.
    scale = math.log10 if dimension.kind == "logarithmic" else float
    levels = sorted({value for value in dimension.values if value is not None})
    ticks = levels if len(levels) <= FEW else _ticks_between(levels[0], levels[-1], dimension.kind)
    low, high = scale(levels[0]), scale(levels[-1])
    ticks = _apart(ticks, scale, (high - low) * CLOSEST)
    gap = low - 0.1 * ((high - low) or 1.0)
    complete = None not in dimension.values
    return {
        "label": label,
        "values": rounded(gap if value is None else scale(value) for value in dimension.values),
        "range": rounded([low if complete else gap, high if high > low else low + 1]),
        "tickvals": rounded([*([] if complete else [gap]), *map(scale, ticks)]),
        "ticktext": [*([] if complete else ["–"]), *map(_short, ticks)],
    }


def _apart(ticks: Sequence[float], scale: Callable[[float], float], least: float) -> list[float]:
    """Leave out ticks that would stand on top of the one below."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or scale(tick) - scale(kept[-1]) >= least:
            kept.append(tick)
    return kept


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _ticks_between(low: float, high: float, kind: str) -> list[float]:
    """Return numbers to stand at an axis: 1, 2 and 5 times powers of ten, or even steps."""
    if kind == "logarithmic":
        return _magnitudes(low, high)
    step = (high - low) / 5
    size = 10 ** math.floor(math.log10(step))
    step = next(size * digit for digit in (1, 2, 5, 10) if size * digit >= step)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step) + 1)]


def _magnitudes(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two positive numbers, or these two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    inside = [tick for tick in every if low <= tick <= high]
    if len(inside) > 8:
        inside = [tick for tick in inside if f"{tick:e}".startswith("1.0")]
    return inside if len(inside) > 1 else sorted({low, high})
