"""How the effect of a factor depends on another."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.figures.base import (
    DASHES,
    LABEL,
    LEVELS,
    SYMBOLS,
    Figure,
    axis,
    bars,
    layout,
    plain,
    scaled,
    scatter,
    ticks,
)
from analysis.quantity import Quantity
from analysis.statistics.candidates import mean_interval
from analysis.statistics.effects import summarize
from fmnist_common.text import level_text

Accuracies = Sequence[float]
APART = 0.06  # of the room between levels: how far lines stand apart, so that bars do not cover


def interaction(
    factor: str,
    other: str,
    cells: Mapping[tuple[Any, Any], Accuracies],
    quantity: Quantity,
    name: str,
) -> Figure:
    """Draw how a factor's effect depends on another: parallel lines would mean not at all.

    Args:
        factor: along the axis.
        other: a line for each of its levels.
        cells: accuracies of the trials with both levels, keyed (level of factor, of other).
        quantity: what the values are.
        name: of the figure.
    """
    along = list(dict.fromkeys(level for level, _ in cells))
    lines = list(dict.fromkeys(level for _, level in cells))
    traces = [
        _line(
            quantity,
            [cells.get((first, level), ()) for first in along],
            plain(f"{other} = {level_text(level)}", LABEL),
            index,
            APART * (index - (len(lines) - 1) / 2),
        )
        for index, level in enumerate(lines)
    ]
    return Figure(
        name,
        f"{factor} × {other}",
        f"Mean {quantity.name} by {factor}, a line for each level of {other}.",
        traces,
        layout(
            xaxis=axis(
                plain(factor, LABEL),
                **ticks([plain(level_text(level), 60 // len(along)) for level in along]),
                range=[-0.4, len(along) - 0.6],
                showgrid=False,
            ),
            yaxis=axis(plain(quantity.axis)),
            showlegend=True,
        ),
        note="Means over the other factors and seeds with 95 % intervals. Parallel lines: no "
        "interaction.",
    )


def _line(
    quantity: Quantity, points: Sequence[Accuracies], label: str, index: int, shift: float
) -> dict[str, Any]:
    """Draw the means of one level of the other factor, with their intervals."""
    means = [summarize(values).mean for values in points]
    below, above = zip(*(_reach(quantity, values) for values in points), strict=True)
    return scatter(
        [place + shift for place in range(len(points))],
        scaled(quantity, means),
        [
            f"{label}<br>n = {len(values)}"
            + ("" if mean is None else f", mean {quantity.amount(mean)}")
            for values, mean in zip(points, means, strict=True)
        ],
        mode="lines+markers",
        name=label,
        line={"color": LEVELS[index % len(LEVELS)], "width": 2,
              "dash": DASHES[index % len(DASHES)]},
        marker={"size": 8, "symbol": SYMBOLS[index % len(SYMBOLS)]},
        error_y=bars(above, below, quantity, thickness=1.5, width=4),
    )  # fmt: skip


def _reach(quantity: Quantity, values: Accuracies) -> tuple[float, float]:
    """Return how far the interval of a mean reaches below and above it."""
    mean, (low, high) = (
        summarize(values).mean,
        mean_interval(values, fractions=quantity.is_accuracy),
    )
    if mean is None or low is None or high is None:
        return 0.0, 0.0
    return mean - low, high - mean
