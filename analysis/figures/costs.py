"""Accuracy against what it costs, with the Pareto front."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.figures.base import (
    BLUE,
    FAINT,
    GREY,
    LABEL,
    MOST_POINTS,
    VERMILION,
    Figure,
    axis,
    clipped,
    layout,
    plain,
    rounded,
    sample,
    scaled,
    scatter,
    within,
)
from analysis.quantity import Quantity
from analysis.statistics.effects import summarize
from analysis.statistics.pareto import front


@dataclass(frozen=True)
class Point:
    """A variant in a plot of accuracy against cost."""

    label: str
    accuracies: Sequence[float]  # (n,) by seed
    cost: float
    baseline: bool = False


def against_cost(
    found: Sequence[Point],
    name: str,
    title: str,
    number: Callable[[float], str],
    quantity: Quantity,
) -> Figure | None:
    """Draw accuracy against a cost, with the variants that no other beats in both.

    Args:
        found: at least two variants with different costs; else there is no figure.
        name: of the figure.
        title: of the cost, with its unit.
        number: writes a cost.
        quantity: what the values are.
    """
    if len({point.cost for point in found}) < 2:
        return None
    summaries = [summarize(point.accuracies) for point in found]
    means = [summary.mean or 0.0 for summary in summaries]
    marked = front(
        [(mean, point.cost) for mean, point in zip(means, found, strict=True)],
        ["MINIMIZE" if quantity.lower_is_better else "MAXIMIZE", "MINIMIZE"],
    )
    best = sorted(np.flatnonzero(marked).tolist(), key=lambda index: found[index].cost)
    rest = sample([index for index in range(len(found)) if not marked[index]], MOST_POINTS)
    bars = len(best) + len(rest) <= 200

    def trace(chosen: Sequence[int], **more: Any) -> dict[str, Any]:
        spread = {
            "type": "data",
            "array": scaled(quantity, (summaries[index].std for index in chosen)),
            "thickness": 1,
            "width": 0,
            "color": FAINT,
        }
        return scatter(
            rounded(found[index].cost for index in chosen),
            scaled(quantity, (means[index] for index in chosen)),
            [
                f"<b>{plain(found[index].label, 2 * LABEL)}</b><br>{quantity.amount(means[index])} "
                f"(n = {summaries[index].n})<br>{plain(number(found[index].cost))}"
                for index in chosen
            ],
            **({"error_y": spread} if bars else {}),
            **more,
        )

    data = [
        trace(
            rest,
            mode="markers",
            name="other variants",
            marker={"color": GREY, "size": 7, "symbol": "circle-open", "opacity": 0.8},
        ),
        trace(
            best,
            mode="lines+markers",
            name="Pareto front",
            line={"color": BLUE, "width": 1.5, "shape": "hv"},
            marker={"color": BLUE, "size": 9},
        ),
    ]
    baseline = [index for index, point in enumerate(found) if point.baseline]
    if baseline:
        data.append(
            trace(
                baseline,
                mode="markers",
                name="baseline",
                marker={"color": VERMILION, "size": 14, "symbol": "circle-open",
                        "line": {"width": 2}},
            )
        )  # fmt: skip
    costs = [point.cost for point in found]
    logarithmic = min(costs) > 0 and max(costs) / min(costs) > 8
    cut = len(found) - len(best) - len(rest)
    inside = [means[index] for index in [*best, *baseline]]
    shown = clipped(quantity, means, inside)
    below = 0 if shown is None else sum(mean < shown[0] for mean in means)
    return Figure(
        name,
        f"{quantity.heading} against {title}",
        f"Mean {quantity.name} against {title} for {len(found)} variants; {len(best)} on the "
        "front.",
        data,
        layout(
            xaxis=axis(title, **({"type": "log", "dtick": "D2"} if logarithmic else {})),
            yaxis=axis(plain(quantity.axis), **within(shown)),
            showlegend=True,
        ),
        note=f"Mean {quantity.name}"
        + (", bars: ± one standard deviation" if bars else "")
        + ". The front is that of the means: a variant may be on it by luck."
        + (f" {below:,} lower than this figure reaches: double-click shows all." if below else "")
        + (f" {cut:,} variants behind the front are not drawn." if cut else ""),
    )
